//! Makes a plan true: starts, applies the difference to the next plan, stops.
//!
//! Starting is reloading from the empty plan, so there is only one path. A configuration is read,
//! and its components are loaded, configured and tried without touching the running ones. Only a
//! configuration without any complaint takes over; otherwise the current one stays active and the
//! reload reports why.

mod apply;
mod backend;
mod deliveries;
mod figures;
pub(crate) mod intake;
pub mod load;
mod memories;
mod rollouts;
mod sweeps;
mod views;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::dispatch;
use crate::exit;
use crate::model::Timestamp;
use crate::plan::{self, Complaint, Plan, ReadOptions};
use crate::plugin::{self, Host};
use crate::server::views::{ComplaintView, ReloadView};
use crate::server::{self, Server};
use crate::store::{self, Store};
use crate::sync;
use apply::Live;
use deliveries::Deliveries;
use load::Loaded;
use memories::{MEMORIES_EVERY, Memories};
use rollouts::{History, Rollouts, TakenOver};
use sweeps::Sweeps;

/// Interval at which positions and pairs are saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Maximum time for requests in progress when Weir stops.
const STOP_REQUESTS: Duration = Duration::from_secs(2);
/// Maximum time for deliveries in flight when Weir stops; the whole stop takes less than 10 s.
const STOP_DELIVERIES: Duration = Duration::from_secs(5);
/// The folder of the store's files, below `[store] path`, which holds everything that Weir keeps.
const STORE: &str = "store";
/// The folder of compiled plugins, next to the store's. It can be deleted; plugins are then
/// compiled again.
const PLUGIN_CODE: &str = "plugin-code";
/// Delay between the failure of the store and the end of the process, so that waiting senders get
/// their responses.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// The outcome of a reload with complaints.
const REJECTED: &str = "the new configuration was rejected; the current one stays active";
/// The outcome of a reload during which the store or a target failed.
const INCOMPLETE: &str =
    "the new configuration was not applied completely; the applied part stays active";

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
    host: Arc<Host>,
    default_renderer: Arc<dispatch::DefaultRenderer>,
    /// One for all targets and channels.
    clock: dispatch::Clock,
    deliveries: Deliveries,
    store: Arc<dyn Store>,
    live: ArcSwap<Live>,
    /// Held during a reload, so that there is only one at a time.
    reloading: tokio::sync::Mutex<()>,
    last_reload: Mutex<ReloadView>,
    /// Set when sources use a new plan but some channels could not be changed; the next reload
    /// completes the change.
    halfway: AtomicBool,
    /// How each plugin came into use, and why others were rejected.
    history: Mutex<History>,
    sweeps: Arc<Sweeps>,
    /// Cancelled when Weir stops; channels and tasks end with it.
    stopping: CancellationToken,
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond().max(0) as u64)
}

