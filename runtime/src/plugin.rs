//! The plugins in force: components are loaded, configured and called here, each call within its
//! limits.
//!
//! This room alone knows wasmtime and the types of the plugin interface. It promises that a plugin
//! gets nothing but its input and `log`, that a call ends within its limits, that a fault costs the
//! one item that caused it, and that a batch is handled by one chain from its first filter to its
//! last retry.

mod batch;
mod bench;
mod bindings;
mod cache;
/// What a plugin must make of what: at the desk, inside the component, before a swap.
pub mod cases;
mod chain;
/// From a file of Wasm to code, in bounds.
pub mod compile;
mod component;
/// At the author's desk: one run, measured.
pub mod desk;
mod engine;
/// What plugins cost and how often they fault.
pub mod figures;
mod instance;
mod limits;
/// What plugins say.
pub mod log;
mod sizes;
#[cfg(test)]
mod tests;
/// From a plugin's source to its component.
pub mod toolchain;
mod workers;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Change, Event, Failure, Rendering, View};

pub use self::chain::{ChannelChain, SourceChain, Use};
pub use self::compile::Apart;
pub use self::component::{Compiled, Component};

use self::cache::Cache;
use self::chain::Items;
use self::component::Loader;
use self::engine::Layout;
use self::figures::{Figures, Snapshot};
use self::workers::Workers;

/// How the host is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads that run plugins; 8. More than there are cores: a plugin that hangs takes one for
    /// its whole limit of time.
    pub workers: usize,
    /// Where compiled code is kept; none: every start compiles anew.
    pub cache: Option<PathBuf>,
    /// By whom components are compiled; none: in this process, without bounds of time and memory.
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

/// The plugin host: an engine, its workers and its cache. One for a process.
pub struct Host {
    engine: wasmtime::Engine,
    layout: Layout,
    compiler: Option<Apart>,
    cache: Option<Cache>,
    figures: Figures,
    workers: Workers,
}

impl Host {
    /// Starts the engine, its clock and the workers. A cache that cannot be used is warned of and
    /// done without.
    ///
    /// # Errors
    /// When the engine or a thread cannot be had.
    pub fn start(options: &Options) -> Result<Arc<Host>, Error> {
        let (engine, layout) = engine::serving(options.workers.max(1))?;
        let cache = options.cache.as_ref().and_then(|directory| {
            let opened = Cache::open(directory, &engine);
            opened.inspect_err(|error| tracing::warn!(directory = %directory.display(), "compiled plugin code is not kept: {error}")).ok()
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
    /// from the cache. Blocking, for up to seconds: to be called away from the serving threads.
    ///
    /// # Errors
    /// `Unusable`, with a sentence on how to mend it.
    pub fn load(&self, name: &str, bytes: &[u8], limits: Limits) -> Result<Arc<Component>, Fault> {
        let (layout, apart, cache) = (self.layout, self.compiler.as_ref(), self.cache.as_ref());
        let loader = Loader {
            engine: &self.engine,
            layout,
            apart,
            cache,
            figures: &self.figures,
        };
        loader.load(name, bytes, limits).map(Arc::new)
    }

    /// Runs a source's chain over events; one verdict an event, in their order. Waits while the
    /// chain has too many batches before it. Dropping the future abandons what has not begun.
    pub async fn map(
        &self,
        chain: &Arc<SourceChain>,
        events: Arc<Vec<Event>>,
        class: Class,
    ) -> Vec<EventVerdict> {
        if chain.0.stages.is_empty() {
            return vec![EventVerdict::Passed; events.len()];
        }
        let verdicts = self
            .workers
            .run(&chain.0, Items::Events(events), class)
            .await;
        verdicts
            .into_iter()
            .map(|verdict| chain.verdict(verdict))
            .collect()
    }

    /// Runs a channel's chain over entities; otherwise like [`Host::map`].
    pub async fn render(
        &self,
        chain: &Arc<ChannelChain>,
        entities: Arc<Vec<View>>,
        class: Class,
    ) -> Vec<EntityVerdict> {
        if chain.0.stages.is_empty() {
            return vec![EntityVerdict::Passed; entities.len()];
        }
        let verdicts = self
            .workers
            .run(&chain.0, Items::Entities(entities), class)
            .await;
        verdicts
            .into_iter()
            .map(|verdict| chain.verdict(verdict))
            .collect()
    }

    /// Tries a source's chain on samples before it takes over. That a plugin declines a sample is
    /// no fault.
    pub async fn try_source(&self, chain: &Arc<SourceChain>, samples: Arc<Vec<Event>>) -> Trial {
        let mut trial = Trial::default();
        for verdict in self.map(chain, samples, Class::Urgent).await {
            match verdict {
                EventVerdict::Changes(changes) if !changes.is_empty() => trial.made += 1,
                EventVerdict::Passed => trial.made += 1,
                EventVerdict::Changes(_) | EventVerdict::Filtered(_) => trial.dropped += 1,
                EventVerdict::Failed(failed) => trial.failed(failed),
            }
        }
        trial
    }

    /// Tries a channel's chain on samples; otherwise like [`Host::try_source`].
    pub async fn try_channel(&self, chain: &Arc<ChannelChain>, samples: Arc<Vec<View>>) -> Trial {
        let mut trial = Trial::default();
        for verdict in self.render(chain, samples, Class::Urgent).await {
            match verdict {
                EntityVerdict::Rendering(_) | EntityVerdict::Passed => trial.made += 1,
                EntityVerdict::Filtered(_) | EntityVerdict::NotRendered => trial.dropped += 1,
                EntityVerdict::Failed(failed) => trial.failed(failed),
            }
        }
        trial
    }

    /// What plugins cost and how often they faulted, since the start.
    pub fn figures(&self) -> Snapshot {
        self.figures.snapshot(self.workers.waiting())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// Why there is no host: the machine lacks something.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Error {
    what: &'static str,
    why: String,
}

impl Error {
    fn new(what: &'static str, why: impl fmt::Display) -> Error {
        Error {
            what,
            why: format!("{why:#}"),
        }
    }
}

/// What is wrong with a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The file or the chain cannot be used: mend it, the old one serves on. A sentence.
    #[error("{0}")]
    Unusable(String),
    /// The plugin refuses its settings: mend the configuration. A sentence with the plugin's own
    /// words.
    #[error("{0}")]
    Settings(String),
    /// A call ended badly: the items of that call have no answer.
    #[error("{what}")]
    Breach {
        /// Which rule it broke.
        breach: Breach,
        /// A sentence, with the last error that the plugin logged.
        what: String,
    },
}

impl Fault {
    /// For machines; stable.
    pub fn code(&self) -> &'static str {
        match self {
            Fault::Unusable(_) => "unusable",
            Fault::Settings(_) => "settings",
            Fault::Breach { breach, .. } => breach.code(),
        }
    }

    fn failure(&self) -> Failure {
        Failure::new(self.code(), self.to_string())
    }

    /// Whether the host has too many instances at the moment, which says nothing of the plugin.
    fn is_exhaustion(&self) -> bool {
        matches!(
            self,
            Fault::Breach {
                breach: Breach::Host,
                ..
            }
        )
    }
}

/// How a call can end badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Over its limit of time.
    Time,
    /// Over its limit of memory.
    Memory,
    /// Over its limit of output.
    Output,
    /// Recursion without end.
    Stack,
    /// Anything else that Wasm stops at: a panic, a division by zero.
    Trap,
    /// Another number of answers than items.
    WrongLength,
    /// Not the plugin's doing: the host could not run it.
    Host,
}

impl Breach {
    /// For machines; stable.
    pub fn code(self) -> &'static str {
        match self {
            Breach::Time => "time-limit",
            Breach::Memory => "memory-limit",
            Breach::Output => "output-limit",
            Breach::Stack => "stack-limit",
            Breach::Trap => "trap",
            Breach::WrongLength => "wrong-length",
            Breach::Host => "host",
        }
    }
}

