//! Cuts CSV (RFC 4180, with a delimiter and a quote of the source's): each record becomes a JSON object by the
//! names of the first line; all values are strings.
//!
//! A record with too few or too many fields is spoilt alone. A stray quote is different: it makes
//! everything up to the next quote one field, so where the next record begins is unknown. Such a
//! body is malformed as a whole, the failure names the record, and nothing of the body is taken.
//!
//! What spreadsheets and old systems add is passed over: a first line `sep=;`, delimiters behind the last
//! column, and Ctrl-Z at the end. The text may come in pieces.

use memchr::{memchr, memchr_iter, memchr3};

use super::{Rejection, Sink, Spoilt, in_line, quoted};
use crate::ingest::charset::Text;
use crate::ingest::envelope::excerpt;
use crate::ingest::json;
use crate::model::Failure;

/// The media type of a spoilt record with the line of names before it (RFC 4180 has the parameter).
pub const MEDIA_TYPE: &str = "text/csv; header=present";
/// The same of one that was decoded.
pub const MEDIA_TYPE_UTF8: &str = "text/csv; header=present; charset=utf-8";

/// The most lines of a field in quotes. With more, a quote was probably left open, and the next one that opens
/// a field would close it.
const FIELD_LINES_MAX: u64 = 1000;

/// How CSV is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What stands between two fields. `None` means a comma, unless the body begins with a line such as `sep=;`.
    pub delimiter: Option<u8>,
    /// What may stand around a field; `None` if no character has that meaning.
    pub quote: Option<u8>,
}

impl Default for Dialect {
    fn default() -> Dialect {
        Dialect {
            delimiter: None,
            quote: Some(b'"'),
        }
    }
}

/// Passes each record to the sink as a JSON object.
///
/// # Errors
/// `Malformed` if the line of names cannot be used, a quote is stray, or the text is not in its encoding; or the
/// error of the sink.
pub(super) fn cut(dialect: Dialect, text: Text<'_>, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let text = text.without_end_mark();
    let mut cutter = Cutter::new(dialect, !text.is_utf8(), sink);
    text.pieces(&mut |piece| cutter.push(piece))?;
    cutter.finish()
}

/// Reads a spoilt record again, which comes with the line of names.
///
/// # Errors
/// What is still wrong with it.
pub(in crate::ingest) fn again(dialect: Dialect, text: Text<'_>) -> Result<String, Failure> {
    let mut read = Err(invalid("there is no record below the line of names"));
    let cut = cut(dialect, text, &mut |piece| {
        read = piece.map_err(|spoilt| spoilt.failure);
        Ok(())
    });
    match cut {
        Err(rejection) => Err(rejection.into_failure()),
        Ok(()) => read,
    }
}

/// Where the cutter is in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    FieldStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted field, which closes it unless another quote follows.
    Closed,
    /// Among blanks behind a closed field.
    Behind,
}

/// Cuts a text that comes in pieces.
struct Cutter<'s, 'k> {
    dialect: Dialect,
    delimiter: u8,
    media_type: &'static str,
    sink: &'s mut Sink<'k>,
    /// The names of the columns, each as a JSON string, once they were read.
    names: Option<Vec<String>>,
    /// The line of names as it was written, with the line `sep=;` if there is one.
    header: Vec<u8>,
    at: At,
    /// The values of the record, one behind the other, and where each ends.
    values: Vec<u8>,
    ends: Vec<usize>,
    /// The record as it was written.
    written: Vec<u8>,
    /// The line, from 1, of the next byte, and those where the record and the field began.
    line: u64,
    record_line: u64,
    field_line: u64,
    /// Records below the line of names.
    records: u64,
}

