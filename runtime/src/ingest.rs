//! Takes events in: event → filter → map → ownership → one commit.
//!
//! [`Source::accept`] returns only when everything in a request is durable; if only part of a
//! request was taken, the result says so. It is independent of the transport: [`http`] turns an
//! HTTP request into an [`Incoming`] and a [`Rejection`] into a status. A request is processed in
//! this order, and each step can return early:
//!
//! 1. Reject it if it is too large, or if there is no memory for it now.
//! 2. Reject it if its sender cannot be verified, on the raw bytes. A sender that only asks whether
//!    somebody is there is answered ([`handshake`]), where that is configured.
//! 3. Reject it if it cannot be cut into events, or keep it as it is if the source is configured so. If only
//!    some items cannot be read, they are *quarantined* (dead letter) as their bytes, and the others continue
//!    ([`envelope`] has the rules).
//! 4. Each event goes through the source's plugins, and each change is checked. An event that fails
//!    is quarantined too: kept with the reason, and the request still succeeds.
//! 5. Commit everything and wait until it is durable. If the store does not take all of it, the
//!    rejection has a summary of the part that was taken.

mod activity;
mod change;
pub mod charset;
pub mod envelope;
pub mod form;
pub mod handshake;
pub mod http;
mod incoming;
mod json;
mod media;
mod named;
pub mod naming;
mod preview;
mod rate;
mod redrive;
mod source;
pub mod split;
mod stretch;
mod tapped;
mod traced;
mod unpack;
mod unreadable;
pub mod verify;

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use activity::{Activity, Counts};
pub use change::check;
pub use incoming::{Headers, Incoming};
pub use named::Named;
pub use preview::{Looked, Prospect};
pub use source::Source;
pub use unreadable::beginning;

use crate::budget::Exhausted;
use crate::model::{Event, Failure};
use crate::plugin::{EventVerdict, Role, Room};

/// Maximum number of problems listed in one summary; the rest are only counted, so that it stays
/// small.
pub const PROBLEMS_MAX: usize = 100;

/// The most bytes that a source may allow for a body (`body_max`): 64 MiB. With more, a few senders
/// would fill the memory for requests.
pub const BODY_BYTES_MAX: u64 = 64 << 20;

/// A source, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name in routes and metrics.
    pub name: Arc<str>,
    /// The owner whose facets it writes; several sources may have the same owner.
    pub owner: Arc<str>,
    /// How a body that is not a CloudEvent is cut into events.
    pub split: split::Split,
    /// Patterns of headers that are passed to plugins, in lower case; one `*` at the end stands for
    /// anything.
    pub headers: Vec<String>,
    /// Where events that are not CloudEvents have their id and type.
    pub naming: naming::Naming,
    /// How the sender is verified.
    pub verify: verify::Options,
    /// How the sender asks whether somebody is there, before it sends events.
    pub handshake: Option<handshake::Handshake>,
    /// The source counts as silent after this long without an event.
    pub quiet: Option<Duration>,
    /// The longest body, decompressed, in bytes; 8 MiB.
    pub body_bytes_max: u64,
    /// The encoding of text about which nothing else says in which it is; `None` means UTF-8.
    pub encoding: Option<charset::Charset>,
    /// What the event of a form is.
    pub form: form::Form,
    /// Whether a body that cannot be read is kept in quarantine and answered like one that was taken, because
    /// its sender would not send it again after a 400.
    pub unreadable: bool,
}

/// A source's filters and mapper, as ingest sees them: events in, one verdict each out, in order.
pub trait Mapping: Send + Sync {
    /// Runs some of the events through the same chain. The verdicts are those on the first of them,
    /// in order: fewer than there are events if `room` has no place for more.
    fn map<'a>(
        &'a self,
        events: Arc<Vec<Event>>,
        range: Range<usize>,
        room: &'a Arc<Room>,
    ) -> Verdicts<'a>;

    /// What each event passes, in order: the labels of plugins, each with its role.
    fn stages(&self) -> Vec<(Arc<str>, Role)> {
        Vec::new()
    }
}

/// The future verdicts.
pub type Verdicts<'a> = Pin<Box<dyn Future<Output = Vec<EventVerdict>> + Send + 'a>>;

/// The result of a request, each part of which is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events by result; items that could not be read count as quarantined.
    pub events: EventCounts,
    /// Changes of the accepted events, by result.
    pub changes: ChangeCounts,
    /// Quarantined events and items, by index, the first [`PROBLEMS_MAX`].
    pub problems: Vec<ItemProblem>,
    /// Head of the sequence after the request: everything it brought is at or below it.
    pub sequence: u64,
    /// The entities that its events name, if that was asked for.
    pub named: Named,
}

/// Events by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Their changes were checked and written where they differ.
    pub accepted: u64,
    /// Dropped by a filter, or mapped to nothing.
    pub filtered: u64,
    /// Kept with the reason (dead letter).
    pub quarantined: u64,
    /// Seen before.
    pub repeated: u64,
}

impl EventCounts {
    fn add(&mut self, other: EventCounts) {
        self.accepted += other.accepted;
        self.filtered += other.filtered;
        self.quarantined += other.quarantined;
        self.repeated += other.repeated;
    }
}

/// Changes by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeCounts {
    /// Written.
    pub committed: u64,
    /// Equal to the stored value.
    pub unchanged: u64,
    /// Older than what is stored.
    pub stale: u64,
}

impl ChangeCounts {
    fn add(&mut self, other: ChangeCounts) {
        self.committed += other.committed;
        self.unchanged += other.unchanged;
        self.stale += other.stale;
    }
}

