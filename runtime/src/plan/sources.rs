//! Sources: the endpoints that accept events. How their senders are verified is in [`super::senders`].

mod bodies;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::notes::{Notes, is_name, named};
use super::secrets::is_header;
use super::senders::{Sender, sender};
use super::uses::uses;
use super::{Plugin, Source};
use crate::config::cursor::{Cursor, Field};
use crate::ingest::naming::IdFrom;
use crate::ingest::{self, BODY_BYTES_MAX};

/// A lower limit would reject ordinary events.
const BODY_BYTES: std::ops::RangeInclusive<u64> = 1024..=BODY_BYTES_MAX;

pub(super) fn sources(
    root: &mut Cursor<'_>,
    notes: &mut Notes<'_>,
    plugins: &BTreeMap<Arc<str>, Plugin>,
) -> BTreeMap<Arc<str>, Source> {
    let source = |field: Field<'_>| {
        notes.place(field.path(), field.place());
        let name: Arc<str> = field.key.into();
        field.table(|table| (name.clone(), source(name, table, notes, plugins)))
    };
    named(root, "sources")
        .into_iter()
        .filter_map(source)
        .collect()
}

fn source(
    name: Arc<str>,
    table: &mut Cursor<'_>,
    notes: &mut Notes<'_>,
    plugins: &BTreeMap<Arc<str>, Plugin>,
) -> Source {
    let owner = table.take("owner").and_then(|field| {
        let owner = field.string()?;
        if !is_name(&owner) {
            field.complain(
                format!("{owner:?} cannot be the name of an owner"),
                "write it as facets write it: owner = \"erp\"".to_owned(),
            );
        }
        Some(owner.into())
    });
    let bodies = bodies::bodies(table);
    let headers = table
        .take("headers")
        .map(|field| field.list(|item| item.parsed("a header pattern", HEADERS, header_pattern)));
    let id = table
        .take("id")
        .and_then(|field| field.table(id_from).flatten());
    let Sender {
        verify,
        mut naming,
        handshake,
    } = sender(table, notes);
    // These send nothing again, whatever the answer was.
    let sends_once = matches!(verify.kind(), "github" | "akeneo-events");
    naming.id = id.or(naming.id);
    let quiet = table.take("quiet").and_then(|field| {
        field.duration(Duration::from_secs(1)..=Duration::from_secs(365 * 86_400))
    });
    let body_max = table
        .take("body_max")
        .and_then(|field| field.size(BODY_BYTES));
    let options = ingest::Options {
        owner: owner.unwrap_or_else(|| name.clone()),
        name,
        split: bodies.split,
        headers: headers.unwrap_or_default(),
        naming,
        verify,
        handshake,
        quiet,
        body_bytes_max: body_max.unwrap_or(8 * 1024 * 1024),
        encoding: bodies.encoding,
        form: bodies.form,
        unreadable: bodies.unreadable.unwrap_or(sends_once),
    };
    Source {
        options,
        plugins: uses(table, notes, plugins, &[]),
        reply: bodies::reply(table),
    }
}

const HEADERS: &str = "write the name of a header, or its beginning and a *, such as \"X-Sap-*\"";

fn header_pattern(text: &str) -> Option<String> {
    let name = text.strip_suffix('*').unwrap_or(text);
    ((is_header(name) || (name.is_empty() && text == "*")) && !name.contains('*'))
        .then(|| text.to_lowercase())
}

/// Where events have their id.
fn id_from(table: &mut Cursor<'_>) -> Option<IdFrom> {
    let help = "write id = { header = \"X-Event-Id\" } or { pointer = \"/id\" }";
    match (table.take("header"), table.take("pointer")) {
        (Some(field), None) => field.parsed("the name of a header", help, |text| {
            is_header(text).then(|| IdFrom::Header(vec![text.to_lowercase()]))
        }),
        (None, Some(field)) => field.parsed("a JSON pointer", help, |text| {
            text.starts_with('/')
                .then(|| IdFrom::Pointer(text.to_owned()))
        }),
        (Some(_), Some(field)) => {
            field.complain("header is set as well", help.to_owned());
            None
        }
        (None, None) => {
            table.complain("it says neither header nor pointer", help.to_owned());
            None
        }
    }
}