impl<'s, 'k> Cutter<'s, 'k> {
    fn new(dialect: Dialect, decoded: bool, sink: &'s mut Sink<'k>) -> Cutter<'s, 'k> {
        Cutter {
            dialect,
            delimiter: dialect.delimiter.unwrap_or(b','),
            media_type: match decoded {
                true => MEDIA_TYPE_UTF8,
                false => MEDIA_TYPE,
            },
            sink,
            names: None,
            header: Vec::new(),
            at: At::FieldStart,
            values: Vec::new(),
            ends: Vec::new(),
            written: Vec::new(),
            line: 1,
            record_line: 1,
            field_line: 1,
            records: 0,
        }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), Rejection> {
        let mut rest = piece;
        while let Some(first) = rest.first() {
            // Most of a text is the inside of fields.
            let inside = match (self.at, self.dialect.quote) {
                (At::Unquoted, _) => memchr3(self.delimiter, b'\r', b'\n', rest),
                (At::Quoted, Some(quote)) => memchr(quote, rest),
                _ => Some(0),
            };
            let length = inside.unwrap_or(rest.len());
            if length == 0 {
                self.byte(*first)?;
                rest = &rest[1..];
                continue;
            }
            let (inside, behind) = rest.split_at(length);
            self.values.extend_from_slice(inside);
            self.written.extend_from_slice(inside);
            if self.at == At::Quoted {
                self.line += memchr_iter(b'\n', inside).count() as u64;
                self.check_length()?;
            }
            rest = behind;
        }
        Ok(())
    }

    /// Takes a byte that may mean something.
    fn byte(&mut self, byte: u8) -> Result<(), Rejection> {
        let is_quote = self.dialect.quote == Some(byte);
        if matches!(byte, b'\r' | b'\n') && self.at != At::Quoted {
            return self.end_line(byte);
        }
        if self.written.is_empty() {
            self.record_line = self.line;
        }
        self.written.push(byte);
        self.at = match self.at {
            At::FieldStart if is_quote => {
                self.field_line = self.line;
                At::Quoted
            }
            At::Quoted => At::Closed,
            At::Closed if is_quote => {
                self.values.push(byte);
                At::Quoted
            }
            At::FieldStart | At::Unquoted | At::Closed | At::Behind if byte == self.delimiter => {
                self.ends.push(self.values.len());
                At::FieldStart
            }
            At::Closed | At::Behind if matches!(byte, b' ' | b'\t') => At::Behind,
            At::Closed | At::Behind => {
                return Err(self.stray("has text after the quote that closes a field"));
            }
            // A quote in the middle of a field without quotes stands for itself, as in `15" screen`.
            At::FieldStart | At::Unquoted => {
                self.values.push(byte);
                At::Unquoted
            }
        };
        Ok(())
    }

    fn end_line(&mut self, byte: u8) -> Result<(), Rejection> {
        // Empty lines are passed over, and so is the second half of a line ending.
        let ended = if self.written.is_empty() {
            Ok(())
        } else {
            self.end_record()
        };
        self.line += u64::from(byte == b'\n');
        ended
    }

    fn finish(mut self) -> Result<(), Rejection> {
        if self.at == At::Quoted {
            return Err(self.stray("opens a quote that is never closed"));
        }
        if self.written.is_empty() {
            return Ok(());
        }
        self.end_record()
    }

    fn end_record(&mut self) -> Result<(), Rejection> {
        self.ends.push(self.values.len());
        self.at = At::FieldStart;
        let names = self.names.take();
        let done = match &names {
            None if self.header.is_empty() && self.is_separator_line() => {
                self.keep_header();
                Ok(None)
            }
            None => self.read_names().map(Some),
            Some(names) => self.record(names).map(|()| None),
        };
        self.names = done?.or(names);
        self.values.clear();
        self.ends.clear();
        self.written.clear();
        Ok(())
    }

    /// Whether the first line is one such as `sep=;`, which a spreadsheet writes and reads. It decides unless the
    /// source is configured.
    fn is_separator_line(&mut self) -> bool {
        let written = self.written.strip_prefix(b"\"").unwrap_or(&self.written);
        let written = written.strip_suffix(b"\"").unwrap_or(written);
        let [name @ .., delimiter] = written else {
            return false;
        };
        if !name.eq_ignore_ascii_case(b"sep=") || !is_delimiter(*delimiter) {
            return false;
        }
        self.delimiter = self.dialect.delimiter.unwrap_or(*delimiter);
        true
    }

