//! Makes the text of a column from a JSON value, as the server will cast it.
//!
//! Nothing is repaired. A text that PostgreSQL cannot hold is refused with the pointer to it, because a
//! text without its NUL or half of a character would be another one. Numbers stay as they are written.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::value::RawValue;

use super::table::Form;

/// Why a value cannot be stored, and where below its pointer.
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    pub(super) below: String,
    pub(super) why: &'static str,
}

impl From<&'static str> for Wrong {
    fn from(why: &'static str) -> Wrong {
        let below = String::new();
        Wrong { below, why }
    }
}

/// The dimensions of an array of PostgreSQL at most.
const DIMENSIONS_MAX: usize = 6;
/// The names of a pointer to a text that cannot be stored, at most. Each is looked for in all that is below.
const POINTER_MAX: usize = 32;
const NUL: &str = "holds a NUL, which PostgreSQL cannot store";
const LONE: &str = "holds half of a character (a lone surrogate), which PostgreSQL cannot store";

/// The text of a JSON value for a column; `None` is NULL.
pub(super) fn text(json: &str, form: Form) -> Result<Option<Cow<'_, str>>, Wrong> {
    if json == "null" {
        return Ok(None);
    }
    let first = json.as_bytes().first();
    Ok(Some(match (form, first) {
        (Form::Json, _) => {
            storable(json)?;
            json.into()
        }
        (Form::Array | Form::ArrayOfZoned | Form::ArrayOfBytes, Some(b'[')) => {
            storable(json)?;
            let element = match form {
                Form::ArrayOfZoned => Form::Zoned,
                Form::ArrayOfBytes => Form::Bytes,
                _ => Form::Plain,
            };
            let mut array = String::with_capacity(json.len());
            write_array(json, element, DIMENSIONS_MAX, &mut array)?;
            array.into()
        }
        (_, Some(b'"')) => {
            let text = string(json)?;
            clear(&text, form)?;
            text
        }
        _ => json.into(),
    }))
}

/// Checks that a text can be read in one way only.
fn clear(text: &str, form: Form) -> Result<(), Wrong> {
    match form {
        Form::Zoned if !has_zone(text) => {
            Err("has no time zone: write one, such as 2026-11-30T12:00:00Z".into())
        }
        Form::Bytes if !text.starts_with("\\x") => {
            Err("is not \\x and hexadecimal digits, as bytea takes bytes".into())
        }
        _ => Ok(()),
    }
}

/// The text of a JSON string.
fn string(json: &str) -> Result<Cow<'_, str>, Wrong> {
    let inner = json.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    // A whole rendering was not read before, so it may be no JSON.
    if let Some(inner) = inner.filter(|inner| !inner.contains(['"', '\\'])) {
        return Ok(inner.into());
    }
    storable(json)?;
    let text: String = serde_json::from_str(json).map_err(|_| Wrong::from("is no text"))?;
    Ok(text.into())
}

/// Writes an array of at most so many dimensions, with elements of this form, as PostgreSQL reads it.
fn write_array(json: &str, form: Form, dimensions: usize, to: &mut String) -> Result<(), Wrong> {
    let Some(below) = dimensions.checked_sub(1) else {
        return Err("is an array of more than 6 dimensions, which PostgreSQL cannot store".into());
    };
    let elements: Vec<&RawValue> =
        serde_json::from_str(json).map_err(|_| Wrong::from("is no array"))?;
    to.push('{');
    for (at, element) in elements.iter().enumerate() {
        if at > 0 {
            to.push(',');
        }
        let element = element.get();
        match element.as_bytes().first() {
            Some(b'[') => write_array(element, form, below, to)?,
            Some(b'n') => to.push_str("NULL"),
            Some(b'"') => {
                let text = string(element)?;
                clear(&text, form)?;
                write_element(&text, to);
            }
            Some(b'{') => write_element(element, to),
            _ => to.push_str(element),
        }
    }
    to.push('}');
    Ok(())
}

fn write_element(text: &str, to: &mut String) {
    to.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            to.push('\\');
        }
        to.push(character);
    }
    to.push('"');
}

