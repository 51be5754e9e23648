//! The vocabulary of the queue: a channel's subscription, the entities it takes, and how their
//! flights end.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{EntityId, Failure, Lane, Ordinal, Sequence, Timestamp, Track};

/// The number that the store gives a channel. It is kept across restarts, and also while the
/// channel is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u16);

/// A channel's subscription, as far as the store must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The entity type.
    pub entity_type: Arc<str>,
    /// Facet patterns, as [`crate::model::facet_matches`] understands them.
    pub facets: Vec<String>,
    /// Fingerprint of everything that shapes the renderings: entity, facets, needs, filters,
    /// renderer, settings and `deliver`. If it differs from the last one, the channel has a new
    /// shape: all entities are swept, and those whose rendering differs are sent.
    pub shape: u64,
    /// The shape in words, for people (`storefront-page 3fa9c1b2`); it shows which plugin rendered
    /// an entity.
    pub shape_label: String,
    /// Digest of the target's kind and its URL, index or path. If it differs from the last one,
    /// nothing that the target holds is certain and everything is sent.
    pub target: u64,
    /// How long the channel waits until an entity is quiet; `None` if it does not wait. It shapes no
    /// rendering, and each join sets it.
    pub debounce: Option<Debounce>,
}

/// How long a channel waits until an entity is quiet before it sends it. What it meets in the urgent
/// lane does not wait, and neither does a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// The time without a change after which an entity is quiet. Times of changes are known to less than
    /// half a second, or to two hundredths of their age.
    pub quiet: Duration,
    /// The longest wait, counted from the first change that was not sent. Without it, an entity that
    /// changes all the time would never be sent.
    pub max: Duration,
}

impl Debounce {
    /// When the wait ends for an entity of which the first unsent change and the newest one have these
    /// times.
    pub fn ends(self, first: Timestamp, newest: Timestamp) -> Timestamp {
        let after = |time: Timestamp, wait: Duration| {
            Timestamp(time.0.saturating_add(wait.as_millis() as u64))
        };
        after(first, self.max).min(after(newest, self.quiet))
    }
}

/// How the store found a channel that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether a sweep was started because the channel is new, has returned, or has another shape
    /// or target.
    pub swept: bool,
    /// Whether it was paused when Weir last stopped.
    pub paused: bool,
    /// The entities that wait for a retry or are held, with their attempts so far.
    pub parked: Vec<Parked>,
    /// As last set by `Queue::set_withdrawals`.
    pub withdrawals: Withdrawals,
}

/// How many deletes a channel has sent, by the times from which they are counted; the oldest first.
pub type Withdrawals = Vec<(Timestamp, u64)>;

/// An entity that waits for its retry on one channel, or is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The entity.
    pub ordinal: Ordinal,
    /// Counted attempts so far, at most 255.
    pub attempts: u8,
    /// True if the guard against mass withdrawal holds it until `confirm`; false if it waits for
    /// the time of its retry.
    pub held: bool,
}

/// An entity taken for delivery on one channel; it is in flight until `Queue::settle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The entity.
    pub ordinal: Ordinal,
    /// The entity must not be read before the watermark has reached this sequence: the durable head
    /// when it was taken, or the entity's newest change if that was decided but not yet durable.
    /// The delivery's revision is this or the newest sequence that was read, whichever is larger;
    /// the latter may be ahead of the watermark, and then the delivery waits for the watermark.
    pub revision: Sequence,
    /// The content of the target, as far as it is known.
    pub holds: Holds,
    /// Whether the target held nothing for certain when the last flight ended, and no attempt was
    /// made since. If `holds` is unknown all the same (`resync`), a delete only repeats.
    pub was_absent: bool,
    /// The key under which the target holds it, if a renderer chose one that differs from the
    /// entity's key.
    pub target_key: Option<Arc<str>>,
    /// Up to which sequence everything of it is settled. What the target holds, if that is certain, has no
    /// newer one.
    pub settled: Sequence,
    /// Counted attempts so far; 0 unless this is a retry.
    pub attempts: u8,
    /// Where it was met, which decides the slot that it takes; a retry has the lane of its newest
    /// owed change.
    pub track: Track,
    /// The sequence of the oldest change that this delivery owes; 0 if only the shape differs.
    pub owed_since: Sequence,
    /// When that change was committed, to about a second and never later.
    pub owed_at: Timestamp,
}

/// The content of a target for one entity, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Certainly nothing.
    Nothing,
    /// Unknown: an attempt may or may not have been applied.
    Unknown,
    /// Certainly the rendering with this digest (see `store::digest`).
    Rendering(u64),
}

/// How the flight of one entity ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The target certainly holds the rendering with this digest now.
    Delivered {
        /// Digest of the rendering.
        digest: u64,
        /// The key under which the target knows it, if it differs from the entity's key.
        target_key: Option<Arc<str>>,
    },
    /// The target certainly holds nothing now: a deletion was delivered.
    Withdrawn,
    /// Not sent, because the target certainly holds exactly this rendering.
    Suppressed,
    /// Not for this channel, and the target certainly holds nothing. The number is the reason: 0
    /// deleted, 1 needs, 2 declined by the renderer, 3 + n the n-th filter.
    Withheld(u8),
    /// Rendered and counted only, because the channel sends nothing (`deliver = false`). What the
    /// target holds does not change.
    Counted,
    /// The attempt failed, or none was possible; the entity will be retried. If an attempt was
    /// made, what the target holds is unknown.
    Parked {
        /// Counted attempts so far.
        attempts: u8,
    },
    /// A withdrawal that the guard holds back until it is confirmed.
    Held,
    /// The target does not accept it as it is, or a plugin failed on it (a dead letter); kept with
    /// the reason.
    Refused(Failure),
}

