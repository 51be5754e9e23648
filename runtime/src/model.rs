//! The values that every room of Weir passes around: entities, facets, changes, events and
//! renderings. This module does no I/O and has no clock; time is always an argument.
//!
//! The store, the plugin interface and the HTTP routes each convert between these types and their
//! own form (bytes, WIT records, JSON) at their own boundary, so no such form appears here.

mod arrival;
mod digest;
mod trace;

use std::fmt;
use std::sync::Arc;

pub use self::arrival::{Arrival, Redrive};
pub use self::digest::PartsDigest;
pub use self::trace::Trace;

/// Maximum length of an entity key, in bytes of UTF-8. A longer key is nearly always a payload that
/// ended up in the wrong field.
pub const KEY_BYTES_MAX: usize = 1024;
/// Maximum number of facets of one entity. An entity record is rewritten as a whole, so this bounds
/// the cost of one change.
pub const FACETS_MAX: usize = 512;
/// Maximum length of the name of a facet, an entity type, a source or a channel, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The character that some systems write before text in UTF-8. It is taken off wherever data is
/// received as text, so that plugins and parsers never meet it.
pub const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The number of a committed change: one counter for all entities, which only rises; 0 is before the
/// first change. Quarantined events and new shapes of channels take numbers too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01 UTC. No function of this module reads a clock; each receives the
/// time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// The dense number of an entity, used by the indexes and the pairs; never shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

/// A priority. A channel shares its turns among the lanes by configured weights; the variants are in
/// descending order of urgency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Changes that a buyer notices at once: prices, stock.
    Urgent,
    /// Everyday changes; the default.
    #[default]
    Normal,
    /// Initial loads and repairs.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Normal, Lane::Bulk];

    /// The name used in configuration, requests and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Normal => "normal",
            Lane::Bulk => "bulk",
        }
    }

    /// The lane with this name, if there is one.
    pub fn parse(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name)
    }

    /// The position of this lane in an array with one item for each lane.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A queue that a channel walks: one of the lanes or, in addition to them, the sweep over all entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The places of a lane, in the order of their sequences.
    Lane(Lane),
    /// All entities, in the order of their ordinals, with the same share of turns as the bulk lane.
    Sweep,
}

impl Track {
    /// All tracks: the lanes, highest first, then the sweep.
    pub const ALL: [Track; 4] = [
        Track::Lane(Lane::Urgent),
        Track::Lane(Lane::Normal),
        Track::Lane(Lane::Bulk),
        Track::Sweep,
    ];

    /// The place of this track in arrays that hold something for each track.
    pub fn index(self) -> usize {
        match self {
            Track::Lane(lane) => lane.index(),
            Track::Sweep => Track::ALL.len() - 1,
        }
    }
}

/// A thing that systems exchange, for example (`product`, `4711`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId {
    /// For example `product`.
    pub entity_type: Arc<str>,
    /// The key within its type; any text of 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: Arc<str>,
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.entity_type, self.key)
    }
}

/// A body: text if it is valid UTF-8, bytes otherwise.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Valid UTF-8, for example JSON, XML, EDIFACT or CSV.
    Text(String),
    /// Anything else.
    Binary(Vec<u8>),
}

impl Payload {
    /// Converts bytes to text if they are valid UTF-8, and keeps them as bytes otherwise.
    pub fn from_bytes(bytes: Vec<u8>) -> Payload {
        match String::from_utf8(bytes) {
            Ok(text) => Payload::Text(text),
            Err(error) => Payload::Binary(error.into_bytes()),
        }
    }

    /// Data as it was received: text without its byte order mark, or bytes.
    pub fn received(mut bytes: Vec<u8>) -> Payload {
        if bytes.starts_with(BYTE_ORDER_MARK.as_bytes()) && std::str::from_utf8(&bytes).is_ok() {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        Payload::from_bytes(bytes)
    }

    /// The bytes of either variant.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    /// Shows the size only: payloads belong to the user and must not appear in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_bytes().len())
    }
}

/// An event as a source system sent it: the CloudEvents envelope and the unchanged data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The sender's identifier: of a CloudEvent, or of a webhook; empty if there is none.
    pub id: String,
    /// CloudEvents `source`; empty if the body was not a CloudEvent.
    pub origin: String,
    /// CloudEvents `type`, or the topic of a webhook; empty if there is none.
    pub event_type: String,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    /// CloudEvents `time`, as written.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: Option<String>,
    /// CloudEvents extensions and the request headers that the source lets through; names in lower
    /// case.
    pub attributes: Vec<(String, String)>,
    /// The trace that it belongs to: of its attribute `traceparent`, or of its request. No part of what is
    /// stored of it, nor of what a plugin gets.
    pub trace: Option<Trace>,
    /// The data.
    pub data: Payload,
}

