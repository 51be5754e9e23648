//! The room's vocabulary: roles, limits, faults and verdicts.
//!
//! These values have no behaviour of their own. Every other file of the room may use this file; it
//! uses none of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Change, Failure, Rendering};

/// The reason why the host cannot start: the machine lacks a resource.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Error {
    what: &'static str,
    why: String,
}

impl Error {
    pub(super) fn new(what: &'static str, why: impl fmt::Display) -> Error {
        Error {
            what,
            why: format!("{why:#}"),
        }
    }
}

/// The reason why a plugin cannot be used, or why a call of it failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file or the chain cannot be used; the version in use keeps serving. A sentence.
    #[error("{0}")]
    Unusable(String),
    /// The plugin rejects its settings: correct the configuration. A sentence that quotes the
    /// plugin.
    #[error("{0}")]
    Settings(String),
    /// A call failed: its items have no result.
    #[error("{what}")]
    Breach {
        /// The rule that was broken.
        breach: Breach,
        /// A sentence that includes the last error that the plugin logged.
        what: String,
    },
}

impl Fault {
    /// A stable identifier for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Unusable(_) => "unusable",
            Fault::Settings(_) => "settings",
            Fault::Breach { breach, .. } => breach.code(),
        }
    }

    /// The fault as the failure of an item.
    pub(crate) fn failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string())
    }

    /// Whether the host has too many instances at the moment; the plugin is not to blame.
    pub(crate) fn is_exhaustion(&self) -> bool {
        matches!(
            self,
            Fault::Breach {
                breach: Breach::Host,
                ..
            }
        )
    }
}

/// The ways in which a call can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Exceeded its time limit.
    Time,
    /// Exceeded its memory limit.
    Memory,
    /// Exceeded its output limit.
    Output,
    /// Exhausted the stack, for example by endless recursion.
    Stack,
    /// Any other trap: a panic, a division by zero.
    Trap,
    /// Returned another number of results than items.
    WrongLength,
    /// The host could not run it; the plugin is not to blame.
    Host,
}

impl Breach {
    /// Whether it is the time limit that was exceeded.
    pub(super) fn is_time(self) -> bool {
        self == Breach::Time
    }

    /// A stable identifier for programs.
    pub fn code(self) -> &'static str {
        match self {
            Breach::Time => "time-limit",
            Breach::Memory => "memory-limit",
            Breach::Output => "output-limit",
            Breach::Stack => "stack-limit",
            Breach::Trap => "trap",
            Breach::WrongLength => "wrong-length",
            Breach::Host => "host",
        }
    }
}

/// A role that a component plays; it may play several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Drops events of a source.
    EventFilter,
    /// Turns an event into changes.
    Mapper,
    /// Drops entities of a channel.
    EntityFilter,
    /// Turns an entity into a payload.
    Renderer,
}

impl Role {
    /// All roles, filters before mappers and renderers.
    pub const ALL: [Role; 4] = [
        Role::EventFilter,
        Role::Mapper,
        Role::EntityFilter,
        Role::Renderer,
    ];

    /// Its name, which is also the name of its interface.
    pub fn name(self) -> &'static str {
        match self {
            Role::EventFilter => "event-filter",
            Role::Mapper => "mapper",
            Role::EntityFilter => "entity-filter",
            Role::Renderer => "renderer",
        }
    }
}

/// How much a plugin may use. Each bound applies to one batch of up to 64 items or 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Processor time, which guards against hangs; 1 s. Wall time would blame a plugin for a busy
    /// machine, so a call may last five times as long.
    pub time: Duration,
    /// Linear memory of an instance, in bytes; 64 MiB.
    pub memory_bytes: usize,
    /// Bytes that a batch may return, which are copied into the host and so not covered by the
    /// memory limit; 16 MiB.
    pub output_bytes: usize,
    /// Bytes that a batch may log; 64 KiB.
    pub log_bytes: usize,
    /// Whether each batch gets a new instance, so that nothing can be remembered from one to the
    /// next. It costs an instantiation and a configuration per batch.
    pub strict: bool,
}

/// The priority of a batch in the queue of the workers, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A sender waits for the response.
    Ingest,
    /// Renderings for the urgent and normal lanes.
    Urgent,
    /// Renderings for the bulk lane and for sweeps.
    Bulk,
}

/// The result of a source's chain for one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventVerdict {
    /// The mapper returned these changes; an empty list means filtered.
    Changes(Vec<Change>),
    /// No filter dropped it, and the chain has no mapper.
    Passed,
    /// The filter of this name dropped it.
    Filtered(Arc<str>),
    /// A plugin failed on it.
    Failed(Failed),
}

/// The result of a channel's chain for one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityVerdict {
    /// The renderer returned this.
    Rendering(Rendering),
    /// No filter dropped it, and the chain has no renderer.
    Passed,
    /// The filter at this position dropped it.
    Filtered(usize),
    /// The renderer returned that it is not for this channel.
    NotRendered,
    /// A plugin failed on it.
    Failed(Failed),
}

/// The codes with which the kits report a bug of the author's function: it raised an exception, or
/// returned something that is no result. An item that the author declines has another code.
const MISTAKES: [&str; 2] = ["exception", "wrong-answer"];

/// Whether a failure with this code, which a plugin returned, shows a bug of it.
pub(crate) fn is_mistake(code: &str) -> bool {
    MISTAKES.contains(&code)
}

/// A plugin's failure on an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Name and the first 12 digits of the SHA-256, for example `erp@3fa9c1b2d0e4`.
    pub plugin: String,
    /// The plugin's own failure, or the host's (`time limit of 1 s exceeded`).
    pub failure: Failure,
    /// True: the plugin trapped, broke a limit, raised an exception, or returned something unusable.
    /// False: it declined the item by its own rules.
    pub fault: bool,
}

impl Failed {
    /// Whether the host could not run the item; no plugin is to blame.
    pub fn is_of_host(&self) -> bool {
        self.fault && self.failure.code == Breach::Host.code()
    }

    /// A failure of the host itself.
    pub(super) fn by_host(why: &str) -> Failed {
        Failed {
            plugin: "host".into(),
            failure: Failure::new(Breach::Host.code(), why),
            fault: true,
        }
    }
}
