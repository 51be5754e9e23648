//! The only thread that writes. It takes waiting commits by turns, as the queue hands them out, and
//! syncs once for all commits of a turn (group commit).

mod aside;
mod channels;
mod room;

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use self::aside::SetAside;
use super::backup::Backup;
use super::entity::{self, Touched, Values};
use super::identities::{Identities, Recall};
use super::inbox::{Next, Slice};
use super::pairs::PairLog;
use super::quarantine;
use super::sums::{Rows, Sums, batch};
use super::witness::Witness;
use super::{Shared, open};
use crate::failpoint;
use crate::index::{Applied, ChannelId, Index, Proposal};
use crate::model::{Arrival, FACETS_MAX, Sequence, Timestamp};
use crate::store::{Commit, Effect, Error, FacetChange, Identity, SEQUENCE_BLOCK, Verdict, keys};
use crate::sync::{lock, unpoisoned};

/// The most records that are written between two turns of commits to forget something in them:
/// versions, or deleted facets.
const RECORDS_AT_ONCE: usize = 256;
/// The most deleted entities that one call examines for forgetting.
const FORGET_AT_ONCE: usize = 5_000;
/// How often it may be said that an entity is full.
const CROWDED_WARNED_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    file: File,
    witness: Witness,
    logs: BTreeMap<ChannelId, PairLog>,
    identities: Identities,
    /// The sums of all rows on disk.
    sums: Sums,
    ceiling: u64,
    marks_written: u64,
    /// The copy that is being made.
    pub(super) backup: Option<Backup>,
    /// Whether it was said that the names are near their limit.
    names_warned: bool,
    /// When it was last said that an entity is full.
    crowded_warned: Option<Instant>,
}

/// The effects of a batch of commits, decided but not yet written.
#[derive(Default)]
struct Staged {
    /// The newest values, by ordinal and number of the facet's name.
    values: HashMap<u32, Values>,
    identities: Vec<Identity>,
    /// Events to quarantine: number of the source's name, sequence, and the text; without a text, one
    /// that leaves its place.
    aside: Vec<(u32, Sequence, Option<Vec<u8>>)>,
    rows: Rows,
}

impl Staged {
    /// Stages an event to quarantine, or with `None` one that leaves its place. A redriven event may
    /// now have a shorter reason, and so fewer rows, so what was staged before is replaced.
    fn set_aside(&mut self, source: u32, sequence: Sequence, text: Option<Vec<u8>>) {
        self.aside
            .retain(|(number, at, _)| (*number, *at) != (source, sequence));
        self.aside.push((source, sequence, text));
    }
}

