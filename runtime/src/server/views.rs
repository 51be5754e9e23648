//! The views that the routes show, as plain data: the JSON of the HTTP interface in one place.
//!
//! These structs are a contract with other programs: members are added, never renamed. The command
//! line reads the same structs; a member that an older Weir does not send is absent.

mod cut;
mod entities;
mod feed;
mod flow;
mod jobs;
mod preview;
mod receipt;
mod session;
mod setup;
mod way;

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::{self, Timestamp};

pub use self::cut::{CutView, Cutter};
pub use self::entities::{ChannelEntitiesView, ChannelEntityView, ReasonView, ReasonsView};
pub use self::feed::{FeedBucketView, FeedView, GenerationView, HeldGenerationView};
pub use self::flow::{FlowView, LaneLatencyView, LatenciesView, LatencyView, OldestView};
pub use self::jobs::{DriftExample, DriftView, JobView, RedriveFailure, RedriveView};
pub use self::preview::{
    ChangePreviewView, EventPreviewView, LogLineView, RequestPreviewView, SenderView, StageView,
};
pub use self::receipt::{NamedEntity, ReceiptView, SettledView};
pub use self::session::SessionView;
pub use self::setup::{
    BackupView, CallsView, ComplaintView, ConfigView, LimitsView, PluginView, ReloadView,
    StepsView, SwapView,
};
pub use self::way::{StepKind, StepView};

/// A moment, written as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Time {
        Time(timestamp)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = i64::try_from(self.0.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        write!(f, "{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Time(Timestamp(
            u64::try_from(moment.as_millisecond()).unwrap_or_default(),
        )))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string", "format": "date-time", "description": "A moment in UTC with milliseconds.", "examples": ["2026-11-18T11:06:40.120Z"],
        })
    }
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ListOf{T}")]
pub struct List<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// The value of `after` for the next page; absent on the last one.
    pub next: Option<String>,
}

/// The result of a request to a source: the body of 202.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// Its events by result.
    pub events: EventCounts,
    /// The changes of accepted events, by result.
    pub changes: ChangeCounts,
    /// Quarantined events, and items that could not be read as events, by their index in the
    /// request; at most 100.
    #[serde(default)]
    pub problems: Vec<EventProblem>,
    /// Head of the sequence after the request.
    pub sequence: u64,
    /// With `receipt=true`: the entities that its events name, at most 1,000. Events that were quarantined
    /// or filtered name none; a repeated one names those that it named the first time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<NamedEntity>,
    /// Whether they name more entities than are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_entities: bool,
}

/// Events by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EventCounts {
    /// Their changes were checked, and written where they differ from the stored value.
    pub accepted: u64,
    /// Dropped by a filter or mapped to nothing.
    pub filtered: u64,
    /// Kept with the reason (dead letter), items that could not be read included.
    pub quarantined: u64,
    /// Seen before.
    pub repeated: u64,
}

/// Changes by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChangeCounts {
    /// Got a sequence.
    pub committed: u64,
    /// Equal to the stored value.
    pub unchanged: u64,
    /// Older than the stored version.
    pub stale: u64,
}

/// The problem of one event of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventProblem {
    /// The index of the event in the request, from 0.
    pub index: u64,
    /// For machines; stable.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// A source.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// The owner whose facets it writes.
    pub owner: String,
    /// Its filters and its mapper, in order, each with the first 12 digits of its SHA-256.
    pub plugins: Vec<String>,
    /// How senders are verified: `none`, `bearer`, `hmac`, `standard-webhooks`.
    pub verify: String,
    /// When it last sent an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event: Option<Time>,
    /// Events per second, over the last minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<f64>,
    /// After how many seconds without an event it counts as silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_seconds: Option<f64>,
    /// Whether it counts as silent now.
    pub silent: bool,
    /// Its events since the start, by result.
    pub events: EventCounts,
    /// Its changes since the start, by result.
    pub changes: ChangeCounts,
    /// Since when they are counted: the start of Weir.
    pub since: Time,
    /// Changes that were committed for each event that arrived, repeated ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    /// Events in quarantine.
    pub quarantined: u64,
}

