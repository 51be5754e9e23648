//! The state that every handler and guard of a listener shares.

use std::sync::Arc;

use super::answers::Answers;
use super::arrivals::Arrivals;
use super::sessions::Sessions;
use super::snapshots::Snapshots;
use super::stream::Streams;
use super::tap::Taps;
use super::{Backend, Limits};
use crate::budget::Budget;

/// The state of one listener.
pub(super) struct AppState {
    /// The running Weir.
    pub(super) backend: Arc<dyn Backend>,
    /// Limits on what a client may cost.
    pub(super) limits: Arc<Limits>,
    /// The memory that requests to sources in progress share, on all listeners.
    pub(super) memory: Budget,
    /// The memory that bodies share while they arrive, on all listeners.
    pub(super) arrivals: Arrivals,
    /// What the answers of admin routes may cost, on all listeners.
    pub(super) answers: Arc<Answers>,
    /// Who is signed in, on all listeners.
    pub(super) sessions: Arc<Sessions>,
    /// The figures that scrapes share, on all listeners.
    pub(super) snapshots: Arc<Snapshots>,
    /// The streams of consoles, on all listeners.
    pub(super) streams: Arc<Streams>,
    /// The taps, on all listeners.
    pub(super) taps: Arc<Taps>,
    /// Whether this listener has an address of this machine only.
    pub(super) loopback: bool,
}

impl AppState {
    /// Who reaches this listener now.
    pub(super) fn reach(&self) -> Reach {
        let front = self.backend.front();
        Reach {
            private: self.loopback && !front.is_behind_proxy(),
            origin: front.public_origin.clone(),
        }
    }
}

/// Who reaches a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// Only programs of this machine.
    pub(super) private: bool,
    /// The origin that browsers know it by, if a proxy makes it another one than the host that requests name.
    pub(super) origin: Option<String>,
}
