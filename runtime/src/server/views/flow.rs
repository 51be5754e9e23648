//! What flows through a channel, and how fast.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// How long changes took from acceptance to delivery. A percentile is at most 40 % above the true value;
/// without deliveries there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LatencyView {
    /// Deliveries of changes.
    pub count: u64,
    /// Half of them took at most this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<u64>,
    /// 99 of 100 took at most this many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<u64>,
    /// The longest took this many milliseconds, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<u64>,
}

/// The latencies of one lane. Those of the hour and the day are kept over a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LaneLatencyView {
    /// Over the last minute.
    pub minute: LatencyView,
    /// Over the last hour.
    pub hour: LatencyView,
    /// Over the last day.
    pub day: LatencyView,
}

/// The latencies of a channel by lane. What a sweep sends is in none of them, because it is no change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LatenciesView {
    /// The urgent lane.
    pub urgent: LaneLatencyView,
    /// The normal lane.
    pub normal: LaneLatencyView,
    /// The bulk lane.
    pub bulk: LaneLatencyView,
    /// Deliveries since the start that seemed to come before their change, because a clock was set back;
    /// they count as 0 ms.
    pub negative: u64,
}

/// An entity that a channel owes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OldestView {
    /// Its key.
    pub key: String,
    /// When the oldest change was committed that is owed.
    pub since: Time,
    /// The sequence of that change.
    pub sequence: u64,
    /// Its state on the channel, as `GET /v1/entities/{type}/{key}` names it.
    pub state: String,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
