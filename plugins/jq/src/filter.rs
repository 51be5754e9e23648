//! Events or entities that pass: what `jq-filter` does.
//!
//! In a source, the input of the program, `.`, is the body of the event, which must be JSON, and
//! `$event` is its envelope. In a channel, `.` is the entity: `{"type", "key", "facets": {name:
//! value}}`, and `$event` is null. `$settings` has the settings other than the program. The program
//! must return true or false, once: a filter that fails never withdraws anything, so a mistake must
//! not look like false.

use crate::{wrong_answer, Settings, Val};
use weir_plugin::{Entity, Event, Result};

/// The variables of the program, before `$settings`.
pub const VARIABLES: [&str; 1] = ["$event"];

/// Returns true if the event passes.
pub fn event(event: &Event, settings: &Settings) -> Result<bool> {
    verdict(settings, crate::body(event)?, || crate::envelope(event))
}

/// Returns true if the entity is for the channel.
pub fn entity(entity: &Entity, settings: &Settings) -> Result<bool> {
    verdict(settings, crate::entity(entity)?, || Val::Null)
}

fn verdict(settings: &Settings, input: Val, event: impl Fn() -> Val) -> Result<bool> {
    let variable = |number| match number {
        0 => event(),
        _ => settings.others.clone(),
    };
    let outputs = settings.program.run(input, variable).take(2);
    match outputs.collect::<Result<Vec<_>>>()?.as_slice() {
        [Val::Bool(passes)] => Ok(*passes),
        [] => Err(wrong_answer(
            "the program returned nothing, but must return true or false: `select(…)` returns nothing, a comparison does",
        )),
        [other] => Err(wrong_answer(format!(
            "the program must return true or false, but returned {}",
            crate::shown(other)
        ))),
        _ => Err(wrong_answer("the program returned more than one value, but must return true or false once")),
    }
}
