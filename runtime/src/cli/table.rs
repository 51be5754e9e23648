//! Plain tables: columns as wide as their widest cell, without control characters.

use crate::plain;

/// The longest value that is printed.
const VALUE_CHARS_MAX: usize = 80;

/// Lines of aligned cells under a header; the last column is not padded.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect())
        .collect();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    let all = || std::iter::once(&header).chain(&rows);
    let width = |column: usize| {
        all()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut text = String::new();
    for row in all() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
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
}
