//! The webhook target: HTTP requests signed by Standard Webhooks.

use std::time::Duration;

use crate::ingest::verify::Secret;

/// A webhook as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// With `{key}` in it, entities are put and deleted at their own URLs; without, posted.
    pub url: String,
    /// Standard Webhooks secrets; the first signs, the others sign too while a secret is rotated.
    pub sign: Vec<Secret>,
    /// Sent as is.
    pub auth: Auth,
    /// For a whole attempt, connecting included; 15 s.
    pub timeout: Duration,
    /// Most entities in a request; 1 sends the bare rendering.
    pub batch: usize,
    /// How a batch is written.
    pub format: Format,
    /// Which addresses may be connected to.
    pub egress: Egress,
}

/// How Weir shows who it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// Any headers.
    Headers(Vec<(String, Secret)>),
}

/// How a batch is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON array.
    #[default]
    Array,
    /// One JSON object a line.
    Ndjson,
}

/// Which addresses may be connected to; link-local and metadata addresses never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// Private networks too: destinations come from the operator's file.
    #[default]
    Private,
    /// Only global unicast addresses.
    Public,
}
