//! The view of a request that is tried out: what a source would make of its events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{CutView, EventView};

/// What a source would make of a request. Nothing of it is kept.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RequestPreviewView {
    /// Whether its sender would be verified.
    pub sender: SenderView,
    /// Its events, in order, at most 20. Items that could not be read as events are the last.
    pub events: Vec<EventPreviewView>,
    /// Events that are not looked at, because they are too many, take too long, or become too much.
    pub more_events: u64,
}

/// The verification of a sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SenderView {
    /// How senders are verified: `none`, `bearer`, `hmac`, `standard-webhooks`.
    pub verify: String,
    /// `verified`; `not verified`: the request would be answered 401; `not checked`: the header with the proof
    /// has the operator's token here.
    pub result: String,
    /// Why it would not be verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What would become of an event.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EventPreviewView {
    /// Its index in the request, from 0.
    pub index: u64,
    /// The event as it is given to the plugins; data that is too long is left out.
    pub event: EventView,
    /// The stages of the chain that it comes to, in order.
    pub stages: Vec<StageView>,
    /// `accepted`, `filtered` or `quarantined`.
    pub result: String,
    /// Why it would be quarantined, for machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it would be quarantined, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The changes that it becomes.
    pub changes: Vec<ChangePreviewView>,
}

/// A plugin's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StageView {
    /// The plugin with the first 12 digits of its SHA-256.
    pub plugin: String,
    /// `event-filter` or `mapper`.
    pub role: String,
    /// `passed`, `dropped`, `mapped`, `nothing` (a mapper made no change of it) or `failed`.
    pub result: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How long the call took, in milliseconds; for the first event with the start of an instance.
    pub took_ms: f64,
    /// What it logged.
    pub log: Vec<LogLineView>,
}

/// A line that a plugin logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogLineView {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// Its text.
    pub message: String,
}

/// What would become of a change.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChangePreviewView {
    /// The entity's type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// The entity's key.
    pub key: String,
    /// The facet, or a family of facets that is deleted.
    pub facet: String,
    /// Whether it is deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The value, numbers as they were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// The beginning of the value, if it is too long to be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutView>,
    /// The version that the owner gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The lane in which the entity would wait; absent if the event would be quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// What the store would do: `committed`, `unchanged` or `stale`; absent if the event would be quarantined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The channels that would owe the entity because of it. Their own filters are not run.
    pub channels: Vec<String>,
}
