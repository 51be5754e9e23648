//! Places inside a text that is a value of a TOML file, such as a program: where its third line begins
//! in the file.

use super::Place;

/// What a piece of the written text stands for in the text that was read.
enum Piece {
    Character,
    LineBreak,
    /// A backslash at the end of a line, and the white space behind it.
    Nothing,
}

impl Place {
    /// The place of a line and a column, both from 1, of the text that is written at this place. The
    /// closing quote if the text is shorter, and this place if no text is written here.
    pub fn inside(&self, line: usize, column: usize) -> Place {
        let written = &self.source.text[self.offset..];
        let quotes = ["\"\"\"", "'''", "\"", "'"];
        let Some(quotes) = quotes
            .into_iter()
            .find(|quotes| written.starts_with(quotes))
        else {
            return self.clone();
        };
        let is_literal = quotes.starts_with('\'');
        let mut rest = &written[quotes.len()..];
        if quotes.len() == 3 {
            // A line break behind the opening quotes does not belong to the text.
            rest = rest
                .strip_prefix("\r\n")
                .unwrap_or_else(|| rest.strip_prefix('\n').unwrap_or(rest));
        }
        let mut here = (1, 1);
        while here < (line, column) && !rest.is_empty() && !rest.starts_with(quotes) {
            let (length, piece) = piece(rest, is_literal);
            here = match piece {
                Piece::Character => (here.0, here.1 + 1),
                Piece::LineBreak => (here.0 + 1, 1),
                Piece::Nothing => here,
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        Place::new(&self.source, self.source.text.len() - rest.len())
    }
}

/// The length of the first piece of a written text, in bytes, and what it stands for.
fn piece(written: &str, is_literal: bool) -> (usize, Piece) {
    if written.starts_with("\r\n") {
        return (2, Piece::LineBreak);
    }
    let mut characters = written.chars();
    let length = match characters.next() {
        Some('\n') => return (1, Piece::LineBreak),
        Some('\\') if !is_literal => match characters.next() {
            Some('n') => return (2, Piece::LineBreak),
            Some('x') => 4,
            Some('u') => 6,
            Some('U') => 10,
            Some(character) if character.is_whitespace() => {
                let behind = written[1..].trim_start();
                return (written.len() - behind.len(), Piece::Nothing);
            }
            _ => 2,
        },
        character => character.map_or(1, char::len_utf8),
    };
    (length, Piece::Character)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Source;
    use super::*;

    /// What stands in the file at the place of a line and a column of the text.
    fn at(written: &str, line: usize, column: usize) -> String {
        let text = format!("a = 1\nprogram = {written} # end");
        let start = text.find(written).expect("it is there");
        let path = "weir.toml".into();
        let source = Arc::new(Source {
            path,
            text,
            quotable: true,
        });
        let place = Place::new(&source, start).inside(line, column);
        source.text[place.offset..].chars().take(5).collect()
    }

    #[test]
    fn a_line_and_a_column_of_a_text_are_found_in_the_file() {
        for (written, line, column, found) in [
            ("'.ab | cd'", 1, 7, "cd' #"),
            ("\".ab | cd\"", 1, 7, "cd\" #"),
            ("'''\n.ab\n  | cd\n'''", 2, 5, "cd\n''"),
            ("'''\r\n.ab\r\n  | cd\r\n'''", 2, 5, "cd\r\n'"),
            ("'''.ab | cd'''", 1, 7, "cd'''"),
            ("'''\nä\\n | cd'''", 1, 7, "cd'''"),
            // With escapes, and a line that is continued.
            ("\"\\\"ä\\\" | \\u0063d | ef\"", 1, 12, "ef\" #"),
            ("\"\\U0001F4A1\\t\\x41 | cd\"", 1, 7, "cd\" #"),
            ("\"a\\n | cd\"", 2, 4, "cd\" #"),
            ("\"\"\"\n.ab \\\n\n    | cd\n  ef\"\"\"", 1, 7, "cd\n  "),
            ("\"\"\"\n.ab \\\n\n    | cd\n  ef\"\"\"", 2, 3, "ef\"\"\""),
            // Beyond its end, and where no text is written.
            ("'ab'", 1, 9, "' # e"),
            ("'''\nab'''", 7, 1, "''' #"),
            ("[1]", 1, 2, "[1] #"),
        ] {
            let found = found.chars().take(5).collect::<String>();
            assert_eq!(
                at(written, line, column),
                found,
                "{written} {line}:{column}"
            );
        }
    }
}
