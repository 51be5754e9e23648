//! The life of a channel: it walks the queue, reads each entity as it is now, filters, renders,
//! suppresses, delivers and settles.
//!
//! A [`Channel`] is one task. It promises that a delivery carries the entity as it is when its
//! request starts, that an attempt without a complete response never counts as certain, that a target in
//! trouble is left alone and probed until it is back, that no lane starves, and that stopping loses
//! nothing. The store knows what the channel owes; the target decides what a response means.

mod abort_on_panic;
pub mod breaker;
mod clock;
mod default_renderer;
pub mod drift;
mod errors;
mod flight;
mod flow;
pub mod guard;
mod handle;
pub mod hours;
pub mod latency;
mod lateness;
mod pace;
pub mod prepare;
mod quota;
mod request_size;
pub mod retry;
mod run;
mod send;
pub mod status;
mod traced;
mod trouble;
mod turns;
mod waiters;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::abort_on_panic::AbortOnPanic;
pub use self::clock::Clock;
pub use self::default_renderer::DefaultRenderer;
use self::errors::Errors;
pub(crate) use self::flight::REFUSED;
use self::flow::Changes;
pub use self::flow::Flow;
pub use self::handle::TargetHandle;
use self::hours::Hours;
use self::latency::{Latencies, Latency};
use self::lateness::Lateness;
pub use self::prepare::{BoxFuture, Preview, PreviewVerdict, Render};
pub use self::quota::Quota;
use self::retry::DueTimes;
use self::run::{Control, Run};
pub use self::status::{Counters, Status};
pub use self::waiters::Waiter;
use self::waiters::Waiters;
use crate::happenings::Recorder;
use crate::model::{EntityId, Lane, Ordinal, Timestamp};
use crate::store::{self, Debounce, Joined, Queue, Store, Subscription};
use crate::sync::lock;
use crate::traces::Traces;

/// The maximum number of entities of a channel that may wait for a retry. Above it the target
/// counts as in trouble, whatever the individual responses said: first attempts stop, and nothing
/// is sent until a probe succeeds.
pub const PARKED_MAX: usize = 10_000;

/// The maximum number of entities of a channel with these options that may wait for a retry: four full
/// requests if they hold more than [`PARKED_MAX`], so that one that fails does not stop the channel.
pub fn parked_max(options: &Options) -> usize {
    PARKED_MAX.max(4 * options.batch)
}

/// The maximum number of bytes of the entities of a channel between reading and the response of its
/// target: what was read and rendered, and the bodies of requests. A larger entity goes alone.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// A channel as configured. With `for_each` there is one for each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name, for example `storefront.de`.
    pub name: Arc<str>,
    /// The entity type it consumes.
    pub entity_type: Arc<str>,
    /// Facet patterns it subscribes to, columns filled in.
    pub facets: Vec<String>,
    /// Each of these patterns must match a facet that has a value; otherwise the entity is
    /// withheld, or withdrawn.
    pub needs: Vec<String>,
    /// The name of its target in the plan.
    pub target: Arc<str>,
    /// The maximum number of entities in one request. Above 1 they are sent in the batch form. Each
    /// channel has its own limit, independent of other channels on the same target.
    pub batch: usize,
    /// The maximum number of bytes of a request with several entities. A target that answers 413 to
    /// shorter ones gets shorter ones. Default 1 MiB.
    pub batch_bytes: usize,
    /// If false, the channel walks, filters, renders and counts, but sends nothing.
    pub deliver: bool,
    /// If false, renderings that the target certainly holds already are sent too.
    pub suppress: bool,
    /// The objective for the age of the oldest change owed.
    pub freshness: Option<Duration>,
    /// How long it waits until an entity is quiet; `None` means not at all.
    pub debounce: Option<Debounce>,
    /// The hours in which lanes are sent; `None` means at any time.
    pub hours: Option<Hours>,
    /// When a failed delivery is tried again.
    pub retry: retry::Options,
    /// The limit on withdrawals.
    pub withdraw_max: WithdrawMax,
    /// The channel's previous name, if it was renamed.
    pub was: Option<String>,
}

