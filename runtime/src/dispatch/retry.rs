//! When a failed delivery is tried again, as a function of attempts and chance.

use std::time::Duration;

/// A schedule of retries: `first`, then each time `factor` longer, up to `cap`; with full jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The longest wait before the first retry; 1 s.
    pub first: Duration,
    /// How much longer each next wait is; 2.
    pub factor: f64,
    /// The longest wait of all; 10 min.
    pub cap: Duration,
    /// Attempts after which the entity stays parked at `cap`; 12. It is never dropped.
    pub attempts: u8,
}
