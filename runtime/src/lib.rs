//! Weir takes in events from enterprise systems, maps them with Wasm plugins, and lets each channel draw what is true now.
//!
//! The rooms, in the order in which a newcomer should read them. `ARCHITECTURE.md` tells the path of one event through them.

/// The words: entities, facets, changes, events, renderings; values without I/O or clock.
pub mod model;
/// The change index: places, walking, flights and pairs, in memory.
pub mod index;
/// What a store promises, and the stores: in memory (the specification) and embedded (sled).
pub mod store;
/// The plugins in force: load one, call it, bound it.
pub mod plugin;
/// Event → filter → map → ownership → one commit.
pub mod ingest;
/// A channel's life: walk, read as it is now, render, suppress, deliver, settle.
pub mod dispatch;
/// Where deliveries go.
pub mod target;
/// The file as written.
pub mod config;
/// The file as understood, every complaint at once.
pub mod plan;
/// Makes a plan true: start, apply a difference, stop.
pub mod app;
/// The HTTP routes.
pub mod server;
/// Every figure that is counted, in one struct.
pub mod metrics;
/// The commands.
pub mod cli;