/// Whether a time says in which zone it is. Words such as `now` and `today` do not: they mean the server's
/// clock.
fn has_zone(text: &str) -> bool {
    let text = text.trim();
    if matches!(text, "infinity" | "-infinity" | "epoch") {
        return true;
    }
    // What follows the date; a time alone has none before it.
    let time = match text.split_once(['T', 't', ' ']) {
        Some((_, time)) => time,
        None if text.contains(':') => text,
        None => return false,
    };
    let lower = time.to_ascii_lowercase();
    let halves = ["am", "pm"].iter().any(|half| {
        let before = lower.strip_suffix(half);
        before.is_some_and(|before| !before.ends_with(|last: char| last.is_ascii_alphabetic()))
    });
    let named = time.ends_with(|last: char| last.is_ascii_alphabetic());
    time.contains(['+', '-']) || named && !halves
}

/// Checks that PostgreSQL can hold all texts in a JSON value.
fn storable(json: &str) -> Result<(), Wrong> {
    match unstorable(json) {
        None => Ok(()),
        Some(why) => Err(Wrong {
            below: whereabouts(json),
            why,
        }),
    }
}

/// Why PostgreSQL cannot hold a text in a JSON value. All escapes in JSON are in its texts.
fn unstorable(json: &str) -> Option<&'static str> {
    memmem::find(json.as_bytes(), b"\\u")?;
    let bytes = json.as_bytes();
    let unit = |at: usize| {
        let digits = json.get(at..at + 4)?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(next) = memchr::memchr(b'\\', bytes.get(at..)?) {
        at += next + 2;
        if bytes.get(at - 1) != Some(&b'u') {
            continue;
        }
        match unit(at) {
            Some(0) => return Some(NUL),
            Some(0xD800..=0xDBFF) => {
                let follows = bytes.get(at + 4..at + 6) == Some(b"\\u");
                if !(follows && matches!(unit(at + 6), Some(0xDC00..=0xDFFF))) {
                    return Some(LONE);
                }
                at += 10;
            }
            Some(0xDC00..=0xDFFF) => return Some(LONE),
            _ => at += 4,
        }
    }
    None
}