/// How the flight of one entity ended, with the revision that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The entity.
    pub ordinal: Ordinal,
    /// All changes up to this one are contained in the delivery.
    pub revision: Sequence,
    /// How it ended.
    pub ending: Ending,
}

/// The state of an entity on a channel, as users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never met.
    New,
    /// See [`Ending`].
    Delivered,
    /// See [`Ending`].
    Suppressed,
    /// See [`Ending`]; with the number of the reason.
    Withheld(u8),
    /// See [`Ending`].
    Withdrawn,
    /// See [`Ending`]; with the counted attempts.
    Parked(u8),
    /// See [`Ending`].
    Held,
    /// See [`Ending`].
    Refused,
    /// See [`Ending`].
    Counted,
    /// It has changed, and waits until it is quiet.
    Waiting {
        /// The lane in which it will be sent.
        lane: Lane,
        /// Whether the state before was an absent one.
        was_absent: bool,
    },
}

impl State {
    /// Whether the target certainly held nothing when this state was reached.
    pub fn is_absent(self) -> bool {
        match self {
            State::Withdrawn | State::Withheld(_) => true,
            State::Waiting { was_absent, .. } => was_absent,
            _ => false,
        }
    }
}

/// An entity's standing on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How its last flight ended.
    pub state: State,
    /// All changes up to this one are settled.
    pub revision: Sequence,
    /// The time of the oldest change owed, or else of the last settling; to about a second. `None` if
    /// neither is known.
    pub since: Option<Timestamp>,
    /// The content of the target, as far as it is known.
    pub holds: Holds,
    /// Whether a change of a subscribed facet is newer than the revision, or the shape differs.
    pub owed: bool,
    /// Whether a delivery is in flight.
    pub in_flight: bool,
    /// Until when it waits to be quiet, if it does and does not change again.
    pub waits_until: Option<Timestamp>,
    /// The lane of its most urgent change that is owed; `None` if no change is owed.
    pub lane: Option<Lane>,
    /// Label of the shape that made the last rendering, empty if there was none.
    pub shape_label: String,
    /// The sequence of the newest change of a subscribed facet.
    pub newest: Sequence,
    /// Whether the channel has another shape than its last rendering of the entity, or another target,
    /// so that a sweep must come to it.
    pub reshaped: bool,
}

impl Standing {
    /// Whether the channel owes, has parked and has in flight nothing of the entity up to this
    /// sequence. What is held is not settled.
    ///
    /// While the channel owes a newer change and its last rendering is older than `sequence`, it is not
    /// known whether a change in between was of a facet that it subscribes to: a facet shows only its
    /// newest one. Then this is false.
    pub fn has_settled(&self, sequence: Sequence) -> bool {
        if self.reshaped {
            return false;
        }
        if self.newest > self.revision {
            return self.revision >= sequence;
        }
        // Without a change it was redriven or is sent once more.
        !self.in_flight && !matches!(self.state, State::Parked(_) | State::Held)
    }
}

/// An entity that a channel owes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldestOwed {
    /// The entity.
    pub ordinal: Ordinal,
    /// Its type and key.
    pub id: EntityId,
    /// The sequence of the oldest change that is owed; without one, of the state that is sent once more.
    pub since: Sequence,
    /// When that change was committed, to about a second, or since when it is to be sent once more.
    pub time: Timestamp,
}

/// The work that a channel still has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Places ahead in each lane, and entities that wait until they are quiet: an upper bound of the
    /// entities owed.
    pub lanes: [u64; 3],
    /// Those of them that wait until they are quiet.
    pub waiting: u64,
    /// Ordinals still ahead of a running sweep, an upper bound of its entities; 0 if none is running.
    pub sweep: u64,
    /// Entities in flight.
    pub in_flight: u64,
    /// Entities waiting for a retry.
    pub parked: u64,
    /// Withdrawals held by the guard.
    pub held: u64,
    /// Entities refused (dead letters).
    pub refused: u64,
    /// Entities of which the target holds something or may hold something.
    pub holding: u64,
    /// The sequence of the oldest change still owed, including parked and held ones, also when newer
    /// changes cover it; `None` if nothing is owed.
    pub oldest: Option<Sequence>,
    /// Since when something is owed: when that change was committed, to about a second, or when the first of
    /// what is parked without a change began to wait, because it is sent once more.
    pub oldest_time: Option<Timestamp>,
    /// The oldest change still owed that is not held, and when it was committed.
    pub oldest_not_held: Option<(Sequence, Timestamp)>,
    /// By lane, when the oldest change that was not tried yet might first have been sent: the time of
    /// the change, or the end of its wait to be quiet, which may lie ahead.
    pub due: [Option<Timestamp>; 3],
    /// The same for entities in flight, parked and held.
    pub tried: [Option<Timestamp>; 3],
}

impl Owed {
    /// Everything that is still to be done, wherever it waits: an upper bound of the entities owed.
    pub fn total(&self) -> u64 {
        self.lanes.iter().sum::<u64>() + self.sweep + self.in_flight + self.parked + self.held
    }
}