impl Event {
    /// An event that was not sent as a CloudEvent: it has no envelope, and no identity unless it is
    /// given one.
    pub fn plain(content_type: Option<&str>, data: Payload) -> Event {
        Event {
            id: String::new(),
            origin: String::new(),
            event_type: String::new(),
            subject: None,
            time: None,
            content_type: content_type.map(str::to_owned),
            attributes: Vec::new(),
            trace: None,
            data,
        }
    }
}

/// A new value for one facet of one entity, or the deletion of that facet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// For example `product`.
    pub entity_type: String,
    /// The entity's key.
    pub key: String,
    /// For example `price.de-retail`.
    pub facet: String,
    /// Valid JSON text; `None` deletes the facet.
    pub value: Option<Box<str>>,
    /// The owner's own version of the facet, rising; a lower one than its last makes the change stale.
    pub version: Option<u64>,
    /// The lane to wait in; `None` is the lane configured for the facet.
    pub lane: Option<Lane>,
}

/// A facet of an entity as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// For example `price.de-retail`.
    pub name: Arc<str>,
    /// The owner whose change was the last.
    pub owner: Arc<str>,
    /// The owner's version, if it gave one.
    pub version: Option<u64>,
    /// The sequence of its last change; a deletion is a change too.
    pub sequence: Sequence,
    /// When that change was committed.
    pub time: Timestamp,
    /// JSON text; `None` if the facet is deleted. A deleted facet is kept for a while so that a
    /// late update does not resurrect it.
    pub value: Option<Arc<str>>,
}

impl Facet {
    /// Whether the facet has a value other than `null`. `null` is a value that is stored and
    /// delivered like any other, but it says that there is nothing, so no channel's `needs` are
    /// satisfied by it.
    pub fn is_filled(&self) -> bool {
        self.value.as_deref().is_some_and(|value| !is_null(value))
    }
}

fn is_null(json: &str) -> bool {
    json.trim_ascii() == "null"
}

/// An entity as it is now, deleted facets included; facets are ordered by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Type and key.
    pub id: EntityId,
    /// All facets, ordered by name.
    pub facets: Vec<Facet>,
}

impl Entity {
    /// The sequence of the newest change of any facet; 0 if there are no facets.
    pub fn newest(&self) -> Sequence {
        self.facets
            .iter()
            .map(|facet| facet.sequence)
            .max()
            .unwrap_or_default()
    }

    /// Bytes of its values, with the names of its facets.
    pub fn bytes(&self) -> usize {
        let bytes = |facet: &Facet| facet.name.len() + facet.value.as_ref().map_or(0, |v| v.len());
        self.facets.iter().map(bytes).sum()
    }
}

/// An entity as one channel sees it: the facets it subscribes to without the deleted ones, ordered
/// by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Type and key.
    pub id: EntityId,
    /// Names and values (JSON text), ordered by name.
    pub facets: Vec<(Arc<str>, Arc<str>)>,
}

impl View {
    /// The facets of `entity` that match any of the patterns and are not deleted.
    pub fn of(entity: &Entity, patterns: &[String]) -> View {
        View::through(entity, |name| {
            patterns.iter().any(|pattern| facet_matches(pattern, name))
        })
    }

    /// The view of a channel that subscribes to the facets for which `sees` is true.
    pub fn through(entity: &Entity, mut sees: impl FnMut(&Arc<str>) -> bool) -> View {
        let facets = entity.facets.iter().filter(|facet| sees(&facet.name));
        View {
            id: entity.id.clone(),
            facets: facets
                .filter_map(|facet| Some((facet.name.clone(), facet.value.clone()?)))
                .collect(),
        }
    }

    /// Those of `needs` that no facet of the view satisfies.
    pub fn missing<'a>(&'a self, needs: &'a [String]) -> impl Iterator<Item = &'a String> {
        let filled = |(_, value): &&(Arc<str>, Arc<str>)| !is_null(value);
        let names = move || self.facets.iter().filter(filled).map(|(name, _)| name);
        needs
            .iter()
            .filter(move |need| !satisfied(need, names(), |_| true))
    }
}

/// Whether a facet satisfies the pattern `need` of a channel: `there` are the names of facets that
/// are filled, and the channel must see the one that matches.
pub fn satisfied<'a>(
    need: &str,
    there: impl IntoIterator<Item = &'a Arc<str>>,
    mut sees: impl FnMut(&'a Arc<str>) -> bool,
) -> bool {
    there
        .into_iter()
        .any(|name| facet_matches(need, name) && sees(name))
}

