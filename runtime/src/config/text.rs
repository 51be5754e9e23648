//! Places in a file, and complaints about them.
//!
//! A [`Complaint`] is written for a person: it names the file, line and column, says what is wrong
//! with the words of the file, and what would be right. It never quotes a line that may hold a
//! secret.

mod inside;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::plain;

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// The path, as given or as resolved from the file that includes it.
    pub path: PathBuf,
    /// The whole text.
    pub text: String,
    /// Whether its lines may be quoted: a file that is not TOML may not be a configuration at all.
    pub quotable: bool,
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<Source>,
    /// The offset in bytes, at most the length of the text.
    offset: usize,
}

impl Place {
    /// The place `offset` bytes into a file, moved back to the start of a character.
    pub fn new(source: &Arc<Source>, offset: usize) -> Place {
        let mut offset = offset.min(source.text.len());
        while !source.text.is_char_boundary(offset) {
            offset -= 1;
        }
        Place {
            source: source.clone(),
            offset,
        }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.source.path
    }

    /// The folder of the file; relative paths written at this place are resolved from it.
    pub fn folder(&self) -> &Path {
        self.source.path.parent().unwrap_or(Path::new(""))
    }

    /// The line, from 1.
    pub fn line(&self) -> usize {
        self.source.text[..self.offset].matches('\n').count() + 1
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> usize {
        self.source.text[self.line_start()..self.offset]
            .trim_start_matches('\u{feff}')
            .chars()
            .count()
            + 1
    }

    fn line_start(&self) -> usize {
        self.source.text[..self.offset]
            .rfind('\n')
            .map_or(0, |newline| newline + 1)
    }

    /// The line as it stands in the file. `None` if the line may hold a secret, judging by the
    /// file, by its own words or by those of the key that it belongs to.
    fn excerpt(&self) -> Option<String> {
        if !self.source.quotable {
            return None;
        }
        let line = self.source.text[self.line_start()..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches('\u{feff}');
        let before = self.source.text[..self.line_start()].lines().rev();
        let starts_here = |line: &str| line.contains('=') || line.trim_start().starts_with('[');
        let key = if starts_here(line) {
            None
        } else {
            before
                .take(STATEMENT_LINES_MAX)
                .find(|line| starts_here(line))
        };
        let short = line.chars().count() <= EXCERPT_CHARACTERS_MAX;
        (short
            && !line.trim().is_empty()
            && !suggests_a_secret(line)
            && !key.is_some_and(suggests_a_secret))
        .then(|| line.to_owned())
    }
}

/// Whether a line or a path has a word that suggests a secret.
fn suggests_a_secret(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words = [
        "secret",
        "token",
        "password",
        "sign",
        "bearer",
        "basic",
        "authorization",
        "whsec_",
        "auth",
        "header",
        "key",
        "hash",
        "://",
    ];
    words.iter().any(|word| lower.contains(word))
}

/// How many lines back to look for the start of the statement that a line belongs to.
const STATEMENT_LINES_MAX: usize = 200;
/// Maximum length of a quoted line, in characters; in a longer one the caret would be out of sight.
const EXCERPT_CHARACTERS_MAX: usize = 160;

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}",
            self.file().display(),
            self.line(),
            self.column()
        )
    }
}

/// The kind of mistake, as far as a caller decides on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// A value is wrong.
    #[default]
    Wrong,
    /// Something is missing, perhaps only because a part of the file could not be read.
    Missing,
    /// The file is not TOML.
    Syntax,
    /// The file cannot be opened or read.
    Unreadable,
}

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 if the complaint is about the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 if the complaint is about the file as a whole.
    pub column: usize,
    /// The path of the key (`channels.storefront.target`); empty if the complaint is about the file
    /// as a whole.
    pub path: String,
    /// The mistake, in a sentence.
    pub what: String,
    /// How to correct it.
    pub help: Option<String>,
    /// The line as it stands in the file; `None` if it may hold a secret.
    pub excerpt: Option<String>,
    /// The kind of mistake.
    pub cause: Cause,
}