/// What a component can be; it may be several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Drops events of a source.
    EventFilter,
    /// Turns an event into changes.
    Mapper,
    /// Drops entities of a channel.
    EntityFilter,
    /// Turns an entity into a payload.
    Renderer,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 4] = [
        Role::EventFilter,
        Role::Mapper,
        Role::EntityFilter,
        Role::Renderer,
    ];

    /// Its name, also that of its interface.
    pub fn name(self) -> &'static str {
        match self {
            Role::EventFilter => "event-filter",
            Role::Mapper => "mapper",
            Role::EntityFilter => "entity-filter",
            Role::Renderer => "renderer",
        }
    }
}

/// How much a plugin may use; each bound is for one batch of at most 64 items or 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time, a guard against hangs on a machine that may be busy; 1 s.
    pub time: Duration,
    /// Linear memory of an instance, in bytes; 64 MiB.
    pub memory_bytes: usize,
    /// What a batch may give back, copied into the host; 16 MiB. Memory limits do not see it.
    pub output_bytes: usize,
    /// What a batch may log; 64 KiB.
    pub log_bytes: usize,
}

/// Which queue of the workers a batch waits in; the order is the order in which they are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for an answer.
    Ingest,
    /// Renderings for the urgent and normal lanes.
    Urgent,
    /// Renderings for the bulk lane and for sweeps.
    Bulk,
}

/// What became of an event in its source's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventVerdict {
    /// The mapper gave these changes; none at all means filtered.
    Changes(Vec<Change>),
    /// No filter dropped it, and the chain has no mapper.
    Passed,
    /// A filter dropped it: which.
    Filtered(Arc<str>),
    /// A plugin failed on it.
    Failed(Failed),
}

/// What became of an entity in a channel's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityVerdict {
    /// The renderer gave this.
    Rendering(Rendering),
    /// No filter dropped it, and the chain has no renderer.
    Passed,
    /// The n-th filter dropped it.
    Filtered(usize),
    /// The renderer said that it is not for this channel.
    NotRendered,
    /// A plugin failed on it.
    Failed(Failed),
}

/// What a chain made of samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// Samples that became changes or a rendering, or passed a chain of filters.
    pub made: usize,
    /// Samples that were dropped: filtered, mapped to nothing, or not for this channel.
    pub dropped: usize,
    /// Samples that a plugin declined by its own rules.
    pub declined: usize,
    /// Samples that a plugin faulted on.
    pub faulted: usize,
    /// The first fault: whoever has one is not put in force.
    pub fault: Option<Failed>,
}

impl Trial {
    /// How many samples there were.
    pub fn samples(&self) -> usize {
        self.made + self.dropped + self.declined + self.faulted
    }

    fn failed(&mut self, failed: Failed) {
        if failed.fault {
            self.faulted += 1;
            self.fault.get_or_insert(failed);
        } else {
            self.declined += 1;
        }
    }
}

/// Which plugin failed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Name and the first 12 digits of the SHA-256, for example `erp@3fa9c1b2d0e4`.
    pub plugin: String,
    /// What it said, or what the host says of it (`time limit of 1 s exceeded`).
    pub failure: Failure,
    /// True: the plugin trapped, broke a limit, or answered what cannot be used. False: it declined
    /// the item by its own rules.
    pub fault: bool,
}

impl Failed {
    fn of_the_host(why: &str) -> Failed {
        Failed {
            plugin: "host".into(),
            failure: Failure::new(Breach::Host.code(), why),
            fault: true,
        }
    }
}
