//! The words of Weir as values: entities, facets, changes, events and renderings, without I/O and
//! without a clock.
//!
//! Every other room speaks in these types and converts at its own door: bytes of the store, records
//! of the plugin interface and JSON of the HTTP routes are made from them and never leak in here.

use std::fmt;
use std::sync::Arc;

/// The longest entity key, in bytes of UTF-8. Longer ones are nearly always a payload that landed
/// in the wrong field.
pub const KEY_BYTES_MAX: usize = 1024;
/// The most facets one entity may have; an entity record is rewritten whole, so this bounds the
/// cost of one change.
pub const FACETS_MAX: usize = 512;
/// The longest name of a facet, an entity type, a source or a channel, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// One number for each committed change, ever rising over all entities; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since 1970-01-01 UTC. Always an argument here: no function of this module asks for
/// the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

/// The dense number of an entity, by which indexes and pairs know it; never shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

/// A priority. The order of the variants is the order in which lanes are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What a buyer sees at once: prices, stock.
    Urgent,
    /// The rest of the day's work.
    #[default]
    Normal,
    /// Loads and repairs.
    Bulk,
}

impl Lane {
    /// All lanes, highest first.
    pub const ALL: [Lane; 3] = [Lane::Urgent, Lane::Normal, Lane::Bulk];

    /// The name used in configuration, requests and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Urgent => "urgent",
            Lane::Normal => "normal",
            Lane::Bulk => "bulk",
        }
    }

    /// The lane of that name, if there is one.
    pub fn parse(name: &str) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| lane.name() == name)
    }

    /// The place of this lane in arrays that hold something for each lane.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What a channel walks: one of the lanes, or the sweep over all entities beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Track {
    /// The places of a lane, in the order of their sequences.
    Lane(Lane),
    /// All entities, in the order of their ordinals, at bulk share.
    Sweep,
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

/// Text where it is valid UTF-8, bytes where it is not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Payload {
    /// JSON, XML, EDIFACT, CSV.
    Text(String),
    /// Anything else.
    Binary(Vec<u8>),
}

impl Payload {
    /// Takes bytes as text if they are valid UTF-8.
    pub fn from_bytes(bytes: Vec<u8>) -> Payload {
        match String::from_utf8(bytes) {
            Ok(text) => Payload::Text(text),
            Err(error) => Payload::Binary(error.into_bytes()),
        }
    }

    /// The bytes, whatever they are.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    /// Shows the size only: payloads are other people's data and do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.as_bytes().len())
    }
}

/// What a source system sent: the CloudEvents envelope and the data, untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The sender's identifier; empty if the body was not a CloudEvent.
    pub id: String,
    /// CloudEvents `source`; empty if the body was not a CloudEvent.
    pub origin: String,
    /// CloudEvents `type`; empty if the body was not a CloudEvent.
    pub event_type: String,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    /// CloudEvents `time`, as written.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: Option<String>,
    /// CloudEvents extensions and the headers that the source lets through; names in lower case.
    pub attributes: Vec<(String, String)>,
    /// The data.
    pub data: Payload,
}

impl Event {
    /// What is no CloudEvent: it has no envelope, and so no identity.
    pub fn plain(content_type: Option<&str>, data: Payload) -> Event {
        Event {
            id: String::new(),
            origin: String::new(),
            event_type: String::new(),
            subject: None,
            time: None,
            content_type: content_type.map(str::to_owned),
            attributes: Vec::new(),
            data,
        }
    }
}

/// One facet of one entity gets a new value, or, with none, is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// For example `product`.
    pub entity_type: String,
    /// The entity's key.
    pub key: String,
    /// For example `price.de-retail`.
    pub facet: String,
    /// Valid JSON text; none deletes the facet.
    pub value: Option<Box<str>>,
    /// The owner's own version of the facet, rising.
    pub version: Option<u64>,
    /// None: the facet's configured lane.
    pub lane: Option<Lane>,
}

/// A facet of an entity as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// For example `price.de-retail`.
    pub name: Arc<str>,
    /// The owner that wrote it last.
    pub owner: Arc<str>,
    /// The owner's version, if it gave one.
    pub version: Option<u64>,
    /// Of its last change, a deletion included.
    pub sequence: Sequence,
    /// When that change was committed.
    pub time: Timestamp,
    /// JSON text; none: deleted, and kept for a while so that late updates do not resurrect it.
    pub value: Option<Arc<str>>,
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
    /// The sequence of the newest change of any facet.
    pub fn newest(&self) -> Sequence {
        self.facets
            .iter()
            .map(|facet| facet.sequence)
            .max()
            .unwrap_or_default()
    }
}

/// An entity as one channel sees it: the facets it subscribes to, deleted ones left out, ordered by
/// name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Type and key.
    pub id: EntityId,
    /// Names and values (JSON text), ordered by name.
    pub facets: Vec<(Arc<str>, Arc<str>)>,
}

impl View {
    /// The view of a channel that subscribes to these patterns.
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
        let names = || self.facets.iter().map(|(name, _)| name);
        needs
            .iter()
            .filter(move |need| !satisfied(need, names(), |_| true))
    }
}

/// Whether a facet satisfies the pattern `need` of a channel: `there` are the names of facets that
/// have a value, and the channel must see the one that matches.
pub fn satisfied<'a>(
    need: &str,
    there: impl IntoIterator<Item = &'a Arc<str>>,
    mut sees: impl FnMut(&'a Arc<str>) -> bool,
) -> bool {
    there
        .into_iter()
        .any(|name| facet_matches(need, name) && sees(name))
}

/// A type of entity as configured: which facets there are and who writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityType {
    /// For example `product`.
    pub name: Arc<str>,
    /// In the order of the file.
    pub facets: Vec<FacetRule>,
    /// The longest value of a facet, in bytes.
    pub facet_bytes_max: u64,
    /// The most entities of this type; new keys beyond it are answered 507.
    pub entities_max: u64,
}

impl EntityType {
    /// The rule for a facet: its own name first, else the family with the longest prefix.
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

/// Who writes a facet or a family of facets, and in which lane its changes wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FacetRule {
    /// A name, or a family such as `price.*`.
    pub pattern: Arc<str>,
    /// Its one owner.
    pub owner: Arc<str>,
    /// Where a change waits that names no lane itself.
    pub lane: Lane,
}

/// What a channel delivers for one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// What the target calls it; none: the entity's key.
    pub key: Option<String>,
    /// Media type of the body; none: `application/json`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Payload,
}

/// Why one item failed, as a plugin said it or as the host says it of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// For machines; stable, in kebab-case.
    pub code: String,
    /// For people; a sentence.
    pub message: String,
}

impl Failure {
    /// A failure with that code and sentence.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure {
            code: code.into(),
            message: message.into(),
        }
    }
}

/// Whether `name` matches a facet pattern: the name itself, or a family such as `price.*` or
/// `price.{site}-*` already filled in, in which one `*` at the end stands for one or more
/// characters.
pub fn facet_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
