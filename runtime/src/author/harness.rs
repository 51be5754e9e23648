//! The test harness of plugin authors: runs a component and reports results, log and cost.
//!
//! Cost is counted in fuel, which is the same on every machine and in every run; the limits are
//! those of the serving host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::author::cases::{self, Case, Output};
use crate::author::toolchain;
use crate::model::{Event, View};
use crate::plugin::log::Line;
use crate::plugin::{self, Binary, Component, Fault, Instance, Items, Limits, Role};

/// The items of a run.
#[derive(Clone, Debug)]
pub enum Input {
    /// For event filters and mappers.
    Events(Vec<Event>),
    /// For entity filters and renderers.
    Entities(Vec<View>),
}

/// One call of one role with all items.
#[derive(Clone, Debug)]
pub struct Call {
    /// The role.
    pub role: Role,
    /// One output per item, in their order.
    pub outputs: Vec<Output>,
    /// The fault that ended the call with all items. Each item then ran alone in an instance of its
    /// own, as a serving Weir does it, and `outputs` are those of these runs.
    pub fault: Option<Fault>,
    /// Fuel used by the call.
    pub fuel: u64,
    /// Wall time of the call on this machine: about 1.3 times that of the serving host, because
    /// fuel is counted.
    pub time: Duration,
}

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// `name@version` of the component.
    pub plugin: String,
    /// All roles of the component, including those that were not run.
    pub roles: Vec<Role>,
    /// One call for each role that takes this input, filter first.
    pub calls: Vec<Call>,
    /// Its log lines, including those of configuring.
    pub log: Vec<Line>,
    /// Fuel used by configuring.
    pub configure_fuel: u64,
    /// The most linear memory it had, in bytes.
    pub memory_peak: usize,
    /// Time for checking and compiling.
    pub compile_time: Duration,
}

/// The result of one case in an instance of its own.
#[derive(Clone, Debug)]
pub struct CaseRun {
    /// The output of the component.
    pub output: Output,
    /// Whether the output is the host's report of a trap, an exceeded limit or rejected settings,
    /// and not the component's own.
    pub fault: bool,
    /// Fuel used by configuring and by the calls.
    pub fuel: u64,
    /// The most linear memory it had, in bytes.
    pub memory_peak: usize,
    /// Its log lines, including those of configuring.
    pub log: Vec<Line>,
}

/// Components of at least this size take seconds to compile, so their code is cached: those with a
/// whole language inside.
const CACHED_BYTES_MIN: usize = 1 << 20;

/// A component that is compiled and ready to run.
pub struct Harness {
    component: Component,
    compile_time: Duration,
}

impl Harness {
    /// Checks and compiles a component; the code of a large one is cached for later runs. Blocking.
    ///
    /// # Errors
    /// When the component cannot be used, or the engine cannot start on this machine.
    pub fn load(name: &str, binary: &Binary, limits: Limits) -> Result<Harness, Fault> {
        let started = Instant::now();
        let cache = toolchain::compiled().filter(|_| binary.bytes().len() >= CACHED_BYTES_MIN);
        let component = plugin::load_measured(name, binary, limits, cache.as_deref())?;
        Ok(Harness {
            component,
            compile_time: started.elapsed(),
        })
    }

    /// All its roles.
    pub fn roles(&self) -> &[Role] {
        self.component.roles()
    }

    /// Runs the roles that take this input, in a new instance, with all items in one call per role.
    /// Blocking.
    ///
    /// # Errors
    /// When the component rejects its settings or has no role for this input.
    pub fn run(&self, settings: &str, input: Input) -> Result<Report, Fault> {
        let component = &self.component;
        let (items, takes) = match input {
            Input::Events(events) => (
                Items::Events(Arc::new(events)),
                [Role::EventFilter, Role::Mapper],
            ),
            Input::Entities(views) => (
                Items::Entities(Arc::new(views)),
                [Role::EntityFilter, Role::Renderer],
            ),
        };
        let roles: Vec<Role> = takes
            .into_iter()
            .filter(|role| component.roles().contains(role))
            .collect();
        if roles.is_empty() {
            let (name, filter, maker) = (component.name(), takes[0].name(), takes[1].name());
            return Err(Fault::Unusable(format!(
                "plugin {name} is neither {filter} nor {maker}, and takes no such input"
            )));
        }
        let mut session = self.session(settings)?;
        let mut report = Report {
            plugin: component.label().to_owned(),
            roles: component.roles().to_vec(),
            calls: Vec::new(),
            log: Vec::new(),
            configure_fuel: session.configure_fuel,
            memory_peak: 0,
            compile_time: self.compile_time,
        };
        for role in roles {
            let mut call = session.call(role, &items);
            report.add(&mut session);
            if let Some(fault) = &call.fault {
                // After a fault an instance is unusable.
                for item in 0..items.len() {
                    call.outputs.push(match items.len() {
                        1 => Output::Failed(fault.failure()),
                        _ => {
                            session = self.session(settings)?;
                            session.output(role, &items, item)?
                        }
                    });
                    report.add(&mut session);
                }
                session = self.session(settings)?;
            }
            report.calls.push(call);
        }
        Ok(report)
    }

    /// `name@version`.
    pub fn label(&self) -> &str {
        self.component.label()
    }

    /// SHA-256 of the component, 64 hex digits.
    pub fn sha256(&self) -> &str {
        self.component.sha256()
    }

