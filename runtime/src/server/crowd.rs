//! The connections of one listener, and which of them are closed when there is no place for another.
//!
//! A client that waits costs nothing but its place, so thousands could hold all places for ever. When
//! the listener is full, the connections with the weakest claim are closed
//! ([`super::pulse::Pulse::claim`]), so that a new client always gets in as long as one of the others
//! waits. The last places are kept for the operator: through them, no events are taken, and a client
//! gets one only if none of the others waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::Limits;
use super::pulse::{Claim, Pulse};
use crate::sync::lock;

/// How often a full listener looks again for a connection to close.
const LOOK: Duration = Duration::from_millis(100);
/// The shortest time between two warnings that a listener is full.
const WARNING: Duration = Duration::from_secs(60);

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Crowd {
    /// Places in all.
    max: usize,
    /// Those of them that are kept for the operator.
    kept: usize,
    members: Mutex<Members>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Members {
    last: u64,
    pulses: HashMap<u64, Arc<Pulse>>,
    warned: Option<Instant>,
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    /// The connection's phase and clocks.
    pub(super) pulse: Arc<Pulse>,
    /// Whether it is one of those that are kept for the operator.
    pub(super) kept: bool,
}

impl Crowd {
    /// `max` places, of which `kept` are for the operator.
    pub(super) fn new(max: usize, kept: usize) -> Arc<Crowd> {
        Arc::new(Crowd {
            max,
            kept: kept.min(max / 2),
            members: Mutex::default(),
            left: Notify::new(),
        })
    }

    /// Waits for a place, and has others closed if there is none.
    pub(super) async fn enter(self: &Arc<Crowd>, limits: &Arc<Limits>) -> Place {
        let began = Instant::now();
        loop {
            if let Some(place) = self.take_place(limits, began) {
                return place;
            }
            // Either one has left, or by now another client has used up its time.
            let _ = timeout(LOOK, self.left.notified()).await;
        }
    }

    /// A place for a client that has waited since `began`.
    fn take_place(self: &Arc<Crowd>, limits: &Arc<Limits>, began: Instant) -> Option<Place> {
        let mut members = lock(&self.members);
        let (taken, now) = (members.pulses.len(), Instant::now());
        let for_all = self.max - self.kept;
        if taken >= for_all {
            let leaves = members.make_room(taken - for_all + 1, self.max, now);
            if taken >= self.max || (leaves && now - began < LOOK) {
                return None;
            }
        }
        members.last += 1;
        let (id, pulse) = (members.last, Arc::new(Pulse::new(limits.clone())));
        members.pulses.insert(id, pulse.clone());
        Some(Place {
            crowd: self.clone(),
            id,
            pulse,
            kept: taken >= for_all,
        })
    }
}

impl Members {
    /// Closes the connections with the weakest claims: `least` if there are so many, and a few at once,
    /// since each look at a full listener looks at all of them. Nothing if some are being closed
    /// already. Returns whether any are.
    fn make_room(&mut self, least: usize, max: usize, now: Instant) -> bool {
        if self.pulses.values().any(|pulse| pulse.is_closing()) {
            return true;
        }
        let claims = self.pulses.values();
        let mut claims: Vec<(Claim, &Arc<Pulse>)> = claims
            .filter_map(|pulse| Some((pulse.claim(now)?, pulse)))
            .collect();
        claims.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        claims.truncate((max / 64).max(least));
        let closed = claims.len();
        claims.iter().for_each(|(_, pulse)| pulse.close());
        if self.warned.is_none_or(|warned| now - warned >= WARNING) {
            self.warned = Some(now);
            tracing::warn!(
                connections = self.pulses.len(),
                closed,
                "a listener has as many connections as it may have; for each new one, those that \
                 have waited longest are closed"
            );
        }
        closed > 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.crowd.members).pulses.remove(&self.id);
        self.crowd.left.notify_one();
    }
}
