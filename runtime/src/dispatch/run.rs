//! The loop of a channel: one task that owns all of the channel's state and leaves the slow work,
//! rendering and sending, to other tasks.
//!
//! In each turn the loop takes as many entities as the target takes soon (`take`), starts
//! preparations and requests (`deliver`), and settles those that have finished (`settle`). Nothing
//! in a turn blocks: a sweep that reaches the end of its reserved stretch continues when its save
//! has completed, and the lanes continue meanwhile. Between turns the loop waits for the first
//! event; only a command from outside (pause, sweep, another configuration, stop) is awaited to its
//! end. The room for entities in flight is bounded, and each track has its own, so that a sweep
//! never delays an urgent price.

mod control;
mod deliver;
mod record;
mod settle;
mod take;
mod tell;
mod walked;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::control::Control;
use self::deliver::Kept;
use self::record::Recorded;
use self::walked::Walk;
use super::abort_on_panic::AbortOnPanic;
use super::breaker::Admission;
use super::clock::Clock;
use super::flight::{Ready, Sent};
use super::guard::Guard;
use super::handle::Permit;
use super::prepare::{BoxFuture, Preparation};
use super::retry::{RetryBudget, Schedule, Tried};
use super::trouble::Trouble;
use super::turns::{TRACKS, WeightedRoundRobin};
use super::{Setup, Shared};
use crate::happenings::{Body, Happening, Hash};
use crate::model::{Lane, Ordinal, Sequence, Timestamp};
use crate::store::{self, Joined, Lease, Pending, Queue, Store};

/// Maximum number of entities in flight on each track, unless two full requests hold more: while one is
/// being answered, the next is filled. Their bytes are bounded by [`BYTES_MAX`], however many they are.
///
/// [`BYTES_MAX`]: super::BYTES_MAX
const ROOM_MAX: usize = 1024;
const REQUESTS_IN_FLIGHT: usize = 2;
/// Bytes that an entity is assumed to have in memory before any is known. The first preparations are
/// small because of it.
const ASSUMED_BYTES: usize = 16 * 1024 * 1024;
/// How long a request waits for more entities while some are being prepared, and how long for each that it
/// may hold, if that is longer: it is about as long as it takes to prepare them.
const LINGER: Duration = Duration::from_millis(5);
const LINGER_AN_ENTITY: Duration = Duration::from_micros(20);
/// How long a channel ignores further commits after one that did not concern it: each commit may
/// wake hundreds of channels, and most commits concern only a few of them.
const UNCONCERNED: Duration = Duration::from_millis(40);
/// Maximum number of entities taken in one turn before the loop checks for finished tasks.
const TAKEN_A_TURN: usize = 256;
/// Time limit of a stop that was given no deadline.
const STOP_MAX: Duration = Duration::from_secs(8);

/// An entity between lease and settlement.
struct Flight {
    track: usize,
    attempts: u8,
    revision: Sequence,
    released: bool,
    tried: Option<Tried>,
    /// It was refused and is tried once more.
    once_more: bool,
    /// It owes a change that was committed since the channel was started.
    new_change: bool,
    /// What it took out of the retry budget, if it is a retry.
    retry: Option<f64>,
    /// It changed while its rendering waited. The next rendering is sent even if it changes again,
    /// because an entity that changes all the time must be sent too.
    reread: bool,
    /// Bytes that it has in memory, of [`BYTES_MAX`].
    bytes: usize,
    /// Bytes that it needs at least until it is sent, if it has turned out to need more than was
    /// assumed.
    needs: usize,
    recorded: Recorded,
}

/// The result of a task; of a send also the number of requests.
enum Done {
    Prepared(Preparation),
    Sent(Vec<(Ready, Sent)>, usize),
}

/// A running task with its entities, so that they can be settled even if it panics.
struct Job {
    track: usize,
    prepares: bool,
    members: Vec<Ordinal>,
}

/// How much work the loop may start at the moment.
#[derive(Clone, Copy, PartialEq)]
enum Gate {
    Open,
    /// One entity, to find out whether the target is back.
    Probe,
    Shut {
        until: Option<Timestamp>,
    },
}

