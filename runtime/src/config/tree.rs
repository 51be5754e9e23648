//! A TOML document whose values remember their place in a file, and the merging of several
//! documents.

use std::ops::RangeInclusive;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::text::{Cause, Complaint, Place, Source};

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The place of its first character.
    pub place: Place,
    /// The value.
    pub value: Value,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A number with a point.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A date or a time, as written.
    Datetime(String),
    /// A list.
    Array(Vec<Node>),
    /// A table.
    Table(Table),
}

impl Value {
    /// The type of the value in words, for complaints.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Integer(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Boolean(_) => "true or false",
            Value::Datetime(_) => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// Whether it is a table that stands for a scalar: `{ env = "NAME", default = "…" }` or `{ file
    /// = "path" }`.
    pub fn is_reference(&self) -> bool {
        match self {
            Value::Table(table) => {
                let only = |keys: &[&str]| {
                    table
                        .entries
                        .iter()
                        .all(|entry| keys.contains(&entry.key.as_str()))
                };
                (table.get("env").is_some() && only(&["env", "default"]))
                    || (table.get("file").is_some() && only(&["file"]))
            }
            _ => false,
        }
    }
}

/// A table. Its entries are in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The entries, with each key once.
    pub entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The place of the key.
    pub place: Place,
    /// The value.
    pub node: Node,
}

impl Table {
    /// The entry with this key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Removes and returns the entry with this key.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        let at = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(at))
    }
}

/// Maximum depth of nesting; a real configuration needs about eight levels.
const DEPTH_MAX: usize = 64;

/// Maximum number of complaints about syntax in a file; a file with more of them is something else.
const ERRORS_MAX: usize = 20;

/// Lines, from 1, from which nothing that was read can be trusted.
pub type Lines = RangeInclusive<usize>;

/// The first place, as an offset in bytes, at which a text is not TOML, and why.
pub fn syntax_error(text: &str) -> Option<(usize, String)> {
    if let Some(offset) = too_deep(text) {
        let what = format!("this is nested more than {DEPTH_MAX} levels deep");
        return Some((offset, what));
    }
    let error = DeTable::parse(text).err()?;
    let offset = error.span().map_or(0, |span| span.start);
    Some((offset, format!("this is not TOML: {}", error.message())))
}

/// Parses a document. Text that is not TOML becomes complaints and is added to `broken`; the rest
/// is read as far as possible.
pub fn parse(
    source: &Arc<Source>,
    complaints: &mut Vec<Complaint>,
    broken: &mut Vec<Lines>,
) -> Table {
    if let Some(offset) = too_deep(&source.text) {
        let what = format!("this is nested more than {DEPTH_MAX} levels deep");
        complaints.push(
            Complaint::at(&Place::new(source, offset), "", what, None).because(Cause::Syntax),
        );
        return Table::default();
    }
    let (table, errors) = DeTable::parse_recoverable(&source.text);
    if errors.len() > ERRORS_MAX {
        broken.push(1..=usize::MAX);
    }
    for error in errors.into_iter().take(ERRORS_MAX) {
        let place = Place::new(source, error.span().map_or(0, |span| span.start));
        let what = format!("this is not TOML: {}", error.message());
        broken.push(damage(&source.text, place.line()));
        complaints.push(Complaint::at(&place, "", what, None).because(Cause::Syntax));
    }
    Converter {
        source,
        complaints,
        broken,
    }
    .table(table.get_ref())
}

/// The lines that a mistake in `line` affects: after a broken table header, keys end up in the
/// table before it.
fn damage(text: &str, line: usize) -> Lines {
    let header = |line: &&str| line.trim_start().starts_with('[');
    let mut from_here = text.lines().skip(line - 1);
    let last = match from_here.next().filter(header) {
        Some(_) => line + from_here.take_while(|line| !header(line)).count(),
        None => line,
    };
    line..=last
}

