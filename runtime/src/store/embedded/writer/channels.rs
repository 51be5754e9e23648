//! The writer's work for channels: it saves their state, and lets them join, sweep, be renamed and
//! be forgotten.

use super::{FORGET_AT_ONCE, RECORDS_AT_ONCE, Values, Writer, fatal};
use crate::failpoint;
use crate::index::{Channel, ChannelId};
use crate::model::Timestamp;
use crate::store::embedded::sums::Rows;
use crate::store::{Error, Joined, NAMES_MAX, Subscription, keys};
use crate::sync::lock;

impl Writer {
    /// Saves one channel, durably.
    pub(in crate::store::embedded) fn save(&mut self, id: ChannelId) -> Result<(), Error> {
        let mut rows = Rows::default();
        let written = self
            .stage_channel(id, &mut rows)
            .and_then(|()| self.make_durable(rows));
        self.or_fail(written)
    }

    fn stage_channel(&mut self, id: ChannelId, rows: &mut Rows) -> Result<(), Error> {
        let (shared, ahead) = (self.shared.clone(), self.shared.options.sweep_ahead);
        let mut writes = Vec::new();
        if let Some(channel) = shared.index().channel_mut(id) {
            self.logs
                .entry(id)
                .or_default()
                .save(id, channel, ahead, &mut writes);
        }
        writes
            .into_iter()
            .try_for_each(|(key, value)| rows.set(&shared.db, key, value))
    }

    /// Stages all channels that have changed.
    fn stage_channels(&mut self, rows: &mut Rows) -> Result<(), Error> {
        let changed = self.changed_channels();
        changed
            .into_iter()
            .try_for_each(|id| self.stage_channel(id, rows))
    }

    fn changed_channels(&self) -> Vec<ChannelId> {
        self.index()
            .channels()
            .filter(|(_, channel)| channel.is_dirty())
            .map(|(id, _)| id)
            .collect()
    }

    /// Saves all channels that have changed, each in one atomic write, and syncs once.
    pub(in crate::store::embedded) fn save_all(&mut self) -> Result<(), Error> {
        let changed = self.changed_channels();
        let written = self.try_save_all(&changed);
        self.or_fail(written)
    }

    fn try_save_all(&mut self, changed: &[ChannelId]) -> Result<(), Error> {
        for id in changed {
            let mut rows = Rows::default();
            self.stage_channel(*id, &mut rows)?;
            self.apply(rows)?;
            failpoint::pass("store.saving");
        }
        let marks: Vec<u8> = {
            let index = self.shared.index();
            let newest = index.clock.last().0;
            if newest == self.marks_written {
                Vec::new()
            } else {
                self.marks_written = newest;
                let marks = index.clock.marks();
                marks
                    .flat_map(|(sequence, time)| {
                        [sequence.to_le_bytes(), time.0.to_le_bytes()].concat()
                    })
                    .collect()
            }
        };
        if changed.is_empty() && marks.is_empty() {
            return Ok(());
        }
        if !marks.is_empty() {
            let mut rows = Rows::default();
            rows.set(&self.shared.db, keys::CLOCK.to_vec(), Some(marks))?;
            self.apply(rows)?;
        }
        self.sync()
    }

    /// Says once that the names are near their limit, and again after they were far from it.
    fn warn_of_names(&mut self) {
        let count = self.index().names.count();
        let near = count > NAMES_MAX / 4 * 3;
        if near && !self.names_warned {
            tracing::warn!(
                "the facets of all entities have {count} different names, of {NAMES_MAX} at most; a name \
                 is free again when the last facet of this name is deleted and `forget` has passed"
            );
        }
        self.names_warned = near;
    }

    /// Puts or removes a note, durably.
    pub(in crate::store::embedded) fn set_note(
        &mut self,
        key: Vec<u8>,
        note: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut rows = Rows::default();
        let shared = self.shared.clone();
        let written = rows
            .set(&shared.db, key, note)
            .and_then(|()| self.make_durable(rows));
        self.or_fail(written)
    }

