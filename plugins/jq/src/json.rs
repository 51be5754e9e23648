//! JSON text into values and back, strictly.
//!
//! jaq reads and writes a superset of JSON: infinity, bytes, keys that are no text, numbers such as
//! `+1` and `007`. A sender of such a text is mistaken, and a target cannot read it. Numbers stay as
//! they were written until a program calculates with them.

use bytes::Bytes;
use jaq_json::{Map, Num, Val};
use std::fmt::Write as _;
use std::sync::Arc;

/// Maximum depth of nesting, because reading and writing take stack. Weir takes 64 levels from senders; a facet and a
/// rendering have more by what a program wraps around them.
const DEPTH_MAX: usize = 128;
/// Maximum number of steps to a place that a message shows.
const STEPS_MAX: usize = 12;
/// A whole number below this is written without an exponent.
const WHOLE_MAX: f64 = 1e17;

/// Reads one JSON text. The error is a phrase with line and column.
pub fn read(text: &str) -> Result<Val, String> {
    let mut reader = Reader {
        text,
        shared: Bytes::copy_from_slice(text.as_bytes()),
        at: 0,
        depth: 0,
    };
    let value = reader.value().and_then(|value| match reader.peek() {
        None => Ok(value),
        Some(_) => Err("nothing is expected after the value"),
    });
    value.map_err(|why| {
        let before = &text.as_bytes()[..reader.at.min(text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
        format!("{why}, in line {line}, column {column}")
    })
}

/// The number that a text is, if it is written as in JSON.
pub(crate) fn read_number(text: &str) -> Option<Val> {
    let exact = match is_number(text)? {
        true => Num::from_str_radix(text, 10),
        false => None,
    };
    Some(Val::Num(
        exact.unwrap_or_else(|| Num::Dec(Arc::new(text.to_owned()))),
    ))
}

struct Reader<'a> {
    text: &'a str,
    /// A copy of the text, of which its texts are parts: one copy instead of one for each.
    shared: Bytes,
    at: usize,
    depth: usize,
}

type Read<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blanks = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
        self.at += blanks.count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn value(&mut self) -> Read<Val> {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => self.string().map(Val::utf8_str),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Val::Bool(true)),
            Some(b'f') => self.word("false", Val::Bool(false)),
            Some(b'n') => self.word("null", Val::Null),
            Some(_) => Err("a value is expected"),
            None => Err("a value is expected, but the text ends"),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Read<Val>) -> Read<Val> {
        if self.depth == DEPTH_MAX {
            return Err("it is nested more than 128 levels deep");
        }
        (self.depth, self.at) = (self.depth + 1, self.at + 1);
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Read<Val> {
        let mut members = Map::default();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Val::obj(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err("a name in quotes is expected");
            }
            let name = Val::utf8_str(self.string()?);
            if self.peek() != Some(b':') {
                return Err("`:` is expected");
            }
            self.at += 1;
            let value = self.value()?;
            members.insert(name, value);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err("`,` or `}` is expected"),
            }
        }
        self.at += 1;
        Ok(Val::obj(members))
    }

    fn array(&mut self) -> Read<Val> {
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Val::Arr(Arc::new(items)));
        }
        loop {
            items.push(self.value()?);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err("`,` or `]` is expected"),
            }
        }
        self.at += 1;
        Ok(Val::Arr(Arc::new(items)))
    }

    fn word(&mut self, word: &str, value: Val) -> Read<Val> {
        if !self.text[self.at..].starts_with(word) {
            return Err("a value is expected");
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Read<Val> {
        let rest = &self.text[self.at..];
        let length = rest
            .bytes()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .count();
        let number = &rest[..length];
        let number = read_number(number).ok_or("a number is not written as in JSON")?;
        self.at += length;
        Ok(number)
    }

    fn string(&mut self) -> Read<Bytes> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        let mut string = Vec::new();
        loop {
            let rest = &bytes[self.at..];
            let Some(plain) = rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
            else {
                self.at = bytes.len();
                return Err("a text has no closing quote");
            };
            self.at += plain + 1;
            // Most texts have no escape.
            if string.is_empty() && rest[plain] == b'"' {
                return Ok(self.shared.slice(self.at - plain - 1..self.at - 1));
            }
            string.extend_from_slice(&rest[..plain]);
            match rest[plain] {
                b'"' => return Ok(string.into()),
                b'\\' => self.escape(&mut string)?,
                _ => {
                    self.at -= 1;
                    return Err("a text has a control character that is not escaped");
                }
            }
        }
    }

    fn escape(&mut self, string: &mut Vec<u8>) -> Read<()> {
        const WRONG: &str = "a text has an unknown escape";
        let kind = *self.text.as_bytes().get(self.at).ok_or(WRONG)?;
        self.at += 1;
        let character = match kind {
            b'"' | b'\\' | b'/' => kind.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let both = match first {
                    0xD800..=0xDBFF if self.text[self.at..].starts_with("\\u") => {
                        self.at += 2;
                        vec![first, self.unit()?]
                    }
                    _ => vec![first],
                };
                let mut decoded = char::decode_utf16(both);
                match (decoded.next(), decoded.next()) {
                    (Some(Ok(character)), None) => character,
                    _ => return Err("a text has half of a pair of surrogates"),
                }
            }
            _ => return Err(WRONG),
        };
        string.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    /// The four digits behind `\u`.
    fn unit(&mut self) -> Read<u16> {
        let digits = self.text.get(self.at..self.at + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.ok_or("`\\u` is not followed by four hexadecimal digits")
    }
}

/// Whether a text is a number in JSON, and if so, whether it is written as a whole one.
fn is_number(text: &str) -> Option<bool> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || whole > 1 && rest.starts_with('0') {
        return None;
    }
    let mut rest = &rest[whole..];
    let ends = rest.is_empty();
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = digits(fraction);
        rest = &fraction[length..];
        (length > 0).then_some(())?;
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let length = digits(exponent);
        rest = &exponent[length..];
        (length > 0).then_some(())?;
    }
    rest.is_empty().then_some(ends)
}

