//! Converts fields to values: texts, numbers, durations, sizes, secrets, JSON.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::lookup::Resolved;
use super::{Cursor, Field, relative};
use crate::config::row::{Keep, Unfilled, fill};
use crate::config::scalar;
use crate::config::text::nearest;
use crate::config::tree::Value;
use crate::files;

/// A secret, or the note that it was left out.
pub enum Found {
    /// Its bytes.
    Secret(Vec<u8>),
    /// It was not found, and is not needed (`--without-secrets`).
    LeftOut,
}

impl<'a> Field<'a> {
    /// A text, with its placeholders filled in.
    pub fn string(&self) -> Option<String> {
        self.text(Keep::None)
    }

    /// A text, with its placeholders filled in except those in `keep`.
    pub fn text(&self, keep: Keep) -> Option<String> {
        match self.resolve()? {
            Resolved::Literal(Value::String(text)) => self.filled(text, keep),
            Resolved::Outside(text) => {
                self.reader.outside(&text);
                Some(text)
            }
            Resolved::Literal(_) | Resolved::Absent(..) => {
                self.unexpected("a string");
                None
            }
        }
    }

    /// A text that `parse` accepts. For the complaint, `expected` names the kind of value ("a
    /// duration") and `help` says what would be right.
    pub fn parsed<T>(
        &self,
        expected: &str,
        help: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = match self.resolve()? {
            Resolved::Literal(Value::String(text)) => self.filled(text, Keep::None)?,
            Resolved::Outside(text) => text,
            Resolved::Literal(Value::Integer(number)) => {
                self.complain(format!("{number} is not {expected}"), help.to_owned());
                return None;
            }
            Resolved::Literal(_) | Resolved::Absent(..) => {
                self.complain(
                    format!(
                        "{expected} is expected here, not {}",
                        self.node.value.kind()
                    ),
                    help.to_owned(),
                );
                return None;
            }
        };
        let value = parse(&text);
        if value.is_none() {
            self.complain(format!("{text:?} is not {expected}"), help.to_owned());
        }
        value
    }

    /// One of these words, converted to the value that is listed with it.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let known = words.iter().map(|(word, _)| *word);
            let help = nearest(&text, known.clone()).map(|near| format!("did you mean {near:?}?"));
            let quoted: Vec<String> = known.map(|word| format!("{word:?}")).collect();
            let all = format!("write {}", quoted.join(" or "));
            self.complain(format!("{text:?} is not allowed here"), help.unwrap_or(all));
        }
        found
    }

    /// A whole number within `bounds`.
    pub fn integer(&self, bounds: RangeInclusive<i64>) -> Option<i64> {
        let help = || {
            format!(
                "write a whole number from {} to {}",
                bounds.start(),
                bounds.end()
            )
        };
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

    /// A number within `bounds`.
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
            self.complain(
                format!("{number} is out of bounds"),
                format!("write a number from {} to {}", bounds.start(), bounds.end()),
            );
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

    /// A duration within `bounds`.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parsed("a duration", scalar::DURATION, scalar::duration)?;
        self.within(duration, &bounds, scalar::duration_text)
    }

    /// A size in bytes within `bounds`.
    pub fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let size = self.parsed("a size", scalar::SIZE, scalar::size)?;
        self.within(size, &bounds, scalar::size_text)
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        value: T,
        bounds: &RangeInclusive<T>,
        text: fn(T) -> String,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let help = format!(
            "write a value from {} to {}",
            text(*bounds.start()),
            text(*bounds.end())
        );
        self.complain(format!("{} is out of bounds", text(value)), help);
        None
    }

    /// A path that is not empty, resolved relative to the file it is written in.
    pub fn file_path(&self) -> Option<PathBuf> {
        let text = self.string()?;
        if text.is_empty() {
            self.complain(
                "the path is empty",
                "write the path of a file, relative to this one".to_owned(),
            );
            return None;
        }
        Some(relative(self.place(), &text))
    }

    /// The content of a file of at most `bytes_max` bytes, which is watched from now on like every file
    /// that the configuration names.
    pub fn file_content(&self, bytes_max: u64) -> Option<Vec<u8>> {
        let path = self.file_path()?;
        self.reader.files.borrow_mut().insert(path.clone());
        files::read(&path, bytes_max)
            .map_err(|error| {
                let what = format!("{} cannot be read: {error}", path.display());
                self.complain(what, None);
            })
            .ok()
    }

    /// A secret: written in place, from the environment, or from a file without its last line
    /// break. Complaints never show it.
    pub fn secret(&self) -> Option<Found> {
        let bytes = match self.lookup() {
            Resolved::Literal(Value::String(text)) | Resolved::Literal(Value::Datetime(text)) => {
                text.clone().into_bytes()
            }
            Resolved::Outside(text) => text.into_bytes(),
            Resolved::Absent(..) if !self.reader.secrets => return Some(Found::LeftOut),
            Resolved::Absent(what, help) => {
                self.complain_of_secret(what, help);
                return None;
            }
            Resolved::Literal(_) => {
                let help = "write { env = \"NAME\" } or { file = \"path\" }".to_owned();
                self.complain(
                    format!("a secret is expected here, not {}", self.node.value.kind()),
                    help,
                );
                return None;
            }
        };
        if bytes.is_empty() {
            self.complain_of_secret(
                "the secret is empty",
                "a secret that is set must not be empty".to_owned(),
            );
            return None;
        }
        Some(Found::Secret(bytes))
    }

    /// Any value as JSON. Placeholders of the row's table are filled in; other braces stay.
    pub fn json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        let mut settings = self.reader.settings.borrow_mut();
        settings.insert(self.path.clone(), self.key_place.clone());
        drop(settings);
        if let Some(written) = self.written() {
            let mut texts = self.reader.texts.borrow_mut();
            texts.insert(self.path.clone(), written);
        }
        if self.node.value.is_reference() {
            return match (self.resolve()?, self.default()) {
                (Resolved::Outside(text), Some(default))
                    if !matches!(default, Value::String(_)) =>
                {
                    self.json_like(&text, default)
                }
                (Resolved::Outside(text), _) => {
                    self.reader.outside(&text);
                    Some(Json::String(text))
                }
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

    /// A table with any keys as a JSON object.
    pub fn object(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        let read = |table: &mut Cursor<'a>| {
            let fields = table.all();
            fields
                .into_iter()
                .filter_map(|field| Some((field.key.to_owned(), field.json()?)))
                .collect()
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
                    self.complain(
                        "JSON cannot represent this number",
                        "write a finite number: plugins receive their settings as JSON".to_owned(),
                    );
                }
                number.map(Into::into)
            }
            Value::Array(_) | Value::Table(_) => {
                self.unexpected("a scalar");
                None
            }
        }
    }

    /// Converts a text from the environment or a file to the type that its default has.
    fn json_like(&self, text: &str, default: &Value) -> Option<serde_json::Value> {
        let value = match default {
            Value::Integer(_) => text.trim().parse::<i64>().ok().map(Into::into),
            Value::Float(_) => text
                .trim()
                .parse::<f64>()
                .ok()
                .and_then(serde_json::Number::from_f64)
                .map(Into::into),
            Value::Boolean(_) => text.trim().parse::<bool>().ok().map(Into::into),
            _ => Some(text.into()),
        };
        if value.is_none() {
            self.complain(
                format!("{text:?} is not {} like its default", default.kind()),
                None,
            );
        }
        value
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
}
