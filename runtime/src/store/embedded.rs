//! sled.