/// Writes a value as JSON text. The error is a phrase with the place: `price.amount is Infinity`.
pub fn write(value: &Val) -> Result<String, String> {
    let mut json = String::new();
    match put(&mut json, value, 0) {
        Ok(()) => Ok(json),
        Err(Wrong { place, what }) if place.is_empty() => Err(format!("it {what}")),
        Err(Wrong { place, what }) => {
            let rest = if place.len() > STEPS_MAX { "…" } else { "" };
            let place: String = place.into_iter().rev().take(STEPS_MAX).collect();
            let place = place.strip_prefix('.').unwrap_or(&place);
            Err(format!("{place}{rest} {what}"))
        }
    }
}

/// Why a value is not JSON, and the steps to it, the last one first.
struct Wrong {
    place: Vec<String>,
    what: String,
}

fn wrong(what: impl Into<String>) -> Wrong {
    Wrong {
        place: Vec::new(),
        what: what.into(),
    }
}

fn put(json: &mut String, value: &Val, depth: usize) -> Result<(), Wrong> {
    let below = |mut wrong: Wrong, step: String| {
        wrong.place.push(step);
        wrong
    };
    match value {
        Val::Null => json.push_str("null"),
        Val::Bool(truth) => json.push_str(if *truth { "true" } else { "false" }),
        Val::Num(number) => put_number(json, number)?,
        Val::TStr(bytes) => put_text(json, bytes)?,
        Val::BStr(_) => return Err(wrong("is bytes, not text")),
        Val::Arr(_) | Val::Obj(_) if depth == DEPTH_MAX => {
            return Err(wrong("is nested more than 128 levels deep"));
        }
        Val::Arr(items) => {
            json.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                put(json, item, depth + 1).map_err(|wrong| below(wrong, format!("[{index}]")))?;
            }
            json.push(']');
        }
        Val::Obj(members) => {
            json.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                let Val::TStr(bytes) = name else {
                    return Err(wrong(format!("has the key {name}, which is not text")));
                };
                let step = || format!(".{}", String::from_utf8_lossy(bytes));
                put_text(json, bytes).map_err(|wrong| below(wrong, step()))?;
                json.push(':');
                put(json, value, depth + 1).map_err(|wrong| below(wrong, step()))?;
            }
            json.push('}');
        }
    }
    Ok(())
}

fn put_number(json: &mut String, number: &Num) -> Result<(), Wrong> {
    match number {
        Num::Float(float) if !float.is_finite() => return Err(wrong(format!("is {number}"))),
        // As jq, and as most targets read numbers: half of 10 is 5, not 5.0.
        Num::Float(float) if float.fract() == 0.0 && float.abs() < WHOLE_MAX => {
            let _ = write!(json, "{}", *float as i64);
        }
        Num::Dec(text) if is_number(text).is_some() => json.push_str(text),
        // From a text of digits, such as an amount with leading zeros.
        Num::Dec(text) => {
            let (sign, digits) = match text.strip_prefix('-') {
                Some(digits) => ("-", digits),
                None => ("", text.strip_prefix('+').unwrap_or(text)),
            };
            let digits = digits.trim_start_matches('0');
            let zero = if digits.starts_with(|c: char| c.is_ascii_digit()) {
                ""
            } else {
                "0"
            };
            let plain = format!("{sign}{zero}{digits}");
            if is_number(&plain).is_none() {
                return Err(wrong(format!("is {text}, which is not a number in JSON")));
            }
            json.push_str(&plain);
        }
        exact => {
            let _ = write!(json, "{exact}");
        }
    }
    Ok(())
}

