//! Rows and placeholders: with `for_each = "site"`, the placeholders `{site}` and `{site.url}` are
//! filled in from each row of `[each.site]`.

use serde_json::{Map, Value};

/// The column with the former name of a row. It is no setting of a plugin.
pub const WAS: &str = "was";

/// A row of a table `[each.site]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The name of the table: `site`.
    pub table: String,
    /// The name of the row: `de`.
    pub name: String,
    /// Its columns.
    pub columns: Map<String, Value>,
    /// The former name of the row, if it was renamed: its column [`WAS`].
    pub was: Option<String>,
}

/// The placeholders that are not filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// None: every placeholder must be filled in.
    None,
    /// `{key}`, which is replaced with the entity's key at each delivery.
    Key,
    /// `{key}` and `{entity}`, for the names of files and objects.
    Object,
    /// All that do not belong to the row's table. This is for settings: they are the plugin's, and
    /// braces may have a meaning there.
    Others,
}

/// A placeholder that cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfilled {
    /// The mistake, in a sentence.
    pub what: String,
    /// How to correct it.
    pub help: Option<String>,
}

/// Fills in the placeholders of `text` from `row`.
///
/// # Errors
/// The first placeholder that the row has no value for.
pub fn fill(text: &str, row: Option<&Row>, keep: Keep) -> Result<String, Unfilled> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let tail = &rest[open + 1..];
        let name = tail
            .find('}')
            .map(|close| &tail[..close])
            .filter(|name| is_placeholder(name));
        let Some(name) = name else {
            out.push('{');
            rest = tail;
            continue;
        };
        let from_row = row.is_some_and(|row| {
            name == row.table
                || name
                    .strip_prefix(&row.table)
                    .is_some_and(|rest| rest.starts_with('.'))
        });
        match row {
            Some(row) if from_row => out.push_str(&value(name, row)?),
            _ if keep == Keep::Others
                || (keep == Keep::Key && name == "key")
                || (keep == Keep::Object && matches!(name, "key" | "entity")) =>
            {
                out.push_str(&rest[open..open + name.len() + 2])
            }
            Some(row) => return Err(unknown(name, row)),
            None => {
                let what = format!("{{{name}}} cannot be filled in here");
                let help = format!(
                    "only a table with for_each = {:?} has a value for it",
                    name.split('.').next().unwrap_or(name)
                );
                return Err(Unfilled {
                    what,
                    help: Some(help),
                });
            }
        }
        rest = &tail[name.len() + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Whether a text has a placeholder of this table.
pub fn mentions(text: &str, table: &str) -> bool {
    text.contains(&format!("{{{table}}}")) || text.contains(&format!("{{{table}."))
}

fn is_placeholder(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || "._-".contains(character))
}

fn value(name: &str, row: &Row) -> Result<String, Unfilled> {
    let Some(column) = name
        .strip_prefix(&row.table)
        .and_then(|rest| rest.strip_prefix('.'))
    else {
        return Ok(row.name.clone());
    };
    match row.columns.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => {
            let what = format!(
                "{{{name}}} is a list or a table in each.{}.{}, which cannot be put into a text",
                row.table, row.name
            );
            Err(Unfilled {
                what,
                help: Some("use a column that is a string, a number, true or false".to_owned()),
            })
        }
        None => {
            let known = row.columns.keys().map(String::as_str);
            let help = super::text::suggestion(column, known)
                .map(|hint| hint.replace("available: ", "its columns: "));
            Err(Unfilled {
                what: format!(
                    "each.{}.{} has no column {column:?} for {{{name}}}",
                    row.table, row.name
                ),
                help,
            })
        }
    }
}

fn unknown(name: &str, row: &Row) -> Unfilled {
    let table = name.split('.').next().unwrap_or(name);
    let what = format!("{{{name}}} cannot be filled in here");
    let near = super::text::nearest(table, [row.table.as_str()]);
    let help = match near {
        Some(near) => format!("did you mean {{{}}}?", name.replacen(table, near, 1)),
        None => format!(
            "for_each = {:?} fills {{{}}} and {{{}.COLUMN}}",
            row.table, row.table, row.table
        ),
    };
    Unfilled {
        what,
        help: Some(help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let columns = serde_json::json!({"url": "http://shop-de", "size": 3, "tags": []});
        Row {
            table: "site".into(),
            name: "de".into(),
            columns: columns.as_object().expect("an object").clone(),
            was: None,
        }
    }

    #[test]
    fn names_and_columns_are_filled_in() {
        let row = row();
        let filled = |text| fill(text, Some(&row), Keep::Key);
        assert_eq!(
            filled("{site.url}/{site}/{key}?n={site.size}").as_deref(),
            Ok("http://shop-de/de/{key}?n=3")
        );
        assert_eq!(
            filled("{ not one } {\"a\": {").as_deref(),
            Ok("{ not one } {\"a\": {")
        );
    }

    #[test]
    fn a_placeholder_that_cannot_be_filled_in_is_reported() {
        let row = row();
        let help = |text, row| {
            fill(text, row, Keep::None)
                .expect_err("not to be filled")
                .to_string()
        };
        assert_eq!(
            help("{site.ulr}", Some(&row)),
            "each.site.de has no column \"ulr\" for {site.ulr}; did you mean \"url\"?"
        );
        assert_eq!(
            help("{sit}", Some(&row)),
            "{sit} cannot be filled in here; did you mean {site}?"
        );
        assert_eq!(
            help("{site}", None),
            "{site} cannot be filled in here; only a table with for_each = \"site\" has a value for it"
        );
        assert!(help("{site.tags}", Some(&row)).contains("is a list or a table"));
    }

    #[test]
    fn braces_that_belong_to_a_plugin_stay() {
        assert_eq!(
            fill("{name} in {site}", Some(&row()), Keep::Others).as_deref(),
            Ok("{name} in de")
        );
    }

    impl std::fmt::Display for Unfilled {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(
                f,
                "{}; {}",
                self.what,
                self.help.as_deref().unwrap_or_default()
            )
        }
    }
}
