//! Makes rows from items: one text for each column, as the server will cast it.
//!
//! Nothing is repaired. A text that PostgreSQL cannot hold is refused with the pointer to it, because a
//! text without its NUL or half of a character would be another one. Numbers stay as they are written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use memchr::memmem;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Options;
use super::table::{Column, Form};
use crate::model::Payload;
use crate::targets::Item;

/// What an attempt writes, in the order in which it locks rows.
#[derive(Debug, Default)]
pub(super) struct Rows<'a> {
    /// The places of the items in the attempt.
    pub(super) places: Vec<usize>,
    pub(super) keys: Vec<&'a str>,
    pub(super) sequences: Vec<i64>,
    /// The values of each column; none for deletions.
    pub(super) values: Vec<Vec<Option<Cow<'a, str>>>>,
}

/// The rows of an attempt.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    pub(super) puts: Rows<'a>,
    pub(super) deletes: Rows<'a>,
    /// The items that cannot be a row, and why.
    pub(super) refused: Vec<(usize, String)>,
    /// The items of an older state of a key, and the place of its newest.
    pub(super) older: Vec<(usize, usize)>,
}

/// A column of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The column.
    pub name: String,
    /// The pointer into the rendering, as written.
    pub pointer: String,
    path: Vec<String>,
}

impl Value {
    /// A column with a JSON pointer (RFC 6901) into the rendering. `None` if it is no pointer.
    pub fn new(name: &str, pointer: &str) -> Option<Value> {
        let tokens = match pointer {
            "" => Vec::new(),
            pointer => pointer.strip_prefix('/')?.split('/').collect(),
        };
        let fine = |token: &str| {
            let mut tildes = token.match_indices('~');
            tildes.all(|(at, _)| matches!(token.as_bytes().get(at + 1), Some(b'0' | b'1')))
        };
        tokens.iter().all(|token| fine(token)).then(|| Value {
            name: name.to_owned(),
            pointer: pointer.to_owned(),
            path: tokens
                .into_iter()
                .map(|token| token.replace("~1", "/").replace("~0", "~"))
                .collect(),
        })
    }
}

/// The values that columns want, as a tree of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    columns: Vec<usize>,
    children: Vec<(String, Wanted)>,
}

impl Wanted {
    pub(super) fn new(columns: &[Value]) -> Wanted {
        let mut root = Wanted::default();
        // Without columns the whole rendering is the content.
        if columns.is_empty() {
            root.columns.push(0);
        }
        for (at, column) in columns.iter().enumerate() {
            let mut node = &mut root;
            for name in &column.path {
                let known = node.children.iter().position(|(known, _)| known == name);
                let child = known.unwrap_or_else(|| {
                    node.children.push((name.clone(), Wanted::default()));
                    node.children.len() - 1
                });
                node = &mut node.children[child].1;
            }
            node.columns.push(at);
        }
        root
    }

    /// Finds the values in a JSON text.
    fn find<'a>(
        &self,
        text: &'a str,
        found: &mut [Option<&'a str>],
    ) -> Result<(), serde_json::Error> {
        self.columns.iter().for_each(|at| found[*at] = Some(text));
        if self.children.is_empty() {
            return Ok(());
        }
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => {
                let mut reader = serde_json::Deserializer::from_str(text);
                let members = Members(self).deserialize(&mut reader)?;
                reader.end()?;
                // Of a name that is there twice the last counts, as in jsonb.
                for (at, value) in members.into_iter().enumerate() {
                    if let Some(value) = value {
                        self.children[at].1.find(value.get(), found)?;
                    }
                }
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text)?;
                for (name, wanted) in &self.children {
                    let element = name.parse::<usize>().ok().and_then(|at| elements.get(at));
                    if let Some(element) = element {
                        wanted.find(element.get(), found)?;
                    }
                }
            }
            _ => {
                serde_json::from_str::<IgnoredAny>(text)?;
            }
        }
        Ok(())
    }
}

