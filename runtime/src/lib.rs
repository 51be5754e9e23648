//! Weir takes in events from enterprise systems, maps them with Wasm plugins, and lets each channel
//! fetch what is true now, at its own pace.
//!
//! The rooms, in the order in which a newcomer should read them; `ARCHITECTURE.md` describes the path
//! of one event through them, and `tests/tidy` checks which room may use which.
//!
//! 1. `model`: the values: entities, facets, changes, events, renderings; no I/O, no clock.
//! 2. `index`: the change index: places, walking, flights and pairs, in memory.
//! 3. `store`: what a store promises, and the stores. `store::memory` is the specification: no
//!    configuration selects it, and random histories compare the embedded one (sled) with it.
//! 4. `plugin`: serving plugins: loads components and calls them within limits.
//! 5. `author`: making plugins: tool chains, templates, cases, the test harness.
//! 6. `ingest`: event → filter → map → ownership → one commit.
//! 7. `dispatch`: a channel's life: walk, read as it is now, render, suppress, deliver, settle.
//! 8. `targets`: where deliveries go: HTTP below, one file for each kind above.
//! 9. `config`: the configuration as written.
//! 10. `plan`: the configuration as understood, with every complaint at once.
//! 11. `app`: makes a plan true: starts, applies a difference, stops.
//! 12. `server`: the HTTP routes.
//! 13. `cli`: the commands.
//!
//! Low rooms that any other may use: `metrics` (every counter, as text for a scraper), `signature`
//! (secrets and signatures), `budget` (the memory of everything that is being taken in), `failpoint` (places where a test has a running Weir killed, panic or
//! wait), `exit` (exit codes) and `sync` (locks).
//!
//! The product is the program, so [`cli::run`] is the public interface. Everything else is private to
//! the crate, so that the compiler finds code that nobody uses; [`inside`] opens a few items to this
//! repository's own tests and benchmarks.

pub(crate) mod app;
pub(crate) mod author;
pub(crate) mod budget;
pub mod cli;
pub(crate) mod config;
pub(crate) mod dispatch;
pub(crate) mod exit;
pub(crate) mod failpoint;
pub(crate) mod index;
pub(crate) mod ingest;
pub(crate) mod metrics;
pub(crate) mod model;
pub(crate) mod plan;
pub(crate) mod plugin;
pub(crate) mod server;
pub(crate) mod signature;
pub(crate) mod store;
pub(crate) mod sync;
pub(crate) mod targets;

/// Items for the tests and benchmarks of this repository, which are crates of their own. Not an
/// interface: anything here may change or go at any time.
#[doc(hidden)]
pub mod inside;