    fn keep_header(&mut self) {
        self.header.extend_from_slice(&self.written);
        self.header.push(b'\n');
    }

    /// The names of the columns, each as a JSON string. Columns at the end that have no name are no columns.
    fn read_names(&mut self) -> Result<Vec<String>, Rejection> {
        self.keep_header();
        let mut fields: Vec<&[u8]> = fields(&self.values, &self.ends).collect();
        while fields.len() > 1 && fields.last().is_some_and(|name| name.is_empty()) {
            fields.pop();
        }
        if let ([name], None) = (&fields[..], self.dialect.delimiter)
            && let Some(other) = name.iter().find(|byte| b";\t|".contains(byte))
        {
            let other = char::from(*other).escape_default();
            let name = excerpt(&String::from_utf8_lossy(name));
            return Err(invalid(format!(
                "the first line names one column, {name:?}; if `{other}` stands between columns, write csv = {{ delimiter = \"{other}\" }} at the source"
            ))
            .into());
        }
        let names: Vec<String> = fields
            .into_iter()
            .map(|name| value(name).map(quoted))
            .collect::<Result<_, _>>()
            .map_err(|failure| Failure {
                message: format!("in the line of names: {}", failure.message),
                ..failure
            })?;
        let mut sorted: Vec<&String> = names.iter().collect();
        sorted.sort_unstable();
        match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => {
                Err(invalid(format!("the first line names {} twice", excerpt(twice[0]))).into())
            }
            None => Ok(names),
        }
    }

    fn record(&mut self, names: &[String]) -> Result<(), Rejection> {
        self.records += 1;
        let piece = object(names, &self.values, &self.ends).map_err(|failure| Spoilt {
            bytes: [&self.header[..], &self.written, b"\n"].concat(),
            media_type: Some(self.media_type),
            failure: in_line(self.record_line, failure),
        });
        (self.sink)(piece)
    }

    fn check_length(&self) -> Result<(), Rejection> {
        match self.line - self.field_line > FIELD_LINES_MAX {
            true => Err(self.stray(&format!(
                "has a field in quotes of more than {FIELD_LINES_MAX} lines, whose quote was probably left open"
            ))),
            false => Ok(()),
        }
    }

    fn stray(&self, what: &str) -> Rejection {
        let which = match self.names {
            Some(_) => format!(
                "record {}, which begins in line {},",
                self.records + 1,
                self.record_line
            ),
            None => "the line of names".to_owned(),
        };
        invalid(format!(
            "{which} {what}, so it is unknown where the next record begins, and nothing of this body was taken; write a quote inside a quoted field twice (\"\"), or csv = {{ quote = \"\" }} at the source if its quotes are plain characters"
        ))
        .into()
    }
}

/// Whether a character can stand between two fields.
pub fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n\0".contains(&byte)
}

fn fields<'a>(values: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(ends).map(|(begin, end)| &values[begin..*end])
}

/// One record as a JSON object, in the order of the columns.
fn object(names: &[String], values: &[u8], ends: &[usize]) -> Result<String, Failure> {
    let mut surplus = fields(values, ends).skip(names.len());
    if ends.len() < names.len() || surplus.any(|value| !value.is_empty()) {
        return Err(invalid(format!(
            "the record has {} fields and the first line {}",
            ends.len(),
            names.len()
        )));
    }
    let mut object = String::from("{");
    for (name, field) in names.iter().zip(fields(values, ends)) {
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(name);
        object.push(':');
        object.push_str(&quoted(value(field)?));
    }
    object.push('}');
    Ok(object)
}

/// Not `json::text`: a value may begin with the character that is a byte order mark elsewhere.
fn value(field: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(field).map_err(|_| {
        Failure::new(
            "invalid-utf-8",
            format!("a value is not valid UTF-8; {}", json::OTHER_ENCODING),
        )
    })
}

fn invalid(sentence: impl Into<String>) -> Failure {
    Failure::new("invalid-csv", sentence)
}

#[cfg(test)]
mod tests;
