//! PostgreSQL in a configuration: reads the keys of a table and shows them.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::super::Outside;
use super::super::secrets::SECRET;
use super::{Configured, http, keys, word};
use crate::config::cursor::{Cursor, Field, Found};
use crate::config::scalar::duration_text;
use crate::plan::secrets::plain;
use crate::targets::Kind;
use crate::targets::http::Tls;
use crate::targets::postgres::{
    BATCH, CONCURRENCY, CONTENT, Delete, Mode, NAME_BYTES_MAX, Name, Options, Server, TIMEOUT,
    Value,
};

/// The columns of a target at most. A statement has an array for each, and PostgreSQL 1,600 columns.
const COLUMNS_MAX: usize = 1_000;

/// Reads the keys of a database; `None` after a complaint about one that it requires.
pub(super) fn read(table: &mut Cursor<'_>) -> Option<Kind> {
    let server = table
        .require(
            "url",
            "write url = { env = \"DATABASE_URL\" }, which holds one such as postgres://weir@db.example/shop",
        )
        .and_then(|field| server(&field));
    let login = table.take("auth").and_then(|field| field.table(login));
    let name = table
        .require("table", "write the name of the table, such as table = \"products\"")
        .and_then(|field| {
            let text = field.string()?;
            let name = Name::parse(&text);
            let parts = name.iter().flat_map(|name| [Some(&name.table), name.schema.as_ref()]);
            let is_wrong = |part: &String| part.len() > NAME_BYTES_MAX || part.contains('\0');
            if name.is_none() || parts.flatten().any(is_wrong) {
                field.complain(
                    format!("{text:?} cannot be the name of a table"),
                    format!("write table or schema.table, each of at most {NAME_BYTES_MAX} bytes; put a part with a dot into double quotes"),
                );
                return None;
            }
            name
        });
    let key = table
        .take("key")
        .map_or(Some("key".to_owned()), |field| column(&field));
    let sequence = table
        .take("sequence")
        .map_or(Some("sequence".to_owned()), |field| column(&field));
    let columns = table.take("columns").map(|field| columns(&field));
    let delete = table
        .take("delete")
        .map_or(Some(Delete::Row), |field| delete(&field));
    let tls = table.take("tls").map(|field| (field.table(tls), field));
    let timeout = table
        .take("timeout")
        .and_then(|field| field.duration(Duration::from_millis(100)..=Duration::from_secs(600)));
    let egress = table
        .take("egress")
        .and_then(|field| field.one_of(&http::EGRESS));

    let (mut server, key, sequence, delete) = (server?, key?, sequence?, delete?);
    if let Some(Some((user, password))) = login {
        (server.user, server.password) = (user, Some(password));
    }
    let (mode, files) = match &tls {
        Some((Some(tls), field)) => {
            let both = server.mode.zip(tls.0);
            if both.is_some_and(|(in_url, here)| in_url != here) {
                field.complain(
                    "the URL has another sslmode than tls.mode says",
                    "leave one of them out".to_owned(),
                );
            }
            (tls.0, tls.1.clone())
        }
        _ => (None, Tls::default()),
    };
    let usual = match server.is_loopback() {
        true => Mode::Disable,
        false => Mode::VerifyFull,
    };
    let columns = columns.unwrap_or_default();
    let flag = match &delete {
        Delete::Flag(flag) => Some(flag.as_str()),
        Delete::Row => None,
    };
    let content = columns.is_empty().then_some(CONTENT);
    let values = columns.iter().map(|column| column.name.as_str());
    let mut all: Vec<&str> = values.chain([key.as_str(), sequence.as_str()]).collect();
    all.extend(flag.into_iter().chain(content));
    all.sort_unstable();
    if let Some(twice) = all.windows(2).find(|pair| pair[0] == pair[1]) {
        table.complain(
            format!("the column {:?} is written twice", twice[0]),
            "key, sequence, columns and the flag of delete each need a column of their own"
                .to_owned(),
        );
    }
    Some(Kind::Postgres(Box::new(Options {
        mode: mode.or(server.mode).unwrap_or(usual),
        server,
        table: name?,
        key,
        sequence,
        columns,
        delete,
        tls: files,
        timeout: timeout.unwrap_or(TIMEOUT),
        egress: egress.unwrap_or_default(),
    })))
}

