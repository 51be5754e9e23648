//! Looks up a scalar where its value comes from: the file itself, the environment, or another file.

use super::{Field, Written, relative};
use crate::config::row::{Keep, fill};
use crate::config::tree::{Node, Value};
use crate::files;

/// Maximum length of a file that a scalar is read from, in bytes: such a file holds a secret or a
/// certificate, not a catalogue.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The result of looking up a scalar.
pub(super) enum Resolved<'a> {
    /// Written in the file.
    Literal(&'a Value),
    /// From the environment or another file.
    Outside(String),
    /// Not found: the reason, and what would be right.
    Absent(String, Option<String>),
}

impl<'a> Field<'a> {
    pub(super) fn default(&self) -> Option<&'a Value> {
        match &self.node.value {
            Value::Table(table) => table.get("default").map(|entry| &entry.node.value),
            _ => None,
        }
    }

    /// Where its text is written; `None` if it is no text, or comes from the environment.
    pub(super) fn written(&self) -> Option<Written> {
        match &self.node.value {
            Value::String(_) => Some(Written::Here(self.node.place.clone())),
            Value::Table(table) if self.is_from_outside() => {
                let node = &table.get("file")?.node;
                let Value::String(name) = &node.value else {
                    return None;
                };
                let name = fill(name, self.row, Keep::None).ok()?;
                Some(Written::File(relative(&node.place, &name)))
            }
            _ => None,
        }
    }

    /// Looks up the scalar; if it is not found, adds a complaint and returns `None`.
    pub(super) fn resolve(&self) -> Option<Resolved<'a>> {
        match self.lookup() {
            Resolved::Absent(what, help) => {
                self.complain(what, help);
                None
            }
            resolved => Some(resolved),
        }
    }

    pub(super) fn lookup(&self) -> Resolved<'a> {
        let Value::Table(table) = &self.node.value else {
            return Resolved::Literal(&self.node.value);
        };
        if !self.node.value.is_reference() {
            return Resolved::Literal(&self.node.value);
        }
        match (table.get("env"), table.get("file")) {
            (Some(entry), _) => self.variable(&entry.node.value),
            (None, Some(entry)) => self.content(&entry.node),
            (None, None) => Resolved::Literal(&self.node.value),
        }
    }

    fn variable(&self, name: &Value) -> Resolved<'a> {
        let name = match name {
            Value::String(name) => fill(name, self.row, Keep::None),
            other => {
                return Resolved::Absent(
                    format!("env must be the name of a variable, not {}", other.kind()),
                    None,
                );
            }
        };
        let name = match name {
            Ok(name) => name,
            Err(unfilled) => return Resolved::Absent(unfilled.what, unfilled.help),
        };
        match ((self.reader.environment)(&name), self.default()) {
            (Some(text), _) => self.outside(text, format!("the value of {name}")),
            (None, Some(Value::Table(_) | Value::Array(_))) => Resolved::Absent(
                "the default must be a string, a number, true or false".to_owned(),
                None,
            ),
            (None, Some(default)) => Resolved::Literal(default),
            (None, None) => {
                let help =
                    format!("set it, or give a default: {{ env = {name:?}, default = \"…\" }}");
                Resolved::Absent(
                    format!("the environment variable {name} is not set"),
                    Some(help),
                )
            }
        }
    }

    fn content(&self, node: &Node) -> Resolved<'a> {
        let name = match &node.value {
            Value::String(name) => fill(name, self.row, Keep::None),
            other => {
                return Resolved::Absent(
                    format!("file must be a path, not {}", other.kind()),
                    None,
                );
            }
        };
        let path = match name {
            Ok(name) => relative(&node.place, &name),
            Err(unfilled) => return Resolved::Absent(unfilled.what, unfilled.help),
        };
        self.reader.files.borrow_mut().insert(path.clone());
        match files::read_text(&path, FILE_BYTES_MAX) {
            Ok(text) => {
                let line = text.strip_suffix('\n');
                let line = line.map_or(text.as_str(), |line| line.trim_end_matches('\r'));
                let origin = format!("the content of {}", path.display());
                self.outside(line.to_owned(), origin)
            }
            Err(why) => Resolved::Absent(format!("{} cannot be read: {why}", path.display()), None),
        }
    }

    fn outside(&self, text: String, origin: String) -> Resolved<'a> {
        if !text.is_empty() {
            let mut origins = self.reader.origins.borrow_mut();
            origins.insert(text.clone(), origin);
        }
        Resolved::Outside(text)
    }
}
