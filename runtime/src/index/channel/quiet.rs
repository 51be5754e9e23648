//! Entities that wait until they are quiet (`debounce`).
//!
//! An entity that has changed is met at its place and set aside: its pair then says so, and has as its
//! revision the sequence before the first change that was not sent. So a restart knows since when it
//! waits, and a channel without a debounce has nothing of this in memory. A set-aside entity is looked
//! at when its wait would end; if it has changed meanwhile, the wait goes on, up to its maximum.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::walk::VISITS_MAX;
use super::{Channel, Known};
use crate::index::{Debounce, Entry, Lease, Pair, State};
use crate::model::{Lane, Timestamp, Track};

/// The most entities that are set aside in each lane, about 60 bytes each. Further ones wait at their
/// places, because an import that changes everything must not double what a channel has in memory.
const WAITING_MAX: usize = 65_536;
/// By how many milliseconds the time may lie before the newest change without the clock counting as set
/// back: corrections of a clock that runs fast, and changes that were stamped a moment later.
const SET_BACK_MS: u64 = 1_000;

/// The entities that wait until they are quiet.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Lane and end of each wait.
    ends: HashMap<u32, (Lane, Timestamp)>,
    by_lane: [BTreeSet<(Timestamp, u32)>; 3],
}

impl Waiting {
    /// Adds an entity, or changes its lane and its end.
    pub(super) fn insert(&mut self, ordinal: u32, lane: Lane, ends: Timestamp) {
        self.remove(ordinal);
        self.ends.insert(ordinal, (lane, ends));
        self.by_lane[lane.index()].insert((ends, ordinal));
    }

    pub(super) fn remove(&mut self, ordinal: u32) {
        if let Some((lane, ends)) = self.ends.remove(&ordinal) {
            self.by_lane[lane.index()].remove(&(ends, ordinal));
        }
    }

    pub(super) fn contains(&self, ordinal: u32) -> bool {
        self.ends.contains_key(&ordinal)
    }

    /// When the first wait of a lane ends, and of which entity.
    pub(super) fn first(&self, lane: Lane) -> Option<(Timestamp, u32)> {
        self.by_lane[lane.index()].first().copied()
    }

    pub(super) fn len(&self, lane: Lane) -> usize {
        self.by_lane[lane.index()].len()
    }

    pub(super) fn ordinals(&self) -> impl Iterator<Item = u32> {
        self.ends.keys().copied()
    }

    /// Ends all waits, so that each is looked at.
    fn look_again(&mut self) {
        let waiting: Vec<_> = self.ends.iter().map(|(at, wait)| (*at, wait.0)).collect();
        for (ordinal, lane) in waiting {
            self.insert(ordinal, lane, Timestamp(0));
        }
    }
}

/// How a channel met a place.
pub(super) enum Met {
    /// There is nothing to send, or not yet.
    Passed,
    /// The entity must be delivered.
    Taken(Lease),
    /// The entity must wait until it is quiet, and too many wait already: the place was not passed.
    Full,
}

impl Channel {
    /// Takes how long it waits until an entity is quiet. Waits that have begun are measured anew.
    pub fn set_debounce(&mut self, debounce: Option<Debounce>) {
        self.subscription.debounce = debounce;
        self.waiting.look_again();
    }

    /// The first change of an entity that was not sent, and when the wait for quiet ends, as far as is
    /// known now; `None` if it owes no change, or the channel does not wait.
    pub(super) fn wait_of(
        &self,
        ordinal: u32,
        entry: &Entry,
        known: Known<'_>,
        met: &[(Track, u64)],
    ) -> Option<(u64, Timestamp)> {
        let debounce = self.subscription.debounce?;
        let first = self.owed_since(ordinal, entry, known, met)?;
        let newest = known.clock.by(self.newest_seen(entry, known.names));
        Some((first, debounce.ends(known.clock.time_of(first), newest)))
    }

    /// Like [`Channel::wait_of`]; `None` also if that wait is over, or if the entity must be rendered anew
    /// because the channel has another shape.
    pub(super) fn must_wait(
        &self,
        ordinal: u32,
        entry: &Entry,
        known: Known<'_>,
        met: &[(Track, u64)],
    ) -> Option<(u64, Timestamp)> {
        if self.is_reshaped(self.pair(ordinal)) {
            return None;
        }
        let wait = self.wait_of(ordinal, entry, known, met);
        wait.filter(|(_, ends)| !is_over(*ends, known))
    }