/// Reads a URL, which may be a secret.
fn server(field: &Field<'_>) -> Option<Server> {
    let text = if field.is_from_outside() {
        match field.secret()? {
            Found::Secret(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // It is not used.
            Found::LeftOut => "postgres://left-out@localhost".to_owned(),
        }
    } else {
        field.string()?
    };
    match Server::parse(&text) {
        Ok(server) => Some(server),
        Err((what, help)) => {
            field.complain_of_secret(what, help.to_owned());
            None
        }
    }
}

fn login(table: &mut Cursor<'_>) -> Option<(String, crate::signature::Secret)> {
    let user = table
        .require("user", "write user = \"…\"")
        .and_then(|field| field.string());
    let password = table
        .require("password", "write password = { env = \"NAME\" }")
        .and_then(|field| plain(&field));
    Some((user?, password?))
}

fn column(field: &Field<'_>) -> Option<String> {
    let name = field.string()?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        field.complain(
            format!("{name:?} cannot be the name of a column"),
            format!("write 1 to {NAME_BYTES_MAX} bytes; PostgreSQL cuts longer names"),
        );
        return None;
    }
    Some(name)
}

fn columns(field: &Field<'_>) -> Vec<Value> {
    let columns = field.table(|table| table.all()).unwrap_or_default();
    if columns.is_empty() || columns.len() > COLUMNS_MAX {
        field.complain(
            format!("{} columns are given", columns.len()),
            format!("write 1 to {COLUMNS_MAX}, or leave columns out: then the rendering is in the column {CONTENT:?}"),
        );
    }
    let value = |field: Field<'_>| {
        let pointer = field.string()?;
        let name = field.key;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            field.complain_of_key(
                format!("{:?} cannot be the name of a column", field.key),
                format!("write 1 to {NAME_BYTES_MAX} bytes; PostgreSQL cuts longer names"),
            );
        }
        let value = Value::new(field.key, &pointer);
        if value.is_none() {
            field.complain(
                format!("{pointer:?} is not a pointer into the rendering"),
                "write one such as \"/price/amount\"; ~1 is a / in a name, ~0 a ~".to_owned(),
            );
        }
        value
    };
    columns.into_iter().filter_map(value).collect()
}

fn delete(field: &Field<'_>) -> Option<Delete> {
    let help = "write \"row\", or { flag = \"deleted\" } with the name of a boolean column";
    if !field.is_table() {
        return match field.string()?.as_str() {
            "row" => Some(Delete::Row),
            other => {
                field.complain(format!("{other:?} is no way to delete"), help.to_owned());
                None
            }
        };
    }
    let flag = field.table(|table| table.require("flag", help).and_then(|field| column(&field)));
    flag.flatten().map(Delete::Flag)
}

fn tls(table: &mut Cursor<'_>) -> (Option<Mode>, Tls) {
    let mode = table
        .take("mode")
        .and_then(|field| field.one_of(&Mode::ALL));
    (mode, http::tls(table))
}

impl Configured for Options {
    fn shown(&self, outside: &Outside) -> Map<String, Json> {
        let Server {
            hosts: _,
            database,
            user,
            password,
            application: _,
            mode: _,
        } = &self.server;
        let hosts = self.server.hosts_text();
        // All of it may come from a text outside of the file, of which only the hosts are shown.
        let _ = (database, user);
        let url = match password.is_some() || outside.is_in(&hosts) {
            true => format!("postgres://{hosts}/{SECRET}"),
            false => format!("postgres://{user}@{hosts}/{database}"),
        };
        let columns: Map<String, Json> = self
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.pointer.clone().into()))
            .collect();
        let delete = match &self.delete {
            Delete::Row => json!("row"),
            Delete::Flag(flag) => json!({"flag": flag}),
        };
        let identity = self.tls.identity.as_ref();
        keys([
            ("kind", "postgres".into()),
            ("url", url.into()),
            ("table", self.table.to_string().into()),
            ("key", self.key.clone().into()),
            ("sequence", self.sequence.clone().into()),
            (
                "columns",
                match columns.is_empty() {
                    true => Json::Null,
                    false => columns.into(),
                },
            ),
            ("delete", delete),
            (
                "tls",
                json!({
                    "mode": word(&Mode::ALL, self.mode),
                    "ca": self.tls.ca.as_ref().map(|_| "[certificates]"),
                    "cert": identity.map(|_| "[certificates]"),
                    "key": identity.map(|_| SECRET),
                }),
            ),
            ("timeout", duration_text(self.timeout).into()),
            ("egress", word(&http::EGRESS, self.egress).into()),
        ])
    }

    fn batch(&self) -> (usize, usize) {
        BATCH
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }
}

