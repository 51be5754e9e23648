//! Reads forms (`application/x-www-form-urlencoded`), in which several senders of webhooks put what others send as
//! JSON: the whole event in one field, as GitHub does by default, or each value in a field of its own, as Twilio.
//!
//! A signature covers the form as it was sent, so it is verified before anything is decoded here.

use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::charset::{Claims, Text};
use super::envelope::excerpt;
use super::json::MEMBERS_MAX;
use super::media::Media;
use super::split::Split;
use super::{Rejection, json};
use crate::model::Failure;

/// The media type of forms.
const MEDIA_TYPE: &str = "application/x-www-form-urlencoded";
/// The field in which GitHub and Slack have the event.
const PAYLOAD: &str = "payload";
/// The most fields that a message names.
const NAMED_MAX: usize = 8;

/// What the event of a form is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// The JSON in the field `payload`, or a JSON object of all fields if there is none.
    #[default]
    Payload,
    /// What is in this field.
    Field(String),
    /// A JSON object of all fields.
    Fields,
    /// The form as it was sent.
    Raw,
}

/// What a form contains.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Its media type.
    pub(super) media_type: &'static str,
    /// Its text.
    pub(super) text: String,
}

/// Whether a body is to be read as a form. Some clients call everything a form that nobody declared, such as
/// `curl -d`; a form begins with none of the characters with which JSON and XML begin.
pub(super) fn is_form(form: &Form, split: &Split, media: Option<&Media>, body: &[u8]) -> bool {
    let first = body.trim_ascii_start().first();
    let may_be_form = match form {
        Form::Raw => false,
        Form::Payload => matches!(split, Split::Whole | Split::Json(_)),
        Form::Field(_) | Form::Fields => true,
    };
    may_be_form
        && media.is_some_and(|media| media.essence == MEDIA_TYPE)
        && first.is_some_and(|first| !b"{[<".contains(first))
}

/// What a form contains.
///
/// # Errors
/// `Malformed` if a field is not text, or the field with the event is not there.
pub(super) fn open(form: &Form, body: &[u8], claims: Claims<'_>) -> Result<Content, Rejection> {
    match form {
        Form::Field(name) => {
            let text = field(body, name, claims)?.ok_or_else(|| no_field(body, name))?;
            let media_type = match text.trim_start().as_bytes().first() {
                Some(b'{' | b'[') => "application/json",
                Some(b'<') => "application/xml",
                _ => "text/plain; charset=utf-8",
            };
            Ok(Content { media_type, text })
        }
        Form::Payload => match field(body, PAYLOAD, claims)? {
            Some(text) if text.trim_start().starts_with(['{', '[']) => Ok(as_json(text)),
            _ => all_fields(body, claims),
        },
        Form::Fields | Form::Raw => all_fields(body, claims),
    }
}

fn as_json(text: String) -> Content {
    Content {
        media_type: "application/json",
        text,
    }
}

