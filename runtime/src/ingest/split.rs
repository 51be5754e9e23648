//! Cuts a body that is not a CloudEvent into events, as its source is configured.
//!
//! Pieces are in the order of the body and as they were written (CSV records become JSON objects), in
//! UTF-8. Lines and records are cut while the body is decoded, so that it is not in memory twice.
//! A body that cannot be cut is malformed as a whole, with the place; a piece that is not text, or a
//! record of the wrong length, is spoilt alone and comes with its bytes.

mod records;
mod xml;

use memchr::memchr;

pub use self::records::{Dialect, is_delimiter};
pub(super) use self::records::{MEDIA_TYPE as CSV_RECORD, again as record};
use super::charset::Text;
use super::envelope::{EVENTS_MAX, excerpt};
use super::{Rejection, json};
use crate::model::Failure;

/// How a body that is not a CloudEvent is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// The body is one event.
    #[default]
    Whole,
    /// Each element of this name, with its content, is one event. A name without a colon is a local
    /// name and matches any prefix.
    Xml(String),
    /// Each item of the array at this JSON pointer.
    Json(String),
    /// Each record, as a JSON object by the names of the first line.
    Csv(Dialect),
    /// Each line that is not blank, as it was written.
    Lines,
}

impl Split {
    /// The media type of the pieces, if it differs from the body's.
    pub fn content_type(&self) -> Option<&'static str> {
        match self {
            Split::Xml(_) => Some("application/xml"),
            Split::Json(_) | Split::Csv(_) => Some("application/json"),
            Split::Whole | Split::Lines => None,
        }
    }
}

/// A piece that cannot be an event.
#[derive(Debug, PartialEq)]
pub struct Spoilt {
    /// Its bytes as they were received.
    pub bytes: Vec<u8>,
    /// The media type of `bytes`, if it differs from the body's.
    pub media_type: Option<&'static str>,
    /// Why it cannot be an event.
    pub failure: Failure,
}

/// Receives each piece, in order; its error ends the cutting.
pub type Sink<'a> = dyn FnMut(Result<String, Spoilt>) -> Result<(), Rejection> + 'a;

/// Cuts a body and passes each piece to the sink. Only [`Split::Lines`] and [`Split::Csv`] are cut from a text
/// that is not UTF-8; the others need all of it at once.
///
/// # Errors
/// `Malformed` if the body cannot be cut, or the error of the sink.
pub(super) fn cut(split: &Split, text: Text<'_>, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    match split {
        Split::Whole => sink(text_piece(text.bytes())),
        Split::Xml(element) => xml::cut(element, json::text(text.bytes())?, sink),
        Split::Json(pointer) => items_at(pointer, json::text(text.bytes())?, sink),
        Split::Csv(dialect) => records::cut(*dialect, text, sink),
        Split::Lines => lines(text, sink),
    }
}

fn lines(text: Text<'_>, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let (mut begun, mut number) = (Vec::new(), 1);
    text.without_end_mark().pieces(&mut |piece| {
        let mut rest = piece;
        while let Some(end) = memchr(b'\n', rest) {
            if begun.is_empty() {
                line(&rest[..end], number, sink)?;
            } else {
                begun.extend_from_slice(&rest[..end]);
                line(&begun, number, sink)?;
                begun.clear();
            }
            (rest, number) = (&rest[end + 1..], number + 1);
        }
        begun.extend_from_slice(rest);
        Ok(())
    })?;
    line(&begun, number, sink)
}

fn line(written: &[u8], number: u64, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    // Blanks belong to a line: columns may be told apart by their width.
    let written = written.strip_suffix(b"\r").unwrap_or(written);
    if written.trim_ascii().is_empty() {
        return Ok(());
    }
    sink(text_piece(written).map_err(|spoilt| Spoilt {
        failure: in_line(number, spoilt.failure),
        ..spoilt
    }))
}

fn text_piece(bytes: &[u8]) -> Result<String, Spoilt> {
    json::text(bytes)
        .map(str::to_owned)
        .map_err(|failure| Spoilt {
            bytes: bytes.to_vec(),
            media_type: None,
            failure,
        })
}

fn in_line(number: u64, failure: Failure) -> Failure {
    Failure {
        message: format!("in line {number}: {}", failure.message),
        ..failure
    }
}

fn items_at(pointer: &str, text: &str, sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let here = json::at(text, pointer)?.ok_or_else(|| {
        no_events(format!(
            "the document has nothing at `{}`, where its events should be",
            excerpt(pointer)
        ))
    })?;
    if !json::is_array(here) {
        return Err(no_events(format!(
            "what the document has at `{}` is no array",
            excerpt(pointer)
        ))
        .into());
    }
    // One more than are allowed, for the sink to refuse.
    for item in json::items(here, EVENTS_MAX + 1)? {
        sink(Ok(item.get().to_owned()))?;
    }
    Ok(())
}

fn no_events(sentence: String) -> Failure {
    Failure::new("no-events", sentence)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::ingest::http;

    /// The pieces of a body, one per line, with problems in brackets.
    fn check(split: Split, body: &[u8], expected: Expect) {
        let mut seen = String::new();
        let result = cut(&split, Text::utf8(body), &mut |piece| {
            seen.push_str(&piece.unwrap_or_else(|spoilt| {
                let bytes = String::from_utf8_lossy(&spoilt.bytes);
                format!("[{}: {bytes:?}]", spoilt.failure)
            }));
            seen.push('\n');
            Ok(())
        });
        if let Err(rejection) = result {
            seen.push_str(&format!("{}: {rejection}\n", http::status(&rejection)));
        }
        expected.assert_eq(&seen);
    }

    #[test]
    fn each_line_that_is_not_empty_is_an_event() {
        check(
            Split::Lines,
            b"one\r\n\n  two \n \t \nth\xffree\nfour\r",
            expect![[r#"
                one
                  two 
                [invalid-utf-8: in line 5: byte 2 (counted from 0) is not valid UTF-8; send the text as UTF-8: "th�ree"]
                four
            "#]],
        );
    }

    #[test]
    fn items_of_an_array_keep_their_spelling() {
        check(
            Split::Json("/value/a~1b/1".into()),
            br#"{"value": {"a/b": [0, [{"price": 1.10}, 12345678901234567890123, "x"]]}}"#,
            expect![[r#"
            {"price": 1.10}
            12345678901234567890123
            "x"
        "#]],
        );
        check(Split::Json(String::new()), b"[]", expect![""]);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_is_told() {
        check(
            Split::Json("/items".into()),
            br#"{"item": []}"#,
            expect![[r#"
                400 Bad Request: the document has nothing at `/items`, where its events should be
            "#]],
        );
        check(
            Split::Json("/items".into()),
            br#"{"items": {}}"#,
            expect![[r#"
                400 Bad Request: what the document has at `/items` is no array
            "#]],
        );
        check(
            Split::Json("/items".into()),
            br#"{"items": [1, 2"#,
            expect![[r#"
                400 Bad Request: EOF while parsing a list at line 1 column 15
            "#]],
        );
    }
}
