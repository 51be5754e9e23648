//! The words of the queue: a channel's subscription, its leases, and how flights end.

use std::sync::Arc;

use crate::model::{Failure, Ordinal, Sequence, Timestamp, Track};

/// A channel, as the store numbers it. Kept over restarts, also while the channel is retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u16);

/// A channel's wishes, as far as the store must know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The entity type.
    pub entity_type: Arc<str>,
    /// Facet patterns, as [`crate::model::facet_matches`] understands them.
    pub facets: Vec<String>,
    /// Digest of all that makes the renderings: entity, facets, needs, filters, renderer, settings,
    /// `deliver`. A different one than last time is a new shape: everything is swept and what
    /// differs is sent.
    pub shape: u64,
    /// What the shape is made of, in words, for people (`storefront-page 3fa9c1b2`); the receipt of
    /// "which plugin rendered it".
    pub shape_label: String,
    /// Digest of kind, URL, index or path of the target. A different one than last time: nothing
    /// there is certain, all is sent.
    pub target: u64,
}

/// How the store found a channel that has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Whether a sweep was started, because the channel is new, returned, or its shape or target
    /// changed.
    pub swept: bool,
    /// Whether it was paused when Weir last stopped.
    pub paused: bool,
    /// Entities that wait for a retry or are held, with their attempts so far.
    pub parked: Vec<Parked>,
}

/// An entity that waits for its retry on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Which entity.
    pub ordinal: Ordinal,
    /// Counted attempts so far, at most 255.
    pub attempts: u8,
    /// True: held by the guard against mass withdrawal, released by `confirm`; false: retried by
    /// time.
    pub held: bool,
}

/// An entity taken for delivery on one channel: in flight until `Queue::settle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which entity.
    pub ordinal: Ordinal,
    /// The entity is read when the watermark has come to this: the durable head when it was taken,
    /// or its newest change if that was decided but not yet durable. The delivery's revision is the
    /// larger of this and the newest sequence that is read; the latter may be ahead of the
    /// watermark, and then the delivery waits for the watermark.
    pub revision: Sequence,
    /// What the target holds.
    pub holds: Holds,
    /// The key under which the target holds it, where a renderer chose one that is not the entity's
    /// key.
    pub target_key: Option<Arc<str>>,
    /// Counted attempts so far; 0 unless this is a retry.
    pub attempts: u8,
    /// Where it was met, for lane-aware slots; a retry has the lane of its newest owed change.
    pub track: Track,
    /// Sequence of the oldest change that this delivery owes; 0 when only the shape differs.
    pub owed_since: Sequence,
}

/// What a target holds of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Certainly nothing.
    Nothing,
    /// An attempt may or may not have been applied.
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
        /// The key the target knows it by, where it is not the entity's key.
        target_key: Option<Arc<str>>,
    },
    /// The target certainly holds nothing now: a deletion was delivered.
    Withdrawn,
    /// Not sent, because the target certainly holds just this.
    Suppressed,
    /// Nothing to be there and certainly nothing there; why, as an index into the channel's
    /// reasons: 0 deleted, 1 needs, 2 the renderer said no, 3 + n the n-th filter.
    Withheld(u8),
    /// Rendered and counted, but this channel sends nothing (`deliver = false`); what the target
    /// holds is as before.
    Counted,
    /// The attempt failed, or none was possible; to be retried. What the target holds is unknown if
    /// one was made.
    Parked {
        /// Counted attempts so far.
        attempts: u8,
    },
    /// A withdrawal that the guard holds back until it is confirmed.
    Held,
    /// The target will not take it as it is (or a plugin failed on it); kept with the reason.
    Refused(Failure),
}

/// How the flight of one entity ended, with the revision that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Which entity.
    pub ordinal: Ordinal,
    /// All changes up to it are in what was delivered.
    pub revision: Sequence,
    /// How it ended.
    pub ending: Ending,
}

/// Where an entity stands on a channel, as a user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never met.
    New,
    /// See [`Ending`].
    Delivered,
    /// See [`Ending`].
    Suppressed,
    /// With the reason's index.
    Withheld(u8),
    /// See [`Ending`].
    Withdrawn,
    /// With counted attempts.
    Parked(u8),
    /// See [`Ending`].
    Held,
    /// See [`Ending`].
    Refused,
    /// Counted, not sent.
    Counted,
}

/// An entity's standing on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How its last flight ended.
    pub state: State,
    /// All changes up to it are settled.
    pub revision: Sequence,
    /// When that revision was the head: the time of the last settling, to about a second.
    pub since: Timestamp,
    /// What the target holds.
    pub holds: Holds,
    /// Whether a change of a subscribed facet is newer than the revision, or the shape differs.
    pub owed: bool,
    /// Whether a delivery is in flight.
    pub in_flight: bool,
    /// Label of the shape that made the last rendering, empty if there was none.
    pub shape_label: String,
    /// Sequence of the newest change the channel must deliver.
    pub newest: Sequence,
}

/// What a channel still has before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Places ahead in each lane, an upper bound of entities owed.
    pub lanes: [u64; 3],
    /// Entities that the sweep has still before it; 0 when there is none.
    pub sweep: u64,
    /// Entities in flight.
    pub in_flight: u64,
    /// Entities waiting for a retry.
    pub parked: u64,
    /// Withdrawals held by the guard.
    pub held: u64,
    /// Entities refused.
    pub refused: u64,
    /// Entities of which the target holds something, or may.
    pub holding: u64,
    /// Sequence of the oldest change still owed, parked and held ones included; none when nothing
    /// is owed.
    pub oldest: Option<Sequence>,
    /// When that change was committed, to about a second.
    pub oldest_time: Option<Timestamp>,
}
