//! The configuration after it has been read: names resolved, rows expanded, URLs parsed. All
//! complaints are reported at once.

mod basics;
mod channels;
mod checks;
mod difference;
mod listeners;
mod notes;
mod notify;
mod redacted;
mod schema;
mod secrets;
mod senders;
mod settings;
mod sources;
mod targets;
mod telemetry;
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

pub use crate::config::cursor::Written;
pub use crate::config::scalar::duration;
pub use crate::config::text::{Cause, Complaint, Place, render};
pub use crate::ingest::BODY_BYTES_MAX;
use crate::model::EntityType;
use crate::{dispatch, ingest, plugin};
pub(crate) use checks::mapped_fields;
pub use difference::difference;
pub use listeners::{Front, Tls};
pub use redacted::redacted;
pub use schema::schema;
pub use telemetry::Telemetry;
pub use understand::{ReadOptions, Understood, read, read_named};

/// A consistent configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Listeners.
    pub server: Server,
    /// Tokens for the admin routes.
    pub tokens: Vec<Token>,
    /// Where spans are exported; `None` means nowhere.
    pub telemetry: Option<Telemetry>,
    /// The directory of the store.
    pub store_path: PathBuf,
    /// How long a deleted facet keeps its version, so that late updates do not resurrect it; 30
    /// days.
    pub forget: Duration,
    /// The store's sequence starts at this number or above it.
    pub sequence_min: u64,
    /// Shares of the lanes, highest priority first.
    pub shares: [u32; 3],
    /// Entity types by name.
    pub entities: BTreeMap<Arc<str>, EntityType>,
    /// Plugins by name.
    pub plugins: BTreeMap<Arc<str>, Plugin>,
    /// Sources by name, with their plugins in order.
    pub sources: BTreeMap<Arc<str>, Source>,
    /// Targets by name, with rows expanded (`shop.de`). Inline targets have their channel's name.
    pub targets: BTreeMap<Arc<str>, crate::targets::Options>,
    /// The former names of targets, by their names: of the inline target of a channel that had another
    /// name, and of one of a table with `for_each` whose row had. No target has such a name now.
    pub renamed_targets: BTreeMap<Arc<str>, Arc<str>>,
    /// Channels by name, with rows expanded (`storefront.de`).
    pub channels: BTreeMap<Arc<str>, Channel>,
    /// Who is told of what needs an operator.
    pub notify: Vec<crate::notify::Options>,
    /// All files that were read, for watching; components are in `plugins`.
    pub files: Vec<PathBuf>,
    /// Folders in which a new file would be included, for watching.
    pub folders: Vec<PathBuf>,
    /// The place in the files of each path (`plugins.erp`, `sources.erp.plugins[0]`), expanded
    /// names included.
    pub places: BTreeMap<String, Place>,
    /// Where each text is written that is a setting.
    pub texts: BTreeMap<String, Written>,
    /// Texts that came from the environment or a file, which must not be shown.
    pub outside: Outside,
}

impl Plan {
    /// An empty plan with the same listeners and store. A start is a reload from it.
    pub fn emptied(&self) -> Plan {
        Plan {
            server: self.server.clone(),
            tokens: Vec::new(),
            telemetry: None,
            store_path: self.store_path.clone(),
            forget: self.forget,
            sequence_min: self.sequence_min,
            shares: self.shares,
            entities: BTreeMap::new(),
            plugins: BTreeMap::new(),
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            renamed_targets: BTreeMap::new(),
            channels: BTreeMap::new(),
            notify: Vec::new(),
            files: Vec::new(),
            folders: Vec::new(),
            places: BTreeMap::new(),
            texts: BTreeMap::new(),
            outside: Outside::default(),
        }
    }

    /// What it was made of.
    pub fn named(&self) -> Named {
        let components = self.plugins.values().map(|plugin| &plugin.path);
        Named {
            files: self.files.iter().chain(components).cloned().collect(),
            folders: self.folders.iter().cloned().collect(),
        }
    }

