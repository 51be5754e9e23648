//! Receipts: whether every channel has settled an entity up to a sequence, and if not, who has not and
//! why.
//!
//! A request waits for the channels that have not: it is woken when a flight of the entity ends there,
//! and looks again. Nothing is looked at in between.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use super::apply::Live;
use super::backend::{failed, no_entity};
use super::{standing, views};
use crate::dispatch::{Channel, Waiter, status};
use crate::model::{Entity, EntityId, Ordinal, Sequence};
use crate::server::views::{ReceiptView, SettledView, StandingView};
use crate::server::{Problem, ReceiptQuery};

impl Inner {
    /// The receipt of an entity. It waits as long as `query` says, until every channel has settled the
    /// entity, or until Weir stops.
    pub(super) async fn receipt_of(
        &self,
        id: &EntityId,
        query: ReceiptQuery,
    ) -> Result<ReceiptView, Problem> {
        self.known_type(&id.entity_type)?;
        let head = *self.store.watermark().borrow();
        if query.sequence > head {
            let detail = format!(
                "no change has this sequence yet; the newest one has {}",
                head.0
            );
            return Err(Problem::bad_parameter("sequence", detail));
        }
        let ordinal = self.known_entity(id)?;
        let (deadline, wake) = (Instant::now() + query.wait, Arc::new(Notify::new()));
        loop {
            let (receipt, _waiters) = self.look(id, ordinal, query, &wake)?;
            let over = receipt.settled || Instant::now() >= deadline || self.leaving.is_cancelled();
            if over {
                return Ok(receipt);
            }
            tokio::select! {
                // At the end of the wait it looks once more.
                _ = timeout_at(deadline, wake.notified()) => {}
                () = self.leaving.cancelled() => {}
            }
        }
    }

    /// Looks at each channel. What happens to the entity afterwards, on channels that have not settled it,
    /// wakes `wake` as long as the waiters live.
    fn look(
        &self,
        id: &EntityId,
        ordinal: Ordinal,
        query: ReceiptQuery,
        wake: &Arc<Notify>,
    ) -> Result<(ReceiptView, Vec<Waiter>), Problem> {
        let live = self.live.load();
        let takes = |channel: &&Arc<Channel>| channel.setup().options.entity_type == id.entity_type;
        let (mut waiters, mut channels) = (Vec::new(), Vec::new());
        let channels_of_type: Vec<_> = live.channels.values().filter(takes).collect();
        // First the waiters: what happens while the entity is read must not be missed.
        if !query.wait.is_zero() {
            for channel in &channels_of_type {
                waiters.push(channel.wait_for(ordinal, wake));
                if let Some(feed) = channel.setup().target.feed() {
                    feed.wake_at_next(wake);
                }
            }
        }
        let entity = self.store.read(&[ordinal]).map_err(failed)?.pop().flatten();
        let entity = entity.filter(|entity| entity.id == *id);
        let entity = entity.ok_or_else(|| no_entity(id))?;
        for channel in channels_of_type {
            channels.push(settled(&live, channel, ordinal, &entity, query.sequence));
        }
        let receipt = ReceiptView {
            entity_type: id.entity_type.to_string(),
            key: id.key.to_string(),
            sequence: query.sequence.0,
            settled: channels.iter().all(|channel| channel.settled),
            channels,
        };
        Ok((receipt, waiters))
    }
}

/// Whether a channel has settled an entity up to a sequence.
fn settled(
    live: &Live,
    channel: &Channel,
    ordinal: Ordinal,
    entity: &Entity,
    sequence: Sequence,
) -> SettledView {
    let standing = channel.queue().standing(ordinal);
    let settled = (standing.as_ref()).is_none_or(|standing| standing.has_settled(sequence));
    let shown = standing::of(live, channel, ordinal, entity, standing);
    let in_feed = views::waits_in_feed(channel, entity).filter(|_| settled);
    let reason = match &in_feed {
        Some(waits) => Some(format!("delivered, and {waits}")),
        None if settled => shown.detail.clone(),
        None => Some(reason(channel, &shown)),
    };
    SettledView {
        channel: shown.channel,
        settled: settled && in_feed.is_none(),
        state: shown.state,
        reason,
    }
}

/// What an entity waits for that a channel has not settled, in words.
fn reason(channel: &Channel, shown: &StandingView) -> String {
    let since = shown
        .since
        .map_or(String::new(), |since| format!(" since {since}"));
    let entity = match (shown.state.as_str(), &shown.by) {
        _ if shown.in_flight => format!("owed{since}; a delivery is under way"),
        ("parked", _) => {
            let attempts = shown.attempts.unwrap_or_default();
            let next = shown
                .next_attempt
                .map_or(String::new(), |next| format!(", the next one at {next}"));
            format!("parked after {attempts} attempts{next}")
        }
        ("held", _) => format!(
            "held by the guard against mass withdrawal; if it is right, `weir channel confirm {}` releases it",
            shown.channel
        ),
        ("waiting", Some(by)) => format!("waiting for {by}{since}"),
        _ if since.is_empty() => {
            "its rendering or its target has changed, and the sweep has not come to it yet"
                .to_owned()
        }
        _ => format!("owed{since}"),
    };
    let error = shown.last_error.clone();
    let status = channel.status();
    let channel = match status.state {
        status::State::Flowing => None,
        state if status.reason.is_empty() => Some(format!("the channel is {}", state.name())),
        state => Some(format!(
            "the channel is {}: {}",
            state.name(),
            status.reason
        )),
    };
    let parts = [Some(entity), error, channel];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
