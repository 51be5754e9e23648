//! Makes a plan true: start, apply a difference, stop.
//!
//! Starting is reloading from the empty plan; there is one path. A configuration is read, its
//! components are loaded, configured and tried away from those that serve, and only when nothing is
//! left to complain of does it take over; otherwise the old one serves on and says why.

mod apply;
mod backend;
mod deliveries;
mod figures;
pub mod load;
mod rollouts;
mod sweeps;
mod views;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use crate::dispatch;
use crate::exit;
use crate::ingest::Budget;
use crate::model::Timestamp;
use crate::plan::{self, Complaint, Plan, ReadOptions};
use crate::plugin::{self, Host};
use crate::server::views::{ComplaintView, ReloadView};
use crate::server::{self, Server};
use crate::store::embedded::{self, Embedded};
use crate::store::{self, Store};
use crate::sync;
use apply::Live;
use deliveries::Deliveries;
use load::Loaded;
use rollouts::{History, Rollouts, TakenOver};
use sweeps::Sweeps;

/// Bodies of all sources in memory at once, in bytes; beyond it senders are told to come again.
const INGEST_BYTES: usize = 256 << 20;
/// How often positions and pairs are saved.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// How long requests that are being answered may take at a stop.
const STOP_REQUESTS: Duration = Duration::from_secs(2);
/// How long deliveries in flight may take at a stop; the whole stop stays under 10 s.
const STOP_DELIVERIES: Duration = Duration::from_secs(5);
/// Between the failure of the store and the end of the process, so that senders that wait are told.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What a Weir is started from.
#[derive(Clone, Debug)]
pub struct Options {
    /// Configuration files; keys of later ones win.
    pub files: Vec<PathBuf>,
    /// How much a client may cost.
    pub limits: server::Limits,
    /// By whom components are compiled; none: in this process, without bounds of time and memory.
    pub compiler: Option<plugin::Apart>,
}

/// Why a Weir did not start; the variants are the exit codes.
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

/// What routes, the watcher and the saver share.
struct Inner {
    files: Vec<PathBuf>,
    host: Arc<Host>,
    plain: Arc<dispatch::Plain>,
    deliveries: Deliveries,
    store: Arc<dyn Store>,
    budget: Budget,
    live: ArcSwap<Live>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    last_reload: Mutex<ReloadView>,
    /// How plugins came to serve, and why others did not.
    history: Mutex<History>,
    sweeps: Arc<Sweeps>,
    /// Channels end with it.
    stopping: CancellationToken,
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond().max(0) as u64)
}

/// Reads the configuration with the environment of this process.
pub fn read_plan(files: &[PathBuf]) -> Result<(Plan, Vec<Complaint>), Vec<Complaint>> {
    plan::read(
        files,
        &|name| std::env::var(name).ok(),
        ReadOptions { secrets: true },
    )
}

/// A store that cannot write ends the process: after a failed sync the page cache cannot be
/// trusted. Everything answered with 202 is durable, and a new start reads it back.
fn end_process(error: &store::Error) {
    tracing::error!(%error, "the store has failed; this process ends with code {}", exit::BROKEN);
    std::thread::spawn(|| {
        std::thread::sleep(LAST_ANSWERS);
        std::process::exit(exit::BROKEN.into());
    });
}

impl App {
    /// Starts all that the configuration names and answers requests from then on.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub async fn start(options: Options) -> Result<App, StartError> {
        let files = options.files.clone();
        let (plan, warnings) = read_plan(&files).map_err(StartError::Configuration)?;
        warnings
            .iter()
            .for_each(|warning| tracing::warn!("{warning}"));
        let cannot = |error: &dyn std::fmt::Display| StartError::CannotOpen(error.to_string());

        let store_path = plan.store_path.clone();
        let cache = Some(store_path.join("plugin-code"));
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

