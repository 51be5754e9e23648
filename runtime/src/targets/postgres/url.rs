//! The URL of a database, as other programs write it too: `postgres://user:password@host,host:port/database`.
//!
//! It is usually copied from a provider's page, with parameters for other clients. Each of them is
//! translated, or named with what to write instead; none is ignored in silence. A complaint never quotes
//! the URL, because it holds the password.

use percent_encoding::percent_decode_str;

use super::tls::Mode;
use crate::signature::Secret;

/// The port of a host without one.
const PORT: u16 = 5432;

/// Where the database is, and who logs in.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Names or addresses with their ports, in the order in which they are tried. The first that can be
    /// written to is used.
    pub hosts: Vec<(String, u16)>,
    /// The database.
    pub database: String,
    /// The role that logs in.
    pub user: String,
    /// Its password; `None` if the server needs none.
    pub password: Option<Secret>,
    /// The name of the connections in `pg_stat_activity`.
    pub application: String,
    /// What the URL says about TLS.
    pub mode: Option<Mode>,
}

/// What is wrong with a URL, and what to do.
pub type Wrong = (&'static str, &'static str);

const EXAMPLE: &str = "write one such as \"postgres://weir@db.example:5432/shop\", best as { env = \"DATABASE_URL\" }";

/// Parameters that other clients know, and what to write in their place.
const ELSEWHERE: [(&str, Wrong); 16] = [
    (
        "sslrootcert",
        (
            "the URL has sslrootcert",
            "leave it out, and write tls = { ca = \"FILE\" }",
        ),
    ),
    (
        "sslcert",
        (
            "the URL has sslcert",
            "leave it out, and write tls = { cert = \"FILE\", key = { file = \"FILE\" } }",
        ),
    ),
    (
        "sslkey",
        (
            "the URL has sslkey",
            "leave it out, and write tls = { cert = \"FILE\", key = { file = \"FILE\" } }",
        ),
    ),
    (
        "options",
        (
            "the URL has options, which a connection pooler refuses or ignores",
            "set them for the role: ALTER ROLE … SET …",
        ),
    ),
    (
        "schema",
        (
            "the URL has schema",
            "leave it out, and write table = \"SCHEMA.TABLE\"",
        ),
    ),
    (
        "search_path",
        (
            "the URL has search_path",
            "leave it out, and write table = \"SCHEMA.TABLE\"",
        ),
    ),
    (
        "currentSchema",
        (
            "the URL has currentSchema",
            "leave it out, and write table = \"SCHEMA.TABLE\"",
        ),
    ),
    (
        "connect_timeout",
        (
            "the URL has connect_timeout",
            "leave it out, and write timeout = \"10s\"",
        ),
    ),
    (
        "pgbouncer",
        (
            "the URL has pgbouncer",
            "leave it out: Weir works behind PgBouncer in any mode",
        ),
    ),
    (
        "keepalives",
        (
            "the URL has keepalives",
            "leave it out: Weir keeps connections alive itself",
        ),
    ),
    (
        "keepalives_idle",
        (
            "the URL has keepalives_idle",
            "leave it out: Weir keeps connections alive itself",
        ),
    ),
    (
        "keepalives_interval",
        (
            "the URL has keepalives_interval",
            "leave it out: Weir keeps connections alive itself",
        ),
    ),
    (
        "tcp_user_timeout",
        (
            "the URL has tcp_user_timeout",
            "leave it out: Weir bounds each statement by timeout",
        ),
    ),
    (
        "load_balance_hosts",
        (
            "the URL has load_balance_hosts",
            "leave it out: Weir uses the first host that can be written to",
        ),
    ),
    (
        "connection_limit",
        (
            "the URL has connection_limit",
            "leave it out, and write concurrency = 4",
        ),
    ),
    (
        "hostaddr",
        (
            "the URL has hostaddr",
            "leave it out, and write the address as the host",
        ),
    ),
];

impl Server {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Server, Wrong> {
        let rest = text
            .trim()
            .strip_prefix("postgres://")
            .or_else(|| text.trim().strip_prefix("postgresql://"))
            .ok_or(("the URL does not start with postgres://", EXAMPLE))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password that is not encoded may hold any character, so the last @ ends it.
        let (login, place) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        let mut server = Server {
            hosts: hosts_in(hosts)?,
            database: decoded(database)?,
            user: decoded(user)?,
            password: password.map(secret),
            application: "weir".to_owned(),
            mode: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            server.parameter(name, value)?;
        }
        if server.user.is_empty() {
            return Err(("the URL names no user", EXAMPLE));
        }
        if server.hosts.is_empty() {
            return Err(("the URL names no host", EXAMPLE));
        }
        if server.database.is_empty() {
            server.database = server.user.clone();
        }
        Ok(server)
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), Wrong> {
        match name {
            "sslmode" => {
                self.mode = match Mode::ALL.iter().find(|(word, _)| *word == value) {
                    Some((_, mode)) => Some(*mode),
                    None => {
                        return Err((
                            "the URL has an sslmode that may end without TLS, or that is not known",
                            "write sslmode=verify-full, verify-ca, require or disable",
                        ));
                    }
                }
            }
            "target_session_attrs" => {
                if !matches!(value, "any" | "read-write" | "primary") {
                    return Err((
                        "the URL asks for a server that cannot be written to",
                        "write target_session_attrs=read-write, which Weir does in any case",
                    ));
                }
            }
            // Neither changes anything: there is no GSSAPI here, and TLS binds the channel by itself.
            "gssencmode" | "channel_binding" => {}
            "application_name" => self.application = decoded(value)?,
            "user" => self.user = decoded(value)?,
            "password" => self.password = Some(secret(value)),
            "dbname" => self.database = decoded(value)?,
            "host" => self.hosts = hosts_in(value)?,
            _ => {
                let known = ELSEWHERE.iter().find(|(known, _)| *known == name);
                // The name of an unknown one may be a part of a password.
                return Err(known.map_or(
                    (
                        "the URL has a parameter that Weir does not know",
                        "leave out all after the ?, or encode a ? in the password as %3F",
                    ),
                    |(_, wrong)| *wrong,
                ));
            }
        }
        Ok(())
    }

