//! How the bodies of a source are read, and what their senders are answered.

use crate::config::cursor::{Cursor, Field};
use crate::ingest::charset::{Charset, UNDERSTOOD};
use crate::ingest::form::Form;
use crate::ingest::split::{Dialect, Split, is_delimiter};
use crate::plan::{Reply, ReplyBody};

/// How bodies are read.
pub(super) struct Bodies {
    pub(super) split: Split,
    pub(super) encoding: Option<Charset>,
    pub(super) form: Form,
    /// Whether bodies that cannot be read are kept; `None` if it is not said.
    pub(super) unreadable: Option<bool>,
}

pub(super) fn bodies(table: &mut Cursor<'_>) -> Bodies {
    let split = table.take("split").and_then(|field| {
        field.parsed(
            "a way to split",
            "write \"xml:ELEMENT\", \"json:/pointer\", \"csv\" or \"lines\"",
            split,
        )
    });
    let encoding = table.take("encoding");
    let csv = table.take("csv").and_then(|field| {
        let csv = field.table(csv)?;
        Some((field, csv))
    });
    let mut bodies = Bodies {
        split: split.unwrap_or_default(),
        encoding: encoding.as_ref().and_then(self::encoding),
        form: table
            .take("form")
            .and_then(|field| form(&field))
            .unwrap_or_default(),
        unreadable: table
            .take("unreadable")
            .and_then(|field| field.one_of(&[("reject", false), ("quarantine", true)])),
    };
    let Some((field, (dialect, own_encoding))) = csv else {
        return bodies;
    };
    match &mut bodies.split {
        Split::Csv(there) => *there = dialect,
        _ => field.complain(
            "it says how CSV is written, but the bodies of this source are not cut as CSV",
            "write split = \"csv\" as well".to_owned(),
        ),
    }
    if let Some(own) = own_encoding {
        if encoding.is_some() {
            own.complain(
                "encoding of the source is set as well",
                "write it once".to_owned(),
            );
        }
        bodies.encoding = self::encoding(&own);
    }
    bodies
}

fn split(text: &str) -> Option<Split> {
    match text.split_once(':') {
        None if text == "csv" => Some(Split::Csv(Dialect::default())),
        None if text == "lines" => Some(Split::Lines),
        Some(("xml", element)) => {
            let right = |character: char| character.is_alphanumeric() || "_-.:".contains(character);
            (!element.is_empty() && element.chars().all(right))
                .then(|| Split::Xml(element.to_owned()))
        }
        Some(("json", pointer)) => (pointer.is_empty() || pointer.starts_with('/'))
            .then(|| Split::Json(pointer.to_owned())),
        _ => None,
    }
}

fn encoding(field: &Field<'_>) -> Option<Charset> {
    let help = format!(
        "write a name such as \"windows-1252\", \"iso-8859-1\", \"cp850\" or \"utf-16le\"; Weir reads {UNDERSTOOD}"
    );
    field.parsed("an encoding that Weir can read", &help, Charset::of_label)
}

/// How CSV is written, and the field that says in which encoding.
fn csv<'a>(table: &mut Cursor<'a>) -> (Dialect, Option<Field<'a>>) {
    let delimiter = table.take("delimiter").and_then(|field| {
        let help = "write one character such as \",\", \";\", \"|\" or \"\\t\"; it is no letter, digit or quotation mark";
        let delimiter = field.parsed("a delimiter", help, |text| {
            one_byte(text).filter(|byte| is_delimiter(*byte))
        });
        delimiter.map(|byte| (field, byte))
    });
    let quote = table.take("quote").and_then(|field| {
        let help = "write one character such as \"\\\"\" or \"'\", or \"\" if none means that fields are quoted";
        let quote = field.parsed("a quote", help, |text| match text {
            "" => Some(None),
            _ => one_byte(text).filter(|byte| is_quote(*byte)).map(Some),
        });
        quote.map(|quote| (field, quote))
    });
    let dialect = Dialect {
        delimiter: delimiter.as_ref().map(|(_, byte)| *byte),
        quote: quote
            .as_ref()
            .map_or(Dialect::default().quote, |(_, quote)| *quote),
    };
    if dialect.quote.is_some() && dialect.quote == dialect.delimiter {
        // One of the two is written, because their defaults differ.
        if let Some(field) = quote.map(|it| it.0).or(delimiter.map(|it| it.0)) {
            field.complain(
                "delimiter and quote are the same character",
                "write quote = \"\" if fields are not quoted".to_owned(),
            );
        }
    }
    (dialect, table.take("encoding"))
}