    /// A complaint about `path` (`plugins.erp`, [`Use::place`]), with its place or, if that is
    /// unknown, the place of the enclosing table.
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

/// What a configuration is made of, for watching.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Its files, the files to which it refers, and components. Some of them may be missing.
    pub files: BTreeSet<PathBuf>,
    /// Folders in which a new file would be included.
    pub folders: BTreeSet<PathBuf>,
}

/// Texts that came from the environment or a file. Any of them may be a secret, so none is printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Outside(pub BTreeSet<String>);

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where Weir listens, and how it notices changed files.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Address of the ingest routes.
    pub listen: SocketAddr,
    /// Address of all other routes; `None` means the same listener.
    pub admin_listen: Option<SocketAddr>,
    /// If true, files are watched; otherwise only SIGHUP and `POST /v1/reload` cause a reload.
    pub watch: bool,
    /// Memory for the bodies that were delivered last, in bytes.
    pub bodies_bytes: u64,
    /// How clients reach the listeners.
    pub front: Arc<Front>,
}

impl Server {
    /// The address of the admin routes.
    pub fn admin(&self) -> SocketAddr {
        self.admin_listen.unwrap_or(self.listen)
    }

    /// The URLs of `listen` and of the admin routes, if these are their addresses.
    pub fn urls(&self, listen: SocketAddr, admin: SocketAddr) -> [String; 2] {
        let url = |address, has_tls| match has_tls {
            true => format!("https://{address}"),
            false => format!("http://{address}"),
        };
        let has_tls = self.front.tls.is_some();
        let admin_has = has_tls && (admin == listen || Front::covers_admin(admin));
        [url(listen, has_tls), url(admin, admin_has)]
    }

    /// Says who reaches a listener, if it is not this machine alone.
    fn reached(&self, listener: SocketAddr) -> Option<String> {
        if !listener.ip().is_loopback() {
            return Some(format!("{listener} can be reached from other machines"));
        }
        let behind = self.front.is_behind_proxy();
        behind.then(|| format!("others reach {listener} through a proxy"))
    }
}

/// A token for the admin routes.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its name, for logs.
    pub name: String,
    /// SHA-256 of the secret; the secret itself is not kept.
    pub sha256: [u8; 32],
    /// The highest of its roles. Each role includes the lower ones.
    pub role: Role,
}

/// The permissions of a token. Each role includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read.
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

    /// The name in configuration, responses and logs.
    pub fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
            Role::Plugins => "plugins",
            Role::Admin => "admin",
        }
    }
}

/// A component with its limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// The component's file.
    pub path: PathBuf,
    /// The name under which the component comes with Weir, if it does.
    pub builtin: Option<&'static str>,
    /// The SHA-256 digest that the file must have, in lower-case hexadecimal.
    pub sha256: Option<String>,
    /// Its settings, a JSON object. The settings of each use are merged over it.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Its limits.
    pub limits: plugin::Limits,
}

/// One use of a plugin, by a source or a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// The effective settings: those of the plugin, the row's columns, those of the channel and
    /// those of the use, merged in this order.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// The path of this use, for messages: `sources.erp.plugins[0]`.
    pub place: String,
}

/// A source with its plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its own options.
    pub options: ingest::Options,
    /// Its event filters, then at most one mapper.
    pub plugins: Vec<Use>,
    /// The response to a request that was taken.
    pub reply: Reply,
}

/// The response to a request that was taken, as the source's senders want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its status: 200, 201, 202 or 204.
    pub status: u16,
    /// Its body; `None` means a summary of the request, or with 204 nothing.
    pub body: Option<ReplyBody>,
}

impl Default for Reply {
    fn default() -> Reply {
        Reply {
            status: 202,
            body: None,
        }
    }
}

/// A body that is the same for all requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyBody {
    /// Its media type.
    pub media_type: String,
    /// Its text.
    pub text: String,
}

/// A channel with its plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Its own options.
    pub options: dispatch::Options,
    /// Its entity filters, then at most one renderer.
    pub plugins: Vec<Use>,
    /// When its target is checked for drift; `None` means only when an operator begins it.
    pub drift: Option<Drift>,
}

/// The regular drift check of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The time between two checks.
    pub every: Duration,
    /// About how many entities are compared, chosen at random; `None` means all.
    pub sample: Option<u64>,
}