pub(crate) struct Run {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    shared: Arc<Shared>,
    setup: Arc<Setup>,
    clock: Clock,
    dice: fastrand::Rng,
    watermark: watch::Receiver<Sequence>,
    target_changes: watch::Receiver<()>,
    paused: bool,
    flights: HashMap<Ordinal, Flight>,
    /// How many of them were read again, or are being.
    rereads: usize,
    in_track: [usize; TRACKS],
    more: [bool; TRACKS],
    /// When a track has more, because an entity is quiet then.
    quiet_at: [Option<Instant>; TRACKS],
    /// There may be new entities that the sweep has not passed yet.
    newer: bool,
    /// The sweep has passed all others, or there were none.
    only_new: bool,
    /// The pending save that reserves the sweep's next stretch; until it completes, the sweep does
    /// not walk.
    reserving: Option<Pending<()>>,
    taken: [VecDeque<Lease>; TRACKS],
    ready: [VecDeque<Ready>; TRACKS],
    ready_since: [Option<Instant>; TRACKS],
    /// Running preparations, and their entities by track.
    preparations: usize,
    preparing: [usize; TRACKS],
    /// Bytes of all entities in flight, and how many the next one is assumed to need: as many as the
    /// largest of the last ones, read and rendered.
    bytes: usize,
    assumed_bytes: usize,
    /// The share of the prepared entities that had to be sent, mostly of the last ones.
    sent_share: f64,
    /// Permits that have come and are not used yet.
    permits: Vec<Kept>,
    /// Pending requests for a permit: for any work, and for urgent work.
    asking: [Option<BoxFuture<'static, Option<Permit>>>; 2],
    tasks: JoinSet<Done>,
    jobs: HashMap<Id, Job>,
    schedule: Schedule,
    held: HashSet<Ordinal>,
    /// There were commits since the last look for changes of entities that wait for one.
    changed: bool,
    /// When that look is due, and the next one at refused entities; `None` if none is refused.
    looks_at: Instant,
    refused_look: Option<Instant>,
    /// The last refused entity that was looked at in this round.
    refused_after: Option<Ordinal>,
    budget: RetryBudget,
    trouble: Trouble,
    guard: Guard,
    /// The number of entities of which the target holds something, and when it was read.
    holding: Option<(u64, Timestamp)>,
    walking: WeightedRoundRobin,
    rendering: WeightedRoundRobin,
    sending: WeightedRoundRobin,
    /// First attempts have stopped, because too many entities wait for a retry.
    overfull: bool,
    /// The last turn ended with work left.
    unfinished: bool,
    /// Whether anything was taken since the last commit that the channel checked.
    concerned: bool,
    /// Commits are ignored until this instant.
    rests_until: Option<Instant>,
    walk: Walk,
    /// The wall clock at the begin of this turn.
    stamp: Timestamp,
    /// What has happened to entities and is not recorded yet, and what was delivered.
    happened: Vec<Happening>,
    arrived: Vec<(Hash, Body)>,
    /// The newest change when the channel was started.
    began: Sequence,
    /// Changes up to this one were there before the channel, or before it subscribed to them, and how long ago
    /// that was says nothing about it. 0 if it has met them all.
    there_before: Sequence,
    /// The changes that were delivered in this turn: their lanes, and when they were committed.
    delivered: Vec<(Lane, Timestamp)>,
}

impl Run {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        queue: Arc<dyn Queue>,
        shared: Arc<Shared>,
        setup: Arc<Setup>,
        joined: &Joined,
    ) -> Run {
        let clock = setup.target.clock();
        let shares = WeightedRoundRobin::new(setup.shares);
        let began = *store.watermark().borrow();
        // A sweep that was not over at the last stop goes on.
        let sweeps = joined.swept || queue.owed().sweep > 0;
        let mut run = Run {
            watermark: store.watermark(),
            target_changes: setup.target.changes(),
            paused: joined.paused,
            budget: RetryBudget::new(clock.now()),
            trouble: Trouble::default(),
            clock,
            dice: setup.target.fork_dice(),
            flights: HashMap::new(),
            rereads: 0,
            in_track: [0; TRACKS],
            more: [true; TRACKS],
            quiet_at: [None; TRACKS],
            newer: false,
            only_new: false,
            reserving: None,
            taken: Default::default(),
            ready: Default::default(),
            ready_since: [None; TRACKS],
            preparations: 0,
            preparing: [0; TRACKS],
            bytes: 0,
            assumed_bytes: ASSUMED_BYTES,
            sent_share: 1.0,
            permits: Vec::new(),
            asking: Default::default(),
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            schedule: Schedule::new(shared.due_times.clone()),
            held: HashSet::new(),
            changed: false,
            looks_at: Instant::now(),
            refused_look: Some(Instant::now()),
            refused_after: None,
            guard: Guard::restored(joined.withdrawals.clone()),
            holding: None,
            walking: shares.clone(),
            rendering: shares.clone(),
            sending: shares,
            overfull: false,
            unfinished: false,
            concerned: true,
            rests_until: None,
            walk: Walk::default(),
            stamp: setup.target.clock().stamp(),
            happened: Vec::new(),
            arrived: Vec::new(),
            began,
            there_before: if sweeps { began } else { Sequence(0) },
            delivered: Vec::new(),
            store,
            queue,
            shared,
            setup,
        };
        run.reschedule(&joined.parked);
        run.walk_everything();
        run
    }

