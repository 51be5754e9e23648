//! Reading tables: each key is asked for once, and what nobody asked for is a complaint.
//!
//! Nothing here fails early. A field that is wrong makes a complaint and answers `None`; the reader goes on with a
//! default, so that all complaints come at once. A configuration with any complaint is not used.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::row::{Keep, Row, Unfilled, fill};
use super::scalar;
use super::text::{Cause, Complaint, Place, listed, nearest};
use super::tree::{Entry, Node, Table, Value, join};

/// The environment, by name.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A file that a scalar comes from may be so long; it holds a secret or a certificate, not a catalogue.
const FILE_BYTES_MAX: u64 = 64 * 1024;

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
        Reader { environment, secrets, complaints, warnings, files: RefCell::default(), outside: RefCell::default() }
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
    /// Texts that came from the environment or a file; any of them may be a secret.
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
        Cursor { reader, table, path: String::new(), place, row: None, asked: Vec::new() }
    }

    /// Reads the table and complains of the keys that `read` did not ask for.
    pub fn read<T>(mut self, read: impl FnOnce(&mut Cursor<'a>) -> T) -> T {
        let result = read(&mut self);
        self.close();
        result
    }

    /// The path of this table.
    pub fn path(&self) -> &str {
        &self.path
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
            let complaint = Complaint::at(&self.place, self.path.clone(), format!("{key} is missing"), Some(help.to_owned()));
            self.reader.complain(complaint.because(Cause::Missing));
        }
        field
    }

    /// All fields, for tables whose keys are names.
    pub fn all(&mut self) -> Vec<Field<'a>> {
        self.table.entries.iter().for_each(|entry| self.ask(&entry.key));
        self.table.entries.iter().map(|entry| self.field(entry)).collect()
    }

    /// Something is wrong with the table as a whole.
    pub fn complain(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.complain(Complaint::at(&self.place, self.path.clone(), what, help));
    }

    fn ask(&mut self, key: &str) {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
    }

    fn field(&self, entry: &'a Entry) -> Field<'a> {
        let (key, path) = (entry.key.as_str(), join(&self.path, &entry.key));
        Field { reader: self.reader, key, key_place: &entry.place, path, node: &entry.node, row: self.row }
    }

    /// Complains of each key that nobody asked for.
    fn close(self) {
        let unknown = self.table.entries.iter().filter(|entry| !self.asked.contains(&entry.key));
        for entry in unknown {
            let missing = self.asked.iter().map(String::as_str).filter(|key| self.table.get(key).is_none());
            let help = match nearest(&entry.key, missing) {
                Some(near) => Some(format!("did you mean {near:?}?")),
                None if self.asked.is_empty() => None,
                None => Some(format!("there is {}", listed(self.asked.iter().map(String::as_str), 24))),
            };
            self.reader.complain(Complaint::at(&entry.place, join(&self.path, &entry.key), "there is no such key", help));
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

/// A secret that was read, or one that may be left out.
pub enum Found {
    /// Its bytes.
    Secret(Vec<u8>),
    /// It is not there, and need not be (`--without-secrets`).
    LeftOut,
}

/// What a scalar comes to.
enum Resolved<'a> {
    /// Written in the file.
    Literal(&'a Value),
    /// From the environment or another file.
    Outside(String),
    /// Not there; why, and what would be right.
    Absent(String, Option<String>),
}

impl<'a> Field<'a> {
    /// Its path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where it stands: tables at their key, scalars and lists at themselves.
    pub fn place(&self) -> &'a Place {
        if self.is_table() { self.key_place } else { &self.node.place }
    }

    /// Something is wrong with it.
    pub fn complain(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.complain(Complaint::at(self.place(), self.path.clone(), what, help));
    }

    /// Something is wrong with the secret that it is, so its line is not quoted.
    pub fn complain_of_secret(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        let complaint = Complaint::at(self.place(), self.path.clone(), what, help);
        self.reader.complain(Complaint { excerpt: None, ..complaint });
    }

    /// Something is wrong with its key.
    pub fn complain_of_key(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.complain(Complaint::at(self.key_place, self.path.clone(), what, help));
    }

    /// It names something that is not there.
    pub fn complain_of_missing(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.complain(Complaint::at(self.place(), self.path.clone(), what, help).because(Cause::Missing));
    }

    /// Something about it is odd.
    pub fn warn(&self, what: impl Into<String>, help: impl Into<Option<String>>) {
        self.reader.warn(Complaint::at(self.place(), self.path.clone(), what, help));
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
        let cursor = Cursor { reader: self.reader, table, path, place, row: self.row, asked: Vec::new() };
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
            read(Field { reader: self.reader, key: self.key, key_place: &node.place, path, node, row: self.row })
        };
        items.iter().enumerate().filter_map(item).collect()
    }

    /// A text, its placeholders filled.
    pub fn string(&self) -> Option<String> {
        self.text(Keep::None)
    }

    /// A text in which `keep` stay.
    pub fn text(&self, keep: Keep) -> Option<String> {
        match self.resolve()? {
            Resolved::Literal(Value::String(text)) => self.filled(text, keep),
            Resolved::Outside(text) => Some(text),
            Resolved::Literal(_) | Resolved::Absent(..) => {
                self.unexpected("a string");
                None
            }
        }
    }

    /// A text that `parse` understands; `help` says what would be right, `expected` what it is called.
    pub fn parsed<T>(&self, expected: &str, help: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = match self.resolve()? {
            Resolved::Literal(Value::String(text)) => self.filled(text, Keep::None)?,
            Resolved::Outside(text) => text,
            Resolved::Literal(Value::Integer(number)) => {
                self.complain(format!("{number} is not {expected}"), help.to_owned());
                return None;
            }
            Resolved::Literal(_) | Resolved::Absent(..) => {
                self.complain(format!("{expected} is expected here, not {}", self.node.value.kind()), help.to_owned());
                return None;
            }
        };
        let value = parse(&text);
        if value.is_none() {
            self.complain(format!("{text:?} is not {expected}"), help.to_owned());
        }
        value
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known = words.iter().map(|(word, _)| *word);
            let help = nearest(&text, known.clone()).map(|near| format!("did you mean {near:?}?"));
            let quoted: Vec<String> = known.map(|word| format!("{word:?}")).collect();
            let all = format!("it is {}", quoted.join(" or "));
            self.complain(format!("{text:?} is not known here"), help.unwrap_or(all));
        }
        found
    }

    /// A whole number within bounds.
    pub fn integer(&self, bounds: RangeInclusive<i64>) -> Option<i64> {
        let help = || format!("write a whole number from {} to {}", bounds.start(), bounds.end());
        let number = match self.resolve()? {
            Resolved::Literal(Value::Integer(number)) => *number,
            Resolved::Outside(text) => match text.trim().parse() {
                Ok(number) => number,
                Err(_) => {
                    self.complain(format!("{text:?} is not a whole number"), help());
                    return None;
                }
            },
            Resolved::Literal(_) | Resolved::Absent(..) => {
                self.unexpected("a whole number");
                return None;
            }
        };
        if !bounds.contains(&number) {
            self.complain(format!("{number} is out of bounds"), help());
            return None;
        }
        Some(number)
    }

    /// A number within bounds.
    pub fn number(&self, bounds: RangeInclusive<f64>) -> Option<f64> {
        let number = match self.resolve()? {
            Resolved::Literal(Value::Integer(number)) => *number as f64,
            Resolved::Literal(Value::Float(number)) => *number,
            Resolved::Outside(text) => text.trim().parse().unwrap_or(f64::NAN),
            Resolved::Literal(_) | Resolved::Absent(..) => {
                self.unexpected("a number");
                return None;
            }
        };
        if !bounds.contains(&number) {
            self.complain(format!("{number} is out of bounds"), format!("write a number from {} to {}", bounds.start(), bounds.end()));
            return None;
        }
        Some(number)
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        match self.resolve()? {
            Resolved::Literal(Value::Boolean(truth)) => Some(*truth),
            Resolved::Outside(text) if text.trim() == "true" => Some(true),
            Resolved::Outside(text) if text.trim() == "false" => Some(false),
            _ => {
                self.unexpected("true or false");
                None
            }
        }
    }

    /// A duration within bounds.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parsed("a duration", scalar::DURATION, scalar::duration)?;
        self.within(duration, &bounds, scalar::duration_text)
    }

    /// A size in bytes within bounds.
    pub fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let size = self.parsed("a size", scalar::SIZE, scalar::size)?;
        self.within(size, &bounds, scalar::size_text)
    }

    fn within<T: PartialOrd + Copy>(&self, value: T, bounds: &RangeInclusive<T>, text: fn(T) -> String) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let help = format!("write {} to {}", text(*bounds.start()), text(*bounds.end()));
        self.complain(format!("{} is out of bounds", text(value)), help);
        None
    }

    /// A path, relative to the file it is written in.
    pub fn file_path(&self) -> Option<PathBuf> {
        let text = self.string()?;
        if text.is_empty() {
            self.complain("the path is empty", "write the path of a file, relative to this one".to_owned());
            return None;
        }
        Some(relative(self.place(), &text))
    }

    /// A secret: literal, from the environment, or from a file without its last line break. Never shown in complaints.
    pub fn secret(&self) -> Option<Found> {
        let bytes = match self.lookup() {
            Resolved::Literal(Value::String(text)) | Resolved::Literal(Value::Datetime(text)) => text.clone().into_bytes(),
            Resolved::Outside(text) => text.into_bytes(),
            Resolved::Absent(..) if !self.reader.secrets => return Some(Found::LeftOut),
            Resolved::Absent(what, help) => {
                self.complain_of_secret(what, help);
                return None;
            }
            Resolved::Literal(_) => {
                let help = "write { env = \"NAME\" } or { file = \"path\" }".to_owned();
                self.complain(format!("a secret is expected here, not {}", self.node.value.kind()), help);
                return None;
            }
        };
        if bytes.is_empty() {
            self.complain_of_secret("the secret is empty", "what is set and empty is no secret".to_owned());
            return None;
        }
        Some(Found::Secret(bytes))
    }

    /// Any value as JSON; braces that are not of the row's table stay.
    pub fn json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        if self.node.value.is_reference() {
            return match (self.resolve()?, self.default()) {
                (Resolved::Outside(text), Some(default)) if !matches!(default, Value::String(_)) => self.json_like(&text, default),
                (Resolved::Outside(text), _) => Some(Json::String(text)),
                (Resolved::Literal(default), _) => self.json_of(default),
                (Resolved::Absent(..), _) => None,
            };
        }
        match &self.node.value {
            Value::Array(_) => Some(Json::Array(self.list(|item| item.json()))),
            Value::Table(_) => self.object().map(Json::Object),
            value => self.json_of(value),
        }
    }

    /// A table as a JSON object, whatever its keys.
    pub fn object(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let read = |table: &mut Cursor<'a>| {
            let fields = table.all();
            fields.into_iter().filter_map(|field| Some((field.key.to_owned(), field.json()?))).collect()
        };
        self.table(read)
    }

    fn json_of(&self, value: &Value) -> Option<serde_json::Value> {
        match value {
            Value::String(text) => self.filled(text, Keep::Others).map(Into::into),
            Value::Integer(number) => Some((*number).into()),
            Value::Boolean(truth) => Some((*truth).into()),
            Value::Datetime(time) => Some(time.clone().into()),
            Value::Float(number) => {
                let number = serde_json::Number::from_f64(*number);
                if number.is_none() {
                    self.complain("JSON has no such number", "settings are given to plugins as JSON".to_owned());
                }
                number.map(Into::into)
            }
            Value::Array(_) | Value::Table(_) => {
                self.unexpected("a scalar");
                None
            }
        }
    }

    /// A text from outside as what its default is.
    fn json_like(&self, text: &str, default: &Value) -> Option<serde_json::Value> {
        let value = match default {
            Value::Integer(_) => text.trim().parse::<i64>().ok().map(Into::into),
            Value::Float(_) => text.trim().parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Into::into),
            Value::Boolean(_) => text.trim().parse::<bool>().ok().map(Into::into),
            _ => Some(text.into()),
        };
        if value.is_none() {
            self.complain(format!("{text:?} is not {}, as its default is", default.kind()), None);
        }
        value
    }

    fn default(&self) -> Option<&'a Value> {
        match &self.node.value {
            Value::Table(table) => table.get("default").map(|entry| &entry.node.value),
            _ => None,
        }
    }

    /// What it comes to; that it is absent is a complaint.
    fn resolve(&self) -> Option<Resolved<'a>> {
        match self.lookup() {
            Resolved::Absent(what, help) => {
                self.complain(what, help);
                None
            }
            resolved => Some(resolved),
        }
    }

    fn lookup(&self) -> Resolved<'a> {
        let Value::Table(table) = &self.node.value else { return Resolved::Literal(&self.node.value) };
        if !self.node.value.is_reference() {
            return Resolved::Literal(&self.node.value);
        }
        let resolved = match (table.get("env"), table.get("file")) {
            (Some(entry), _) => self.from_environment(&entry.node.value),
            (None, Some(entry)) => self.from_file(&entry.node),
            (None, None) => Resolved::Literal(&self.node.value),
        };
        if let Resolved::Outside(text) = &resolved {
            self.reader.outside(text);
        }
        resolved
    }

    fn from_environment(&self, name: &Value) -> Resolved<'a> {
        let name = match name {
            Value::String(name) => fill(name, self.row, Keep::None),
            other => return Resolved::Absent(format!("env is the name of a variable, not {}", other.kind()), None),
        };
        let name = match name {
            Ok(name) => name,
            Err(unfilled) => return Resolved::Absent(unfilled.what, unfilled.help),
        };
        match ((self.reader.environment)(&name), self.default()) {
            (Some(text), _) => Resolved::Outside(text),
            (None, Some(Value::Table(_) | Value::Array(_))) => Resolved::Absent("a default is a scalar".to_owned(), None),
            (None, Some(default)) => Resolved::Literal(default),
            (None, None) => {
                let help = format!("set it, or give a default: {{ env = {name:?}, default = \"…\" }}");
                Resolved::Absent(format!("the environment variable {name} is not set"), Some(help))
            }
        }
    }

    fn from_file(&self, node: &Node) -> Resolved<'a> {
        let name = match &node.value {
            Value::String(name) => fill(name, self.row, Keep::None),
            other => return Resolved::Absent(format!("file is a path, not {}", other.kind()), None),
        };
        let path = match name {
            Ok(name) => relative(&node.place, &name),
            Err(unfilled) => return Resolved::Absent(unfilled.what, unfilled.help),
        };
        self.reader.files.borrow_mut().insert(path.clone());
        match read_text(&path, FILE_BYTES_MAX) {
            Ok(text) => Resolved::Outside(text.strip_suffix('\n').map_or(text.as_str(), |text| text.trim_end_matches('\r')).to_owned()),
            Err(why) => Resolved::Absent(format!("{} cannot be read: {why}", path.display()), None),
        }
    }

    fn filled(&self, text: &str, keep: Keep) -> Option<String> {
        match fill(text, self.row, keep) {
            Ok(text) => Some(text),
            Err(Unfilled { what, help }) => {
                self.complain(what, help);
                None
            }
        }
    }

    fn unexpected(&self, expected: &str) {
        self.complain(format!("{expected} is expected here, not {}", self.node.value.kind()), None);
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
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("it is longer than {}", scalar::size_text(bytes_max)));
    }
    String::from_utf8(bytes).map_err(|error| format!("it is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}