/// Reads the wanted members of an object, and passes over the others.
struct Members<'w>(&'w Wanted);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.children.len()];
        while let Some(name) = map.next_key::<String>()? {
            match self.0.children.iter().position(|(known, _)| *known == name) {
                Some(at) => found[at] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// Makes the rows of an attempt: sorted by the bytes of their keys, each key once with its newest state.
/// All connections lock rows in this order, so that none waits for another that waits for it.
pub(super) fn sort<'a>(
    items: &'a [Item],
    options: &Options,
    wanted: &Wanted,
    columns: &[Column],
) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    let mut newest: HashMap<&str, usize> = HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let known = newest.entry(&item.key).or_insert(at);
        let rank = |at: usize| (items[at].sequence, items[at].rendering.is_some());
        if *known != at {
            let older = if rank(at) >= rank(*known) {
                std::mem::replace(known, at)
            } else {
                at
            };
            sorted.older.push((older, at));
        }
    }
    for (older, by) in &mut sorted.older {
        *by = newest[&*items[*older].key];
    }
    let mut places: Vec<usize> = newest.into_values().collect();
    places.sort_unstable_by(|a, b| items[*a].key.as_bytes().cmp(items[*b].key.as_bytes()));
    sorted.puts.values = vec![Vec::with_capacity(places.len()); columns.len()];
    for at in places {
        let item = &items[at];
        match row(item, options, wanted, columns) {
            Err(reason) => sorted.refused.push((at, reason)),
            Ok((sequence, values)) => {
                let rows = match values {
                    Some(values) => {
                        let columns = sorted.puts.values.iter_mut();
                        columns
                            .zip(values)
                            .for_each(|(column, value)| column.push(value));
                        &mut sorted.puts
                    }
                    None => &mut sorted.deletes,
                };
                rows.places.push(at);
                rows.keys.push(&item.key);
                rows.sequences.push(sequence);
            }
        }
    }
    sorted
}

type Texts<'a> = Vec<Option<Cow<'a, str>>>;

/// The sequence of an item, and its values unless it is a deletion.
///
/// # Errors
/// Why it cannot be a row.
fn row<'a>(
    item: &'a Item,
    options: &Options,
    wanted: &Wanted,
    columns: &[Column],
) -> Result<(i64, Option<Texts<'a>>), String> {
    let sequence = i64::try_from(item.sequence.0)
        .map_err(|_| format!("the sequence {} is beyond bigint", item.sequence))?;
    if item.key.contains('\0') {
        return Err("the key holds a NUL, which PostgreSQL cannot store".to_owned());
    }
    let Some(rendering) = &item.rendering else {
        return Ok((sequence, None));
    };
    let Payload::Text(body) = &rendering.body else {
        return Err("the rendering is not text, and a row is made from JSON".to_owned());
    };
    let mut found = vec![None; columns.len()];
    wanted
        .find(body, &mut found)
        .map_err(|error| format!("the rendering is not JSON: {error}"))?;
    let mut values = Vec::with_capacity(columns.len());
    for (at, (value, column)) in found.into_iter().zip(columns).enumerate() {
        let value = match value {
            None => None,
            Some(value) => text(value.trim_ascii(), column.form).map_err(|wrong| {
                let pointer = options.columns.get(at).map_or("", |column| &column.pointer);
                format!(
                    "the value at {:?}, for the column {:?}, {}",
                    format!("{pointer}{}", wrong.below),
                    column.name,
                    wrong.why
                )
            })?,
        };
        values.push(value);
    }
    Ok((sequence, Some(values)))
}

/// Why a value cannot be stored, and where below its pointer.
#[derive(Debug, PartialEq)]
struct Wrong {
    below: String,
    why: &'static str,
}

impl From<&'static str> for Wrong {
    fn from(why: &'static str) -> Wrong {
        let below = String::new();
        Wrong { below, why }
    }
}

const NUL: &str = "holds a NUL, which PostgreSQL cannot store";
const LONE: &str = "holds half of a character (a lone surrogate), which PostgreSQL cannot store";

/// The text of a JSON value for a column; `None` is NULL.
fn text(json: &str, form: Form) -> Result<Option<Cow<'_, str>>, Wrong> {
    if json == "null" {
        return Ok(None);
    }
    let first = json.as_bytes().first();
    Ok(Some(match (form, first) {
        (Form::Json, _) => {
            storable(json)?;
            json.into()
        }
        (Form::Array, Some(b'[')) => {
            storable(json)?;
            let mut array = String::with_capacity(json.len());
            write_array(json, &mut array)?;
            array.into()
        }
        (_, Some(b'"')) => {
            let text = string(json)?;
            match form {
                Form::Zoned if !has_zone(&text) => {
                    return Err("has no time zone: write one, such as 2026-11-30T12:00:00Z".into());
                }
                Form::Bytes if !text.starts_with("\\x") => {
                    return Err("is not \\x and hexadecimal digits, as bytea takes bytes".into());
                }
                _ => text,
            }
        }
        _ => json.into(),
    }))
}

