//! The instance pool of one worker: one instance per binding, reused from batch to batch.
//!
//! Reuse makes calls cheap, but state of earlier calls must not accumulate. An instance is dropped
//! after any fault, above a memory mark, after a number of calls, when its binding has left the
//! plan, and when it is the least recently used and the pool is full.

use std::collections::HashMap;
use std::time::Instant;

use crate::plugin::bindings::Answers;
use crate::plugin::chain::{Binding, Items, WeakBinding};
use crate::plugin::instance::Instance;
use crate::plugin::words::{Fault, Role};

/// The most instances that a worker keeps. A worker that alternates between more bindings creates
/// instances again and again (about 10 µs each for Rust).
pub(super) const HELD_MAX: usize = 48;
/// An instance that has grown by more than this many bytes is not reused, because a single batch
/// needed that memory. Growth is counted from its initial size, which is 9 MiB and more for a
/// component with a JavaScript or Python engine.
const MEMORY_MARK: usize = 16 << 20;
/// The number of calls after which an instance is dropped in any case, because guests leak.
const CALLS_MAX: u32 = 10_000;

/// The instances of one worker.
#[derive(Default)]
pub(super) struct Pool {
    held: HashMap<u64, Held>,
    /// Rises with each call, to find the least recently used instance.
    clock: u64,
}

struct Held {
    instance: Instance,
    binding: WeakBinding,
    used: u64,
}

impl Pool {
    /// Calls a role of a binding, in its pooled instance or in a new one.
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

    /// Calls a role of a binding with one item, in a new instance that is used only for it.
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

    /// Drops the instances of bindings that no longer exist.
    pub(super) fn sweep(&mut self) {
        self.held.retain(|_, held| held.binding.is_alive());
    }

    /// Drops all instances.
    pub(super) fn clear(&mut self) {
        self.held.clear();
    }

    /// Whether the pool is empty.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn start(&mut self, binding: &Binding) -> Result<Instance, Fault> {
        let started = binding
            .start()
            .or_else(|fault| match fault.is_exhaustion() {
                // The engine's pool is sized for typical components; several with many memories can
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