#[cfg(test)]
mod tests {
    use super::super::inline;
    use super::*;

    /// Reads a target with these lines; the URL is in the environment.
    fn target(url: &str, lines: &str) -> Result<Options, String> {
        let keys = format!("kind = \"postgres\"\nurl = {{ env = \"DATABASE_URL\" }}\n{lines}");
        let plan = inline(&keys, &[("DATABASE_URL", url)])?;
        match &plan.targets["a"].kind {
            Kind::Postgres(options) => Ok((**options).clone()),
            other => panic!("{other:?}"),
        }
    }

    const URL: &str = "postgres://weir:hidden-word@db.example/shop";

    #[test]
    fn what_is_left_out_has_its_usual_value() {
        let options = target(URL, "table = \"products\"").expect("it is right");
        assert_eq!((&*options.key, &*options.sequence), ("key", "sequence"));
        assert_eq!(
            (options.mode, options.delete.clone()),
            (Mode::VerifyFull, Delete::Row)
        );
        let loopback = "postgres://weir@127.0.0.1/shop";
        let mode = |url: &str, lines: &str| {
            let lines = format!("table = \"products\"\n{lines}");
            target(url, &lines).expect("it is right").mode
        };
        assert_eq!(mode(loopback, ""), Mode::Disable);
        assert_eq!(
            mode(&format!("{loopback}?sslmode=require"), ""),
            Mode::Require
        );
        assert_eq!(mode(URL, "tls = { mode = \"verify-ca\" }"), Mode::VerifyCa);
        let shown = options.shown(&Outside::default());
        assert_eq!(shown["url"], "postgres://db.example:5432/[secret]");
    }

    #[test]
    fn what_cannot_work_is_said_without_the_url() {
        let long = "x".repeat(64);
        for (url, lines, words) in [
            (URL, "", "table is missing"),
            (URL, "table = \"a.b.c\"", "cannot be the name of a table"),
            (
                URL,
                &*format!("table = \"{long}\""),
                "cannot be the name of a table",
            ),
            (
                URL,
                &*format!("table = \"a\"\nkey = \"{long}\""),
                "PostgreSQL cuts longer names",
            ),
            (
                URL,
                &*format!("table = \"a\"\ncolumns = {{ {long} = \"/a\" }}"),
                "cannot be the name of a column",
            ),
            (
                URL,
                "table = \"a\"\ncolumns = { \"a\\u0000\" = \"/a\" }",
                "cannot be the name of a column",
            ),
            (URL, "table = \"a\\u0000\"", "cannot be the name of a table"),
            (
                URL,
                "table = \"a\"\ncolumns = { a = \"b\" }",
                "is not a pointer",
            ),
            (
                URL,
                "table = \"a\"\ncolumns = { key = \"/a\" }",
                "\"key\" is written twice",
            ),
            (
                URL,
                "table = \"a\"\ndelete = \"soft\"",
                "is no way to delete",
            ),
            (URL, "table = \"a\"\ntls = { mode = \"prefer\" }", "mode"),
            (
                "postgres://weir:hidden-word@db.example/shop?sslmode=require",
                "table = \"a\"\ntls = { mode = \"disable\" }",
                "another sslmode",
            ),
            (
                "postgres://weir:hidden-word@db.example/shop?pool=hidden-word",
                "table = \"a\"",
                "does not know",
            ),
            (
                "mysql://weir:hidden-word@db.example/shop",
                "table = \"a\"",
                "does not start with postgres://",
            ),
        ] {
            let wrong = target(url, lines).expect_err(lines);
            assert!(
                wrong.contains(words) && !wrong.contains("hidden-word"),
                "{lines}: {wrong}"
            );
        }
    }
}