/// The guard against mass withdrawal: a bug must not empty a shop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WithdrawMax {
    /// Share of the entities that the channel holds, 0 to 1. Default 0.02.
    pub share: f64,
    /// The time span to which the limit applies. Default 1 h.
    pub per: Duration,
    /// This many withdrawals are always allowed. Default 100.
    pub min: u64,
}

/// Everything a channel is built from. A changed configuration replaces it as a whole.
pub struct Setup {
    /// The channel as configured.
    pub options: Options,
    /// The part of the channel's configuration that the store needs.
    pub subscription: Subscription,
    /// Filters and renderer. Without a chain the rendering is the facets as JSON.
    pub chain: Option<Arc<dyn Render>>,
    /// The target it delivers to. Channels of one target share one handle.
    pub target: Arc<TargetHandle>,
    /// Renderings shared by the channels that have no renderer.
    pub default_renderer: Arc<DefaultRenderer>,
    /// Shares of the lanes, highest priority first.
    pub shares: [u32; 3],
    /// The maximum number of entities that wait for a retry. See [`parked_max`].
    pub parked_max: usize,
    /// Where it is recorded what happens to entities, if anywhere.
    pub recorder: Option<Recorder>,
    /// Where spans of its requests go.
    pub traces: Arc<Traces>,
}

/// A running channel.
pub struct Channel {
    control: mpsc::Sender<Control>,
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// State shared by the task and by callers that inspect the channel.
struct Shared {
    setup: ArcSwap<Setup>,
    /// Replaced with the setup.
    queue: ArcSwap<Arc<dyn Queue>>,
    counters: Arc<Counters>,
    errors: Mutex<Errors>,
    due_times: DueTimes,
    paused: Mutex<Option<String>>,
    waiters: Waiters,
    changes: Mutex<Changes>,
    latencies: Mutex<Latencies>,
    lateness: Mutex<Lateness>,
}

/// Why a command to a channel failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The channel has been stopped.
    #[error("the channel has been stopped")]
    Stopped,
    /// The store returned an error.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Channel {
    /// Joins the store and starts walking, on the current tokio runtime. The channel stops when
    /// `shutdown` is cancelled, when [`Channel::stop`] is called, or when it is dropped.
    ///
    /// # Errors
    /// The store's error if joining fails.
    pub async fn start(
        setup: Setup,
        store: Arc<dyn Store>,
        shutdown: CancellationToken,
    ) -> Result<(Channel, Joined), store::Error> {
        let (queue, joined) = store.join(&setup.options.name, &setup.subscription).await?;
        let setup = Arc::new(setup);
        let shared = Arc::new(Shared {
            setup: ArcSwap::new(setup.clone()),
            queue: ArcSwap::from_pointee(queue.clone()),
            counters: Arc::default(),
            errors: Mutex::default(),
            due_times: DueTimes::default(),
            paused: Mutex::new(
                joined
                    .paused
                    .then(|| "paused before the last stop".to_owned()),
            ),
            waiters: Waiters::default(),
            changes: Mutex::new(Changes::since(queue.changes())),
            latencies: Mutex::default(),
            lateness: Mutex::default(),
        });
        // Commands from operators and reloads are rare; if more than 16 are pending, callers wait.
        let (control, orders) = mpsc::channel(16);
        let run = Run::new(store.clone(), queue, shared.clone(), setup, &joined);
        let task = Mutex::new(Some(tokio::spawn(run.run(orders, shutdown))));
        Ok((
            Channel {
                control,
                shared,
                store,
                task,
            },
            joined,
        ))
    }

