//! Event → filter → map → ownership → one commit.
//!
//! This room answers a request of a source only when all that it brought is durable; a request is
//! never half taken without saying so. What a request becomes is decided in this order, and each
//! step leaves early:
//!
//! 1. It is too large, or there is no memory for it now: 413, 503.
//! 2. Its sender cannot be verified, on the raw bytes: 401.
//! 3. It cannot be cut into events: 400, 415. What can be understood of it goes on ([`envelope`]
//!    says where the line is).
//! 4. Each event goes through the source's plugins, and each change is checked. One that fails is
//!    *quarantined*: kept, with the reason, and part of a `202`.
//! 5. All is handed to the store and awaited: 202, or 429, 503 and 507 with what was taken all the
//!    same.

mod activity;
mod body;
mod change;
pub mod envelope;
mod json;
mod media;
mod rate;
mod redrive;
mod source;
pub mod split;
pub mod verify;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::Serialize;

pub use activity::{Activity, STATUSES};
pub use body::{Budget, Reservation};
pub use redrive::Selection;
pub use source::Source;

use crate::model::{Event, Failure, Lane, Timestamp};
use crate::plugin::EventVerdict;

/// The most problems told in one answer; the rest are counted only, so that an answer stays small.
pub const PROBLEMS_MAX: usize = 100;

/// A source as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name in routes and metrics.
    pub name: Arc<str>,
    /// Whose facets it writes; several sources may write one owner's.
    pub owner: Arc<str>,
    /// How a body that is no CloudEvent is cut into events.
    pub split: split::Split,
    /// Patterns of headers let through to plugins, in lower case; one `*` at the end stands for
    /// anything.
    pub headers: Vec<String>,
    /// How the sender is verified.
    pub verify: verify::Options,
    /// No event for so long: the source counts as silent.
    pub quiet: Option<Duration>,
    /// The longest body, decompressed, in bytes; 8 MiB.
    pub body_bytes_max: u64,
}

/// A source's filters and mapper, as ingest sees them: events in, one verdict each out, in order.
pub trait Mapping: Send + Sync {
    /// Runs all events through one and the same chain.
    fn map(&self, events: Arc<Vec<Event>>) -> Verdicts<'_>;
}

/// The verdicts to come, one an event.
pub type Verdicts<'a> = Pin<Box<dyn Future<Output = Vec<EventVerdict>> + Send + 'a>>;

/// A request to a source, read but not looked into.
#[derive(Debug)]
pub struct Request<'a> {
    /// All its headers.
    pub headers: &'a HeaderMap,
    /// Its body as received.
    pub body: Bytes,
    /// `?lane=`: for changes that name none themselves.
    pub lane: Option<Lane>,
    /// When it came.
    pub now: Timestamp,
    /// What was reserved before the body was read ([`Source::reserve`]); none: it is done now.
    pub reservation: Option<Reservation>,
}

/// What became of a request of which everything is durable; its JSON is what the sender gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Events by what became of them. Malformed items are in `problems` only.
    pub events: EventCounts,
    /// Changes of the accepted events.
    pub changes: ChangeCounts,
    /// Malformed items and quarantined events, by index, the first [`PROBLEMS_MAX`].
    pub problems: Vec<Problem>,
    /// Head of the sequence after the request: all it brought is at or below it.
    pub sequence: u64,
}

/// Events by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EventCounts {
    /// Their changes were checked and written where they differ.
    pub accepted: u64,
    /// Dropped by a filter, or mapped to nothing.
    pub filtered: u64,
    /// Set aside with the reason.
    pub quarantined: u64,
    /// Seen before.
    pub repeated: u64,
}

/// Changes by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChangeCounts {
    /// Written.
    pub committed: u64,
    /// Equal to the stored value.
    pub unchanged: u64,
    /// Older than what is stored.
    pub stale: u64,
}

/// Something about one item of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Which item, from 0.
    pub index: usize,
    /// For machines; stable, in kebab-case.
    pub code: String,
    /// For people.
    pub detail: String,
}

impl Problem {
    fn new(index: usize, failure: Failure) -> Problem {
        Problem {
            index,
            code: failure.code,
            detail: failure.message,
        }
    }
}

/// The items of a request that were no events: all are counted, the first are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Malformed {
    /// How many.
    pub count: usize,
    /// The first of them.
    pub first: Vec<Problem>,
}

impl Malformed {
    fn note(&mut self, problem: Problem) {
        self.count += 1;
        if self.first.len() < PROBLEMS_MAX {
            self.first.push(problem);
        }
    }

