//! Drops the IDocs that no channel needs, before a mapper reads them in full.
//!
//! The filter reads only the control record, `EDI_DC40`, which comes first, and stops at its end.
//! The first IDoc decides for an event that contains several; with `split = "xml:IDOC"` on the
//! source, each IDoc is an event of its own. An IDoc that passes can still be broken further on,
//! which the mapper reports.

mod control;

use control::Control;
use serde::Deserialize;
use std::collections::BTreeSet;
use weir_plugin::{bail, Event, Result};

/// The settings; unknown ones are rejected.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The message types (`MESTYP`) that pass. The default is all except status reports.
    pub message_types: Option<BTreeSet<String>>,
    /// The partners (`SNDPRN`) whose IDocs are dropped, such as a sandbox that shares the port.
    pub ignore_senders: BTreeSet<String>,
}

/// Message types that only report the status of other IDocs.
const STATUS_REPORTS: [&str; 2] = ["STATUS", "ALEAUD"];

#[weir_plugin::event_filter(settings = Settings::parse)]
fn accept(event: &Event, settings: &Settings) -> Result<bool> {
    match event.text() {
        Ok(document) => accepts(document, settings),
        Err(_) => bail!(
            "not-text",
            "the event is not UTF-8; set the IDoc port's encoding to UTF-8"
        ),
    }
}

/// Returns true if the event is to be mapped.
pub fn accepts(document: &str, settings: &Settings) -> Result<bool> {
    let control = Control::read(document)?;
    let Some(message_type) = control.message_type else {
        bail!(
            "missing-field",
            "EDI_DC40/MESTYP is missing or empty, so the kind of the IDoc is unknown"
        );
    };
    let listed = match &settings.message_types {
        Some(listed) => listed.contains(&message_type),
        None => !STATUS_REPORTS.contains(&message_type.as_str()),
    };
    let ignored = control
        .sender
        .is_some_and(|sender| settings.ignore_senders.contains(&sender));
    Ok(listed && !ignored && !control.test)
}

impl Settings {
    /// Reads and checks the settings.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("erp-noise", json)?;
        match &settings.message_types {
            Some(none) if none.is_empty() => Err(
                "settings of erp-noise: message_types is empty, so every event would be dropped; \
                     list the types that may pass, or omit the setting to let all pass"
                    .into(),
            ),
            _ => Ok(settings),
        }
    }
}
