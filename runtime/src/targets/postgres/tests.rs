//! A table as a target, beside a real PostgreSQL. Most tests share a server and have a table each; those that
//! stop or break it have one of their own.

mod check;
mod connections;
mod forgot;
mod held;
mod rows;
mod tls;
mod trouble;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::model::Sequence;
use crate::targets::Foreign;
use crate::targets::postgres_server::{Holder, PgBouncer, Postgres as Server15, url};
use crate::targets::sample::{attempt, item};

const PROVES: &str = "rows of PostgreSQL";

/// Options for a table of this server, with the whole rendering in `content`.
fn options(url: &str, table: &str) -> Options {
    let server = Server::parse(url).expect("a URL");
    Options {
        server,
        table: Name::parse(table).expect("a name"),
        key: "key".into(),
        sequence: "sequence".into(),
        columns: Vec::new(),
        delete: Delete::Row,
        mode: Mode::Disable,
        tls: Tls::default(),
        timeout: Duration::from_secs(10),
        egress: Egress::Private,
    }
}

fn columns(columns: &[(&str, &str)]) -> Vec<Value> {
    let columns = columns.iter();
    let value = |(name, pointer): &(&str, &str)| Value::new(name, pointer).expect("a pointer");
    columns.map(value).collect()
}

/// A table on a server, and the target that delivers to it.
struct Table<'s> {
    server: &'s Server15,
    name: &'static str,
    target: Postgres,
}

impl<'s> Table<'s> {
    /// Creates it with these columns, as Weir's own, and opens it.
    fn create(server: &'s Server15, name: &'static str, definition: &str) -> Table<'s> {
        Table::with(server, name, definition, |_| {})
    }

    fn with(
        server: &'s Server15,
        name: &'static str,
        definition: &str,
        change: impl FnOnce(&mut Options),
    ) -> Table<'s> {
        server.sql(&format!(
            "SET ROLE weir; DROP TABLE IF EXISTS {name} CASCADE; CREATE TABLE {name} ({definition})"
        ));
        let mut options = options(&server.url(), name);
        change(&mut options);
        Table {
            server,
            name,
            target: Postgres::open(&options).expect("options"),
        }
    }

    async fn put(&self, items: &[Item]) -> Vec<Outcome> {
        deliver(&self.target, items, 1_000, None).await
    }

    /// All of it must be delivered.
    async fn takes(&self, items: &[Item]) {
        let outcomes = self.put(items).await;
        let wrong = outcomes
            .iter()
            .find(|outcome| **outcome != Outcome::Delivered);
        assert_eq!(wrong, None);
    }

    /// The outcome of one item.
    async fn one(&self, item: Item) -> Outcome {
        self.put(&[item]).await.remove(0)
    }

    fn rows(&self, columns: &str) -> String {
        let name = self.name;
        self.server.sql(&format!(
            "SET timezone = 'UTC'; SELECT {columns} FROM {name} ORDER BY 1"
        ))
    }
}

const CONTENT_TABLE: &str = "key text PRIMARY KEY, sequence bigint NOT NULL, content jsonb";
const FLAG_TABLE: &str =
    "key text PRIMARY KEY, sequence bigint NOT NULL, content jsonb, deleted boolean";

async fn deliver(
    target: &Postgres,
    items: &[Item],
    head: u64,
    foreign: Option<Foreign>,
) -> Vec<Outcome> {
    let attempt = Attempt {
        head: Sequence(head),
        foreign,
        ..attempt(items)
    };
    target.deliver(attempt).await.outcomes
}

fn row(key: &str, sequence: u64, content: &Json) -> Item {
    item(key, sequence, Some(&content.to_string()))
}

fn gone(key: &str, sequence: u64) -> Item {
    item(key, sequence, None)
}

fn key(number: usize) -> String {
    format!("e{number:05}")
}

fn many(numbers: std::ops::Range<usize>, sequence: u64) -> Vec<Item> {
    let row = |number| row(&key(number), sequence, &json!({"n": number}));
    numbers.map(row).collect()
}

/// Waits until the server answers this.
async fn becomes(server: &Server15, question: &str, expected: &str) {
    for _ in 0..12_000 {
        if server.sql(question) == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{question}: never {expected}");
}

/// The reason of an outcome, after its word.
fn said(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Retry {
            reason,
            maybe_applied,
        } => format!("retry, maybe {maybe_applied}: {reason}"),
        Outcome::Refused {
            reason,
            after_tries,
        } => format!("refused, after tries {after_tries}: {reason}"),
        Outcome::Trip { reason } => format!("trip: {reason}"),
        Outcome::Split { reason, .. } => format!("split: {reason}"),
        Outcome::Forgot { reason } => format!("forgot: {reason}"),
        Outcome::Ahead { reason, sequence } => format!("ahead {sequence}: {reason}"),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn is(outcome: &Outcome, words: &[&str]) {
    let said = said(outcome);
    for word in words {
        assert!(said.contains(word), "{word:?} in {said:?}");
    }
}
