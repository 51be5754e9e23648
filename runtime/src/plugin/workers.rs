//! The threads that run guests, and the queue before them.
//!
//! There are three priorities, served in their order, with a share for the lower ones so that none
//! starves. At most half of the workers run the same plugin at once: a plugin that hangs for its
//! whole time limit leaves the other half to the others. (A batch counts for each plugin of its
//! chain, from start to finish.) The chains' slots bound the number of waiting batches; a caller
//! without a slot waits outside the queue.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::plugin::batch::{self, Batch, Progress, Verdict};
use crate::plugin::chain::{Chain, Items};
use crate::plugin::pool::Pool;
use crate::plugin::room::{Room, bytes_of_verdict};
use crate::plugin::words::{Error, Failed, Priority};
use crate::sync;

/// The native stack of a worker: the guest's 512 KiB, and room for the host's own frames in a build
/// without optimisation.
const STACK_BYTES: usize = 4 << 20;
/// How often an idle worker checks for instances to drop.
const SWEEP: Duration = Duration::from_secs(1);
/// The number of batches after which a busy worker does the same.
const SWEEP_BATCHES: u32 = 256;
/// Once in this many pulls the lowest waiting priority goes first; half-way between these pulls,
/// the middle one.
const TURN: u64 = 16;

/// The worker threads and their queue.
pub(super) struct Workers {
    queue: Arc<Queue>,
}

/// A waiting batch, where its results go, and the slot it occupies.
struct Job {
    batch: Batch,
    priority: Priority,
    reply: oneshot::Sender<Vec<Verdict>>,
    _slot: OwnedSemaphorePermit,
}

impl Workers {
    /// Starts `count` threads, at least one.
    pub(super) fn start(count: usize) -> Result<Workers, Error> {
        let count = count.max(1);
        let workers = Workers {
            queue: Arc::new(Queue::new(count.div_ceil(2))),
        };
        for n in 0..count {
            let queue = workers.queue.clone();
            let thread = thread::Builder::new()
                .name(format!("plugin-{n}"))
                .stack_size(STACK_BYTES);
            thread
                .spawn(move || work(&queue))
                .map_err(|error| Error::new("a thread for plugins cannot be started", error))?;
        }
        Ok(workers)
    }

    /// Runs some of the items through a chain; returns verdicts in their order, fewer if there is no
    /// room for more, and none only if there is none for the first. Dropping the future abandons
    /// batches that have not started.
    pub(super) async fn run(
        &self,
        chain: &Arc<Chain>,
        (items, range): (Items, Range<usize>),
        priority: Priority,
        room: Option<Arc<Room>>,
    ) -> Vec<Verdict> {
        let first = range.start..range.end.min(range.start + 1);
        let verdicts = self.run_once(chain, (&items, range), priority, &room).await;
        if !verdicts.is_empty() || first.is_empty() {
            return verdicts;
        }
        // Later batches were quicker and took the room; their results are of no use without this one.
        self.run_once(chain, (&items, first), priority, &room).await
    }

    async fn run_once(
        &self,
        chain: &Arc<Chain>,
        (items, range): (&Items, Range<usize>),
        priority: Priority,
        room: &Option<Arc<Room>>,
    ) -> Vec<Verdict> {
        let (wanted, start, mut answers) = (range.len(), range.start, Vec::new());
        for range in batch::cut(items, range) {
            let count = range.len();
            // The semaphore is never closed; if it were, the items would fail as when the host
            // stops.
            let Ok(slot) = chain.slots[priority as usize].clone().acquire_owned().await else {
                break;
            };
            let (reply, answer) = oneshot::channel();
            let first = range.start == start;
            let batch = Batch::new(chain.clone(), items.clone(), range);
            self.queue.push(Job {
                batch: batch.within(room.clone(), first),
                priority,
                reply,
                _slot: slot,
            });
            answers.push((count, answer));
        }
        let (mut verdicts, mut full) = (Vec::with_capacity(wanted), false);
        for (count, answer) in answers {
            let some = match answer.await {
                Ok(some) => some,
                Err(_) => (0..count).map(|_| stopping()).collect(),
            };
            if full {
                let unused = some.iter().map(bytes_of_verdict).sum();
                room.iter().for_each(|room| room.give_back(unused));
                continue;
            }
            full = some.len() < count;
            verdicts.extend(some);
        }
        if !full {
            verdicts.resize_with(wanted, stopping);
        }
        verdicts
    }

    /// Waiting batches, by priority.
    pub(super) fn waiting(&self) -> [usize; 3] {
        let state = self.queue.lock();
        std::array::from_fn(|priority| state.waiting[priority].len())
    }
}

impl Drop for Workers {
    /// Each thread ends after its current batch; this does not wait for them.
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.open = false;
        state.waiting = Default::default();
        self.queue.ready.notify_all();
    }
}

fn stopping() -> Verdict {
    Verdict::Failed(Failed::by_host("the plugin host is stopping"))
}