    /// The store's queue of what the channel still owes.
    pub fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.shared.queue.load())
    }

    /// The current setup.
    pub fn setup(&self) -> Arc<Setup> {
        self.shared.setup.load_full()
    }

    /// Takes no more entities until [`Channel::resume`]; requests in flight complete. The pause
    /// survives restarts.
    ///
    /// # Errors
    /// See [`Error`]. If the store cannot save the pause, it lasts until the next start.
    pub async fn pause(&self) -> Result<(), Error> {
        Ok(self.order(|done| Control::Pause(true, done)).await??)
    }

    /// Resumes after a pause.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(&self) -> Result<(), Error> {
        Ok(self.order(|done| Control::Pause(false, done)).await??)
    }

    /// Resync: sends everything again, deletions included, because the target has lost its data.
    /// Waits for requests in flight.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resync(&self) -> Result<(), Error> {
        Ok(self
            .order(|done| Control::Resweep { lost: true, done })
            .await??)
    }

    /// Rerender: renders everything again and sends what differs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rerender(&self) -> Result<(), Error> {
        Ok(self
            .order(|done| Control::Resweep { lost: false, done })
            .await??)
    }

    /// Releases the withdrawals that the guard holds, and returns their number.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn confirm(&self) -> Result<usize, Error> {
        self.order(Control::Confirm).await
    }

    /// Redrive: tries refused entities (dead letters) again, and returns their number.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redrive(&self, ordinals: Vec<Ordinal>) -> Result<usize, Error> {
        self.order(|done| Control::Redrive(ordinals, done)).await
    }

    /// Resend: sends entities once more, whatever the target holds of them. Returns the number of those
    /// that were not waiting for a retry anyway.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resend(&self, ordinals: Vec<Ordinal>) -> Result<usize, Error> {
        self.order(|done| Control::Resend(ordinals, done)).await
    }

    /// Switches to another configuration, chain or target. Flights first end with the old setup;
    /// then the channel joins the store with the new subscription, which starts a sweep if the
    /// shape or the target differs. No entity is handled partly by the old setup and partly by the
    /// new one.
    ///
    /// # Errors
    /// See [`Error`]. On an error the channel keeps its old setup.
    pub async fn replace(&self, setup: Setup) -> Result<Joined, Error> {
        Ok(self
            .order(|done| Control::Replace(Box::new(setup), done))
            .await??)
    }

    /// What the channel would do with an entity now; `None` if there is no such entity.
    ///
    /// # Errors
    /// The store's error if reading fails.
    pub async fn preview(&self, id: &EntityId) -> Result<Option<Preview>, store::Error> {
        let Some(ordinal) = self.store.find(id) else {
            return Ok(None);
        };
        let entity = self.store.read(&[ordinal])?.pop().flatten();
        let Some(entity) = entity.filter(|entity| entity.id == *id) else {
            return Ok(None);
        };
        let setup = self.setup();
        Ok(Some(
            prepare::preview(&setup.options, setup.chain.as_deref(), &entity).await,
        ))
    }

    /// The current status.
    pub fn status(&self) -> Status {
        let setup = self.setup();
        let target = setup.target.status();
        let paused = lock(&self.shared.paused).clone();
        let (state, reason) = match (self.control.is_closed(), paused, target.state) {
            (true, _, _) => (status::State::Stopped, String::new()),
            (_, Some(reason), _) => (status::State::Paused, reason),
            // A channel that only counts does not need its target.
            _ if !setup.options.deliver => (status::State::Flowing, String::new()),
            (_, _, breaker::State::Flowing) => (status::State::Flowing, String::new()),
            _ if target.ahead => {
                let (reason, name) = (&target.reason, &setup.options.name);
                let settled = format!(
                    "{reason}; if Weir is right, `weir channel overwrite {name}` sends everything over it"
                );
                (status::State::Ahead, settled)
            }
            (_, _, breaker::State::Tripped { .. }) => {
                (status::State::Tripped, target.reason.clone())
            }
            (_, _, breaker::State::Probing) => (status::State::Probing, target.reason.clone()),
        };
        let owed = self.queue().owed();
        let now = setup.target.clock().stamp();
        let freshness = Status::freshness(&owed, now);
        let hours = setup.options.hours.as_ref();
        let waiting = status::Waiting::new(&owed, hours, now);
        let reason = match state {
            status::State::Flowing => waiting.reason(hours, setup.options.debounce),
            _ => reason,
        };
        Status {
            state,
            reason,
            target,
            overdue: Status::overdue(&owed, hours, now),
            waiting,
            owed,
            freshness,
            freshness_objective: setup.options.freshness,
        }
    }

    /// The counters since it started.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// What became of the changes since it was started; `owed` is the channel's.
    pub fn flow(&self, owed: &store::Owed) -> Flow {
        // In this order an entity may be counted as owed and as settled, so that no change counts as
        // coalesced that was not.
        let changes = lock(&self.shared.changes).count(self.queue().changes());
        Flow::new(changes, &self.shared.counters, owed)
    }

    /// How long the changes of a lane took from acceptance to delivery, over the last minute, hour and day.
    pub fn latency(&self, lane: Lane) -> [Latency; 3] {
        let now = self.setup().target.clock().now();
        lock(&self.shared.latencies).of(lane, now)
    }

    /// The number of deliveries that seemed to come before their change, because a clock was set back.
    pub fn negative_latencies(&self) -> u64 {
        lock(&self.shared.latencies).negative()
    }

    /// The latencies that are kept over a restart; `None` if there are none.
    pub fn latency_memory(&self) -> Option<Vec<u8>> {
        lock(&self.shared.latencies).memory()
    }

    /// Takes back what [`Channel::latency_memory`] returned before a restart.
    pub fn recall_latencies(&self, memory: &[u8]) {
        lock(&self.shared.latencies).recall(memory);
    }

    /// Counts the time for which the oldest change owed is later than the objective. Call it once a second;
    /// it looks less often if looking takes long. `channels` is how many are looked at.
    pub fn look_at_lateness(&self, channels: usize) {
        let setup = self.setup();
        let clock = setup.target.clock();
        lock(&self.shared.latencies).look_at_clock(clock.moment());
        let objective = setup.options.freshness;
        let mut lateness = lock(&self.shared.lateness);
        let overdue = || {
            let owed = self.queue().owed();
            Status::overdue(&owed, setup.options.hours.as_ref(), clock.stamp())
        };
        let late = lateness.look(objective, clock.elapsed(), channels, overdue);
        self.shared.counters.late(late);
    }

    /// Why an entity is parked, if that error is still kept.
    pub fn last_error(&self, ordinal: Ordinal) -> Option<Arc<str>> {
        self.shared.errors().last(ordinal)
    }

    /// The newest failed or refused delivery since the start, with its time.
    pub fn last_failure(&self) -> Option<(Timestamp, Arc<str>)> {
        self.shared.errors().newest()
    }

    /// When the next attempt of a parked entity is due; `None` if it is not parked.
    pub fn next_attempt(&self, ordinal: Ordinal) -> Option<Timestamp> {
        self.shared.due_times.of(ordinal)
    }

    /// Wakes `wake` whenever a flight of this entity has ended, as long as the result lives. Look at the
    /// entity's standing after this call: what happens in between is not lost.
    pub fn wait_for(&self, ordinal: Ordinal, wake: &Arc<Notify>) -> Waiter {
        Waiter::new(self.shared.clone(), ordinal, wake)
    }

    /// Stops the channel: it takes no more entities, waits up to `within` for requests in flight,
    /// aborts the rest, and parks what was not delivered. When this returns, no flight is left. It
    /// takes at most about `within`.
    pub async fn stop(&self, within: Duration) {
        // Sending fails only if the task has already ended.
        let _ = self.control.send(Control::Stop(within)).await;
        let task = lock(&self.task).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(channel = %self.setup().options.name, %error, "the channel's task failed");
        }
    }

    async fn order<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        self.control
            .send(control(done))
            .await
            .map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }
}

impl Shared {
    fn errors(&self) -> MutexGuard<'_, Errors> {
        lock(&self.errors)
    }

    fn paused(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.paused)
    }
}

#[cfg(test)]
mod tests;
