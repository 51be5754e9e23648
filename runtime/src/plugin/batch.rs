//! Runs one batch, of up to 64 items or 1 MiB, through a chain and collects the verdict on each
//! item.
//!
//! A batch that a plugin faults on is retried item by item, each in a new instance, so that the
//! poison item fails with its own fault and no other item is blamed for it. A batch that takes long
//! yields to others and continues later.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::Trace;
use crate::plugin::bindings::{Answer, Answers};
use crate::plugin::chain::{Chain, Items, Stage};
use crate::plugin::instance::Halt;
use crate::plugin::log::Listening;
use crate::plugin::pool::Pool;
use crate::plugin::room::{Room, bytes_of, bytes_of_verdict};
use crate::plugin::standing;
use crate::plugin::words::{Failed, Fault, Role};

/// The most items per call. It bounds the cost of one fault, and the time that an urgent batch
/// waits for a worker.
const ITEMS_MAX: usize = 64;
/// The most bytes per call; a single larger item gets a call of its own.
const BYTES_MAX: usize = 1 << 20;
/// The kind of worker that runs a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    /// Gives a batch one turn.
    Quick,
    /// Gives calls their whole time limit, at a low priority.
    Heavy,
    /// The same, at a lower one.
    Hanging,
}

impl Lane {
    /// The processor time that one call may use, if its limit is not shorter.
    fn allowed(self) -> Duration {
        match self {
            Lane::Quick => standing::TURN,
            Lane::Heavy | Lane::Hanging => Duration::MAX,
        }
    }

    /// After how much time a batch yields to others.
    fn turn(self, limit: Duration) -> Duration {
        match self {
            Lane::Quick => standing::TURN,
            // One call that breaks its limit is enough to be called hanging.
            Lane::Heavy => limit,
            Lane::Hanging => limit * 2,
        }
    }

    /// What is added to the niceness of the worker. Quick ones give way to the threads that take
    /// events in, as deliveries do.
    pub(super) fn niceness(self) -> i32 {
        match self {
            Lane::Quick => 5,
            Lane::Heavy => 10,
            Lane::Hanging => 15,
        }
    }
}

/// The result for one item.
#[derive(Debug)]
pub(super) enum Verdict {
    Passed,
    /// Dropped by the filter at this stage.
    Filtered(usize),
    Made(Answer),
    Failed(Failed),
}

/// Whether a batch is finished.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// It has used up its turn; push it again, and it continues after the others, on another kind of
    /// worker if a call of it was cut off or broke its limit.
    Later,
}

/// A batch and its progress.
pub(super) struct Batch {
    pub(super) chain: Arc<Chain>,
    items: Items,
    range: Range<usize>,
    verdicts: Vec<Option<Verdict>>,
    stage: usize,
    /// Items of a call that faulted, which are still to be retried alone at this stage.
    alone: VecDeque<usize>,
    /// Where results are counted.
    room: Option<Arc<Room>>,
    /// Whether it has the first of the caller's items, so that its results are of use in any case.
    first: bool,
    /// There was no room for a result; the items without a verdict are not run.
    full: bool,
}

