//! The views of jobs: what takes long, and what drift checks have found.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A job: something that takes long and goes on after the request that began it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct JobView {
    /// Its number, as text.
    pub id: String,
    /// `drift`: a drift check; `redrive`: what was set aside is tried again.
    pub kind: String,
    /// The channel that it is about, unless it is about a source.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub channel: String,
    /// The source that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `running`, `done`, `failed` or `cancelled`.
    pub state: String,
    /// When it began.
    pub began: Time,
    /// When it ended; absent while it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Entities, or events, that are done.
    pub done: u64,
    /// About how many there will be at the end.
    pub total: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the drift check has found, if it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftView>,
    /// What a redrive has come to so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redrive: Option<RedriveView>,
}

/// What became of events or entities that were tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RedriveView {
    /// Those that are not set aside any more.
    pub redriven: u64,
    /// Those that failed again, and are set aside with the new reason.
    pub failed: u64,
    /// Whether there may be more of them than `limit`.
    pub more: bool,
    /// Some of those that failed again, at most 100.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<RedriveFailure>,
}

/// What failed again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RedriveFailure {
    /// The key of a refused entity, or the id of an event, if it has one.
    pub id: String,
    /// The sequence under which an event is in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The new reason, for machines.
    pub code: String,
    /// The new reason, for people.
    pub detail: String,
}

/// What a drift check has found: the differences between what a target holds and what it should hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DriftView {
    /// When it began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// Entities that were compared.
    pub compared: u64,
    /// About how many were chosen at random; absent if all were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
    /// Entities that were not compared, because the channel still owes them or they are refused.
    pub owed: u64,
    /// Entities of which it could not be found out what the target holds.
    pub unknown: u64,
    /// Why, for the last of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_because: Option<String>,
    /// Entities that the target does not hold, and should.
    pub missing: u64,
    /// Keys that the target holds, and should not.
    pub extra: u64,
    /// Entities of which the target holds an older state.
    pub older: u64,
    /// Entities of which the target holds something else.
    pub different: u64,
    /// Whether the target was asked for keys that no entity has: `looked for`, `not looked for`, or why that
    /// was not possible.
    pub extras: String,
    /// Entities that were made owed again.
    pub repaired: u64,
    /// Some of the differences.
    pub examples: Vec<DriftExample>,
}

/// A difference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DriftExample {
    /// `missing`, `extra`, `older` or `different`.
    pub kind: String,
    /// The key at the target.
    pub key: String,
    /// Where it differs, as far as the target can tell: JSON pointers, or names of columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at: Vec<String>,
    /// The sequence that the target holds, if it is an older one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

impl DriftView {
    /// The number of differences.
    pub fn differences(&self) -> u64 {
        self.missing + self.extra + self.older + self.different
    }
}
