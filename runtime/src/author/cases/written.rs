//! Writes a plugin's output as JSON, in the format of `expected.json` and of `weir plugin run
//! --json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Output;
use crate::model::{Change, Failure, Lane, Payload, Rendering};

/// An output in the format of `expected.json`, on one line.
pub(crate) fn to_json(output: &Output) -> String {
    let written = match output {
        Output::Accepted(accepted) => serde_json::to_string(accepted),
        Output::Changes(changes) => {
            serde_json::to_string(&changes.iter().map(ChangeJson::of).collect::<Vec<_>>())
        }
        Output::Rendered(rendering) => {
            serde_json::to_string(&rendering.as_ref().map(RenderingJson::of))
        }
        Output::Failed(failure) => serde_json::to_string(&FailureJson::of(failure)),
    };
    // This cannot fail: strings, numbers and raw JSON always serialize.
    written.unwrap_or_default()
}

/// A change in the format that a source without a mapper accepts. Values are raw JSON, so that
/// numbers stay as they were written.
#[derive(Serialize)]
pub(crate) struct ChangeJson<'a> {
    #[serde(rename = "type")]
    entity_type: &'a str,
    key: &'a str,
    facet: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'static str>,
}

/// A rendering, without the fields that the plugin left out.
#[derive(Serialize)]
pub(crate) struct RenderingJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(flatten)]
    body: BodyJson<'a>,
}

/// A JSON object or array as it is, other text as a string, and other bytes in base64.
#[derive(Serialize)]
enum BodyJson<'a> {
    #[serde(rename = "body")]
    Json(&'a RawValue),
    #[serde(rename = "body")]
    Text(&'a str),
    #[serde(rename = "body_base64")]
    Binary(String),
}

/// The failure of an item.
#[derive(Serialize)]
pub(crate) struct FailureJson<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> ChangeJson<'a> {
    pub(crate) fn of(change: &'a Change) -> ChangeJson<'a> {
        let Change {
            entity_type,
            key,
            facet,
            value,
            version,
            lane,
        } = change;
        // The bindings accept only valid JSON.
        let value = value
            .as_deref()
            .and_then(|value| serde_json::from_str(value).ok());
        ChangeJson {
            entity_type,
            key,
            facet,
            value,
            deleted: change.value.is_none(),
            version: *version,
            lane: lane.map(Lane::name),
        }
    }
}

impl<'a> RenderingJson<'a> {
    pub(crate) fn of(rendering: &'a Rendering) -> RenderingJson<'a> {
        let body = match &rendering.body {
            Payload::Text(text) if text.trim_start().starts_with(['{', '[']) => {
                serde_json::from_str(text).map_or(BodyJson::Text(text), BodyJson::Json)
            }
            Payload::Text(text) => BodyJson::Text(text),
            Payload::Binary(bytes) => BodyJson::Binary(STANDARD.encode(bytes)),
        };
        RenderingJson {
            key: rendering.key.as_deref(),
            content_type: rendering.content_type.as_deref(),
            body,
        }
    }
}

impl<'a> FailureJson<'a> {
    pub(crate) fn of(failure: &'a Failure) -> FailureJson<'a> {
        FailureJson {
            code: &failure.code,
            message: &failure.message,
        }
    }
}
