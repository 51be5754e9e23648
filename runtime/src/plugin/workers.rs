//! The threads that run guests: quick workers, half as many heavy ones, and a few hanging ones.
//!
//! A quick worker gives a batch one turn of processor time. A batch that needs more is cut off and
//! runs again on a heavy worker: a plugin has no memory and no effects, so nothing happens twice.
//! Heavy workers have a low priority and give calls their whole time limit. A plugin that breaks it
//! goes to the hanging workers, whose priority is lower still. Together this bounds what any number of
//! looping plugins costs the others.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::plugin::batch::{self, Batch, Lane, Progress, Verdict};
use crate::plugin::chain::{Chain, Items};
use crate::plugin::pool::Pool;
use crate::plugin::queue::{Job, Pulled, Queue};
use crate::plugin::room::{Room, bytes_of_verdict};
use crate::plugin::words::{Error, Failed, Priority};

/// The native stack of a worker: the guest's 512 KiB, and room for the host's own frames in a build
/// without optimisation.
const STACK_BYTES: usize = 4 << 20;
/// Interval at which idle instances are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The number of workers of each lane, for this many quick ones.
fn counts(quick: usize) -> [usize; 3] {
    [quick, quick.div_ceil(2), quick.div_ceil(4)]
}

/// The number of all workers, for this many quick ones.
pub(super) fn total(quick: usize) -> usize {
    counts(quick).iter().sum()
}

/// The worker threads and their queue.
pub(super) struct Workers {
    queue: Arc<Queue>,
}

impl Workers {
    /// Starts `quick` quick threads, at least one, and the others, which share this pool.
    pub(super) fn start(quick: usize, pool: &Arc<Pool>) -> Result<Workers, Error> {
        let quick = quick.max(1);
        let counts = counts(quick);
        // One plugin leaves half of the workers to the others, and at least one of the heavy ones.
        let same_plugin_max = [
            counts[0].div_ceil(2),
            counts[1].saturating_sub(1).max(1),
            counts[2].div_ceil(2),
        ];
        let workers = Workers {
            queue: Arc::new(Queue::new(same_plugin_max)),
        };
        for (lane, name) in [
            (Lane::Quick, "plugin"),
            (Lane::Heavy, "plugin-heavy"),
            (Lane::Hanging, "plugin-hang"),
        ] {
            let count = counts[lane as usize];
            for n in 0..count {
                let (queue, pool) = (workers.queue.clone(), pool.clone());
                let thread = thread::Builder::new()
                    .name(format!("{name}-{n}"))
                    .stack_size(STACK_BYTES);
                let sweeps = lane == Lane::Quick && n == 0;
                thread
                    .spawn(move || work(&queue, &pool, lane, sweeps))
                    .map_err(|error| Error::new("a thread for plugins cannot be started", error))?;
            }
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
            let batch = batch.within(room.clone(), first);
            self.queue.push(Job::new(batch, priority, reply, slot));
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
        self.queue.waiting()
    }
}

impl Drop for Workers {
    /// Each thread ends after its current batch; this does not wait for them.
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn stopping() -> Verdict {
    Verdict::Failed(Failed::by_host("the plugin host is stopping"))
}

/// The main loop of a worker. One of the quick ones also drops idle instances about once a second,
/// whether it has batches to run or not: the other workers fill the pool too.
fn work(queue: &Queue, pool: &Pool, lane: Lane, sweeps: bool) {
    // If the system refuses, all threads have the same priority: looping plugins then cost the
    // others processor time, and nothing worse happens.
    let _ = rustix::process::nice(lane.niceness());
    let (mut swept, mut ran) = (Instant::now(), None);
    loop {
        if sweeps && swept.elapsed() >= SWEEP_EVERY {
            pool.sweep();
            swept = Instant::now();
        }
        let mut job = match queue.pull(lane, sweeps, ran.take()) {
            Pulled::Job(job) => job,
            Pulled::Nothing => continue,
            Pulled::Closed => return,
        };
        // The caller has gone, so the result is not needed.
        if job.reply.is_closed() {
            ran = Some(job.ran());
            continue;
        }
        let progress = catch_unwind(AssertUnwindSafe(|| job.batch.run(pool, lane)));
        ran = Some(job.ran());
        match progress {
            Ok(Progress::Later) => {
                queue.push(job);
                continue;
            }
            Ok(Progress::Done) => {}
            Err(_) => job
                .batch
                .abandon("the plugin host failed; this is a defect of Weir"),
        }
        let Job {
            batch, reply, slot, ..
        } = *job;
        // An error here means that the caller has gone; ignore it.
        let _ = reply.send(batch.finish());
        drop(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_give_way_to_intake_and_hanging_ones_to_the_others() {
        let niceness = |lane: Lane| {
            thread::spawn(move || {
                let before = rustix::process::nice(0).expect("a number");
                let after = rustix::process::nice(lane.niceness()).expect("a number");
                (before, after)
            })
            .join()
            .expect("no panic")
        };
        let (before, quick) = niceness(Lane::Quick);
        assert_eq!(quick, (before + 5).min(19));
        assert_eq!(niceness(Lane::Heavy).1, (before + 10).min(19));
        assert_eq!(niceness(Lane::Hanging).1, (before + 15).min(19));
    }
}
