//! Ends the process if it panics where it would leave something half done; the next start goes on
//! from what is saved.

use crate::exit;

/// Held while something is done that would be wrong half done. Dropped by a panic, it ends the
/// process.
///
/// A channel's loop that is gone would leave its entities in flight for good, and a configuration
/// that took over by half would serve half of each. Both would look well from outside.
pub struct AbortOnPanic(
    /// The name of the work, for the log.
    pub String,
);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "{} panicked, which is a bug in Weir; this process exits with code {}, start it again",
                self.0,
                exit::BROKEN
            );
            std::process::exit(exit::BROKEN.into());
        }
    }
}
