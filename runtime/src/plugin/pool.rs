//! The idle instances, shared by all workers and bounded in bytes for all plugins together.
//!
//! Reuse makes calls cheap, but a plugin must not remember earlier calls: a sample of the calls of
//! reused instances is made once more in a new one, and what differs is counted and named. A strict
//! plugin gets a new instance for each batch. State must not accumulate either. An instance is dropped
//! after any fault, above a memory mark, after a number of calls, when its binding has left the
//! plan, and when it has been idle for a minute. Beyond the bound the least recently used ones are
//! dropped first.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::plugin::bindings::Answers;
use crate::plugin::chain::{Binding, Items, WeakBinding};
use crate::plugin::instance::{Halt, Instance};
use crate::plugin::standing::TURN;
use crate::plugin::words::{Fault, Role};
use crate::sync;

/// The most idle instances, however small they are; the engine has room for them and for those in
/// use.
pub(super) const HELD_MAX: usize = 384;
/// An instance that has grown by more than this many bytes is not reused, because a single batch
/// needed that memory. Growth is counted from its size after it was configured, which is 9 MiB and
/// more for a component with a JavaScript or Python engine.
const MEMORY_MARK: usize = 16 << 20;
/// The number of calls after which an instance is dropped in any case, because guests leak.
const CALLS_MAX: u32 = 10_000;
/// One in so many calls of a reused instance is made once more in a new one. That costs less than a
/// hundredth for a plugin whose instance starts within the time of two calls, as in Rust. The number
/// is odd, because the calls of a component with two roles alternate.
const SAMPLED: u64 = 257;
/// How long an instance may be idle.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The idle instances.
pub(super) struct Pool {
    idle: Mutex<Idle>,
    bytes_max: usize,
}

#[derive(Default)]
struct Idle {
    /// By the id of their binding; the most recently used one is the last.
    held: HashMap<u64, Vec<Held>>,
    count: usize,
    bytes: usize,
    /// Rises with each use, to find the least recently used instance.
    clock: u64,
}

struct Held {
    instance: Instance,
    binding: WeakBinding,
    bytes: usize,
    used: u64,
    since: Instant,
}

impl Pool {
    /// An empty pool of at most this many bytes.
    pub(super) fn new(bytes_max: usize) -> Pool {
        Pool {
            idle: Mutex::default(),
            bytes_max,
        }
    }

    /// Calls a role of a binding, in an idle instance or in a new one. The call may use this much
    /// processor time.
    pub(super) fn call(
        &self,
        binding: &Binding,
        role: Role,
        items: &Items,
        indices: &[usize],
        allowed: Duration,
    ) -> Result<Answers, Halt> {
        let held = sync::lock(&self.idle).take(binding.id());
        let mut instance = match held {
            Some(instance) => instance,
            None => self.start(binding, allowed)?,
        };
        let answers = timed(binding, &mut instance, |instance| {
            instance.call_within(role, items, indices, allowed)
        })?;
        if instance.calls() > 1 && binding.component().counter().samples(SAMPLED) {
            self.check_memory(binding, role, items, indices, allowed, &answers);
        }
        let marked = instance.memory().0 > instance.memory_at_start() + MEMORY_MARK;
        let strict = binding.component().limits().strict;
        if !marked && !strict && instance.calls() < CALLS_MAX {
            self.keep(binding, instance);
        }
        Ok(answers)
    }

    /// Makes a call once more in a new instance; the results must be the same.
    fn check_memory(
        &self,
        binding: &Binding,
        role: Role,
        items: &Items,
        indices: &[usize],
        allowed: Duration,
        answers: &Answers,
    ) {
        let again = self.start(binding, allowed).and_then(|mut instance| {
            timed(binding, &mut instance, |instance| {
                instance.call_within(role, items, indices, allowed)
            })
        });
        // A call that did not return is counted elsewhere, and shows no difference.
        let Ok(again) = again else { return };
        let differs = answers.iter().zip(&again).position(|(a, b)| a != b);
        let Some(at) = differs else { return };
        let component = binding.component();
        if component.counter().differed() == 0 {
            tracing::warn!(
                plugin = component.label(),
                item = %items.name(indices[at]),
                "the plugin remembers earlier calls: its {} returned something else for this item in a new instance. Replay, trials and suppression rely on the same output for the same input. Correct the plugin, or write strict = true, which gives each batch a new instance at a cost",
                role.name()
            );
        }
    }

