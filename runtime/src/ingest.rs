//! Event → filter → map → ownership → one commit.
//!
//! This room answers a request of a source only when all that it brought is durable; a request is never half taken without
//! saying so.

pub mod envelope;
pub mod split;
pub mod verify;

use std::sync::Arc;
use std::time::Duration;

/// A source as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name in routes and metrics.
    pub name: Arc<str>,
    /// Whose facets it writes; several sources may write one owner's.
    pub owner: Arc<str>,
    /// How a body that is no CloudEvent is cut into events.
    pub split: split::Split,
    /// Patterns of headers let through to plugins, in lower case; one `*` at the end stands for anything.
    pub headers: Vec<String>,
    /// How the sender is verified.
    pub verify: verify::Options,
    /// No event for so long: the source counts as silent.
    pub quiet: Option<Duration>,
    /// The longest body, decompressed, in bytes; 8 MiB.
    pub body_bytes_max: u64,
}
