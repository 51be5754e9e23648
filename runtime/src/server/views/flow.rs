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

/// What became of the changes that a channel subscribes to, each counted once by what became of it last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FlowView {
    /// Since when everything here is counted: the start of Weir.
    pub since: Time,
    /// Changes of facets that the channel subscribes to.
    pub changes: u64,
    /// Superseded by newer changes of the same entity before they were sent; see `estimate`.
    pub coalesced: u64,
    /// Not sent, because the target held the same rendering.
    pub suppressed: u64,
    /// Not for this channel: filtered, or without what it needs.
    pub withheld: u64,
    /// Delivered.
    pub delivered: u64,
    /// Delivered as deleted.
    pub withdrawn: u64,
    /// Refused by the target, or by a plugin.
    pub refused: u64,
    /// Rendered and not sent (`deliver = false`).
    pub counted: u64,
    /// Still owed; an upper bound.
    pub owed: u64,
    /// Entities that were sent again, because an attempt had failed.
    pub retried: u64,
    /// Entities that were sent without a new change: by a sweep, after a resync, once more by an operator, or
    /// changed before the start.
    pub unasked: u64,
    /// Entities that were sent for each change: delivered, withdrawn, retried and unasked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Whether `coalesced` is an estimate, too low rather than too high: it is while something is owed.
    pub estimate: bool,
}

/// An entity that a channel owes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OldestView {
    /// Its key.
    pub key: String,
    /// When the oldest change was committed that is owed, or since when the entity waits to be sent once more.
    pub since: Time,
    /// The sequence of that change, or of the state that is sent once more.
    pub sequence: u64,
    /// Its state on the channel, as `GET /v1/entities/{type}/{key}` names it.
    pub state: String,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
