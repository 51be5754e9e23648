//! The way of an entity in time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Time;

/// A step of an entity's way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StepView {
    /// When.
    pub time: Time,
    /// What happened.
    pub step: StepKind,
    /// The source whose event was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The channel that sent it, or whose flight ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Of an event its newest change of the entity; of a delivery its revision: all changes up to it are
    /// contained.
    pub sequence: u64,
    /// The id of the trace: of the event, if its sender gave one, or of the delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// How the flight ended: `delivered`, `suppressed`, `parked`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// When the channel met the entity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub met: Option<Time>,
    /// When it was rendered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered: Option<Time>,
}

/// What happened to an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// An event changed it, durably.
    #[default]
    Accepted,
    /// A delivery was sent.
    Sent,
    /// A flight ended: it was answered, or nothing had to be sent.
    Ended,
}
