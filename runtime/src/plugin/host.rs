//! The host: loads components and runs chains over events and entities, within limits.
//!
//! A process has one host. It owns the engine, the compiled-code cache, the workers and the
//! counters.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::{Event, View};
use crate::plugin::binary::Binary;
use crate::plugin::cache::Cache;
use crate::plugin::chain::{ChannelChain, Items, SourceChain};
use crate::plugin::compile::Apart;
use crate::plugin::compiling::Compiling;
use crate::plugin::component::{Component, Loader};
use crate::plugin::engine::{self, Layout};
use crate::plugin::figures::{Figures, Snapshot};
use crate::plugin::pool::Pool;
use crate::plugin::refusals::Refusals;
use crate::plugin::room::Room;
use crate::plugin::words::{EntityVerdict, Error, EventVerdict, Fault, Limits, Priority};
use crate::plugin::workers::Workers;

/// The options of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that run quick plugins; 8. More than there are cores, because each batch keeps one
    /// for up to 50 ms. Half as many run heavy plugins, and a quarter as many hanging ones.
    pub workers: usize,
    /// Memory of idle instances, of all plugins together, in bytes; 512 MiB.
    pub instance_bytes: usize,
    /// Folder for compiled code; without one, each start compiles every component again.
    pub cache: Option<PathBuf>,
    /// The process that compiles components; without one, they are compiled in this process,
    /// without bounds on time and memory.
    pub compiler: Option<Apart>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            workers: 8,
            instance_bytes: 512 << 20,
            cache: None,
            compiler: None,
        }
    }
}

/// The plugin host: an engine, its workers and its cache. A process has one.
pub struct Host {
    engine: wasmtime::Engine,
    layout: Layout,
    compiler: Option<Apart>,
    cache: Option<Cache>,
    compiling: Compiling,
    refusals: Refusals,
    figures: Figures,
    pool: Arc<Pool>,
    workers: Workers,
}

impl Host {
    /// Starts the engine, its clock and the workers. Logs a warning and runs without a cache if it
    /// cannot be opened.
    ///
    /// # Errors
    /// When the engine or a thread cannot be started.
    pub fn start(options: &Options) -> Result<Arc<Host>, Error> {
        let (engine, layout) = engine::serving(options.workers.max(1))?;
        let cache = options.cache.as_ref().and_then(|directory| {
            let opened = Cache::open(directory, &engine);
            opened.inspect_err(|error| tracing::warn!(directory = %directory.display(), "the cache of compiled plugin code cannot be opened; each start compiles again: {error}")).ok()
        });
        let pool = Arc::new(Pool::new(options.instance_bytes));
        Ok(Arc::new(Host {
            engine,
            layout,
            compiler: options.compiler.clone(),
            cache,
            compiling: Compiling::default(),
            refusals: Refusals::default(),
            figures: Figures::default(),
            workers: Workers::start(options.workers, &pool)?,
            pool,
        }))
    }

    /// Checks a component or a core module that carries its WIT type, and compiles it or takes it
    /// from the cache. Blocks, for minutes if there is much to compile: call it off the serving threads.
    /// Bytes that were refused are refused again at once.
    ///
    /// # Errors
    /// `Unusable`, with a sentence that says what to change.
    pub fn load(
        &self,
        name: &str,
        binary: &Binary,
        limits: Limits,
    ) -> Result<Arc<Component>, Fault> {
        let (layout, apart, cache) = (self.layout, self.compiler.as_ref(), self.cache.as_ref());
        let loader = Loader {
            engine: &self.engine,
            layout,
            apart,
            cache,
            compiling: &self.compiling,
            refusals: &self.refusals,
            figures: &self.figures,
        };
        loader.load(name, binary, limits).map(Arc::new)
    }

    /// Whether this component is being compiled at the moment.
    pub fn is_compiling(&self, binary: &Binary) -> bool {
        self.compiling.has(binary.sha256())
    }

    /// Runs a source's chain over events; returns one verdict per event, in their order. Waits
    /// while too many batches of the chain are queued. Dropping the future abandons batches that
    /// have not started.
    pub async fn map(
        &self,
        chain: &SourceChain,
        events: Arc<Vec<Event>>,
        priority: Priority,
    ) -> Vec<EventVerdict> {
        let all = 0..events.len();
        self.map_within(chain, (events, all), priority, None).await
    }

    /// Runs a source's chain over some of the events; otherwise as [`Host::map`]. Returns the
    /// verdicts on the first of them, fewer than there are events if `room` has no place for more.
    pub async fn map_within(
        &self,
        chain: &SourceChain,
        (events, range): (Arc<Vec<Event>>, Range<usize>),
        priority: Priority,
        room: Option<Arc<Room>>,
    ) -> Vec<EventVerdict> {
        if chain.stages.is_empty() {
            return vec![EventVerdict::Passed; range.len()];
        }
        let items = (Items::Events(events), range);
        let verdicts = self
            .workers
            .run(chain.shared(), items, priority, room)
            .await;
        verdicts
            .into_iter()
            .map(|verdict| chain.verdict(verdict))
            .collect()
    }

    /// Runs a channel's chain over entities; otherwise as [`Host::map_within`].
    pub async fn render(
        &self,
        chain: &ChannelChain,
        entities: Arc<Vec<View>>,
        priority: Priority,
        room: Option<Arc<Room>>,
    ) -> Vec<EntityVerdict> {
        if chain.stages.is_empty() {
            return vec![EntityVerdict::Passed; entities.len()];
        }
        let all = 0..entities.len();
        let items = (Items::Entities(entities), all);
        let verdicts = self
            .workers
            .run(chain.shared(), items, priority, room)
            .await;
        verdicts
            .into_iter()
            .map(|verdict| chain.verdict(verdict))
            .collect()
    }

    /// Calls, time and faults of plugins since the start.
    pub fn figures(&self) -> Snapshot {
        self.figures
            .snapshot(self.workers.waiting(), self.pool.bytes())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
