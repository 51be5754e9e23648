//! The views of a channel's entities that are in one state.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A page of the entities of a channel that are in a state, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelEntitiesView {
    /// In the order of their keys.
    pub items: Vec<ChannelEntityView>,
    /// The value of `after` for the next page; absent on the last one.
    pub next: Option<String>,
    /// With `reasons=true`: how many there are by reason, on all pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasons: Option<ReasonsView>,
}

/// An entity in a state on a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelEntityView {
    /// Its type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
    /// While it is owed, parked or held: when the oldest change was committed that is not delivered.
    /// Otherwise: since when it is in this state, to about a second. Absent if neither is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// All changes up to this sequence are settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Why: by what it is withheld, what it waits for, why it was refused, or the last failure of one that
    /// is parked, as long as that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Counted attempts, while it is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When the next attempt is due, while it is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
}

/// Entities by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReasonsView {
    /// All that are in the state.
    pub total: u64,
    /// The most frequent reasons, at most 20, the most frequent first.
    pub counts: Vec<ReasonView>,
    /// Those with other reasons.
    pub others: u64,
}

/// A reason, and how many entities have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReasonView {
    /// The reason; absent for those that have none, or whose last failure is not kept any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many have it.
    pub count: u64,
}
