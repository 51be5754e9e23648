//! Tells others when something needs an operator, and when it no longer does: `[[notify]]`.
//!
//! Once a second the application looks which [`Condition`]s hold; the [`Board`] remembers since when, and how
//! often each has begun. Each receiver is a task that compares the board with what it has sent (`told`) and
//! sends what is missing, one request at a time. So nothing is queued: a receiver that does not answer learns
//! later what is true then, its memory is bounded by the number of channels, sources and targets, and nothing
//! ever waits for it. What was sent is not kept over a restart: a condition that still holds is sent once more.

mod board;
mod notice;
mod receiver;
mod told;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use self::board::{Board, Entries};
pub use self::receiver::{Counts, Receiver, Running};
use crate::model::Timestamp;
use crate::targets::webhook;

/// A receiver as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where notices are posted, and how they are signed.
    pub webhook: webhook::Options,
    /// What it wants to hear of.
    pub on: BTreeSet<Kind>,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A target is in trouble, and nothing is delivered to it.
    Tripped,
    /// One of the other conditions, of which the receiver has been told, is over.
    Recovered,
    /// A channel holds back withdrawals, or a feed a generation, until an operator confirms them.
    Held,
    /// A source has sent no event for its `quiet`.
    Silent,
    /// A channel's oldest change has been owed for longer than its `freshness`.
    Late,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 5] = [
        Kind::Tripped,
        Kind::Recovered,
        Kind::Held,
        Kind::Silent,
        Kind::Late,
    ];

    /// The word in the configuration and in notices.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tripped => "tripped",
            Kind::Recovered => "recovered",
            Kind::Held => "held",
            Kind::Silent => "silent",
            Kind::Late => "late",
        }
    }
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A target.
    Target(Arc<str>),
    /// A channel.
    Channel(Arc<str>),
    /// A source.
    Source(Arc<str>),
}

impl Subject {
    fn kind(&self) -> &'static str {
        match self {
            Subject::Target(_) => "target",
            Subject::Channel(_) => "channel",
            Subject::Source(_) => "source",
        }
    }

    fn name(&self) -> &Arc<str> {
        match self {
            Subject::Target(name) | Subject::Channel(name) | Subject::Source(name) => name,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// Something that needs an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Any kind but [`Kind::Recovered`].
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// Since when it holds.
    pub since: Timestamp,
    /// Why, in the words of the status.
    pub reason: String,
    /// What an operator does about it, as a sentence.
    pub remedy: String,
    /// The channels that deliver to the target.
    pub channels: Vec<Arc<str>>,
    /// Which of the subjects that ever had this name it is: a reload may put another one in its place.
    pub identity: usize,
}

type Key = (Kind, Subject);
