//! Reading tables: each key is asked for once, and what nobody asked for is a complaint.
//!
//! Nothing here fails early. A field that is wrong makes a complaint and answers `None`; the reader
//! goes on with a default, so that all complaints come at once. A configuration with any complaint
//! is not used.

mod lookup;
mod values;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::row::Row;
use super::scalar;
use super::text::{Cause, Complaint, Place, listed, nearest};
use super::tree::{Entry, Node, Table, Value, join};

pub use values::Found;

/// The environment, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a reading gathers on its way.
pub struct Reader<'a> {
    environment: Environment<'a>,
    secrets: bool,
    complaints: RefCell<Vec<Complaint>>,
    warnings: RefCell<Vec<Complaint>>,
    files: RefCell<BTreeSet<PathBuf>>,
    outside: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    /// A reader; without `secrets`, a secret that is not there is no complaint.
    pub fn new(environment: Environment<'a>, secrets: bool) -> Reader<'a> {
        let (complaints, warnings) = (RefCell::default(), RefCell::default());
        Reader {
            environment,
            secrets,
            complaints,
            warnings,
            files: RefCell::default(),
            outside: RefCell::default(),
        }
    }

    /// Something is wrong.
    pub fn complain(&self, complaint: Complaint) {
        self.complaints.borrow_mut().push(complaint);
    }

    /// Something is odd, and used all the same.
    pub fn warn(&self, warning: Complaint) {
        self.warnings.borrow_mut().push(warning);
    }

    /// All that was gathered.
    pub fn finish(self) -> Gathered {
        Gathered {
            complaints: self.complaints.into_inner(),
            warnings: self.warnings.into_inner(),
            files: self.files.into_inner(),
            outside: self.outside.into_inner(),
        }
    }

    fn outside(&self, text: &str) {
        if !text.is_empty() {
            self.outside.borrow_mut().insert(text.to_owned());
        }
    }
}

/// What a reading has gathered.
pub struct Gathered {
    /// What is wrong.
    pub complaints: Vec<Complaint>,
    /// What is odd.
    pub warnings: Vec<Complaint>,
    /// Files that scalars came from.
    pub files: BTreeSet<PathBuf>,
    /// Texts that came from the environment or a file and are neither numbers nor secrets that
    /// never show; any may be one.
    pub outside: BTreeSet<String>,
}

/// A table being read.
pub struct Cursor<'a> {
    /// Where complaints go.
    pub reader: &'a Reader<'a>,
    table: &'a Table,
    path: String,
    place: Place,
    row: Option<&'a Row>,
    asked: Vec<String>,
}

impl<'a> Cursor<'a> {
    /// The whole document.
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

    /// Reads the table and complains of the keys that `read` did not ask for.
    pub fn read<T>(mut self, read: impl FnOnce(&mut Cursor<'a>) -> T) -> T {
        let result = read(&mut self);
        self.close();
        result
    }

    /// Where this table stands.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// From now on placeholders are filled from this row.
    pub fn fill_from(&mut self, row: &'a Row) {
        self.row = Some(row);
    }

    /// The field of that key, if it is there.
    pub fn take(&mut self, key: &str) -> Option<Field<'a>> {
        self.ask(key);
        self.table.get(key).map(|entry| self.field(entry))
    }

    /// The field of that key; that it is missing is a complaint.
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

    /// All fields, for tables whose keys are names.
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

    /// Something is wrong with the table as a whole.
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

    /// Complains of each key that nobody asked for.
    fn close(self) {
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
                    "there is {}",
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

/// A value being read.
#[derive(Clone)]
pub struct Field<'a> {
    reader: &'a Reader<'a>,
    /// The key it stands under; for an item of a list, the list's.
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

    /// Where it stands: tables at their key, scalars and lists at themselves.
    pub fn place(&self) -> &'a Place {
        if self.is_table() {
            self.key_place
        } else {
            &self.node.place
        }
    }

    /// Something is wrong with it.
    pub fn complain(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader
            .complain(Complaint::at(self.place(), self.path.clone(), what, help));
    }

    /// Something is wrong with the secret that it is, so its line is not quoted.
    pub fn complain_of_secret(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        let complaint = Complaint::at(self.place(), self.path.clone(), what, help);
        self.reader.complain(Complaint {
            excerpt: None,
            ..complaint
        });
    }

    /// Something is wrong with its key.
    pub fn complain_of_key(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader
            .complain(Complaint::at(self.key_place, self.path.clone(), what, help));
    }

    /// It names something that is not there.
    pub fn complain_of_missing(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.complain(
            Complaint::at(self.place(), self.path.clone(), what, help).because(Cause::Missing),
        );
    }

    /// Something about it is odd.
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

    /// Whether it is a table that stands for no scalar.
    pub fn is_table(&self) -> bool {
        matches!(self.node.value, Value::Table(_)) && !self.node.value.is_reference()
    }

    /// Whether it is a list of nothing.
    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::Array(items) if items.is_empty())
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Array(_))
    }

    /// Whether it is a text written in the file, and mentions that row table.
    pub fn mentions(&self, table: &str) -> bool {
        matches!(&self.node.value, Value::String(text) if super::row::mentions(text, table))
    }

    /// Reads a table and complains of the keys that `read` did not ask for.
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

    /// Reads the items of a list; those that are wrong are left out.
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

/// A path as written at a place: relative to the folder of that file.
pub fn relative(place: &Place, path: &str) -> PathBuf {
    place.folder().join(path)
}

/// A text file of at most so many bytes.
///
/// # Errors
/// Why not, for people.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!(
            "it is longer than {}",
            scalar::size_text(bytes_max)
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "it is not UTF-8 from byte {} on",
            error.utf8_error().valid_up_to()
        )
    })
}