pub(super) fn fatal(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(format!(
        "writing failed ({error}); Weir stops, and every change that was answered with 202 is there after a restart"
    ))
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        (file, witness): (File, Witness),
        logs: BTreeMap<ChannelId, PairLog>,
        identities: Identities,
        sums: Sums,
    ) -> Writer {
        let ceiling = shared.index().sequence;
        Writer {
            shared,
            file,
            witness,
            logs,
            identities,
            sums,
            ceiling,
            marks_written: 0,
            backup: None,
            names_warned: false,
            crowded_warned: None,
        }
    }

    /// Does what waits until the queue is closed and empty, or the store has failed.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        while let Some(next) = shared.inbox.next() {
            let done = catch_unwind(AssertUnwindSafe(|| match next {
                Next::Turn(turn) => self.commit(turn),
                Next::Work(work) => work(&mut self),
            }));
            if done.is_err() {
                self.fail(&fatal("a panic, which is a bug of Weir or of sled"));
            }
            if shared.failed.load(Ordering::SeqCst) {
                shared.inbox.abandon();
                return;
            }
        }
        self.witness.sync();
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.shared.index()
    }

    fn now(&self) -> Timestamp {
        (self.shared.options.now)()
    }

    // -- commits
    // --------------------------------------------------------------------------------------------------------

    /// Commits the slices of one turn, and answers the requests that end with it.
    fn commit(&mut self, turn: Vec<Slice>) {
        if let Err(full) = self.shared.has_disk() {
            turn.iter()
                .for_each(|slice| slice.reply.failed(full.clone()));
            return;
        }
        let now = self.now();
        let mut staged = Staged::default();
        let mut decided = Vec::with_capacity(turn.len());
        for slice in turn.into_iter().filter(|slice| slice.reply.is_open()) {
            decided.push((self.decide(slice.events, now, &mut staged), slice.reply));
        }
        let head = Sequence(self.index().sequence);
        let written = self.write(staged, now);
        let written = self.or_fail(written);
        for (verdicts, reply) in decided {
            match &written {
                Ok(()) => reply.written(verdicts, head),
                Err(error) => reply.failed(error.clone()),
            }
        }
    }

    /// Decides on the events of one slice, in order, under one lock of the index.
    fn decide(&mut self, events: Vec<Commit>, now: Timestamp, staged: &mut Staged) -> Vec<Verdict> {
        let shared = self.shared.clone();
        let mut index = shared.index();
        let limits = lock(&shared.limits).clone();
        let mut verdicts = Vec::with_capacity(events.len());
        for event in events {
            // A redriven event has been remembered since its arrival.
            let arriving = event.identity.filter(|_| event.arrival.is_none());
            match arriving.map_or(Recall::New, |identity| self.identities.recall(identity)) {
                Recall::New => {}
                Recall::Repeated => {
                    verdicts.push(Verdict::Repeated);
                    continue;
                }
                Recall::Reused => {
                    verdicts.push(Verdict::Reused);
                    continue;
                }
            }
            let verdict = match event.effect {
                Effect::Filtered => Verdict::Filtered,
                Effect::Quarantine(quarantined) => {
                    let aside = SetAside {
                        source: event.source,
                        place: event.arrival.as_ref().map(|arrival| arrival.place),
                        id: event.identity.map(|identity| identity.id),
                        event: *quarantined,
                    };
                    self.set_aside(&mut index, limits.quarantine_max, aside, now, staged)
                }
                Effect::Changes(changes) => {
                    match room::check(&index, &limits.entities_max, &changes) {
                        Err(limit) => Verdict::NoRoom(limit),
                        Ok(crowded) => {
                            for entity in crowded {
                                self.warn_of_crowded(&index, &entity);
                                index.drop_facets(entity.ordinal, &entity.dropped);
                                staged.values.entry(entity.ordinal).or_default();
                            }
                            apply(&mut index, changes, event.arrival.as_ref(), now, staged)
                        }
                    }
                }
            };
            if let Some(identity) = event
                .identity
                .filter(|_| !matches!(verdict, Verdict::NoRoom(_)))
            {
                self.identities.add(identity);
                staged.identities.push(identity);
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    /// Says that an entity is full, at most once a minute.
    fn warn_of_crowded(&mut self, index: &Index, entity: &room::Crowded) {
        let lately = |at: Instant| at.elapsed() < CROWDED_WARNED_EVERY;
        if let Some(entry) = index.entry(entity.ordinal)
            && !self.crowded_warned.is_some_and(lately)
        {
            self.crowded_warned = Some(Instant::now());
            tracing::warn!(
                entity = %entry.id,
                "the entity has {FACETS_MAX} facets; to make room for new ones, those that were deleted \
                 the longest ago are forgotten with their versions before `forget` has passed"
            );
        }
    }

    /// Writes the staged effects, syncs them, and raises the watermark.
    fn write(&mut self, mut staged: Staged, now: Timestamp) -> Result<(), Error> {
        let values = std::mem::take(&mut staged.values);
        self.stage_entities(values.into_iter(), now, &mut staged.rows)?;
        for (source, sequence, text) in staged.aside {
            quarantine::write(
                &self.shared.db,
                source,
                sequence,
                text.as_deref(),
                &mut staged.rows,
            )?;
        }
        if !staged.identities.is_empty() {
            self.identities.write(staged.identities, &mut staged.rows);
        }
        let begin = Instant::now();
        self.make_durable(staged.rows)?;
        self.shared.commits.count(begin.elapsed());
        Ok(())
    }

    /// Stages the records of entities, with their new values.
    fn stage_entities(
        &self,
        changed: impl Iterator<Item = (u32, Values)>,
        now: Timestamp,
        rows: &mut Rows,
    ) -> Result<(), Error> {
        let entities: Vec<Touched> = {
            let index = self.shared.index();
            let touched = |(ordinal, values): (u32, Values)| {
                let entry = index.entry(ordinal)?;
                Some(Touched {
                    ordinal,
                    entity_type: index.names.find(&entry.id.entity_type).unwrap_or_default(),
                    key: entry.id.key.clone(),
                    facets: entry.facets.clone(),
                    values,
                })
            };
            changed.filter_map(touched).collect()
        };
        entities
            .into_iter()
            .try_for_each(|touched| entity::write(&self.shared.db, touched, now, rows))
    }

    /// See [`crate::store::Store::jump`].
    pub(super) fn jump(&mut self, sequence: Sequence) -> Result<Sequence, Error> {
        let before = {
            let mut index = self.shared.index();
            let before = index.sequence;
            index.sequence = before.max(sequence.0);
            before
        };
        self.make_durable(Rows::default())?;
        Ok(Sequence(before))
    }

    /// Adds the rows that every batch has, writes, syncs, and raises the watermark.
    fn make_durable(&mut self, mut rows: Rows) -> Result<(), Error> {
        let (sequence, names) = {
            let mut index = self.shared.index();
            (index.sequence, index.names.take_changed())
        };
        for (number, name) in &names {
            let row = name.as_ref().map(|name| name.as_bytes().to_vec());
            rows.set(&self.shared.db, keys::name(*number), row)?;
        }
        self.shared.show_names(names);
        if sequence > self.ceiling {
            self.ceiling = sequence + SEQUENCE_BLOCK;
            rows.set(
                &self.shared.db,
                keys::CEILING.to_vec(),
                Some(self.ceiling.to_le_bytes().to_vec()),
            )?;
        }
        self.apply(rows)?;
        failpoint::pass("store.written");
        self.sync()?;
        failpoint::pass("store.synced");
        self.shared.watermark.send_replace(Sequence(sequence));
        Ok(())
    }

    /// Writes rows, together or not at all; they are not durable yet.
    fn apply(&mut self, rows: Rows) -> Result<(), Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = rows.seal(&mut self.sums);
        self.note_in_backup(&rows);
        self.shared.db.apply_batch(batch(rows)).map_err(fatal)
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.shared.db.flush().map_err(fatal)?;
        // sled's flush syncs neither the length of its file nor the disk's cache; this does.
        (self.shared.options.sync)(&self.file).map_err(fatal)?;
        self.witness.saw(self.sums.batch);
        Ok(())
    }

    /// Fails the store if a write failed: that cannot be recovered, whatever the request was.
    fn or_fail(&mut self, written: Result<(), Error>) -> Result<(), Error> {
        written.inspect_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: &Error) {
        // This comes first, because the process may end in the next call.
        self.witness.saw_failure();
        self.shared.fail(error);
    }

    // -- versions
    // -------------------------------------------------------------------------------------------------------

    /// Forgets an owner's versions in a piece of the entities. Returns the number of facets that had
    /// one, and where the next piece begins.
    pub(super) fn reset_versions(
        &mut self,
        owner: &str,
        from: u32,
    ) -> Result<(u64, Option<u32>), Error> {
        let reset = self.index().reset_versions(owner, from, RECORDS_AT_ONCE);
        let mut staged = Staged::default();
        for ordinal in reset.touched {
            staged.values.entry(ordinal).or_default();
        }
        let now = self.now();
        let written = self.write(staged, now);
        self.or_fail(written)?;
        Ok((reset.facets, reset.next))
    }

    // -- tests
    // ----------------------------------------------------------------------------------------------------------

    pub(super) fn crash(&mut self) -> Result<(), Error> {
        let mut index = Index::default();
        let loaded = open::load(&self.shared.db, &mut index, self.sums.batch)?;
        (self.logs, self.identities, self.sums) = (loaded.logs, loaded.identities, loaded.sums);
        *lock(&self.shared.quarantine) = loaded.quarantine;
        (self.ceiling, self.marks_written) = (index.sequence, 0);
        self.shared.watermark.send_replace(Sequence(index.sequence));
        *unpoisoned(self.shared.names.write()) = index.names.all().collect();
        *self.shared.index() = index;
        self.shared.readings.clear();
        self.save_all_channels()
    }

    pub(super) fn erase(&mut self) -> Result<(), Error> {
        self.shared.db.clear().map_err(fatal)?;
        self.sums = Sums::default();
        self.shared.watermark.send_replace(Sequence(0));
        self.crash()
    }
}

/// The changes of an event by result.
#[derive(Default)]
struct Counts {
    committed: u32,
    unchanged: u32,
    stale: u32,
}

fn apply(
    index: &mut Index,
    changes: Vec<FacetChange>,
    arrival: Option<&Arrival>,
    now: Timestamp,
    staged: &mut Staged,
) -> Verdict {
    let mut counts = Counts::default();
    for change in changes {
        let Some(prefix) = change.deleted_family() else {
            apply_one(index, change, arrival, now, staged, &mut counts);
            continue;
        };
        let members = index.members(&change.id, prefix, &change.owner);
        counts.unchanged += u32::from(members.is_empty());
        for member in members {
            let deletion = change.of_member(member);
            apply_one(index, deletion, arrival, now, staged, &mut counts);
        }
    }
    let newest = (counts.committed > 0).then_some(Sequence(index.sequence));
    Verdict::Accepted {
        newest: newest.unwrap_or_default(),
        committed: counts.committed,
        unchanged: counts.unchanged,
        stale: counts.stale,
    }
}

fn apply_one(
    index: &mut Index,
    change: FacetChange,
    arrival: Option<&Arrival>,
    now: Timestamp,
    staged: &mut Staged,
    counts: &mut Counts,
) {
    let hash = change.value.as_ref().map(|_| change.hash);
    let FacetChange {
        id,
        facet,
        owner,
        lane,
        version,
        ..
    } = &change;
    let proposal = Proposal {
        id,
        facet,
        owner,
        lane: *lane,
        version: *version,
        hash,
    };
    match index.apply(proposal, arrival, now) {
        Applied::Committed(ordinal) => {
            counts.committed += 1;
            let name = index.names.number(facet);
            let values = staged.values.entry(ordinal).or_default();
            match values.iter_mut().find(|(known, _)| *known == name) {
                Some((_, value)) => *value = change.value,
                None => values.push((name, change.value)),
            }
        }
        Applied::Versioned(ordinal) => {
            counts.unchanged += 1;
            staged.values.entry(ordinal).or_default();
        }
        Applied::Unchanged => counts.unchanged += 1,
        Applied::Stale => counts.stale += 1,
    }
}
