//! Cases: one item, the settings, and the output that a plugin must return for it.
//!
//! Cases are written as files, travel inside the component, and run here on any component: for the
//! author, and before a new version takes over.
//!
//! A case is a folder `cases/NAME`:
//!
//! | file | |
//! |---|---|
//! | `event.json` | a CloudEvent in structured mode, or any other JSON as a plain body; for filters and mappers of a source |
//! | `body.EXT` | a raw body instead: `xml`, `csv`, `txt`, `edi`, `json`, `bin`, … |
//! | `envelope.json` | optional, with a raw body: `id`, `source`, `type`, `subject`, `time`, `datacontenttype`; other names are extensions and headers |
//! | `entity.json` | `{"type", "key", "facets": {NAME: VALUE}}`; for filters and renderers of a channel |
//! | `settings.json` | optional; `cases/settings.json` is used by all cases without one of their own |
//! | `expected.json` | the expected output, see below; if it is missing, no output is expected yet |
//!
//! The expected output is `true` or `false` (a filter), an array of changes, `{"key",
//! "content_type", "body"}` or `null` (a renderer), or `{"code", "message"}` (a failure; without
//! `message` any message matches). For a component that is a filter as well, `false` means that the
//! filter drops the item. JSON is compared as Weir itself compares it: the order of members does
//! not matter, and numbers are compared as they are written.

use std::fmt;

mod event;
mod folder;
mod json;
mod section;
pub(crate) mod written;

use crate::model::{Change, Event, Failure, Rendering, View};
use crate::plugin::{Answer, Component, Declined, Fault, Instance, Items, Role};

pub use self::event::from_body as event_of_body;
pub use self::folder::read;
pub(crate) use self::json::spread;
pub use self::section::{CASES_BYTES_MAX, Embedded, embed, embedded};

use self::json::Json;

/// One item and the output that is expected for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The name of its folder.
    pub name: String,
    /// JSON text of an object.
    pub settings: String,
    /// The input.
    pub item: Item,
    /// JSON text; `None` while no output is expected yet.
    pub expected: Option<String>,
}

/// The input of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// For event filters and mappers.
    Event(Event),
    /// For entity filters and renderers.
    Entity(View),
}

/// The output of one role for one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Whether a filter accepts it.
    Accepted(bool),
    /// A mapper's changes.
    Changes(Vec<Change>),
    /// A renderer's rendering; `None`: not for this channel.
    Rendered(Option<Rendering>),
    /// It declined the item, or its result is unusable.
    Failed(Failure),
}

/// The reason why cases cannot be read; their author has to correct them.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {why}")]
pub struct Error {
    /// The file or folder, or the section of a component.
    pub place: String,
    /// A sentence.
    pub why: String,
}

impl Error {
    fn new(place: impl fmt::Display, why: impl fmt::Display) -> Error {
        Error {
            place: place.to_string(),
            why: why.to_string(),
        }
    }
}

/// The output of a case differs from the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The case.
    pub case: String,
    /// The first difference in a few words: `at [0].value.amount expected "9.90", got "9,90"`.
    pub first: String,
    /// The expected output, one member per line, members in the order of their names.
    pub expected: String,
    /// The actual output, in the same form.
    pub actual: String,
}

/// One line, for a log or an error.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case {}: {}", self.case, self.first)
    }
}

impl Case {
    /// Runs the case in a new instance, as a chain would: a filter first, and nothing after it if
    /// it drops the item. A trap, an exceeded limit and rejected settings are outputs too, with the
    /// fault's code. Blocks for up to the component's time limit for each role.
    ///
    /// # Errors
    /// `Unusable` if the component does not take such items; `Breach` only with
    /// [`Breach::Host`](crate::plugin::Breach::Host), for which the plugin is not to blame.
    pub fn run(&self, component: &Component) -> Result<Output, Fault> {
        let roles = self.item.roles(component)?;
        match Instance::configured(component, &self.settings, true) {
            Ok(mut instance) => {
                outcome(&mut instance, &roles, &self.item.items()).map(|ran| ran.output)
            }
            Err(fault) => rejected(fault, component.label()),
        }
    }

