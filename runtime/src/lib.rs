//! Weir accepts events from enterprise systems, maps them with Wasm plugins, and lets each channel
//! fetch the current state of each entity at its own pace.
//!
//! The rooms, in the order in which a newcomer should read them; `ARCHITECTURE.md` describes the
//! path of one event through them, and `tests/tidy` checks which room may use which.
//!
//! 1. `model`: the values (entities, facets, changes, events, renderings), without I/O or clock.
//! 2. `index`: the change index: places, walking, flights and pairs, in memory.
//! 3. `store`: the promises of a store, and the stores. `store::memory` is the specification: no
//!    configuration selects it, and random histories compare the embedded store (sled) with it.
//! 4. `plugin`: serves plugins: loads components and calls them within limits.
//! 5. `author`: builds and tests plugins: tool chains, templates, cases, the test harness.
//! 6. `ingest`: event → filter → map → ownership → one commit.
//! 7. `dispatch`: the work of a channel: walk, read the current state, render, suppress, deliver,
//!    settle.
//! 8. `targets`: sends deliveries: one file per kind of target, on top of shared HTTP code.
//! 9. `notify`: tells receivers what needs an operator, and when it is over.
//! 10. `config`: the configuration as it is written in files.
//! 11. `plan`: the checked configuration; reports all problems at once.
//! 12. `app`: puts a plan into effect: starts, applies a difference, stops.
//! 13. `server`: the HTTP routes.
//! 14. `cli`: the commands.
//!
//! Low rooms that any other may use: `metrics` (all counters, as text for a scraper), `signature`
//! (secrets and signatures), `budget` (the memory budget for requests in progress), `failpoint`
//! (places where a test makes a running Weir die, panic or wait), `files` (reading files that may
//! be anything), `happenings` (what just happened to entities, in a bounded ring), `tap` (what passes a
//! source or a channel, for somebody who looks), `traces` (spans for a collector of traces), `plain` (text
//! without control characters), `exit` (exit codes) and `sync` (locks).
//!
//! The product is the program, so [`cli::run`] is the public interface. Everything else is private
//! to the crate, so that the compiler finds unused code; [`inside`] exports a few items for this
//! repository's own tests and benchmarks.

pub(crate) mod app;
pub(crate) mod author;
pub(crate) mod budget;
pub mod cli;
pub(crate) mod config;
pub(crate) mod dispatch;
pub(crate) mod exit;
pub(crate) mod failpoint;
pub(crate) mod files;
pub(crate) mod happenings;
pub(crate) mod index;
pub(crate) mod ingest;
pub(crate) mod metrics;
pub(crate) mod model;
pub(crate) mod notify;
pub(crate) mod plain;
pub(crate) mod plan;
pub(crate) mod plugin;
pub(crate) mod server;
pub(crate) mod signature;
pub(crate) mod store;
pub(crate) mod sync;
pub(crate) mod tap;
pub(crate) mod targets;
pub(crate) mod traces;

/// Items for the tests and benchmarks of this repository, which are crates of their own. Not a
/// public interface: anything here may change or disappear at any time.
#[doc(hidden)]
pub mod inside;
