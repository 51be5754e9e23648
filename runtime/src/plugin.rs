//! The plugins in force: components are loaded, configured and called here, each call within its limits.
//!
//! This room alone knows wasmtime and the types of the plugin interface. It promises that a plugin gets nothing but its
//! input and `log`, that a call ends within its limits, that a fault costs the one item that caused it, and that a batch is
//! handled by one chain from its first filter to its last retry.

/// From a plugin's source to its component.
pub mod toolchain;

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Change, Event, Failure, Rendering, View};

/// How much a plugin may use; each bound is for one batch of at most 64 items or 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time, a guard against hangs on a machine that may be busy; 1 s.
    pub time: Duration,
    /// Linear memory of an instance, in bytes; 64 MiB.
    pub memory_bytes: usize,
    /// What a batch may give back, copied into the host; 16 MiB. Memory limits do not see it.
    pub output_bytes: usize,
    /// What a batch may log; 64 KiB.
    pub log_bytes: usize,
}

/// Which queue of the workers a batch waits in; the order is the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for an answer.
    Ingest,
    /// Renderings for the urgent and normal lanes.
    Urgent,
    /// Renderings for the bulk lane and for sweeps.
    Bulk,
}

/// What became of an event in its source's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventVerdict {
    /// The mapper gave these changes; none at all means filtered.
    Changes(Vec<Change>),
    /// No filter dropped it, and the chain has no mapper.
    Passed,
    /// A filter dropped it: which.
    Filtered(Arc<str>),
    /// A plugin failed on it.
    Failed(Failed),
}

/// What became of an entity in a channel's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityVerdict {
    /// The renderer gave this.
    Rendering(Rendering),
    /// No filter dropped it, and the chain has no renderer.
    Passed,
    /// The n-th filter dropped it.
    Filtered(usize),
    /// The renderer said that it is not for this channel.
    NotRendered,
    /// A plugin failed on it.
    Failed(Failed),
}

/// Which plugin failed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Name and the first 12 digits of the SHA-256, for example `erp@3fa9c1b2d0e4`.
    pub plugin: String,
    /// What it said, or what the host says of it (`time limit of 1 s exceeded`).
    pub failure: Failure,
}