/// All fields as a JSON object. One that is there several times is an array.
fn all_fields(body: &[u8], claims: Claims<'_>) -> Result<Content, Rejection> {
    let mut object = Map::new();
    for (count, (name, value)) in pairs(body).enumerate() {
        if count >= MEMBERS_MAX {
            let detail = format!("a form has more than {MEMBERS_MAX} fields");
            return Err(Failure::new("too-many-members", detail).into());
        }
        let name = decoded(name, "the name of a field", claims)?;
        let what = format!("the field `{}`", excerpt(&name));
        let value = Value::from(decoded(value, &what, claims)?);
        match object.get_mut(&name) {
            None => {
                object.insert(name, value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Ok(as_json(Value::Object(object).to_string()))
}

/// The first field with this name.
fn field(body: &[u8], name: &str, claims: Claims<'_>) -> Result<Option<String>, Rejection> {
    let found = pairs(body).find(|(there, _)| unescaped(there) == name.as_bytes());
    let what = format!("the field `{}`", excerpt(name));
    found
        .map(|(_, value)| decoded(value, &what, claims))
        .transpose()
}

fn no_field(body: &[u8], name: &str) -> Rejection {
    let named = pairs(body).take(NAMED_MAX).map(|(name, _)| {
        let name = unescaped(name);
        format!("`{}`", excerpt(&String::from_utf8_lossy(&name)))
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let detail = format!(
        "the form has no field `{}`, where its event should be; its fields are {named}",
        excerpt(name)
    );
    Failure::new("no-events", detail).into()
}

/// Names and values as they were written, in order.
fn pairs(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let written = body
        .trim_ascii_end()
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty());
    written.map(|pair| {
        let equals = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        (&pair[..equals], pair.get(equals + 1..).unwrap_or_default())
    })
}

fn unescaped(written: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = written
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    percent_decode(&spaced).collect()
}

fn decoded(written: &[u8], what: &str, claims: Claims<'_>) -> Result<String, Rejection> {
    let bytes = unescaped(written);
    let in_field = |failure: Failure| Failure {
        message: format!("in {what} of the form: {}", failure.message),
        ..failure
    };
    let text = Text::of(&bytes, claims)?;
    if text.is_utf8() {
        let text = json::text(text.bytes()).map_err(in_field)?;
        return Ok(text.to_owned());
    }
    text.decoded()
        .map_err(|rejection| rejection.with_failure(in_field))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::ingest::charset::Charset;

    fn check(form: &Form, body: &[u8], expected: Expect) {
        let seen = match open(form, body, Claims::default()) {
            Ok(Content { media_type, text }) => format!("{media_type} {text}"),
            Err(rejection) => format!("{}: {rejection}", rejection.code()),
        };
        expected.assert_eq(&seen);
    }

    #[test]
    fn the_payload_is_the_event_wherever_it_stands() {
        check(
            &Form::Payload,
            b"hook=7&payload=%7B%22name%22%3A+%22G%C3%B6teborg+%2B+1%22%7D",
            expect![[r#"application/json {"name": "Göteborg + 1"}"#]],
        );
        check(
            &Form::Payload,
            b"payload=[1]&payload=[2]\r\n",
            expect!["application/json [1]"],
        );
        check(
            &Form::Payload,
            b"payload=plain&b=1",
            expect![[r#"application/json {"b":"1","payload":"plain"}"#]],
        );
    }

    #[test]
    fn plain_fields_are_an_object_of_texts() {
        check(
            &Form::Payload,
            b"From=%2B4915112345678&Body=Hallo+Welt&NumMedia=0&Media=a&Media=b&Media=c&empty&=x",
            expect![[
                r#"application/json {"":"x","Body":"Hallo Welt","From":"+4915112345678","Media":["a","b","c"],"NumMedia":"0","empty":""}"#
            ]],
        );
        check(
            &Form::Fields,
            b"payload=%7B%7D&a=50%",
            expect![[r#"application/json {"a":"50%","payload":"{}"}"#]],
        );
    }

    #[test]
    fn a_named_field_is_the_event() {
        let form = Form::Field("mandrill_events".into());
        check(
            &form,
            b"a=1&mandrill_events=%5B1%5D",
            expect!["application/json [1]"],
        );
        check(
            &Form::Field("xml".into()),
            b"xml=%3Ca/%3E",
            expect!["application/xml <a/>"],
        );
        check(
            &form,
            b"a=1&b%26=2",
            expect![
                "no-events: the form has no field `mandrill_events`, where its event should be; its fields are `a`, `b&`"
            ],
        );
    }

    #[test]
    fn a_field_that_is_not_text_is_named() {
        check(
            &Form::Payload,
            b"name=Gr%F6%DFe",
            expect![
                "invalid-utf-8: in the field `name` of the form: byte 2 (counted from 0) is not valid UTF-8; send the text as UTF-8"
            ],
        );
        let claims = Claims {
            setting: Charset::of_label("windows-1252"),
            ..Claims::default()
        };
        let read = open(&Form::Payload, b"name=Gr%F6%DFe", claims).unwrap();
        assert_eq!(read.text, r#"{"name":"Größe"}"#);
        let many = "a=1&".repeat(MEMBERS_MAX + 1);
        check(
            &Form::Payload,
            many.as_bytes(),
            expect!["too-many-members: a form has more than 4096 fields"],
        );
    }

    // `curl -d` declares everything as a form.
    #[test]
    fn what_begins_like_json_or_xml_is_no_form() {
        let form = Media::parse("application/x-www-form-urlencoded; charset=UTF-8");
        let is = |how: &Form, split: &Split, body: &[u8]| is_form(how, split, form.as_ref(), body);
        assert!(is(&Form::Payload, &Split::Whole, b"a=1"));
        assert!(!is(&Form::Raw, &Split::Whole, b"a=1"));
        assert!(!is(&Form::Payload, &Split::Lines, b"a=1"));
        assert!(is(&Form::Fields, &Split::Lines, b"a=1"));
        for body in [&b" {\"a\":1}"[..], b"[1]", b"<a/>", b"", b" "] {
            assert!(!is(&Form::Fields, &Split::Whole, body));
        }
        let json = Media::parse("application/json");
        assert!(!is_form(
            &Form::Payload,
            &Split::Whole,
            json.as_ref(),
            b"a=1"
        ));
    }
}
