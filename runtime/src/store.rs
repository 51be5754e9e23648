//! What a store promises: the entities as they are now, and for each channel what it still owes.
//!
//! A store is the one place that ingest and dispatch share; they never call each other. Its
//! promises, which random histories check on every implementation (`tests/promises`):
//!
//! 1. A commit that has answered survives a crash and a power cut, and an event's changes are there
//!    together or not at all.
//! 2. Whatever is committed to a facet that a channel subscribes to is met by that channel's walks,
//!    once for each entity however often it changed, until a delivery that read the entity
//!    *afterwards* has finished.
//! 3. At most one entity of a channel is in flight at a time for each ordinal; a change during the
//!    flight makes it run again.
//! 4. What was certainly delivered is remembered (suppression), and what may have been delivered is
//!    never taken for certain, across crashes too.
//! 5. An entity is forgotten only when it is deleted and certainly gone from every channel, retired
//!    ones included.
//!
//! The algorithm is the one of `memory`, which is the specification: plain maps, no cleverness.
//! `embedded` keeps the same promises on disk (sled) at full size, with `index` as its working
//! memory.

pub mod embedded;
mod keys;
pub mod memory;
mod record;

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

pub use crate::index::{
    ChannelId, Finish, Holds, Joined, Outcome, Owed, Parked, Standing, State, Subscription, Taken,
};
use crate::model::{Entity, EntityId, Event, Failure, Lane, Ordinal, Sequence, Timestamp, Track};

/// Sequences are reserved on disk in blocks of so many, and a start begins at the end of the last
/// block: a sequence that a channel may have seen before a crash is never given out again.
pub const SEQUENCE_BLOCK: u64 = 100_000;

/// What one event leads to, ready to be written: the plugins have spoken and ownership is checked.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The source it came from.
    pub source: Arc<str>,
    /// Hash of (source, CloudEvents source, id); none where the event has no identity. A repetition
    /// within the window is not applied again.
    pub identity: Option<u128>,
    /// For an event given again from quarantine: the sequence it had on arrival. It loses against
    /// facets changed since.
    pub arrival: Option<Sequence>,
    /// What is to be done.
    pub effect: Effect,
}

/// What an event does.
#[derive(Clone, Debug)]
pub enum Effect {
    /// These changes, together or not at all.
    Changes(Vec<FacetChange>),
    /// Nothing: a filter dropped it, or it mapped to no change. Only its identity is remembered.
    Filtered,
    /// It is kept aside with the reason.
    Quarantine(Box<Quarantined>),
}

/// A change whose owner and lane are settled.
#[derive(Clone, Debug)]
pub struct FacetChange {
    /// Type and key.
    pub id: EntityId,
    /// Name of the facet.
    pub facet: Arc<str>,
    /// Who writes it.
    pub owner: Arc<str>,
    /// The lane whose place the entity takes.
    pub lane: Lane,
    /// The owner's version.
    pub version: Option<u64>,
    /// Valid JSON text; none deletes.
    pub value: Option<Arc<str>>,
    /// [`crate::index::value_hash`] of the value, computed by whoever made the change, away from
    /// the writer.
    pub hash: u64,
}

/// An event set aside because a plugin failed on it or it names what it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The event as the plugins were given it.
    pub event: Event,
    /// Lane asked for by the request (`?lane=`), so that a redrive takes the same.
    pub lane: Option<Lane>,
    /// Why.
    pub failure: Failure,
    /// The plugin that failed and the first 12 digits of its SHA-256, if it was one.
    pub plugin: Option<String>,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its changes were checked and what was left of them is written.
    Accepted {
        /// Changes that got a sequence.
        committed: u32,
        /// Changes whose value equals the stored one.
        unchanged: u32,
        /// Changes older than the stored version, or than a facet changed since the arrival of a
        /// redriven event.
        stale: u32,
    },
    /// Dropped by a filter or mapped to nothing.
    Filtered,
    /// Kept aside; the sequence it has from now on.
    Quarantined(Sequence),
    /// Seen before within the identity window.
    Repeated,
    /// Nothing was written, because a limit is reached; the sender should be told.
    NoRoom(NoRoom),
}

/// Which limit an event met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// The type has `entities_max` entities and this key is new (507).
    Entities,
    /// The entity has [`crate::model::FACETS_MAX`] facets and this one is new (the event should be
    /// quarantined).
    Facets,
    /// The source's quarantine is full (503).
    Quarantine,
}

