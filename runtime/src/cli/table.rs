//! Plain tables: columns as wide as their widest cell, without control characters. On a terminal a table is
//! no wider than the screen, as far as its last column can help that.

use std::io::IsTerminal;

use crate::plain;

/// The longest value that is printed.
const VALUE_CHARS_MAX: usize = 80;
/// A last column that would be narrower than this has lines of its own.
const TEXT_CHARS_MIN: usize = 30;
/// By how much a text on a line of its own is indented.
const INDENT: usize = 4;

/// Lines of aligned cells under a header; the last column is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    fitted(header, rows, screen_width())
}

/// The columns of the terminal that standard output is; `None` if it is none, and lines may have any length.
pub(super) fn screen_width() -> Option<usize> {
    let size = std::io::stdout()
        .is_terminal()
        .then(ratatui::crossterm::terminal::size);
    let (columns, _) = size?.ok()?;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// A table whose last column, often a sentence, is broken into lines where the table would be wider than
/// `width`: beside the other columns if there is room, otherwise below its row. Other cells stay whole: a key
/// that is cut helps nobody.
pub(super) fn fitted(header: &[&str], rows: &[Vec<String>], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let all = || std::iter::once(&header).chain(&rows);
    let widest = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(widest).collect();
    let (last, others) = widths.split_last().unwrap_or((&0, &[]));
    let before: usize = others.iter().map(|width| width + 2).sum();
    let room = width.filter(|width| before + last > *width);
    let mut text = String::new();
    for row in all() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let (Some(room), [others @ .., _], Some(sentence)) =
            (room, &cells[..], row.get(others.len()))
        else {
            line(&mut text, &cells.join("  "));
            continue;
        };
        let others = others.join("  ");
        match room.checked_sub(before) {
            // Also where it is only the header that would fit.
            Some(beside) if beside >= TEXT_CHARS_MIN => {
                for (at, part) in wrapped(sentence, beside).iter().enumerate() {
                    let start = if at == 0 { others.as_str() } else { "" };
                    line(
                        &mut text,
                        &format!("{start:<column$}{part}", column = before),
                    );
                }
            }
            _ => {
                line(&mut text, &others);
                let below = room.saturating_sub(INDENT).max(TEXT_CHARS_MIN);
                let parts = wrapped(sentence, below);
                for part in parts.iter().filter(|part| !part.is_empty()) {
                    line(&mut text, &format!("{:INDENT$}{part}", ""));
                }
            }
        }
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The lines of a text, each at most `width` characters long; one at least.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split(' ') {
        let mut word = word;
        let used = current.chars().count();
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut current));
        }
        if !current.is_empty() {
            current.push(' ');
        }
        // A word that is longer than a line.
        while current.is_empty()
            && let Some((end, _)) = word.char_indices().nth(width)
        {
            lines.push(word[..end].to_owned());
            word = &word[end..];
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}

/// Text as one line that a terminal does not obey.
pub(super) fn plain(text: &str) -> String {
    plain::line(text).into_owned()
}

/// The beginning of a long value; `--json` has it whole.
pub(super) fn short(value: &str) -> String {
    match value.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// The value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn columns_are_aligned_and_terminals_are_left_alone() {
        let rows = [
            vec!["a".to_owned(), "1".into()],
            vec!["lämp\u{1b}[2J".to_owned(), "22".into()],
        ];
        assert_eq!(
            table(&["key", "n"], &rows),
            "key            n\na              1\nlämp\\u001b[2J  22\n"
        );
    }

    #[test]
    fn a_long_sentence_is_broken_beside_its_row_or_below_it() {
        let rows = [
            vec![
                "storefront.de".to_owned(),
                "tripped".into(),
                "the target answered 401: no such token, and it did so for the third time".into(),
            ],
            vec!["b".to_owned(), "flowing".into(), String::new()],
        ];
        let header = ["CHANNEL", "STATE", "NOTE"];
        expect![[r#"
            CHANNEL        STATE    NOTE
            storefront.de  tripped  the target answered 401: no
                                    such token, and it did so for
                                    the third time
            b              flowing
        "#]]
        .assert_eq(&fitted(&header, &rows, Some(54)));
        expect![[r#"
            CHANNEL        STATE
                NOTE
            storefront.de  tripped
                the target answered 401: no such token, and
                it did so for the third time
            b              flowing
        "#]]
        .assert_eq(&fitted(&header, &rows, Some(47)));
        let whole = fitted(&header, &rows, None);
        assert_eq!(fitted(&header, &rows, Some(200)), whole);
        assert_eq!(whole.lines().count(), 3, "{whole}");
    }

    #[test]
    fn no_line_is_longer_than_it_may_be_and_no_word_is_lost() {
        let text = "a  word that-is-longer-than-a-whole-line and äöü€ more";
        for width in 1..60 {
            let lines = wrapped(text, width);
            assert!(
                lines.iter().all(|line| line.chars().count() <= width),
                "{width}: {lines:?}"
            );
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&lines.concat()), letters(text), "{width}");
        }
    }
}
