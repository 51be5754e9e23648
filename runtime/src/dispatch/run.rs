//! The loop of a channel: one task that owns all of the channel's state and leaves the slow work,
//! rendering and sending, to other tasks.
//!
//! In each turn the loop takes as many entities as there is room for, starts preparations and
//! sends, and settles those that have finished. Nothing in a turn blocks: a sweep that reaches the
//! end of its reserved stretch continues when its save has completed, and the lanes continue
//! meanwhile. Between turns the loop waits for the first event; only a command from outside (pause,
//! sweep, another configuration, stop) is awaited to its end. The room for entities in flight is
//! bounded, and each track has its own, so that a sweep never delays an urgent price.

mod control;
mod settle;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::control::Control;
use super::abort_on_panic::AbortOnPanic;
use super::breaker::Admission;
use super::clock::Clock;
use super::flight::{Ready, Sent};
use super::guard::Guard;
use super::pace::{TRACKS, WeightedRoundRobin};
use super::prepare::{Prepared, RENDER_MAX, prepare};
use super::retry::{RetryBudget, Schedule, Tried, Waiting};
use super::send::{SendContext, send};
use super::{Setup, Shared};
use crate::model::{Ordinal, Sequence, Timestamp, Track};
use crate::store::{self, Ending, Joined, Lease, Pending, Queue, Settlement, Store, Walked};

/// Minimum and maximum number of entities in flight on each track. The minimum makes rendering in
/// batches worthwhile; the maximum keeps the renderings that wait in memory within hundreds of
/// megabytes in the worst case.
const ROOM: (usize, usize) = (64, 1024);
/// Concurrent preparations for each channel: half the plugin threads, because other channels have
/// entities too.
const PREPARATIONS_MAX: usize = 4;
/// Maximum number of entities in one preparation of a channel without plugins.
const PLAIN_MAX: usize = 512;
/// How long a request waits for more entities while some are being prepared.
const LINGER: Duration = Duration::from_millis(5);
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
}

/// The result of a task.
enum Done {
    Prepared(Vec<Prepared>),
    Sent(Vec<(Ready, Sent)>),
}

/// A running task with its entities, so that they can be settled even if it panics.
struct Job {
    track: usize,
    sends: bool,
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
    in_track: [usize; TRACKS],
    more: [bool; TRACKS],
    /// There may be new entities that the sweep has not passed yet.
    newer: bool,
    /// The pending save that reserves the sweep's next stretch; until it completes, the sweep does
    /// not walk.
    reserving: Option<Pending<()>>,
    taken: [VecDeque<Lease>; TRACKS],
    ready: [VecDeque<Ready>; TRACKS],
    ready_since: [Option<Instant>; TRACKS],
    tasks: JoinSet<Done>,
    jobs: HashMap<Id, Job>,
    schedule: Schedule,
    held: HashSet<Ordinal>,
    budget: RetryBudget,
    guard: Guard,
    /// The number of entities of which the target holds something, and when it was read.
    holding: Option<(u64, Timestamp)>,
    walking: WeightedRoundRobin,
    preparing: WeightedRoundRobin,
    sending: WeightedRoundRobin,
    /// First attempts have stopped, because too many entities wait for a retry.
    overfull: bool,
    /// The last turn ended with work left.
    unfinished: bool,
    /// Whether anything was taken since the last commit that the channel checked.
    concerned: bool,
    /// Commits are ignored until this instant.
    rests_until: Option<Instant>,
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
        let mut run = Run {
            watermark: store.watermark(),
            target_changes: setup.target.changes(),
            paused: joined.paused,
            budget: RetryBudget::new(clock.now()),
            clock,
            dice: setup.target.fork_dice(),
            flights: HashMap::new(),
            in_track: [0; TRACKS],
            more: [true; TRACKS],
            newer: false,
            reserving: None,
            taken: Default::default(),
            ready: Default::default(),
            ready_since: [None; TRACKS],
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            schedule: Schedule::new(shared.due_times.clone()),
            held: HashSet::new(),
            guard: Guard::restored(joined.withdrawals.clone()),
            holding: None,
            walking: shares.clone(),
            preparing: shares.clone(),
            sending: shares,
            overfull: false,
            unfinished: false,
            concerned: true,
            rests_until: None,
            store,
            queue,
            shared,
            setup,
        };
        run.reschedule(&joined.parked);
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
                reserved = end_of(&mut self.reserving) => self.reserved(reserved),
                Ok(()) = self.watermark.changed(), if self.rests_until.is_none() => {
                    self.more[..TRACKS - 1].fill(true);
                    self.newer = true;
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
    }

    // -- a turn
    // ---------------------------------------------------------------------------------------

    fn turn(&mut self) {
        self.rests_until = self.rests_until.filter(|until| *until > Instant::now());
        self.unfinished = false;
        self.shared.counters.turn();
        match self.gate() {
            Gate::Open => {
                self.take_due(TAKEN_A_TURN);
                self.walk(TAKEN_A_TURN);
            }
            Gate::Probe => self.take_one(),
            Gate::Shut { until } => self.give_back(until),
        }
        self.prepare();
        self.send();
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
        let linger = self
            .ready_since
            .iter()
            .flatten()
            .map(|since| *since + LINGER)
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
        linger.into_iter().chain(due).chain(self.rests_until).min()
    }

