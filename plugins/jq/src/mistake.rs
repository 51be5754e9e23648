//! What is wrong with a program, as a sentence with its place: `line 3, column 5: …`.

use jaq_core::compile::{self, Undefined};
use jaq_core::load::{self, lex, parse};

/// Describes the first mistake of a program that cannot be parsed.
pub(crate) fn of_loading<P>(code: &str, errors: load::Errors<&str, P>) -> String {
    let each = errors.into_iter().flat_map(|(_, error)| match error {
        load::Error::Io(imports) => imports
            .into_iter()
            .map(|(path, _)| (path, "a program cannot import modules or data".to_owned()))
            .collect(),
        load::Error::Lex(errors) => errors.into_iter().map(lexical).collect(),
        load::Error::Parse(errors) => errors.into_iter().map(syntactic).collect::<Vec<_>>(),
    });
    first(code, each)
}

/// Describes the first name of a program that is not defined.
pub(crate) fn of_compiling<P>(code: &str, errors: compile::Errors<&str, P>) -> String {
    let undefined = |(name, kind): compile::Error<_>| {
        let what = match kind {
            Undefined::Filter(0) => format!("there is no function `{name}`"),
            Undefined::Filter(arguments) => format!("there is no function `{name}/{arguments}`"),
            kind => format!("there is no {} `{name}`", kind.as_str()),
        };
        (name, what)
    };
    let each = errors.into_iter().flat_map(|(_, errors)| errors);
    first(code, each.map(undefined))
}

fn lexical((expected, found): lex::Error<&str>) -> (&str, String) {
    match expected {
        lex::Expect::Delim(opening) => (opening, format!("`{opening}` is not closed")),
        expected => (found, unexpected(expected.as_str(), found)),
    }
}

fn syntactic((expected, found): parse::Error<&str>) -> (&str, String) {
    let expected = match expected {
        parse::Expect::Just(word) => format!("`{word}`"),
        parse::Expect::Term => "a value or a function".to_owned(),
        expected => expected.as_str().to_owned(),
    };
    (found, unexpected(&expected, found))
}

fn unexpected(expected: &str, found: &str) -> String {
    const CHARACTERS_MAX: usize = 40;
    let line = found.lines().next().unwrap_or_default();
    let short: String = line.chars().take(CHARACTERS_MAX).collect();
    match short.as_str() {
        "" => format!("{expected} is expected, but the program ends"),
        short if short.len() < found.len() => format!("{expected} is expected, not `{short}…`"),
        short => format!("{expected} is expected, not `{short}`"),
    }
}

/// The mistake that comes first in the program.
fn first<'a>(code: &str, mistakes: impl Iterator<Item = (&'a str, String)>) -> String {
    let placed = mistakes.map(|(part, what)| (offset(code, part), what));
    let (at, what) = placed
        .min_by_key(|(at, _)| *at)
        .unwrap_or_else(|| (0, "it is not a program".to_owned()));
    let before = &code[..at];
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[start..].chars().count() + 1;
    format!("line {line}, column {column}: {what}")
}

/// Where a part of the program begins; its end for a text that is not a part of it.
fn offset(code: &str, part: &str) -> usize {
    let (start, at) = (code.as_ptr() as usize, part.as_ptr() as usize);
    match at.checked_sub(start) {
        Some(offset) if offset <= code.len() && code.is_char_boundary(offset) => offset,
        _ => code.len(),
    }
}
