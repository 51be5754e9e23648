//! Makes rows from items: finds the value of each column in a rendering, and sorts the rows as they are
//! locked. What a value becomes is in `text`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Options;
use super::table::Column;
use super::text::text;
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

#[cfg(test)]
mod tests {
    use super::*;

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