    fn room(&self) -> usize {
        (self
            .setup
            .target
            .options()
            .concurrency
            .saturating_mul(self.batch()))
        .clamp(ROOM.0, ROOM.1)
    }

    fn batch(&self) -> usize {
        let (channel, target) = (self.setup.options.batch, self.setup.target.nature());
        channel.min(target.batch_max).clamp(1, ROOM.1)
    }

    fn has_room(&self) -> bool {
        self.flights.len() < TRACKS * self.room()
    }

    /// Takes parked entities that are due; those that failed only within the retry budget.
    fn take_due(&mut self, most: usize) {
        let now = self.clock.now();
        for _ in 0..most {
            if !self.has_room() {
                return;
            }
            let Some((ordinal, waiting)) = self
                .schedule
                .first()
                .filter(|(_, waiting)| waiting.due <= now)
            else {
                return;
            };
            let mut waiting = waiting.clone();
            if waiting.failed
                && let Err(wait) = self.budget.take(now)
            {
                waiting.due = Timestamp(now.0 + wait.as_millis() as u64);
                self.schedule.park(ordinal, waiting);
                continue;
            }
            self.retry(ordinal);
        }
        self.unfinished = true;
    }

    fn retry(&mut self, ordinal: Ordinal) -> bool {
        let Some(waiting) = self.schedule.remove(ordinal) else {
            return false;
        };
        let Some(taken) = self.queue.retry(ordinal) else {
            return false;
        };
        self.accept(taken, waiting.released, waiting.tried, false);
        true
    }

    /// Walks the tracks by their shares, as long as each has room.
    fn walk(&mut self, most: usize) {
        let parked_max = self.setup.parked_max;
        if self.schedule.failed() >= parked_max {
            if !self.overfull {
                self.overfull = true;
                self.setup
                    .target
                    .trip(&format!("{parked_max} entities are waiting for a retry"));
            }
            return;
        }
        // Resume only at 90% of the limit; otherwise each new failure would trip the target again.
        self.overfull &= self.schedule.failed() > parked_max / 10 * 9;
        if self.overfull {
            return;
        }
        let (room, mut taken, mut steps) = (self.room(), 0, 0);
        loop {
            let open =
                std::array::from_fn(|track| self.may_walk(track) && self.in_track[track] < room);
            let Some(track) = self.walking.pick(open) else {
                break;
            };
            if taken >= most || steps >= most {
                self.unfinished = true;
                return;
            }
            let met = self.meet(track, (room - self.in_track[track]).min(RENDER_MAX));
            taken += met.len();
            steps += 1;
            for met in met {
                self.accept(met, false, None, false);
                self.budget.earn();
            }
        }
        // The sweep passes new entities only when all other work is done. If it met them first,
        // they would have to wait at the share of bulk.
        if self.newer && self.flights.is_empty() && self.more == [false; TRACKS] {
            (self.newer, self.more[TRACKS - 1], self.unfinished) = (false, true, true);
        }
    }

    /// Takes one entity to probe the target with. Entities that failed come last: a target that cannot
    /// process them would look dead for as long as they are the ones that ask.
    fn take_one(&mut self) {
        let at_rest =
            self.jobs.values().all(|job| job.sends) && self.taken.iter().all(VecDeque::is_empty);
        if !at_rest || self.ready.iter().any(|ready| !ready.is_empty()) {
            return;
        }
        while let Some(ordinal) = self.schedule.first_that_did_not_fail() {
            if self.retry(ordinal) {
                return;
            }
        }
        let walks = self.schedule.failed() < self.setup.parked_max;
        for track in (0..TRACKS).filter(|_| walks) {
            if self.may_walk(track)
                && let Some(met) = self.meet(track, 1).pop()
            {
                return self.accept(met, false, None, false);
            }
        }
        while let Some(first) = self.schedule.first().map(|(ordinal, _)| ordinal) {
            if self.retry(first) {
                return;
            }
        }
        self.unfinished = walks && (0..TRACKS).any(|track| self.may_walk(track));
    }

    fn may_walk(&self, track: usize) -> bool {
        self.more[track] && (Track::ALL[track] != Track::Sweep || self.reserving.is_none())
    }

    /// Walks a track and returns up to `limit` entities that must be delivered.
    fn meet(&mut self, track: usize, limit: usize) -> Vec<Lease> {
        let mut met = Vec::new();
        let walked = self.queue.walk(Track::ALL[track], limit, &mut met);
        self.more[track] = walked != Walked::End;
        if walked == Walked::Reserve {
            self.reserving = Some(self.queue.save());
        }
        met
    }

    /// If the store cannot save, the sweep stops; the store itself reports the failure.
    fn reserved(&mut self, reserved: Result<(), store::Error>) {
        self.reserving = None;
        self.more[TRACKS - 1] &= reserved.is_ok();
    }

