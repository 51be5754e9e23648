//! Events to changes: what `jq-mapper` does.
//!
//! The input of the program, `.`, is the body of the event, which must be JSON. `$event` is its
//! envelope, and `$settings` has the settings other than the program. Each output is one change, in
//! the form that a source without a mapper accepts:
//! `{"type", "key", "facet", "value" or "deleted": true, "version", "lane"}`.

use crate::{json, wrong_answer, Settings, Val};
use weir_plugin::{Change, Event, Result};

/// The variables of the program, before `$settings`.
pub const VARIABLES: [&str; 1] = ["$event"];
/// Maximum number of changes of one event, so that a program without an end fails by name.
const CHANGES_MAX: usize = 100_000;
const SHAPE: &str = r#"a change is {type, key, facet, value or deleted: true, version if there is one, lane if it matters}"#;

/// Maps one event: all its changes or none.
pub fn changes(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
    let variable = |number| match number {
        0 => crate::envelope(event),
        _ => settings.others.clone(),
    };
    let mut changes = Vec::new();
    for output in settings.program.run(crate::body(event)?, variable) {
        if changes.len() == CHANGES_MAX {
            return Err(wrong_answer(format!(
                "the program returns more than {CHANGES_MAX} changes"
            )));
        }
        changes.push(change(&output?)?);
    }
    Ok(changes)
}

fn change(output: &Val) -> Result<Change> {
    let wrong = |why: &str| {
        wrong_answer(format!(
            "{why}; {SHAPE}, but the program returned {}",
            crate::shown(output)
        ))
    };
    let Some(members) = crate::members(output) else {
        return Err(wrong(match output {
            Val::Arr(_) => "a list is no change: write `.[]` behind it",
            _ => "this is no change",
        }));
    };
    let mut change = Change::delete("", "", "");
    let (mut value, mut deleted) = (None, false);
    for (name, member) in members {
        let text = || {
            let text = crate::as_text(member).map(str::to_owned);
            text.ok_or_else(|| wrong(&format!("`{name}` should be text, as (.id | tostring) is")))
        };
        match (name.as_ref(), member) {
            ("type", _) => change.entity_type = text()?,
            ("key", _) => change.key = text()?,
            ("facet", _) => change.facet = text()?,
            ("value", _) => value = Some(member),
            ("deleted", Val::Bool(given)) => deleted = *given,
            ("deleted", _) => return Err(wrong("`deleted` should be true")),
            ("version" | "lane", Val::Null) => {}
            ("version", _) => change.version = Some(version(member).ok_or_else(|| wrong(VERSION))?),
            ("lane", _) => change.lane = Some(text()?),
            (other, _) => return Err(wrong(&format!("`{other}` is not a member of a change"))),
        }
    }
    for (name, given) in [
        ("type", &change.entity_type),
        ("key", &change.key),
        ("facet", &change.facet),
    ] {
        if given.is_empty() {
            return Err(wrong(&format!("`{name}` is missing or empty")));
        }
    }
    change.value = match (value, deleted) {
        (None, true) => None,
        (Some(value), false) => Some(crate::written(value, || {
            format!("{} of {}", change.facet, change.key)
        })?),
        (Some(_), true) => return Err(wrong("it has a `value` and is `deleted`")),
        (None, false) => return Err(wrong("it has neither a `value` nor `deleted: true`")),
    };
    Ok(change)
}

const VERSION: &str =
    "`version` should be a whole number that is not negative, as version_from_time makes it of a time";

/// A version, which may be text: as a number it may not be exact at the sender.
fn version(value: &Val) -> Option<u64> {
    let digits = crate::as_text(value)
        .map(str::to_owned)
        .or_else(|| json::write(value).ok())?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}
