//! Compares JSON as Weir does: the order of members does not matter, and numbers are compared as
//! written.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

/// Beyond this depth a value is compared as text, so that a hostile payload cannot overflow the
/// stack. Real payloads are far less deep.
const DEPTH_MAX: usize = 128;
/// The most characters of a value that are shown in a sentence.
const SHOWN_MAX: usize = 160;

/// A JSON value, with members in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// A number, a literal (`true`, `false`, `null`) or a string, as JSON text; strings with
    /// normalised escapes.
    Leaf(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// Reads JSON text. Invalid text is kept as it is.
    pub(super) fn parse(text: &str) -> Json {
        Json::at_depth(text, 0)
    }

    fn at_depth(text: &str, depth: usize) -> Json {
        let text = text.trim();
        let inner = |value: &RawValue| Json::at_depth(value.get(), depth + 1);
        let parsed = match text.as_bytes().first() {
            _ if depth > DEPTH_MAX => None,
            Some(b'{') => serde_json::from_str::<BTreeMap<String, &RawValue>>(text)
                .ok()
                .map(|members| {
                    Json::Object(
                        members
                            .into_iter()
                            .map(|(name, value)| (name, inner(value)))
                            .collect(),
                    )
                }),
            Some(b'[') => serde_json::from_str::<Vec<&RawValue>>(text)
                .ok()
                .map(|values| Json::Array(values.into_iter().map(inner).collect())),
            Some(b'"') => serde_json::from_str::<String>(text)
                .ok()
                .map(|text| Json::Leaf(quoted(&text))),
            _ => None,
        };
        parsed.unwrap_or_else(|| Json::Leaf(text.to_owned()))
    }

    /// Describes the first difference from another value in a few words; `None` if they are equal.
    pub(super) fn first_difference(&self, other: &Json) -> Option<String> {
        differ(self, other, &mut String::new())
    }

    fn write(&self, depth: usize, text: &mut String) {
        let line = |text: &mut String, depth: usize| {
            text.push('\n');
            text.extend(std::iter::repeat_n("  ", depth));
        };
        let (open, close) = match self {
            Json::Leaf(leaf) => return text.push_str(leaf),
            Json::Array(_) => ('[', ']'),
            Json::Object(_) => ('{', '}'),
        };
        text.push(open);
        let mut count = 0;
        let mut item = |name: Option<&str>, value: &Json| {
            if count > 0 {
                text.push(',');
            }
            count += 1;
            line(text, depth + 1);
            if let Some(name) = name {
                text.push_str(&quoted(name));
                text.push_str(": ");
            }
            value.write(depth + 1, text);
        };
        match self {
            Json::Leaf(_) => {}
            Json::Array(values) => values.iter().for_each(|value| item(None, value)),
            Json::Object(members) => members
                .iter()
                .for_each(|(name, value)| item(Some(name), value)),
        }
        if count > 0 {
            line(text, depth);
        }
        text.push(close);
    }

    /// The value on one line, shortened.
    fn brief(&self) -> String {
        let mut text = String::new();
        self.write(0, &mut text);
        let line: String = text
            .lines()
            .map(str::trim_start)
            .collect::<Vec<_>>()
            .join(" ");
        match line.char_indices().nth(SHOWN_MAX) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

/// One member or item per line.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(0, &mut text);
        f.write_str(&text)
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn differ(expected: &Json, actual: &Json, path: &mut String) -> Option<String> {
    let at = |path: &str| {
        if path.is_empty() {
            String::new()
        } else {
            format!("at {path} ")
        }
    };
    let length = path.len();
    match (expected, actual) {
        _ if expected == actual => None,
        (Json::Array(expected), Json::Array(actual)) => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                path.push_str(&format!("[{index}]"));
                if let Some(difference) = differ(expected, actual, path) {
                    return Some(difference);
                }
                path.truncate(length);
            }
            let (wanted, got) = (expected.len(), actual.len());
            let beyond = match (expected.get(got), actual.get(wanted)) {
                (Some(missing), _) => format!("; missing: {}", missing.brief()),
                (_, Some(surplus)) => format!("; unexpected: {}", surplus.brief()),
                _ => String::new(),
            };
            Some(format!(
                "{}expected {wanted} items, got {got}{beyond}",
                at(path)
            ))
        }
        (Json::Object(expected), Json::Object(actual)) => {
            let name_of = |path: &mut String, name: &str| {
                path.push_str(if path.is_empty() { "" } else { "." });
                path.push_str(name);
            };
            for (name, expected) in expected {
                name_of(path, name);
                match actual.get(name) {
                    None => {
                        return Some(format!(
                            "{}expected {}, got nothing",
                            at(path),
                            expected.brief()
                        ));
                    }
                    Some(actual) => {
                        if let Some(difference) = differ(expected, actual, path) {
                            return Some(difference);
                        }
                    }
                }
                path.truncate(length);
            }
            let (name, surplus) = actual
                .iter()
                .find(|(name, _)| !expected.contains_key(*name))?;
            name_of(path, name);
            Some(format!(
                "{}expected nothing, got {}",
                at(path),
                surplus.brief()
            ))
        }
        _ => Some(format!(
            "{}expected {}, got {}",
            at(path),
            expected.brief(),
            actual.brief()
        )),
    }
}

