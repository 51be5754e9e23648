//! How an entity stands on a channel, in words: the one place that decides it. And all entities that stand so.

use std::collections::HashMap;

use super::apply::Live;
use super::views;
use crate::dispatch::Channel;
use crate::dispatch::hours::Hours;
use crate::dispatch::prepare::{DELETED, FILTERED, NEEDS, NOT_RENDERED};
use crate::model::{Entity, Ordinal, facet_matches};
use crate::server::views::{
    ChannelEntitiesView, ChannelEntityView, ReasonView, ReasonsView, StandingView,
};
use crate::server::{Page, StateQuery};
use crate::store::{ListQuery, Queue, Standing, State, Store};

/// Entities that are listed at once while a state is looked for.
const PIECE: usize = 1_000;
/// Different reasons that are counted, and those that are shown, each with its number.
const REASONS_MAX: usize = 1_000;
const REASONS_SHOWN: usize = 20;

/// What is not known of an entity on a target of which [`Kind::accepts_only`] holds.
///
/// [`Kind::accepts_only`]: crate::targets::Kind::accepts_only
const ACCEPTED_ONLY: &str = "accepted by the target; whether it was applied is not known";

/// The standing of an entity on a channel. The store knows the time of the last settling to about a
/// second; the stored times of the facets that it included make it exact where they are later.
pub(super) fn of(
    live: &Live,
    channel: &Channel,
    ordinal: Ordinal,
    entity: &Entity,
    standing: Option<Standing>,
) -> StandingView {
    let (name, queue) = (channel.setup().options.name.to_string(), channel.queue());
    let Some(standing) = standing else {
        return StandingView {
            channel: name,
            state: "not subscribed".to_owned(),
            ..StandingView::default()
        };
    };
    let patterns = &channel.setup().options.facets;
    let subscribed = |name: &str| patterns.iter().any(|pattern| facet_matches(pattern, name));
    let included = entity.facets.iter().filter(|facet| {
        !standing.owed && facet.sequence <= standing.revision && subscribed(&facet.name)
    });
    let settled = included.map(|facet| facet.time).max().unwrap_or_default();
    let (state, by, attempts) = state(live, channel, &standing);
    let last_error = (state == "refused")
        .then(|| refusal(&*queue, ordinal))
        .flatten();
    let rests_on_an_answer =
        matches!(state, "delivered" | "suppressed" | "withdrawn") && by.is_none();
    let accepts_only = channel.setup().target.options().kind.accepts_only();
    StandingView {
        channel: name,
        state: state.to_owned(),
        by,
        since: standing.since.map(|since| since.max(settled).into()),
        sequence: Some(standing.revision.0).filter(|revision| *revision > 0),
        owed: standing.owed,
        in_flight: standing.in_flight,
        attempts,
        next_attempt: attempts
            .and_then(|_| channel.next_attempt(ordinal))
            .or(standing.waits_until)
            .map(Into::into),
        plugin: Some(standing.shape_label).filter(|label| !label.is_empty()),
        detail: (rests_on_an_answer && accepts_only)
            .then(|| ACCEPTED_ONLY.to_owned())
            .or_else(|| views::waits_in_feed(channel, entity).filter(|_| rests_on_an_answer)),
        last_error: last_error
            .or_else(|| channel.last_error(ordinal).map(|error| error.to_string())),
    }
}

/// The state of an entity in a word, what it is due to, and the counted attempts.
fn state(
    live: &Live,
    channel: &Channel,
    standing: &Standing,
) -> (&'static str, Option<String>, Option<u32>) {
    let waits = waits_for(channel, standing);
    match standing.state {
        State::Parked(attempts) => ("parked", None, Some(u32::from(attempts))),
        State::Held => ("held", None, None),
        _ if waits.is_some() => ("waiting", waits, None),
        _ if standing.owed || standing.in_flight => ("owed", None, None),
        State::Refused => ("refused", None, None),
        // A channel joins at the head and sweeps, so what it never met and does not owe is not for
        // it.
        State::New => ("withheld", None, None),
        State::Delivered => ("delivered", None, None),
        State::Suppressed => ("suppressed", None, None),
        State::Counted => ("suppressed", Some("deliver = false".to_owned()), None),
        State::Withheld(by) => (
            "withheld",
            Some(reason(live, &channel.setup().options.name, by)),
            None,
        ),
        State::Withdrawn => ("withdrawn", None, None),
        // Such an entity owes a change.
        State::Waiting { .. } => ("owed", None, None),
    }
}

/// Why an entity is refused.
fn refusal(queue: &dyn Queue, ordinal: Ordinal) -> Option<String> {
    let before = Ordinal(ordinal.0.saturating_sub(1));
    let mut found = queue.refused(Some(before), 1).into_iter();
    let refused = found.find(|refused| refused.ordinal == ordinal)?;
    Some(refused.failure.to_string())
}

