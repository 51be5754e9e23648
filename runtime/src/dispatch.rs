//! A channel's life: walk, read as it is now, filter, render, suppress, deliver, settle.
//!
//! A [`Channel`] is one task. It promises that a delivery carries the entity as it is when its turn
//! comes, that an attempt without a complete answer is never taken for certain, that a target in
//! trouble is left alone and found again, that no lane starves, and that stopping loses nothing.
//! What is owed it asks the store; what an answer means it asks the target.

mod abort_on_panic;
pub mod breaker;
mod clock;
mod default_renderer;
mod errors;
mod flight;
pub mod guard;
mod handle;
mod pace;
pub mod prepare;
pub mod retry;
mod run;
mod send;
pub mod status;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::abort_on_panic::AbortOnPanic;
pub use self::clock::Clock;
pub use self::default_renderer::DefaultRenderer;
use self::errors::Errors;
pub use self::handle::TargetHandle;
pub use self::prepare::{BoxFuture, Preview, PreviewVerdict, Render};
use self::retry::DueTimes;
use self::run::{Control, Run};
pub use self::status::{Counters, Status};
use crate::model::{EntityId, Ordinal, Timestamp};
use crate::store::{self, Joined, Queue, Store, Subscription};
use crate::sync::lock;

/// The most entities of a channel that wait for a retry. Beyond it the target is in trouble,
/// whatever each answer said: first attempts stop, and it is left alone until a probe succeeds.
pub const PARKED_MAX: usize = 10_000;

/// A channel as configured, one for each row where it has `for_each`.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Its name, for example `storefront.de`.
    pub name: Arc<str>,
    /// The entity type it consumes.
    pub entity_type: Arc<str>,
    /// Facet patterns it subscribes to, columns filled in.
    pub facets: Vec<String>,
    /// Patterns of which each must match a facet that is there; else the entity is withheld, or
    /// withdrawn.
    pub needs: Vec<String>,
    /// The name of its target in the plan.
    pub target: Arc<str>,
    /// The most entities in one request; above 1 they are sent in the form for several. Each channel
    /// has its own, whatever others on its target have.
    pub batch: usize,
    /// False: walk, filter, render and count, send nothing.
    pub deliver: bool,
    /// False: send also what the target certainly holds.
    pub suppress: bool,
    /// The objective for the age of the oldest change owed.
    pub freshness: Option<Duration>,
    /// When a failed delivery is tried again.
    pub retry: retry::Options,
    /// How much may be withdrawn.
    pub withdraw_max: WithdrawMax,
    /// The name it had before.
    pub was: Option<String>,
}

/// The guard against mass withdrawal: a bug must not empty a shop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WithdrawMax {
    /// Of what the channel holds, 0 to 1; 0.02.
    pub share: f64,
    /// Within this time; 1 h.
    pub per: Duration,
    /// So many are always let through; 100.
    pub min: u64,
}

/// All that a channel is made from; a changed configuration replaces it as a whole.
pub struct Setup {
    /// The channel as configured.
    pub options: Options,
    /// What the store must know of it.
    pub subscription: Subscription,
    /// Filters and renderer; none: the facets as JSON.
    pub chain: Option<Arc<dyn Render>>,
    /// Where it delivers; channels of one target share one handle.
    pub target: Arc<TargetHandle>,
    /// Renderings shared by the channels that have no renderer.
    pub default_renderer: Arc<DefaultRenderer>,
    /// Shares of the lanes, highest first.
    pub shares: [u32; 3],
    /// The most entities that wait for a retry; [`PARKED_MAX`].
    pub parked_max: usize,
}

