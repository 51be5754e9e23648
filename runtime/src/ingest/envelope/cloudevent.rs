//! Reads CloudEvents 1.0.2, in binary mode from headers and in structured mode from a JSON object.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::{ATTRIBUTES_MAX, check_data, excerpt};
use crate::ingest::media::Media;
use crate::ingest::{Headers, Rejection, json};
use crate::model::{Event, Failure, Payload};

/// Whether a request is in binary mode: at least one of the required attributes is a header.
pub(super) fn is_binary(headers: &Headers) -> bool {
    ["ce-specversion", "ce-id", "ce-source", "ce-type"]
        .iter()
        .any(|name| headers.contains(name))
}

pub(super) fn binary(
    headers: &Headers,
    content_type: Option<String>,
    data: Payload,
) -> Result<Event, Failure> {
    let mut attributes = Attributes::new("ce-");
    for (name, value) in headers.iter() {
        let Some(attribute) = name.strip_prefix("ce-") else {
            continue;
        };
        attributes.set(attribute, header_value(name, value)?)?;
    }
    // The media type of the data is the request's own, so this header is ignored.
    attributes.event(|_| content_type, data)
}

/// Reads one CloudEvent from a JSON object and checks its data.
pub(super) fn structured(text: &str, all_json: bool) -> Result<Event, Failure> {
    json::check(text)?;
    if !text.trim_start().starts_with('{') {
        return Err(invalid("a CloudEvent in structured mode is a JSON object"));
    }
    let mut attributes = Attributes::new("");
    let (mut data, mut data_base64) = (None, None);
    for (name, value) in json::members(text)? {
        let place = match name.as_str() {
            "data" => &mut data,
            "data_base64" => &mut data_base64,
            _ => {
                if let Some(value) = attribute_value(&name, value)? {
                    attributes.set(&name.to_ascii_lowercase(), value)?;
                }
                continue;
            }
        };
        if place.replace(value).is_some() {
            return Err(invalid(format!("`{name}` is there twice")));
        }
    }
    let json = attributes
        .get("datacontenttype")
        .is_none_or(|written| Media::parse(written).is_some_and(|media| media.is_json()));
    let (payload, checked) = match (data, data_base64) {
        (Some(_), Some(_)) => return Err(invalid("`data` and `data_base64` exclude each other")),
        (None, None) => (Payload::Text(String::new()), false),
        (None, Some(encoded)) => (base64_data(encoded)?, false),
        // Data whose media type is not JSON is in a JSON string (an XML document, for example).
        (Some(value), None) => match json::string(value).filter(|_| !json) {
            Some(text) => (Payload::received(text.into_bytes()), false),
            None => (Payload::Text(value.get().to_owned()), true),
        },
    };
    let event = attributes.event(
        |written| Some(written.unwrap_or_else(|| "application/json".to_owned())),
        payload,
    )?;
    if !checked {
        check_data(&event, all_json)?;
    }
    Ok(event)
}

fn base64_data(encoded: &RawValue) -> Result<Payload, Failure> {
    let text = json::string(encoded).ok_or_else(|| invalid("`data_base64` is a string"))?;
    let bytes = STANDARD
        .decode(text)
        .map_err(|error| invalid(format!("`data_base64` is not base64: {error}")))?;
    Ok(Payload::received(bytes))
}

/// The attributes of one CloudEvent while it is read.
struct Attributes {
    /// The prefix of names in messages: `ce-` in binary mode.
    prefix: &'static str,
    values: Vec<(String, String)>,
}

