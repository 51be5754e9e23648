//! Drops the IDocs that nobody behind Weir waits for, before anything reads them in full.
//!
//! Only the control record, `EDI_DC40`, is read: it comes first, and reading stops at its end. An
//! event that holds several IDocs is judged by its first; give the source `split = "xml:IDOC"` to
//! have each judged alone. What passes here may still be broken further on: that is the mapper's to
//! say.

mod control;

use control::Control;
use serde::Deserialize;
use std::collections::BTreeSet;
use weir_plugin::{bail, Event, Result};

/// What the configuration may say; anything else is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The message types (`MESTYP`) to let pass; without it, all but status reports.
    pub message_types: Option<BTreeSet<String>>,
    /// The partners (`SNDPRN`) whose IDocs are dropped, such as a sandbox that shares the port.
    pub ignore_senders: BTreeSet<String>,
}

/// Message types that only report what became of other IDocs.
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

/// Whether an event is worth mapping.
pub fn accepts(document: &str, settings: &Settings) -> Result<bool> {
    let control = Control::read(document)?;
    let Some(message_type) = control.message_type else {
        bail!(
            "missing-field",
            "EDI_DC40/MESTYP is missing or empty, so that nobody can tell what the IDoc is"
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
    /// Reads the settings and checks what can be checked before the first event.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = weir_plugin::settings("erp-noise", json)?;
        match &settings.message_types {
            Some(none) if none.is_empty() => Err("settings of erp-noise: message_types is empty, so that every event would be dropped; \
                     list the types to let pass, or leave it out to let all pass"
                .into()),
            _ => Ok(settings),
        }
    }
}
