//! A few open connections, for the next attempt.
//!
//! A target makes at most `concurrency` attempts at a time, so there are never more connections than that.
//! The one that was used last is used next, and those that are not needed any more are closed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::connect::{Conn, Dialer};
use super::error::Failed;
use crate::sync::lock;

/// The longest that a connection is used, less up to a fifth: a password that was changed, a right that was
/// taken, and another server behind the same name are noticed in this time.
const AGE_MAX: Duration = Duration::from_secs(30 * 60);
/// How long a connection stays open without being used.
const UNUSED_MAX: Duration = Duration::from_secs(5 * 60);

/// Open connections.
pub(super) struct Pool {
    pub(super) dialer: Dialer,
    idle: Mutex<Vec<(Conn, Instant)>>,
    /// Rises when all connections are given up.
    round: AtomicU64,
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Pool {
        Pool {
            dialer,
            idle: Mutex::default(),
            round: AtomicU64::new(0),
        }
    }

    /// A connection that is open, and whether it is new.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn take(&self) -> Result<(Conn, bool), Failed> {
        let round = self.round.load(Ordering::Relaxed);
        let age_max = AGE_MAX.mul_f64(1.0 - fastrand::f64() / 5.0);
        loop {
            let Some((conn, _)) = lock(&self.idle).pop() else {
                break;
            };
            if conn.round == round && !conn.client.is_closed() && conn.since.elapsed() < age_max {
                return Ok((conn, false));
            }
        }
        Ok((self.dialer.connect(round).await?, true))
    }

    /// Takes back a connection on which nothing is open.
    pub(super) fn give(&self, conn: Conn) {
        let mut idle = lock(&self.idle);
        let current = conn.round == self.round.load(Ordering::Relaxed);
        // The longest unused are at the bottom.
        idle.retain(|(conn, used)| !conn.client.is_closed() && used.elapsed() < UNUSED_MAX);
        if current && !conn.client.is_closed() {
            idle.push((conn, Instant::now()));
        }
    }

    /// Gives up all connections: the next attempt resolves the names again.
    pub(super) fn renew(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        lock(&self.idle).clear();
    }
}
