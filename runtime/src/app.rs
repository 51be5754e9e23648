//! Makes a plan true: starts, applies the difference to the next plan, stops.
//!
//! Starting is reloading from the empty plan, so there is only one path. A configuration is read,
//! and its components are loaded, configured and tried without touching the running ones. Only a
//! configuration without any complaint takes over; otherwise the current one stays active and the
//! reload reports why. A component is no part of it: one that is refused keeps its earlier version.

mod altered;
mod apply;
mod backend;
mod comparison;
mod deliveries;
pub(crate) mod exporter;
mod figures;
mod forgotten;
pub(crate) mod intake;
mod jobs;
pub mod load;
mod memories;
mod notices;
mod owner;
mod prepare;
mod preview;
mod receipts;
mod reload;
mod renames;
mod retired;
mod rollouts;
mod samples;
mod standing;
mod sweeps;
mod trial;
mod views;
mod watch;
mod way;

pub(crate) use self::retired::remedy as remedy_of_left;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::dispatch;
use crate::exit;
use crate::happenings::Happenings;
use crate::model::Timestamp;
use crate::plan::{self, Complaint, Plan, ReadOptions};
use crate::plugin::{self, Host, Kept};
use crate::server::views::ReloadView;
use crate::server::{self, Server};
use crate::store::{self, Store};
use crate::sync;
use crate::traces::Traces;
use apply::Live;
use deliveries::Deliveries;
use exporter::Exporter;
use jobs::Jobs;
use load::{Loaded, Loading};
use memories::{MEMORIES_EVERY, Memories};
use notices::Notices;
use reload::LastRead;
use rollouts::History;
use sweeps::Sweeps;
use trial::Before;

/// Interval at which positions and pairs are saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// The last events of sources are saved once in so many intervals, and when Weir stops.
const SAMPLES_EVERY: u32 = 60;
/// The same for the latencies of channels.
const LATENCIES_EVERY: u32 = 300;
/// How many intervals lie between two looks at a target that has refused something.
const ALTERED_EVERY: u32 = 10;
/// Maximum time for requests in progress when Weir stops.
const STOP_REQUESTS: Duration = Duration::from_secs(2);
/// Maximum time for deliveries in flight when Weir stops; the whole stop takes less than 10 s.
const STOP_DELIVERIES: Duration = Duration::from_secs(5);
/// The folder of the store's files, below `[store] path`, which holds everything that Weir keeps.
const STORE: &str = "store";
/// The folder of the files that targets keep, next to the store's: one folder for each target.
pub(crate) const TARGETS: &str = "targets";
/// The folder of backups, next to the store's.
const BACKUPS: &str = "backups";
/// The extension of a backup's file.
const BACKUP: &str = "weir-backup";
/// The folder of compiled plugins, next to the store's. It can be deleted; plugins are then
/// compiled again.
const PLUGIN_CODE: &str = "plugin-code";
/// The folder of the components that served last, next to it.
const KEPT: &str = "plugins";
/// Delay between the failure of the store and the end of the process, so that waiting senders get
/// their responses.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// What a start is doing at the moment, in a few words.
pub type Steps = tokio::sync::watch::Sender<String>;

/// The options with which Weir is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration files; keys of later ones win.
    pub files: Vec<PathBuf>,
    /// Limits on what a client may cost.
    pub limits: server::Limits,
    /// The process that compiles components. `None` compiles in this process, without bounds on
    /// time and memory.
    pub compiler: Option<plugin::Apart>,
    /// As [`store::Options::set_aside_damaged`].
    pub set_aside_damaged: bool,
    /// What the start is doing, for whoever waits for it.
    pub steps: Steps,
}

/// The reason why Weir did not start. Each variant has an exit code.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("{}", plan::render(.0))]
    Configuration(Vec<Complaint>),
    /// Something could not be opened: the store, an address, the plugin host.
    #[error("{0}")]
    CannotOpen(String),
}

