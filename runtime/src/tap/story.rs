//! What is told of one event, and of one result of an entity on a channel: plain values that can be written as
//! JSON and read again. Times are RFC 3339, and numbers that a reader might round are texts.
//!
//! Texts of others are cut to a bounded length here, so that a story has a bounded size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{EntityId, Payload, Timestamp};

/// Bytes of a body.
const BODY_BYTES: usize = 2 << 10;
/// Bytes of a body for a tap that wants full ones; the routes of one entity have all of it.
const FULL_BODY_BYTES: usize = 64 << 10;
/// The most changes, attributes, headers and requests that are told of.
const LIST_MAX: usize = 64;
/// Bytes of the value of an attribute, of a header, or of a reason.
const VALUE_BYTES: usize = 1 << 10;

/// The words for what becomes of an event.
pub const EVENT_OUTCOMES: [&str; 7] = [
    "changed",
    "unchanged",
    "stale",
    "filtered",
    "quarantined",
    "repeated",
    "rejected",
];
/// The words for what becomes of an entity on a channel.
pub const DELIVERY_OUTCOMES: [&str; 8] = [
    "delivered",
    "withdrawn",
    "suppressed",
    "withheld",
    "counted",
    "parked",
    "held",
    "refused",
];

/// How many bytes of a body are told.
pub fn body_bytes(full: bool) -> usize {
    if full { FULL_BODY_BYTES } else { BODY_BYTES }
}

/// A story.
#[derive(Clone, Debug, PartialEq)]
pub enum Story {
    /// Of an event.
    Event(Box<EventStory>),
    /// Of an entity on a channel.
    Delivery(Box<DeliveryStory>),
}

impl Story {
    /// Bytes of its texts, approximately.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Story::Event(story) => story.bytes(),
            Story::Delivery(story) => story.bytes(),
        }
    }
}

/// An event that came to a source, what each plugin made of it, and what the store made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventStory {
    /// When its request was answered.
    pub time: String,
    /// `changed`, `unchanged` or `stale` if it was accepted; `filtered`, `quarantined`, `repeated`, or `rejected`.
    pub outcome: String,
    /// Whether it came from quarantine, because somebody redrove it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redriven: bool,
    /// Why, unless it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyStory>,
    /// As it came; absent for a request of which no event could be read, or whose sender was not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<ReceivedStory>,
    /// The plugins that it passed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginStory>,
    /// What the mapper made of it, or what it says itself if there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeStory>,
    /// How many changes there are, if some are left out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes_total: Option<u64>,
    /// What the store made of the changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreStory>,
}

/// A reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WhyStory {
    /// For machines; in kebab-case.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// An event as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceivedStory {
    /// Its id; empty if it has none.
    pub id: String,
    /// CloudEvents `source`.
    pub source: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// CloudEvents `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// CloudEvents `time`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// CloudEvents extensions, and headers that the source passes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
    /// Its data.
    pub data: BodyStory,
}

/// A body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BodyStory {
    /// Its media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How long it is.
    pub bytes: u64,
    /// Whether this is only its beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// As text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// In base64, if it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// A plugin, and what it made of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PluginStory {
    /// Its name and digest.
    pub plugin: String,
    /// `event-filter`, `mapper`, `entity-filter` or `renderer`.
    pub role: String,
    /// `passed`, `dropped`, `mapped`, `rendered`, `nothing` or `failed`.
    pub verdict: String,
    /// What it logged meanwhile, about this item and others of the same batch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
}

/// A change that an event makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeStory {
    /// The type of the entity.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
    /// The facet.
    pub facet: String,
    /// The lane.
    pub lane: String,
    /// The version, if the owner has versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The value; absent for a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<BodyStory>,
}

/// What the store made of the changes of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStory {
    /// Changes that were written.
    pub committed: u32,
    /// Changes that say what was there already.
    pub unchanged: u32,
    /// Changes that are older than what was there.
    pub stale: u32,
    /// The sequence of the newest one that was written; `0` if none was.
    pub sequence: String,
}

/// What became of an entity on a channel: a flight that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryStory {
    /// When it ended.
    pub time: String,
    /// `delivered`, `withdrawn`, `suppressed`, `withheld`, `counted`, `parked`, `held` or `refused`.
    pub outcome: String,
    /// Why, where that is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyStory>,
    /// The type of the entity.
    #[serde(rename = "type")]
    pub entity_type: String,
    /// Its key.
    pub key: String,
    /// The revision: all changes up to it are in the rendering.
    pub sequence: String,
    /// The lane, or `sweep`.
    pub lane: String,
    /// How old the oldest change is that this settles, in milliseconds; absent if none is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The key at the target, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_key: Option<String>,
    /// The plugins that the entity passed, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginStory>,
    /// What was rendered; absent if nothing was, and for a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rendering: Option<BodyStory>,
    /// The requests that were made for it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<RequestStory>,
}

