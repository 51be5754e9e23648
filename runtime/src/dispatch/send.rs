//! Sends a batch: first deletes its entities under the keys that they had before, then delivers
//! them. A request that is refused as a whole is halved until the culprit is alone; if the target
//! names the culprit, the others are sent again without it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_128;

use super::flight::{MadeRequest, Ready, Sent};
use super::handle::Permit;
use super::status::Counters;
use super::traced::Sending;
use crate::failpoint;
use crate::model::{EntityId, Sequence, Trace};
use crate::store::Holds;
use crate::targets::http::{Exchange, witness};
use crate::targets::{DeliveryId, Form, Item, Outcome};

/// Everything that a send needs from its channel.
pub(crate) struct SendContext {
    pub(crate) counters: Arc<Counters>,
    /// The maximum number of items in a request; above 1, requests have the batch form.
    pub(crate) batch: usize,
    /// The newest sequence that is durable.
    pub(crate) watermark: watch::Receiver<Sequence>,
    /// Whether somebody looks at an entity of the batch.
    pub(crate) watched: bool,
    /// Where the spans of its requests are made, if they are recorded.
    pub(crate) sending: Option<Sending>,
}

/// The outcome of an item; `None` if no attempt was made, because the breaker did not admit one.
type Attempted = Option<Outcome>;

/// Sends all entities under a permit and returns the outcome of each, and the number of requests. The store must have recorded
/// that it is now unknown what the target holds of them.
pub(crate) async fn send(
    context: SendContext,
    mut permit: Permit,
    batch: Vec<Ready>,
) -> (Vec<(Ready, Sent)>, usize) {
    let probe = permit.probe;
    failpoint::pass("dispatch.attempting");
    let mut request = Requests {
        context: &context,
        permit: &mut permit,
        made: 0,
        seen: HashMap::new(),
        failed: HashMap::new(),
    };
    let outcomes = if batch.iter().all(|ready| ready.stale_keys.is_empty()) {
        let compares = request.permit.nature().compares;
        let items: Vec<Item> = batch.iter().map(|ready| item(ready, compares)).collect();
        request.deliver(&items).await
    } else {
        request.deliver_moved(&batch).await
    };
    debug_assert_eq!(outcomes.len(), batch.len(), "one outcome an entity");
    let Requests {
        made,
        mut seen,
        mut failed,
        ..
    } = request;
    let sent = batch
        .into_iter()
        .zip(outcomes)
        .map(|(ready, outcome)| {
            let requests = seen.remove(&ready.id).unwrap_or_default();
            let attempt = failed.remove(&ready.tried.id);
            let sent = Sent {
                outcome,
                probe,
                requests,
                attempt,
            };
            (ready, sent)
        })
        .collect();
    (sent, made)
}

/// The requests of one send, made one after another under one permit.
struct Requests<'a> {
    context: &'a SendContext,
    permit: &'a mut Permit,
    made: usize,
    /// The requests for each entity, if somebody looks.
    seen: HashMap<EntityId, Vec<MadeRequest>>,
    /// The last attempts at the items that were not delivered.
    failed: HashMap<DeliveryId, Trace>,
}

