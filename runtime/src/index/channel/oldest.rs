//! The entities that a channel owes for the longest time, by name.

use std::collections::BTreeMap;

use super::walk::OLDEST_LOOKED_AT;
use crate::index::{ChannelId, Index, OldestOwed};
use crate::model::{Lane, Ordinal, Sequence, Timestamp};

impl Index {
    /// Up to `limit` of the entities that a channel owes for the longest time, the oldest first. Of those
    /// that it has not come to yet, the first places of each lane count. Goes through everything that is in
    /// flight, parked, or waits to be quiet.
    pub fn oldest(&self, id: ChannelId, limit: usize) -> Vec<OldestOwed> {
        let Some(channel) = self.channels.get(&id) else {
            return Vec::new();
        };
        let since = |ordinal: u32| channel.debt(ordinal, self.entry(ordinal)?, self.known());
        let ahead = Lane::ALL.into_iter().flat_map(|lane| {
            let places = self.lanes[lane.index()].after(channel.read[lane.index()]);
            let owed = places
                .take(OLDEST_LOOKED_AT)
                .filter(|(_, ordinal)| since(*ordinal).is_some());
            owed.take(limit).map(|(_, ordinal)| ordinal)
        });
        let busy = channel.flights.keys().chain(channel.parked.keys()).copied();
        // By entity, because one may be in several lanes.
        let owed: BTreeMap<u32, (Timestamp, u64)> = ahead
            .chain(busy)
            .chain(channel.waiting.ordinals())
            .filter_map(|ordinal| Some((ordinal, since(ordinal)?)))
            .collect();
        let mut oldest: Vec<_> = owed.into_iter().map(|(of, since)| (since, of)).collect();
        oldest.sort_unstable();
        let named = |((time, since), ordinal): ((Timestamp, u64), u32)| {
            Some(OldestOwed {
                ordinal: Ordinal(ordinal),
                id: self.entry(ordinal)?.id.clone(),
                since: Sequence(since),
                time,
            })
        };
        oldest.into_iter().take(limit).filter_map(named).collect()
    }
}