/// The pointer to the text that cannot be stored, below this value, or to what is around it if that is deep.
fn whereabouts(json: &str) -> String {
    let mut pointer = String::new();
    let mut json = json.trim_ascii();
    for _ in 0..POINTER_MAX {
        let inner: Option<(String, &str)> = match json.as_bytes().first() {
            Some(b'{') => {
                let members: Option<std::collections::BTreeMap<String, &RawValue>> =
                    serde_json::from_str(json).ok();
                let mut members = members.into_iter().flatten();
                members
                    .find_map(|(name, value)| unstorable(value.get()).map(|_| (name, value.get())))
            }
            Some(b'[') => {
                let elements: Option<Vec<&RawValue>> = serde_json::from_str(json).ok();
                let mut elements = elements.into_iter().flatten().enumerate();
                elements.find_map(|(at, value)| {
                    unstorable(value.get()).map(|_| (at.to_string(), value.get()))
                })
            }
            _ => None,
        };
        let Some((name, value)) = inner else {
            break;
        };
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        json = value;
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(json: &str, form: Form) -> Result<Option<String>, Wrong> {
        text(json, form).map(|text| text.map(Cow::into_owned))
    }

    #[test]
    fn a_value_becomes_the_text_that_its_type_reads() {
        for (json, form, expected) in [
            ("null", Form::Json, None),
            ("1.50", Form::Plain, Some("1.50")),
            ("1e3", Form::Json, Some("1e3")),
            (
                "18446744073709551616",
                Form::Plain,
                Some("18446744073709551616"),
            ),
            ("\"\"", Form::Plain, Some("")),
            ("\"a\\u00e4\\n\\\\\"", Form::Plain, Some("aä\n\\")),
            ("\"\\ud83d\\udecb\"", Form::Plain, Some("🛋")),
            ("\"a\"", Form::Json, Some("\"a\"")),
            ("true", Form::Plain, Some("true")),
            ("{\"a\": 1}", Form::Plain, Some("{\"a\": 1}")),
            ("[]", Form::Array, Some("{}")),
            (
                "[1,null,\"a\\\"b\\\\\"]",
                Form::Array,
                Some("{1,NULL,\"a\\\"b\\\\\"}"),
            ),
            ("[[1],[2]]", Form::Array, Some("{{1},{2}}")),
            ("\"{a,b}\"", Form::Array, Some("{a,b}")),
            ("\"\\\\x00ff\"", Form::Bytes, Some("\\x00ff")),
            (
                "\"2026-11-30T12:00:00Z\"",
                Form::Zoned,
                Some("2026-11-30T12:00:00Z"),
            ),
            ("\"\\\\u0000\"", Form::Json, Some("\"\\\\u0000\"")),
        ] {
            assert_eq!(made(json, form), Ok(expected.map(str::to_owned)), "{json}");
        }
    }

    #[test]
    fn what_postgresql_cannot_hold_is_refused_with_the_pointer_to_it() {
        for (json, form, below, why) in [
            ("\"a\\u0000\"", Form::Plain, "", NUL),
            ("\"\\ud800\"", Form::Plain, "", LONE),
            ("\"\\udc00\\ud800\"", Form::Json, "", LONE),
            (
                "{\"a\":[1,{\"b/c\":\"\\u0000\"}]}",
                Form::Json,
                "/a/1/b~1c",
                NUL,
            ),
            (
                "{\"a\":\"fine \\u00e4\",\"b\":\"\\ud800x\"}",
                Form::Json,
                "/b",
                LONE,
            ),
            ("[\"a\",\"\\u0000\"]", Form::Array, "/1", NUL),
        ] {
            let wrong = made(json, form).expect_err(json);
            assert_eq!((wrong.below.as_str(), wrong.why), (below, why), "{json}");
        }
        for (json, form) in [
            ("\"aGVsbG8=\"", Form::Bytes),
            ("[null, \"aGVsbG8=\"]", Form::ArrayOfBytes),
            ("[[\"2026-11-30T12:00:00\"]]", Form::ArrayOfZoned),
        ] {
            assert!(made(json, form).is_err(), "{json}");
        }
        assert_eq!(
            made("[\"2026-11-30T12:00:00Z\"]", Form::ArrayOfZoned),
            Ok(Some("{\"2026-11-30T12:00:00Z\"}".to_owned()))
        );
        for no_json in ["\"", "\"abc", "\"a\" \"b\""] {
            assert!(made(no_json, Form::Plain).is_err(), "{no_json}");
        }
    }

    // The stack of the thread ended, and Weir with it, each time that it was started again.
    #[test]
    fn a_value_that_is_nested_without_end_costs_neither_the_stack_nor_minutes() {
        let nested =
            |inner: &str| format!("{0}{inner}{1}", "[".repeat(200_000), "]".repeat(200_000));
        let wrong = made(&nested("1"), Form::Array).expect_err("too many dimensions");
        assert!(wrong.why.contains("6 dimensions"), "{wrong:?}");
        assert_eq!(
            made("[[[[[[1]]]]]]", Form::Array),
            Ok(Some("{{{{{{1}}}}}}".to_owned()))
        );
        let wrong = made(&nested("\"\\u0000\""), Form::Json).expect_err("a NUL");
        assert_eq!((wrong.below, wrong.why), ("/0".repeat(POINTER_MAX), NUL));
    }

    #[test]
    fn a_time_without_its_zone_is_recognised() {
        for zoned in [
            "2026-11-30T12:00:00Z",
            "2026-11-30 12:00:00+01",
            "2026-11-30 12:00:00.123456-05:30",
            "2026-11-30 12:00 Europe/Amsterdam",
            "20261130T120000Z",
            "2026-11-30 12:00 PM UTC",
            "12:00:00+02:00",
            "infinity",
        ] {
            assert!(has_zone(zoned), "{zoned}");
        }
        for zoneless in [
            "2026-11-30T12:00:00",
            "20261130T120000",
            "2026-11-30",
            "12:00",
            "12:00 PM",
            "now",
            "",
        ] {
            assert!(!has_zone(zoneless), "{zoneless}");
        }
    }
}