fn one_byte(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn is_quote(byte: u8) -> bool {
    byte.is_ascii_punctuation()
}

const FORM: &str = "write \"payload\", \"fields\", \"raw\" or { field = \"NAME\" }";

fn form(field: &Field<'_>) -> Option<Form> {
    if !field.is_table() {
        let found = field.parsed("what the event of a form is", FORM, |text| match text {
            "payload" => Some(Form::Payload),
            "fields" => Some(Form::Fields),
            "raw" => Some(Form::Raw),
            _ => None,
        });
        return found;
    }
    let named = field.table(|table| {
        let name = table.require("field", FORM)?;
        name.parsed("the name of a field", FORM, |text| {
            (!text.is_empty()).then(|| Form::Field(text.to_owned()))
        })
    });
    named.flatten()
}

/// What senders are answered when their request was taken.
pub(super) fn reply(table: &mut Cursor<'_>) -> Reply {
    let short = table.take("accept_status");
    let Some(field) = table.take("reply") else {
        let status = short
            .and_then(|field| field.integer(200..=202))
            .and_then(|status| u16::try_from(status).ok());
        return Reply {
            status: status.unwrap_or(202),
            body: None,
        };
    };
    if short.is_some() {
        field.complain(
            "accept_status is set as well",
            "write reply = { status = 200 } in place of accept_status".to_owned(),
        );
    }
    field.table(reply_table).unwrap_or_default()
}

fn reply_table(table: &mut Cursor<'_>) -> Reply {
    let status = table.take("status").and_then(|field| {
        let status = field.integer(200..=204)?;
        if status == 203 {
            field.complain(
                "203 says that a proxy has changed the answer",
                "write 200, 201, 202 or 204".to_owned(),
            );
            return None;
        }
        u16::try_from(status).ok()
    });
    let (body, media_type) = (table.take("body"), table.take("type"));
    let status = status.unwrap_or(202);
    if status == 204
        && let Some(field) = &body
    {
        field.complain(
            "an answer with status 204 has no body",
            "write status = 200".to_owned(),
        );
    }
    let written = media_type.as_ref().and_then(|field| {
        let help = "write it as in a header: \"text/plain\", \"application/xml; charset=utf-8\"";
        field.parsed("a media type", help, media_type_of)
    });
    let Some(text) = body.as_ref().and_then(Field::string) else {
        if let (Some(field), None) = (media_type, body) {
            field.complain(
                "it is the type of a body, and there is none",
                "write body = \"…\" as well; without a body the answer is a summary of the request in JSON"
                    .to_owned(),
            );
        }
        return Reply { status, body: None };
    };
    let media_type = written.unwrap_or_else(|| usual_type(&text).to_owned());
    Reply {
        status,
        body: Some(ReplyBody { media_type, text }),
    }
}

fn media_type_of(text: &str) -> Option<String> {
    let (main, rest) = text.split_once('/')?;
    let is_visible = |byte: u8| (b' '..=b'~').contains(&byte);
    (!main.is_empty() && !rest.is_empty() && text.bytes().all(is_visible)).then(|| text.to_owned())
}

/// The media type of a body about which it is not said.
fn usual_type(text: &str) -> &'static str {
    match text.trim_start().as_bytes().first() {
        Some(b'{' | b'[') if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            "application/json"
        }
        Some(b'<') if text.trim_start().starts_with("<?xml") => "application/xml; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    }
}
