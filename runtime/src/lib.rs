//! Weir takes in events from enterprise systems, maps them with Wasm plugins, and lets each channel
//! draw what is true now.
//!
//! The rooms, in the order in which a newcomer should read them. `ARCHITECTURE.md` tells the path
//! of one event through them.

/// Makes a plan true: start, apply a difference, stop.
pub mod app;
/// One budget of memory for everything that is being taken in.
pub mod budget;
/// The commands.
pub mod cli;
/// The file as written.
pub mod config;
/// A channel's life: walk, read as it is now, render, suppress, deliver, settle.
pub mod dispatch;
/// Places where a test has a running Weir killed, panic or wait.
pub mod failpoint;
/// The change index: places, walking, flights and pairs, in memory.
pub mod index;
/// Event → filter → map → ownership → one commit.
pub mod ingest;
/// All figures of a moment, as text for whoever scrapes them.
pub mod metrics;
/// The words: entities, facets, changes, events, renderings; values without I/O or clock.
pub mod model;
/// The file as understood, every complaint at once.
pub mod plan;
/// The plugins in force: load one, call it, bound it.
pub mod plugin;
/// The HTTP routes.
pub mod server;
/// Secrets and signatures.
pub mod signature;
/// What a store promises, and the stores: in memory (the specification) and embedded (sled).
pub mod store;
/// Where deliveries go.
pub mod targets;
