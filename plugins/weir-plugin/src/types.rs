//! The values that cross the border, field by field as `wit/plugin.wit` has them: the bindings lift
//! into and lower out of these very types, so that nothing is copied twice. Names and types of
//! fields are therefore not free.

/// What a source sent: the CloudEvents envelope and the data, untouched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The sender's identifier of the event; with `origin` it is unique.
    pub id: String,
    /// CloudEvents `source`: who raised the event.
    pub origin: String,
    /// CloudEvents `type`.
    pub event_type: String,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    /// RFC 3339, as the sender wrote it.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: Option<String>,
    /// CloudEvents extensions, and the HTTP headers that the source lets through; names in lower
    /// case.
    pub attributes: Vec<(String, String)>,
    /// What was sent.
    pub data: Payload,
}

/// Text where it is valid UTF-8, bytes where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// JSON, XML, EDIFACT, CSV.
    Text(String),
    /// Anything else.
    Binary(Vec<u8>),
}

/// One facet of one entity has a new value, or, with none, is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// For example `product`; it must be configured under `[entities]`.
    pub entity_type: String,
    /// Which of them.
    pub key: String,
    /// For example `price.de-retail`; the source's owner must be the one who writes it.
    pub facet: String,
    /// JSON text. None: the facet is deleted.
    pub value: Option<String>,
    /// The owner's own version of this facet, rising; an older one than the stored is dropped as
    /// stale.
    pub version: Option<u64>,
    /// `urgent`, `normal` or `bulk`; none: the facet's configured lane.
    pub lane: Option<String>,
}

/// An entity as it is now, with the facets that the channel subscribes to, ordered by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// For example `product`.
    pub entity_type: String,
    /// Which of them.
    pub key: String,
    /// Its facets, ordered by name.
    pub facets: Vec<Facet>,
}

/// A facet as a channel may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// For example `price.de-retail`.
    pub name: String,
    /// JSON text.
    pub value: String,
}

/// What is delivered for one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// What the target calls it (a document id, `{key}` in a URL); none: the entity's key.
    pub key: Option<String>,
    /// Media type of `body`; none: `application/json`.
    pub content_type: Option<String>,
    /// What the target gets.
    pub body: Payload,
}

/// Why one item failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For machines, and stable: `missing-field`.
    pub code: String,
    /// For people: what is wrong, where, and what would be right.
    pub message: String,
}

/// The interface's name of [`Error`], for the bindings.
#[cfg(target_arch = "wasm32")]
pub(crate) type Failure = Error;

impl Default for Payload {
    fn default() -> Self {
        Payload::Text(String::new())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Payload::Text(text)
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Self {
        Payload::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        String::from_utf8(bytes)
            .map_or_else(|error| Payload::Binary(error.into_bytes()), Payload::Text)
    }
}
