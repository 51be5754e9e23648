//! Lines for the operator, up to a number of bytes per batch. In a native test they go to standard
//! error. The log is not part of a plugin's output.

use std::fmt::Display;

/// The importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the author, when looking for a fault in the plugin.
    Debug,
    /// For the operator's information.
    Info,
    /// Something needs attention, but the plugin continued.
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
