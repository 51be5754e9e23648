//! The views of Weir's setup: plugins, the configuration, and the mistakes in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A plugin in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PluginView {
    /// Its name in the configuration.
    pub name: String,
    /// Digest of the component, lower-case hex.
    pub sha256: String,
    /// Its roles: `event-filter`, `mapper`, `entity-filter`, `renderer`.
    pub roles: Vec<String>,
    /// Its limits.
    pub limits: LimitsView,
    /// Size of the component.
    pub size_bytes: u64,
    /// Sources and channels that use it: `source erp`, `channel storefront.de`.
    pub used_by: Vec<String>,
    /// How its calls are treated: `quick`; `new` until a call has returned within 50 ms; `heavy`, if
    /// one needed more, and `hanging`, if one broke its time limit, which run at a lower priority.
    pub standing: String,
    /// How many of the sampled calls of this version returned something else in a new instance: if
    /// there are any, it remembers earlier calls.
    pub differing: u64,
    /// Its calls since the start of Weir.
    pub calls: CallsView,
    /// Since when this version is in use.
    pub since: Time,
    /// How this version came into use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_swap: Option<SwapView>,
    /// The last attempt to replace it that was refused, if nothing came into use since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refused: Option<SwapView>,
}

/// The calls of a plugin since the start of Weir. A call is one batch; those of earlier versions count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CallsView {
    /// How many there were.
    pub count: u64,
    /// Half of them took at most this long: the upper bound of a bucket of `weir_plugin_call_seconds`. Absent
    /// without a call, and beyond the last bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The same for 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Traps, broken limits, exceptions and unusable results of the version in use.
    pub faults: u64,
}

/// The limits of a plugin; each applies to one batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LimitsView {
    /// Processor time.
    pub time_seconds: f64,
    /// Linear memory.
    pub memory_bytes: u64,
    /// The size of its output.
    pub output_bytes: u64,
    /// The size of its log.
    pub log_bytes: u64,
    /// Whether each batch gets a new instance.
    pub strict: bool,
}

/// An attempt to put a version of a plugin into use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SwapView {
    /// When it started.
    pub time: Time,
    /// Digest of the component that was tried; empty if its file could not be read.
    pub sha256: String,
    /// `swapped` or `refused`.
    pub result: String,
    /// Why it was refused; of a version in use, how it maps less than the one before it, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The checks and their results, a sentence.
    pub tried: String,
    /// How long each step took.
    pub steps: StepsView,
}

/// The durations of the steps of an attempt, in their order, in milliseconds; 0 for steps that it
/// did not reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StepsView {
    /// Its file was read.
    pub read_ms: f64,
    /// It was checked, and compiled in a separate process or loaded from the cache of compiled
    /// code.
    pub compile_ms: f64,
    /// Its code came from the cache.
    pub from_cache: bool,
    /// It was configured once for each use.
    pub configure_ms: f64,
    /// It ran its own cases.
    pub cases_ms: f64,
    /// It was tried on the last events or entities.
    pub try_ms: f64,
    /// All chains of sources were exchanged.
    pub exchange_ms: f64,
    /// Channels finished their flights with the old chains.
    pub drain_ms: f64,
    /// The whole attempt, from before the file was read until the last channel had followed,
    /// including everything that was changed together with it.
    pub total_ms: f64,
}

/// The configuration in use.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigView {
    /// The effective values, names resolved and rows expanded. Secrets are not in it.
    pub config: serde_json::Value,
    /// The files it was read from.
    pub files: Vec<String>,
    /// The folder of the store, from the root on; in `config` it is as it was understood.
    pub store: String,
    /// Since when it is in use.
    pub since: Time,
    /// The last attempt to load it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_reload: Option<ReloadView>,
}

/// A backup of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BackupView {
    /// The file, on the disk of Weir.
    pub file: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// An attempt to load the configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReloadView {
    /// Whether it is in use now, completely.
    pub success: bool,
    /// When.
    pub time: Time,
    /// The changes, a line each.
    pub changes: Vec<String>,
    /// It took effect in part and then failed: sources use it, some channels may not. False: either
    /// all of it is in use, or the previous configuration is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partly_applied: bool,
    /// The mistakes, if it was not applied, or the failure, if it was applied in part.
    pub complaints: Vec<ComplaintView>,
}

/// A mistake in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComplaintView {
    /// The file.
    pub file: String,
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The mistake.
    pub what: String,
    /// How to correct it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}
