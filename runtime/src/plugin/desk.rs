//! At the author's desk: a component is run once and everything about the run is told.
//!
//! Cost is counted in fuel, which is the same on every machine and every run; the limits are those
//! of the serving host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{Change, Event, Failure, Rendering, View};
use crate::plugin::bindings::{Answer, Answers, Declined};
use crate::plugin::cache::Cache;
use crate::plugin::cases::{self, Case};
use crate::plugin::chain::Items;
use crate::plugin::component::{Component, Loader};
use crate::plugin::figures::Figures;
use crate::plugin::instance::Instance;
use crate::plugin::log::Line;
use crate::plugin::{Breach, Fault, Limits, Role, engine, toolchain};

/// What to run it on.
#[derive(Clone, Debug)]
pub enum Input {
    /// For event filters and mappers.
    Events(Vec<Event>),
    /// For entity filters and renderers.
    Entities(Vec<View>),
}

/// What one role made of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A filter lets it pass, or not.
    Accepted(bool),
    /// A mapper's changes.
    Changes(Vec<Change>),
    /// A renderer's rendering; none: not for this channel.
    Rendered(Option<Rendering>),
    /// It declined the item, or what it answered cannot be used.
    Failed(Failure),
}

/// What a role did with all items in one call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which role.
    pub role: Role,
    /// One output an item, in their order; or the fault that ended the call.
    pub outputs: Result<Vec<Output>, Fault>,
    /// Fuel burnt by the call.
    pub fuel: u64,
    /// Wall time of the call on this machine, with fuel counted some 1.3 times that of the serving
    /// host.
    pub time: Duration,
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// `name@version` of the component.
    pub plugin: String,
    /// All its roles, also those that were not run.
    pub roles: Vec<Role>,
    /// One call for each role that takes this input, filter first. A fault ends the run.
    pub calls: Vec<Call>,
    /// What it logged, configuring included.
    pub log: Vec<Line>,
    /// Fuel burnt by configuring.
    pub configure_fuel: u64,
    /// The most linear memory it had, in bytes.
    pub memory_peak: usize,
    /// How long it took to compile.
    pub compile_time: Duration,
}

/// What one case came to, in an instance of its own.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What the component made of it.
    pub output: Output,
    /// Whether the output is the host's word for a trap, a broken limit or refused settings, and
    /// not the component's own.
    pub fault: bool,
    /// Fuel burnt by configuring and by the calls.
    pub fuel: u64,
    /// The most linear memory it had, in bytes.
    pub memory_peak: usize,
    /// What it logged, configuring included.
    pub log: Vec<Line>,
}

/// Components from this size on take seconds to compile: those with a whole language inside.
const KEPT_BYTES_MIN: usize = 1 << 20;

/// A component at the desk: compiled, not yet run.
pub struct Desk {
    component: Component,
    compile_time: Duration,
}

impl Desk {
    /// Checks and compiles a component; code of a large one is kept for the next time. Blocking.
    ///
    /// # Errors
    /// When the component cannot be used, or the machine lacks what an engine needs.
    pub fn load(name: &str, bytes: &[u8], limits: Limits) -> Result<Desk, Fault> {
        let engine = engine::measuring().map_err(|error| Fault::Breach {
            breach: Breach::Host,
            what: error.to_string(),
        })?;
        let figures = Figures::default();
        let started = Instant::now();
        let kept = toolchain::compiled().filter(|_| bytes.len() >= KEPT_BYTES_MIN);
        let cache = kept.and_then(|directory| Cache::open(&directory, &engine).ok());
        let loader = Loader {
            engine: &engine,
            layout: engine::Layout::Wide,
            apart: None,
            cache: cache.as_ref(),
            figures: &figures,
        };
        let component = loader.load(name, bytes, limits)?;
        Ok(Desk {
            component,
            compile_time: started.elapsed(),
        })
    }

    /// All its roles.
    pub fn roles(&self) -> &[Role] {
        self.component.roles()
    }

