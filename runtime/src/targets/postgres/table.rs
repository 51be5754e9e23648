//! The table: its name, the columns that Weir writes with their types, and the statements that follow.
//!
//! Values go to the server as texts and are cast there to the type of their column, as the catalog has it:
//! to its base type, because an explicit cast to `varchar(8)` cuts a text without an error, while the
//! assignment to the column reports one.

use std::fmt;

use super::{Delete, Options};

/// The longest name that PostgreSQL keeps, in bytes; it cuts longer ones.
pub const NAME_BYTES_MAX: usize = 63;

/// The name of a table, with its schema or without.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The schema; without one the server looks along its `search_path`.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
}

impl Name {
    /// Reads `table` or `schema.table`. A part in double quotes may hold any character; without them it is
    /// taken as it is written, upper case included.
    pub fn parse(text: &str) -> Option<Name> {
        let (first, rest) = part(text)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return rest.is_empty().then_some(Name {
                schema: None,
                table: first,
            });
        };
        let (table, rest) = part(rest)?;
        rest.is_empty().then_some(Name {
            schema: Some(first),
            table,
        })
    }

    /// As it is written in SQL.
    pub(super) fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.table)),
            None => quoted(&self.table),
        }
    }
}

impl fmt::Display for Name {
    /// As a configuration writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |name: &str| match name.contains(['.', '"']) {
            true => quoted(name),
            false => name.to_owned(),
        };
        match &self.schema {
            Some(schema) => write!(f, "{}.{}", part(schema), part(&self.table)),
            None => f.write_str(&part(&self.table)),
        }
    }
}

/// The first part of a name, and the rest.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(['.', '"']).unwrap_or(text.len());
        let (part, rest) = text.split_at(end);
        return (!part.is_empty() && !rest.starts_with('"')).then(|| (part.to_owned(), rest));
    };
    let mut part = String::new();
    let mut rest = inner;
    loop {
        let (before, after) = rest.split_once('"')?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                part.push('"');
                rest = more;
            }
            None => return (!part.is_empty()).then_some((part, after)),
        }
    }
}

/// A name in SQL, which keeps its case.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{text}'")
}

/// How the text of a value is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The value as JSON.
    Json,
    /// An array of PostgreSQL.
    Array,
    /// A text of hexadecimal digits.
    Bytes,
    /// A time with its zone.
    Zoned,
    /// A text as it is, a number as it is written.
    Plain,
}

/// A column that Weir writes.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// The base type, as a cast writes it.
    pub(super) base: String,
    /// The type with its length or precision, where that rounds; as a cast writes it.
    pub(super) rounded: Option<String>,
    pub(super) form: Form,
}

/// What the catalog says about the table, as far as Weir needs it.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The name with its schema, as it is written in SQL.
    pub(super) table: String,
    pub(super) key: Column,
    pub(super) sequence: String,
    pub(super) flag: Option<String>,
    /// The values: `content` alone, or those of `columns`.
    pub(super) columns: Vec<Column>,
}

impl Layout {
    /// The names of the columns that Weir writes.
    pub(super) fn written(&self) -> Vec<String> {
        let names = self.columns.iter().map(|column| column.name.clone());
        let own = [self.key.name.clone(), self.sequence.clone()];
        names.chain(own).chain(self.flag.clone()).collect()
    }

    /// `unnest` of the arrays of a statement: keys, sequences, and values. With several arrays it is syntax
    /// and no function, so it has no schema.
    fn arrays(&self, with_values: bool, numbered: bool) -> String {
        let values = if with_values { self.columns.len() } else { 0 };
        let arrays: String = (0..values)
            .map(|at| format!(", ${}::pg_catalog.text[]", at + 3))
            .collect();
        let names: String = (0..values).map(|at| format!(", c{at}")).collect();
        let (ordinality, number) = match numbered {
            true => (" WITH ORDINALITY", ", n"),
            false => ("", ""),
        };
        format!(
            "unnest($1::pg_catalog.text[], $2::pg_catalog.int8[]{arrays}){ordinality} AS i(k, s{names}{number})"
        )
    }

    /// The keys alone, numbered.
    fn keys(&self) -> String {
        "unnest($1::pg_catalog.text[]) WITH ORDINALITY AS i(k, n)".to_owned()
    }

    /// The condition that a row belongs to an item.
    fn matches(&self) -> String {
        format!("t.{} = i.k::{}", quoted(&self.key.name), self.key.base)
    }

    /// The condition that a stored state may be overwritten by one of this sequence.
    fn guard(&self, sent: &str, foreign: Option<(i64, i64)>) -> String {
        let stored = format!("t.{}", quoted(&self.sequence));
        let foreign = foreign.map_or(String::new(), |(first, last)| {
            format!(" OR {stored} BETWEEN {first} AND {last}")
        });
        format!("({stored} IS NULL OR {stored} <= {sent}{foreign})")
    }

    /// Writes rows over older ones. Its parameters are the keys, the sequences, and the values of each
    /// column. Locks are taken in the order of the arrays.
    pub(super) fn upsert(&self, foreign: Option<(i64, i64)>) -> String {
        let (table, key, sequence) = (&self.table, quoted(&self.key.name), quoted(&self.sequence));
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let mut into = vec![key.clone(), sequence.clone()];
        let mut from = vec![format!("i.k::{}", self.key.base), "i.s".to_owned()];
        let casts = self.columns.iter().enumerate();
        from.extend(casts.map(|(at, column)| format!("i.c{at}::{}", column.base)));
        into.extend(names);
        if let Some(flag) = &self.flag {
            into.push(quoted(flag));
            from.push("false".to_owned());
        }
        let set: Vec<String> = into[1..]
            .iter()
            .map(|name| format!("{name} = excluded.{name}"))
            .collect();
        format!(
            "INSERT INTO {table} AS t ({}) SELECT {} FROM {} ON CONFLICT ({key}) DO UPDATE SET {} WHERE {}",
            into.join(", "),
            from.join(", "),
            self.arrays(true, false),
            set.join(", "),
            self.guard(&format!("excluded.{sequence}"), foreign),
        )
    }

