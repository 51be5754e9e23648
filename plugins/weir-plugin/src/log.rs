//! Lines for the operator, up to a budget of bytes a batch; in a native test they go to standard
//! error. Never an output: what a plugin gives back may not depend on them.

use std::fmt::Display;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks for a fault in the plugin.
    Debug,
    /// For whoever wants to know what it does.
    Info,
    /// Something should be repaired, and the plugin went on.
    Warn,
    /// Something failed.
    Error,
}

/// Writes a line at [`Level::Debug`].
pub fn debug(message: impl Display) {
    write(Level::Debug, &message.to_string());
}

/// Writes a line at [`Level::Info`].
pub fn info(message: impl Display) {
    write(Level::Info, &message.to_string());
}

/// Writes a line at [`Level::Warn`].
pub fn warn(message: impl Display) {
    write(Level::Warn, &message.to_string());
}

/// Writes a line at [`Level::Error`].
pub fn error(message: impl Display) {
    write(Level::Error, &message.to_string());
}

/// Writes a line.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::guest::bindings::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}