/// A channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ChannelView {
    /// Its name.
    pub name: String,
    /// The entity type it consumes.
    pub entity: String,
    /// The name of its target; empty for a retired channel, of which only the name, the state and
    /// `holding` are known.
    pub target: String,
    /// `flowing`, `tripped`, `probing`, `ahead`, `paused` or `retired`.
    pub state: String,
    /// Why it is in that state, if it is not flowing; otherwise what waits on purpose, if something
    /// does: lanes for their hours, or entities until they are quiet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// False: it renders and counts, and sends nothing.
    pub deliver: bool,
    /// Patterns of the facets it subscribes to.
    pub facets: Vec<String>,
    /// Patterns of facets that an entity must have.
    pub needs: Vec<String>,
    /// Its filters and its renderer, in order, each with the first 12 digits of its SHA-256.
    pub plugins: Vec<String>,
    /// Places that it has not passed yet.
    pub owed: OwedView,
    /// Entities in flight.
    pub in_flight: u64,
    /// Entities waiting for a retry.
    pub parked: u64,
    /// Withdrawals held by the guard, until confirmed.
    pub held: u64,
    /// Entities refused.
    pub refused: u64,
    /// Entities that its target holds, or may hold.
    pub holding: u64,
    /// How often a refused entity was tried once more, because `retry.refused` had passed.
    pub refused_tried_again: u64,
    /// The rate that its target bears, as far as Weir has found out, if the target has refused requests
    /// because there were too many: requests, items or bytes per second, as its `cost` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bears_per_second: Option<f64>,
    /// Entities that wait until they are quiet (`debounce`); they are counted in `owed` too.
    pub waiting: u64,
    /// The requests that its target bears at the same time, if Weir has found them to be fewer than its
    /// `concurrency`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bears_in_flight: Option<usize>,
    /// Age in seconds of the oldest change owed; 0 when nothing is owed.
    pub freshness_seconds: f64,
    /// The same without the time in which the change waited on purpose (`hours`, `debounce`). Above the
    /// objective, the channel is late.
    pub overdue_seconds: f64,
    /// The objective for that age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness_objective_seconds: Option<f64>,
    /// When the oldest change owed was committed, or since when something waits to be sent once more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_owed: Option<Time>,
    /// The entities that are owed for the longest time, at most 10, the oldest first; only where one
    /// channel is asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oldest: Vec<OldestView>,
    /// For how many seconds since the start it was late: overdue for longer than its objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_seconds: Option<f64>,
    /// How long changes took from acceptance to delivery.
    pub latency: LatenciesView,
    /// What became of the changes that it subscribes to.
    pub flow: FlowView,
    /// How flights ended since the start: `delivered`, `suppressed`, `parked`, ….
    pub deliveries: BTreeMap<String, u64>,
    /// The last failed or refused delivery since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorView>,
    /// The last sweep since the start: of a new channel, a changed rendering, or one that an operator asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sweep: Option<SweepView>,
    /// What the last drift check has found that was completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_drift: Option<DriftView>,
    /// The feed, if its target is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed: Option<FeedView>,
}

/// A walk over all entities (backfill). Its figures include everything that the channel settled
/// meanwhile, also entities that were changed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SweepView {
    /// When it started.
    pub began: Time,
    /// When it ended; absent while it is running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// About how many entities it visits in all; those that are left are under `owed.sweep` of the channel.
    pub total: u64,
    /// Renderings that were delivered, suppressed or counted.
    pub rendered: u64,
    /// Not sent, because the target had this rendering already.
    pub suppressed: u64,
    /// The target has it.
    pub delivered: u64,
    /// The target no longer has it.
    pub withdrawn: u64,
    /// Not for this channel, and not at the target before.
    pub withheld: u64,
    /// The target, or a plugin, refused it.
    pub refused: u64,
    /// Failed attempts, to be repeated.
    pub parked: u64,
    /// Held by the guard against mass withdrawal.
    pub held: u64,
}

/// Places ahead by lane: an upper bound of the entities owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct OwedView {
    /// The urgent lane.
    pub urgent: u64,
    /// The normal lane.
    pub normal: u64,
    /// The bulk lane.
    pub bulk: u64,
    /// Entities that a running sweep has yet to visit: an upper bound.
    pub sweep: u64,
    /// All of these, and those in flight, parked and held.
    pub total: u64,
}

/// A failure and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// When.
    pub time: Time,
    /// A sentence.
    pub detail: String,
}

/// An entity in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntityRow {
    /// Its type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
}

