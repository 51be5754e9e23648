//! A running instance: a Wasmtime store, the limits of its calls, and the functions of the guest.
//!
//! After any error of a call the whole store is unusable, so a caller that gets a [`Fault`] must
//! drop the instance.

use std::sync::Arc;

use wasmtime::Store;

use crate::plugin::bindings::{self, Answers, Guest};
use crate::plugin::chain::Items;
use crate::plugin::component::Component;
use crate::plugin::limits::{self, Meter};
use crate::plugin::log::{Line, Log};
use crate::plugin::words::{Breach, Fault, Limits, Role};

/// The most bytes kept of a plugin's reason for rejecting its settings.
const REASON_BYTES_MAX: usize = 2048;

/// The host's data about a guest: its memory use and its log.
pub(super) struct State {
    pub(super) meter: Meter,
    pub(super) log: Log,
}

/// A running instance.
pub(crate) struct Instance {
    store: Store<State>,
    guest: Guest,
    limits: Limits,
    calls: u32,
    /// Linear memory right after instantiation, in bytes.
    at_start: usize,
}

impl Instance {
    /// Creates an instance that is not configured yet. With `keep_log`, its log lines are kept for
    /// the caller and not logged.
    pub(super) fn start(component: &Component, keep_log: bool) -> Result<Instance, Fault> {
        let limits = *component.limits();
        let state = State {
            meter: Meter::new(limits.memory_bytes),
            log: Log::new(Arc::from(component.label()), keep_log),
        };
        let mut store = Store::new(component.pre().engine(), state);
        store.limiter(|state| &mut state.meter);
        // Only the engine of `author` counts fuel; the others return an error here, which is
        // ignored.
        let _ = store.set_fuel(u64::MAX);
        begin(&mut store, &limits);
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
            Err(error) => Err(limits::name(&error, &limits, store.data().log.last_error())),
        }
    }

    /// Creates an instance and configures it.
    pub(crate) fn configured(
        component: &Component,
        settings: &str,
        keep_log: bool,
    ) -> Result<Instance, Fault> {
        let mut instance = Instance::start(component, keep_log)?;
        begin(&mut instance.store, &instance.limits);
        match instance.guest.configure(&mut instance.store, settings) {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(reason)) => {
                let reason = bindings::brief(reason, REASON_BYTES_MAX);
                Err(Fault::Settings(format!(
                    "{} refuses its settings: {reason}",
                    component.label()
                )))
            }
            Err(error) => Err(instance.name(&error)),
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
        begin(&mut self.store, &self.limits);
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
            .map_err(|error| self.name(&error))?;
        if answers.len() != indices.len() {
            let what = format!(
                "{} returned {} results for {} items",
                role.name(),
                answers.len(),
                indices.len()
            );
            return Err(Fault::Breach {
                breach: Breach::WrongLength,
                what,
            });
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

    /// Linear memory right after instantiation, in bytes.
    pub(super) fn memory_at_start(&self) -> usize {
        self.at_start
    }

    /// Fuel used so far; `None` if the engine does not count it.
    pub(crate) fn fuel(&self) -> Option<u64> {
        self.store.get_fuel().ok().map(|left| u64::MAX - left)
    }

    /// The log lines kept so far.
    pub(crate) fn take_lines(&mut self) -> Vec<Line> {
        self.store.data_mut().log.take_lines()
    }

    fn name(&self, error: &wasmtime::Error) -> Fault {
        limits::name(error, &self.limits, self.store.data().log.last_error())
    }
}

/// Refills all budgets at the start of a call.
fn begin(store: &mut Store<State>, limits: &Limits) {
    store.set_epoch_deadline(limits.epochs());
    store.set_hostcall_fuel(limits.output_bytes);
    store.data_mut().log.begin(limits.log_bytes);
}