/// The entities of a channel that are in a state, in the order of their keys, and with `reasons` how many there
/// are by reason. Goes through the entities of the channel's type: those of a page up to its end, for reasons
/// all of them. Call it on a thread that may block.
pub(super) fn in_state(
    live: &Live,
    channel: &Channel,
    store: &dyn Store,
    query: &StateQuery,
    page: &Page,
) -> ChannelEntitiesView {
    let (queue, setup) = (channel.queue(), channel.setup());
    let mut found = ChannelEntitiesView::default();
    let mut counts = query.reasons.then(Reasons::default);
    // What is counted begins before the page.
    let mut after = page.after.clone().filter(|_| !query.reasons);
    loop {
        let piece = store.list(&ListQuery {
            entity_type: &setup.options.entity_type,
            prefix: &query.prefix,
            after: after.as_deref(),
            owed: None,
            limit: PIECE,
        });
        for (ordinal, id) in &piece {
            let Some(standing) = queue.standing(*ordinal) else {
                continue;
            };
            let (state, by, attempts) = state(live, channel, &standing);
            if state != query.state {
                continue;
            }
            let reason = match state {
                "refused" => refusal(&*queue, *ordinal),
                "parked" => channel.last_error(*ordinal).map(|error| error.to_string()),
                _ => by,
            };
            if let Some(counts) = &mut counts {
                counts.add(reason.as_deref());
            }
            if page.after.as_deref().is_some_and(|after| &*id.key <= after) {
                continue;
            }
            if found.items.len() == page.limit {
                found.next = found.items.last().map(|item| item.key.clone());
                if counts.is_none() {
                    return found;
                }
                continue;
            }
            found.items.push(ChannelEntityView {
                entity_type: id.entity_type.to_string(),
                key: id.key.to_string(),
                since: standing.since.map(Into::into),
                sequence: Some(standing.revision.0).filter(|revision| *revision > 0),
                reason,
                attempts,
                next_attempt: attempts
                    .and_then(|_| channel.next_attempt(*ordinal))
                    .or(standing.waits_until)
                    .map(Into::into),
            });
        }
        after = match piece.last() {
            Some((_, last)) if piece.len() == PIECE => Some(last.key.to_string()),
            _ => break,
        };
    }
    found.reasons = counts.map(Reasons::into_view);
    found
}

/// Entities by reason.
#[derive(Default)]
struct Reasons {
    counts: HashMap<String, u64>,
    /// Those whose reason is one too many.
    others: u64,
    total: u64,
}

impl Reasons {
    fn add(&mut self, reason: Option<&str>) {
        self.total += 1;
        let reason = reason.unwrap_or_default();
        if let Some(count) = self.counts.get_mut(reason) {
            *count += 1;
        } else if self.counts.len() < REASONS_MAX {
            self.counts.insert(reason.to_owned(), 1);
        } else {
            // Texts of targets may name the entity, so that no two are equal.
            self.others += 1;
        }
    }

    /// The most frequent ones; the others are one.
    fn into_view(self) -> ReasonsView {
        let mut counts: Vec<(String, u64)> = self.counts.into_iter().collect();
        counts.sort_by(|(a_text, a), (b_text, b)| b.cmp(a).then(a_text.cmp(b_text)));
        let beyond = counts.split_off(counts.len().min(REASONS_SHOWN));
        let others: u64 = beyond.iter().map(|(_, count)| count).sum();
        let shown = |(reason, count): (String, u64)| ReasonView {
            reason: Some(reason).filter(|reason| !reason.is_empty()),
            count,
        };
        ReasonsView {
            total: self.total,
            others: others + self.others,
            counts: counts.into_iter().map(shown).collect(),
        }
    }
}

/// What an entity waits for on purpose, in words; `None` if it does not wait.
fn waits_for(channel: &Channel, standing: &Standing) -> Option<String> {
    if !standing.owed || standing.in_flight {
        return None;
    }
    let (setup, lane) = (channel.setup(), standing.lane?);
    let now = setup.target.clock().stamp();
    let hours = setup.options.hours.as_ref();
    let mut closed = hours.into_iter().flat_map(|hours| hours.closed(now));
    if let Some((_, span)) = closed.find(|(closed, _)| *closed == lane) {
        let zone = hours.map(Hours::zone_name).unwrap_or_default();
        return Some(format!("hours of {}, {span} {zone}", lane.name()));
    }
    standing.waits_until.map(|_| "debounce".to_owned())
}

/// The reason why an entity is withheld, in a word or the name of the filter.
pub(super) fn reason(live: &Live, channel: &str, by: u8) -> String {
    match by {
        DELETED => "deleted".to_owned(),
        NEEDS => "needs".to_owned(),
        NOT_RENDERED => "renderer".to_owned(),
        filter => {
            let chain = live.loaded.channels.get(channel);
            let at = usize::from(filter - FILTERED);
            chain.and_then(|chain| chain.filters().nth(at)).map_or_else(
                || "a filter".to_owned(),
                |filter| filter.component().label().to_owned(),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reasons_are_named_and_no_entity_is_lost() {
        let mut reasons = Reasons::default();
        for number in 0..REASONS_MAX + 500 {
            reasons.add(Some(&format!("no such category: {number:04}")));
            reasons.add(Some("status 422"));
        }
        reasons.add(None);
        let view = reasons.into_view();
        assert_eq!(view.total, 3_001);
        assert_eq!(view.counts.len(), REASONS_SHOWN);
        let named: u64 = view.counts.iter().map(|it| it.count).sum();
        assert_eq!(named + view.others, view.total);
        let first = &view.counts[0];
        assert_eq!(
            (first.reason.as_deref(), first.count),
            (Some("status 422"), 1_500)
        );
    }
}