/// The text of a JSON string.
fn string(json: &str) -> Result<Cow<'_, str>, Wrong> {
    if !json.contains('\\')
        && let Some(inner) = json.get(1..json.len() - 1)
    {
        return Ok(inner.into());
    }
    storable(json)?;
    let text: String = serde_json::from_str(json).map_err(|_| Wrong::from("is no text"))?;
    Ok(text.into())
}

/// Writes an array as PostgreSQL reads it.
fn write_array(json: &str, to: &mut String) -> Result<(), Wrong> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(json).map_err(|_| Wrong::from("is no array"))?;
    to.push('{');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        let element = element.get();
        match element.as_bytes().first() {
            Some(b'[') => write_array(element, to)?,
            Some(b'n') => to.push_str("NULL"),
            Some(b'"') => write_element(&string(element)?, to),
            Some(b'{') => write_element(element, to),
            _ => to.push_str(element),
        }
    }
    to.push('}');
    Ok(())
}

fn write_element(text: &str, to: &mut String) {
    to.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            to.push('\\');
        }
        to.push(character);
    }
    to.push('"');
}

/// Whether a time says in which zone it is. Words such as `now` and `today` do not: they mean the server's
/// clock.
fn has_zone(text: &str) -> bool {
    let text = text.trim();
    if matches!(text, "infinity" | "-infinity" | "epoch") {
        return true;
    }
    // What follows the date; a time alone has none before it.
    let time = match text.split_once(['T', 't', ' ']) {
        Some((_, time)) => time,
        None if text.contains(':') => text,
        None => return false,
    };
    let lower = time.to_ascii_lowercase();
    let halves = ["am", "pm"].iter().any(|half| {
        let before = lower.strip_suffix(half);
        before.is_some_and(|before| !before.ends_with(|last: char| last.is_ascii_alphabetic()))
    });
    let named = time.ends_with(|last: char| last.is_ascii_alphabetic());
    time.contains(['+', '-']) || named && !halves
}

/// Checks that PostgreSQL can hold all texts in a JSON value.
fn storable(json: &str) -> Result<(), Wrong> {
    match unstorable(json) {
        None => Ok(()),
        Some(why) => Err(Wrong {
            below: whereabouts(json),
            why,
        }),
    }
}

/// Why PostgreSQL cannot hold a text in a JSON value. All escapes in JSON are in its texts.
fn unstorable(json: &str) -> Option<&'static str> {
    memmem::find(json.as_bytes(), b"\\u")?;
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = json.get(at..at + 4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(next) = memchr::memchr(b'\\', bytes.get(at..)?) {
        at += next + 2;
        if bytes.get(at - 1) != Some(&b'u') {
            continue;
        }
        match unit(at) {
            Some(0) => return Some(NUL),
            Some(0xD800..=0xDBFF) => {
                let follows = bytes.get(at + 4..at + 6) == Some(b"\\u");
                if !(follows && matches!(unit(at + 6), Some(0xDC00..=0xDFFF))) {
                    return Some(LONE);
                }
                at += 10;
            }
            Some(0xDC00..=0xDFFF) => return Some(LONE),
            _ => at += 4,
        }
    }
    None
}

