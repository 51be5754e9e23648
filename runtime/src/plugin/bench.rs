//! The instances that one worker keeps: one for each use, reused from batch to batch.
//!
//! Reuse is what makes a call cheap; it must not become memory of earlier calls that grows or lies.
//! An instance goes after any fault, above a mark of memory, after a number of calls, when its use
//! has left the plan, and when others were used more lately.

use std::collections::HashMap;
use std::time::Instant;

use crate::plugin::bindings::Answers;
use crate::plugin::chain::{Items, Use, WeakUse};
use crate::plugin::instance::Instance;
use crate::plugin::{Fault, Role};

/// Instances a worker keeps. With more uses than that in turn, instances are made anew (some 10 µs
/// for Rust).
pub(super) const HELD_MAX: usize = 48;
/// An instance that grew by more bytes than that is not used again: what it holds was one batch's
/// need. Counted from its first size, which is 9 MiB and more where a whole JavaScript or Python is
/// inside.
const MEMORY_MARK: usize = 16 << 20;
/// Calls after which an instance goes, whatever it holds: guests leak.
const CALLS_MAX: u32 = 10_000;

/// The instances of one worker.
#[derive(Default)]
pub(super) struct Bench {
    held: HashMap<u64, Held>,
    /// Rises with each call, to tell which instance was used last.
    clock: u64,
}

struct Held {
    instance: Instance,
    of: WeakUse,
    used: u64,
}

impl Bench {
    /// Calls a role of a use, in the instance it has here or in a new one.
    pub(super) fn call(
        &mut self,
        of: &Use,
        role: Role,
        items: &Items,
        indices: &[usize],
    ) -> Result<Answers, Fault> {
        self.clock += 1;
        let mut held = match self.held.remove(&of.id()) {
            Some(held) => held,
            None => {
                self.make_room();
                Held {
                    instance: self.start(of)?,
                    of: of.downgrade(),
                    used: 0,
                }
            }
        };
        held.used = self.clock;
        let answers = timed(of, &mut held.instance, role, items, indices)?;
        let marked = held.instance.memory().0 > held.instance.memory_at_start() + MEMORY_MARK;
        if !marked && held.instance.calls() < CALLS_MAX {
            self.held.insert(of.id(), held);
        }
        Ok(answers)
    }

    /// Calls a role of a use with one item, in an instance that sees nothing else.
    pub(super) fn call_alone(
        &mut self,
        of: &Use,
        role: Role,
        items: &Items,
        index: usize,
    ) -> Result<Answers, Fault> {
        let mut instance = self.start(of)?;
        timed(of, &mut instance, role, items, &[index])
    }

    /// Drops the instances of uses that are gone.
    pub(super) fn sweep(&mut self) {
        self.held.retain(|_, held| held.of.is_alive());
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether it keeps nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn start(&mut self, of: &Use) -> Result<Instance, Fault> {
        let started = of.start().or_else(|fault| match fault.is_exhaustion() {
            // The pool is made for what workers hold of usual components; several with many
            // memories can empty it.
            true => {
                self.clear();
                of.start()
            }
            false => Err(fault),
        });
        started.inspect_err(|_| of.component().counter().trapped())
    }

    fn make_room(&mut self) {
        if self.held.len() >= HELD_MAX {
            self.sweep();
        }
        while self.held.len() >= HELD_MAX {
            let Some(oldest) = self
                .held
                .iter()
                .min_by_key(|(_, held)| held.used)
                .map(|(id, _)| *id)
            else {
                return;
            };
            self.held.remove(&oldest);
        }
    }
}

fn timed(
    of: &Use,
    instance: &mut Instance,
    role: Role,
    items: &Items,
    indices: &[usize],
) -> Result<Answers, Fault> {
    let started = Instant::now();
    let answers = instance.call(role, items, indices);
    of.component().counter().called(started.elapsed());
    answers.inspect_err(|_| of.component().counter().trapped())
}