/// A request to a target, and its answer. Secrets of the configuration are replaced by `[secret]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestStory {
    /// The entities in it.
    pub items: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What was sent, of a target that speaks HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<SentStory>,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerStory>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A request as it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SentStory {
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The length of the body.
    pub bytes: u64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AnswerStory {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: BodyStory,
}

impl WhyStory {
    /// A reason, cut.
    pub fn new(code: &str, detail: &str) -> WhyStory {
        WhyStory {
            code: cut(code, VALUE_BYTES),
            detail: cut(detail, VALUE_BYTES),
        }
    }
}

impl PluginStory {
    /// The plugins that an item came to, each with its role and what it made of the item, up to the one that let
    /// it go no further. `lines` are what a plugin has logged.
    pub fn chain<'a>(
        stages: impl Iterator<Item = (&'a str, &'a str, &'static str)>,
        lines: impl Fn(&str) -> Vec<String>,
    ) -> Vec<PluginStory> {
        let mut told = Vec::new();
        for (plugin, role, verdict) in stages {
            told.push(PluginStory {
                plugin: plugin.to_owned(),
                role: role.to_owned(),
                verdict: verdict.to_owned(),
                log: lines(plugin),
            });
            if matches!(verdict, "dropped" | "failed") {
                break;
            }
        }
        told
    }
}

impl ReceivedStory {
    /// An event.
    pub fn new(event: &crate::model::Event, full: bool) -> ReceivedStory {
        let attributes = event.attributes.iter();
        ReceivedStory {
            id: cut(&event.id, VALUE_BYTES),
            source: cut(&event.origin, VALUE_BYTES),
            event_type: cut(&event.event_type, VALUE_BYTES),
            subject: event.subject.as_deref().map(|it| cut(it, VALUE_BYTES)),
            time: event.time.as_deref().map(|it| cut(it, VALUE_BYTES)),
            attributes: pairs(attributes.map(|(name, value)| (name.as_str(), value.as_str()))),
            data: BodyStory::new(event.content_type.as_deref(), &event.data, full),
        }
    }
}

impl BodyStory {
    /// A body, cut.
    pub fn new(content_type: Option<&str>, body: &Payload, full: bool) -> BodyStory {
        let whole = body.as_bytes().len();
        let most = body_bytes(full).min(whole);
        let (text, base64) = match body {
            Payload::Text(text) => (Some(cut(text, most)), None),
            Payload::Binary(bytes) => (None, Some(STANDARD.encode(&bytes[..most]))),
        };
        BodyStory {
            content_type: content_type.map(|it| cut(it, VALUE_BYTES)),
            bytes: whole as u64,
            cut: most < whole,
            text,
            base64,
        }
    }

    /// The beginning of a body of `whole` bytes. Without its secrets it may be all of it and shorter.
    pub fn beginning(
        content_type: Option<&str>,
        beginning: &[u8],
        whole: u64,
        is_cut: bool,
    ) -> BodyStory {
        // A character may have been cut in the middle.
        let text = match std::str::from_utf8(beginning) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&beginning[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        BodyStory {
            content_type: content_type.map(|it| cut(it, VALUE_BYTES)),
            bytes: whole,
            cut: is_cut,
            text: text.map(str::to_owned),
            base64: text.is_none().then(|| STANDARD.encode(beginning)),
        }
    }

    fn length(&self) -> usize {
        self.text.as_ref().map_or(0, String::len) + self.base64.as_ref().map_or(0, String::len)
    }
}

impl ChangeStory {
    /// A change of an entity's facet.
    pub fn new(
        id: &EntityId,
        facet: &str,
        lane: &str,
        version: Option<u64>,
        value: Option<&str>,
        full: bool,
    ) -> ChangeStory {
        let body = |value: &str| {
            let most = body_bytes(full).min(value.len());
            BodyStory {
                bytes: value.len() as u64,
                cut: most < value.len(),
                text: Some(cut(value, most)),
                ..BodyStory::default()
            }
        };
        ChangeStory {
            entity_type: id.entity_type.to_string(),
            key: id.key.to_string(),
            facet: facet.to_owned(),
            lane: lane.to_owned(),
            version: version.map(|version| version.to_string()),
            value: value.map(body),
        }
    }
}

impl EventStory {
    /// Tells of the first changes, with their values as long as there is place for them.
    pub fn with_changes(self, changes: impl ExactSizeIterator<Item = ChangeStory>) -> EventStory {
        let (total, mut left) = (changes.len(), FULL_BODY_BYTES);
        let mut told: Vec<ChangeStory> = changes.take(LIST_MAX).collect();
        for value in told.iter_mut().filter_map(|change| change.value.as_mut()) {
            match left.checked_sub(value.length()) {
                Some(rest) => left = rest,
                None => (value.text, value.cut) = (Some(String::new()), true),
            }
        }
        EventStory {
            changes_total: (told.len() < total).then_some(total as u64),
            changes: told,
            ..self
        }
    }

    fn bytes(&self) -> usize {
        let values = self
            .changes
            .iter()
            .filter_map(|change| change.value.as_ref());
        let values: usize = values.map(BodyStory::length).sum();
        let data = self.event.as_ref().map_or(0, |event| event.data.length());
        values + data + log_bytes(&self.plugins) + OVERHEAD_BYTES
    }
}

impl DeliveryStory {
    fn bytes(&self) -> usize {
        let answers = self.requests.iter().filter_map(|it| it.answer.as_ref());
        let answers: usize = answers.map(|answer| answer.body.length()).sum();
        let rendering = self.rendering.as_ref().map_or(0, BodyStory::length);
        let rest = OVERHEAD_BYTES * (1 + self.requests.len());
        answers + rendering + log_bytes(&self.plugins) + rest
    }
}

/// What a story takes in addition to its bodies, approximately.
const OVERHEAD_BYTES: usize = 2 << 10;

fn log_bytes(plugins: &[PluginStory]) -> usize {
    plugins
        .iter()
        .flat_map(|plugin| &plugin.log)
        .map(String::len)
        .sum()
}

/// Names with their values, cut.
pub fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let told = |(name, value): (&str, &str)| (cut(name, VALUE_BYTES), cut(value, VALUE_BYTES));
    pairs.take(LIST_MAX).map(told).collect()
}

/// A moment, as RFC 3339 in UTC with milliseconds.
pub fn time(timestamp: Timestamp) -> String {
    let moment = i64::try_from(timestamp.0).ok();
    let moment = moment.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", moment.unwrap_or(jiff::Timestamp::MAX))
}

/// The beginning of a text, of at most this many bytes.
pub fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}