    /// When nothing else was there: the first problem stands for the request.
    fn into_rejection(self) -> Rejection {
        let mut failure = self.first.first().map_or_else(
            || Failure::new("malformed", "nothing in the request could be understood"),
            |problem| Failure::new(problem.code.as_str(), problem.detail.as_str()),
        );
        if self.count > 1 {
            failure.message = format!(
                "none of the {} events could be understood; the first: {}",
                self.count, failure.message
            );
            return Rejection::Malformed {
                failure,
                problems: self.first,
            };
        }
        Rejection::Malformed {
            failure,
            problems: Vec::new(),
        }
    }
}

/// Why a request was not answered `202`; the variants are what the sender has to do about it. Where
/// some of it was taken all the same, `taken` says what; sent again, events with an identity are
/// then counted as repeated and others as unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Send something else (400).
    Malformed {
        /// What is wrong and where.
        failure: Failure,
        /// The items it was found in, if there were several.
        problems: Vec<Problem>,
    },
    /// Prove who you are (401).
    NotVerified(verify::NotVerified),
    /// Send less at once (413).
    TooLarge {
        /// How much is allowed.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// Send another format (415).
    UnsupportedMediaType {
        /// Which formats are understood.
        detail: String,
    },
    /// Send it again in a moment: there is no memory for it now and nothing was looked at (503).
    Overloaded,
    /// Send it again in a moment, and slower: the store is behind (429).
    Busy {
        /// What was taken before it was full.
        taken: Box<Answer>,
    },
    /// Stop sending new keys: a type has as many entities as it may have (507).
    NoRoom {
        /// The rest of the request.
        taken: Box<Answer>,
    },
    /// An operator must look at the quarantine first (503).
    QuarantineFull {
        /// The rest of the request.
        taken: Box<Answer>,
    },
    /// An operator must look at the store first (503).
    Unavailable {
        /// For the log; may name paths.
        reason: String,
        /// What was durable before.
        taken: Box<Answer>,
    },
}

impl Rejection {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Rejection::Malformed { .. } => StatusCode::BAD_REQUEST,
            Rejection::NotVerified(_) => StatusCode::UNAUTHORIZED,
            Rejection::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Rejection::UnsupportedMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Rejection::Busy { .. } => StatusCode::TOO_MANY_REQUESTS,
            Rejection::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Rejection::Overloaded
            | Rejection::QuarantineFull { .. }
            | Rejection::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// A stable name in kebab-case; of a malformed request the code of what is wrong with it.
    pub fn code(&self) -> &str {
        match self {
            Rejection::Malformed { failure, .. } => &failure.code,
            Rejection::NotVerified(_) => "not-verified",
            Rejection::TooLarge { .. } => "too-large",
            Rejection::UnsupportedMediaType { .. } => "unsupported-media-type",
            Rejection::Overloaded => "overloaded",
            Rejection::Busy { .. } => "busy",
            Rejection::NoRoom { .. } => "no-room",
            Rejection::QuarantineFull { .. } => "quarantine-full",
            Rejection::Unavailable { .. } => "unavailable",
        }
    }

    /// When to try again, where that helps by itself.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Rejection::Overloaded | Rejection::Busy { .. } => Some(Duration::from_secs(1)),
            Rejection::Unavailable { .. } => Some(Duration::from_secs(5)),
            Rejection::QuarantineFull { .. } => Some(Duration::from_secs(60)),
            _ => None,
        }
    }

    /// What was taken although the request was not answered `202`.
    pub fn taken(&self) -> Option<&Answer> {
        match self {
            Rejection::Busy { taken }
            | Rejection::NoRoom { taken }
            | Rejection::QuarantineFull { taken }
            | Rejection::Unavailable { taken, .. } => Some(taken),
            _ => None,
        }
    }

    /// Items with a problem of their own.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Rejection::Malformed { problems, .. } => problems,
            _ => self.taken().map_or(&[], |taken| &taken.problems),
        }
    }
}

impl fmt::Display for Rejection {
    /// The sentence for the sender.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Malformed { failure, .. } => f.write_str(&failure.message),
            Rejection::NotVerified(reason) => reason.fmt(f),
            Rejection::TooLarge { limit, unit } => write!(f, "the request has more than {limit} {unit}; send several smaller ones"),
            Rejection::UnsupportedMediaType { detail } => f.write_str(detail),
            Rejection::Overloaded => f.write_str("too many requests are in memory; send it again in a moment"),
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

impl From<verify::NotVerified> for Rejection {
    fn from(reason: verify::NotVerified) -> Rejection {
        Rejection::NotVerified(reason)
    }
}

#[cfg(test)]
mod tests;