    /// Deletes rows that are not newer, or marks them as deleted. Its parameters are keys and sequences.
    pub(super) fn delete(&self, foreign: Option<(i64, i64)>) -> String {
        let (table, matches, arrays) = (&self.table, self.matches(), self.arrays(false, false));
        let guard = self.guard("i.s", foreign);
        match &self.flag {
            None => format!("DELETE FROM {table} AS t USING {arrays} WHERE {matches} AND {guard}"),
            Some(flag) => format!(
                "UPDATE {table} AS t SET {} = true, {} = i.s FROM {arrays} WHERE {matches} AND {guard}",
                quoted(flag),
                quoted(&self.sequence),
            ),
        }
    }

    /// Reads which rows are there, with their sequences, and locks them in the order of the keys, which
    /// are its parameter. With `skip` it leaves out rows that somebody else has locked.
    pub(super) fn lock(&self, skip: bool) -> String {
        format!(
            "SELECT i.n, t.{}::pg_catalog.int8 FROM {} JOIN {} AS t ON {} ORDER BY i.n FOR UPDATE OF t{}",
            quoted(&self.sequence),
            self.keys(),
            self.table,
            self.matches(),
            if skip { " SKIP LOCKED" } else { "" },
        )
    }

    /// Reads which rows are there, with their sequences. Its parameter are the keys.
    pub(super) fn read(&self) -> String {
        format!(
            "SELECT i.n, t.{}::pg_catalog.int8 FROM {} JOIN {} AS t ON {}",
            quoted(&self.sequence),
            self.keys(),
            self.table,
            self.matches(),
        )
    }

    /// Compares rows with what they should be: the number of the item, whether it is there, its sequence,
    /// and whether each column differs. Its parameters are those of [`Layout::upsert`]. Values are compared
    /// as texts, because not each type can be compared.
    pub(super) fn compare(&self) -> String {
        let differs = |(at, column): (usize, &Column)| {
            let mut sent = format!("i.c{at}::{}", column.base);
            if let Some(rounded) = &column.rounded {
                sent = format!("{sent}::{rounded}");
            }
            let stored = format!("t.{}", quoted(&column.name));
            format!(", {stored}::pg_catalog.text IS DISTINCT FROM ({sent})::pg_catalog.text")
        };
        let columns: String = self.columns.iter().enumerate().map(differs).collect();
        let there = match &self.flag {
            Some(flag) => format!(" AND t.{} IS NOT TRUE", quoted(flag)),
            None => String::new(),
        };
        format!(
            "SELECT i.n, t.{key} IS NOT NULL{there}, t.{}::pg_catalog.int8{columns} FROM {} LEFT JOIN {} AS t ON {}",
            quoted(&self.sequence),
            self.arrays(true, true),
            self.table,
            self.matches(),
            key = quoted(&self.key.name),
        )
    }

    /// Reads a page of keys, in the server's order; after a key, which is its parameter.
    pub(super) fn page(&self, after: bool, most: usize) -> String {
        let key = format!("t.{}", quoted(&self.key.name));
        let mut conditions = vec![format!("{key} IS NOT NULL")];
        if after {
            conditions.push(format!("{key} > $1::pg_catalog.text::{}", self.key.base));
        }
        if let Some(flag) = &self.flag {
            conditions.push(format!("t.{} IS NOT TRUE", quoted(flag)));
        }
        format!(
            "SELECT {key}::pg_catalog.text FROM {} AS t WHERE {} ORDER BY {key} LIMIT {most}",
            self.table,
            conditions.join(" AND "),
        )
    }
}

/// A statement that creates a table for these options, to copy. Types are a guess: texts.
pub(super) fn create(options: &Options) -> String {
    let mut columns = vec![
        format!("{} text PRIMARY KEY", quoted(&options.key)),
        format!("{} bigint NOT NULL", quoted(&options.sequence)),
    ];
    let values = options.columns.iter();
    columns.extend(values.map(|column| format!("{} text", quoted(&column.name))));
    if options.columns.is_empty() {
        columns.push(format!("{} jsonb", quoted(super::CONTENT)));
    }
    if let Delete::Flag(flag) = &options.delete {
        columns.push(format!("{} boolean NOT NULL DEFAULT false", quoted(flag)));
    }
    format!(
        "CREATE TABLE {} ({})",
        options.table.quoted(),
        columns.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_split_at_its_dot_and_keeps_its_case() {
        for (text, expected) in [
            ("order", Some("\"order\"")),
            ("shop.Order", Some("\"shop\".\"Order\"")),
            ("\"s2.order\"", Some("\"s2.order\"")),
            ("\"a\"\"b\".c", Some("\"a\"\"b\".\"c\"")),
            ("a.b.c", None),
            ("a.", None),
            (".a", None),
            ("", None),
            ("\"a", None),
            ("a\"b", None),
        ] {
            let name = Name::parse(text).map(|name| name.quoted());
            assert_eq!(name.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_text_stays_one_text_whatever_is_in_it() {
        assert_eq!(literal("a'b\\c"), "E'a''b\\\\c'");
    }
}
