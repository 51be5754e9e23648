//! Maps events to changes with a jq program, `settings.program`; [`jq::mapper`] has the rules.

use jq::{mapper, Settings};
use weir_plugin::{Change, Event, Result};

/// Maps one event: all its changes or none.
#[weir_plugin::mapper(settings = settings)]
pub fn changes(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
    mapper::changes(event, settings)
}

/// Reads the settings.
pub fn settings(json: &str) -> Result<Settings, String> {
    Settings::parse("jq-mapper", json, &mapper::VARIABLES)
}