    /// Runs it in a new instance on its roles that take this input, all items in one call.
    /// Blocking.
    ///
    /// # Errors
    /// When it refuses its settings or has no role for this input.
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
        let calls = session.calls(&roles, &items);
        Ok(Report {
            plugin: component.label().to_owned(),
            roles: component.roles().to_vec(),
            calls,
            log: session.instance.take_lines(),
            configure_fuel: session.configure_fuel,
            memory_peak: session.instance.memory().1,
            compile_time: self.compile_time,
        })
    }

    /// `name@version`.
    pub fn label(&self) -> &str {
        self.component.label()
    }

    /// The component's full digest, 64 hex digits.
    pub fn sha256(&self) -> &str {
        self.component.sha256()
    }

    /// Runs one case in a new instance, as [`Case::run`] does, and counts. Blocking.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn try_case(&self, case: &Case) -> Result<Trial, Fault> {
        let roles = case.item.roles(&self.component)?;
        let mut session = match self.session(&case.settings) {
            Ok(session) => session,
            Err(fault) => {
                let output = cases::refused(fault, self.component.label())?;
                return Ok(Trial {
                    output,
                    fault: true,
                    fuel: 0,
                    memory_peak: 0,
                    log: Vec::new(),
                });
            }
        };
        let tried = cases::outcome(&mut session.instance, &roles, &case.item.items())?;
        Ok(Trial {
            output: tried.output,
            fault: tried.fault,
            fuel: session.instance.fuel().unwrap_or_default(),
            memory_peak: session.instance.memory().1,
            log: session.instance.take_lines(),
        })
    }

    /// Runs cases one after the other in one instance, as a serving Weir would; one output each.
    /// After a fault, and where the settings differ from those before, a new instance goes on.
    ///
    /// # Errors
    /// As [`Case::run`].
    pub fn try_in_turn<'a>(
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
            let tried = match kept.unwrap_or_else(|| self.session(&case.settings)) {
                Err(fault) => cases::refused(fault, self.component.label())?,
                Ok(mut session) => {
                    let tried = cases::outcome(&mut session.instance, &roles, &case.item.items())?;
                    if !tried.fault {
                        held = Some((&case.settings, session));
                    }
                    tried.output
                }
            };
            outputs.push(tried);
        }
        Ok(outputs)
    }

    /// A new instance, to be used for several calls.
    fn session(&self, settings: &str) -> Result<Session, Fault> {
        let instance = Instance::configured(&self.component, settings, true)?;
        let configure_fuel = instance.fuel().unwrap_or_default();
        Ok(Session {
            instance,
            configure_fuel,
        })
    }
}

/// An instance at the desk.
struct Session {
    instance: Instance,
    configure_fuel: u64,
}

impl Session {
    /// All items in one call for each role; a fault ends it.
    fn calls(&mut self, roles: &[Role], items: &Items) -> Vec<Call> {
        let indices: Vec<usize> = (0..items.len()).collect();
        let mut calls = Vec::new();
        for role in roles {
            let before = self.instance.fuel().unwrap_or_default();
            let started = Instant::now();
            let answers = self.instance.call(*role, items, &indices);
            let time = started.elapsed();
            let fuel = self.instance.fuel().unwrap_or_default() - before;
            let spent = answers.is_err();
            calls.push(Call {
                role: *role,
                outputs: answers.map(outputs),
                fuel,
                time,
            });
            if spent {
                break;
            }
        }
        calls
    }
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("plugin", &self.component.label())
            .finish_non_exhaustive()
    }
}

/// Loads a component and runs it once.
///
/// # Errors
/// As [`Desk::load`] and [`Desk::run`].
pub fn run(
    name: &str,
    bytes: &[u8],
    settings: &str,
    input: Input,
    limits: Limits,
) -> Result<Report, Fault> {
    Desk::load(name, bytes, limits)?.run(settings, input)
}

fn outputs(answers: Answers) -> Vec<Output> {
    answers.into_iter().map(output).collect()
}

/// One answer as an output.
pub(super) fn output(answer: Result<Answer, Declined>) -> Output {
    match answer {
        Ok(Answer::Accepted(accepted)) => Output::Accepted(accepted),
        Ok(Answer::Changes(changes)) => Output::Changes(changes),
        Ok(Answer::Rendered(rendering)) => Output::Rendered(rendering),
        Err(declined) => Output::Failed(declined.failure),
    }
}
