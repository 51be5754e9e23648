//! Items and attempts for tests of targets.

use std::sync::Arc;
use std::time::SystemTime;

use xxhash_rust::xxh3::xxh3_64;

use super::{Attempt, DeliveryId, Form, Item};
use crate::model::Trace;
use crate::model::{EntityId, Payload, Rendering, Sequence};

/// The newest sequence that the Weir of these attempts has given out.
pub(crate) const HEAD: u64 = 1_000_000;

/// A product under its own key; without a body it is to be deleted. Each state has an id of its own.
pub(crate) fn item(key: &str, sequence: u64, body: Option<&str>) -> Item {
    let rendering = body.map(|body| {
        Arc::new(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text(body.to_owned()),
        })
    });
    Item {
        id: DeliveryId(u128::from(sequence) << 64 | u128::from(xxh3_64(key.as_bytes()))),
        entity: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        state: sequence,
        sequence: Sequence(sequence),
        key: key.into(),
        rendering,
        plugin: None,
    }
}

/// An attempt at these items, in the batch form.
pub(crate) fn attempt(items: &[Item]) -> Attempt<'_> {
    Attempt {
        items,
        form: Form::Batch,
        trace: Trace {
            trace: 3,
            span: 4,
            sampled: true,
        },
        now: SystemTime::now(),
        head: Sequence(HEAD),
        foreign: None,
    }
}