/// An entity type as configured: its facets and their owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityType {
    /// For example `product`.
    pub name: Arc<str>,
    /// One rule for each configured facet or family, in the order of the file.
    pub facets: Vec<FacetRule>,
    /// Maximum length of the value of a facet, in bytes.
    pub facet_bytes_max: u64,
    /// Maximum number of entities of this type; an event with a new key beyond it gets status 507.
    pub entities_max: u64,
}

impl EntityType {
    /// The rule for a facet: the rule with exactly its name, or else the family with the longest
    /// prefix. `None` if the facet is not configured.
    pub fn rule(&self, facet: &str) -> Option<&FacetRule> {
        let exact = self.facets.iter().find(|rule| &*rule.pattern == facet);
        let family = || {
            self.facets
                .iter()
                .filter(|rule| facet_matches(&rule.pattern, facet))
                .max_by_key(|rule| rule.pattern.len())
        };
        exact.or_else(family)
    }
}

/// The owner of a facet or a family of facets, and the lane in which its changes wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FacetRule {
    /// A name, or a family such as `price.*`.
    pub pattern: Arc<str>,
    /// The only owner that may write it.
    pub owner: Arc<str>,
    /// The lane for changes that do not name one themselves.
    pub lane: Lane,
}

/// The payload that a channel delivers for one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The key under which the target knows the entity; `None` is the entity's key.
    pub key: Option<String>,
    /// Media type of the body; `None` is `application/json`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Payload,
}

/// The reason why one item failed, as reported by a plugin or by the host about a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// A stable code in kebab-case, for programs.
    pub code: String,
    /// A sentence, for people.
    pub message: String,
}

impl Failure {
    /// A failure with this code and this sentence.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure {
            code: code.into(),
            message: message.into(),
        }
    }
}

/// Whether `name` matches a facet pattern. A pattern is a name, or a family such as `price.*`,
/// where a `*` at the end matches one or more characters. Placeholders (`price.{site}-*`) must
/// have been filled in before.
pub fn facet_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Whether some name matches both patterns: what a channel subscribes to, and a family that is deleted.
pub fn patterns_meet(one: &str, other: &str) -> bool {
    match (one.strip_suffix('*'), other.strip_suffix('*')) {
        (Some(one), Some(other)) => one.starts_with(other) || other.starts_with(one),
        (Some(_), None) => facet_matches(one, other),
        (None, _) => facet_matches(other, one),
    }
}

/// The prefix of a family of facets such as `price.*`; `None` for the name of one facet.
pub fn family_prefix(name: &str) -> Option<&str> {
    name.strip_suffix('*')
}

#[cfg(test)]
mod tests {
    use super::*;

    // A price of `null` is no price: a page with it went out.
    #[test]
    fn null_is_a_value_that_satisfies_no_need() {
        let facet = |name: &str, value: Option<&str>| Facet {
            name: name.into(),
            owner: "erp".into(),
            version: None,
            sequence: Sequence(1),
            time: Timestamp(0),
            value: value.map(Arc::from),
        };
        let entity = Entity {
            id: EntityId {
                entity_type: "product".into(),
                key: "1".into(),
            },
            facets: vec![
                facet("content", Some(" null ")),
                facet("price.de", Some("\"null\"")),
                facet("price.fr", Some("null")),
                facet("stock", None),
            ],
        };
        let filled: Vec<bool> = entity.facets.iter().map(Facet::is_filled).collect();
        assert_eq!(filled, [false, true, false, false]);
        let view = View::of(&entity, &["*".to_owned()]);
        assert_eq!(view.facets.len(), 3, "null is delivered");
        let needs = ["content", "price.*", "price.fr", "stock"].map(str::to_owned);
        let missing: Vec<_> = view.missing(&needs).collect();
        assert_eq!(missing, ["content", "price.fr", "stock"]);
    }

    #[test]
    fn a_family_takes_its_members_and_nothing_else() {
        assert!(facet_matches("price.*", "price.de-retail"));
        assert!(facet_matches("price.de-*", "price.de-retail"));
        assert!(facet_matches("content", "content"));
        assert!(!facet_matches("price.*", "price."));
        assert!(!facet_matches("price.*", "prices.de"));
        assert!(!facet_matches("price.de-*", "price.fr-retail"));
        assert!(!facet_matches("content", "content.de"));
    }

    #[test]
    fn a_channel_subscribes_to_its_facets_and_to_families_that_have_them() {
        let patterns = ["content", "price.de-*"];
        let meets = |name| patterns.iter().any(|pattern| patterns_meet(pattern, name));
        for name in ["content", "price.de-b2b", "price.*", "price.de-b*", "*"] {
            assert!(meets(name), "{name}");
        }
        for name in ["price.fr-b2b", "stock.*", "contents", "price.fr-*"] {
            assert!(!meets(name), "{name}");
        }
    }
}
