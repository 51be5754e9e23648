//! The file as understood: names resolved, rows expanded, every complaint at once. Nothing downstream checks again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::ingest::verify::Secret;
use crate::model::EntityType;
use crate::{dispatch, ingest, plugin, target};

/// A configuration that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Listeners.
    pub server: Server,
    /// Who may use the admin routes.
    pub tokens: Vec<Token>,
    /// The directory of the store.
    pub store_path: PathBuf,
    /// Shares of the lanes, highest first.
    pub shares: [u32; 3],
    /// Types of entities by name.
    pub entities: BTreeMap<Arc<str>, EntityType>,
    /// Plugins by name.
    pub plugins: BTreeMap<Arc<str>, Plugin>,
    /// Sources by name, with the plugins they use in order.
    pub sources: BTreeMap<Arc<str>, Source>,
    /// Targets by name, rows expanded (`shop.de`), inline ones under their channel's name.
    pub targets: BTreeMap<Arc<str>, target::Options>,
    /// Channels by name, rows expanded (`storefront.de`).
    pub channels: BTreeMap<Arc<str>, Channel>,
    /// Every file that was read, to be watched; components are in `plugins`.
    pub files: Vec<PathBuf>,
}

/// Where Weir listens and how it learns of changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Ingest.
    pub listen: SocketAddr,
    /// Everything else; none: the same listener.
    pub admin_listen: Option<SocketAddr>,
    /// True: files are watched; false: SIGHUP and `POST /v1/reload` only.
    pub watch: bool,
}

/// A token for the admin routes.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its name, for logs.
    pub name: String,
    /// SHA-256 of the secret; the secret itself is not kept.
    pub sha256: [u8; 32],
    /// The highest of its roles; each includes the ones below.
    pub role: Role,
}

/// What a token may do; each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// See.
    Read,
    /// Pause, resume, resync, redrive, drop, confirm.
    Operate,
    /// Change plugins.
    Plugins,
    /// Reload, forget.
    Admin,
}

/// A component and how it is bounded.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// Its file.
    pub path: PathBuf,
    /// The digest it must have, lower-case hex.
    pub sha256: Option<String>,
    /// Its settings, a JSON object; a use's own are merged over it.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Its limits.
    pub limits: plugin::Limits,
}

/// One use of a plugin at a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// Which plugin.
    pub plugin: Arc<str>,
    /// The settings at this place: the plugin's, the row's columns, the channel's and the use's own, merged in that order.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Where it is used, for messages: `sources.erp.plugins[0]`.
    pub place: String,
}

/// A source with its plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its own options.
    pub options: ingest::Options,
    /// Event filters, then at most one mapper.
    pub plugins: Vec<Use>,
}

/// A channel with its plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its own options.
    pub options: dispatch::Options,
    /// Entity filters, then at most one renderer.
    pub plugins: Vec<Use>,
}

/// Something that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which file.
    pub file: PathBuf,
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong, where in the file's own words (`channels.storefront.target`).
    pub what: String,
    /// What would be right.
    pub help: Option<String>,
}

/// Keeps the import used until the reader of files is here.
pub type SecretValue = Secret;
