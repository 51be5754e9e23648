//! The queue before the workers: which batch runs next, and on which kind of worker.
//!
//! There are three priorities, served in their order, with a share for the lower ones so that none
//! starves. Within a priority the plugin that has used the least worker time lately goes first.
//! Batches of plugins that are heavy or hanging go to workers of their own, and a batch that was cut
//! off at the end of its turn follows them there. The chains' slots bound the number of waiting
//! batches; a caller without a slot waits outside the queue.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::plugin::batch::{Batch, Lane, Verdict};
use crate::plugin::chain::Chain;
use crate::plugin::standing::Standing;
use crate::plugin::words::Priority;
use crate::sync;

/// How long an impatient worker waits for a batch.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Once in this many pulls the lowest waiting priority goes first; half-way between these pulls,
/// the middle one.
const TURN: u64 = 16;

/// A waiting batch, where its results go, and the slot it occupies.
pub(super) struct Job {
    pub(super) batch: Batch,
    pub(super) priority: Priority,
    pub(super) reply: oneshot::Sender<Vec<Verdict>>,
    pub(super) slot: OwnedSemaphorePermit,
    /// Whether it runs now as the one batch of a new plugin on the quick workers.
    runs_as_new: bool,
}

impl Job {
    pub(super) fn new(
        batch: Batch,
        priority: Priority,
        reply: oneshot::Sender<Vec<Verdict>>,
        slot: OwnedSemaphorePermit,
    ) -> Job {
        Job {
            batch,
            priority,
            reply,
            slot,
            runs_as_new: false,
        }
    }

    /// What the queue must know when the batch does not run any more.
    pub(super) fn ran(&mut self) -> Ran {
        Ran {
            chain: self.batch.chain.clone(),
            as_new: std::mem::take(&mut self.runs_as_new),
        }
    }
}

/// A batch that has run. It counts as running until its worker hands this over with its next pull.
pub(super) struct Ran {
    chain: Arc<Chain>,
    as_new: bool,
}

/// What a worker got.
pub(super) enum Pulled {
    /// A batch to run.
    Job(Box<Job>),
    /// Nothing for a while.
    Nothing,
    /// The host is stopping.
    Closed,
}

/// The queue of all workers.
pub(super) struct Queue {
    state: Mutex<State>,
    /// One for each lane.
    ready: [Condvar; 3],
}

struct State {
    open: bool,
    /// One for each lane.
    lines: [Line; 3],
    /// Running batches of new plugins on quick workers, of which one may run.
    new: usize,
    /// Workers of each lane that wait for a batch. To wake one costs a system call, also if none waits.
    sleeping: [usize; 3],
}

/// The batches of one kind of worker.
struct Line {
    waiting: [VecDeque<Box<Job>>; 3],
    /// Running batches, by plugin name.
    running: HashMap<Arc<str>, usize>,
    /// The most batches of one plugin that may run at a time.
    same_plugin_max: usize,
    pulls: u64,
}