/// An entity as it is now, and its state on each channel.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct EntityView {
    /// Its type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
    /// Its facets, ordered by name, deleted ones that are still remembered included.
    pub facets: Vec<FacetView>,
    /// Its state on each channel.
    pub channels: Vec<StandingView>,
    /// What has just happened to it, the oldest first, at most 200 steps. Under load the memory of this
    /// reaches back some seconds; it ends with the process.
    #[serde(default)]
    pub way: Vec<StepView>,
}

/// A facet as it is now.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct FacetView {
    /// Its name.
    pub name: String,
    /// The owner that writes it.
    pub owner: String,
    /// The owner's version, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The sequence of its last change.
    pub sequence: u64,
    /// When that was committed.
    pub time: Time,
    /// Whether it is deleted.
    #[serde(default)]
    pub deleted: bool,
    /// Its value, numbers as the owner wrote them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// With `cut=true`: the beginning, if it is too long to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutView>,
}

impl FacetView {
    /// A facet as the model has it.
    pub fn of(facet: &model::Facet) -> FacetView {
        let value = facet
            .value
            .as_ref()
            .and_then(|text| RawValue::from_string(text.to_string()).ok());
        FacetView {
            name: facet.name.to_string(),
            owner: facet.owner.to_string(),
            version: facet.version,
            sequence: facet.sequence.0,
            time: facet.time.into(),
            deleted: facet.value.is_none(),
            value,
            cut: None,
        }
    }
}

/// The state of an entity on a channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct StandingView {
    /// The channel.
    pub channel: String,
    /// `delivered`, `suppressed`, `withheld`, `withdrawn`, `owed`, `waiting` (on purpose), `parked`,
    /// `refused`, `held`, `not subscribed`, or `retired`: the channel has left the configuration, and
    /// its target still holds the entity or may hold it.
    pub state: String,
    /// The cause if it is withheld: a filter, `needs`, `deleted`, the renderer. What it waits for if it
    /// waits: `debounce`, or the hours of its lane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// While it is owed, parked or held: when the oldest change was committed that is not delivered.
    /// Otherwise: since when it is in this state. Absent if neither is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// All changes up to this sequence are settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Whether a newer change is still to be delivered.
    pub owed: bool,
    /// Whether a delivery is in flight.
    pub in_flight: bool,
    /// Counted attempts, while it is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When the next attempt is due, while it is parked; when it is quiet if it does not change again,
    /// while it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Time>,
    /// Name and version of the plugin that rendered it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// What the state leaves open, for example whether the target has applied what it accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A channel's rendering of an entity as it would be now.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PreviewView {
    /// The channel.
    pub channel: String,
    /// The entity's type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// The entity's key.
    pub key: String,
    /// The result: `rendering`, `withheld by …` (a filter, `needs`, `deleted`, the
    /// renderer) or `failed`.
    pub result: String,
    /// Patterns of `needs` that nothing matches.
    pub missing: Vec<String>,
    /// Each filter's verdict, in order, up to the first that drops it.
    pub filters: Vec<FilterVerdict>,
    /// The plugin that renders; if absent, the facets are rendered as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// The rendering, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendering: Option<RenderingView>,
    /// Why there is none, if a plugin failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the target certainly holds just that; absent if it is not known what it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same: Option<bool>,
    /// What was delivered last, while its body is still in memory (`server.bodies`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered: Option<RenderingView>,
}

/// One filter's verdict on an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FilterVerdict {
    /// Name and version of the plugin.
    pub plugin: String,
    /// `passed` or `dropped`.
    pub verdict: String,
}

/// A rendering; the body is text, or base64 where it is not valid UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenderingView {
    /// The entity's key at the target.
    pub key: String,
    /// Media type of the body.
    pub content_type: String,
    /// The body, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// With `cut=true`: the beginning, if it is too long to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutView>,
}

impl RenderingView {
    /// A rendering as the model has it; `key` is the entity's.
    pub fn of(rendering: &model::Rendering, key: &str) -> RenderingView {
        let (body, body_base64) = text_or_base64(&rendering.body);
        RenderingView {
            key: rendering.key.clone().unwrap_or_else(|| key.to_owned()),
            content_type: rendering
                .content_type
                .clone()
                .unwrap_or_else(|| "application/json".to_owned()),
            body,
            body_base64,
            cut: None,
        }
    }
}

impl RenderingView {
    /// The bytes of the body; `None` if they are not base64.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        let body = payload(self.body, self.body_base64)?;
        Some(body.as_bytes().to_vec())
    }
}

