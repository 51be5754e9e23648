//! Receipts: whether every channel has settled an entity up to a sequence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An entity that the events of a request name, changed or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamedEntity {
    /// Its type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
    /// All that the request changed of it is at or below this sequence.
    pub sequence: u64,
}

/// Whether every channel has settled an entity up to a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ReceiptView {
    /// The entity's type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// The entity's key.
    pub key: String,
    /// The sequence that was asked for.
    pub sequence: u64,
    /// Whether all channels have settled it: delivered, suppressed, withheld, withdrawn, refused or counted.
    pub settled: bool,
    /// Each channel that takes entities of this type.
    pub channels: Vec<SettledView>,
}

/// Whether a channel has settled an entity up to a sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SettledView {
    /// The channel.
    pub channel: String,
    /// Whether it owes, has parked, holds and has in flight nothing of the entity up to the sequence.
    pub settled: bool,
    /// The state of the entity on the channel, as `GET /v1/entities/{type}/{key}` names it.
    pub state: String,
    /// What it waits for, if it is not settled; what the state leaves open otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
