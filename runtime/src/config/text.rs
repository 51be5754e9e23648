//! Where something stands in a file, and what is wrong there.
//!
//! A [`Complaint`] is for a person: it names the file, line and column, says what is wrong in the
//! file's own words and what would be right. A line that may hold a secret is never quoted.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path, as given or as made from the file that includes it.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A place in a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<Source>,
    /// In bytes; at most the length of the text.
    offset: usize,
}

impl Place {
    /// The place `offset` bytes into a file.
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

    /// What relative paths written here are relative to: the folder of the file.
    pub fn folder(&self) -> &Path {
        self.source.path.parent().unwrap_or(Path::new(""))
    }

    /// From 1.
    pub fn line(&self) -> usize {
        self.source.text[..self.offset].matches('\n').count() + 1
    }

    /// From 1, in characters.
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

    /// The line as it stands in the file; none if it may hold a secret, by what it says itself or
    /// by the key that it belongs to.
    fn excerpt(&self) -> Option<String> {
        let line = self.source.text[self.line_start()..]
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches('\u{feff}');
        let before = self.source.text[..self.line_start()].lines().rev();
        let begins_here = |line: &str| line.contains('=') || line.trim_start().starts_with('[');
        let key = if begins_here(line) {
            None
        } else {
            before
                .take(STATEMENT_LINES_MAX)
                .find(|line| begins_here(line))
        };
        let short = line.chars().count() <= EXCERPT_CHARACTERS_MAX;
        (short && !line.trim().is_empty() && !is_telling(line) && !key.is_some_and(is_telling))
            .then(|| line.to_owned())
    }
}

/// Whether a line or a path speaks of what may be a secret.
fn is_telling(text: &str) -> bool {
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

/// How far back the beginning of what a line belongs to is looked for, in lines.
const STATEMENT_LINES_MAX: usize = 200;
/// A longer line is not quoted: the caret would be out of sight.
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

/// What a complaint comes from, as far as somebody decides on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Something is written that is wrong.
    #[default]
    Wrong,
    /// Something is not there, which may be so because a part of the file could not be read.
    Missing,
    /// The file is not TOML.
    Syntax,
    /// The file cannot be opened or read.
    Unreadable,
}

/// Something that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Which file.
    pub file: PathBuf,
    /// Line, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Column, from 1, in characters; 0 when it is about the file as a whole.
    pub column: usize,
    /// Where, in the file's own words (`channels.storefront.target`); empty when it is about the
    /// file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub help: Option<String>,
    /// The line as it stands in the file; none if it may hold a secret.
    pub excerpt: Option<String>,
    /// What it comes from.
    pub cause: Cause,
}

impl Complaint {
    /// Something is wrong at a place.
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
            excerpt: if is_telling(&path) {
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

    /// Something is wrong with a file as a whole.
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

    /// The same with another cause.
    pub fn because(self, cause: Cause) -> Complaint {
        Complaint { cause, ..self }
    }

    /// As an object for machines.
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

/// One line: `weir.toml:12:7: channels.storefront.target: there is no target "shp"; did you mean
/// "shop"?`
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.what)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// All complaints for a terminal, each with its line and a caret under the place; plain text.
pub fn render(complaints: &[Complaint]) -> String {
    let mut out = String::new();
    for complaint in complaints {
        let _ = writeln!(out, "{complaint}");
        if let Some(line) = &complaint.excerpt {
            let number = complaint.line.to_string();
            // Tabs stay tabs, so that the caret stands under its place whatever their width.
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

/// The word of `known` that somebody who wrote `word` most likely meant.
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

/// `did you mean "shop"?`, or what there is, or that there is nothing.
pub fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean {near:?}?")),
        None if known.is_empty() => None,
        None => Some(format!("there is {}", listed(known, LISTED_MAX))),
    }
}

/// So many names are listed before "and 12 more": a list that scrolls helps nobody.
const LISTED_MAX: usize = 12;

/// `a, b and c`, cut after `most`.
pub fn listed<'k>(names: impl IntoIterator<Item = &'k str>, most: usize) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
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
        });
        Place::new(&source, text.find(at).expect("the text holds it"))
    }

    #[test]
    fn columns_are_counted_in_characters() {
        let place = place("a = 1\nb = \"äöü\" # here", "# here");
        assert_eq!((place.line(), place.column()), (2, 11));
    }

    #[test]
    fn the_caret_stands_under_its_place_behind_tabs_and_umlauts() {
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
    fn what_is_near_is_suggested_and_what_is_far_is_listed() {
        assert_eq!(
            suggestion("shp", ["shop", "search"]).as_deref(),
            Some("did you mean \"shop\"?")
        );
        assert_eq!(
            suggestion("web", ["shop", "search"]).as_deref(),
            Some("there is shop and search")
        );
        assert_eq!(suggestion("web", []), None);
    }
}