/// A running Weir.
pub struct App {
    inner: Arc<Inner>,
    server: Server,
    stopping: CancellationToken,
}

/// The state that the routes, the file watcher and the saver share.
struct Inner {
    files: Vec<PathBuf>,
    /// The folder of everything that Weir keeps.
    folder: PathBuf,
    host: Arc<Host>,
    default_renderer: Arc<dispatch::DefaultRenderer>,
    /// One for all targets and channels.
    clock: dispatch::Clock,
    deliveries: Deliveries,
    store: Arc<dyn Store>,
    live: Arc<ArcSwap<Live>>,
    /// The components that took over last, for the next start.
    kept: Arc<Kept>,
    /// Where reloads are asked for.
    reloads: tokio::sync::mpsc::UnboundedSender<reload::Request>,
    /// What the last reload has read. Changes whenever one has had its turn.
    read: tokio::sync::watch::Sender<LastRead>,
    /// The turn of a reload: there is only one at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Held while channels change over to another plan. True once Weir stops: then none does any more.
    stopped: tokio::sync::Mutex<bool>,
    /// The plugins that serve an earlier version than their file has, and why.
    held_back: Mutex<BTreeMap<Arc<str>, String>>,
    /// Versions, by their digests, that an operator lets take over though they map less.
    confirmed: Mutex<BTreeMap<Arc<str>, String>>,
    last_reload: Mutex<ReloadView>,
    /// Set when sources use a new plan but some channels could not be changed, and before the first
    /// plan; the next reload completes the change.
    halfway: AtomicBool,
    /// How each plugin came into use, and why others were rejected.
    history: Mutex<History>,
    sweeps: Arc<Sweeps>,
    /// The targets that have forgotten what they held, while all of it is made owed again.
    forgotten: Mutex<BTreeSet<Arc<str>>>,
    /// The targets at which a look is in progress whether they have been altered.
    looking: Mutex<BTreeSet<Arc<str>>>,
    /// The notes with the marks of targets, as this process has found them.
    found_marks: Mutex<BTreeMap<String, Vec<u8>>>,
    jobs: Arc<Jobs>,
    notices: Notices,
    /// The turn of a request that is only looked at: there is only one at a time.
    previewing: tokio::sync::Mutex<()>,
    /// What just happened to entities.
    happenings: Arc<Happenings>,
    /// Spans of events and deliveries, and where they are exported.
    traces: Arc<Traces>,
    exporter: Exporter,
    /// Cancelled when Weir begins to stop: requests that wait for something are answered at once.
    leaving: CancellationToken,
    /// Cancelled when Weir stops; channels and tasks end with it.
    stopping: CancellationToken,
    /// See [`App::beats`].
    beats: [AtomicU64; 2],
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond().max(0) as u64)
}

/// Reads the configuration with the environment of this process.
///
/// # Errors
/// All complaints about the files.
pub fn read_plan(files: &[PathBuf]) -> Result<(Plan, Vec<Complaint>), Vec<Complaint>> {
    read_named(files).1
}

/// The same, and what the files name, also if there are complaints.
fn read_named(files: &[PathBuf]) -> (plan::Named, plan::Understood) {
    plan::read_named(
        files,
        &|name| std::env::var(name).ok(),
        ReadOptions { secrets: true },
    )
}

/// Makes a store of a backup, where the configuration has it.
///
/// # Errors
/// See [`StartError`]. Nothing is changed if the backup is damaged or the folder is not empty.
pub fn restore(backup: &Path, files: &[PathBuf]) -> Result<store::BackedUp, StartError> {
    let (plan, _) = read_plan(files).map_err(StartError::Configuration)?;
    owner::check(&plan.store_path).map_err(StartError::CannotOpen)?;
    let options = store::Options {
        path: plan.store_path.join(STORE),
        sequence_min: plan.sequence_min,
        set_aside_damaged: false,
        on_failure: |_| {},
    };
    store::restore(backup, &options).map_err(|error| StartError::CannotOpen(error.to_string()))
}