    /// Whether all hosts are this machine.
    pub fn is_loopback(&self) -> bool {
        self.hosts.iter().all(|(host, _)| {
            let address = host.parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        })
    }

    /// The hosts with their ports, as a URL writes them.
    pub fn hosts_text(&self) -> String {
        let host = |(host, port): &(String, u16)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        self.hosts.iter().map(host).collect::<Vec<_>>().join(",")
    }
}

fn secret(text: &str) -> Secret {
    Secret(percent_decode_str(text).collect())
}

fn decoded(text: &str) -> Result<String, Wrong> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into)
        .map_err(|_| ("a part of the URL is not UTF-8", EXAMPLE))
}

fn hosts_in(text: &str) -> Result<Vec<(String, u16)>, Wrong> {
    let hosts = text.split(',').filter(|host| !host.is_empty());
    hosts.map(host).collect()
}

fn host(text: &str) -> Result<(String, u16), Wrong> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let closed = rest.split_once(']');
            closed.ok_or(("the URL has a [ without a ]", EXAMPLE))?
        }
        None => text
            .find(':')
            .map_or((text, ""), |colon| text.split_at(colon)),
    };
    let host = decoded(host)?;
    if host.starts_with('/') || host.starts_with('@') {
        return Err((
            "the URL names a Unix socket",
            "name a host: Weir connects over TCP alone",
        ));
    }
    let port = match port {
        "" => PORT,
        port => port
            .strip_prefix(':')
            .and_then(|port| port.parse().ok())
            .ok_or((
                "the URL has a port that is no number",
                "write one such as db.example:5432, and encode / : @ ? in the password with %",
            ))?,
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Server {
        Server::parse(text).unwrap_or_else(|(what, _)| panic!("{text}: {what}"))
    }

    #[test]
    fn a_url_that_was_copied_is_read_as_its_writer_meant_it() {
        let server = parsed("postgres://weir:p%40s/s@w@db.example/shop?sslmode=verify-ca");
        assert_eq!(server.hosts, [("db.example".to_owned(), 5432)]);
        assert_eq!(server.password, Some(Secret(b"p@s/s@w".to_vec())));
        assert_eq!((&*server.user, &*server.database), ("weir", "shop"));
        assert_eq!(server.mode, Some(Mode::VerifyCa));
        let server = parsed(
            "postgresql://weir@a.example,b.example:6432,[::1]:7?target_session_attrs=read-write",
        );
        assert_eq!(server.hosts_text(), "a.example:5432,b.example:6432,[::1]:7");
        assert_eq!((&*server.database, server.password.clone()), ("weir", None));
        assert!(!server.is_loopback());
        assert!(parsed("postgres://w@localhost,127.0.0.2/x").is_loopback());
    }

    #[test]
    fn what_cannot_be_translated_is_named_and_the_url_is_not_quoted() {
        for (text, expected) in [
            ("mysql://weir@db/x", "does not start with"),
            ("postgres://db.example/x", "names no user"),
            ("postgres://weir@/x", "names no host"),
            ("postgres://weir@%2Frun%2Fpostgresql/x", "Unix socket"),
            ("postgres://weir:pa:ss@db:x/y", "port"),
            ("postgres://weir@db/x?sslmode=prefer", "may end without TLS"),
            ("postgres://weir@db/x?sslrootcert=ca.pem", "sslrootcert"),
            ("postgres://weir@db/x?options=-csearch_path%3Da", "options"),
            ("postgres://weir@db/x?schema=public", "schema"),
            ("postgres://weir:hidden?word@db/x", "port"),
            ("postgres://weir@db/x?word=hidden", "does not know"),
            (
                "postgres://weir@db/x?target_session_attrs=standby",
                "cannot be written",
            ),
        ] {
            let (what, help) = Server::parse(text).expect_err(text);
            assert!(what.contains(expected), "{text}: {what}");
            assert!(!what.contains("hidden") && !help.contains("hidden"));
        }
    }
}