impl Queue {
    /// The queue; in each lane as many batches of one plugin may run at a time.
    pub(super) fn new(same_plugin_max: [usize; 3]) -> Queue {
        let line = |same_plugin_max: usize| Line {
            waiting: Default::default(),
            running: HashMap::new(),
            same_plugin_max,
            pulls: 0,
        };
        Queue {
            state: Mutex::new(State {
                open: true,
                lines: same_plugin_max.map(line),
                new: 0,
                sleeping: [0; 3],
            }),
            ready: Default::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    /// Adds a batch. Ignored when the queue is closed; the caller notices by its dropped reply.
    pub(super) fn push(&self, job: impl Into<Box<Job>>) {
        let job = job.into();
        let lane = lane(standing(&job.batch.chain, Instant::now()));
        let mut state = self.lock();
        if !state.open {
            return;
        }
        state.lines[lane as usize].waiting[job.priority as usize].push_back(job);
        self.wake(state, lane);
    }

    /// Wakes a worker of a lane if one sleeps. Gives the lock back first, because the worker needs it.
    fn wake(&self, state: MutexGuard<'_, State>, lane: Lane) {
        let sleeps = state.sleeping[lane as usize] > 0;
        drop(state);
        if sleeps {
            self.ready[lane as usize].notify_one();
        }
    }

    /// Waits for the next batch. The one that this worker ran before does not count as running any more,
    /// so that another one of the same plugins may run. With `impatient`, returns `Nothing` after
    /// [`PATIENCE`] without one.
    pub(super) fn pull(&self, lane: Lane, impatient: bool, ran: Option<Ran>) -> Pulled {
        let until = Instant::now() + PATIENCE;
        let mut state = self.lock();
        if let Some(ran) = ran {
            state.release(lane, &ran);
        }
        loop {
            if !state.open {
                return Pulled::Closed;
            }
            let now = Instant::now();
            if state.demote(lane, now) {
                self.ready.iter().for_each(Condvar::notify_all);
            }
            if let Some(job) = state.next(lane, now) {
                // The end of a chain of several plugins may allow more than this one to run.
                if state.lines[lane as usize].has_waiting() {
                    self.wake(state, lane);
                }
                return Pulled::Job(job);
            }
            let ready = &self.ready[lane as usize];
            state.sleeping[lane as usize] += 1;
            if !impatient {
                state = sync::unpoisoned(ready.wait(state));
                state.sleeping[lane as usize] -= 1;
                continue;
            }
            // Others may take each batch that this worker is woken for.
            let left = until.saturating_duration_since(now);
            let timed_out;
            (state, timed_out) = sync::unpoisoned(ready.wait_timeout(state, left));
            state.sleeping[lane as usize] -= 1;
            if timed_out.timed_out() {
                return Pulled::Nothing;
            }
        }
    }

    /// Ends all workers after their current batch.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        state
            .lines
            .iter_mut()
            .for_each(|line| line.waiting = Default::default());
        self.ready.iter().for_each(Condvar::notify_all);
    }

    /// Waiting batches, by priority.
    pub(super) fn waiting(&self) -> [usize; 3] {
        let state = self.lock();
        std::array::from_fn(|priority| {
            let waiting = |line: &Line| line.waiting[priority].len();
            state.lines.iter().map(waiting).sum()
        })
    }
}

impl Line {
    fn has_waiting(&self) -> bool {
        self.waiting.iter().any(|queue| !queue.is_empty())
    }
}

impl State {
    /// Marks a batch as no longer running.
    fn release(&mut self, lane: Lane, ran: &Ran) {
        self.new -= usize::from(ran.as_new);
        let running = &mut self.lines[lane as usize].running;
        for plugin in plugins(&ran.chain) {
            if let Some(count) = running.get_mut(plugin) {
                *count -= 1;
                if *count == 0 {
                    running.remove(plugin);
                }
            }
        }
    }

    /// Moves the waiting batches of this lane whose plugins have become slower. Returns whether there
    /// were any.
    fn demote(&mut self, from: Lane, now: Instant) -> bool {
        let mut moved = Vec::new();
        for waiting in &mut self.lines[from as usize].waiting {
            let slower = |job: &Job| lane(standing(&job.batch.chain, now)) > from;
            if firsts(waiting).any(|(_, job)| slower(job)) {
                let all = std::mem::take(waiting).into_iter();
                let (slow, others): (Vec<_>, Vec<_>) = all.partition(|job| slower(job));
                *waiting = others.into();
                moved.extend(slow);
            }
        }
        let any = !moved.is_empty();
        for job in moved {
            let to = lane(standing(&job.batch.chain, now));
            self.lines[to as usize].waiting[job.priority as usize].push_back(job);
        }
        any
    }