/// Reads the configuration with the environment of this process.
///
/// # Errors
/// All complaints about the files.
pub fn read_plan(files: &[PathBuf]) -> Result<(Plan, Vec<Complaint>), Vec<Complaint>> {
    plan::read(
        files,
        &|name| std::env::var(name).ok(),
        ReadOptions { secrets: true },
    )
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
        let (plan, warnings) = read_plan(&files).map_err(StartError::Configuration)?;
        warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let cannot = |error: &dyn std::fmt::Display| StartError::CannotOpen(error.to_string());

        let data = &plan.store_path;
        let (cache, path) = (Some(data.join(PLUGIN_CODE)), data.join(STORE));
        let compiler = options.compiler.clone();
        let host = Host::start(&plugin::Options {
            cache,
            compiler,
            ..plugin::Options::default()
        })
        .map_err(|error| cannot(&error))?;
        let (loading_host, loading_plan) = (host.clone(), plan.clone());
        let (rollouts, loaded) =
            blocking(move || load::noting(&loading_host, &loading_plan, None)).await;
        let loaded = loaded.map_err(StartError::Configuration)?;

        let options_of_store = store::Options {
            path,
            sequence_min: plan.sequence_min,
            on_failure: end_process,
        };
        let opened = blocking(move || store::open(&options_of_store)).await;
        let store = opened.map_err(|error| cannot(&error))?;
        let stopping = CancellationToken::new();
        let inner = Arc::new(Inner {
            files,
            host,
            default_renderer: Arc::default(),
            clock: dispatch::Clock::system(),
            deliveries: Deliveries::start().map_err(|error| cannot(&error))?,
            store,
            live: ArcSwap::from_pointee(Live::empty(plan.emptied(), now())),
            reloading: tokio::sync::Mutex::new(()),
            last_reload: Mutex::default(),
            halfway: AtomicBool::new(false),
            history: Mutex::default(),
            sweeps: Arc::default(),
            stopping: stopping.clone(),
        });
        let (listen, admin) = (plan.server.listen, plan.server.admin_listen);
        let watch = plan.server.watch;
        let taken_over = inner
            .take_over(plan, loaded)
            .await
            .map_err(|error| cannot(&error))?;
        inner.history().taken_over(rollouts, taken_over);
        let server = Server::start(listen, admin, options.limits, inner.clone()).await;
        let server = match server {
            Ok(server) => server,
            Err(error) => {
                inner.close().await;
                return Err(cannot(&error));
            }
        };
        tokio::spawn(inner.clone().save_regularly());
        if watch {
            watch::watch(inner.clone(), began);
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

    /// The store, for the demo and the benchmarks.
    pub fn store(&self) -> Arc<dyn Store> {
        self.inner.store.clone()
    }

    /// Reads the configuration again and applies it, or leaves the current one active. Returns
    /// which of the two happened, and why.
    pub async fn reload(&self) -> ReloadView {
        self.inner.reload().await
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
        self.server.stop(STOP_REQUESTS).await;
        self.inner.close().await;
        self.stopping.cancel();
    }
}

impl Inner {
    async fn reload(&self) -> ReloadView {
        let _only_reload = self.reloading.lock().await;
        let before = self.live.load_full();
        let (files, host) = (self.files.clone(), self.host.clone());
        let loaded = blocking(move || {
            let (plan, warnings) = match read_plan(&files) {
                Ok(read) => read,
                Err(complaints) => {
                    // A pin that does not match is found here, before any component is loaded.
                    let known = before.loaded.plugins();
                    return (
                        Rollouts::refused(known, &complaints, now()),
                        Err(complaints),
                    );
                }
            };
            let (rollouts, loaded) = load::noting(&host, &plan, Some(&before.loaded));
            (rollouts, loaded.map(|loaded| (plan, loaded, warnings)))
        });
        let (mut rollouts, loaded) = loaded.await;
        let view = match loaded {
            Err(complaints) => self.refused(rollouts, complaints),
            Ok((plan, loaded, warnings)) => {
                warnings
                    .iter()
                    .for_each(|warning| tracing::warn!("{warning}"));
                match self.try_out(&plan, &loaded, &mut rollouts).await {
                    complaints if !complaints.is_empty() => self.refused(rollouts, complaints),
                    _ => self.activate(plan, loaded, rollouts).await,
                }
            }
        };
        *sync::lock(&self.last_reload) = view.clone();
        view
    }

    async fn activate(&self, plan: Plan, loaded: Loaded, rollouts: Rollouts) -> ReloadView {
        let old = self.live.load_full();
        let changes = apply::changes(&old, &plan, &loaded);
        if changes.is_empty() && !self.halfway.load(Relaxed) {
            self.history().taken_over(rollouts, TakenOver::default());
            return ReloadView {
                success: true,
                time: now().into(),
                ..ReloadView::default()
            };
        }
        match self.take_over(plan, loaded).await {
            Ok(taken_over) => {
                let live = self.live.load();
                let mut history = self.history();
                history.taken_over(rollouts, taken_over);
                history.keep(|plugin| live.loaded.components.contains_key(plugin));
                changes
                    .iter()
                    .for_each(|change| tracing::info!("reload: {change}"));
                ReloadView {
                    success: true,
                    time: now().into(),
                    changes,
                    ..ReloadView::default()
                }
            }
            Err(halted) => {
                let what = match halted.partly_applied {
                    true => {
                        "the configuration is applied in part; sources use it, some channels do not"
                    }
                    false => "the configuration could not be applied",
                };
                let complaint = Complaint::of_file(
                    &self.files[0],
                    format!("{what}: {halted}"),
                    "remove the cause, then reload again or restart Weir".to_owned(),
                );
                self.not_applied(rollouts, vec![complaint], halted.partly_applied)
            }
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        sync::lock(&self.history)
    }

    fn refused(&self, rollouts: Rollouts, complaints: Vec<Complaint>) -> ReloadView {
        self.not_applied(rollouts, complaints, false)
    }

    /// Logs and records that a configuration is not in use, or only in part.
    fn not_applied(
        &self,
        rollouts: Rollouts,
        complaints: Vec<Complaint>,
        partly_applied: bool,
    ) -> ReloadView {
        let first = complaints
            .first()
            .map(|complaint| complaint.what.clone())
            .unwrap_or_default();
        self.history().refused(rollouts, &first);
        let outcome = if partly_applied { INCOMPLETE } else { REJECTED };
        tracing::error!("{outcome}:\n{}", plan::render(&complaints));
        let complaints = complaints.into_iter().map(|complaint| ComplaintView {
            file: complaint.file.display().to_string(),
            line: complaint.line,
            column: complaint.column,
            what: if complaint.path.is_empty() {
                complaint.what
            } else {
                format!("{}: {}", complaint.path, complaint.what)
            },
            help: complaint.help,
        });
        ReloadView {
            success: false,
            time: now().into(),
            changes: Vec::new(),
            partly_applied,
            complaints: complaints.collect(),
        }
    }

    async fn save_regularly(self: Arc<Self>) {
        let mut memories = Memories::default();
        let mut beat = tokio::time::interval(SAVE_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.stopping.cancelled() => return,
            }
            if let Err(error) = self.store.save(now()).await {
                tracing::error!(%error, "positions could not be saved; trying again in {SAVE_EVERY:?}");
            }
            memories.save(&self, MEMORIES_EVERY).await;
        }
    }

    /// Stops the channels first, so that their state is saved, and then closes the store.
    async fn close(&self) {
        let live = self.live.load_full();
        let stops = live
            .channels
            .values()
            .map(|channel| channel.stop(STOP_DELIVERIES));
        join_all(stops).await;
        Memories::default().save(self, Duration::ZERO).await;
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
