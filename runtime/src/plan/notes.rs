//! Data that the sections of a file share while they are read: rows, places and the rules for
//! names.

use std::collections::BTreeMap;

use super::Place;
use crate::config;
use crate::config::cursor::{Cursor, Field};
use crate::config::row::Row;
use crate::model::NAME_BYTES_MAX;

/// Data that sections leave for each other.
pub(super) struct Notes<'r> {
    /// Rows by their table.
    pub(super) rows: &'r BTreeMap<String, Vec<Row>>,
    /// See [`Plan::places`].
    pub(super) places: BTreeMap<String, Place>,
}

impl<'r> Notes<'r> {
    /// Records the place of a path.
    pub(super) fn place(&mut self, path: &str, place: &Place) {
        self.places.insert(path.to_owned(), place.clone());
    }

    /// The rows of `for_each`; a single `None` without `for_each`.
    pub(super) fn rows_of(&self, table: &mut Cursor<'_>) -> Vec<Option<&'r Row>> {
        let Some(field) = table.take("for_each") else {
            return vec![None];
        };
        let Some(name) = field.string() else {
            return Vec::new();
        };
        let rows: &'r BTreeMap<String, Vec<Row>> = self.rows;
        match rows.get(&name) {
            Some(rows) => {
                if rows.is_empty() {
                    // With no rows nothing is read; take all keys so that none is reported as
                    // unknown.
                    table.all();
                }
                rows.iter().map(Some).collect()
            }
            None => {
                table.all();
                let help = config::text::suggestion(&name, rows.keys().map(String::as_str));
                let help = help.unwrap_or_else(|| format!("write a row: [each.{name}.NAME]"));
                field.complain_of_missing(format!("there is no table of rows [each.{name}]"), help);
                Vec::new()
            }
        }
    }
}

/// The fields of a section whose keys are names. A field with an invalid name gets a complaint but
/// is read all the same, so that there are no further complaints about references to it.
pub(super) fn named<'a>(root: &mut Cursor<'a>, section: &str) -> Vec<Field<'a>> {
    let fields = root
        .take(section)
        .and_then(|field| field.table(|table| table.all()))
        .unwrap_or_default();
    fields.iter().for_each(right_name);
    fields
}

/// Complains about a key that cannot be a name.
pub(super) fn right_name(field: &Field<'_>) {
    if !is_name(field.key) {
        let help = format!(
            "names are lower-case letters, digits, \".\", \"_\" and \"-\", begin with a letter or digit, and are at most {NAME_BYTES_MAX} bytes long"
        );
        field.complain_of_key(format!("{:?} cannot be a name", field.key), help);
    }
}

/// Whether a text is a name: `[a-z0-9][a-z0-9._-]*`, at most [`NAME_BYTES_MAX`] bytes long.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.bytes().next().is_some_and(inner)
        && name
            .bytes()
            .all(|byte| inner(byte) || b"._-".contains(&byte))
        && name.len() <= NAME_BYTES_MAX
}

/// The name of a row's channel or target: `storefront.de`.
pub(super) fn expanded(name: &str, row: Option<&Row>) -> String {
    row.map_or_else(|| name.to_owned(), |row| format!("{name}.{}", row.name))
}
