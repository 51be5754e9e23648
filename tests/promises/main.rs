//! Tests of Weir's promises through internal interfaces: the contract of every store, random
//! histories of the embedded store against the specification, and the kit and the languages of
//! plugin authors.

#[path = "../support/components.rs"]
mod components;

mod aside;
mod backup;
mod certain;
mod conformance;
mod contract;
mod files;
mod foreseen;
mod full;
mod histories;
mod integrity;
mod kit;
mod owed;
mod quiet;
mod reclaimed;
mod rescued;
mod turns;
mod world;