    fn accept(&mut self, taken: Lease, released: bool, tried: Option<Tried>, first: bool) {
        let (ordinal, track) = (taken.ordinal, taken.track.index());
        self.concerned = true;
        // When a walk meets a held or parked entity again, it is taken again and keeps its release
        // and its previous attempt.
        self.held.remove(&ordinal);
        let waited = self.schedule.remove(ordinal).unwrap_or_default();
        let (released, tried) = (released || waited.released, tried.or(waited.tried));
        let flight = Flight {
            track,
            attempts: taken.attempts,
            revision: taken.revision,
            released,
            tried,
        };
        let before = self.flights.insert(ordinal, flight);
        debug_assert!(before.is_none(), "one flight an entity at a time");
        self.in_track[track] += 1;
        if first {
            self.taken[track].push_front(taken);
        } else {
            self.taken[track].push_back(taken);
        }
    }

    /// Parks all entities that were taken and not attempted, because the target does not flow. They
    /// are due at `until`.
    fn give_back(&mut self, until: Option<Timestamp>) {
        let mut ends = Vec::new();
        for track in 0..TRACKS {
            let taken = self.taken[track].drain(..).map(|taken| taken.ordinal);
            let ready = self.ready[track]
                .drain(..)
                .map(|ready| ready.prepared.taken.ordinal);
            ends.extend(taken.chain(ready));
            self.ready_since[track] = None;
        }
        let due = until.unwrap_or_else(|| self.clock.now());
        let ends = ends
            .into_iter()
            .filter_map(|ordinal| self.park_untried(ordinal, due))
            .collect();
        self.finish(ends);
    }

    /// Parks an entity for which no attempt was made, or whose attempt had no known result.
    fn park_untried(&mut self, ordinal: Ordinal, due: Timestamp) -> Option<Settlement> {
        let flight = self.flights.get_mut(&ordinal)?;
        let waiting = Waiting {
            due,
            failed: false,
            released: flight.released,
            tried: flight.tried.take(),
        };
        let (revision, attempts) = (flight.revision, flight.attempts);
        self.schedule.park(ordinal, waiting);
        Some(Settlement {
            ordinal,
            revision,
            ending: Ending::Parked { attempts },
        })
    }

    fn prepare(&mut self) {
        loop {
            let running = self.jobs.values().filter(|job| !job.sends).count();
            let open = |track: usize| {
                !self.taken[track].is_empty()
                    && running < PREPARATIONS_MAX + usize::from(track == 0)
            };
            let Some(track) = self.preparing.pick(std::array::from_fn(open)) else {
                return;
            };
            // Without plugins, larger pieces mean fewer tasks, and they take no plugin thread from
            // other channels.
            let most = if self.setup.chain.is_some() {
                RENDER_MAX
            } else {
                PLAIN_MAX
            };
            let count = self.taken[track].len().min(most);
            let taken: Vec<Lease> = self.taken[track].drain(..count).collect();
            let members = taken.iter().map(|taken| taken.ordinal).collect();
            let preparation = prepare(
                self.setup.clone(),
                self.store.clone(),
                self.store.watermark(),
                taken,
            );
            let task = self
                .tasks
                .spawn(async move { Done::Prepared(preparation.await) });
            self.jobs.insert(
                task.id(),
                Job {
                    track,
                    sends: false,
                    members,
                },
            );
        }
    }

    /// Starts as many requests as the target has slots. If there are two or more, one of them is
    /// reserved for urgent work.
    fn send(&mut self) {
        let (batch, now) = (self.batch(), Instant::now());
        let slots = self.setup.target.options().concurrency.max(1);
        loop {
            let sending = self.jobs.values().filter(|job| job.sends).count();
            let others = self
                .jobs
                .values()
                .filter(|job| job.sends && job.track != 0)
                .count();
            let coming = |track: usize| {
                !self.taken[track].is_empty()
                    || self
                        .jobs
                        .values()
                        .any(|job| !job.sends && job.track == track)
            };
            let open = |track: usize| {
                let full = self.ready[track].len() >= batch || !coming(track);
                let waited = self.ready_since[track].is_none_or(|since| since + LINGER <= now);
                let slot = sending < slots && (track == 0 || slots == 1 || others < slots - 1);
                slot && !self.ready[track].is_empty() && (full || waited)
            };
            let Some(track) = self.sending.pick(std::array::from_fn(open)) else {
                return;
            };
            let count = self.ready[track].len().min(batch);
            let part: Vec<Ready> = self.ready[track].drain(..count).collect();
            self.ready_since[track] = (!self.ready[track].is_empty()).then_some(now);
            let members = part
                .iter()
                .map(|ready| ready.prepared.taken.ordinal)
                .collect();
            let context = SendContext {
                queue: self.queue.clone(),
                target: self.setup.target.clone(),
                counters: self.shared.counters.clone(),
                batch,
                urgent: track == 0,
            };
            let sending = send(context, part);
            let task = self.tasks.spawn(async move { Done::Sent(sending.await) });
            self.jobs.insert(
                task.id(),
                Job {
                    track,
                    sends: true,
                    members,
                },
            );
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