        let opened = blocking(move || {
            let mut options = embedded::Options::new(&store_path.join("store"));
            options.on_failure = end_process;
            Embedded::open(options)
        });
        let store: Arc<dyn Store> = Arc::new(opened.await.map_err(|error| cannot(&error))?);
        let stopping = CancellationToken::new();
        let inner = Arc::new(Inner {
            files,
            host,
            plain: Arc::default(),
            deliveries: Deliveries::start().map_err(|error| cannot(&error))?,
            store,
            budget: Budget::new(INGEST_BYTES),
            live: ArcSwap::from_pointee(Live::empty(plan.emptied(), now())),
            reloading: tokio::sync::Mutex::new(()),
            last_reload: Mutex::default(),
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
            watch::watch(inner.clone());
        }
        Ok(App {
            inner,
            server,
            stopping,
        })
    }

    /// Where events are taken in.
    pub fn ingest_addr(&self) -> SocketAddr {
        self.server.ingest_addr()
    }

    /// Where everything else is.
    pub fn admin_addr(&self) -> SocketAddr {
        self.server.admin_addr()
    }

    /// The store, for the demo and the benchmarks.
    pub fn store(&self) -> Arc<dyn Store> {
        self.inner.store.clone()
    }

    /// Reads the configuration again and makes it true, or leaves the old one in force; the answer
    /// says which and why.
    pub async fn reload(&self) -> ReloadView {
        self.inner.reload().await
    }

    /// What is in force in a few words, for the log.
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

    /// Stops within 10 s: requests are answered, deliveries in flight end or are parked, everything
    /// is saved.
    pub async fn stop(self) {
        self.server.stop(STOP_REQUESTS).await;
        self.inner.close().await;
        self.stopping.cancel();
    }
}

impl Inner {
    async fn reload(&self) -> ReloadView {
        let _one_at_a_time = self.reloading.lock().await;
        let before = self.live.load_full();
        let (files, host) = (self.files.clone(), self.host.clone());
        let loaded = blocking(move || {
            let (plan, warnings) = match read_plan(&files) {
                Ok(read) => read,
                Err(complaints) => {
                    // A complaint about a plugin can arise before anything is loaded.
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
                    _ => self.put_in_force(plan, loaded, rollouts).await,
                }
            }
        };
        *sync::lock(&self.last_reload) = view.clone();
        view
    }

    async fn put_in_force(&self, plan: Plan, loaded: Loaded, rollouts: Rollouts) -> ReloadView {
        let old = self.live.load_full();
        let changes = apply::changes(&old, &plan, &loaded);
        if changes.is_empty() {
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
                    complaints: Vec::new(),
                }
            }
            Err(error) => self.refused(
                rollouts,
                vec![Complaint::of_file(
                    &self.files[0],
                    format!("the store could not follow: {error}"),
                    None,
                )],
            ),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        sync::lock(&self.history)
    }

    fn refused(&self, rollouts: Rollouts, complaints: Vec<Complaint>) -> ReloadView {
        let first = complaints
            .first()
            .map(|complaint| complaint.what.clone())
            .unwrap_or_default();
        self.history().refused(rollouts, &first);
        tracing::error!(
            "the configuration is refused, the old one serves on:\n{}",
            plan::render(&complaints)
        );
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
            complaints: complaints.collect(),
        }
    }

    async fn save_regularly(self: Arc<Self>) {
        let mut beat = tokio::time::interval(SAVE_EVERY);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.stopping.cancelled() => return,
            }
            let store = self.store.clone();
            if let Err(error) = blocking(move || store.save(now())).await {
                tracing::error!(%error, "positions could not be saved");
            }
        }
    }

    /// Channels first, so that what they know is saved; then the store.
    async fn close(&self) {
        let live = self.live.load_full();
        let stops = live
            .channels
            .values()
            .map(|channel| channel.stop(STOP_DELIVERIES));
        join_all(stops).await;
        let store = self.store.clone();
        if let Err(error) = blocking(move || store.close()).await {
            tracing::error!(%error, "the store could not be closed");
        }
    }
}

/// Waits for all of them, side by side.
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

/// Runs what may block where it stops nobody. A panic in it is passed on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
