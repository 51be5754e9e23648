//! The instance pool of one worker: one instance per binding, reused from batch to batch.
//!
//! Reuse makes a call cheap; it must not become memory of earlier calls that grows or misleads. An
//! instance is dropped after any fault, above a memory mark, after a number of calls, when its
//! binding has left the plan, and when others were used more recently.

use std::collections::HashMap;
use std::time::Instant;

use crate::plugin::bindings::Answers;
use crate::plugin::chain::{Binding, Items, WeakBinding};
use crate::plugin::instance::Instance;
use crate::plugin::words::{Fault, Role};

/// Instances that a worker keeps. With more bindings than that in turn, instances are made again
/// (some 10 µs for Rust).
pub(super) const HELD_MAX: usize = 48;
/// An instance that grew by more than this many bytes is not used again: one batch needed that
/// memory. Counted from its initial size, which is 9 MiB and more where a whole JavaScript or Python
/// is inside.
const MEMORY_MARK: usize = 16 << 20;
/// Calls after which an instance is dropped, whatever it holds: guests leak.
const CALLS_MAX: u32 = 10_000;

/// The instances of one worker.
#[derive(Default)]
pub(super) struct Pool {
    held: HashMap<u64, Held>,
    /// Rises with each call, to know which instance was used last.
    clock: u64,
}

struct Held {
    instance: Instance,
    binding: WeakBinding,
    used: u64,
}

impl Pool {
    /// Calls a role of a binding, in its instance here or in a new one.
    pub(super) fn call(
        &mut self,
        binding: &Binding,
        role: Role,
        items: &Items,
        indices: &[usize],
    ) -> Result<Answers, Fault> {
        self.clock += 1;
        let mut held = match self.held.remove(&binding.id()) {
            Some(held) => held,
            None => {
                self.make_room();
                Held {
                    instance: self.start(binding)?,
                    binding: binding.downgrade(),
                    used: 0,
                }
            }
        };
        held.used = self.clock;
        let answers = timed(binding, &mut held.instance, role, items, indices)?;
        let marked = held.instance.memory().0 > held.instance.memory_at_start() + MEMORY_MARK;
        if !marked && held.instance.calls() < CALLS_MAX {
            self.held.insert(binding.id(), held);
        }
        Ok(answers)
    }

    /// Calls a role of a binding with one item, in an instance that sees nothing else.
    pub(super) fn call_alone(
        &mut self,
        binding: &Binding,
        role: Role,
        items: &Items,
        index: usize,
    ) -> Result<Answers, Fault> {
        let mut instance = self.start(binding)?;
        timed(binding, &mut instance, role, items, &[index])
    }

    /// Drops the instances of bindings that are gone.
    pub(super) fn sweep(&mut self) {
        self.held.retain(|_, held| held.binding.is_alive());
    }

    /// Drops all instances.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether it keeps no instance.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn start(&mut self, binding: &Binding) -> Result<Instance, Fault> {
        let started = binding
            .start()
            .or_else(|fault| match fault.is_exhaustion() {
                // The engine's pool is sized for usual components; several with many memories can
                // exhaust it.
                true => {
                    self.clear();
                    binding.start()
                }
                false => Err(fault),
            });
        started.inspect_err(|_| binding.component().counter().trapped())
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
    binding: &Binding,
    instance: &mut Instance,
    role: Role,
    items: &Items,
    indices: &[usize],
) -> Result<Answers, Fault> {
    let started = Instant::now();
    let answers = instance.call(role, items, indices);
    binding.component().counter().called(started.elapsed());
    answers.inspect_err(|_| binding.component().counter().trapped())
}
