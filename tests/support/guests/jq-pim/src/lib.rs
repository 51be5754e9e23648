//! The mapping of pim-product as a jq program, so that both can be compared: it takes the settings of
//! that plugin, and the program is compiled in.

use jq::{mapper, Settings};
use weir_plugin::{Change, Event, Result};

/// Maps one event.
#[weir_plugin::mapper(settings = settings)]
pub fn changes(event: &Event, settings: &Settings) -> Result<Vec<Change>> {
    mapper::changes(event, settings)
}

/// Reads the settings of pim-product and adds the program.
pub fn settings(json: &str) -> Result<Settings, String> {
    let mut settings: serde_json::Map<String, serde_json::Value> =
        weir_plugin::settings("jq-pim", json)?;
    settings.insert("program".into(), include_str!("map.jq").into());
    let settings = serde_json::Value::from(settings).to_string();
    Settings::parse("jq-pim", &settings, &mapper::VARIABLES)
}