    fn next(&mut self, lane: Lane, now: Instant) -> Option<Box<Job>> {
        // A plugin that is new again while its batch waits for a slower worker disturbs no quick ones.
        let is_new =
            |job: &Job| lane == Lane::Quick && standing(&job.batch.chain, now) == Standing::New;
        let room_for_new = self.new == 0;
        let line = &mut self.lines[lane as usize];
        let may_run = |job: &Job| {
            let free = plugins(&job.batch.chain).all(|plugin| {
                let running = line.running.get(plugin);
                running.is_none_or(|count| *count < line.same_plugin_max)
            });
            free && (room_for_new || !is_new(job))
        };
        let least_spent = |priority: usize| {
            firsts(&line.waiting[priority])
                .filter(|(_, job)| may_run(job))
                .min_by_key(|(place, job)| (spent(&job.batch.chain, now), *place))
                .map(|(place, _)| (priority, place))
        };
        let (priority, place) = order(line.pulls).into_iter().find_map(least_spent)?;
        let mut job = line.waiting[priority].remove(place)?;
        line.pulls += 1;
        for plugin in plugins(&job.batch.chain) {
            *line.running.entry(plugin.clone()).or_default() += 1;
        }
        job.runs_as_new = is_new(&job);
        self.new += usize::from(job.runs_as_new);
        Some(job)
    }
}

/// The first batch of each chain, with its place. The others of a chain are treated as this one, and
/// many of them may wait at a pull.
fn firsts(waiting: &VecDeque<Box<Job>>) -> impl Iterator<Item = (usize, &Job)> {
    let mut seen: Vec<*const Chain> = Vec::new();
    let jobs = waiting.iter().enumerate();
    jobs.filter_map(move |(place, job)| {
        let chain = Arc::as_ptr(&job.batch.chain);
        (!seen.contains(&chain)).then(|| {
            seen.push(chain);
            (place, &**job)
        })
    })
}

/// The order in which the priorities are considered at the n-th pull.
fn order(pull: u64) -> [usize; 3] {
    match pull % TURN {
        n if n == TURN - 1 => [2, 1, 0],
        n if n == TURN / 2 - 1 => [1, 0, 2],
        _ => [0, 1, 2],
    }
}

fn lane(standing: Standing) -> Lane {
    match standing {
        Standing::Quick | Standing::New => Lane::Quick,
        Standing::Heavy => Lane::Heavy,
        Standing::Hanging => Lane::Hanging,
    }
}

/// A chain is as slow as its slowest plugin.
fn standing(chain: &Chain, now: Instant) -> Standing {
    let each = chain
        .stages
        .iter()
        .map(|stage| stage.plugin.component().conduct().standing(now));
    each.max().unwrap_or(Standing::Quick)
}

/// A chain's claim is that of the plugin that has used the most.
fn spent(chain: &Chain, now: Instant) -> Duration {
    let each = chain
        .stages
        .iter()
        .map(|stage| stage.plugin.component().conduct().spent(now));
    each.max().unwrap_or_default()
}

/// The names of the plugins of a chain, without duplicates.
fn plugins(chain: &Chain) -> impl Iterator<Item = &Arc<str>> {
    let name = |n: usize| chain.stages[n].plugin.component().name();
    (0..chain.stages.len())
        .filter(move |n| !(0..*n).any(|before| name(before) == name(*n)))
        .map(name)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;
    use crate::plugin::chain::Items;

    /// Fills a queue with this many batches of each priority and returns the priorities in the
    /// order in which they are served.
    fn served(waiting: [usize; 3]) -> Vec<usize> {
        let slots = Arc::new(Semaphore::new(100));
        let chain = Arc::new(Chain::empty(&slots));
        let queue = Queue::new([1; 3]);
        for (priority, count) in [Priority::Ingest, Priority::Urgent, Priority::Bulk]
            .into_iter()
            .zip(waiting)
        {
            for _ in 0..count {
                let batch = Batch::new(chain.clone(), Items::Events(Arc::default()), 0..0);
                let slot = slots.clone().try_acquire_owned().expect("a slot");
                queue.push(Job::new(batch, priority, oneshot::channel().0, slot));
            }
        }
        let next = || match queue.pull(Lane::Quick, true, None) {
            Pulled::Job(job) => job.priority as usize,
            _ => unreachable!("as many are pulled as were pushed"),
        };
        (0..waiting.iter().sum()).map(|_| next()).collect()
    }

    #[test]
    fn priorities_are_served_in_their_order() {
        assert_eq!(served([2, 2, 2]), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_flood_of_ingest_starves_nobody() {
        let order = served([40, 2, 2]);
        let places = |priority| {
            order
                .iter()
                .enumerate()
                .filter(|(_, served)| **served == priority)
                .map(|(place, _)| place)
                .collect::<Vec<_>>()
        };
        assert_eq!(places(1), [7, 23]);
        assert_eq!(places(2), [15, 31]);
    }
}
