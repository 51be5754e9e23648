//! The exit codes of the process, which scripts and service managers read.

/// The command failed, or found something wrong.
pub const FAILED: u8 = 1;
/// The command line or its arguments are wrong.
pub const USAGE: u8 = 2;
/// Something could not be reached or opened.
pub const UNREACHABLE: u8 = 3;
/// The store has failed, or a promise can no longer be kept; only a restart helps.
pub const BROKEN: u8 = 70;