/// Where a dotted key has so many parts (`a.a.a.…`) that its tables would nest deeper than the
/// stack allows. The parser itself bounds the nesting of brackets.
fn too_deep(text: &str) -> Option<usize> {
    let (mut dots, mut behind_part) = (0, false);
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            // A quoted part ends at the end of its line at the latest, so that a quotation mark in
            // prose does not hide the rest of the file.
            quote @ ('"' | '\'') => {
                behind_part = characters
                    .find(|(_, other)| *other == quote || *other == '\n')
                    .is_some()
            }
            '.' if behind_part => {
                (dots, behind_part) = (dots + 1, false);
                if dots > DEPTH_MAX {
                    return Some(at);
                }
            }
            ' ' | '\t' => {}
            part if part.is_ascii_alphanumeric() || part == '_' || part == '-' => {
                behind_part = true
            }
            _ => (dots, behind_part) = (0, false),
        }
    }
    None
}

struct Converter<'c> {
    source: &'c Arc<Source>,
    complaints: &'c mut Vec<Complaint>,
    broken: &'c mut Vec<Lines>,
}

impl Converter<'_> {
    fn table(&mut self, table: &DeTable<'_>) -> Table {
        let mut entries: Vec<(usize, Entry)> = Vec::with_capacity(table.len());
        for (key, value) in table {
            let start = key.span().start;
            let place = Place::new(self.source, start);
            let node = self.node(value.span().start, value.get_ref());
            entries.push((
                start,
                Entry {
                    key: key.get_ref().clone().into_owned(),
                    place,
                    node,
                },
            ));
        }
        entries.sort_by_key(|(start, _)| *start);
        Table {
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }

    fn node(&mut self, start: usize, value: &DeValue<'_>) -> Node {
        let place = Place::new(self.source, start);
        let value = match value {
            DeValue::String(text) => Value::String(text.clone().into_owned()),
            DeValue::Integer(number) => Value::Integer(
                i64::from_str_radix(number.as_str(), number.radix()).unwrap_or_else(|_| {
                    self.complain(&place, "this number is too large: it must fit in 64 bits");
                    0
                }),
            ),
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or_else(|_| {
                self.complain(&place, "this is not a number");
                0.0
            })),
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Datetime(time) => Value::Datetime(time.to_string()),
            DeValue::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.node(item.span().start, item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { place, value }
    }

    fn complain(&mut self, place: &Place, what: &str) {
        // One complaint per line is enough: a line that is broken already gets no other, and this
        // line counts as broken from now on.
        if self
            .broken
            .iter()
            .any(|lines| lines.contains(&place.line()))
        {
            return;
        }
        self.broken.push(place.line()..=place.line());
        self.complaints.push(Complaint::at(place, "", what, None));
    }
}

/// How two documents are merged where both set the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The later document wins; for files given with a later `-c`.
    Later,
    /// Neither wins, and a key set twice is a mistake; for files that are included.
    Beside,
}

/// Merges `over` into `base`: tables key by key, everything else as a whole.
pub fn merge(
    base: &mut Table,
    over: Table,
    how: Merge,
    path: &str,
    complaints: &mut Vec<Complaint>,
) {
    for entry in over.entries {
        let Some(old) = base.entries.iter_mut().find(|old| old.key == entry.key) else {
            base.entries.push(entry);
            continue;
        };
        let here = join(path, &entry.key);
        // A reference counts as a scalar, and a table with another `kind` replaces the old one.
        // Settings of a plugin are exempt from both rules.
        let whole = entry.key != "settings"
            && (old.node.value.is_reference()
                || entry.node.value.is_reference()
                || other_kind(&old.node.value, &entry.node.value));
        match (&mut old.node.value, entry.node.value) {
            (Value::Table(old), Value::Table(new)) if !whole => {
                merge(old, new, how, &here, complaints)
            }
            (_, value) if how == Merge::Later => {
                (old.place, old.node) = (
                    entry.place,
                    Node {
                        place: entry.node.place,
                        value,
                    },
                );
            }
            _ => {
                let what = format!("this key is already set at {:?}", old.place);
                let help = "included files must not set the same key; only a file given with a later -c overrides".to_owned();
                complaints.push(Complaint::at(&entry.place, here, what, help));
            }
        }
    }
}

fn other_kind(old: &Value, new: &Value) -> bool {
    let kind = |value: &Value| match value {
        Value::Table(table) => table.get("kind").and_then(|entry| match &entry.node.value {
            Value::String(kind) => Some(kind.clone()),
            _ => None,
        }),
        _ => None,
    };
    matches!((kind(old), kind(new)), (Some(old), Some(new)) if old != new)
}

/// The path of a key in a table, with quotes where TOML needs them.
pub fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || "-_".contains(character));
    let key = if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}