    /// Sets an entity aside until it is quiet.
    pub(super) fn set_aside(&mut self, ordinal: u32, track: Track, wait: (u64, Timestamp)) {
        let (first, ends) = wait;
        let (lane, was_absent) = (lane_of(track), self.pair(ordinal).state().is_absent());
        let state = State::Waiting { lane, was_absent };
        // A newer state than the refused one will be tried.
        self.refusals.remove(&ordinal);
        let shape = self.shape;
        self.change(ordinal, |pair| match pair == Pair::default() {
            true => pair.settled(first - 1, shape).in_state(state),
            false => pair.passed(first - 1).in_state(state),
        });
        self.waiting.insert(ordinal, lane, ends);
    }

    /// A change was met in another lane: the entity waits in the more urgent of the two.
    pub(super) fn hurry(&mut self, ordinal: u32, track: Track) {
        let lane = lane_of(track);
        let State::Waiting {
            lane: before,
            was_absent,
        } = self.pair(ordinal).state()
        else {
            return;
        };
        if lane < before {
            let ends = self.waiting.ends.get(&ordinal).map(|wait| wait.1);
            let state = State::Waiting { lane, was_absent };
            self.change(ordinal, |pair| pair.in_state(state));
            self.waiting.insert(ordinal, lane, ends.unwrap_or_default());
        }
    }

    /// Whether a further entity may be set aside.
    pub(super) fn has_room_to_wait(&self, track: Track) -> bool {
        self.waiting.len(lane_of(track)) < WAITING_MAX
    }

    /// The entity of a lane whose wait is over, if there is one. It stays set aside until it is taken.
    /// Counts in `visits` how many it looked at, and looks at no more than [`VISITS_MAX`].
    pub(super) fn next_quiet<'e>(
        &mut self,
        lane: Lane,
        entry_of: impl Fn(u32) -> Option<&'e Entry>,
        known: Known<'_>,
        visits: &mut usize,
    ) -> Option<(u32, &'e Entry)> {
        while *visits < VISITS_MAX {
            let (ends, ordinal) = self.waiting.first(lane)?;
            if !is_over(ends, known) {
                return None;
            }
            *visits += 1;
            let Some(entry) = entry_of(ordinal) else {
                self.waiting.remove(ordinal);
                continue;
            };
            match self.must_wait(ordinal, entry, known, &[]) {
                Some((_, later)) => self.waiting.insert(ordinal, lane, later),
                None => return Some((ordinal, entry)),
            }
        }
        None
    }
}

/// Whether a wait is over. After the clock was set back nobody waits until it has caught up, which could
/// take hours.
pub(super) fn is_over(ends: Timestamp, known: Known<'_>) -> bool {
    let set_back = known.clock.last().1.0.saturating_sub(known.now.0) > SET_BACK_MS;
    ends <= known.now || set_back
}

