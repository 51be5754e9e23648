//! The content of a rendering as a JSON value, for kinds that put it into JSON of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::model::{Payload, Rendering};

const JSON: &str = "application/json";

/// Appends the content: JSON unchanged, other text as a string, bytes in Base64.
pub(super) fn write(rendering: &Rendering, our_own: bool, body: &mut Vec<u8>) {
    match &rendering.body {
        Payload::Binary(bytes) => append(&STANDARD.encode(bytes), body),
        // Text that is declared as JSON but is not valid would break the whole request. The default
        // rendering is always valid JSON.
        Payload::Text(text)
            if is_json(rendering.content_type.as_deref()) && (our_own || is_valid(text)) =>
        {
            body.extend_from_slice(text.as_bytes());
        }
        Payload::Text(text) => append(text, body),
    }
}

fn is_valid(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn is_json(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type.filter(|content_type| *content_type != JSON) else {
        return true;
    };
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence == JSON || essence.ends_with("+json")
}

fn append(value: &(impl serde::Serialize + ?Sized), body: &mut Vec<u8>) {
    serde_json::to_writer(body, value).expect("strings and numbers always serialise");
}