    /// Compares an output with the expected one; without one, every output is accepted.
    ///
    /// # Errors
    /// The difference.
    pub fn judge(&self, output: &Output) -> Result<(), Difference> {
        let Some(written) = &self.expected else {
            return Ok(());
        };
        let (expected, mut actual) = (Json::parse(written), Json::parse(&written::to_json(output)));
        if let (Json::Object(wanted), Json::Object(got)) = (&expected, &mut actual)
            && wanted.keys().eq(["code"])
            && got.contains_key("code")
        {
            got.remove("message");
        }
        match expected.first_difference(&actual) {
            None => Ok(()),
            Some(first) => Err(Difference {
                case: self.name.clone(),
                first,
                expected: expected.to_string(),
                actual: actual.to_string(),
            }),
        }
    }

    /// Runs and judges the case: [`Case::run`] and [`Case::judge`] in one call.
    ///
    /// # Errors
    /// As [`Case::run`]; the inner one is the difference.
    pub fn check(&self, component: &Component) -> Result<Result<(), Difference>, Fault> {
        self.run(component).map(|output| self.judge(&output))
    }
}

impl Item {
    /// The roles of a component that take this item, filter first.
    pub(super) fn roles(&self, component: &Component) -> Result<Vec<Role>, Fault> {
        let (takes, what) = match self {
            Item::Event(_) => ([Role::EventFilter, Role::Mapper], "events"),
            Item::Entity(_) => ([Role::EntityFilter, Role::Renderer], "entities"),
        };
        let roles: Vec<Role> = takes
            .into_iter()
            .filter(|role| component.roles().contains(role))
            .collect();
        if roles.is_empty() {
            let (name, filter, maker) = (component.name(), takes[0].name(), takes[1].name());
            return Err(Fault::Unusable(format!(
                "plugin {name} is neither {filter} nor {maker}, and takes no {what}"
            )));
        }
        Ok(roles)
    }

    pub(super) fn items(&self) -> Items {
        match self {
            Item::Event(event) => Items::Events(vec![event.clone()].into()),
            Item::Entity(view) => Items::Entities(vec![view.clone()].into()),
        }
    }
}

/// The result of a case.
pub(super) struct Ran {
    pub(super) output: Output,
    /// Whether a call ended with a fault; its instance is unusable then.
    pub(super) fault: bool,
}

/// Calls the roles one after the other with one item.
pub(super) fn outcome(
    instance: &mut Instance,
    roles: &[Role],
    items: &Items,
) -> Result<Ran, Fault> {
    let mut last = Output::Accepted(true);
    for role in roles {
        last = match instance.call(*role, items, &[0]) {
            Ok(answers) => answers.into_iter().next().map_or(last, output),
            Err(fault) if fault.is_exhaustion() => return Err(fault),
            Err(fault) => {
                return Ok(Ran {
                    output: Output::Failed(fault.failure()),
                    fault: true,
                });
            }
        };
        if matches!(last, Output::Accepted(false) | Output::Failed(_)) {
            break;
        }
    }
    Ok(Ran {
        output: last,
        fault: false,
    })
}

/// Rejected settings as an output. The label is removed, because it contains the component's
/// digest, which no expectation can name.
pub(super) fn rejected(fault: Fault, label: &str) -> Result<Output, Fault> {
    if fault.is_exhaustion() {
        return Err(fault);
    }
    let Failure { code, message } = fault.failure();
    let message = message
        .strip_prefix(&format!("{label} refuses its settings: "))
        .map(str::to_owned)
        .unwrap_or(message);
    Ok(Output::Failed(Failure { code, message }))
}

/// The result of a role as an output.
pub(super) fn output(answer: Result<Answer, Declined>) -> Output {
    match answer {
        Ok(Answer::Accepted(accepted)) => Output::Accepted(accepted),
        Ok(Answer::Changes(changes)) => Output::Changes(changes),
        Ok(Answer::Rendered(rendering)) => Output::Rendered(rendering),
        Err(declined) => Output::Failed(declined.failure),
    }
}

#[cfg(test)]
mod tests;
