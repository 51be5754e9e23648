//! The file as understood: names resolved, rows expanded, URLs parsed, every complaint at once.

mod basics;
mod channels;
mod checks;
mod difference;
mod notes;
mod redacted;
mod secrets;
mod sources;
mod targets;
#[cfg(test)]
mod tests;
mod understand;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use crate::config::text::{Cause, Complaint, Place, render};
use crate::model::EntityType;
use crate::{dispatch, ingest, plugin};
pub use difference::difference;
pub use redacted::redacted;
pub use understand::{ReadOptions, read};

/// A configuration that holds together.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Listeners.
    pub server: Server,
    /// Who may use the admin routes.
    pub tokens: Vec<Token>,
    /// The directory of the store.
    pub store_path: PathBuf,
    /// How long a deleted facet keeps its version, so that late updates do not resurrect it; 30
    /// days.
    pub forget: Duration,
    /// Shares of the lanes, highest first.
    pub shares: [u32; 3],
    /// Types of entities by name.
    pub entities: BTreeMap<Arc<str>, EntityType>,
    /// Plugins by name.
    pub plugins: BTreeMap<Arc<str>, Plugin>,
    /// Sources by name, with the plugins they use in order.
    pub sources: BTreeMap<Arc<str>, Source>,
    /// Targets by name, rows expanded (`shop.de`), inline ones under their channel's name.
    pub targets: BTreeMap<Arc<str>, crate::targets::Options>,
    /// Channels by name, rows expanded (`storefront.de`).
    pub channels: BTreeMap<Arc<str>, Channel>,
    /// Every file that was read, to be watched; components are in `plugins`.
    pub files: Vec<PathBuf>,
    /// Folders in which a new file would be included, to be watched.
    pub folders: Vec<PathBuf>,
    /// Where in the files things stand, by path (`plugins.erp`, `sources.erp.plugins[0]`); expanded
    /// names too.
    pub places: BTreeMap<String, Place>,
    /// Texts that came from the environment or a file, and are not to be shown.
    pub outside: Outside,
}

impl Plan {
    /// The same listeners and store with nothing to do: what a start is a reload from.
    pub fn emptied(&self) -> Plan {
        Plan {
            server: self.server.clone(),
            tokens: Vec::new(),
            store_path: self.store_path.clone(),
            forget: self.forget,
            shares: self.shares,
            entities: BTreeMap::new(),
            plugins: BTreeMap::new(),
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            channels: BTreeMap::new(),
            files: Vec::new(),
            folders: Vec::new(),
            places: BTreeMap::new(),
            outside: Outside::default(),
        }
    }

    /// A complaint about what stands at `path` (`plugins.erp`, [`Use::place`]), with its place or,
    /// where that is not known, that of the table around it.
    pub fn complaint(
        &self,
        path: &str,
        what: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Complaint {
        let mut around = path;
        loop {
            if let Some(place) = self.places.get(around) {
                return Complaint::at(place, path, what, help);
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => break,
            }
        }
        let file = self.files.first().cloned().unwrap_or_default();
        Complaint {
            path: path.to_owned(),
            ..Complaint::of_file(&file, what, help)
        }
    }
}

/// Texts that came from the environment or a file; any of them may be a secret, so none is printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Outside(pub BTreeSet<String>);

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
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

impl Role {
    /// All roles, each with the rights of those before it.
    pub const ALL: [Role; 4] = [Role::Read, Role::Operate, Role::Plugins, Role::Admin];

    /// The name in configuration, answers and logs.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Plugins => "plugins",
            Role::Admin => "admin",
        }
    }
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
    /// The settings at this place: the plugin's, the row's columns, the channel's and the use's
    /// own, merged in that order.
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