impl Attributes {
    fn new(prefix: &'static str) -> Attributes {
        Attributes {
            prefix,
            values: Vec::with_capacity(12),
        }
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Failure> {
        if self.get(name).is_some() {
            return Err(invalid(format!("`{}{name}` is there twice", self.prefix)));
        }
        if self.values.len() >= ATTRIBUTES_MAX {
            return Err(invalid(format!(
                "an event has at most {ATTRIBUTES_MAX} attributes"
            )));
        }
        self.values.push((name.to_owned(), value));
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values
            .iter()
            .find(|(there, _)| there == name)
            .map(|(_, value)| value.as_str())
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.values.iter().position(|(there, _)| there == name)?;
        Some(self.values.remove(at).1)
    }

    fn required(&mut self, name: &str) -> Result<String, Failure> {
        let prefix = self.prefix;
        let value = self.take(name).ok_or_else(|| {
            invalid(format!(
                "`{prefix}{name}` is missing; a CloudEvent needs it"
            ))
        })?;
        if value.is_empty() {
            Err(invalid(format!(
                "`{prefix}{name}` is empty; a CloudEvent needs it"
            )))
        } else {
            Ok(value)
        }
    }

    /// The event; the remaining attributes are extensions. `content_type` is made from the
    /// attribute `datacontenttype`.
    fn event(
        mut self,
        content_type: impl FnOnce(Option<String>) -> Option<String>,
        data: Payload,
    ) -> Result<Event, Failure> {
        let version = self.required("specversion")?;
        if version != "1.0" {
            let version = excerpt(&version);
            return Err(invalid(format!(
                "`{}specversion` is `{version}`; Weir understands 1.0",
                self.prefix
            )));
        }
        let (id, origin, event_type) = (
            self.required("id")?,
            self.required("source")?,
            self.required("type")?,
        );
        let (subject, time) = (self.take("subject"), self.take("time"));
        let content_type = content_type(self.take("datacontenttype"));
        Ok(Event {
            id,
            origin,
            event_type,
            subject,
            time,
            content_type,
            attributes: self.values,
            trace: None,
            data,
        })
    }
}

/// An attribute of structured mode: text, a number or a truth value; null counts as absent.
fn attribute_value(name: &str, value: &RawValue) -> Result<Option<String>, Failure> {
    match value.get().as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'{' | b'[') | None => Err(invalid(format!(
            "the attribute `{}` is a string, number or truth value, not a structure",
            excerpt(name)
        ))),
        Some(b'"') => plain_text(name, json::string(value).unwrap_or_default()).map(Some),
        Some(_) => Ok(Some(value.get().to_owned())),
    }
}

/// The value of a header in binary mode: quotes are removed, then percent-encoding is decoded once.
/// The binding wants everything beyond ASCII percent-encoded. Some libraries send it raw, as UTF-8 or,
/// as old HTTP had it, as Latin-1; both are accepted. A percent sign that is not followed by two
/// digits stands for itself.
pub(super) fn header_value(name: &str, bytes: &[u8]) -> Result<String, Failure> {
    let written = match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    };
    let unquoted = match written
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => unescape(inner),
        None => written.into_owned(),
    };
    let decoded = percent_encoding::percent_decode_str(&unquoted).decode_utf8();
    let decoded = decoded.map_err(|_| {
        invalid(format!(
            "`{name}` is not valid UTF-8 once its percent signs are decoded"
        ))
    })?;
    plain_text(name, decoded.into_owned())
}

fn unescape(quoted: &str) -> String {
    let mut characters = quoted.chars();
    let mut plain = String::with_capacity(quoted.len());
    while let Some(character) = characters.next() {
        plain.extend(if character == '\\' {
            characters.next()
        } else {
            Some(character)
        });
    }
    plain
}

/// Attributes must not have control characters, because they end up in logs and headers.
fn plain_text(name: &str, value: String) -> Result<String, Failure> {
    if value.chars().any(char::is_control) {
        return Err(invalid(format!(
            "the attribute `{}` has a control character in it",
            excerpt(name)
        )));
    }
    Ok(value)
}

pub(super) fn invalid(sentence: impl Into<String>) -> Failure {
    Failure::new("invalid-cloudevent", sentence)
}

pub(super) fn unsupported(essence: &str) -> Rejection {
    let detail = format!(
        "`{essence}` is not understood; CloudEvents come as `application/cloudevents+json`, `application/cloudevents-batch+json` or with `ce-` headers"
    );
    Rejection::UnsupportedMediaType { detail }
}