    /// Calls a role of a binding with one item, in a new instance that is used only for it.
    pub(super) fn call_alone(
        &self,
        binding: &Binding,
        role: Role,
        items: &Items,
        index: usize,
        allowed: Duration,
    ) -> Result<Answers, Halt> {
        let mut instance = self.start(binding, allowed)?;
        timed(binding, &mut instance, |instance| {
            instance.call_within(role, items, &[index], allowed)
        })
    }

    /// Drops the instances of bindings that no longer exist, and those that were idle for long.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let dropped = sync::lock(&self.idle).remove_if(|held| {
            !held.binding.is_alive() || now.saturating_duration_since(held.since) > IDLE_MAX
        });
        // Not under the lock: dropping an instance gives its memory back, which takes a while.
        drop(dropped);
    }

    /// Drops all instances.
    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut *sync::lock(&self.idle));
        drop(dropped);
    }

    /// The memory of the idle instances, in bytes.
    pub(super) fn bytes(&self) -> usize {
        sync::lock(&self.idle).bytes
    }

    fn start(&self, binding: &Binding, allowed: Duration) -> Result<Instance, Halt> {
        let started = Instant::now();
        let made = binding.start(allowed).or_else(|halt| match halt {
            // The engine's pool is sized for typical components; several with many memories can
            // exhaust it.
            Halt::Fault(fault) if fault.is_exhaustion() => {
                self.clear();
                binding.start(allowed)
            }
            halt => Err(halt),
        });
        let component = binding.component();
        let now = Instant::now();
        component.conduct().used(now, now - started);
        made.inspect_err(|halt| note(binding, halt, now))
    }

    /// Keeps an instance for later, and drops others if there is no room.
    fn keep(&self, binding: &Binding, instance: Instance) {
        let bytes = instance.bytes();
        if bytes > self.bytes_max {
            return;
        }
        let mut dropped = Vec::new();
        let mut idle = sync::lock(&self.idle);
        while idle.count >= HELD_MAX || idle.bytes + bytes > self.bytes_max {
            match idle.least_recent() {
                Some(held) => dropped.push(held),
                None => break,
            }
        }
        idle.clock += 1;
        let held = Held {
            instance,
            binding: binding.downgrade(),
            bytes,
            used: idle.clock,
            since: Instant::now(),
        };
        idle.count += 1;
        idle.bytes += bytes;
        idle.held.entry(binding.id()).or_default().push(held);
        drop(idle);
    }
}

impl Idle {
    fn take(&mut self, binding: u64) -> Option<Instance> {
        let held = self.held.get_mut(&binding)?.pop()?;
        self.count -= 1;
        self.bytes -= held.bytes;
        Some(held.instance)
    }

    fn least_recent(&mut self) -> Option<Held> {
        let oldest = |held: &Vec<Held>| held.first().map_or(u64::MAX, |held| held.used);
        let held = self.held.values_mut().min_by_key(|held| oldest(held))?;
        if held.is_empty() {
            return None;
        }
        let held = held.remove(0);
        self.count -= 1;
        self.bytes -= held.bytes;
        Some(held)
    }

    fn remove_if(&mut self, mut unwanted: impl FnMut(&Held) -> bool) -> Vec<Held> {
        let mut removed = Vec::new();
        self.held.retain(|_, held| {
            removed.extend(held.extract_if(.., |held| unwanted(held)));
            !held.is_empty()
        });
        self.count -= removed.len();
        self.bytes -= removed.iter().map(|held| held.bytes).sum::<usize>();
        removed
    }
}

/// Makes a call and notes its time and how it ended.
fn timed(
    binding: &Binding,
    instance: &mut Instance,
    call: impl FnOnce(&mut Instance) -> Result<Answers, Halt>,
) -> Result<Answers, Halt> {
    let started = Instant::now();
    let answers = call(instance);
    let now = Instant::now();
    let (component, time) = (binding.component(), now - started);
    component.counter().called(time);
    component.conduct().used(now, time);
    // On a busy machine the wall clock runs ahead of the processor time.
    if time > TURN && instance.processor_time() > TURN {
        component.conduct().was_long(now);
    } else if answers.is_ok() {
        component.conduct().was_quick();
    }
    answers.inspect_err(|halt| note(binding, halt, now))
}

/// Counts a call that did not return.
fn note(binding: &Binding, halt: &Halt, now: Instant) {
    let component = binding.component();
    match halt {
        Halt::Overstayed => component.conduct().was_long(now),
        Halt::Fault(fault) => {
            component.counter().trapped();
            if let Fault::Breach { breach, .. } = fault
                && breach.is_time()
            {
                component.conduct().hung(now);
            }
        }
    }
}
