//! A channel's queue, read from the index; calls that must be durable go through the writer.

use std::sync::Arc;

use super::Shared;
use crate::index::ChannelId;
use crate::model::{Ordinal, Sequence, Track};
use crate::store::{
    Lease, OldestOwed, Owed, Parked, Pending, Queue, Refused, Settlement, Standing, Walked,
    Withdrawals,
};

/// A joined channel.
pub(super) struct ChannelQueue {
    pub(super) shared: Arc<Shared>,
    pub(super) channel: ChannelId,
}

impl Queue for ChannelQueue {
    fn walk(&self, track: Track, limit: usize, taken: &mut Vec<Lease>) -> Walked {
        let watermark = self.shared.durable();
        let mut index = self.shared.index();
        // With the index in hand: a commit in between would look as if the clock had been set back.
        let now = (self.shared.options.now)();
        index.walk(self.channel, track, limit, watermark, now, taken)
    }

    fn retry(&self, ordinal: Ordinal) -> Option<Lease> {
        let watermark = self.shared.durable();
        self.shared
            .index()
            .retry(self.channel, ordinal.0, watermark)
    }

    fn changed(&self, read: &[(Ordinal, Sequence)]) -> Vec<(Ordinal, Sequence)> {
        self.shared.index().changed(self.channel, read)
    }

    fn attempt(&self, ordinals: &[Ordinal]) {
        self.shared.index().attempt(self.channel, ordinals);
    }

    fn settle(&self, ends: &[Settlement], again: &mut Vec<Lease>) {
        let watermark = self.shared.durable();
        let mut index = self.shared.index();
        let now = (self.shared.options.now)();
        index.settle(self.channel, ends, watermark, now, again);
    }

    fn set_withdrawals(&self, withdrawals: Withdrawals) {
        if let Some(channel) = self.shared.index().channel_mut(self.channel) {
            channel.set_withdrawals(withdrawals);
        }
    }

    fn save(&self) -> Pending<()> {
        let channel = self.channel;
        self.shared.on_writer(move |writer| writer.save(channel))
    }

    fn owed(&self) -> Owed {
        self.shared.index().owed(self.channel)
    }

    fn changes(&self) -> u64 {
        self.shared.index().changes(self.channel)
    }

    fn oldest(&self, limit: usize) -> Vec<OldestOwed> {
        self.shared.index().oldest(self.channel, limit)
    }

    fn standing(&self, ordinal: Ordinal) -> Option<Standing> {
        self.shared.index().standing(self.channel, ordinal.0)
    }

    fn refused(&self, after: Option<Ordinal>, limit: usize) -> Vec<Refused> {
        let index = self.shared.index();
        let Some(channel) = index.channel(self.channel) else {
            return Vec::new();
        };
        let refused = channel
            .refused(after.map_or(0, |ordinal| ordinal.0))
            .filter_map(|(ordinal, (failure, time))| {
                Some(Refused {
                    ordinal: Ordinal(ordinal),
                    id: index.entry(ordinal)?.id.clone(),
                    failure: failure.clone(),
                    revision: Sequence(channel.pair(ordinal).revision()),
                    time: *time,
                })
            });
        refused.take(limit).collect()
    }

    fn redrive(&self, ordinals: &[Ordinal]) -> Vec<Parked> {
        let now = (self.shared.options.now)();
        self.shared.index().redrive(self.channel, ordinals, now)
    }

    fn resend(&self, ordinals: &[Ordinal]) -> Vec<Parked> {
        let now = (self.shared.options.now)();
        self.shared.index().resend(self.channel, ordinals, now)
    }

    fn drop_refused(&self, ordinals: &[Ordinal]) -> Pending<usize> {
        let (channel, ordinals) = (self.channel, ordinals.to_vec());
        self.shared.on_writer(move |writer| {
            let dropped = writer.index().drop_refused(channel, &ordinals);
            writer.save(channel)?;
            Ok(dropped)
        })
    }

    fn set_paused(&self, paused: bool) -> Pending<()> {
        let channel = self.channel;
        self.shared.on_writer(move |writer| {
            if let Some(channel) = writer.index().channel_mut(channel) {
                channel.paused = paused;
            }
            writer.save(channel)
        })
    }

    fn resweep(&self, lost: bool) -> Pending<()> {
        let channel = self.channel;
        (self.shared).on_writer(move |writer| writer.resweep(channel, lost))
    }
}
