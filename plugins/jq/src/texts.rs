//! Functions on texts as jq has them, with jq's messages.

use crate::{as_text, json};
use jaq_core::{Error, ValR};
use jaq_json::Val;
use jaq_std::ValT as _;

/// Maximum number of bytes of a value in one of jq's messages.
const NAMED_MAX: usize = 29;
/// What stands for a number that is no code point.
const REPLACEMENT: char = '\u{fffd}';

/// The name of the type of a value.
pub(crate) fn kind(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "boolean",
        Val::Num(_) => "number",
        Val::TStr(_) | Val::BStr(_) => "string",
        Val::Arr(_) => "array",
        Val::Obj(_) => "object",
    }
}

/// A value as messages of jq name it, such as `string ("a")`.
pub(crate) fn named(value: &Val) -> String {
    let json = json::write(value).unwrap_or_else(|_| value.to_string());
    if json.len() <= NAMED_MAX {
        return format!("{} ({json})", kind(value));
    }
    let closing = if json.starts_with('"') {
        "...\""
    } else {
        "..."
    };
    let mut end = NAMED_MAX - closing.len();
    while !json.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} ({}{closing})", kind(value), &json[..end])
}

/// The part of a text that `part` chooses, without a copy.
pub(crate) fn part(value: &Val, part: impl Fn(&str) -> &str, wrong: &str) -> ValR<Val> {
    match as_text(value) {
        Some(text) => Ok(value.as_sub_str(part(text).as_bytes())),
        None => Err(Error::str(wrong)),
    }
}

/// `ltrimstr`, `rtrimstr` and `trimstr`: a text without another one at its start, at its end, or both.
pub(crate) fn trimmed(value: &Val, other: &Val, start: bool, end: bool) -> ValR<Val> {
    let wrong = match start {
        true => "startswith() requires string inputs",
        false => "endswith() requires string inputs",
    };
    let other = as_text(other).ok_or_else(|| Error::str(wrong))?;
    let shorter = |text: &str| {
        let from = match start && text.starts_with(other) {
            true => other.len(),
            false => 0,
        };
        let to = match end && text[from..].ends_with(other) {
            true => text.len() - other.len(),
            false => text.len(),
        };
        from..to
    };
    part(value, |text| &text[shorter(text)], wrong)
}

/// `join`: the items of a list as one text. An item that is missing is empty.
pub(crate) fn join(list: &Val, between: &Val) -> ValR<Val> {
    let cannot_add = |left: &Val, right: &Val| {
        let (left, right) = (named(left), named(right));
        Error::str(format_args!("{left} and {right} cannot be added"))
    };
    let items: Vec<&Val> = match list {
        Val::Arr(items) => items.iter().collect(),
        Val::Obj(members) => members.values().collect(),
        other => {
            let other = named(other);
            return Err(Error::str(format_args!("Cannot iterate over {other}")));
        }
    };
    let mut joined = String::new();
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            match (as_text(between), between) {
                (Some(between), _) => joined.push_str(between),
                (None, Val::Null) => {}
                (None, other) => return Err(cannot_add(&crate::text(&joined), other)),
            }
        }
        match item {
            Val::Null => {}
            Val::Bool(_) | Val::Num(_) => {
                joined.push_str(&json::write(item).unwrap_or_else(|_| "null".into()));
            }
            item => match as_text(item) {
                Some(text) => joined.push_str(text),
                None => return Err(cannot_add(&crate::text(&joined), item)),
            },
        }
    }
    Ok(joined.into())
}

/// `tonumber`: a number, or a text that is one in decimal notation, which is kept as it is written, without
/// leading zeros and plus.
pub(crate) fn number(value: &Val) -> ValR<Val> {
    let number = match value {
        Val::Num(_) => Some(value.clone()),
        value => as_text(value).and_then(parsed),
    };
    number.ok_or_else(|| {
        let value = named(value);
        Error::str(format_args!("{value} cannot be parsed as a number"))
    })
}

fn parsed(text: &str) -> Option<Val> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let mut plain = digits.trim_start_matches('0').to_owned();
    if !plain.starts_with(|first: char| first.is_ascii_digit()) {
        plain.insert(0, '0');
    }
    json::read_number(&format!("{sign}{plain}"))
}

/// `toboolean`: true or false, or a text that says so.
pub(crate) fn boolean(value: &Val) -> ValR<Val> {
    match (value, as_text(value)) {
        (Val::Bool(truth), _) => Ok(Val::Bool(*truth)),
        (_, Some("true")) => Ok(Val::Bool(true)),
        (_, Some("false")) => Ok(Val::Bool(false)),
        (value, _) => {
            let value = named(value);
            Err(Error::str(format_args!(
                "{value} cannot be parsed as a boolean"
            )))
        }
    }
}

/// `utf8bytelength`.
pub(crate) fn length(value: &Val) -> ValR<Val> {
    match value {
        Val::TStr(bytes) => Ok(Val::from(bytes.len())),
        value => {
            let value = named(value);
            Err(Error::str(format_args!(
                "{value} only strings have UTF-8 byte length"
            )))
        }
    }
}

/// `implode`: a text of a list of code points.
pub(crate) fn implode(points: &Val) -> ValR<Val> {
    let Val::Arr(points) = points else {
        return Err(Error::str("implode input must be an array"));
    };
    let mut text = String::with_capacity(points.len());
    for point in points.iter() {
        let number = point.as_f64().filter(|number| !number.is_nan());
        let Some(number) = number else {
            let point = named(point);
            return Err(Error::str(format_args!(
                "{point} can't be imploded, unicode codepoint needs to be numeric"
            )));
        };
        let known = (0.0..=f64::from(u32::MAX)).contains(&number);
        let point = known.then_some(number as u32).and_then(char::from_u32);
        text.push(point.unwrap_or(REPLACEMENT));
    }
    Ok(text.into())
}