/// An entity that a target does not accept as it is (dead letter).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedView {
    /// Its type.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
    /// Why, for machines: `plugin`, `refused` (by the target), ….
    pub code: String,
    /// Why, for people.
    pub detail: String,
    /// The revision that was refused.
    pub sequence: u64,
    /// When.
    pub time: Time,
}

/// A quarantined event (dead letter).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineView {
    /// The sequence it got on arrival, the last one if it arrived several times; its identifier here.
    pub sequence: u64,
    /// When it arrived last, or failed again in a redrive.
    pub time: Time,
    /// When it arrived first.
    #[serde(default)]
    pub first: Time,
    /// How often it arrived: the same event is kept once.
    #[serde(default = "once")]
    pub count: u64,
    /// Why, for machines.
    pub code: String,
    /// Why, for people.
    pub detail: String,
    /// Name and version of the plugin that failed, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// True for an item that could not be read as an event: its data is the bytes that were sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
    /// True if that item is the whole body of a request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub body: bool,
    /// The beginning of data that is not UTF-8, as the text that it probably is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The event.
    pub event: EventView,
}

fn once() -> u64 {
    1
}

/// An event as it was given to the plugins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// The sender's identifier: of a CloudEvent, or of a webhook; empty if there is none.
    pub id: String,
    /// CloudEvents `source`.
    pub source: String,
    /// CloudEvents `type`, or the topic of a webhook.
    #[serde(rename = "type")]
    pub event_type: String,
    /// CloudEvents `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// CloudEvents `time`, as written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Media type of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// CloudEvents extensions and headers let through.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The data, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The data in base64, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// With `cut=true`: the beginning, if it is too long to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<CutView>,
}

impl EventView {
    /// The event in the model's terms; `None` if its data is not base64.
    pub fn event(self) -> Option<model::Event> {
        let data = payload(self.data, self.data_base64)?;
        Some(model::Event {
            id: self.id,
            origin: self.source,
            event_type: self.event_type,
            subject: self.subject,
            time: self.time,
            content_type: self.content_type,
            attributes: self.attributes.into_iter().collect(),
            trace: None,
            data,
        })
    }

    /// An event as the model has it.
    pub fn of(event: &model::Event) -> EventView {
        let (data, data_base64) = text_or_base64(&event.data);
        EventView {
            id: event.id.clone(),
            source: event.origin.clone(),
            event_type: event.event_type.clone(),
            subject: event.subject.clone(),
            time: event.time.clone(),
            content_type: event.content_type.clone(),
            attributes: event.attributes.iter().cloned().collect(),
            data,
            data_base64,
            cut: None,
        }
    }
}

/// The reverse of [`text_or_base64`]; `None` if it is not base64.
fn payload(text: Option<String>, base64: Option<String>) -> Option<model::Payload> {
    use base64::Engine as _;
    Some(match (text, base64) {
        (Some(text), _) => model::Payload::Text(text),
        (None, Some(data)) => {
            let engine = base64::engine::general_purpose::STANDARD;
            model::Payload::Binary(engine.decode(data).ok()?)
        }
        (None, None) => model::Payload::Text(String::new()),
    })
}

fn text_or_base64(payload: &model::Payload) -> (Option<String>, Option<String>) {
    use base64::Engine as _;
    match payload {
        model::Payload::Text(text) => (Some(text.clone()), None),
        model::Payload::Binary(bytes) => (
            None,
            Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sequence;

    #[test]
    fn times_are_written_for_people_and_read_back() {
        let time = Time(Timestamp(1_795_000_000_120));
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, r#""2026-11-18T11:06:40.120Z""#);
        assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), time);
        assert!(
            Time(Timestamp(u64::MAX)).to_string().starts_with("9999"),
            "a time beyond the calendar is its end, not a panic"
        );
    }

    #[test]
    fn numbers_of_a_facet_stay_as_their_owner_wrote_them() {
        let facet = model::Facet {
            name: "price.de".into(),
            owner: "erp".into(),
            version: None,
            sequence: Sequence(7),
            time: Timestamp(0),
            value: Some(r#"{"amount":9.900000000000000000001}"#.into()),
        };
        let text = serde_json::to_string(&FacetView::of(&facet)).unwrap();
        assert!(
            text.contains(r#""value":{"amount":9.900000000000000000001}"#),
            "{text}"
        );
        let read: FacetView = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read.value.unwrap().get(),
            r#"{"amount":9.900000000000000000001}"#
        );
    }
}