/// The pointer to the text that cannot be stored, below this value.
fn whereabouts(json: &str) -> String {
    let mut pointer = String::new();
    let mut json = json.trim_ascii();
    loop {
        let inner: Option<(String, &str)> = match json.as_bytes().first() {
            Some(b'{') => {
                let members: Option<std::collections::BTreeMap<String, &RawValue>> =
                    serde_json::from_str(json).ok();
                let mut members = members.into_iter().flatten();
                members
                    .find_map(|(name, value)| unstorable(value.get()).map(|_| (name, value.get())))
            }
            Some(b'[') => {
                let elements: Option<Vec<&RawValue>> = serde_json::from_str(json).ok();
                let mut elements = elements.into_iter().flatten().enumerate();
                elements.find_map(|(at, value)| {
                    unstorable(value.get()).map(|_| (at.to_string(), value.get()))
                })
            }
            _ => None,
        };
        let Some((name, value)) = inner else {
            return pointer;
        };
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        json = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(json: &str, form: Form) -> Result<Option<String>, Wrong> {
        text(json, form).map(|text| text.map(Cow::into_owned))
    }

    #[test]
    fn a_value_becomes_the_text_that_its_type_reads() {
        for (json, form, expected) in [
            ("null", Form::Json, None),
            ("1.50", Form::Plain, Some("1.50")),
            ("1e3", Form::Json, Some("1e3")),
            (
                "18446744073709551616",
                Form::Plain,
                Some("18446744073709551616"),
            ),
            ("\"\"", Form::Plain, Some("")),
            ("\"a\\u00e4\\n\\\\\"", Form::Plain, Some("aä\n\\")),
            ("\"\\ud83d\\udecb\"", Form::Plain, Some("🛋")),
            ("\"a\"", Form::Json, Some("\"a\"")),
            ("true", Form::Plain, Some("true")),
            ("{\"a\": 1}", Form::Plain, Some("{\"a\": 1}")),
            ("[]", Form::Array, Some("{}")),
            (
                "[1,null,\"a\\\"b\\\\\"]",
                Form::Array,
                Some("{1,NULL,\"a\\\"b\\\\\"}"),
            ),
            ("[[1],[2]]", Form::Array, Some("{{1},{2}}")),
            ("\"{a,b}\"", Form::Array, Some("{a,b}")),
            ("\"\\\\x00ff\"", Form::Bytes, Some("\\x00ff")),
            (
                "\"2026-11-30T12:00:00Z\"",
                Form::Zoned,
                Some("2026-11-30T12:00:00Z"),
            ),
            ("\"\\\\u0000\"", Form::Json, Some("\"\\\\u0000\"")),
        ] {
            assert_eq!(made(json, form), Ok(expected.map(str::to_owned)), "{json}");
        }
    }

    #[test]
    fn what_postgresql_cannot_hold_is_refused_with_the_pointer_to_it() {
        for (json, form, below, why) in [
            ("\"a\\u0000\"", Form::Plain, "", NUL),
            ("\"\\ud800\"", Form::Plain, "", LONE),
            ("\"\\udc00\\ud800\"", Form::Json, "", LONE),
            (
                "{\"a\":[1,{\"b/c\":\"\\u0000\"}]}",
                Form::Json,
                "/a/1/b~1c",
                NUL,
            ),
            (
                "{\"a\":\"fine \\u00e4\",\"b\":\"\\ud800x\"}",
                Form::Json,
                "/b",
                LONE,
            ),
            ("[\"a\",\"\\u0000\"]", Form::Array, "/1", NUL),
        ] {
            let wrong = made(json, form).expect_err(json);
            assert_eq!((wrong.below.as_str(), wrong.why), (below, why), "{json}");
        }
        assert!(made("\"aGVsbG8=\"", Form::Bytes).is_err());
    }

    #[test]
    fn a_time_without_its_zone_is_recognised() {
        for zoned in [
            "2026-11-30T12:00:00Z",
            "2026-11-30 12:00:00+01",
            "2026-11-30 12:00:00.123456-05:30",
            "2026-11-30 12:00 Europe/Amsterdam",
            "20261130T120000Z",
            "2026-11-30 12:00 PM UTC",
            "12:00:00+02:00",
            "infinity",
        ] {
            assert!(has_zone(zoned), "{zoned}");
        }
        for zoneless in [
            "2026-11-30T12:00:00",
            "20261130T120000",
            "2026-11-30",
            "12:00",
            "12:00 PM",
            "now",
            "",
        ] {
            assert!(!has_zone(zoneless), "{zoneless}");
        }
    }

    #[test]
    fn values_are_found_wherever_they_are_and_the_last_of_a_name_counts() {
        let columns = [
            ("a", "/x/y"),
            ("b", "/x"),
            ("c", "/l/1"),
            ("d", "/no"),
            ("e", "/a~1b"),
        ];
        let columns = columns.map(|(name, pointer)| Value::new(name, pointer).expect("a pointer"));
        let wanted = Wanted::new(&columns);
        let mut found = [None; 5];
        let text = r#" {"x":{"y":0},"a/b":3,"x":{"y":1.10,"z":[]},"l":[7,8]} "#;
        wanted.find(text, &mut found).expect("JSON");
        let expected = [
            Some("1.10"),
            Some("{\"y\":1.10,\"z\":[]}"),
            Some("8"),
            None,
            Some("3"),
        ];
        assert_eq!(found, expected);
        assert!(wanted.find("{\"x\":", &mut found).is_err());
        assert_eq!(Value::new("a", "x"), None);
        assert_eq!(Value::new("a", "/~2"), None);
    }
}