/// The main loop of a worker.
fn work(queue: &Queue) {
    let mut pool = Pool::default();
    let mut batches = 0u32;
    loop {
        let mut job = match queue.pull(!pool.is_empty()) {
            Pulled::Job(job) => job,
            Pulled::Nothing => {
                pool.sweep();
                continue;
            }
            Pulled::Closed => return,
        };
        batches = batches.wrapping_add(1);
        if batches.is_multiple_of(SWEEP_BATCHES) {
            pool.sweep();
        }
        // The caller has gone, so the result is not needed.
        if job.reply.is_closed() {
            queue.release(&job.batch.chain);
            continue;
        }
        let progress = catch_unwind(AssertUnwindSafe(|| job.batch.run(&mut pool)));
        queue.release(&job.batch.chain);
        match progress {
            Ok(Progress::Later) => {
                queue.push(job);
                continue;
            }
            Ok(Progress::Done) => {}
            Err(_) => {
                pool.clear();
                job.batch
                    .abandon("the plugin host failed; this is a defect of Weir");
            }
        }
        // An error here means that the caller has gone; ignore it.
        let Job { batch, reply, .. } = *job;
        let _ = reply.send(batch.finish());
    }
}

enum Pulled {
    Job(Box<Job>),
    Nothing,
    Closed,
}

struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    /// The most workers that may run one plugin at a time.
    same_plugin_max: usize,
}

struct State {
    open: bool,
    waiting: [VecDeque<Box<Job>>; 3],
    /// Running batches, by plugin name.
    running: HashMap<Arc<str>, usize>,
    pulls: u64,
}

impl Queue {
    fn new(same_plugin_max: usize) -> Queue {
        let state = State {
            open: true,
            waiting: Default::default(),
            running: HashMap::new(),
            pulls: 0,
        };
        Queue {
            state: Mutex::new(state),
            ready: Condvar::new(),
            same_plugin_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        sync::lock(&self.state)
    }

    fn push(&self, job: impl Into<Box<Job>>) {
        let job = job.into();
        let mut state = self.lock();
        if state.open {
            state.waiting[job.priority as usize].push_back(job);
            self.ready.notify_one();
        }
    }

    /// Waits for the next batch. With `impatient`, returns `Nothing` after a while without one.
    fn pull(&self, impatient: bool) -> Pulled {
        let mut state = self.lock();
        loop {
            if !state.open {
                return Pulled::Closed;
            }
            if let Some(job) = state.next(self.same_plugin_max) {
                return Pulled::Job(job);
            }
            if !impatient {
                state = sync::unpoisoned(self.ready.wait(state));
                continue;
            }
            let (after, waited) = sync::unpoisoned(self.ready.wait_timeout(state, SWEEP));
            state = after;
            if waited.timed_out() {
                return Pulled::Nothing;
            }
        }
    }

    /// Marks a batch as finished, so that another one of the same plugins may run.
    fn release(&self, chain: &Chain) {
        let mut state = self.lock();
        for plugin in plugins(chain) {
            if let Some(count) = state.running.get_mut(plugin) {
                *count -= 1;
                if *count == 0 {
                    state.running.remove(plugin);
                }
            }
        }
        // The releasing worker takes one waiting batch itself, but the end of a chain of several
        // plugins may allow more to run.
        if state.waiting.iter().any(|queue| !queue.is_empty()) {
            self.ready.notify_one();
        }
    }
}

impl State {
    fn next(&mut self, same_plugin_max: usize) -> Option<Box<Job>> {
        let State {
            waiting, running, ..
        } = self;
        let free = |job: &Job| {
            plugins(&job.batch.chain).all(|plugin| {
                running
                    .get(plugin)
                    .is_none_or(|count| *count < same_plugin_max)
            })
        };
        let (priority, place) = order(self.pulls).into_iter().find_map(|priority| {
            Some((
                priority,
                waiting[priority].iter().position(|job| free(job))?,
            ))
        })?;
        let job = waiting[priority].remove(place)?;
        self.pulls += 1;
        for plugin in plugins(&job.batch.chain) {
            *running.entry(plugin.clone()).or_default() += 1;
        }
        Some(job)
    }
}

/// The order in which the priorities are considered at the n-th pull.
fn order(pull: u64) -> [usize; 3] {
    match pull % TURN {
        n if n == TURN - 1 => [2, 1, 0],
        n if n == TURN / 2 - 1 => [1, 0, 2],
        _ => [0, 1, 2],
    }
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

    /// Fills a queue with this many batches of each priority and returns the priorities in the
    /// order in which they are served.
    fn served(waiting: [usize; 3]) -> Vec<usize> {
        let slots = Arc::new(Semaphore::new(100));
        let chain = Arc::new(Chain::empty(&slots));
        let queue = Queue::new(1);
        for (priority, count) in [Priority::Ingest, Priority::Urgent, Priority::Bulk]
            .into_iter()
            .zip(waiting)
        {
            for _ in 0..count {
                let batch = Batch::new(chain.clone(), Items::Events(Arc::default()), 0..0);
                let slot = slots.clone().try_acquire_owned().expect("a slot");
                queue.push(Job {
                    batch,
                    priority,
                    reply: oneshot::channel().0,
                    _slot: slot,
                });
            }
        }
        let next = || match queue.pull(true) {
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