/// A running channel.
pub struct Channel {
    control: mpsc::Sender<Control>,
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What the task and those who look at it have in common.
struct Shared {
    setup: ArcSwap<Setup>,
    /// Replaced with the setup.
    queue: ArcSwap<Arc<dyn Queue>>,
    counters: Arc<Counters>,
    errors: Mutex<Errors>,
    due_times: DueTimes,
    paused: Mutex<Option<String>>,
}

/// Why a channel did not do what it was told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The channel has been stopped.
    #[error("the channel has been stopped")]
    Stopped,
    /// The store could not.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Channel {
    /// Joins the store and starts walking, on the runtime that this is called on. It stops when
    /// `shutdown` is cancelled, by [`Channel::stop`], or when it is dropped.
    ///
    /// # Errors
    /// What the store says to the joining.
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
        });
        // Operators and reloads are few; more than so many at once wait for their turn.
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

    /// What it still owes, in the store.
    pub fn queue(&self) -> Arc<dyn Queue> {
        Arc::clone(&self.shared.queue.load())
    }

    /// What it is made from at the moment.
    pub fn setup(&self) -> Arc<Setup> {
        self.shared.setup.load_full()
    }

    /// Takes no more entities until [`Channel::resume`]; requests in flight end. Remembered over
    /// restarts.
    ///
    /// # Errors
    /// See [`Error`]; if the store cannot remember it, it holds until the next start.
    pub async fn pause(&self) -> Result<(), Error> {
        Ok(self.order(|done| Control::Pause(true, done)).await??)
    }

    /// Goes on after a pause.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resume(&self) -> Result<(), Error> {
        Ok(self.order(|done| Control::Pause(false, done)).await??)
    }

    /// Sends everything again, deletions included, because the target has lost it. Waits for
    /// requests in flight.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn resync(&self) -> Result<(), Error> {
        Ok(self
            .order(|done| Control::Resweep { lost: true, done })
            .await??)
    }

    /// Renders everything again and sends what differs.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn rerender(&self) -> Result<(), Error> {
        Ok(self
            .order(|done| Control::Resweep { lost: false, done })
            .await??)
    }

    /// Releases the withdrawals that the guard holds; answers how many.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn confirm(&self) -> Result<usize, Error> {
        self.order(Control::Confirm).await
    }

    /// Tries refused entities again; answers how many there were.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn redrive(&self, ordinals: Vec<Ordinal>) -> Result<usize, Error> {
        self.order(|done| Control::Redrive(ordinals, done)).await
    }

    /// Goes on with another configuration, chain or target: flights end first, with the old ones;
    /// then the store is joined with the new subscription, which sweeps if the shape or the target
    /// differs. Nothing is handled by half of each.
    ///
    /// # Errors
    /// See [`Error`]; then it goes on as it was.
    pub async fn replace(&self, setup: Setup) -> Result<Joined, Error> {
        Ok(self
            .order(|done| Control::Replace(Box::new(setup), done))
            .await??)
    }

    /// What would become of an entity now; none if there is no such entity.
    ///
    /// # Errors
    /// What the store says to the reading.
    pub async fn preview(&self, id: &EntityId) -> Result<Option<Preview>, store::Error> {
        let Some(ordinal) = self.store.find(id) else {
            return Ok(None);
        };
        let Some(entity) = self.store.read(&[ordinal])?.pop().flatten() else {
            return Ok(None);
        };
        let setup = self.setup();
        Ok(Some(
            prepare::preview(&setup.options, setup.chain.as_deref(), &entity).await,
        ))
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        let setup = self.setup();
        let target = setup.target.status();
        let paused = lock(&self.shared.paused).clone();
        let (state, reason) = match (self.control.is_closed(), paused, target.state) {
            (true, _, _) => (status::State::Stopped, String::new()),
            (_, Some(reason), _) => (status::State::Paused, reason),
            // What is only counted needs no target.
            _ if !setup.options.deliver => (status::State::Flowing, String::new()),
            (_, _, breaker::State::Flowing) => (status::State::Flowing, String::new()),
            (_, _, breaker::State::Tripped { .. }) => {
                (status::State::Tripped, target.reason.clone())
            }
            (_, _, breaker::State::Probing) => (status::State::Probing, target.reason.clone()),
        };
        let owed = self.queue().owed();
        let freshness = Status::freshness(&owed, setup.target.clock().stamp());
        Status {
            state,
            reason,
            target,
            owed,
            freshness,
            freshness_objective: setup.options.freshness,
        }
    }

    /// What it has counted since it started.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// Why an entity is parked, if that is still remembered.
    pub fn last_error(&self, ordinal: Ordinal) -> Option<Arc<str>> {
        self.shared.errors().last(ordinal)
    }

    /// The newest failed or refused delivery since the start, with its time.
    pub fn last_failure(&self) -> Option<(Timestamp, Arc<str>)> {
        self.shared.errors().newest()
    }

    /// When the next attempt of a parked entity is due; none if it is not parked.
    pub fn next_attempt(&self, ordinal: Ordinal) -> Option<Timestamp> {
        self.shared.due_times.of(ordinal)
    }

    /// Stops: takes no more, waits for requests in flight for so long, breaks the others off, and
    /// parks what was not delivered. When it returns no flight is left. Takes at most about
    /// `within`.
    pub async fn stop(&self, within: Duration) {
        // If the task has ended already there is nobody to tell.
        let _ = self.control.send(Control::Stop(within)).await;
        let task = lock(&self.task).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(channel = %self.setup().options.name, %error, "the task of a channel failed");
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