/// Ends the process because the store cannot write. After a failed sync the page cache cannot be
/// trusted any more, and only a new start reads what is really on disk.
fn end_process(error: &store::Error) {
    tracing::error!(%error, "the store failed; exiting with code {}", exit::BROKEN);
    std::thread::spawn(|| {
        std::thread::sleep(LAST_ANSWERS);
        std::process::exit(exit::BROKEN.into());
    });
}

impl App {
    /// Starts everything that the configuration names and then serves requests.
    ///
    /// # Errors
    /// See [`StartError`]. Nothing is left running.
    pub async fn start(options: Options) -> Result<App, StartError> {
        let files = options.files.clone();
        let began = SystemTime::now();
        let step = |step: &str| {
            options.steps.send_replace(step.to_owned());
        };
        step("reading the configuration");
        let (plan, warnings) = read_plan(&files).map_err(StartError::Configuration)?;
        warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let cannot = |error: &dyn std::fmt::Display| StartError::CannotOpen(error.to_string());

        let data = plan.store_path.clone();
        owner::check(&data).map_err(StartError::CannotOpen)?;
        let (cache, path) = (Some(data.join(PLUGIN_CODE)), data.join(STORE));
        let compiler = options.compiler.clone();
        let host = Host::start(&plugin::Options {
            cache,
            compiler,
            ..plugin::Options::default()
        })
        .map_err(|error| cannot(&error))?;
        let options_of_store = store::Options {
            path,
            sequence_min: plan.sequence_min,
            set_aside_damaged: options.set_aside_damaged,
            on_failure: end_process,
        };
        let backups = data.join(BACKUPS);
        step("opening the store");
        let opened = blocking(move || {
            let store = store::open(&options_of_store)?;
            // The store is this process's alone now, and so are its backups.
            store::remove_unfinished_backups(&backups);
            Ok::<_, store::Error>(store)
        })
        .await;
        let store = opened.map_err(|error| cannot(&error))?;
        let (stopping, traces) = (CancellationToken::new(), Arc::<Traces>::default());
        let (reloads, requests) = tokio::sync::mpsc::unbounded_channel();
        let kept = Arc::new(Kept::open(&data.join(KEPT)));
        let inner = Arc::new(Inner {
            files,
            folder: data,
            host,
            default_renderer: Arc::default(),
            clock: dispatch::Clock::system(),
            deliveries: Deliveries::start().map_err(|error| cannot(&error))?,
            store,
            live: Arc::new(ArcSwap::from_pointee(Live::empty(plan.emptied(), now()))),
            kept,
            reloads,
            read: tokio::sync::watch::Sender::new(LastRead {
                named: plan.named(),
                began,
            }),
            reloading: tokio::sync::Mutex::new(()),
            stopped: tokio::sync::Mutex::new(false),
            held_back: Mutex::default(),
            confirmed: Mutex::default(),
            last_reload: Mutex::default(),
            halfway: AtomicBool::new(true),
            history: Mutex::default(),
            sweeps: Arc::default(),
            forgotten: Mutex::default(),
            looking: Mutex::default(),
            found_marks: Mutex::default(),
            jobs: Arc::default(),
            notices: Notices::default(),
            previewing: tokio::sync::Mutex::default(),
            happenings: Arc::default(),
            exporter: Exporter::start(traces.clone()),
            traces,
            leaving: CancellationToken::new(),
            stopping: stopping.clone(),
            beats: Default::default(),
        });
        let (listen, admin) = (plan.server.listen, plan.server.admin_listen);
        let watch = plan.server.watch;
        if let Err(error) = inner.start_with(plan, &options.steps).await {
            inner.close().await;
            return Err(error);
        }
        let server = Server::start(listen, admin, options.limits, inner.clone()).await;
        let server = match server {
            Ok(server) => server,
            Err(error) => {
                inner.close().await;
                return Err(cannot(&error));
            }
        };
        tokio::spawn(inner.clone().save_regularly());
        inner.deliveries.spawn(inner.clone().beat());
        tokio::spawn(inner.clone().look_for_notices());
        let reload = {
            let inner = inner.clone();
            move |held| inner.clone().reload_files(held)
        };
        tokio::spawn(reload::serve(requests, inner.stopping.clone(), reload));
        if watch {
            watch::watch(inner.clone());
        }
        Ok(App {
            inner,
            server,
            stopping,
        })
    }

