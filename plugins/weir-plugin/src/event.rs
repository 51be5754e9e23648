//! Methods that read an event's data as text, bytes, JSON, XML or CSV. The results borrow from the
//! event wherever the format allows it.

use crate::{Error, Event, Payload, Result};
use serde::Deserialize;

impl Event {
    /// Makes an event with this data and nothing else, for tests. Other fields can be set
    /// afterwards.
    pub fn of(data: impl Into<Payload>) -> Self {
        Event {
            data: data.into(),
            ..Event::default()
        }
    }

    /// The data as text. Fails with `not-text` if it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        match &self.data {
            Payload::Text(text) => Ok(text),
            Payload::Binary(bytes) => Err(Error::new(
                "not-text",
                format!("the event's data, {} bytes, is not UTF-8 text", bytes.len()),
            )),
        }
    }

    /// The data as bytes, whether it is text or not.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Payload::Text(text) => text.as_bytes(),
            Payload::Binary(bytes) => bytes,
        }
    }

    /// Reads the data as JSON. Fields of type `&str` borrow and cost no copy. For text that can
    /// contain an escape (`"Fjord \u201c"`), use `Cow<str>` with `#[serde(borrow)]`. Fails with
    /// `broken-json`; the message has line and column.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        Ok(serde_json::from_str(self.text()?)?)
    }

    /// Reads the data as XML, with the conventions of quick-xml's serde: attributes are fields
    /// `@name`, text is `$text`. Fails with `broken-xml`.
    #[cfg(feature = "xml")]
    pub fn xml<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        Ok(quick_xml::de::from_str(self.text()?)?)
    }

    /// Reads the data as CSV, one row at a time, each into a struct; the first row has the names of
    /// the fields. `delimiter` is for example `b','`, `b';'` or `b'\t'`. A row fails with
    /// `broken-csv`; the message has the line.
    ///
    /// A stray quote makes one field of all rows up to the next quote. Therefore all quotes are
    /// checked before the first row, and this method itself fails with `broken-csv` if one is stray.
    #[cfg(feature = "csv")]
    pub fn csv<'a, T: serde::de::DeserializeOwned + 'a>(
        &'a self,
        delimiter: u8,
    ) -> Result<impl Iterator<Item = Result<T>> + 'a> {
        let text = self.text()?;
        check_quotes(text, delimiter)?;
        let reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        Ok(reader.into_deserialize().map(|row| Ok(row?)))
    }

    /// Returns an attribute by its name in lower case: a CloudEvents extension, or an HTTP header
    /// that the source passes on.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(attribute, _)| attribute == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Checks that each quote opens a field, closes it, or is written twice inside it. A quote in the