/// Formats valid JSON with one member per line. It works on the text, because order, number format
/// and repeated members are part of a plugin's output.
pub(crate) fn spread(json: &str) -> String {
    let (mut quoted, mut escaped, mut depth, mut text) =
        (false, false, 0usize, String::with_capacity(json.len() * 2));
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            text.push(letter);
            quoted = letter != '"' || escaped;
            escaped = letter == '\\' && !escaped;
            continue;
        }
        match letter {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                text.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(end);
                } else {
                    depth += 1;
                    line(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(letter);
            }
            ',' => {
                text.push(letter);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => {
                quoted = letter == '"';
                text.push(letter);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(expected: &str, actual: &str) -> Option<String> {
        Json::parse(expected).first_difference(&Json::parse(actual))
    }

    #[test]
    fn order_and_spelling_do_not_matter_and_numbers_count_as_written() {
        assert_eq!(
            difference(r#"{"a": 1, "b": [ "\u00e9" ]}"#, r#"{"b":["é"],"a":1}"#),
            None
        );
        assert_eq!(
            difference("18446744073709551615", "18446744073709551615"),
            None
        );
        assert_eq!(
            difference("1.50", "1.5").as_deref(),
            Some("expected 1.50, got 1.5")
        );
        assert!(difference("18446744073709551615", "18446744073709551614").is_some());
    }

    #[test]
    fn the_first_difference_is_named_with_its_place() {
        for (expected, actual, said) in [
            (
                r#"[{"value":{"amount":"9.90"}}]"#,
                r#"[{"value":{"amount":"9,90"}}]"#,
                r#"at [0].value.amount expected "9.90", got "9,90""#,
            ),
            ("[1,2]", "[1]", "expected 2 items, got 1; missing: 2"),
            ("[]", "[7]", "expected 0 items, got 1; unexpected: 7"),
            (
                r#"{"a":1}"#,
                r#"{"a":1,"b":2}"#,
                "at b expected nothing, got 2",
            ),
            (
                r#"{"a":1,"b":{}}"#,
                r#"{"a":1}"#,
                "at b expected {}, got nothing",
            ),
            (
                "true",
                r#"{"code":"x"}"#,
                r#"expected true, got { "code": "x" }"#,
            ),
        ] {
            assert_eq!(difference(expected, actual).as_deref(), Some(said));
        }
    }

    #[test]
    fn depth_does_not_overflow_the_stack() {
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(difference(&deep("1"), &deep("1")), None);
        assert!(difference(&deep("1"), &deep("2")).is_some());
    }

    #[test]
    fn both_forms_read_back_as_the_same_value() {
        let text = r#" { "b" : 1.50 , "a:\"{" : [ ] , "c" : {"d":[1,"x y"]} } "#;
        assert_eq!(Json::parse(&spread(text)), Json::parse(text));
        assert_eq!(
            Json::parse(&Json::parse(text).to_string()),
            Json::parse(text)
        );
        assert_eq!(
            spread(r#"{"a":[1,"x y"]}"#),
            "{\n  \"a\": [\n    1,\n    \"x y\"\n  ]\n}"
        );
    }
}
