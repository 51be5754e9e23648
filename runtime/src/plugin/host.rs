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
use crate::plugin::component::{Component, Loader};
use crate::plugin::engine::{self, Layout};
use crate::plugin::figures::{Figures, Snapshot};
use crate::plugin::room::Room;
use crate::plugin::words::{DryRun, EntityVerdict, Error, EventVerdict, Fault, Limits, Priority};
use crate::plugin::workers::Workers;

/// The options of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that run plugins; 8. More than there are cores, because a plugin that hangs occupies
    /// one for its whole time limit.
    pub workers: usize,
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
    figures: Figures,
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
        let (compiler, workers) = (options.compiler.clone(), Workers::start(options.workers)?);
        Ok(Arc::new(Host {
            engine,
            layout,
            compiler,
            cache,
            figures: Figures::default(),
            workers,
        }))
    }

    /// Checks a component or a core module that carries its WIT type, and compiles it or takes it
    /// from the cache. Blocks for up to several seconds: call it off the serving threads.
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
            figures: &self.figures,
        };
        loader.load(name, binary, limits).map(Arc::new)
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

    /// Runs a channel's chain over entities; otherwise as [`Host::map`].
    pub async fn render(
        &self,
        chain: &ChannelChain,
        entities: Arc<Vec<View>>,
        priority: Priority,
    ) -> Vec<EntityVerdict> {
        if chain.stages.is_empty() {
            return vec![EntityVerdict::Passed; entities.len()];
        }
        let all = 0..entities.len();
        let items = (Items::Entities(entities), all);
        let verdicts = self
            .workers
            .run(chain.shared(), items, priority, None)
            .await;
        verdicts
            .into_iter()
            .map(|verdict| chain.verdict(verdict))
            .collect()
    }

    /// Runs a source's chain on samples before it takes over. A plugin may decline a sample; that
    /// is not a fault.
    pub async fn try_source(&self, chain: &SourceChain, samples: Arc<Vec<Event>>) -> DryRun {
        let mut dry_run = DryRun::default();
        for verdict in self.map(chain, samples, Priority::Urgent).await {
            match verdict {
                EventVerdict::Changes(changes) if !changes.is_empty() => dry_run.made += 1,
                EventVerdict::Passed => dry_run.made += 1,
                EventVerdict::Changes(_) | EventVerdict::Filtered(_) => dry_run.dropped += 1,
                EventVerdict::Failed(failed) => dry_run.failed(failed),
            }
        }
        dry_run
    }

    /// Runs a channel's chain on samples; otherwise as [`Host::try_source`].
    pub async fn try_channel(&self, chain: &ChannelChain, samples: Arc<Vec<View>>) -> DryRun {
        let mut dry_run = DryRun::default();
        for verdict in self.render(chain, samples, Priority::Urgent).await {
            match verdict {
                EntityVerdict::Rendering(_) | EntityVerdict::Passed => dry_run.made += 1,
                EntityVerdict::Filtered(_) | EntityVerdict::NotRendered => dry_run.dropped += 1,
                EntityVerdict::Failed(failed) => dry_run.failed(failed),
            }
        }
        dry_run
    }

    /// Calls, time and faults of plugins since the start.
    pub fn figures(&self) -> Snapshot {
        self.figures.snapshot(self.workers.waiting())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