/// What became of a request: one verdict an event, in order, and the sequence up to which all of it
/// is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// One an event, in the order given.
    pub verdicts: Vec<Verdict>,
    /// Head of the sequence after the request.
    pub sequence: Sequence,
}

/// Answers when the commit is durable. A closed receiver means that the store has failed and the
/// process is about to end.
pub type Receipt = oneshot::Receiver<Result<Committed, Error>>;

/// Why a store could not do what was asked; the variants are what the caller decides on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The commit queue is full: nothing was taken, try again later.
    #[error("the store is busy: {waiting} changes wait to be written")]
    Busy {
        /// How many changes wait.
        waiting: usize,
    },
    /// Nothing was taken and nothing can be until an operator acts, for example because the disk is
    /// full.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// Stored bytes are not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

/// A refused entity with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub ordinal: Ordinal,
    /// Type and key.
    pub id: EntityId,
    /// Why.
    pub failure: Failure,
    /// The revision that was refused.
    pub revision: Sequence,
    /// When.
    pub time: Timestamp,
}

/// A quarantined event as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedEvent {
    /// The sequence it got on arrival; its identifier in lists.
    pub sequence: Sequence,
    /// When.
    pub time: Timestamp,
    /// The event and why.
    pub event: Quarantined,
}

/// What a type's limits are, as far as the store enforces them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most entities for each type; types not named are not bounded.
    pub entities_max: Vec<(Arc<str>, u64)>,
    /// Quarantined events kept for each source before its new ones are answered 503.
    pub quarantine_max: u64,
    /// How long a deleted facet keeps its version, in milliseconds.
    pub forget_ms: u64,
}

/// Upper bounds of the buckets in which seconds of a durable write are counted; one more is for
/// what took longer. A good disk syncs in less than a millisecond, a bad one in a second.
pub const COMMIT_SECONDS: [f64; 11] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0,
];

/// Figures of the store itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Live entities.
    pub entities: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes free on that disk.
    pub disk_free: u64,
    /// Head of the durable sequence.
    pub sequence: Sequence,
    /// Writes of commits, synced, since the store was opened, by how long they took: one figure for
    /// each of [`COMMIT_SECONDS`] and one for the longer ones, not cumulative; and the sum in
    /// seconds.
    pub commit_seconds: ([u64; COMMIT_SECONDS.len() + 1], f64),
}

