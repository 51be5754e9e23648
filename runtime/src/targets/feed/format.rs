//! How a feed is written: what stands before its records, each record, and what stands after them.
//!
//! A record is made of a rendering alone, so equal renderings give equal bytes. What a format cannot carry
//! is dropped and counted where a reader would take the whole file for broken, and refused for its item
//! where something would be lost.

mod delimited;
mod xml;

use serde_json::value::RawValue;

pub use self::delimited::{Delimited, Encoding, Quoting};
pub use self::xml::Xml;
pub(crate) use self::xml::is_name;
use super::pick::Pick;
use crate::model::Payload;

/// A column or an element: its name, and the JSON pointer of its value in the rendering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name of the column or element.
    pub name: String,
    /// Where its value is, for example `/price/text`.
    pub pointer: String,
}

/// The format of a feed, with the options of that format.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// One JSON object a line: the rendering, or an object of the fields.
    Ndjson,
    /// Values between delimiters, one record a line.
    Csv(Delimited),
    /// Values between tabs, one record a line.
    Tsv(Delimited),
    /// One element a record.
    Xml(Box<Xml>),
}

/// Why a rendering cannot be a record, as a phrase for the operator.
pub(super) type Unfit = String;

/// Writes a feed.
pub(super) struct Writer {
    format: Format,
    fields: Vec<Field>,
    pick: Pick,
}

impl Writer {
    pub(super) fn new(format: &Format, fields: &[Field]) -> Writer {
        Writer {
            format: format.clone(),
            fields: fields.to_vec(),
            pick: Pick::new(fields.iter().map(|field| &*field.pointer)),
        }
    }

    /// All that a record and the file around it depend on: two feeds with the same text write the same
    /// bytes for the same renderings.
    pub(super) fn description(&self) -> String {
        let fields = self.fields.iter();
        let fields = fields.map(|field| format!("{}={}", field.name, field.pointer));
        let (fields, more) = (
            fields.collect::<Vec<_>>().join("&"),
            match &self.format {
                Format::Ndjson => String::new(),
                Format::Csv(options) | Format::Tsv(options) => options.description(),
                Format::Xml(options) => options.description(),
            },
        );
        format!("{} {fields} {more}", self.extension())
    }

    /// The media type of the file.
    pub(super) fn content_type(&self) -> String {
        match &self.format {
            Format::Ndjson => "application/x-ndjson".to_owned(),
            Format::Csv(options) => format!("text/csv; charset={}", options.encoding.charset()),
            Format::Tsv(options) => {
                format!(
                    "text/tab-separated-values; charset={}",
                    options.encoding.charset()
                )
            }
            Format::Xml(_) => "application/xml; charset=utf-8".to_owned(),
        }
    }

    /// The extension of the file's name.
    pub(super) fn extension(&self) -> &'static str {
        match &self.format {
            Format::Ndjson => "ndjson",
            Format::Csv(_) => "csv",
            Format::Tsv(_) => "tsv",
            Format::Xml(_) => "xml",
        }
    }

    /// What stands before the records.
    pub(super) fn header(&self) -> Vec<u8> {
        match &self.format {
            Format::Ndjson => Vec::new(),
            Format::Csv(options) | Format::Tsv(options) => options.header(&self.fields),
            Format::Xml(options) => options.header(),
        }
    }

    /// What stands after the records.
    pub(super) fn footer(&self) -> Vec<u8> {
        match &self.format {
            Format::Ndjson | Format::Csv(_) | Format::Tsv(_) => Vec::new(),
            Format::Xml(options) => options.footer(),
        }
    }

    /// The record of a rendering, and the number of characters that were dropped because the format
    /// cannot hold them.
    ///
    /// # Errors
    /// Why the rendering cannot be a record.
    pub(super) fn record(&self, body: &Payload) -> Result<(Vec<u8>, u64), Unfit> {
        let Payload::Text(text) = body else {
            return Err("the rendering is not JSON text".to_owned());
        };
        let values = self.pick.values(text);
        let values = values.map_err(|error| format!("the rendering is not JSON: {error}"))?;
        let mut record = Vec::with_capacity(text.len() + 64);
        let dropped = match &self.format {
            Format::Ndjson => {
                self.line(text, &values, &mut record);
                0
            }
            Format::Csv(options) | Format::Tsv(options) => {
                options.record(&self.fields, &values, &mut record)?
            }
            Format::Xml(options) => options.record(&self.fields, &values, &mut record),
        };
        Ok((record, dropped))
    }

    fn line(&self, text: &str, values: &[Option<&RawValue>], record: &mut Vec<u8>) {
        // In valid JSON a line break stands between values only.
        let one_line = |text: &str, record: &mut Vec<u8>| {
            let bytes = text.bytes().map(|byte| match byte {
                b'\n' | b'\r' => b' ',
                byte => byte,
            });
            record.extend(bytes);
        };
        if self.fields.is_empty() {
            one_line(text.trim(), record);
        } else {
            record.push(b'{');
            let there = self.fields.iter().zip(values);
            let there = there.filter_map(|(field, value)| Some((field, (*value)?)));
            for (at, (field, value)) in there.enumerate() {
                if at > 0 {
                    record.push(b',');
                }
                record.extend(serde_json::Value::from(&*field.name).to_string().bytes());
                record.push(b':');
                one_line(value.get(), record);
            }
            record.push(b'}');
        }
        record.push(b'\n');
    }
}

#[cfg(test)]
mod tests;
