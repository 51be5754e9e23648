//! The way of an entity in time: what has happened to it, as far as the ring of happenings reaches.

use std::sync::Arc;

use crate::happenings::{Happening, Happenings, Hash, What};
use crate::model::{EntityId, Timestamp};
use crate::server::views::{StepKind, StepView};

/// The most steps that are shown, the newest.
const STEPS_MAX: usize = 200;

pub(super) fn of(happenings: &Happenings, id: &EntityId) -> Vec<StepView> {
    let mut found = happenings.of(Hash::of(id));
    found.drain(..found.len().saturating_sub(STEPS_MAX));
    found.iter().map(step).collect()
}

fn step((who, happening): &(Arc<str>, Happening)) -> StepView {
    let (name, time) = (Some(who.to_string()), happening.time);
    let step = StepView {
        time: time.into(),
        sequence: happening.sequence.0,
        trace: (happening.trace != 0).then(|| format!("{:032x}", happening.trace)),
        ..StepView::default()
    };
    let ago = |millis: u32| Timestamp(time.0.saturating_sub(millis.into())).into();
    match happening.what {
        What::Accepted => StepView {
            step: StepKind::Accepted,
            source: name,
            ..step
        },
        What::Sent => StepView {
            step: StepKind::Sent,
            channel: name,
            ..step
        },
        What::Ended {
            result,
            met_ms,
            rendered_ms,
        } => StepView {
            step: StepKind::Ended,
            channel: name,
            result: Some(result.to_owned()),
            met: Some(ago(met_ms)),
            rendered: rendered_ms.map(ago),
            ..step
        },
    }
}
