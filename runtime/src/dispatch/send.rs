//! Sends what is ready: one request, or, if a batch is refused as a whole, halves of it until the
//! culprit is alone.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use super::flight::{Ready, Sent};
use super::handle::{Permit, TargetHandle};
use super::status::Counters;
use crate::failpoint;
use crate::store::Queue;
use crate::target::{DeliveryId, Item, Outcome};

/// What a send needs to know.
pub(crate) struct Way {
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) target: Arc<TargetHandle>,
    pub(crate) counters: Arc<Counters>,
    /// In the form for several.
    pub(crate) batched: bool,
    /// May take the slot that is kept for urgent work.
    pub(crate) urgent: bool,
}

/// Sends all and says what came of each. Before the first attempt the store learns that what the
/// target holds of them is unknown from now on.
pub(crate) async fn send(way: Way, batch: Vec<Ready>) -> Vec<(Ready, Sent)> {
    let Some(mut permit) = way.target.permit(way.urgent).await else {
        return batch
            .into_iter()
            .map(|ready| {
                (
                    ready,
                    Sent {
                        outcome: None,
                        probe: false,
                    },
                )
            })
            .collect();
    };
    let probe = permit.probe;
    let ordinals: Vec<_> = batch
        .iter()
        .map(|ready| ready.prepared.taken.ordinal)
        .collect();
    way.queue.attempt(&ordinals);
    failpoint::pass("dispatch.attempting");
    let (mut parts, mut sent) = (vec![batch], Vec::new());
    while let Some(mut part) = parts.pop() {
        let outcomes = one_request(&way, &mut permit, &part).await;
        if part.len() > 1 && matches!(outcomes.first(), Some(Some(Outcome::Split { .. }))) {
            let second = part.split_off(part.len() / 2);
            parts.push(second);
            parts.push(part);
            continue;
        }
        sent.extend(
            part.into_iter()
                .zip(outcomes)
                .map(|(ready, outcome)| (ready, Sent { outcome, probe })),
        );
    }
    sent
}

async fn one_request(way: &Way, permit: &mut Permit, part: &[Ready]) -> Vec<Option<Outcome>> {
    // What has another key now is deleted under the old one first: a target without it is better
    // than one with both.
    if let [ready] = part {
        for key in &ready.stale_keys {
            match request(way, permit, &[deletion(ready, key)])
                .await
                .pop()
                .flatten()
            {
                Some(Outcome::Delivered) => {}
                other => return vec![other],
            }
        }
    }
    let items: Vec<Item> = part.iter().map(item).collect();
    request(way, permit, &items).await
}

async fn request(way: &Way, permit: &mut Permit, items: &[Item]) -> Vec<Option<Outcome>> {
    match permit.attempt(items, way.batched).await {
        Some((outcomes, took)) => {
            way.counters.attempt(took);
            failpoint::pass(if items.iter().any(|item| item.rendering.is_none()) {
                "dispatch.withdrawn"
            } else {
                "dispatch.sent"
            });
            outcomes.into_iter().map(Some).collect()
        }
        None => vec![None; items.len()],
    }
}

fn item(ready: &Ready) -> Item {
    Item {
        id: ready.tried.id,
        entity: ready.id.clone(),
        sequence: ready.prepared.revision,
        key: ready.tried.key.clone(),
        rendering: ready.rendering.clone(),
        plugin: ready.plugin.clone(),
    }
}

fn deletion(ready: &Ready, key: &Arc<str>) -> Item {
    let id = DeliveryId(xxh3_128(
        &[&ready.tried.id.0.to_le_bytes(), key.as_bytes()].concat(),
    ));
    Item {
        id,
        key: key.clone(),
        rendering: None,
        ..item(ready)
    }
}
