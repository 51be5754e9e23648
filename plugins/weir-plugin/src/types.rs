//! The values that are passed between Weir and the plugin, with the fields of `wit/plugin.wit`. The
//! bindings lift into and lower from these types directly, so that nothing is copied twice. The
//! names and types of the fields must therefore stay as they are in the interface.

/// An event from a source system: the CloudEvents envelope and the data, unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The sender's identifier of the event. It is unique together with `origin`.
    pub id: String,
    /// CloudEvents `source`: the system that raised the event.
    pub origin: String,
    /// CloudEvents `type`.
    pub event_type: String,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    /// RFC 3339, as the sender wrote it.
    pub time: Option<String>,
    /// Media type of `data`.
    pub content_type: Option<String>,
    /// CloudEvents extensions, and the HTTP headers that the source passes on, in lower case.
    pub attributes: Vec<(String, String)>,
    /// The body of the event.
    pub data: Payload,
}

/// Text if the data is valid UTF-8, otherwise bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// JSON, XML, EDIFACT, CSV.
    Text(String),
    /// Anything else.
    Binary(Vec<u8>),
}

/// A new value of one facet of one entity, or the deletion of that facet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// For example `product`. The type must be configured under `[entities]`.
    pub entity_type: String,
    /// The key of the entity within its type, for example `4711`.
    pub key: String,
    /// For example `price.de-retail`. The facet must belong to the owner that the source writes
    /// for.
    pub facet: String,
    /// JSON text. `None` deletes the facet.
    pub value: Option<String>,
    /// The owner's own version of this facet, which must rise. A change with a lower version than
    /// the stored one is dropped as stale.
    pub version: Option<u64>,
    /// `urgent`, `normal` or `bulk`. `None` means the facet's configured lane.
    pub lane: Option<String>,
}

/// The current state of an entity, with the facets that the channel subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entity {
    /// For example `product`.
    pub entity_type: String,
    /// The key of the entity within its type, for example `4711`.
    pub key: String,
    /// The facets that the channel subscribes to, ordered by name.
    pub facets: Vec<Facet>,
}

/// A facet as a channel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facet {
    /// For example `price.de-retail`.
    pub name: String,
    /// JSON text.
    pub value: String,
}

/// The content that a channel delivers for one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendering {
    /// The name of the entity at the target: a document id, `{key}` in a URL. `None` means the
    /// entity's key.
    pub key: Option<String>,
    /// Media type of `body`. `None` means `application/json`.
    pub content_type: Option<String>,
    /// The content itself.
    pub body: Payload,
}

/// The reason why one item failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// For machines, and stable: `missing-field`.
    pub code: String,
    /// For people: what is wrong, where, and what would be right.
    pub message: String,
}

/// The interface's name for [`Error`], which the bindings use.
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