impl Requests<'_> {
    /// Delivers a batch in which some entities have a new key. All old keys of the batch are
    /// deleted before anything is put: a target without an entity is better than one that has it
    /// twice, and the old key of one entity may be the new key of another. An entity whose deletion
    /// fails is not delivered; its outcome is that of the deletion.
    async fn deliver_moved(&mut self, batch: &[Ready]) -> Vec<Attempted> {
        let mut failed: Vec<Option<Attempted>> = vec![None; batch.len()];
        let compares = self.permit.nature().compares;
        let stale: Vec<(usize, Item)> = batch
            .iter()
            .enumerate()
            .flat_map(|(index, ready)| {
                let deletions = ready.stale_keys.iter();
                deletions.map(move |key| (index, deletion(ready, key, compares)))
            })
            .collect();
        for part in stale.chunks(self.context.batch) {
            let (indexes, items): (Vec<usize>, Vec<Item>) = part
                .iter()
                .filter(|(index, _)| failed[*index].is_none())
                .cloned()
                .unzip();
            if items.is_empty() {
                continue;
            }
            for (index, outcome) in indexes.into_iter().zip(self.deliver(&items).await) {
                if outcome != Some(Outcome::Delivered) {
                    failed[index].get_or_insert(outcome);
                }
            }
        }
        let items: Vec<Item> = batch
            .iter()
            .zip(&failed)
            .filter(|(_, failed)| failed.is_none())
            .map(|(ready, _)| item(ready, compares))
            .collect();
        let mut delivered = match items.is_empty() {
            true => Vec::new(),
            false => self.deliver(&items).await,
        }
        .into_iter();
        failed
            .into_iter()
            .map(|failed| failed.unwrap_or_else(|| delivered.next().flatten()))
            .collect()
    }

    /// Delivers items in one request, each deletion in its own if the target needs that. Items that
    /// were not applied because of others are sent again without those. Returns one outcome for each
    /// item, in order.
    async fn deliver(&mut self, items: &[Item]) -> Vec<Attempted> {
        if items.len() == 1 {
            return self.request(items).await;
        }
        let alone = self.permit.nature().deletes_alone;
        let (deletions, puts): (Vec<usize>, Vec<usize>) =
            (0..items.len()).partition(|at| alone && items[*at].rendering.is_none());
        let mut outcomes: Vec<Attempted> = vec![None; items.len()];
        for at in deletions {
            outcomes[at] = self.request(&items[at..=at]).await.pop().flatten();
        }
        let mut parts = vec![puts];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let sent = match part.len() == items.len() {
                true => Cow::Borrowed(items),
                false => part.iter().map(|at| items[*at].clone()).collect(),
            };
            let mut again = Vec::new();
            for (at, outcome) in part.iter().zip(self.request(&sent).await) {
                if matches!(outcome, Some(Outcome::Split { .. })) {
                    again.push(*at);
                }
                outcomes[*at] = outcome;
            }
            if again.len() < part.len() {
                parts.push(again);
            } else if part.len() > 1 {
                let second = again.split_off(again.len() / 2);
                parts.extend([second, again]);
            }
        }
        outcomes
    }

    async fn request(&mut self, items: &[Item]) -> Vec<Attempted> {
        let form = match self.context.batch {
            1 => Form::Single,
            _ => Form::Batch,
        };
        let durable = *self.context.watermark.borrow();
        let newest = items.iter().map(|item| item.sequence).max();
        let head = newest.unwrap_or_default().max(durable);
        let attempt = self.permit.attempt(items, form, head);
        let (attempted, exchanges) = match self.context.watched {
            true => witness(attempt).await,
            false => (attempt.await, Vec::new()),
        };
        match attempted {
            Some((outcomes, attempted)) => {
                if self.context.watched {
                    self.note(items, attempted.took, exchanges);
                }
                self.context.counters.attempt(attempted.took);
                if let Some(sending) = &self.context.sending {
                    sending.sent(&attempted, items, &outcomes);
                }
                let failed = items.iter().zip(&outcomes);
                let failed = failed.filter(|(_, outcome)| **outcome != Outcome::Delivered);
                self.failed
                    .extend(failed.map(|(item, _)| (item.id, attempted.trace)));
                self.made += 1;
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

    fn note(&mut self, items: &[Item], took: Duration, exchanges: Vec<Exchange>) {
        let made = |exchange: Option<Exchange>| MadeRequest {
            items: items.len(),
            took: exchange.as_ref().map_or(took, Exchange::took),
            exchange: exchange.map(Arc::new),
        };
        let made: Vec<MadeRequest> = match exchanges.is_empty() {
            true => vec![made(None)],
            false => exchanges.into_iter().map(Some).map(made).collect(),
        };
        for item in items {
            let seen = self.seen.entry(item.entity.clone()).or_default();
            seen.extend(made.iter().cloned());
        }
    }
}

fn item(ready: &Ready, compares: bool) -> Item {
    let is_deletion_of_a_chosen_key =
        ready.rendering.is_none() && ready.prepared.taken.target_key.is_some();
    let sequence = match is_deletion_of_a_chosen_key && compares {
        true => held_up_to(ready),
        false => ready.prepared.revision,
    };
    Item {
        id: ready.tried.id,
        entity: ready.id.clone(),
        state: ready.tried.digest.unwrap_or_default() ^ ready.prepared.newest.0.rotate_left(32),
        sequence,
        key: ready.tried.key.clone(),
        rendering: ready.rendering.clone(),
        plugin: ready.plugin.clone(),
    }
}

/// The newest sequence that the target may hold of an entity. What is newer under a key that the renderer
/// chose is another entity's, which has got the key since.
fn held_up_to(ready: &Ready) -> Sequence {
    match ready.prepared.taken.holds {
        Holds::Rendering(_) => ready.prepared.taken.settled,
        Holds::Nothing | Holds::Unknown => ready.prepared.revision,
    }
}

fn deletion(ready: &Ready, key: &Arc<str>, compares: bool) -> Item {
    let id = DeliveryId(xxh3_128(
        &[&ready.tried.id.0.to_le_bytes(), key.as_bytes()].concat(),
    ));
    Item {
        id,
        key: key.clone(),
        rendering: None,
        sequence: match compares {
            true => held_up_to(ready),
            false => ready.prepared.revision,
        },
        ..item(ready, compares)
    }
}