/// The problem of one item of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemProblem {
    /// The index of the item, from 0.
    pub index: usize,
    /// For machines; stable, in kebab-case.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl ItemProblem {
    fn new(index: usize, failure: Failure) -> ItemProblem {
        ItemProblem {
            index,
            code: failure.code,
            detail: failure.message,
        }
    }
}

/// Why a request was not taken, or only in part; each variant tells the sender what to do about it.
/// `taken` is a summary of the part that was taken; when the request is sent again, its events with
/// an identity count as repeated and the others as unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Send something else.
    Malformed {
        /// The reason and the place.
        failure: Failure,
        /// The malformed items, if there were several.
        problems: Vec<ItemProblem>,
    },
    /// Prove who you are.
    NotVerified(verify::NotVerified),
    /// Send less at once.
    TooLarge {
        /// The bound.
        limit: u64,
        /// The unit of `limit`.
        unit: &'static str,
    },
    /// Send another format.
    UnsupportedMediaType {
        /// The formats that are understood.
        detail: String,
    },
    /// Send it again in a moment: there is no memory for it now.
    Overloaded {
        /// The part that was taken before memory was short.
        taken: Box<Summary>,
    },
    /// Send it again in a moment, and slower: the store is behind.
    Busy {
        /// The part that was taken before it was full.
        taken: Box<Summary>,
    },
    /// Stop sending new keys: a type has as many entities as it may have.
    NoRoom {
        /// The rest of the request.
        taken: Box<Summary>,
    },
    /// An operator must look at the quarantine first.
    QuarantineFull {
        /// The rest of the request.
        taken: Box<Summary>,
    },
    /// An operator must look at the store first.
    Unavailable {
        /// For the log; may name paths.
        reason: String,
        /// The part that was durable before.
        taken: Box<Summary>,
    },
}

impl Rejection {
    /// A stable name in kebab-case; for a malformed request, the code of its failure.
    pub fn code(&self) -> &str {
        match self {
            Rejection::Malformed { failure, .. } => &failure.code,
            Rejection::NotVerified(_) => "not-verified",
            Rejection::TooLarge { .. } => "too-large",
            Rejection::UnsupportedMediaType { .. } => "unsupported-media-type",
            Rejection::Overloaded { .. } => "overloaded",
            Rejection::Busy { .. } => "busy",
            Rejection::NoRoom { .. } => "no-room",
            Rejection::QuarantineFull { .. } => "quarantine-full",
            Rejection::Unavailable { .. } => "unavailable",
        }
    }

    /// When to try again, where that helps by itself.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Rejection::Overloaded { .. } | Rejection::Busy { .. } => Some(Duration::from_secs(1)),
            Rejection::Unavailable { .. } => Some(Duration::from_secs(5)),
            Rejection::QuarantineFull { .. } => Some(Duration::from_secs(60)),
            _ => None,
        }
    }

    /// A summary of the part of the request that was taken all the same.
    pub fn taken(&self) -> Option<&Summary> {
        match self {
            Rejection::Overloaded { taken } => {
                Some(&**taken).filter(|taken| **taken != Summary::default())
            }
            Rejection::Busy { taken }
            | Rejection::NoRoom { taken }
            | Rejection::QuarantineFull { taken }
            | Rejection::Unavailable { taken, .. } => Some(taken),
            _ => None,
        }
    }

    /// What is wrong with the request, as the failure of what it contains.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Rejection::Malformed { failure, .. } => failure,
            other => Failure::new(other.code(), other.to_string()),
        }
    }

    /// The same with another failure, if the request is malformed.
    fn with_failure(self, change: impl FnOnce(Failure) -> Failure) -> Rejection {
        match self {
            Rejection::Malformed { failure, problems } => Rejection::Malformed {
                failure: change(failure),
                problems,
            },
            other => other,
        }
    }

    /// The items that have a problem of their own.
    pub fn problems(&self) -> &[ItemProblem] {
        match self {
            Rejection::Malformed { problems, .. } => problems,
            _ => self.taken().map_or(&[], |taken| &taken.problems),
        }
    }
}

impl fmt::Display for Rejection {
    /// A sentence for the sender.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Malformed { failure, .. } => f.write_str(&failure.message),
            Rejection::NotVerified(reason) => reason.fmt(f),
            Rejection::TooLarge { limit, unit } => write!(f, "the request has more than {limit} {unit}; send several smaller ones"),
            Rejection::UnsupportedMediaType { detail } => f.write_str(detail),
            Rejection::Overloaded { .. } => f.write_str("too many requests are in memory; send it again in a moment"),
            Rejection::Busy { .. } => f.write_str("the store is behind with writing; send it again in a moment, and slower"),
            Rejection::NoRoom { .. } => {
                f.write_str("an entity type has `entities_max` entities and the request brings new keys; the problems say which events")
            }
            Rejection::QuarantineFull { .. } => f.write_str(
                "the quarantine of this source is full; an operator must redrive or drop events before it takes failing ones again",
            ),
            Rejection::Unavailable { .. } => f.write_str("the store cannot write now; send it again later"),
        }
    }
}

impl std::error::Error for Rejection {}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Rejection {
        Rejection::Malformed {
            failure,
            problems: Vec::new(),
        }
    }
}

impl From<Exhausted> for Rejection {
    fn from(exhausted: Exhausted) -> Rejection {
        match exhausted {
            Exhausted::Now => Rejection::Overloaded {
                taken: Box::default(),
            },
            Exhausted::Ever { limit } => Rejection::TooLarge {
                limit,
                unit: "bytes once it is in memory",
            },
        }
    }
}

impl From<verify::NotVerified> for Rejection {
    fn from(reason: verify::NotVerified) -> Rejection {
        Rejection::NotVerified(reason)
    }
}

#[cfg(test)]
mod tests;
