//! NATS as configured: where messages are published, by whom, and which entity a subject belongs to.

use std::fmt;
use std::time::Duration;

use super::name::Template;
use crate::signature::Secret;
use crate::targets::Item;
use crate::targets::http::{Egress, Tls};

/// NATS as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The servers: the first that can be reached is used.
    pub servers: Vec<Server>,
    /// What is written, and where.
    pub form: Form,
    /// Credentials.
    pub auth: Auth,
    /// Timeout of a whole attempt, connecting included.
    pub timeout: Duration,
    /// The addresses that may be connected to.
    pub egress: Egress,
    /// Certificates.
    pub tls: Tls,
    /// Where answers are sent: the beginning of their subjects, which the account must be allowed to
    /// subscribe to.
    pub inbox: String,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it must speak TLS.
    pub tls: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// What is written, and where.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Values of a key-value bucket.
    Bucket {
        /// Its name.
        bucket: String,
        /// The keys.
        key: Template,
    },
    /// Messages of a stream.
    Stream {
        /// Its name; `None` if the server is asked which one captures the subjects.
        stream: Option<String>,
        /// The subjects.
        subject: Template,
    },
    /// Messages that nobody keeps.
    Core {
        /// The subjects.
        subject: Template,
    },
}

/// The credentials of a connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// A user with a password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The content of a credentials file: a JWT and the seed of a key.
    Creds(Secret),
    /// The seed of a key.
    Nkey(Secret),
}

impl Options {
    /// Where the messages are: two targets of the same place replace each other's.
    pub fn place(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        let what = match &self.form {
            Form::Bucket { bucket, key } => format!("kv {bucket} {}", key.text()),
            Form::Stream { stream, subject } => {
                format!(
                    "stream {} {}",
                    stream.as_deref().unwrap_or("*"),
                    subject.text()
                )
            }
            Form::Core { subject } => format!("core {}", subject.text()),
        };
        format!("nats {} {what}", servers.join(","))
    }

    /// Where an entity is published.
    pub(super) fn subject(&self, item: &Item) -> String {
        let entity_type = &item.entity.entity_type;
        match &self.form {
            Form::Bucket { bucket, key } => {
                format!("$KV.{bucket}.{}", key.subject(entity_type, &item.key))
            }
            Form::Stream { subject, .. } | Form::Core { subject } => {
                subject.subject(entity_type, &item.key)
            }
        }
    }

    /// The key of the entity that is published there; `None` if it is nobody's, or too long to be read from it.
    pub(super) fn key(&self, subject: &str) -> Option<String> {
        match &self.form {
            Form::Bucket { bucket, key } => {
                let name = subject.strip_prefix("$KV.")?.strip_prefix(&**bucket)?;
                key.key(name.strip_prefix('.')?)
            }
            Form::Stream {
                subject: template, ..
            }
            | Form::Core { subject: template } => template.key(subject),
        }
    }

    /// The subjects of all entities.
    pub(super) fn filter(&self) -> String {
        match &self.form {
            Form::Bucket { bucket, key } => format!("$KV.{bucket}.{}", key.filter()),
            Form::Stream { subject, .. } | Form::Core { subject } => subject.filter(),
        }
    }

    pub(super) fn is_core(&self) -> bool {
        matches!(self.form, Form::Core { .. })
    }

    pub(super) fn needs_tls(&self, server: &Server) -> bool {
        server.tls || self.tls != Tls::default()
    }
}