    /// The address for events.
    pub fn ingest_addr(&self) -> SocketAddr {
        self.server.ingest_addr()
    }

    /// The address for everything else.
    pub fn admin_addr(&self) -> SocketAddr {
        self.server.admin_addr()
    }

    /// The URLs of the listener for events and of that for everything else.
    pub fn urls(&self) -> [String; 2] {
        let plan = &self.inner.live.load().plan;
        plan.server.urls(self.ingest_addr(), self.admin_addr())
    }

    /// The store, for the demo and the benchmarks.
    pub fn store(&self) -> Arc<dyn Store> {
        self.inner.store.clone()
    }

    /// Reads the configuration again and applies it, or leaves the current one active. Returns
    /// which of the two happened, and why.
    pub fn reload(&self) -> impl Future<Output = ReloadView> + use<> {
        let inner = self.inner.clone();
        async move { inner.reload().await }
    }

    /// How often those who must not stand still have got on: the store's writer, and the threads of the channels.
    /// Each does about once a second.
    pub fn beats(&self) -> [u64; 2] {
        self.inner.beats.each_ref().map(|beat| beat.load(Relaxed))
    }

    /// Whether the last reload was refused, or some of it.
    pub fn has_refused(&self) -> bool {
        !sync::lock(&self.inner.last_reload).complaints.is_empty()
    }

    /// The number of active sources, plugins and channels, for the log.
    pub fn summary(&self) -> String {
        let live = self.inner.live.load();
        let count = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        let (sources, channels) = (
            count(live.plan.sources.len(), "source"),
            count(live.plan.channels.len(), "channel"),
        );
        format!(
            "{sources}, {}, {channels}",
            count(live.plan.plugins.len(), "plugin")
        )
    }

    /// Stops within 10 s: requests in progress are answered, deliveries in flight end or are
    /// parked, and everything is saved.
    pub async fn stop(self) {
        self.inner.leaving.cancel();
        self.server.stop(STOP_REQUESTS).await;
        self.inner.close().await;
        self.stopping.cancel();
    }
}

impl Inner {
    /// Loads the first plan and puts it into use. A plugin whose file was refused, or changed for the
    /// worse while Weir was stopped, starts with the component that served last.
    async fn start_with(&self, plan: Plan, steps: &Steps) -> Result<(), StartError> {
        let (host, kept, folder) = (self.host.clone(), self.kept.clone(), self.folder.clone());
        let told = steps.clone();
        let (loading, before) = aside(move || {
            let mut loading = Loading::new(host, plan, &Loaded::default());
            loading.prepare(&|plugin, nth, all| {
                told.send_replace(format!("loading plugin {plugin} ({nth} of {all})"));
            });
            let before = Before {
                loaded: loading.as_before(&kept),
                samples: samples::read(&folder),
            };
            (loading, before)
        })
        .await;
        steps.send_replace("trying plugins".to_owned());
        let settled = self.settle(loading, &before).await;
        let settled = settled.map_err(|(_, complaints)| StartError::Configuration(complaints))?;
        steps.send_replace("starting channels".to_owned());
        let activated = self.activate(settled).await;
        // Also of a start that fails from here on, because they are saved at its end.
        let live = self.live.load_full();
        for (source, events) in before.samples {
            if let Some(intake) = live.sources.get(&source) {
                intake.source.activity().restore(events);
            }
        }
        activated.map_err(|(_, halted)| StartError::CannotOpen(halted.to_string()))?;
        Ok(())
    }

