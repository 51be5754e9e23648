//! Text for terminals and logs, without the characters that these obey.
//!
//! Keys, names in components, messages of targets and plugins come from others. A control character
//! in one of them could forge a line of the log, or move the cursor of whoever reads it. So every
//! text passes one of these functions where it leaves Weir. Escapes are those of JSON, so that text
//! which is JSON keeps its meaning.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text as one line: line breaks and tabs are escaped as well.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// The text as lines: line breaks and tabs stay.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

/// The text as lines, of which all but the first are indented, so that none looks like a beginning.
pub(crate) fn indented(text: &str) -> Cow<'_, str> {
    let lines = lines(text);
    match lines.contains('\n') {
        true => Cow::Owned(lines.replace('\n', "\n    ")),
        false => lines,
    }
}

fn escaped(text: &str, stays: fn(char) -> bool) -> Cow<'_, str> {
    let wrong = |character: char| obeyed(character) && !stays(character);
    let Some(first) = text.find(wrong) else {
        return Cow::Borrowed(text);
    };
    let mut plain = String::with_capacity(text.len() + 16);
    plain.push_str(&text[..first]);
    for character in text[first..].chars() {
        match character {
            '\n' if wrong(character) => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' if wrong(character) => plain.push_str("\\t"),
            _ if wrong(character) => {
                // Writing to a string does not fail.
                let _ = write!(plain, "\\u{:04x}", u32::from(character));
            }
            _ => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

/// Control characters, separators that count as line breaks, those that change the direction of the text
/// around them, and those that nobody sees.
fn obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_or_a_log_would_obey_is_escaped() {
        let text = "lämp\u{1b}[2J\u{9b}31m\r\n\tx\u{2028}y\u{202e}z\u{85}";
        let rest = "x\\u2028y\\u202ez\\u0085";
        assert_eq!(
            line(text),
            format!("lämp\\u001b[2J\\u009b31m\\r\\n\\t{rest}")
        );
        assert_eq!(
            lines(text),
            format!("lämp\\u001b[2J\\u009b31m\\r\n\t{rest}")
        );
        assert!(matches!(line("Lämpchen 灯 🪔"), Cow::Borrowed(_)));
    }

    // A key with a zero-width space looked like another one.
    #[test]
    fn what_nobody_sees_is_written_out() {
        let unseen = "\u{ad}\u{61c}\u{200b}\u{200d}\u{200f}\u{2029}\u{2069}\u{feff}";
        for character in unseen.chars() {
            let shown = format!("a\\u{:04x}b", u32::from(character));
            assert_eq!(line(&format!("a{character}b")), shown);
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"key": "a\u{1b}\u{7f}\u{9b}\u{202e}\n"});
        let plain = lines(&format!("{value:#}\n")).into_owned();
        assert!(plain.is_ascii(), "{plain}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&plain).unwrap(),
            value
        );
    }
}