    /// Gives notes other names, durably and in one write.
    pub(in crate::store::embedded) fn rename_notes(
        &mut self,
        names: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), Error> {
        let shared = self.shared.clone();
        let mut moved = || {
            let mut rows = Rows::default();
            for (old, new) in names {
                let note = shared.db.get(old);
                let note = note.map_err(|error| Error::Damaged(error.to_string()))?;
                if let Some(note) = note {
                    rows.set(&shared.db, new.clone(), Some(note.to_vec()))?;
                    rows.set(&shared.db, old.clone(), None)?;
                }
            }
            self.make_durable(rows)
        };
        let written = moved();
        self.or_fail(written)
    }

    /// Forgets entities that are gone everywhere, and the deleted facets of the others. Their ordinals
    /// are given out again, so what channels knew of them goes in the same write as their records.
    pub(in crate::store::embedded) fn forget(&mut self, now: Timestamp) -> Result<(), Error> {
        self.warn_of_names();
        let order = self.index().give_up_order();
        if let Some(order) = order {
            // On another thread, because every source waits for this one. Without one it is done here.
            drop(std::thread::Builder::new().spawn(move || drop(order)));
        }
        let forget_ms = lock(&self.shared.limits).forget_ms;
        let Some(horizon) = now.0.checked_sub(forget_ms) else {
            return Ok(());
        };
        let (gone, trimmed, ordinals) = {
            let mut index = self.index();
            let horizon = Timestamp(horizon);
            (
                index.forget(horizon, FORGET_AT_ONCE),
                index.forget_facets(horizon, FORGET_AT_ONCE, RECORDS_AT_ONCE),
                index.given_out(),
            )
        };
        if gone.is_empty() && trimmed.is_empty() {
            return Ok(());
        }
        let (shared, mut rows) = (self.shared.clone(), Rows::default());
        let mut set = |key, value| rows.set(&shared.db, key, value);
        let removed = gone
            .into_iter()
            .try_for_each(|ordinal| set(keys::entity(ordinal), None));
        let staged = removed.and_then(|()| {
            set(
                keys::ORDINALS.to_vec(),
                Some(u64::from(ordinals).to_le_bytes().to_vec()),
            )
        });
        let written = staged
            .and_then(|()| self.stage_channels(&mut rows))
            .and_then(|()| {
                let trimmed = trimmed.into_iter().map(|ordinal| (ordinal, Values::new()));
                self.stage_entities(trimmed, now, &mut rows)
            })
            .and_then(|()| self.make_durable(rows));
        self.or_fail(written)
    }

    pub(in crate::store::embedded) fn join(
        &mut self,
        name: &str,
        subscription: Subscription,
    ) -> Result<(ChannelId, Joined), Error> {
        let shared = self.shared.clone();
        let (now, debounce) = (self.now(), subscription.debounce);
        let mut index = shared.index();
        let known = index.channels().find(|(_, channel)| channel.name == name);
        let was = known.map(|(_, channel)| (channel.live, channel.subscription.clone()));
        let highest = self
            .shared
            .db
            .get(keys::CHANNELS)
            .map_err(fatal)?
            .map_or(0, |row| u16::from_le_bytes(keys::number_at(&row, 0)));
        let id = known.map_or(ChannelId(highest + 1), |(id, _)| id);
        let lost = was
            .as_ref()
            .is_some_and(|(_, before)| before.target != subscription.target);
        let swept =
            lost || was.is_none_or(|(live, before)| !live || before.shape != subscription.shape);
        let mut rows = Rows::default();
        if id.0 > highest {
            index.put_channel(id, Channel::new(name, subscription.clone()));
            rows.set(
                &shared.db,
                keys::CHANNELS.to_vec(),
                Some(id.0.to_le_bytes().to_vec()),
            )?;
        }
        if swept {
            let (head, given_out) = (index.bump(now), index.given_out());
            if let Some(channel) = index.channel_mut(id) {
                channel.reshape(subscription, lost, head, given_out);
                channel.live = true;
            }
        }
        if let Some(channel) = index.channel_mut(id) {
            channel.set_debounce(debounce);
        }
        let channel = index.channel(id);
        let joined = Joined {
            swept,
            paused: channel.is_some_and(|channel| channel.paused),
            parked: channel.into_iter().flat_map(Channel::parked).collect(),
            withdrawals: channel
                .map(|channel| channel.withdrawals.clone())
                .unwrap_or_default(),
        };
        drop(index);
        if swept {
            let written = self
                .stage_channel(id, &mut rows)
                .and_then(|()| self.make_durable(rows));
            self.or_fail(written)?;
        }
        Ok((id, joined))
    }

