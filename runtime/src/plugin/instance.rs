//! A running instance: a Wasmtime store, the limits of its calls, and the functions of the guest.
//!
//! After any error of a call the whole store is unusable, so a caller that gets a [`Fault`] must
//! drop the instance.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use crate::plugin::bindings::{self, Answers, Guest};
use crate::plugin::chain::Items;
use crate::plugin::component::Component;
use crate::plugin::limits::{self, Allowance, Meter};
use crate::plugin::log::{Line, Log};
use crate::plugin::words::{Breach, Fault, Limits, Role};

/// The most bytes kept of a plugin's reason for rejecting its settings.
const REASON_BYTES_MAX: usize = 2048;
/// What the host itself needs for an instance, about.
const OVERHEAD_BYTES: usize = 64 << 10;

/// The host's data about a guest: its memory and time, and its log.
pub(super) struct State {
    pub(super) meter: Meter,
    pub(super) log: Log,
    allowance: Allowance,
}

/// Why a call did not return.
#[derive(Debug)]
pub(super) enum Halt {
    /// It used up the time that its caller allowed, which is less than its limit.
    Overstayed,
    /// It broke a limit of its own, trapped, or returned something unusable.
    Fault(Fault),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Halt {
        Halt::Fault(fault)
    }
}

/// A running instance.
pub(crate) struct Instance {
    store: Store<State>,
    guest: Guest,
    limits: Limits,
    calls: u32,
    /// Linear memory right after it was configured, in bytes.
    at_start: usize,
}

impl Instance {
    /// Creates an instance that is not configured yet. With `keep_log`, its log lines are kept for
    /// the caller and not logged.
    pub(super) fn start(component: &Component, keep_log: bool) -> Result<Instance, Fault> {
        Instance::start_within(component, keep_log, Duration::MAX).map_err(fault)
    }

    fn start_within(
        component: &Component,
        keep_log: bool,
        allowed: Duration,
    ) -> Result<Instance, Halt> {
        let limits = *component.limits();
        let state = State {
            meter: Meter::new(limits.memory_bytes),
            log: Log::new(
                Arc::from(component.label()),
                component.quota().clone(),
                keep_log,
            ),
            allowance: Allowance::begin(Duration::ZERO),
        };
        let mut store = Store::new(component.pre().engine(), state);
        store.limiter(|state| &mut state.meter);
        store.epoch_deadline_callback(|store| Ok(store.data().allowance.at_deadline()));
        // Only the engine of `author` counts fuel; the others return an error here, which is
        // ignored.
        let _ = store.set_fuel(u64::MAX);
        begin(&mut store, &limits, allowed);
        let made = component
            .pre()
            .instantiate(&mut store)
            .and_then(|instance| component.indices().load(&mut store, &instance));
        match made {
            Ok(guest) => {
                let at_start = store.data().meter.memory();
                Ok(Instance {
                    store,
                    guest,
                    limits,
                    calls: 0,
                    at_start,
                })
            }
            Err(error) => Err(halt(&store, &error, &limits, allowed)),
        }
    }

    /// Creates an instance and configures it.
    pub(crate) fn configured(
        component: &Component,
        settings: &str,
        keep_log: bool,
    ) -> Result<Instance, Fault> {
        Instance::configured_within(component, settings, keep_log, Duration::MAX).map_err(fault)
    }

    /// The same; starting and configuring may each use this much processor time.
    pub(super) fn configured_within(
        component: &Component,
        settings: &str,
        keep_log: bool,
        allowed: Duration,
    ) -> Result<Instance, Halt> {
        let mut instance = Instance::start_within(component, keep_log, allowed)?;
        begin(&mut instance.store, &instance.limits, allowed);
        match instance.guest.configure(&mut instance.store, settings) {
            Ok(Ok(())) => {
                instance.at_start = instance.memory().0;
                Ok(instance)
            }
            Ok(Err(reason)) => {
                let reason = bindings::brief(reason, REASON_BYTES_MAX);
                Err(Halt::Fault(Fault::Settings(format!(
                    "{} refuses its settings: {reason}",
                    component.label()
                ))))
            }
            Err(error) => Err(halt(&instance.store, &error, &instance.limits, allowed)),
        }
    }

