//! Cuts CSV (RFC 4180): each record becomes a JSON object by the names of the first line; all values
//! are strings.
//!
//! A record with too few or too many fields is spoilt alone. A stray quote is different: it makes
//! everything up to the next quote one field, so where the next record begins is unknown. Such a
//! body is malformed as a whole, the failure names the record, and nothing of the body is taken.

use csv::{ByteRecord, Position, Reader, ReaderBuilder};

use super::{Rejection, Sink, Spoilt, in_line, quoted};
use crate::ingest::envelope::excerpt;
use crate::ingest::json;
use crate::model::Failure;

/// The media type of a spoilt record with the line of names before it (RFC 4180 has the parameter).
pub const MEDIA_TYPE: &str = "text/csv; header=present";

/// Passes each record to the sink as a JSON object.
///
/// # Errors
/// `Malformed` if the line of names cannot be used or a quote is stray, or the error of the sink.
pub(super) fn cut(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Rejection> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(body);
    let names = names(&mut reader)?;
    let header = between(body, 0, reader.position());
    check_quotes(header, "the line of names")?;
    let mut record = ByteRecord::new();
    for number in 1u64.. {
        let begin = reader.position().clone();
        if !reader.read_byte_record(&mut record).map_err(unreadable)? {
            break;
        }
        let (written, line) = as_written(between(body, begin.byte(), reader.position()), &begin);
        let which = format!("record {number}, which begins in line {line},");
        check_quotes(written, &which)?;
        sink(object(&names, &record).map_err(|failure| Spoilt {
            bytes: [header.trim_ascii_end(), b"\n", written].concat(),
            media_type: Some(MEDIA_TYPE),
            failure: in_line(line, failure),
        }))?;
    }
    Ok(())
}

/// Reads a spoilt record again, which comes with the line of names.
///
/// # Errors
/// What is still wrong with it.
pub(in crate::ingest) fn again(text: &str) -> Result<String, Failure> {
    let mut read = Err(invalid("there is no record below the line of names"));
    let cut = cut(text.as_bytes(), &mut |piece| {
        read = piece.map_err(|spoilt| spoilt.failure);
        Ok(())
    });
    match cut {
        Err(Rejection::Malformed { failure, .. }) => Err(failure),
        Ok(()) | Err(_) => read,
    }
}

/// The names of the columns, each as a JSON string.
fn names(reader: &mut Reader<&[u8]>) -> Result<Vec<String>, Failure> {
    let header = reader.byte_headers().map_err(unreadable)?;
    let names: Vec<String> = header
        .iter()
        .map(|name| json::text(name).map(quoted))
        .collect::<Result<_, _>>()?;
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(invalid(format!(
            "the first line names {} twice",
            excerpt(twice[0])
        ))),
        None => Ok(names),
    }
}

fn between<'a>(body: &'a [u8], begin: u64, end: &Position) -> &'a [u8] {
    let at = |offset: u64| usize::try_from(offset).map_or(body.len(), |at| at.min(body.len()));
    &body[at(begin)..at(end.byte())]
}

/// A record without the empty lines before it, and the number of its line. The reader leaves the
/// second half of a line ending (CR LF) to the record that follows.
fn as_written<'a>(bytes: &'a [u8], begin: &Position) -> (&'a [u8], u64) {
    let skipped = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let (before, written) = bytes.split_at(skipped);
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    (written, begin.line() + lines as u64)
}

/// Checks that each quote of a record opens a field, closes it, or is written twice inside it. A
/// quote in the middle of a field without quotes stands for itself, as in `15" screen`.
fn check_quotes(written: &[u8], which: &str) -> Result<(), Failure> {
    enum At {
        FieldStart,
        Unquoted,
        Quoted,
        /// After a quote in a quoted field, which closes it unless another quote follows.
        Closed,
        /// Among blanks behind a closed field.
        Behind,
    }
    let mut at = At::FieldStart;
    for byte in written {
        at = match (at, byte) {
            (At::FieldStart | At::Closed, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, _) => At::Quoted,
            (_, b',' | b'\r' | b'\n') => At::FieldStart,
            (At::Closed | At::Behind, b' ' | b'\t') => At::Behind,
            (At::Closed | At::Behind, _) => {
                return Err(stray(which, "has text after the quote that closes a field"));
            }
            (At::FieldStart | At::Unquoted, _) => At::Unquoted,
        };
    }
    match at {
        At::Quoted => Err(stray(which, "opens a quote that is never closed")),
        At::FieldStart | At::Unquoted | At::Closed | At::Behind => Ok(()),
    }
}

fn stray(which: &str, what: &str) -> Failure {
    invalid(format!(
        "{which} {what}, so it is unknown where the next record begins, and nothing of this body was taken; write a quote inside a quoted field twice (\"\")"
    ))
}

/// One record as a JSON object, in the order of the columns.
fn object(names: &[String], record: &ByteRecord) -> Result<String, Failure> {
    if record.len() != names.len() {
        return Err(invalid(format!(
            "the record has {} fields and the first line {}",
            record.len(),
            names.len()
        )));
    }
    let mut object = String::from("{");
    for (name, value) in names.iter().zip(record) {
        if object.len() > 1 {
            object.push(',');
        }
        object.push_str(name);
        object.push(':');
        // Not `json::text`: a value may begin with the character that is a byte order mark
        // elsewhere.
        let value = std::str::from_utf8(value)
            .map_err(|_| Failure::new("invalid-utf-8", "a value is not valid UTF-8; send UTF-8"))?;
        object.push_str(&quoted(value));
    }
    object.push('}');
    Ok(object)
}

fn unreadable(error: csv::Error) -> Failure {
    invalid(error.to_string())
}

fn invalid(sentence: impl Into<String>) -> Failure {
    Failure::new("invalid-csv", sentence)
}
