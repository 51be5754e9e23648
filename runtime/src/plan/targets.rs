//! Targets: where deliveries go. A target has its own table or is inline in a channel.
//!
//! This file reads and shows what all kinds have in common. Each kind has its own file that reads
//! and shows the rest.

mod answers;
#[cfg(test)]
mod scripted;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Outside;
use super::notes::{Notes, expanded, named};
use crate::config::cursor::Cursor;
use crate::config::scalar;
use crate::targets::{Kind, Options};

/// Reads the keys of a kind; `None` after a complaint about a key that it requires.
type Read = fn(&mut Cursor<'_>) -> Option<Kind>;

/// The kinds, by the word in `kind`.
const KINDS: &[(&str, Read)] = &[
    ("webhook", webhook::read),
    #[cfg(test)]
    ("scripted", scripted::read),
];

/// What the plan needs from the options of a kind.
trait Configured {
    /// The effective values of the kind's own keys and of `kind`, with secrets hidden.
    fn shown(&self, outside: &Outside) -> Map<String, Value>;

    /// Why a channel cannot send several entities in one request, and what to do instead; `None` if
    /// it can.
    fn refuses_batches(&self) -> Option<(&'static str, &'static str)>;
}

fn configured(kind: &Kind) -> &dyn Configured {
    match kind {
        Kind::Webhook(options) => options,
        #[cfg(test)]
        Kind::Scripted(options) => options,
    }
}

/// The targets that were read, with the data that channels need.
#[derive(Default)]
pub(super) struct Targets {
    /// Targets by name, with rows expanded. The value is `None` after a complaint about the target,
    /// so that channels may still name it.
    pub(super) by_name: BTreeMap<Arc<str>, Option<Options>>,
    /// Names of the tables with `for_each`, with the table of rows that they expand.
    pub(super) for_each: BTreeMap<String, String>,
}

impl Targets {
    /// The targets that can be used.
    pub(super) fn usable(self) -> BTreeMap<Arc<str>, Options> {
        self.by_name
            .into_iter()
            .filter_map(|(name, options)| Some((name, options?)))
            .collect()
    }
}

pub(super) fn targets<'a>(root: &mut Cursor<'a>, notes: &mut Notes<'a>) -> Targets {
    let mut targets = Targets::default();
    for field in named(root, "targets") {
        notes.place(field.path(), field.place());
        field.table(|table| {
            for row in notes.rows_of(table) {
                let name: Arc<str> = expanded(field.key, row).into();
                if let Some(row) = row {
                    table.fill_from(row);
                    targets
                        .for_each
                        .insert(field.key.to_owned(), row.table.clone());
                }
                let options = target(name.clone(), table);
                if targets.by_name.insert(name.clone(), options).is_some() {
                    table.complain(
                        format!("there are two targets named {name:?}"),
                        "rename one of them".to_owned(),
                    );
                }
                notes.place(&format!("targets.{name}"), field.place());
            }
        });
    }
    targets
}

/// Reads one target from its table, which may be inline in a channel. Returns `None` after a
/// complaint about something that a target requires.
pub(super) fn target(name: Arc<str>, table: &mut Cursor<'_>) -> Option<Options> {
    let word = table
        .require("kind", "write kind = \"webhook\"")
        .and_then(|field| Some((field.string()?, field)));
    let read = word.and_then(|(word, field)| {
        let found = KINDS.iter().find(|(kind, _)| *kind == word);
        if found.is_none() {
            let known: Vec<_> = KINDS.iter().map(|(kind, _)| format!("{kind:?}")).collect();
            field.complain(
                format!("there is no target kind {word:?}"),
                format!("write {}", known.join(" or ")),
            );
        }
        found
    });
    // The keys of a wrong kind are most likely those of a webhook.
    let (_, read) = read.unwrap_or(&KINDS[0]);
    let kind = read(table);
    let concurrency = table
        .take("concurrency")
        .and_then(|field| field.integer(1..=1024))
        .and_then(|requests| usize::try_from(requests).ok());
    let rate = table
        .take("rate")
        .and_then(|field| field.parsed("a rate", scalar::RATE, scalar::rate));
    Some(Options {
        name,
        concurrency: concurrency.unwrap_or(8),
        rate,
        kind: kind?,
    })
}

/// See [`Configured::refuses_batches`].
pub(super) fn refuses_batches(target: &Options) -> Option<(&'static str, &'static str)> {
    configured(&target.kind).refuses_batches()
}

/// A target as a file would write it, with secrets hidden.
pub(super) fn shown(target: &Options, outside: &Outside) -> Value {
    let mut shown = configured(&target.kind).shown(outside);
    shown.insert("concurrency".into(), target.concurrency.into());
    shown.insert("rate".into(), target.rate.map(scalar::rate_text).into());
    Value::Object(shown)
}

/// The word that a configuration writes for a value.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> Option<&'static str> {
    words
        .iter()
        .find(|(_, one)| *one == value)
        .map(|(word, _)| *word)
}
