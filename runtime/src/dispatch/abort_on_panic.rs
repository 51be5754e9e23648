//! Ends the process after a panic that would leave work half done. The next start continues from
//! the saved state.

use crate::exit;

/// A guard to hold during work that must not be left half done. If a panic drops it, it ends the
/// process.
///
/// If a channel's loop died, its entities would stay in flight for ever; if a reload stopped
/// halfway, parts of two configurations would run together. From outside, both would look healthy.
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
