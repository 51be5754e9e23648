//! CSV and TSV: one record a line, its values in the order of the fields.
//!
//! Lines of CSV end with CR LF, as RFC 4180 has it; there is no byte order mark, because some readers take
//! it for data. A value of TSV holds no tab and no line break: each becomes a space.

use serde_json::value::RawValue;

use super::super::pick::{Shown, shown};
use super::{Field, Unfit};

/// How values are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delimited {
    /// Between two values.
    pub delimiter: char,
    /// When a value stands in quotes.
    pub quoting: Quoting,
    /// The bytes of the characters.
    pub encoding: Encoding,
    /// Between the elements of a list.
    pub join: String,
    /// Whether an apostrophe is written before a value that a spreadsheet would take for a formula.
    pub guard_formulas: bool,
}

/// When a value stands in quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quoting {
    /// Where it would be read wrongly without.
    #[default]
    Needed,
    /// Always.
    Always,
    /// Never: a delimiter or a line break in it becomes a space.
    Never,
}

/// The encoding of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// Windows-1252: the item is refused if it has a character that is not in it.
    Windows1252,
}

impl Encoding {
    /// Its name in a media type.
    pub(super) fn charset(self) -> &'static str {
        match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Windows1252 => "windows-1252",
        }
    }
}

impl Delimited {
    /// CSV as most readers take it.
    pub fn csv() -> Delimited {
        Delimited {
            delimiter: ',',
            quoting: Quoting::default(),
            encoding: Encoding::default(),
            join: ",".to_owned(),
            guard_formulas: false,
        }
    }

    /// TSV as most readers take it.
    pub fn tsv() -> Delimited {
        Delimited {
            delimiter: '\t',
            ..Delimited::csv()
        }
    }

    pub(super) fn description(&self) -> String {
        format!(
            "{:?} {} {} {:?} {}",
            self.delimiter,
            self.quoting as u8,
            self.encoding.charset(),
            self.join,
            self.guard_formulas,
        )
    }

    pub(super) fn header(&self, fields: &[Field]) -> Vec<u8> {
        let mut line = Vec::new();
        let only = fields.len() == 1;
        for (at, field) in fields.iter().enumerate() {
            self.separate(at, &mut line);
            // The configuration was refused if a name cannot be encoded.
            let _ = self.value(&field.name, only, &mut line, &mut 0);
        }
        self.end(&mut line);
        line
    }

    /// Whether a name or delimiter can be written in this encoding.
    pub(crate) fn can_write(&self, text: &str) -> Result<(), char> {
        self.encode(text, &mut Vec::new())
    }

    pub(super) fn record(
        &self,
        fields: &[Field],
        values: &[Option<&RawValue>],
        line: &mut Vec<u8>,
    ) -> Result<u64, Unfit> {
        let (mut dropped, only) = (0, fields.len() == 1);
        for (at, (field, value)) in fields.iter().zip(values).enumerate() {
            self.separate(at, line);
            let mut text = value.map(|value| self.text(value)).unwrap_or_default();
            if self.guard_formulas && is_formula(&text) {
                text.insert(0, '\'');
            }
            self.value(&text, only, line, &mut dropped)
                .map_err(|character| {
                    format!(
                        "column {}: {} has no character {character:?} (U+{:04X})",
                        field.name,
                        self.encoding.charset(),
                        u32::from(character)
                    )
                })?;
        }
        self.end(line);
        Ok(dropped)
    }

    /// A value as text; the elements of a list are joined, an object is its JSON.
    fn text(&self, value: &RawValue) -> String {
        match shown(value) {
            None => String::new(),
            Some(Shown::Text(text)) => text.into_owned(),
            Some(Shown::Plain(text)) => text.to_owned(),
            Some(Shown::List(items)) => {
                let items = items.into_iter().map(|item| self.text(item));
                let items = items.filter(|item| !item.is_empty());
                items.collect::<Vec<_>>().join(&self.join)
            }
            Some(Shown::Object(_)) => value.get().to_owned(),
        }
    }

    fn is_tsv(&self) -> bool {
        self.delimiter == '\t'
    }

    fn separate(&self, at: usize, line: &mut Vec<u8>) {
        if at > 0 {
            let _ = self.encode(self.delimiter.encode_utf8(&mut [0; 4]), line);
        }
    }

    fn end(&self, line: &mut Vec<u8>) {
        let end: &[u8] = if self.is_tsv() { b"\n" } else { b"\r\n" };
        line.extend_from_slice(end);
    }

    /// Writes a value; returns the character that the encoding does not have.
    fn value(
        &self,
        text: &str,
        only: bool,
        line: &mut Vec<u8>,
        dropped: &mut u64,
    ) -> Result<(), char> {
        let breaks = |it: char| matches!(it, '\r' | '\n');
        let spaced = match self.quoting {
            Quoting::Never => text.contains(|it| breaks(it) || it == self.delimiter),
            _ => self.is_tsv() && text.contains(|it| breaks(it) || it == '\t'),
        };
        // No reader expects NUL, and some end there.
        *dropped += text.bytes().filter(|byte| *byte == 0).count() as u64;
        let (mut changed, text) = match spaced || text.contains('\0') {
            false => (String::new(), text),
            true => (text.replace('\0', ""), ""),
        };
        if spaced {
            changed = changed.replace("\r\n", " ");
            changed = changed.replace(|it| breaks(it) || it == self.delimiter, " ");
        }
        let text = if changed.is_empty() { text } else { &changed };
        let needed = || {
            text.contains(|it| breaks(it) || it == '"' || it == self.delimiter)
                || text.starts_with(' ')
                || text.ends_with(' ')
                // A line without a character is no record for most readers.
                || only && text.is_empty()
        };
        let quoted = match self.quoting {
            Quoting::Needed => needed(),
            Quoting::Always => true,
            Quoting::Never => false,
        };
        if !quoted {
            return self.encode(text, line);
        }
        line.push(b'"');
        for (at, part) in text.split('"').enumerate() {
            if at > 0 {
                line.extend_from_slice(b"\"\"");
            }
            self.encode(part, line)?;
        }
        line.push(b'"');
        Ok(())
    }

    fn encode(&self, text: &str, line: &mut Vec<u8>) -> Result<(), char> {
        match self.encoding {
            Encoding::Utf8 => line.extend_from_slice(text.as_bytes()),
            Encoding::Windows1252 => {
                for character in text.chars() {
                    line.push(windows_1252(character).ok_or(character)?);
                }
            }
        }
        Ok(())
    }
}

/// Whether a spreadsheet would calculate a value. Numbers are none, whatever their sign: an apostrophe
/// before `-5.00` makes a text of it.
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
        && text.replace([' ', ','], "").parse::<f64>().is_err()
}

/// The characters of the bytes 0x80 to 0x9F; those of the other bytes have their own numbers.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

fn windows_1252(character: char) -> Option<u8> {
    match u32::from(character) {
        number @ (0..=0x7f | 0xa0..=0xff) => u8::try_from(number).ok(),
        _ => {
            let at = WINDOWS_1252.iter().position(|it| *it == character)?;
            u8::try_from(0x80 + at).ok()
        }
    }
}
