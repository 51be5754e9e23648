//! JSON from senders: checks its validity and depth, and returns its parts as they were written.
//!
//! Nothing here recurses, and numbers are never converted to floats: values are passed on as text.
//! Accepted JSON is UTF-8, follows RFC 8259, is at most [`DEPTH_MAX`] deep and can be decoded by
//! every common parser (no lone surrogates).

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::Failure;

/// Maximum number of open brackets. Real documents stay below 20; parsers that recurse (in plugins
/// too) overflow their stack somewhere above 100.
pub(super) const DEPTH_MAX: usize = 64;

/// Maximum number of members that [`members`] returns.
pub(super) const MEMBERS_MAX: usize = 4096;

/// What helps a text that is not UTF-8, and no JSON.
pub(super) const OTHER_ENCODING: &str =
    "send UTF-8, or write at the source what it is, such as encoding = \"windows-1252\"";

/// The bytes as text without a byte order mark.
///
/// # Errors
/// `invalid-utf-8`, with the place.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Failure> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let at = error.valid_up_to();
            Err(Failure::new(
                "invalid-utf-8",
                format!("byte {at} (counted from 0) is not valid UTF-8; send the text as UTF-8"),
            ))
        }
    }
}

/// Checks that `text` is one acceptable JSON value.
///
/// # Errors
/// `invalid-json` and `too-deep`, with the place.
pub(super) fn check(text: &str) -> Result<(), Failure> {
    if !is_plain(text) {
        check_depth_and_escapes(text)?;
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(syntax(&error)),
    }
}

/// A fast check: with few brackets and no escapes at all, the text cannot be too deep and no escape
/// can be wrong. It counts twice over all bytes, which compilers vectorize. Most texts need only
/// this check, which takes a tenth of the time.
fn is_plain(text: &str) -> bool {
    let brackets = text
        .bytes()
        .filter(|byte| matches!(byte, b'[' | b'{'))
        .count();
    brackets <= DEPTH_MAX && text.bytes().filter(|byte| *byte == b'\\').count() == 0
}

fn check_depth_and_escapes(text: &str) -> Result<(), Failure> {
    let invalid = |what: &str, offset: usize| {
        Failure::new("invalid-json", format!("{what} at {}", place(text, offset)))
    };
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0usize, 0usize);
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    let sentence = format!(
                        "more than {DEPTH_MAX} brackets are open at {}",
                        place(text, at)
                    );
                    return Err(Failure::new("too-deep", sentence));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                at = end_of_string(bytes, at)
                    .map_err(|at| invalid("half of a surrogate pair stands alone", at))?
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The members of an object in their order, values as written; a repeated member is returned each
/// time.
///
/// # Errors
/// `invalid-json` with the place, also if it is not an object; `too-many-members` beyond
/// [`MEMBERS_MAX`].
pub(super) fn members(text: &str) -> Result<Vec<(String, &RawValue)>, Failure> {
    let mut members = Vec::with_capacity(12);
    let mut count = 0;
    each_member(text, |name, value| {
        count += 1;
        if count <= MEMBERS_MAX {
            members.push((name, value));
        }
    })?;
    if count > MEMBERS_MAX {
        let detail = format!("an object has {count} members; {MEMBERS_MAX} are the most");
        return Err(Failure::new("too-many-members", detail));
    }
    Ok(members)
}

/// The first member of an object with this name, as written.
///
/// # Errors
/// As for [`members`], however many members there are.
pub(super) fn member<'a>(text: &'a str, name: &str) -> Result<Option<&'a RawValue>, Failure> {
    let mut found = None;
    each_member(text, |there, value| {
        if found.is_none() && there == name {
            found = Some(value);
        }
    })?;
    Ok(found)
}

fn each_member<'a>(text: &'a str, take: impl FnMut(String, &'a RawValue)) -> Result<(), Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_map(Members(take));
    read.and_then(|()| reader.end())
        .map_err(|error| syntax(&error))
}

/// The first `most` items of an array in their order, as written. The others are only checked to be
/// JSON: four million small items in 8 MiB would take more memory than the text.
///
/// # Errors
/// `invalid-json`, with the place.
pub(super) fn items(text: &str, most: usize) -> Result<Vec<&RawValue>, Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_seq(Items(most));
    read.and_then(|items| reader.end().map(|()| items))
        .map_err(|error| syntax(&error))
}

