//! The forms that values have: scalars, which may come from the environment or a file, lists and tables.

use serde_json::{Map, Value, json};

/// Keys of a table, with their schemas.
pub(super) type Keys = Vec<(&'static str, Value)>;

const DURATION: &str = r"^[0-9]+(ms|s|m|h|d)$";
const SIZE: &str = r"^[0-9]+(B|KiB|MiB|GiB)$";
const SHARE: &str = r"^[0-9]*\.?[0-9]+%$";
const RATE: &str = r"^[0-9]+((B|KiB|MiB|GiB))?/[smh]$";
const HOURS: &str = r"^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}$";
/// A text with the name of a row or a column in it can be anything when that is filled in.
const FILLED: &str = r"\{.+\}";

/// `{ env = "NAME", default = … }`
pub(super) fn environment() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["env"],
        "properties": {
            "env": { "type": "string", "description": "The name of the environment variable that has the value." },
            "default": { "description": "The value if the variable is not set." },
        },
    })
}

/// `{ file = "path" }`
pub(super) fn file() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["file"],
        "properties": {
            "file": { "type": "string", "description": "The file that has the value, without its last line break." },
        },
    })
}

/// A scalar: one of these literals, or from the environment or a file.
fn scalar(what: &str, literals: &[Value]) -> Value {
    let mut forms = literals.to_vec();
    forms.push(json!({ "$ref": "#/definitions/environment" }));
    forms.push(json!({ "$ref": "#/definitions/file" }));
    json!({ "description": what, "anyOf": forms })
}

fn written(what: &str, pattern: &str) -> Value {
    let literals = [pattern, FILLED].map(|pattern| json!({ "type": "string", "pattern": pattern }));
    scalar(what, &literals)
}

/// Any text.
pub(super) fn text(what: &str) -> Value {
    scalar(what, &[json!({ "type": "string" })])
}

/// A text that should come from the environment or a file.
pub(super) fn secret(what: &str) -> Value {
    text(what)
}

/// A duration, such as `30s`.
pub(super) fn duration(what: &str) -> Value {
    written(what, DURATION)
}

/// A size, such as `64KiB`.
pub(super) fn size(what: &str) -> Value {
    written(what, SIZE)
}

/// A share, such as `2%`.
pub(super) fn share(what: &str) -> Value {
    written(what, SHARE)
}

/// A rate, such as `500/s` or `1MiB/s`.
pub(super) fn rate(what: &str) -> Value {
    written(what, RATE)
}

/// Hours of the day, such as `22:00-06:00`.
pub(super) fn hours(what: &str) -> Value {
    written(what, HOURS)
}

/// One of these words.
pub(super) fn words<T>(what: &str, words: &[(&str, T)]) -> Value {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    one_of(what, &words)
}

/// One of these words.
pub(super) fn one_of(what: &str, words: &[&str]) -> Value {
    let filled = json!({ "type": "string", "pattern": FILLED });
    scalar(what, &[json!({ "enum": words }), filled])
}

/// A whole number within bounds.
pub(super) fn integer(what: &str, least: i64, most: i64) -> Value {
    let literal = json!({ "type": "integer", "minimum": least, "maximum": most });
    scalar(what, &[literal])
}

/// A number within bounds.
pub(super) fn number(what: &str, least: f64, most: f64) -> Value {
    let literal = json!({ "type": "number", "minimum": least, "maximum": most });
    scalar(what, &[literal])
}

/// True or false.
pub(super) fn boolean(what: &str) -> Value {
    scalar(what, &[json!({ "type": "boolean" })])
}

/// A list.
pub(super) fn list(what: &str, item: Value) -> Value {
    json!({ "description": what, "type": "array", "items": item })
}

/// One, or a list of them.
pub(super) fn one_or_list(what: &str, item: Value) -> Value {
    either(
        what,
        item.clone(),
        json!({ "type": "array", "items": item }),
    )
}

/// A value in one of two forms.
pub(super) fn either(what: &str, one: Value, other: Value) -> Value {
    json!({ "description": what, "anyOf": [one, other] })
}

/// A table with these keys and no others.
pub(super) fn table(what: &str, required: &[&str], keys: Keys) -> Value {
    let properties: Map<String, Value> = keys
        .into_iter()
        .map(|(key, schema)| (key.to_owned(), schema))
        .collect();
    let mut table = json!({
        "description": what,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        table["required"] = json!(required);
    }
    table
}

/// A table whose keys are names that its author chooses.
pub(super) fn map(what: &str, value: Value) -> Value {
    json!({ "description": what, "type": "object", "additionalProperties": value })
}

/// A table whose keys depend on one of them: `key` has one of the words, and `then` what the table is with each.
/// All keys of all of them are named beside that, for editors that complete.
pub(super) fn by_word(what: &str, key: &str, about: &str, then: &[(&str, Value, Value)]) -> Value {
    let words: Vec<&str> = then.iter().map(|(word, ..)| *word).collect();
    let mut properties = Map::new();
    for (_, schema, _) in then {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let about = json!({ "description": schema["description"] });
            properties.entry(name.clone()).or_insert(about);
        }
    }
    properties.insert(key.to_owned(), one_of(about, &words));
    let rule = |(word, _, schema): &(&str, Value, Value)| {
        let is_word = json!({ "properties": { key: { "const": word } }, "required": [key] });
        json!({ "if": is_word, "then": schema })
    };
    json!({
        "description": what,
        "type": "object",
        "required": [key],
        "properties": properties,
        "allOf": then.iter().map(rule).collect::<Vec<_>>(),
    })
}