impl Complaint {
    /// A complaint about a place.
    pub fn at(
        place: &Place,
        path: impl Into<String>,
        what: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Complaint {
        let path = path.into();
        Complaint {
            file: place.file().to_owned(),
            line: place.line(),
            column: place.column(),
            excerpt: if suggests_a_secret(&path) {
                None
            } else {
                place.excerpt()
            },
            path,
            what: what.into(),
            help: help.into(),
            cause: Cause::Wrong,
        }
    }

    /// A complaint about a file as a whole.
    pub fn of_file(
        file: &Path,
        what: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Complaint {
        let (file, what, help) = (file.to_owned(), what.into(), help.into());
        Complaint {
            file,
            line: 0,
            column: 0,
            path: String::new(),
            what,
            help,
            excerpt: None,
            cause: Cause::Wrong,
        }
    }

    /// The same complaint with another cause.
    pub fn because(self, cause: Cause) -> Complaint {
        Complaint { cause, ..self }
    }

    /// As a JSON object, for programs.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file.display().to_string(),
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "what": self.what,
            "help": self.help,
        })
    }
}

/// Writes one line: `weir.toml:12:7: channels.storefront.target: there is no target "shp"; did you
/// mean "shop"?`
///
/// Further lines of the sentence are indented, because some of its words are those of a component,
/// which must not look like a complaint of their own.
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", plain::line(&self.file.to_string_lossy()))?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", plain::line(&self.path))?;
        }
        write!(f, " {}", plain::indented(&self.what))?;
        match &self.help {
            Some(help) => write!(f, "; {}", plain::indented(help)),
            None => Ok(()),
        }
    }
}

/// All complaints as plain text for a terminal, each with its line and a caret under the place.
pub fn render(complaints: &[Complaint]) -> String {
    let mut out = String::new();
    for complaint in complaints {
        let _ = writeln!(out, "{complaint}");
        if let Some(line) = &complaint.excerpt {
            let number = complaint.line.to_string();
            // Keep tabs as tabs, so that the caret is under its place at any tab width.
            let before = line.chars().take(complaint.column.saturating_sub(1));
            let indent: String = before
                .map(|character| if character == '\t' { '\t' } else { ' ' })
                .collect();
            let _ = writeln!(
                out,
                "  {number} | {}\n  {} | {indent}^",
                line.trim_end(),
                " ".repeat(number.len())
            );
        }
    }
    out
}

/// The word of `known` that is most similar to `word`, if one is similar enough for a typing error.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let far = (word.chars().count() / 3).max(1);
    let distance = |candidate: &str| {
        strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase())
    };
    let near = known
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= far);
    near.min().map(|(_, candidate)| candidate)
}

/// `did you mean "shop"?` or, without a similar word, the list of known ones. `None` if none is
/// known.
pub fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean {near:?}?")),
        None if known.is_empty() => None,
        None => Some(format!("available: {}", listed(known, LISTED_MAX))),
    }
}

/// Maximum number of names in a list before "and 12 more".
const LISTED_MAX: usize = 12;

/// `a, b and c`, or `a, b and 12 more` beyond `most` names.
pub fn listed<'k>(names: impl IntoIterator<Item = &'k str>, most: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        all if all.len() > most => {
            format!("{} and {} more", all[..most].join(", "), all.len() - most)
        }
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, at: &str) -> Place {
        let source = Arc::new(Source {
            path: "weir.toml".into(),
            text: text.into(),
            quotable: true,
        });
        Place::new(&source, text.find(at).expect("the text holds it"))
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let place = place("a = 1\nb = \"äöü\" # here", "# here");
        assert_eq!((place.line(), place.column()), (2, 11));
    }

    #[test]
    fn the_caret_is_under_its_place_after_tabs_and_umlauts() {
        let place = place("\tü = \"x\"", "\"x\"");
        let complaint = Complaint::at(&place, "ü", "no", Some("yes".to_owned()));
        assert_eq!(
            render(&[complaint]),
            "weir.toml:1:6: ü: no; yes\n  1 | \tü = \"x\"\n    | \t    ^\n"
        );
    }

    #[test]
    fn a_line_with_a_secret_is_not_quoted() {
        let place = place(
            "verify = { kind = \"bearr\", token = \"s3cret\" }",
            "\"bearr\"",
        );
        let complaint = Complaint::at(&place, "verify.kind", "no", None);
        assert_eq!(render(&[complaint]), "weir.toml:1:19: verify.kind: no\n");
    }

    #[test]
    fn a_similar_word_is_suggested_and_otherwise_all_are_listed() {
        assert_eq!(
            suggestion("shp", ["shop", "search"]).as_deref(),
            Some("did you mean \"shop\"?")
        );
        assert_eq!(
            suggestion("web", ["shop", "search"]).as_deref(),
            Some("available: shop and search")
        );
        assert_eq!(suggestion("web", []), None);
    }
}