    pub(in crate::store::embedded) fn retire(&mut self, name: &str) -> Result<(), Error> {
        let found = self.index().channel_named(name);
        let Some(id) = found else { return Ok(()) };
        if let Some(channel) = self.index().channel_mut(id) {
            debug_assert!(
                channel.is_quiet(),
                "a channel retires when its flights have ended"
            );
            channel.live = false;
        }
        self.save(id)
    }

    pub(in crate::store::embedded) fn doubt_retired(&mut self, target: u64) -> Result<(), Error> {
        let doubted = self.index().doubt_retired(target);
        doubted.into_iter().try_for_each(|id| self.save(id))
    }

    pub(in crate::store::embedded) fn resweep(
        &mut self,
        id: ChannelId,
        lost: bool,
    ) -> Result<(), Error> {
        let now = self.now();
        {
            let mut index = self.shared.index();
            let (head, given_out) = (index.bump(now), index.given_out());
            if let Some(channel) = index.channel_mut(id) {
                channel.reshape(channel.subscription.clone(), lost, head, given_out);
            }
        }
        self.save(id)
    }

    pub(in crate::store::embedded) fn rename(
        &mut self,
        old: &str,
        new: &str,
    ) -> Result<bool, Error> {
        let found = {
            let index = self.index();
            let free = index.channel_named(new).is_none();
            index.channel_named(old).filter(|_| free)
        };
        let Some(id) = found else { return Ok(false) };
        if let Some(channel) = self.index().channel_mut(id) {
            channel.name = new.to_owned();
        }
        self.save(id)?;
        Ok(true)
    }

    pub(in crate::store::embedded) fn forget_channel(&mut self, name: &str) -> Result<bool, Error> {
        let retired = {
            let index = self.index();
            let live = |id| index.channel(id).is_none_or(|channel| channel.live);
            index.channel_named(name).filter(|id| !live(*id))
        };
        let Some(id) = retired else { return Ok(false) };
        self.index().remove_channel(id);
        self.logs.remove(&id);
        let written = self.remove_channel_rows(id);
        self.or_fail(written)?;
        Ok(true)
    }

    /// Removes the channel's own row first: without it, the remaining rows are ignored.
    fn remove_channel_rows(&mut self, id: ChannelId) -> Result<(), Error> {
        let shared = self.shared.clone();
        for prefix in [b'C', b'B', b'L', b'K', b'R'].map(|kind| keys::of_channel(kind, id)) {
            let mut rows = Rows::default();
            for row in shared.db.scan_prefix(prefix) {
                let (key, value) = row.map_err(fatal)?;
                rows.swap(key.to_vec(), Some(&value), None);
            }
            self.apply(rows)?;
        }
        self.sync()
    }

    /// Raises the sequence above everything that may have been sent before, and saves every channel.
    ///
    /// In a store that was made of a backup, what every channel, retired ones included, knows of its
    /// target becomes unknown, also of entities that it never met. This comes at the first opening,
    /// which is part of the restore, or follows it if the restore was interrupted.
    pub(in crate::store::embedded) fn begin(&mut self) -> Result<(), Error> {
        let (now, least) = (self.now(), self.shared.options.sequence_min);
        let restored = self.shared.db.contains_key(keys::RESTORED).map_err(fatal)?;
        let changed = {
            let mut index = self.index();
            index.stamp_parked(now);
            let raised = index.raise(least, now);
            if restored {
                index.doubt_everything(now);
            }
            raised || restored
        };
        self.save_all_channels()?;
        if !changed {
            return Ok(());
        }
        let (shared, mut rows) = (self.shared.clone(), Rows::default());
        // The mark goes after the doubts are on disk.
        let written = rows
            .set(&shared.db, keys::RESTORED.to_vec(), None)
            .and_then(|()| self.make_durable(rows));
        self.or_fail(written)
    }

    /// Saves every channel after loading, so that pairs that are unknown now are still unknown
    /// after another crash.
    pub(in crate::store::embedded) fn save_all_channels(&mut self) -> Result<(), Error> {
        let all: Vec<ChannelId> = self.index().channels().map(|(id, _)| id).collect();
        let written = self.try_save_all(&all);
        self.or_fail(written)
    }
}
