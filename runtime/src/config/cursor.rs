//! Reads tables. Each key is asked for by name, and a key that was not asked for is a complaint.
//!
//! Nothing here stops at the first mistake. A field that is wrong adds a complaint and returns
//! `None`; the caller continues with a default, so that all complaints are found in one pass. A
//! configuration with any complaint is not used.

mod lookup;
mod values;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::row::Row;
use super::text::{Cause, Complaint, Place, listed, nearest};
use super::tree::{Entry, Node, Table, Value, join};

pub use values::Found;

/// Looks up an environment variable by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Collects complaints, warnings and used files while the tables are read.
pub struct Reader<'a> {
    environment: Environment<'a>,
    secrets: bool,
    complaints: RefCell<Vec<Complaint>>,
    warnings: RefCell<Vec<Complaint>>,
    files: RefCell<BTreeSet<PathBuf>>,
    outside: RefCell<BTreeSet<String>>,
    settings: RefCell<BTreeMap<String, Place>>,
    texts: RefCell<BTreeMap<String, Written>>,
    /// Every text that came from the environment or a file, with the words for it in complaints.
    origins: RefCell<BTreeMap<String, String>>,
    #[cfg(test)]
    asked: RefCell<Vec<(String, Vec<String>)>>,
}

impl<'a> Reader<'a> {
    /// A reader. Without `secrets`, a secret that cannot be found is not a complaint.
    pub fn new(environment: Environment<'a>, secrets: bool) -> Reader<'a> {
        let (complaints, warnings) = (RefCell::default(), RefCell::default());
        Reader {
            environment,
            secrets,
            complaints,
            warnings,
            files: RefCell::default(),
            outside: RefCell::default(),
            settings: RefCell::default(),
            texts: RefCell::default(),
            origins: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// Adds a complaint.
    pub fn complain(&self, complaint: Complaint) {
        self.complaints.borrow_mut().push(complaint);
    }

    /// Adds a warning: the value is odd but will be used.
    pub fn warn(&self, warning: Complaint) {
        self.warnings.borrow_mut().push(warning);
    }

    /// Returns everything that was collected.
    pub fn finish(self) -> Gathered {
        let origins = self.origins.into_inner();
        let unquoted = |complaints: Vec<Complaint>| {
            complaints
                .into_iter()
                .map(|complaint| unquoted(complaint, &origins))
                .collect()
        };
        Gathered {
            complaints: unquoted(self.complaints.into_inner()),
            warnings: unquoted(self.warnings.into_inner()),
            files: self.files.into_inner(),
            outside: self.outside.into_inner(),
            settings: self.settings.into_inner(),
            texts: self.texts.into_inner(),
            #[cfg(test)]
            asked: self.asked.into_inner(),
        }
    }

    fn outside(&self, text: &str) {
        if !text.is_empty() {
            self.outside.borrow_mut().insert(text.to_owned());
        }
    }
}

/// The complaint without any text that came from the environment or a file: whatever a key expects,
/// the text may be a secret, because a reference can name any variable and any file.
fn unquoted(complaint: Complaint, origins: &BTreeMap<String, String>) -> Complaint {
    let without = |mut sentence: String| {
        for (text, origin) in origins {
            sentence = sentence.replace(&format!("{text:?}"), origin);
            if text.len() >= UNQUOTED_BYTES_MIN {
                sentence = sentence.replace(text, origin);
            }
        }
        sentence
    };
    Complaint {
        what: without(complaint.what),
        help: complaint.help.map(without),
        ..complaint
    }
}

/// A shorter text is part of many words, so it is only replaced where it stands in quotes.
const UNQUOTED_BYTES_MIN: usize = 6;

/// Everything that a [`Reader`] collected.
pub struct Gathered {
    /// The mistakes.
    pub complaints: Vec<Complaint>,
    /// Oddities that do not stop the configuration from being used.
    pub warnings: Vec<Complaint>,
    /// The files from which scalars were read.
    pub files: BTreeSet<PathBuf>,
    /// Texts that came from the environment or a file, except numbers and declared secrets. Any of
    /// them may be a secret, so all of them are redacted where the configuration is shown.
    pub outside: BTreeSet<String>,
    /// The places of the values that were read as JSON: settings and rows.
    pub settings: BTreeMap<String, Place>,
    /// Where those of them that are texts are written.
    pub texts: BTreeMap<String, Written>,
    /// The tables that were read, by their paths, each with the keys that were asked for.
    #[cfg(test)]
    pub asked: Vec<(String, Vec<String>)>,
}

/// Where a text is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// In a file of the configuration, beginning with its quotes.
    Here(Place),
    /// In a file of its own.
    File(PathBuf),
}

/// A table that is being read.
pub struct Cursor<'a> {
    /// Collects the complaints.
    pub reader: &'a Reader<'a>,
    table: &'a Table,
    path: String,
    place: Place,
    row: Option<&'a Row>,
    asked: Vec<String>,
}

impl<'a> Cursor<'a> {
    /// A cursor on the whole document.
    pub fn root(reader: &'a Reader<'a>, table: &'a Table, place: Place) -> Cursor<'a> {
        Cursor {
            reader,
            table,
            path: String::new(),
            place,
            row: None,
            asked: Vec::new(),
        }
    }

    /// Reads the table, then complains about each key that `read` did not ask for.
    pub fn read<T>(mut self, read: impl FnOnce(&mut Cursor<'a>) -> T) -> T {
        let result = read(&mut self);
        self.close();
        result
    }

    /// The place of this table.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Fills placeholders from this row from now on.
    pub fn fill_from(&mut self, row: &'a Row) {
        self.row = Some(row);
    }

    /// The field with this key, if it is set.
    pub fn take(&mut self, key: &str) -> Option<Field<'a>> {
        self.ask(key);
        self.table.get(key).map(|entry| self.field(entry))
    }

    /// The field with this key; if it is not set, complains that it is missing, with `help`.
    pub fn require(&mut self, key: &str, help: &str) -> Option<Field<'a>> {
        let field = self.take(key);
        if field.is_none() {
            let complaint = Complaint::at(
                &self.place,
                self.path.clone(),
                format!("{key} is missing"),
                Some(help.to_owned()),
            );
            self.reader.complain(complaint.because(Cause::Missing));
        }
        field
    }