/// The value at a JSON pointer (RFC 6901), as written; `None` if nothing is there. Only the values on
/// its path are parsed.
///
/// # Errors
/// `invalid-json`, with the place.
pub(super) fn at<'a>(text: &'a str, pointer: &str) -> Result<Option<&'a str>, Failure> {
    let document: &RawValue = serde_json::from_str(text).map_err(|error| syntax(&error))?;
    let mut here = document.get();
    for token in pointer.split('/').skip(1) {
        let name = token.replace("~1", "/").replace("~0", "~");
        let next = if is_array(here) {
            let item = |at: usize| Ok(items(here, at.saturating_add(1))?.get(at).copied());
            name.parse().ok().map_or(Ok(None), item)?
        } else if here.trim_start().starts_with('{') {
            member(here, &name)?
        } else {
            None
        };
        match next {
            Some(value) => here = value.get(),
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// A JSON string, decoded; `None` if the value is something else.
pub(super) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Whether a value is an array, judged by its first character.
pub(super) fn is_array(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

/// A JSON parser's error as a failure.
pub(super) fn syntax(error: &serde_json::Error) -> Failure {
    Failure::new("invalid-json", error.to_string())
}

/// Line and column of a byte offset, both from 1.
pub(super) fn place(text: &str, offset: usize) -> String {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count()
        + 1;
    format!("line {line} column {column}")
}

/// The offset of the quote that closes the string opened at `start`, or of the end if there is
/// none, which the parser then reports. The error is the offset of an escape that is half of a
/// surrogate pair.
fn end_of_string(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Ok(at),
            b'\\' => match unit(bytes, at) {
                Some(0xd800..=0xdbff) => {
                    if !matches!(unit(bytes, at + 6), Some(0xdc00..=0xdfff)) {
                        return Err(at);
                    }
                    at += 12;
                }
                Some(0xdc00..=0xdfff) => return Err(at),
                _ => at += 2,
            },
            _ => at += 1,
        }
    }
    Ok(bytes.len())
}

/// The UTF-16 unit of the escape `\uXXXX` at this offset, if there is one.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

struct Members<F>(F);

impl<'de, F: FnMut(String, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry()? {
            self.0(name, value);
        }
        Ok(())
    }
}

struct Items(usize);

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0 {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        check(text).map_or_else(|failure| failure.code, |()| "fine".into())
    }

    #[test]
    fn what_is_json_passes_and_what_is_not_is_named_with_its_place() {
        for good in [
            "{}",
            " [1, 2.50e3, -0] ",
            r#""\ud83d\ude00 \\ \" ü""#,
            "null",
            "12345678901234567890123.10",
        ] {
            assert_eq!(code(good), "fine", "{good}");
        }
        for bad in [
            "",
            "{",
            "[1,]",
            "{'a':1}",
            "nul",
            "1 2",
            "\"tab\there\"",
            "[1]]",
            "\"open",
            "01",
        ] {
            assert_eq!(code(bad), "invalid-json", "{bad}");
        }
        let failure = check("{\n  \"a\": trie\n}").unwrap_err();
        assert!(
            failure.message.contains("line 2 column"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn sixty_four_levels_are_deep_enough() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(code(&nested(64)), "fine");
        assert_eq!(code(&nested(65)), "too-deep");
        assert_eq!(code(&"[".repeat(100_000)), "too-deep");
        assert_eq!(
            code(&format!("\"{}\"", "[".repeat(100_000))),
            "fine",
            "brackets in a string open nothing"
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for bad in [
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83dx""#,
            r#""\ud83d\ud83d""#,
        ] {
            assert_eq!(code(bad), "invalid-json", "{bad}");
        }
        assert_eq!(
            code(r#""\\ud83d""#),
            "fine",
            "an escaped backslash begins no escape"
        );
    }

    // 31 requests with 8 MiB of `[0,0,…]` each took 2.6 GB, since all items were collected before
    // the first was counted.
    #[test]
    fn items_and_members_are_counted_before_they_are_collected() {
        let zeros = format!("[{}0]", "0,".repeat(1_000_000));
        assert_eq!(items(&zeros, 10).map(|items| items.len()), Ok(10));
        assert!(items("[0,0,", 1).is_err(), "the rest is checked");
        assert_eq!(items("[1, 2]", 3).map(|items| items.len()), Ok(2));
        let many = format!("{{{}\"last\":1}}", "\"a\":null,".repeat(MEMBERS_MAX));
        let refused = members(&many).map(|members| members.len());
        assert_eq!(refused.unwrap_err().code, "too-many-members");
        let last = member(&many, "last").map(|value| value.map(RawValue::get));
        assert_eq!(last, Ok(Some("1")));
        assert!(member(&many, "none").is_ok_and(|value| value.is_none()));
    }

    #[test]
    fn a_byte_that_is_no_text_is_counted() {
        assert_eq!(text(b"\xef\xbb\xbf{}"), Ok("{}"));
        assert_eq!(
            text(b"ab\xff")
                .unwrap_err()
                .message
                .split(' ')
                .take(2)
                .collect::<Vec<_>>(),
            ["byte", "2"]
        );
    }
}
