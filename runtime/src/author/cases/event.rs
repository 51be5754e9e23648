//! Reads the event of a case: a CloudEvent in structured mode, any JSON, or a raw body with a
//! separate envelope.
//!
//! Sources read events from HTTP requests more strictly (`ingest`). Tests here and there check that
//! both accept the same events.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::model::{Event, Payload};

/// Reads the content of an `event.json`.
pub(super) fn from_json(text: &str) -> Result<Event, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    serde_json::from_str::<&RawValue>(text).map_err(|error| format!("it is not JSON: {error}"))?;
    match members(text) {
        Some(members) if members.iter().any(|(name, _)| name == "specversion") => {
            structured(members)
        }
        _ => Ok(Event::plain(
            Some("application/json"),
            Payload::Text(text.to_owned()),
        )),
    }
}

/// Makes an event of a raw body and its `envelope.json`.
pub(super) fn from_body(
    extension: &str,
    body: Vec<u8>,
    envelope: Option<&str>,
) -> Result<Event, String> {
    let mut event = Event::plain(media_type(extension), Payload::received(body));
    let Some(envelope) = envelope else {
        return Ok(event);
    };
    let envelope: Map<String, Value> = serde_json::from_str(envelope)
        .map_err(|error| format!("it is not a JSON object: {error}"))?;
    for (name, value) in envelope {
        let value = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("`{name}` must be a string, a number or a boolean"));
            }
        };
        set(&mut event, &name, value);
    }
    Ok(event)
}

/// The media type for a file extension; `None` for unknown ones.
fn media_type(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "json" => "application/json",
        "xml" => "application/xml",
        "csv" => "text/csv",
        "edi" => "application/edifact",
        "txt" => "text/plain",
        _ => "application/octet-stream",
    })
}

fn set(event: &mut Event, name: &str, value: String) {
    match name {
        "specversion" => {}
        "id" => event.id = value,
        "source" => event.origin = value,
        "type" => event.event_type = value,
        "subject" => event.subject = Some(value),
        "time" => event.time = Some(value),
        "datacontenttype" => event.content_type = Some(value),
        _ => event.attributes.push((name.to_ascii_lowercase(), value)),
    }
}

fn structured(members: Vec<(String, &RawValue)>) -> Result<Event, String> {
    let mut event = Event::plain(None, Payload::Text(String::new()));
    let (mut data, mut encoded) = (None, None);
    for (name, value) in members {
        match (name.as_str(), value.get().as_bytes().first()) {
            ("data", _) => data = Some(value.get()),
            ("data_base64", _) => encoded = string(value.get()),
            (_, Some(b'n')) => {}
            (_, Some(b'{' | b'[')) => {
                return Err(format!("`{name}` must be a string, a number or a boolean"));
            }
            _ => set(
                &mut event,
                &name.to_ascii_lowercase(),
                string(value.get()).unwrap_or_else(|| value.get().to_owned()),
            ),
        }
    }
    for (name, value) in [
        ("id", &event.id),
        ("source", &event.origin),
        ("type", &event.event_type),
    ] {
        if value.is_empty() {
            return Err(format!(
                "`{name}` is missing; a CloudEvent needs it (a plain body has no `specversion`)"
            ));
        }
    }
    let content_type = event
        .content_type
        .get_or_insert_with(|| "application/json".into());
    let json = is_json(content_type);
    event.data = match (data, encoded) {
        (Some(_), Some(_)) => return Err("`data` and `data_base64` exclude each other".into()),
        (None, None) => Payload::Text(String::new()),
        (None, Some(encoded)) => Payload::received(
            STANDARD
                .decode(encoded)
                .map_err(|error| format!("`data_base64` is not base64: {error}"))?,
        ),
        (Some(data), None) => {
            let text = string(data).filter(|_| !json);
            Payload::received(text.unwrap_or_else(|| data.to_owned()).into_bytes())
        }
    };
    Ok(event)
}

fn is_json(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    matches!(essence.as_str(), "application/json" | "text/json") || essence.ends_with("+json")
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

/// The members of an object in their order; `None` if the text is not an object.
fn members(text: &str) -> Option<Vec<(String, &RawValue)>> {
    // A map would lose the order, which is the order in which a plugin sees the attributes.
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    serde::Deserializer::deserialize_map(&mut serde_json::Deserializer::from_str(text), Members)
        .ok()
}
