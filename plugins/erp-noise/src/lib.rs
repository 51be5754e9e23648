//! Drops the IDocs that nobody behind Weir waits for, before anything reads them in full.
//!
//! Only the control record, `EDI_DC40`, is read: it comes first, and reading stops at its end. An event that holds
//! several IDocs is judged by its first; give the source `split = "xml:IDOC"` to have each judged alone. What passes
//! here may still be broken further on: that is the mapper's to say.

mod control;

#[cfg(target_arch = "wasm32")]
mod glue;

use control::Control;
use serde::Deserialize;
use std::collections::BTreeSet;

/// What the configuration may say; anything else is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The message types (`MESTYP`) to let pass; without it, all but status reports.
    pub message_types: Option<BTreeSet<String>>,
    /// The partners (`SNDPRN`) whose IDocs are dropped, such as a sandbox that shares the port.
    pub ignore_senders: BTreeSet<String>,
}

/// Why an event cannot be judged, in words for whoever can repair it.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable, for machines.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
}

/// Message types that only report what became of other IDocs.
const STATUS_REPORTS: [&str; 2] = ["STATUS", "ALEAUD"];

/// Whether an event is worth mapping.
pub fn accepts(document: &str, settings: &Settings) -> Result<bool, Failure> {
    let control = Control::read(document)?;
    let Some(message_type) = control.message_type else {
        return Err(Failure::new("missing-field", "EDI_DC40/MESTYP is missing or empty, so that nobody can tell what the IDoc is".into()));
    };
    let listed = match &settings.message_types {
        Some(listed) => listed.contains(&message_type),
        None => !STATUS_REPORTS.contains(&message_type.as_str()),
    };
    let ignored = control.sender.is_some_and(|sender| settings.ignore_senders.contains(&sender));
    Ok(listed && !ignored && !control.test)
}

impl Settings {
    /// Reads the settings and checks what can be checked before the first event.
    pub fn parse(json: &str) -> Result<Self, String> {
        let settings: Settings = serde_json::from_str(json).map_err(|error| format!("settings of erp-noise: {error}"))?;
        match &settings.message_types {
            Some(none) if none.is_empty() => Err("settings of erp-noise: message_types is empty, so that every event would be dropped; \
                     list the types to let pass, or leave it out to let all pass"
                .into()),
            _ => Ok(settings),
        }
    }
}

impl Failure {
    fn new(code: &'static str, message: String) -> Self {
        Failure { code, message }
    }
}