/// middle of a field without quotes stands for itself, as in `15" screen`.
#[cfg(feature = "csv")]
fn check_quotes(text: &str, delimiter: u8) -> Result<()> {
    enum At {
        FieldStart,
        Unquoted,
        Quoted,
        /// After a quote in a quoted field, which closes it unless another quote follows.
        Closed,
        /// Among blanks behind a closed field.
        Behind,
    }
    let stray = |line: usize, what: &str| {
        let message = format!(
            "the row in line {line} {what}, so it is unknown where the next row begins; a quote inside a quoted field is written twice (\"\")"
        );
        Err(Error::new("broken-csv", message))
    };
    let (mut at, mut line, mut row) = (At::FieldStart, 1, 1);
    for byte in text.bytes() {
        line += usize::from(byte == b'\n');
        at = match (at, byte) {
            (At::FieldStart | At::Closed, b'"') => At::Quoted,
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, _) => At::Quoted,
            (_, b'\r' | b'\n') => {
                row = line;
                At::FieldStart
            }
            (_, byte) if byte == delimiter => At::FieldStart,
            (At::Closed | At::Behind, b' ' | b'\t') => At::Behind,
            (At::Closed | At::Behind, _) => {
                return stray(row, "has text after the quote that closes a field");
            }
            (At::FieldStart | At::Unquoted, _) => At::Unquoted,
        };
    }
    match at {
        At::Quoted => stray(row, "opens a quote that is never closed"),
        At::FieldStart | At::Unquoted | At::Closed | At::Behind => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Lamp<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        sku: &'a str,
    }

    #[test]
    fn json_text_without_escapes_is_borrowed() {
        let event = Event::of(r#"{"sku": "4711", "name": "Fjord"}"#);
        let lamp: Lamp<'_> = event.json().expect("a lamp");
        let data = event.bytes().as_ptr_range();
        assert!(data.contains(&lamp.sku.as_ptr()) && matches!(lamp.name, Cow::Borrowed("Fjord")));
        let escaped = Event::of(r#"{"sku": "4711", "name": "\u201eFjord\u201c"}"#);
        assert_eq!(escaped.json::<Lamp<'_>>().expect("a lamp").name, "„Fjord“");
    }

    #[test]
    fn data_that_is_not_json_fails_with_line_and_column() {
        for (data, said) in [
            ("", "line 1 column 0"),
            (r#"{"sku": "4711"}"#, "`name`"),
            (r#"{"sku": 7}"#, "column 9"),
            ("<lamp/>", "column 1"),
        ] {
            let error = Event::of(data).json::<Lamp<'_>>().expect_err(data);
            assert_eq!(error.code, "broken-json");
            assert!(error.message.contains(said), "{data}: {error}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_fail_with_a_code() {
        let event = Event::of(vec![0xff, 0xfe]);
        assert_eq!(event.data, Payload::Binary(vec![0xff, 0xfe]));
        assert_eq!(
            event.json::<Lamp<'_>>().map_err(|error| error.code),
            Err("not-text".into())
        );
        assert_eq!(event.bytes(), [0xff, 0xfe]);
        assert_eq!(Event::of(b"lamp".to_vec()).text(), Ok("lamp"));
    }

    #[test]
    fn attributes_are_found_by_name() {
        let attributes = vec![("x-topic".into(), "lamps".into())];
        let event = Event {
            attributes,
            ..Event::default()
        };
        assert_eq!(
            (event.attribute("x-topic"), event.attribute("topic")),
            (Some("lamps"), None)
        );
    }

    #[cfg(feature = "xml")]
    #[test]
    fn xml_becomes_a_struct_that_borrows() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Price<'a> {
            #[serde(rename = "@currency")]
            currency: &'a str,
            #[serde(rename = "$text", borrow)]
            amount: Cow<'a, str>,
        }
        let event = Event::of(r#"<price currency="EUR">9.90</price>"#);
        assert_eq!(
            event.xml(),
            Ok(Price {
                currency: "EUR",
                amount: "9.90".into()
            })
        );
        assert_eq!(
            Event::of("<price")
                .xml::<Price<'_>>()
                .map_err(|error| error.code),
            Err("broken-xml".into())
        );
    }

    #[cfg(feature = "csv")]
    #[test]
    fn csv_is_read_a_row_at_a_time() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Stock {
            sku: String,
            available: i64,
        }
        let event = Event::of("sku; available\n4711; 3\n0815; many\n");
        let mut rows = event.csv::<Stock>(b';').expect("rows");
        assert_eq!(
            rows.next(),
            Some(Ok(Stock {
                sku: "4711".into(),
                available: 3
            }))
        );
        let error = rows.next().expect("a row").expect_err("no number");
        assert!(
            error.code == "broken-csv" && error.message.contains("line: 3"),
            "{error}"
        );
        assert_eq!(rows.next(), None);
    }

    // One stray quote made a field of the 998 rows behind it, and the event mapped to two products.
    #[cfg(feature = "csv")]
    #[test]
    fn a_stray_quote_fails_before_the_first_row() {
        let read = |text: &str| {
            let event = Event::of(text);
            event
                .csv::<(String, String)>(b',')
                .and_then(|rows| rows.collect::<Result<Vec<_>>>())
                .map(|rows| rows.len())
                .map_err(|error| error.message[..23].to_owned())
        };
        assert_eq!(
            read("sku,name\n1,Lamp\n2,\"Bowl\n3,Cup\n"),
            Err("the row in line 3 opens".into())
        );
        let swallowed = "sku,name\r\n1,Lamp\r\n2,\"Bowl\r\n3,5\" screen\r\n";
        assert_eq!(read(swallowed), Err("the row in line 3 has t".into()));
        let fine = "sku,name\n1,\"two\nlines, \"\"quoted\"\"\" \n2,15\" screen\n";
        assert_eq!(read(fine), Ok(2));
    }
}