    fn history(&self) -> MutexGuard<'_, History> {
        sync::lock(&self.history)
    }

    async fn save_regularly(self: Arc<Self>) {
        let mut memories = Memories::default();
        let (mut beats, mut fails) = (0u32, false);
        let mut beat = tokio::time::interval(SAVE_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.stopping.cancelled() => return,
            }
            beats += 1;
            if beats.is_multiple_of(SAMPLES_EVERY) {
                self.save_samples().await;
            }
            if beats.is_multiple_of(LATENCIES_EVERY) {
                memories.save_latencies(&self).await;
            }
            self.look_at_lateness();
            memories.save_marks(&self, false).await;
            self.start_over_what_forgot();
            if beats.is_multiple_of(ALTERED_EVERY) {
                self.look_for_altered();
            }
            self.begin_due_checks();
            match self.store.save(now()).await {
                Err(error) if !fails => {
                    fails = true;
                    tracing::error!(
                        %error,
                        "the channels' positions could not be saved; after a crash, what was \
                         delivered since is delivered again. It is tried each second until it works"
                    );
                }
                Ok(()) if fails => {
                    fails = false;
                    tracing::info!("the channels' positions are saved again");
                }
                Ok(()) | Err(_) => {}
            }
            memories.save(&self, MEMORIES_EVERY).await;
            self.beats[0].fetch_add(1, Relaxed);
        }
    }

    /// Shows on the threads of the channels that these get on.
    async fn beat(self: Arc<Self>) {
        let mut beat = tokio::time::interval(SAVE_EVERY);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.stopping.cancelled() => return,
            }
            self.beats[1].fetch_add(1, Relaxed);
        }
    }

    /// Counts the time for which channels are late.
    fn look_at_lateness(&self) {
        let live = self.live.load();
        for channel in live.channels.values() {
            channel.look_at_lateness(live.channels.len());
        }
    }

    async fn save_samples(&self) {
        let (folder, live) = (self.folder.clone(), self.live.load_full());
        // After a start that failed there are none, and those of the last run stay.
        if live.sources.is_empty() {
            return;
        }
        let saved = blocking(move || samples::write(&folder, &live)).await;
        if let Err(error) = saved {
            tracing::warn!(%error, "the last events could not be kept for the trial of a plugin at the next start");
        }
    }

    /// Stops the channels first, so that their state is saved, and then closes the store. A reload that
    /// has begun to change channels over ends first, which is bounded; any other one changes nothing more.
    async fn close(&self) {
        *self.stopped.lock().await = true;
        self.notices.stop();
        let live = self.live.load_full();
        let stops = live
            .channels
            .values()
            .map(|channel| channel.stop(STOP_DELIVERIES));
        join_all(stops).await;
        self.exporter.stop().await;
        self.save_samples().await;
        let mut memories = Memories::default();
        memories.save_marks(self, true).await;
        memories.save_latencies(self).await;
        memories.save(self, Duration::ZERO).await;
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the store could not be closed");
        }
    }
}

/// Waits for all futures concurrently; returns their results in order.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures
        .into_iter()
        .map(|future| (Box::pin(future), None))
        .collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, output) in pending.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(ready) => *output = Some(ready),
                std::task::Poll::Pending => all = false,
            }
        }
        if all {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    pending
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

/// The niceness of a thread that loads plugins: what is tried there gives way to what serves.
const LOADING_NICENESS: i32 = 10;

/// Runs plugins that are not in use yet, on a thread of its own with a low priority. Panics if the
/// work panics.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let run = move || {
        // If the system refuses, loading competes with serving, and nothing worse happens.
        let _ = rustix::process::nice(LOADING_NICENESS);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // An error here means that nobody waits any more.
        let _ = reply.send(done);
    };
    let thread = std::thread::Builder::new().name("plugin-load".into());
    thread
        .spawn(run)
        .expect("the system has room for another thread");
    match answer.await.expect("the thread replies at its end") {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Runs blocking work on a thread for it, so that it does not hold up other tasks. Panics if the
/// work panics.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests;