    pub(crate) async fn run(
        mut self,
        mut control: mpsc::Receiver<Control>,
        shutdown: CancellationToken,
    ) {
        let _whole = AbortOnPanic(format!("the loop of channel {}", self.setup.options.name));
        let within = loop {
            self.turn();
            let wake = if self.unfinished {
                Some(Instant::now())
            } else {
                self.wake()
            };
            tokio::select! {
                () = shutdown.cancelled() => break STOP_MAX,
                control = control.recv() => match control {
                    Some(Control::Stop(within)) => break within,
                    Some(control) => self.control(control).await,
                    // The channel's handle was dropped.
                    None => break STOP_MAX,
                },
                Some(done) = self.tasks.join_next_with_id() => self.settle(done),
                permit = granted(&mut self.asking) => self.permits.extend(permit.map(Kept::new)),
                reserved = end_of(&mut self.reserving) => self.reserved(reserved),
                Ok(()) = self.watermark.changed(), if self.rests_until.is_none() => {
                    self.more[..TRACKS - 1].fill(true);
                    (self.newer, self.changed) = (true, true);
                    let unconcerned = !std::mem::take(&mut self.concerned);
                    self.rests_until = unconcerned.then(|| Instant::now() + UNCONCERNED);
                }
                Ok(()) = self.target_changes.changed() => {}
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            while let Some(done) = self.tasks.try_join_next_with_id() {
                self.settle(done);
            }
        };
        self.drain(within).await;
        self.shared.waiters.wake_all();
    }

    // -- a turn
    // ---------------------------------------------------------------------------------------

    fn turn(&mut self) {
        self.rests_until = self.rests_until.filter(|until| *until > Instant::now());
        self.unfinished = false;
        self.read_clock();
        for (more, quiet_at) in self.more.iter_mut().zip(&mut self.quiet_at) {
            *more |= quiet_at.take_if(|at| *at <= Instant::now()).is_some();
        }
        self.shared.counters.turn();
        match self.gate() {
            Gate::Open => {
                self.look_for_changes();
                self.look_at_refused();
                self.take_due(TAKEN_A_TURN);
                self.walk(TAKEN_A_TURN);
            }
            Gate::Probe => self.take_one(),
            Gate::Shut { until } => self.give_back(until),
        }
        self.prepare();
        self.send();
        self.report_calm();
        self.report_walked();
        self.give_up_permits();
    }

    fn gate(&self) -> Gate {
        match self.setup.target.admits() {
            _ if self.paused => Gate::Shut { until: None },
            // A channel that only counts does not need its target.
            _ if !self.setup.options.deliver => Gate::Open,
            Admission::Flowing => Gate::Open,
            Admission::Probe => Gate::Probe,
            Admission::Wait(until) => Gate::Shut { until },
        }
    }

    /// When the next turn is due even if no event occurs.
    fn wake(&mut self) -> Option<Instant> {
        // An entity that has lingered long enough and is still here waits for a slot, not for time.
        let now = Instant::now();
        let linger = (0..TRACKS)
            .filter_map(|track| Some(self.ready_since[track]? + self.linger(track)))
            .filter(|end| *end > now)
            .min();
        let gate = self.gate();
        let due = match gate {
            Gate::Shut { until } => until,
            Gate::Open if self.has_room() => self
                .schedule
                .first()
                .map(|(_, waiting)| waiting.due.max(self.clock.now())),
            Gate::Open | Gate::Probe => None,
        };
        // Timestamps are rounded down to the millisecond, so wait one millisecond more.
        let due = due.map(|due| self.clock.instant(due) + Duration::from_millis(1));
        let kept = self.permits.iter().map(|kept| kept.until).min();
        let flows = gate == Gate::Open;
        let awaits = flows && self.changed && self.schedule.awaits_changes();
        let quiet = self.quiet_at.iter().flatten().min().copied();
        linger
            .into_iter()
            .chain(quiet.filter(|_| flows || gate == Gate::Probe))
            .chain(due)
            .chain(awaits.then_some(self.looks_at))
            .chain(self.refused_look.filter(|_| flows))
            .chain(self.calm_at())
            .chain(self.hours_at().filter(|_| flows || gate == Gate::Probe))
            .chain(kept)
            .chain(self.walk_look())
            .chain(self.rests_until)
            .min()
    }

    fn batch(&self) -> usize {
        let (channel, target) = (self.setup.options.batch, self.setup.target.nature());
        channel.min(target.batch_max).max(1)
    }

    /// Maximum number of entities in flight on each track.
    fn room_max(&self) -> usize {
        ROOM_MAX.max(REQUESTS_IN_FLIGHT * self.batch())
    }

    /// How long renderings of a track wait for more that are being prepared. A long request is worth a
    /// longer wait, but not to what is urgent.
    fn linger(&self, track: usize) -> Duration {
        match track {
            0 => LINGER,
            _ => LINGER.max(LINGER_AN_ENTITY * self.batch() as u32),
        }
    }
}

/// Waits for a call to complete; waits for ever if there is none.
async fn end_of(call: &mut Option<Pending<()>>) -> Result<(), store::Error> {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// Waits for the first permit that has been asked for; waits for ever if none has.
async fn granted(asking: &mut [Option<BoxFuture<'static, Option<Permit>>>; 2]) -> Option<Permit> {
    std::future::poll_fn(|context| {
        for place in asking.iter_mut() {
            if let Some(asked) = place
                && let Poll::Ready(permit) = asked.as_mut().poll(context)
            {
                *place = None;
                return Poll::Ready(permit);
            }
        }
        Poll::Pending
    })
    .await
}
