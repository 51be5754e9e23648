//! The quota of a target: slots for requests in flight, and a pace. Several targets share one where an
//! API counts all their requests together (`[paces.NAME]`): then what one of them is told holds for the
//! others.
//!
//! A target that bears fewer requests at the same time than configured gets fewer: the other slots are
//! withheld.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Mutex as FairMutex, Notify, OwnedSemaphorePermit, Semaphore};

use super::lock;
use super::pace::{BearableConcurrency, BearableRate, Pace};
use crate::targets::{Cost, Options};

/// Slots and pace of a target, or of several.
pub struct Quota {
    /// Maximum number of requests in flight.
    pub(super) concurrency: usize,
    rate: Option<f64>,
    cost: Cost,
    pace: Mutex<Pace>,
    gate: Mutex<Gate>,
    /// Those that wait for the pace, in order: others, and urgent ones.
    lines: [FairMutex<()>; 2],
    sooner: Notify,
    /// Slots for any request.
    pub(super) general: Arc<Semaphore>,
    /// A slot for urgent requests only, if there are two or more in all.
    pub(super) urgent: Option<Arc<Semaphore>>,
}

/// How many of the slots for any request may be used.
struct Gate {
    bearable: BearableConcurrency,
    withheld: usize,
}

impl Quota {
    /// The quota of a target with these options. It starts with what an earlier quota remembered
    /// ([`Quota::memory`]).
    pub fn new(options: &Options, memory: Option<&[u8]>) -> Arc<Quota> {
        let concurrency = options.concurrency.clamp(1, 1024);
        let (general, urgent) = match concurrency {
            1 => (1, None),
            slots => (slots - 1, Some(Arc::new(Semaphore::new(1)))),
        };
        let (rate, slots) = memory.and_then(<[u8]>::split_first_chunk).unzip();
        let rate: Option<&[u8; 16]> = rate;
        let bearable = rate.and_then(|rate| BearableRate::from_bytes(rate));
        let slots = slots.and_then(|slots| Some(u16::from_le_bytes(slots.try_into().ok()?)));
        let gate = BearableConcurrency::new(general, slots.map(usize::from));
        let quota = Quota {
            concurrency,
            rate: options.rate,
            cost: options.cost,
            pace: Mutex::new(Pace::new(
                options.rate.map(|rate| rate / options.cost.unit()),
                bearable,
            )),
            gate: Mutex::new(Gate {
                bearable: gate,
                withheld: 0,
            }),
            lines: Default::default(),
            sooner: Notify::new(),
            general: Arc::new(Semaphore::new(general)),
            urgent,
        };
        quota.learn(|_| {});
        Arc::new(quota)
    }

    /// Whether it is that of a target with these options.
    pub fn fits(&self, options: &Options) -> bool {
        self.concurrency == options.concurrency.clamp(1, 1024)
            && self.rate == options.rate
            && self.cost == options.cost
    }

    /// What a later quota must know: the rate that the target bears, and the requests at the same
    /// time. `None` if it has taught neither.
    pub fn memory(&self) -> Option<Vec<u8>> {
        let (rate, gate) = (self.pace().kept(), lock(&self.gate));
        let (slots, most) = (gate.bearable.allowed(), gate.bearable.most());
        let taught = rate.is_some() || slots < most;
        let rate = rate.map_or(vec![0; 16], BearableRate::to_bytes);
        taught.then(|| [&rate[..], &(slots as u16).to_le_bytes()].concat())
    }

    /// The requests that may be in flight at the moment.
    pub(super) fn allowed(&self) -> usize {
        lock(&self.gate).bearable.allowed() + usize::from(self.urgent.is_some())
    }

    /// Learns from the outcome of a request how many the target bears at the same time.
    pub(super) fn learn(&self, outcome: impl FnOnce(&mut BearableConcurrency)) {
        let mut gate = lock(&self.gate);
        outcome(&mut gate.bearable);
        let withheld = gate.bearable.most() - gate.bearable.allowed();
        match withheld.checked_sub(gate.withheld) {
            // Slots in use follow when they are given back.
            Some(more) => gate.withheld += self.general.forget_permits(more),
            None => {
                self.general.add_permits(gate.withheld - withheld);
                gate.withheld = withheld;
            }
        }
    }

    /// Gives a slot back, or withholds it.
    pub(super) fn give_back(&self, slot: OwnedSemaphorePermit) {
        let mut gate = lock(&self.gate);
        let withheld = gate.bearable.most() - gate.bearable.allowed();
        if gate.withheld < withheld && Arc::ptr_eq(slot.semaphore(), &self.general) {
            slot.forget();
            gate.withheld += 1;
        }
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
    }

    /// Wakes those that wait for the pace when a request may start sooner than they were told.
    pub(super) fn sooner(&self) -> &Notify {
        &self.sooner
    }

    pub(super) fn line(&self, urgent: bool) -> &FairMutex<()> {
        &self.lines[usize::from(urgent)]
    }
}