/// The store. Every call returns at once but for short disk reads; commits answer through their
/// receipt.
pub trait Store: Send + Sync + 'static {
    /// Sets the limits; they hold from the next commit on.
    fn limit(&self, limits: Limits);

    /// Hands events over to be written. They are written in the order of the calls; the receipt
    /// answers when all is durable.
    ///
    /// # Errors
    /// `Busy` and `Unavailable`; in both cases nothing was taken.
    fn commit(&self, events: Vec<Commit>) -> Result<Receipt, Error>;

    /// The head of the durable sequence, as it rises.
    fn watermark(&self) -> watch::Receiver<Sequence>;

    /// When the change with that sequence was committed, to about a second.
    fn time_of(&self, sequence: Sequence) -> Timestamp;

    /// The ordinal of an entity.
    fn find(&self, id: &EntityId) -> Option<Ordinal>;

    /// Entities as they are now, possibly ahead of the watermark; none where one has been
    /// forgotten.
    fn read(&self, ordinals: &[Ordinal]) -> Result<Vec<Option<Arc<Entity>>>, Error>;

    /// Entities of a type in the order of their keys, from after `after`, with a key that starts
    /// with `prefix`; with `owed`, only those that the channel still owes.
    fn list(
        &self,
        entity_type: &str,
        prefix: &str,
        after: Option<&str>,
        owed: Option<ChannelId>,
        limit: usize,
    ) -> Vec<(Ordinal, EntityId)>;

    /// A channel joins, returns, or joins again with another subscription. A new channel, a changed
    /// shape and a return start a sweep; a changed target makes all that it holds unknown as well.
    fn join(&self, name: &str, subscription: &Subscription) -> Result<Joined, Error>;

    /// Numbers and names of all channels that are remembered, and whether each is live.
    fn channels(&self) -> Vec<(ChannelId, String, bool)>;

    /// A channel leaves the configuration: what it delivered is remembered, it walks no more. Its
    /// flights must have ended.
    fn retire(&self, channel: ChannelId) -> Result<(), Error>;

    /// Forgets a retired channel and all it delivered. Answers false if it is live.
    fn forget_channel(&self, channel: ChannelId) -> Result<bool, Error>;

    /// A channel has another name from now on (`was`). Answers false if there is none of the old
    /// name or one of the new.
    fn rename(&self, old: &str, new: &str) -> Result<bool, Error>;

    /// Remembers whether a channel is paused.
    fn set_paused(&self, channel: ChannelId, paused: bool) -> Result<(), Error>;

    /// Sweeps once more: with `lost`, nothing is certain and all is sent (`resync`); without, what
    /// differs (`rerender`).
    fn resweep(&self, channel: ChannelId, lost: bool) -> Result<(), Error>;

    /// Meets the next places of a lane, or the next entities of the sweep, up to `limit` of them
    /// taken, and puts those that must be delivered into `taken`. Answers whether there may be
    /// more.
    fn walk(&self, channel: ChannelId, track: Track, limit: usize, taken: &mut Vec<Taken>) -> bool;

    /// Takes a parked or held entity for a retry; none if it is not parked any more or already in
    /// flight.
    fn retry(&self, channel: ChannelId, ordinal: Ordinal) -> Option<Taken>;

    /// To be called before an attempt is made: from now on what the target holds of these is
    /// unknown.
    fn attempt(&self, channel: ChannelId, ordinals: &[Ordinal]);

    /// Ends flights. Those that changed meanwhile are in flight again at once and come back in
    /// `again`.
    fn finish(&self, channel: ChannelId, ends: &[Finish], again: &mut Vec<Taken>);

    /// Writes positions, pairs and parked sets that have changed since the last save, for each
    /// channel in one atomic write, and forgets entities that are gone everywhere. Called about
    /// once a second and at stop.
    fn save(&self, now: Timestamp) -> Result<(), Error>;

    /// What a channel still has before it.
    fn owed(&self, channel: ChannelId) -> Owed;

    /// Where an entity stands on a channel; none if the channel does not subscribe to its type.
    fn standing(&self, channel: ChannelId, ordinal: Ordinal) -> Option<Standing>;

    /// Refused entities of a channel in the order of their ordinals, from after `after`.
    fn refused(
        &self,
        channel: ChannelId,
        after: Option<Ordinal>,
        limit: usize,
    ) -> Result<Vec<Refused>, Error>;

    /// Makes refused entities parked again, to be retried; answers how many were.
    fn redrive(&self, channel: ChannelId, ordinals: &[Ordinal]) -> Vec<Parked>;

    /// Drops refused entities: they count as settled until they change.
    fn drop_refused(&self, channel: ChannelId, ordinals: &[Ordinal]) -> Result<usize, Error>;

    /// Quarantined events of a source, oldest first, from after `after`.
    fn quarantined(
        &self,
        source: &str,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<QuarantinedEvent>, Error>;

    /// How many events of a source are in quarantine.
    fn quarantine_count(&self, source: &str) -> u64;

    /// Removes events from quarantine; answers how many were there.
    fn unquarantine(&self, source: &str, sequences: &[Sequence]) -> Result<usize, Error>;

    /// Whether commits can be taken.
    ///
    /// # Errors
    /// Why not, in a sentence: it has failed for good, or the disk is full for now.
    fn ready(&self) -> Result<(), Error>;

    /// Figures for metrics.
    fn figures(&self) -> Figures;

    /// Stops taking commits, writes what waits, saves, and lets go of the files.
    fn close(&self) -> Result<(), Error>;
}

/// The digest of a rendering: of its key, content type and body. 52 bits, so that what a channel
/// knows of an entity fits in 16 bytes; 0 and 1 are left out for the store's own use.
///
/// XXH3 over length-prefixed parts: two renderings that differ only in where the key ends differ
/// here too.
pub fn digest(rendering: &crate::model::Rendering) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for part in [
        rendering.key.as_deref().map(str::as_bytes),
        rendering.content_type.as_deref().map(str::as_bytes),
        Some(rendering.body.as_bytes()),
    ] {
        hasher.update(
            &part
                .map_or(u64::MAX, |bytes| bytes.len() as u64)
                .to_le_bytes(),
        );
        hasher.update(part.unwrap_or_default());
    }
    (hasher.digest() >> 12).max(2)
}