    /// All fields, for tables whose keys are names that the user chooses.
    pub fn all(&mut self) -> Vec<Field<'a>> {
        self.table
            .entries
            .iter()
            .for_each(|entry| self.ask(&entry.key));
        self.table
            .entries
            .iter()
            .map(|entry| self.field(entry))
            .collect()
    }

    /// Complains about the table as a whole.
    pub fn complain(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader
            .complain(Complaint::at(&self.place, self.path.clone(), what, help));
    }

    fn ask(&mut self, key: &str) {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        let (key, path) = (entry.key.as_str(), join(&self.path, &entry.key));
        Field {
            reader: self.reader,
            key,
            key_place: &entry.place,
            path,
            node: &entry.node,
            row: self.row,
        }
    }

    /// Complains about each key that was not asked for.
    fn close(self) {
        #[cfg(test)]
        {
            let read = (self.path.clone(), self.asked.clone());
            self.reader.asked.borrow_mut().push(read);
        }
        let unknown = self
            .table
            .entries
            .iter()
            .filter(|entry| !self.asked.contains(&entry.key));
        for entry in unknown {
            let missing = self
                .asked
                .iter()
                .map(String::as_str)
                .filter(|key| self.table.get(key).is_none());
            let help = match nearest(&entry.key, missing) {
                Some(near) => Some(format!("did you mean {near:?}?")),
                None if self.asked.is_empty() => None,
                None => Some(format!(
                    "available: {}",
                    listed(self.asked.iter().map(String::as_str), 24)
                )),
            };
            self.reader.complain(Complaint::at(
                &entry.place,
                join(&self.path, &entry.key),
                "there is no such key",
                help,
            ));
        }
    }
}

/// A value that is being read.
#[derive(Clone)]
pub struct Field<'a> {
    reader: &'a Reader<'a>,
    /// Its key; for an item of a list, the key of the list.
    pub key: &'a str,
    key_place: &'a Place,
    path: String,
    node: &'a Node,
    row: Option<&'a Row>,
}
impl<'a> Field<'a> {
    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The place to show in a complaint: the key of a table, the value of a scalar or a list.
    pub fn place(&self) -> &'a Place {
        if self.is_table() {
            self.key_place
        } else {
            &self.node.place
        }
    }

    /// Complains about the value.
    pub fn complain(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader
            .complain(Complaint::at(self.place(), self.path.clone(), what, help));
    }

    /// Complains about a secret, without quoting its line.
    pub fn complain_of_secret(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        let complaint = Complaint::at(self.place(), self.path.clone(), what, help);
        self.reader.complain(Complaint {
            excerpt: None,
            ..complaint
        });
    }

    /// Complains about the key.
    pub fn complain_of_key(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader
            .complain(Complaint::at(self.key_place, self.path.clone(), what, help));
    }

    /// Complains that the value names something that is not defined.
    pub fn complain_of_missing(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.complain(
            Complaint::at(self.place(), self.path.clone(), what, help).because(Cause::Missing),
        );
    }

    /// Warns about the value.
    pub fn warn(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader
            .warn(Complaint::at(self.place(), self.path.clone(), what, help));
    }

    fn unexpected(&self, expected: &str) {
        self.complain(
            format!(
                "{expected} is expected here, not {}",
                self.node.value.kind()
            ),
            None,
        );
    }

    /// Whether it is a table, other than one that stands for a scalar (`{ env = … }`, `{ file = …
    /// }`).
    pub fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_)) && !self.node.value.is_reference()
    }

    /// Whether it names a variable or a file that holds the value.
    pub fn is_from_outside(&self) -> bool {
        self.node.value.is_reference()
    }

    /// Whether it is an empty list.
    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::Array(items) if items.is_empty())
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Array(_))
    }

    /// Whether it is a text in the file itself with a placeholder of this row table.
    pub fn mentions(&self, table: &str) -> bool {
        matches!(&self.node.value, Value::String(text) if super::row::mentions(text, table))
    }

    /// Reads a table, then complains about each key that `read` did not ask for.
    pub fn table<T>(&self, read: impl FnOnce(&mut Cursor<'a>) -> T) -> Option<T> {
        let Value::Table(table) = &self.node.value else {
            self.unexpected("a table");
            return None;
        };
        let (path, place) = (self.path.clone(), self.key_place.clone());
        let cursor = Cursor {
            reader: self.reader,
            table,
            path,
            place,
            row: self.row,
            asked: Vec::new(),
        };
        Some(cursor.read(read))
    }

    /// Reads the items of a list and leaves out those that are wrong.
    pub fn list<T>(&self, read: impl Fn(Field<'a>) -> Option<T>) -> Vec<T> {
        let Value::Array(items) = &self.node.value else {
            self.unexpected("a list");
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| {
            let path = format!("{}[{index}]", self.path);
            read(Field {
                reader: self.reader,
                key: self.key,
                key_place: &node.place,
                path,
                node,
                row: self.row,
            })
        };
        items.iter().enumerate().filter_map(item).collect()
    }
}

/// Resolves a path that is written at `place`, relative to the folder of that file.
pub fn relative(place: &Place, path: &str) -> PathBuf {
    place.folder().join(path)
}