/// Cuts some of the items into batches.
pub(super) fn cut(items: &Items, range: Range<usize>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let (mut start, mut bytes) = (range.start, 0);
    for index in range.clone() {
        let more = items.bytes(index);
        if index > start && (index - start == ITEMS_MAX || bytes + more > BYTES_MAX) {
            pieces.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += more;
    }
    if start < range.end {
        pieces.push(start..range.end);
    }
    pieces
}

impl Batch {
    pub(super) fn new(chain: Arc<Chain>, items: Items, range: Range<usize>) -> Batch {
        let verdicts = range.clone().map(|_| None).collect();
        Batch {
            chain,
            items,
            range,
            verdicts,
            stage: 0,
            alone: VecDeque::new(),
            room: None,
            first: true,
            full: false,
        }
    }

    /// Counts the batch's results in this room; `first` if none of its caller's items come before.
    pub(super) fn within(self, room: Option<Arc<Room>>, first: bool) -> Batch {
        Batch {
            room,
            first,
            ..self
        }
    }

    /// Continues until the batch is done or its turn is over.
    pub(super) fn run(&mut self, pool: &Pool, lane: Lane) -> Progress {
        let began = Instant::now();
        let _listening = Listening::of(self.room.as_ref());
        let chain = self.chain.clone();
        // Its results would be dropped, so they need not be made.
        self.full = !self.first && self.room.as_ref().is_some_and(|room| room.was_full());
        if self.full {
            return Progress::Done;
        }
        while let Some(stage) = chain.stages.get(self.stage) {
            let turn = lane.turn(stage.plugin.component().limits().time);
            if self.alone.is_empty() && self.together(stage, pool, lane).is_break() {
                return Progress::Later;
            }
            if self.full {
                return Progress::Done;
            }
            while let Some(&index) = self.alone.front() {
                if began.elapsed() > turn {
                    return Progress::Later;
                }
                let (plugin, allowed) = (&stage.plugin, lane.allowed());
                match pool.call_alone(plugin, stage.role, &self.items, index, allowed) {
                    Err(Halt::Overstayed) => return Progress::Later,
                    Err(Halt::Fault(fault)) => self.take(stage, &[index], Err(fault)),
                    Ok(answers) => self.take(stage, &[index], Ok(answers)),
                }
                if self.full {
                    return Progress::Done;
                }
                self.alone.pop_front();
            }
            self.stage += 1;
            if self.stage < chain.stages.len() && began.elapsed() > turn {
                return Progress::Later;
            }
        }
        Progress::Done
    }

    /// The verdicts, in the order of the items; those before the first for which there was no room.
    pub(super) fn finish(self) -> Vec<Verdict> {
        let mut verdicts = self.verdicts.into_iter();
        if !self.full {
            return verdicts
                .map(|verdict| verdict.unwrap_or(Verdict::Passed))
                .collect();
        }
        let run: Vec<Verdict> = verdicts.by_ref().map_while(|verdict| verdict).collect();
        if let Some(room) = self.room {
            let unused = verdicts.flatten().map(|verdict| bytes_of_verdict(&verdict));
            room.give_back(unused.sum());
        }
        run
    }

    /// Fails each item that has no verdict yet, because the host itself failed.
    pub(super) fn abandon(&mut self, why: &str) {
        for verdict in self.verdicts.iter_mut().filter(|verdict| verdict.is_none()) {
            *verdict = Some(Verdict::Failed(Failed::by_host(why)));
        }
    }

    /// Calls a stage with all remaining items; if it faults, queues each item to be retried alone.
    /// Breaks if the call was cut off.
    fn together(&mut self, stage: &Stage, pool: &Pool, lane: Lane) -> ControlFlow<()> {
        let left: Vec<usize> = self
            .range
            .clone()
            .filter(|index| self.verdicts[index - self.range.start].is_none())
            .collect();
        if left.is_empty() {
            return ControlFlow::Continue(());
        }
        match pool.call(
            &stage.plugin,
            stage.role,
            &self.items,
            &left,
            lane.allowed(),
        ) {
            Err(Halt::Overstayed) => return ControlFlow::Break(()),
            Err(Halt::Fault(fault)) if left.len() > 1 => {
                let (component, text) = (stage.plugin.component(), fault.to_string());
                component.quota().log(component.label(), text.len(), || {
                    tracing::warn!(
                        plugin = component.label(),
                        items = left.len(),
                        trace = self.items.trace(&left).map(Trace::trace_hex),
                        "a plugin faulted on a batch; trying its items one by one: {text}"
                    );
                });
                self.alone = left.into();
            }
            Err(Halt::Fault(fault)) => self.take(stage, &left, Err(fault)),
            Ok(answers) => self.take(stage, &left, Ok(answers)),
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, stage: &Stage, indices: &[usize], answers: Result<Answers, Fault>) {
        let component = stage.plugin.component();
        let failed = |failure, fault| {
            Verdict::Failed(Failed {
                plugin: component.label().into(),
                failure,
                fault,
            })
        };
        let answers = match answers {
            Ok(answers) => answers,
            Err(fault) => {
                let text = fault.to_string();
                component.quota().log(component.label(), text.len(), || {
                    tracing::warn!(
                        plugin = component.label(),
                        trace = self.items.trace(indices).map(Trace::trace_hex),
                        "the plugin faulted on an item: {text}"
                    );
                });
                for index in indices {
                    self.verdicts[index - self.range.start] = Some(failed(fault.failure(), true));
                }
                return;
            }
        };
        for (index, answer) in indices.iter().zip(answers) {
            let verdict = match answer {
                Ok(Answer::Accepted(true)) => continue,
                Ok(Answer::Accepted(false)) => Verdict::Filtered(self.stage),
                Ok(made) => {
                    let fits = |room: &Arc<Room>| room.take(bytes_of(&made));
                    if !self.room.as_ref().is_none_or(fits) {
                        self.full = true;
                        return;
                    }
                    Verdict::Made(made)
                }
                Err(declined) => {
                    if declined.fault {
                        component.counter().trapped();
                    }
                    failed(declined.failure, declined.fault)
                }
            };
            self.verdicts[index - self.range.start] = Some(verdict);
        }
        debug_assert!(
            matches!(stage.role, Role::EventFilter | Role::EntityFilter)
                || indices
                    .iter()
                    .all(|index| self.verdicts[index - self.range.start].is_some()),
            "a mapper or renderer is the last word on each item"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Payload};

    fn check(sizes: &[usize], pieces: &[(usize, usize)]) {
        let event = |size: &usize| Event {
            id: String::new(),
            origin: String::new(),
            event_type: String::new(),
            subject: None,
            time: None,
            content_type: None,
            attributes: Vec::new(),
            trace: None,
            data: Payload::Binary(vec![0; *size]),
        };
        let items = Items::Events(Arc::new(sizes.iter().map(event).collect()));
        let cut = cut(&items, 0..sizes.len());
        assert_eq!(
            cut.iter()
                .map(|range| (range.start, range.end))
                .collect::<Vec<_>>(),
            pieces
        );
    }

    #[test]
    fn a_batch_is_cut_at_64_items_or_1_mib_whichever_comes_first() {
        check(&[], &[]);
        check(&[1; 64], &[(0, 64)]);
        check(&[1; 130], &[(0, 64), (64, 128), (128, 130)]);
        check(&[600_000, 600_000, 10], &[(0, 1), (1, 3)]);
        check(&[10, 5_000_000, 10], &[(0, 1), (1, 2), (2, 3)]);
    }
}