    /// Calls a role with the items at these indices, within the limits of a batch; returns one
    /// result per item.
    pub(crate) fn call(
        &mut self,
        role: Role,
        items: &Items,
        indices: &[usize],
    ) -> Result<Answers, Fault> {
        self.call_within(role, items, indices, Duration::MAX)
            .map_err(fault)
    }

    /// The same; the call may use this much processor time, if that is less than its limit.
    pub(super) fn call_within(
        &mut self,
        role: Role,
        items: &Items,
        indices: &[usize],
        allowed: Duration,
    ) -> Result<Answers, Halt> {
        begin(&mut self.store, &self.limits, allowed);
        self.store.data_mut().log.belong_to(items.trace(indices));
        self.calls += 1;
        let answers = match items {
            Items::Events(events) => self.guest.events(
                &mut self.store,
                role,
                indices.iter().map(|&index| &events[index]),
            ),
            Items::Entities(views) => self.guest.entities(
                &mut self.store,
                role,
                indices.iter().map(|&index| &views[index]),
            ),
        };
        let missing = || Fault::Breach {
            breach: Breach::Host,
            what: format!("the component has no {}", role.name()),
        };
        let answers = answers
            .ok_or_else(missing)?
            .map_err(|error| halt(&self.store, &error, &self.limits, allowed))?;
        if answers.len() != indices.len() {
            let what = format!(
                "{} returned {} results for {} items",
                role.name(),
                answers.len(),
                indices.len()
            );
            return Err(Halt::Fault(Fault::Breach {
                breach: Breach::WrongLength,
                what,
            }));
        }
        Ok(answers)
    }

    /// Calls since instantiation.
    pub(super) fn calls(&self) -> u32 {
        self.calls
    }

    /// Linear memory in bytes: current and peak.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (
            self.store.data().meter.memory(),
            self.store.data().meter.peak(),
        )
    }

    /// Linear memory right after it was configured, in bytes.
    pub(super) fn memory_at_start(&self) -> usize {
        self.at_start
    }

    /// What it holds, in bytes: memory, tables, and the host's own part.
    pub(super) fn bytes(&self) -> usize {
        self.store.data().meter.bytes() + OVERHEAD_BYTES
    }

    /// The processor time of its last call.
    pub(super) fn processor_time(&self) -> Duration {
        self.store.data().allowance.used()
    }

    /// Fuel used so far; `None` if the engine does not count it.
    pub(crate) fn fuel(&self) -> Option<u64> {
        self.store.get_fuel().ok().map(|left| u64::MAX - left)
    }

    /// The log lines kept so far.
    pub(crate) fn take_lines(&mut self) -> Vec<Line> {
        self.store.data_mut().log.take_lines()
    }
}

/// The error of a call as the reason why it did not return.
fn halt(store: &Store<State>, error: &wasmtime::Error, limits: &Limits, allowed: Duration) -> Halt {
    match limits::name(error, limits, store.data().log.last_error()) {
        Fault::Breach { breach, .. } if breach.is_time() && allowed < limits.time => {
            Halt::Overstayed
        }
        fault => Halt::Fault(fault),
    }
}

/// The fault of a call whose time only its limit bounds.
fn fault(halt: Halt) -> Fault {
    match halt {
        Halt::Fault(fault) => fault,
        Halt::Overstayed => Fault::Breach {
            breach: Breach::Host,
            what: "the host ended the call before its limit".to_owned(),
        },
    }
}

/// Refills all budgets at the start of a call.
fn begin(store: &mut Store<State>, limits: &Limits, allowed: Duration) {
    let time = limits.time.min(allowed);
    store.set_epoch_deadline(limits::epochs(time));
    store.data_mut().allowance = Allowance::begin(time);
    store.set_hostcall_fuel(limits.output_bytes);
    store.data_mut().log.begin(limits.log_bytes);
}
