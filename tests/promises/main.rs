//! Promises checked from inside: what every store must do, and random histories of the embedded
//! store against the specification.

mod certain;
mod contract;
mod full;
mod histories;
mod integrity;
mod world;
