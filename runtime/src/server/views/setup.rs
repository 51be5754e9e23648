//! What the routes show of how Weir is set up: plugins, the configuration, and what is wrong with
//! it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A plugin in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PluginView {
    /// Its name in the configuration.
    pub name: String,
    /// Digest of the component, lower-case hex.
    pub sha256: String,
    /// What it can be: `event-filter`, `mapper`, `entity-filter`, `renderer`.
    pub roles: Vec<String>,
    /// How it is bounded.
    pub limits: LimitsView,
    /// Size of the component.
    pub size_bytes: u64,
    /// Sources and channels that use it: `source erp`, `channel storefront.de`.
    pub used_by: Vec<String>,
    /// Since when this version is in force.
    pub since: Time,
    /// How this version came into force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_swap: Option<SwapView>,
    /// The last attempt to replace it that was refused, if nothing was put in force since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<SwapView>,
}

/// How a plugin is bounded; each bound is for one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitsView {
    /// Wall time.
    pub time_seconds: f64,
    /// Linear memory.
    pub memory_bytes: u64,
    /// What it may give back.
    pub output_bytes: u64,
    /// What it may log.
    pub log_bytes: u64,
}

/// An attempt to put a version of a plugin in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwapView {
    /// When it began.
    pub time: Time,
    /// Digest of the component that was tried; empty if its file could not be read.
    pub sha256: String,
    /// `swapped` or `refused`.
    pub result: String,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What was tried and what it gave, a sentence.
    pub tried: String,
    /// How long each step took.
    pub steps: StepsView,
}

/// The steps of an attempt, in their order, in milliseconds; those it did not come to are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StepsView {
    /// Its file was read.
    pub read_ms: f64,
    /// It was checked, and compiled apart or taken from the compiled code of earlier.
    pub compile_ms: f64,
    /// Its code was there from earlier.
    pub from_cache: bool,
    /// It was configured once for each use.
    pub configure_ms: f64,
    /// It ran its own cases.
    pub cases_ms: f64,
    /// It was tried on the last events or entities.
    pub try_ms: f64,
    /// All chains of sources were exchanged.
    pub exchange_ms: f64,
    /// Channels ended their flights with the old chains.
    pub drain_ms: f64,
    /// All of it, from before the file was read until the last channel had followed; with it, what
    /// changed together with it.
    pub total_ms: f64,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigView {
    /// What is in force, names resolved and rows expanded. Secrets are not in it.
    pub config: serde_json::Value,
    /// The files it was read from.
    pub files: Vec<String>,
    /// Since when it is in force.
    pub since: Time,
    /// The last attempt to load it, the start included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<ReloadView>,
}

/// An attempt to load the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReloadView {
    /// Whether it is in force now.
    pub success: bool,
    /// When.
    pub time: Time,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// It took effect in part and then failed: sources use it, some channels may not. False: either
    /// all of it is in use, or the previous configuration is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partly_applied: bool,
    /// What is wrong, if it was not applied, or not completely.
    pub complaints: Vec<ComplaintView>,
}

/// Something that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComplaintView {
    /// Which file.
    pub file: String,
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}