    /// Runs one case in a new instance, as [`Case::run`] does, and measures it. Blocking.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn run_case(&self, case: &Case) -> Result<CaseRun, Fault> {
        let roles = case.item.roles(&self.component)?;
        let mut session = match self.session(&case.settings) {
            Ok(session) => session,
            Err(fault) => {
                let output = cases::rejected(fault, self.component.label())?;
                return Ok(CaseRun {
                    output,
                    fault: true,
                    fuel: 0,
                    memory_peak: 0,
                    log: Vec::new(),
                });
            }
        };
        let ran = cases::outcome(&mut session.instance, &roles, &case.item.items())?;
        Ok(CaseRun {
            output: ran.output,
            fault: ran.fault,
            fuel: session.instance.fuel().unwrap_or_default(),
            memory_peak: session.instance.memory().1,
            log: session.instance.take_lines(),
        })
    }

    /// Runs cases one after the other in one instance, as a serving Weir would; returns one output
    /// per case. After a fault, and where the settings change, a new instance takes over.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn run_in_turn<'a>(
        &self,
        all: impl IntoIterator<Item = &'a Case>,
    ) -> Result<Vec<Output>, Fault> {
        let mut held: Option<(&str, Session)> = None;
        let mut outputs = Vec::new();
        for case in all {
            let roles = case.item.roles(&self.component)?;
            let kept = held
                .take()
                .filter(|(settings, _)| *settings == case.settings)
                .map(|(_, session)| Ok(session));
            let output = match kept.unwrap_or_else(|| self.session(&case.settings)) {
                Err(fault) => cases::rejected(fault, self.component.label())?,
                Ok(mut session) => {
                    let ran = cases::outcome(&mut session.instance, &roles, &case.item.items())?;
                    if !ran.fault {
                        held = Some((&case.settings, session));
                    }
                    ran.output
                }
            };
            outputs.push(output);
        }
        Ok(outputs)
    }

    /// A new instance for several calls.
    fn session(&self, settings: &str) -> Result<Session, Fault> {
        let instance = Instance::configured(&self.component, settings, true)?;
        let configure_fuel = instance.fuel().unwrap_or_default();
        Ok(Session {
            instance,
            configure_fuel,
        })
    }
}

/// A configured instance, and the fuel that configuring it used.
struct Session {
    instance: Instance,
    configure_fuel: u64,
}

impl Session {
    /// Calls a role with all items.
    fn call(&mut self, role: Role, items: &Items) -> Call {
        let indices: Vec<usize> = (0..items.len()).collect();
        let before = self.instance.fuel().unwrap_or_default();
        let started = Instant::now();
        let answers = self.instance.call(role, items, &indices);
        let time = started.elapsed();
        let fuel = self.instance.fuel().unwrap_or_default() - before;
        let (outputs, fault) = match answers {
            Ok(answers) => (answers.into_iter().map(cases::output).collect(), None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        Call {
            role,
            outputs,
            fault,
            fuel,
            time,
        }
    }

    /// The output of a role for one item alone. A fault is an output too, with its code.
    fn output(&mut self, role: Role, items: &Items, item: usize) -> Result<Output, Fault> {
        match self.instance.call(role, items, &[item]) {
            Ok(answers) => {
                let answer = answers.into_iter().next();
                Ok(answer.map_or(Output::Accepted(true), cases::output))
            }
            Err(fault) if fault.is_exhaustion() => Err(fault),
            Err(fault) => Ok(Output::Failed(fault.failure())),
        }
    }
}

impl Report {
    /// Adds what an instance logged and the memory that it had.
    fn add(&mut self, session: &mut Session) {
        self.log.extend(session.instance.take_lines());
        self.memory_peak = self.memory_peak.max(session.instance.memory().1);
    }
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness")
            .field("plugin", &self.component.label())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Failure;
    use crate::plugin::tests::{events, guests, limits};

    fn harness(name: &str, module: Vec<u8>) -> Harness {
        Harness::load(name, &Binary::new(module), limits()).expect("loads")
    }

    #[test]
    fn fuel_is_the_same_in_every_run_and_a_fault_is_reported() {
        let run = |letters: &str| {
            let input = Input::Events(events(letters).to_vec());
            harness("erp", guests::source())
                .run("{}", input)
                .expect("runs")
        };
        let (first, second) = (run("aanf"), run("aanf"));
        let fuel = |report: &Report| {
            report
                .calls
                .iter()
                .map(|call| (call.role, call.fuel))
                .collect::<Vec<_>>()
        };
        assert_eq!(fuel(&first), fuel(&second));
        assert_eq!(first.calls.len(), 2);
        assert!(
            first.calls[1].fuel > 100 && first.memory_peak >= 2 << 16,
            "{first:?}"
        );
        assert!(run("aaaaaaaa").calls[1].fuel > first.calls[1].fuel);
        assert!(first.calls[1].fault.is_none());
        assert_eq!(
            first.calls[1].outputs[3],
            Output::Failed(Failure::new("missing-field", "no price"))
        );

        // A trap costs its own item alone, as in a serving Weir.
        let poisoned = run("apa");
        let call = &poisoned.calls[1];
        assert_eq!(call.fault.as_ref().map(Fault::code), Some("trap"));
        assert!(
            matches!(&call.outputs[..], [Output::Changes(_), Output::Failed(trap), Output::Changes(_)] if trap.code == "trap"),
            "{call:?}"
        );
        assert_eq!(
            poisoned.log[0].message,
            "panicked at src/lib.rs:7: no price"
        );
        let page = harness("page", guests::channel())
            .run("{}", Input::Events(vec![]))
            .expect_err("wrong input");
        assert_eq!(
            page.to_string(),
            "plugin page is neither event-filter nor mapper, and takes no such input"
        );
    }
}