fn put_text(json: &mut String, bytes: &[u8]) -> Result<(), Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("is text that is not UTF-8"))?;
    json.push('"');
    let mut rest = text;
    while let Some(at) = rest
        .bytes()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
    {
        json.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b'"' => json.push_str("\\\""),
            b'\\' => json.push_str("\\\\"),
            b'\n' => json.push_str("\\n"),
            b'\r' => json.push_str("\\r"),
            b'\t' => json.push_str("\\t"),
            control => {
                let _ = write!(json, "\\u{control:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    json.push_str(rest);
    json.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_comes_back_as_it_was_written() {
        for text in [
            "null",
            "true",
            r#"{"b":9.90,"a":[1e3,-0.50,12345678901234567890123,4294967296,-2147483649]}"#,
            r#"{"":"","ü\n":"\u0001\"\\ 💡"}"#,
            "[[],{}]",
        ] {
            let value = read(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(write(&value).as_deref(), Ok(text));
        }
        assert_eq!(
            write(&read(" [ 1 ,\t\"\\u00e4\\ud83d\\ude00\\/\" ] \r\n").expect("JSON")).as_deref(),
            Ok("[1,\"ä😀/\"]")
        );
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for (text, why) in [
            (
                "",
                "a value is expected, but the text ends, in line 1, column 1",
            ),
            ("NaN", "a value is expected, in line 1, column 1"),
            ("[1,\n +2]", "a value is expected, in line 2, column 2"),
            (
                "[007]",
                "a number is not written as in JSON, in line 1, column 2",
            ),
            (
                "1.",
                "a number is not written as in JSON, in line 1, column 1",
            ),
            (
                "1e",
                "a number is not written as in JSON, in line 1, column 1",
            ),
            ("{1:2}", "a name in quotes is expected, in line 1, column 2"),
            ("{\"ä\" 1}", "`:` is expected, in line 1, column 6"),
            ("[1 2]", "`,` or `]` is expected, in line 1, column 4"),
            ("[1,]", "a value is expected, in line 1, column 4"),
            (
                "{\"a\":1,}",
                "a name in quotes is expected, in line 1, column 8",
            ),
            ("b\"x\"", "a value is expected, in line 1, column 1"),
            (
                "1 2",
                "nothing is expected after the value, in line 1, column 3",
            ),
            ("\"a", "a text has no closing quote, in line 1, column 3"),
            (
                "\"a\nb\"",
                "a text has a control character that is not escaped, in line 1, column 3",
            ),
            (
                "\"\\x\"",
                "a text has an unknown escape, in line 1, column 4",
            ),
            (
                "\"\\ud800\"",
                "a text has half of a pair of surrogates, in line 1, column 8",
            ),
            (
                "\"\\ud800\\ud800\"",
                "a text has half of a pair of surrogates, in line 1, column 14",
            ),
            (
                "\"\\u00e\"",
                "`\\u` is not followed by four hexadecimal digits, in line 1, column 8",
            ),
            ("# 1", "a value is expected, in line 1, column 1"),
        ] {
            assert_eq!(
                read(text).map(|value| value.to_string()),
                Err(why.to_owned()),
                "{text}"
            );
        }
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(128)).is_ok());
        let why = read(&nested(100_000)).expect_err("deep");
        assert!(
            why.starts_with("it is nested more than 128 levels deep"),
            "{why}"
        );
    }

    #[test]
    fn a_value_without_a_json_form_is_refused_with_its_place() {
        let number = |float: f64| Val::Num(Num::Float(float));
        let object = |name: Val, value: Val| Val::obj([(name, value)].into_iter().collect());
        let named = |name: &str, value: Val| object(crate::text(name), value);
        let list = |value: Val| Val::Arr(Arc::new(vec![Val::Null, value]));
        let deep = (0..129).fold(Val::Null, |value, _| Val::Arr(Arc::new(vec![value])));
        for (value, why) in [
            (number(f64::INFINITY), "it is Infinity"),
            (
                named("prices", list(named("amount", number(f64::NAN)))),
                "prices[1].amount is NaN",
            ),
            (named("a", Val::byte_str(vec![1])), "a is bytes, not text"),
            (
                named("a", object(number(1.5), Val::Null)),
                "a has the key 1.5, which is not text",
            ),
            (
                named("a", Val::utf8_str(vec![0xff])),
                "a is text that is not UTF-8",
            ),
            (
                Val::Num(Num::Dec(Arc::new("1e".into()))),
                "it is 1e, which is not a number in JSON",
            ),
        ] {
            assert_eq!(write(&value), Err(why.to_owned()));
        }
        let why = write(&deep).expect_err("deep");
        assert!(
            why.ends_with("[0][0]… is nested more than 128 levels deep"),
            "{why}"
        );
    }

    #[test]
    fn numbers_are_written_as_json_has_them() {
        let decimal = |text: &str| write(&Val::Num(Num::Dec(Arc::new(text.into()))));
        for (text, json) in [
            ("9.90", "9.90"),
            ("+9.90", "9.90"),
            ("007.50", "7.50"),
            ("-000.5", "-0.5"),
            (".5", "0.5"),
        ] {
            assert_eq!(decimal(text).as_deref(), Ok(json));
        }
        for (float, json) in [
            (5.0, "5"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (1e17, "1e17"),
            (2.5e-9, "2.5e-9"),
        ] {
            assert_eq!(write(&Val::Num(Num::Float(float))).as_deref(), Ok(json));
        }
    }
}
