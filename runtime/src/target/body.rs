//! The bodies of requests: the bare rendering, or many in an array or in lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use super::Item;
use super::webhook::Format;
use crate::model::{Payload, Rendering};

const JSON: &str = "application/json";

/// Content type and body of one item alone. At its own URL a deletion needs none.
pub(crate) fn single(item: &Item, by_key: bool) -> (String, Vec<u8>) {
    #[derive(Serialize)]
    struct Deleted<'a> {
        r#type: &'a str,
        key: &'a str,
        deleted: bool,
    }
    match &item.rendering {
        Some(rendering) => (rendering.content_type.clone().unwrap_or_else(|| JSON.into()), rendering.body.as_bytes().to_vec()),
        None if by_key => (JSON.into(), Vec::new()),
        None => (JSON.into(), json(&Deleted { r#type: &item.entity.entity_type, key: &item.entity.key, deleted: true })),
    }
}

/// Content type and body of several items in one request.
pub(crate) fn batch(items: &[Item], format: Format) -> (String, Vec<u8>) {
    let envelopes: Vec<Envelope<'_>> = items.iter().map(Envelope::of).collect();
    match format {
        Format::Array => (JSON.into(), json(&envelopes)),
        Format::Ndjson => {
            let mut lines = Vec::new();
            for envelope in &envelopes {
                // A line break that is not escaped can only be white space between JSON tokens.
                lines.extend(json(envelope).into_iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
                lines.push(b'\n');
            }
            ("application/x-ndjson".into(), lines)
        }
    }
}

/// The id of a request with several items: the same for the same items.
pub(crate) fn batch_id(items: &[Item]) -> String {
    let mut hasher = Xxh3::new();
    for item in items {
        hasher.update(&(item.id.len() as u64).to_le_bytes());
        hasher.update(item.id.as_bytes());
    }
    format!("weir_batch_{:032x}", hasher.digest128())
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    r#type: &'a str,
    key: &'a str,
    sequence: u64,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
}

/// JSON as it is; other text as a string; bytes in Base64.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Base64(String),
}

impl<'a> Envelope<'a> {
    fn of(item: &'a Item) -> Envelope<'a> {
        Envelope {
            id: &item.id,
            r#type: &item.entity.entity_type,
            key: &item.entity.key,
            sequence: item.sequence.0,
            deleted: item.rendering.is_none(),
            content: item.rendering.as_deref().map(Content::of),
        }
    }
}

impl<'a> Content<'a> {
    fn of(rendering: &'a Rendering) -> Content<'a> {
        match &rendering.body {
            Payload::Binary(bytes) => Content::Base64(STANDARD.encode(bytes)),
            // What calls itself JSON and is not would spoil the whole request.
            Payload::Text(text) if is_json(rendering.content_type.as_deref()) => match serde_json::from_str(text) {
                Ok(raw) => Content::Json(raw),
                Err(_) => Content::Text(text),
            },
            Payload::Text(text) => Content::Text(text),
        }
    }
}

fn is_json(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or(JSON).split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == JSON || essence.ends_with("+json")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and valid JSON always serialise")
}
