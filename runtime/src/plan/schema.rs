//! The configuration as JSON Schema, for editors: `weir config schema`.
//!
//! It knows each key with a sentence, the words that a key takes, and how durations, sizes and rates are written.
//! What depends on several keys, or on names defined elsewhere, only `weir check` knows: the schema takes such a
//! file. A test compares the keys with those that the plan asks for, so that neither knows one that the other does not.
//!
//! Taplo, which most editors use for TOML, decides the form: draft 7, nothing beside `$ref`, no `type` beside `anyOf`,
//! no `oneOf`; and where keys depend on a kind, `if` and `then`, so that a mistake is told at its place and not as
//! "fits none of eight kinds". It completes keys from `properties` alone, so all keys of all kinds are there too.

mod forms;
mod sections;
mod sources;
mod targets;

use serde_json::{Value, json};

/// The whole schema.
pub fn schema() -> Value {
    let mut whole = sections::root();
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Weir",
        "description": format!("The configuration of Weir {}, or a file that it includes.", env!("CARGO_PKG_VERSION")),
        "definitions": {
            "environment": forms::environment(),
            "file": forms::file(),
            "settings": sections::settings(),
            "target": targets::target(),
        },
    });
    if let (Some(whole), Value::Object(head)) = (whole.as_object_mut(), head) {
        whole.extend(head);
        for (name, kind) in targets::kinds() {
            whole["definitions"][format!("target-{name}")] = kind;
        }
    }
    whole
}

#[cfg(test)]
mod tests;
