//! Cases: one item, the settings, and what a plugin must make of it. They are written as files,
//! travel inside the component, and are run here on any component, at the author's desk and before
//! a swap alike.
//!
//! A case is a folder `cases/NAME`:
//!
//! | file | |
//! |---|---|
//! | `event.json` | a CloudEvent in structured mode, or any other JSON as a plain body; for filters and mappers of a source |
//! | `body.EXT` | or a raw body instead: `xml`, `csv`, `txt`, `edi`, `json`, `bin`, … |
//! | `envelope.json` | beside a raw body: `id`, `source`, `type`, `subject`, `time`, `datacontenttype`; other names are extensions and headers |
//! | `entity.json` | `{"type", "key", "facets": {NAME: VALUE}}`; for filters and renderers of a channel |
//! | `settings.json` | optional; `cases/settings.json` serves all that have none of their own |
//! | `expected.json` | what must become of it, see below; missing: nobody has said yet |
//!
//! Expected is `true` or `false` (a filter), an array of changes, `{"key", "content_type", "body"}`
//! or `null` (a renderer), or `{"code", "message"}` (it fails; without `message` any will do). Of a
//! component that is a filter too, `false` says that the filter drops it. JSON is compared as Weir
//! itself compares it: the order of members does not matter, numbers count as they are written.

use std::fmt;

mod event;
mod folder;
mod json;
mod section;
pub(crate) mod written;

use crate::model::{Event, Failure, View};
use crate::plugin::chain::Items;
use crate::plugin::component::Component;
use crate::plugin::desk::{Output, output};
use crate::plugin::instance::Instance;
use crate::plugin::{Fault, Role};

pub use self::folder::read;
pub(crate) use self::json::spread;
pub use self::section::{CASES_BYTES_MAX, Embedded, embed, embedded};

use self::json::Json;

/// One item and what a plugin must make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The name of its folder.
    pub name: String,
    /// JSON text of an object.
    pub settings: String,
    /// What the plugin is given.
    pub item: Item,
    /// JSON text; none: nobody has said yet.
    pub expected: Option<String>,
}

/// What a plugin is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// For event filters and mappers.
    Event(Event),
    /// For entity filters and renderers.
    Entity(View),
}

/// Why there are no cases: their author has to mend them.
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

/// What a plugin made of a case is not what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The case.
    pub case: String,
    /// The first difference in a few words: `at [0].value.amount expected "9.90", got "9,90"`.
    pub first: String,
    /// What was expected, a member a line, members in the order of their names.
    pub expected: String,
    /// What was made, in the same form.
    pub actual: String,
}

/// One line, for a log or a refusal.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case {}: {}", self.case, self.first)
    }
}

impl Case {
    /// Runs the case in a new instance, as a chain would: a filter first, and nothing after it if
    /// it drops the item. A trap, a broken limit and refused settings are outputs too, with the
    /// fault's code. Blocking, for up to the component's limit of time for each role.
    ///
    /// # Errors
    /// `Unusable` if the component takes no such item; `Breach` only with
    /// [`Breach::Host`](crate::plugin::Breach::Host), which says nothing of the plugin.
    pub fn run(&self, component: &Component) -> Result<Output, Fault> {
        let roles = self.item.roles(component)?;
        match Instance::configured(component, &self.settings, true) {
            Ok(mut instance) => {
                outcome(&mut instance, &roles, &self.item.items()).map(|tried| tried.output)
            }
            Err(fault) => refused(fault, component.label()),
        }
    }

    /// Whether an output is what was expected. Without an expectation everything is.
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

    /// [`Case::run`] and [`Case::judge`] in one.
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

/// What became of one item.
pub(super) struct Tried {
    pub(super) output: Output,
    /// Whether a call ended badly. Its instance is spent then.
    pub(super) fault: bool,
}

/// What the roles, one after the other, make of one item.
pub(super) fn outcome(
    instance: &mut Instance,
    roles: &[Role],
    items: &Items,
) -> Result<Tried, Fault> {
    let mut last = Output::Accepted(true);
    for role in roles {
        last = match instance.call(*role, items, &[0]) {
            Ok(answers) => answers.into_iter().next().map_or(last, output),
            Err(fault) if fault.is_exhaustion() => return Err(fault),
            Err(fault) => {
                return Ok(Tried {
                    output: Output::Failed(fault.failure()),
                    fault: true,
                });
            }
        };
        if matches!(last, Output::Accepted(false) | Output::Failed(_)) {
            break;
        }
    }
    Ok(Tried {
        output: last,
        fault: false,
    })
}

/// Refused settings as an output. The label goes, because it has the component's digest in it,
/// which no expectation can name.
pub(super) fn refused(fault: Fault, label: &str) -> Result<Output, Fault> {
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

#[cfg(test)]
mod tests;