/// The lane in which an entity waits that was met there, or by the sweep.
pub(super) fn lane_of(track: Track) -> Lane {
    match track {
        Track::Lane(lane) => lane,
        Track::Sweep => Lane::Bulk,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::index::{Channel, ChannelId, Index, Proposal, Subscription, Walked};
    use crate::model::EntityId;

    fn commit(index: &mut Index, key: usize, lane: Lane, now: u64) {
        let id = EntityId {
            entity_type: "product".into(),
            key: format!("e{key}").into(),
        };
        let (facet, owner): (Arc<str>, Arc<str>) = ("price".into(), "erp".into());
        let change = Proposal {
            id: &id,
            facet: &facet,
            owner: &owner,
            lane,
            version: None,
            hash: Some(now + 2),
        };
        index.apply(change, None, Timestamp(now));
    }

    const SHOP: ChannelId = ChannelId(1);

    /// A channel that waits for ten seconds of quiet.
    fn subscription(entity_type: &str) -> Subscription {
        Subscription {
            entity_type: entity_type.into(),
            facets: vec!["price".into()],
            shape: 1,
            shape_label: String::new(),
            target: 1,
            debounce: Some(Debounce {
                quiet: Duration::from_secs(10),
                max: Duration::from_secs(60),
            }),
        }
    }

    /// Walks a lane once; returns how many entities were taken, and how it ended.
    fn walk_once(index: &mut Index, lane: Lane, now: u64) -> (usize, Walked) {
        let (mut taken, durable, track) = (Vec::new(), u64::MAX >> 16, Track::Lane(lane));
        let walked = index.walk(SHOP, track, 100, durable, Timestamp(now), &mut taken);
        (taken.len(), walked)
    }

    /// Walks a lane until it has taken some, or there is nothing more.
    fn walk(index: &mut Index, lane: Lane, now: u64) -> (usize, Walked) {
        loop {
            let (taken, walked) = walk_once(index, lane, now);
            if taken > 0 || walked != Walked::More {
                return (taken, walked);
            }
        }
    }

    /// An import changed a million entities in a minute. Those that are set aside have a bound, the rest
    /// waits at its places, and neither an urgent change nor another lane waits for them.
    #[test]
    fn when_too_many_are_set_aside_the_others_wait_at_their_places() {
        let mut index = Index::default();
        index.put_channel(SHOP, Channel::new("shop", subscription("product")));
        for key in 0..WAITING_MAX + 5 {
            commit(&mut index, key, Lane::Normal, 0);
        }
        let ends = Walked::Waits(Timestamp(10_000));
        assert_eq!(walk(&mut index, Lane::Normal, 0), (0, ends));
        let owed = index.owed(SHOP);
        assert_eq!(owed.waiting, WAITING_MAX as u64);
        assert_eq!(owed.lanes, [0, WAITING_MAX as u64 + 5, 0]);
        assert_eq!(
            walk(&mut index, Lane::Normal, 5_000),
            (0, ends),
            "it stands"
        );
        commit(&mut index, WAITING_MAX + 5, Lane::Bulk, 5_000);
        commit(&mut index, WAITING_MAX + 6, Lane::Urgent, 5_000);
        let later = Walked::Waits(Timestamp(15_000));
        assert_eq!(walk(&mut index, Lane::Bulk, 5_000), (0, later));
        assert_eq!(walk(&mut index, Lane::Urgent, 5_000), (1, Walked::End));
        let (taken, _) = walk(&mut index, Lane::Normal, 10_000);
        assert_eq!(taken, 100, "they are quiet");
        commit(&mut index, WAITING_MAX + 1, Lane::Normal, 10_000);
        for _ in 0..WAITING_MAX / 100 {
            walk(&mut index, Lane::Normal, 10_000);
        }
        let owed = index.owed(SHOP);
        assert_eq!(
            (owed.waiting, owed.lanes[1]),
            (2, 1),
            "one waits that has changed meanwhile, and one in the bulk lane"
        );
    }

    /// A channel read the time, and another thread committed a change a moment later. The channel took it
    /// for a clock that was set back, and sent all that waited.
    #[test]
    fn a_change_of_this_moment_does_not_end_the_waits() {
        let mut index = Index::default();
        index.put_channel(SHOP, Channel::new("shop", subscription("product")));
        commit(&mut index, 1, Lane::Normal, 5_000);
        commit(&mut index, 2, Lane::Normal, 6_000);
        let ends = Walked::Waits(Timestamp(15_000));
        assert_eq!(walk(&mut index, Lane::Normal, 5_999), (0, ends));
        assert_eq!(walk(&mut index, Lane::Normal, 1_000).0, 2, "set back");
    }

    /// A reload has all waits looked at, and everything else waited until they were.
    #[test]
    fn no_walk_looks_at_more_waits_than_its_limit_and_the_next_one_goes_on() {
        let mut index = Index::default();
        index.put_channel(SHOP, Channel::new("shop", subscription("product")));
        for key in 0..VISITS_MAX + 10 {
            commit(&mut index, key, Lane::Normal, 0);
        }
        let ends = Walked::Waits(Timestamp(10_000));
        assert_eq!(walk(&mut index, Lane::Normal, 0), (0, ends));
        let channel = index.channel_mut(SHOP).expect("it is there");
        channel.set_debounce(subscription("product").debounce);
        let first = walk_once(&mut index, Lane::Normal, 0);
        assert_eq!(first, (0, Walked::More));
        assert_eq!(walk_once(&mut index, Lane::Normal, 0), (0, ends));
    }

    /// A channel of products became one of offers. The products that had waited were sent to it.
    #[test]
    fn what_waited_for_another_entity_type_is_let_go() {
        let mut index = Index::default();
        index.put_channel(SHOP, Channel::new("shop", subscription("product")));
        commit(&mut index, 1, Lane::Normal, 0);
        walk(&mut index, Lane::Normal, 0);
        assert_eq!(index.owed(SHOP).waiting, 1);
        let channel = index.channel_mut(SHOP).expect("it is there");
        channel.reshape(subscription("offer"), false, 1, 2);
        assert_eq!(index.owed(SHOP).total(), 1, "the sweep alone is left");
        assert_eq!(walk(&mut index, Lane::Normal, 60_000), (0, Walked::End));
    }
}
