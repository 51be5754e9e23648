//! The base of the tests from outside: Weir in a folder of its own, senders, receivers, and guests.
//!
//! Everything runs on loopback. Nothing here sleeps for a fixed time: [`eventually`] waits until a
//! condition is met, and fails after a deadline with the condition it waited for.

#[allow(dead_code)]
pub mod browser;
pub mod bus;
pub mod components;
pub mod disk;
pub mod engine;
pub mod guests;
pub mod http;
pub mod ledger;
pub mod moto;
#[allow(dead_code)]
pub mod otlp;
pub mod parts;
#[allow(dead_code)]
pub mod postgres;
pub mod proxy;
pub mod receiver;
pub mod stage;
pub mod weir;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use self::engine::{Dialect, Engine, Mood};
pub use self::http::Reply;
pub use self::ledger::Ledger;
pub use self::receiver::{Act, Receiver};
pub use self::stage::{Stage, change, deletion};

/// How long a condition may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often a test repeats something: `usual`, which a run of all tests can afford, or the number
/// in this environment variable, for a long run by hand.
pub fn repeats(variable: &str, usual: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(usual)
}

/// Says that it is over when it is dropped: also if the story fails, because its threads are waited for.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits until `look` returns something, and returns it.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Like [`eventually`], with another deadline.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            start.elapsed() < patience,
            "not within {patience:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a value is as expected; otherwise fails with the last value seen.
#[track_caller]
pub fn becomes<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: T,
    mut look: impl FnMut() -> T,
) {
    let start = Instant::now();
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        if start.elapsed() > PATIENCE {
            panic!("not within {PATIENCE:?}: {what}\n expected: {expected:?}\n     seen: {seen:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
