//! What must not be left half done: a panic in it ends the process, and the next start begins anew
//! from what is saved.

use crate::exit;

/// Held while something is done that would be wrong half done. Dropped by a panic, it ends the
/// process.
///
/// A channel's loop that is gone would leave its entities in flight for good, and a configuration
/// that took over by half would serve half of each. Both would look well from outside.
pub struct Unbroken(
    /// What it is, for the log.
    pub String,
);

impl Drop for Unbroken {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "{} panicked, which is a bug of Weir; this process ends with code {}, and a start begins anew",
                self.0,
                exit::BROKEN
            );
            std::process::exit(exit::BROKEN.into());
        }
    }
}
