//! Targets: where deliveries go. A target has its own table or is inline in a channel.
//!
//! This file reads and shows what all kinds have in common. Each kind has its own file that reads
//! and shows the rest.

mod answers;
mod brokers;
mod bucket;
mod feed;
mod file;
pub(super) mod http;
mod kafka;
mod nats;
mod oauth2;
mod postgres;
#[cfg(test)]
mod scripted;
mod search;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

pub(super) use self::webhook::{receiver, shown_receiver};
use super::Outside;
use super::notes::{Notes, expanded, named};
use crate::config::cursor::Cursor;
use crate::config::scalar;
use crate::config::text::suggestion;
use crate::targets::{Cost, Kind, Options};

/// The words that keys have, for the schema of the configuration.
pub(super) mod words {
    pub(in crate::plan) use super::answers::{BY, OF, VERDICTS};
    pub(in crate::plan) use super::feed::{ENCODINGS, FORMATS as FEEDS, FORMULAS, QUOTINGS};
    pub(in crate::plan) use super::http::{COMPRESS, EGRESS};
    pub(in crate::plan) use super::oauth2::{BODIES, CLIENT_AUTH, GRANTS};
    pub(in crate::plan) use super::webhook::{FORMATS, FORMS};
}

/// Reads the keys of a kind; `None` after a complaint about a key that it requires.
type Read = fn(&mut Cursor<'_>) -> Option<Kind>;

/// The kinds, by the word in `kind`.
const KINDS: &[(&str, Read)] = &[
    ("webhook", webhook::read),
    ("search", search::read),
    ("postgres", postgres::read),
    ("nats", nats::read),
    ("kafka", kafka::read),
    ("bucket", bucket::read),
    ("file", file::read),
    ("feed", feed::read),
    #[cfg(test)]
    ("scripted", scripted::read),
];

/// The words of the kinds that there are.
#[cfg(test)]
pub(super) fn kind_words() -> Vec<&'static str> {
    let words = KINDS.iter().map(|(word, _)| *word);
    words.filter(|word| *word != "scripted").collect()
}

/// What the plan needs from the options of a kind.
trait Configured {
    /// The effective values of the kind's own keys and of `kind`, with secrets hidden.
    fn shown(&self, outside: &Outside) -> Map<String, Value>;

    /// Why a channel cannot send several entities in one request, and what to do instead; `None` if
    /// it can.
    fn refuses_batches(&self) -> Option<(&'static str, &'static str)> {
        None
    }

    /// The entities and the bytes of a request, unless the channel says otherwise.
    fn batch(&self) -> (usize, usize) {
        (1, 1024 * 1024)
    }

    /// The requests in flight, unless the target or its pace says otherwise.
    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    /// Whether each name in a rendering becomes a field of a mapping: their number is bounded, and a dot in
    /// a name opens an object.
    fn maps_fields(&self) -> bool {
        false
    }

    /// Why nothing may be suppressed, because nobody knows what became of a delivery; `None` if it may.
    fn never_suppresses(&self) -> Option<&'static str> {
        None
    }

    /// Where several channels would overwrite each other's entities, and what to do instead; `None` if
    /// they may share it.
    fn exclusive(&self) -> Option<(String, &'static str)> {
        None
    }
}

