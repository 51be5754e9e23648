//! What the routes show of how Weir is set up: plugins, the configuration, and what is wrong with it.

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
    /// Since when this version is in force.
    pub since: Time,
    /// The last attempt to replace it, and how it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_swap: Option<SwapView>,
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

/// An attempt to replace a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SwapView {
    /// When.
    pub time: Time,
    /// Digest of the component that was tried.
    pub sha256: String,
    /// `swapped` or `refused`.
    pub result: String,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
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
    /// What is wrong, if it was refused: the old configuration serves on.
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
