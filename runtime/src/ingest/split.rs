//! Cuts a body that is not a CloudEvent into events, as its source is configured.
//!
//! Pieces are in the order of the body and as they were written (CSV records become JSON objects).
//! A body that cannot be cut is malformed as a whole, with the place; a piece that is not text, or a
//! record of the wrong length, is spoilt alone and comes with its bytes.

mod records;
mod xml;

use super::envelope::excerpt;
use super::{Rejection, json};
use crate::model::Failure;

pub(super) use self::records::{MEDIA_TYPE as CSV_RECORD, again as record};

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
    Csv,
    /// Each line that is not blank, as it was written.
    Lines,
}

impl Split {
    /// The media type of the pieces, if it differs from the body's.
    pub fn content_type(&self) -> Option<&'static str> {
        match self {
            Split::Xml(_) => Some("application/xml"),
            Split::Json(_) | Split::Csv => Some("application/json"),
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

/// Cuts a body and passes each piece to the sink.
///
/// # Errors
/// `Malformed` if the body cannot be cut, or the error of the sink.
pub fn cut(split: &Split, body: &[u8], sink: &mut Sink<'_>) -> Result<(), Rejection> {
    match split {
        Split::Whole => sink(text_piece(body)),
        Split::Xml(element) => xml::cut(element, json::text(body)?, sink),
        Split::Json(pointer) => items_at(pointer, json::text(body)?, sink),
        Split::Csv => records::cut(body, sink),
        Split::Lines => lines(body, sink),
    }
}

fn lines(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Rejection> {
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        // Blanks belong to a line: columns may be told apart by their width.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.trim_ascii().is_empty() {
            sink(text_piece(line).map_err(|spoilt| Spoilt {
                failure: in_line(number, spoilt.failure),
                ..spoilt
            }))?;
        }
    }
    Ok(())
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
    for item in json::items(here)? {
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
        let result = cut(&split, body, &mut |piece| {
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

    #[test]
    fn records_of_csv_become_objects() {
        check(
            Split::Csv,
            "\u{feff}sku,name\n4711,\"Lamp, \"\"small\"\"\"\n4712\n4713,\"two\nlines\"\n4714,15\" screen\n"
                .as_bytes(),
            expect![[r#"
                {"sku":"4711","name":"Lamp, \"small\""}
                [invalid-csv: in line 3: the record has 1 fields and the first line 2: "sku,name\n4712\n"]
                {"sku":"4713","name":"two\nlines"}
                {"sku":"4714","name":"15\" screen"}
            "#]],
        );
        check(Split::Csv, b"sku,name\n", expect![""]);
        check(
            Split::Csv,
            b"sku,sku\n1,2\n",
            expect![[r#"
                400 Bad Request: the first line names "sku" twice
            "#]],
        );
        check(
            Split::Csv,
            b"sku,name\r\n\r\n1,a\r\n2\r\n\r\n3,c",
            expect![[r#"
                {"sku":"1","name":"a"}
                [invalid-csv: in line 4: the record has 1 fields and the first line 2: "sku,name\n2\r"]
                {"sku":"3","name":"c"}
            "#]],
        );
    }

    // One stray quote made a field of the 998 records behind it, which were gone behind a 202.
    #[test]
    fn a_stray_quote_names_its_record_and_nothing_of_the_body_is_taken() {
        check(
            Split::Csv,
            b"sku,name\n1,Lamp\n2,\"Bowl\n3,Cup\n4,Jug\n",
            expect![[r#"
                {"sku":"1","name":"Lamp"}
                400 Bad Request: record 2, which begins in line 3, opens a quote that is never closed, so it is unknown where the next record begins, and nothing of this body was taken; write a quote inside a quoted field twice ("")
            "#]],
        );
        check(
            Split::Csv,
            b"sku,name\n1,Lamp\n2,\"Bowl\n3,Cup\n4,\"Jug, large\"\n",
            expect![[r#"
                {"sku":"1","name":"Lamp"}
                400 Bad Request: record 2, which begins in line 3, has text after the quote that closes a field, so it is unknown where the next record begins, and nothing of this body was taken; write a quote inside a quoted field twice ("")
            "#]],
        );
        check(
            Split::Csv,
            b"sku,\"name\n1,Lamp\n",
            expect![[r#"
            400 Bad Request: the line of names opens a quote that is never closed, so it is unknown where the next record begins, and nothing of this body was taken; write a quote inside a quoted field twice ("")
        "#]],
        );
    }
}