fn configured(kind: &Kind) -> &dyn Configured {
    match kind {
        Kind::Webhook(options) => &**options,
        Kind::Search(options) => &**options,
        Kind::Postgres(options) => &**options,
        Kind::Nats(options) => &**options,
        Kind::Kafka(options) => &**options,
        Kind::Bucket(options) => &**options,
        Kind::File(options) => &**options,
        Kind::Feed(options) => &**options,
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
    /// The paces that targets share, by name.
    paces: BTreeMap<String, Pace>,
    /// Names of the tables with `for_each`, with the table of rows that they expand.
    pub(super) for_each: BTreeMap<String, String>,
    /// The names of those that are inline in a channel.
    pub(super) inline: BTreeSet<Arc<str>>,
    /// The former names of those whose row has another name now.
    pub(super) renamed: BTreeMap<Arc<str>, Arc<str>>,
}

/// The requests in flight of most targets, unless configured.
const CONCURRENCY: usize = 8;

/// Slots, rate, and what the rate counts.
#[derive(Clone, Copy)]
struct Pace {
    concurrency: usize,
    rate: Option<f64>,
    cost: Cost,
}

impl Targets {
    /// The former names of targets that have another one now; not those that another target has now.
    pub(super) fn former_names(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let renamed = self.renamed.iter();
        let free = renamed.filter(|(_, was)| !self.by_name.contains_key(*was));
        free.map(|(name, was)| (name.clone(), was.clone()))
            .collect()
    }

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
    for field in named(root, "paces") {
        notes.place(field.path(), field.place());
        if let Some(pace) = field.table(|table| pace(table, CONCURRENCY)) {
            targets.paces.insert(field.key.to_owned(), pace);
        }
    }
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
                    if let Some(was) = &row.was {
                        let was = format!("{}.{was}", field.key).into();
                        targets.renamed.insert(name.clone(), was);
                    }
                }
                let options = target(name.clone(), table, &targets);
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

/// Reads slots, rate, and what the rate counts.
fn pace(table: &mut Cursor<'_>, usual_concurrency: usize) -> Pace {
    let concurrency = table
        .take("concurrency")
        .and_then(|field| field.integer(1..=1024))
        .and_then(|requests| usize::try_from(requests).ok());
    let cost = table
        .take("cost")
        .and_then(|field| field.one_of(&Cost::WORDS))
        .unwrap_or_default();
    let rate = table.take("rate").and_then(|field| match cost {
        Cost::Bytes => field.parsed("a rate of bytes", scalar::BYTE_RATE, scalar::byte_rate),
        Cost::Requests | Cost::Items => field.parsed("a rate", scalar::RATE, scalar::rate),
    });
    Pace {
        concurrency: concurrency.unwrap_or(usual_concurrency),
        rate,
        cost,
    }
}

/// Reads one target from its table, which may be inline in a channel. Returns `None` after a
/// complaint about something that a target requires.
pub(super) fn target(name: Arc<str>, table: &mut Cursor<'_>, targets: &Targets) -> Option<Options> {
    let word = table
        .require("kind", "write kind = \"webhook\"")
        .and_then(|field| Some((field.string()?, field)));
    let read = word.and_then(|(word, field)| {
        let found = KINDS.iter().find(|(kind, _)| *kind == word);
        if found.is_none() {
            let known = KINDS.iter().map(|(kind, _)| *kind);
            let what = format!("there is no target kind {word:?}");
            field.complain(what, suggestion(&word, known));
        }
        found
    });
    let Some((_, read)) = read else {
        // Which keys are right depends on the kind.
        table.all();
        return None;
    };
    let kind = read(table);
    let shared = table.take("pace").and_then(|field| {
        let name = field.string()?;
        let found = targets.paces.get(&name).copied();
        if found.is_none() {
            let known = targets.paces.keys().map(String::as_str);
            field.complain_of_missing(
                format!("there is no pace {name:?}"),
                suggestion(&name, known)
                    .or_else(|| Some(format!("write [paces.{name}] with rate and concurrency"))),
            );
        }
        Some((Arc::from(name), found?))
    });
    let own = ["concurrency", "rate", "cost"];
    if shared.is_some()
        && let Some(field) = own.into_iter().find_map(|key| table.take(key))
    {
        field.complain_of_key(
            format!("{} belongs to the pace that the target shares", field.key),
            "write it into the pace, or leave pace out".to_owned(),
        );
    }
    let Pace {
        concurrency,
        rate,
        cost,
    } = match &shared {
        Some((_, pace)) => *pace,
        None => {
            let usual = kind.as_ref().map(|kind| configured(kind).concurrency());
            pace(table, usual.unwrap_or(CONCURRENCY))
        }
    };
    Some(Options {
        name,
        concurrency,
        rate,
        cost,
        pace: shared.map(|(name, _)| name),
        kind: kind?,
    })
}

/// See [`Configured::refuses_batches`].
pub(super) fn refuses_batches(target: &Options) -> Option<(&'static str, &'static str)> {
    configured(&target.kind).refuses_batches()
}

/// See [`Configured::batch`].
pub(super) fn usual_batch(target: &Options) -> (usize, usize) {
    configured(&target.kind).batch()
}

/// See [`Configured::maps_fields`].
pub(super) fn maps_fields(target: &Options) -> bool {
    configured(&target.kind).maps_fields()
}

/// See [`Configured::never_suppresses`].
pub(super) fn never_suppresses(target: &Options) -> Option<&'static str> {
    configured(&target.kind).never_suppresses()
}

/// See [`Configured::exclusive`].
pub(super) fn exclusive(target: &Options) -> Option<(String, &'static str)> {
    configured(&target.kind).exclusive()
}

/// A target as a file would write it, with secrets hidden.
pub(super) fn shown(target: &Options, outside: &Outside) -> Value {
    let mut shown = configured(&target.kind).shown(outside);
    shown.insert("pace".into(), target.pace.as_deref().into());
    shown.insert("concurrency".into(), target.concurrency.into());
    let rate_text = match target.cost {
        Cost::Bytes => scalar::byte_rate_text,
        Cost::Requests | Cost::Items => scalar::rate_text,
    };
    shown.insert("rate".into(), target.rate.map(rate_text).into());
    shown.insert("cost".into(), target.cost.word().into());
    Value::Object(shown)
}

/// Keys with their values, as a map.
fn keys<'k>(shown: impl IntoIterator<Item = (&'k str, Value)>) -> Map<String, Value> {
    let owned = |(key, value): (&str, Value)| (key.to_owned(), value);
    shown.into_iter().map(owned).collect()
}

/// The word that a configuration writes for a value.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: T) -> Option<&'static str> {
    words
        .iter()
        .find(|(_, one)| *one == value)
        .map(|(word, _)| *word)
}

/// The plan of a configuration whose only channel `a` has an inline target of these keys, or the complaints.
/// Tables may follow the keys.
#[cfg(test)]
fn inline(keys: &str, variables: &[(&str, &str)]) -> Result<super::Plan, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("weir.toml");
    let text = format!(
        r#"config_version = 1
[entities.product]
facets.content = {{ owner = "pim" }}
[channels.a]
entity = "product"
facets = ["content"]
[channels.a.target]
{keys}
"#
    );
    std::fs::write(&file, text).expect("a file");
    let options = super::ReadOptions { secrets: true };
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let read = super::read(&[file], &variable, options);
    read.map(|(plan, _)| plan)
        .map_err(|wrong| super::render(&wrong))
}
