//! Settings that a plugin rejects: finds the place of the setting in the files.
//!
//! A plugin receives its settings merged from several tables and knows nothing of files. Its sentence
//! names the setting, though (`lists.de.minimum should be …`), and a plan knows where each setting
//! was written.

use serde_json::{Map, Value};

use super::secrets::SECRET;
use super::{Complaint, Plan, Use};
use crate::config::cursor::Written;
use crate::config::tree::join;

impl Plan {
    /// A complaint that a plugin does not accept the settings of one of its uses. `why` is the
    /// plugin's sentence. The place is that of the setting that it names, or that of the use.
    pub fn complaint_of_settings(&self, used: &Use, why: &str) -> Complaint {
        let sentence = why.rsplit_once("settings: ").map_or(why, |(_, rest)| rest);
        let named = named(&used.settings, sentence);
        let at = named.and_then(|path| self.place_of_setting(used, &path));
        let what = self.outside.hidden_in(why);
        let Some(at) = at else {
            return self.complaint(&used.place, what, None);
        };
        let inside = line_and_column(sentence).zip(self.texts.get(&at));
        Complaint {
            path: used.place.clone(),
            ..match inside {
                Some(((line, column), Written::Here(place))) => {
                    Complaint::at(&place.inside(line, column), "", what, None)
                }
                Some(((line, column), Written::File(file))) => Complaint {
                    line,
                    column,
                    ..Complaint::of_file(file, what, None)
                },
                None => self.complaint(&at, what, None),
            }
        }
    }

    /// The path at which a setting of this use was written. Tables are merged key by key, so it is in
    /// the table that has most of its path, and among those in the one that wins.
    fn place_of_setting(&self, used: &Use, setting: &str) -> Option<String> {
        let user = used.place.rsplit_once(".plugins[").map(|(user, _)| user);
        let rows = used.settings.iter().filter_map(|(table, row)| {
            let row = join(&join("each", table), row.as_str()?);
            Some(row)
        });
        let tables = [format!("{}.settings", used.place)]
            .into_iter()
            .chain(user.map(|user| format!("{user}.settings")))
            .chain(rows)
            .chain([format!("{}.settings", join("plugins", &used.plugin))]);
        let deepest = |table: String| {
            let mut path = format!("{table}.{setting}");
            while path.len() > table.len() {
                if self.places.contains_key(&path) {
                    return Some((path.len() - table.len(), path));
                }
                path.truncate(path.rfind(['.', '['])?);
            }
            None
        };
        let mut found: Option<(usize, String)> = None;
        for (depth, path) in tables.filter_map(deepest) {
            if found.as_ref().is_none_or(|(most, _)| depth > *most) {
                found = Some((depth, path));
            }
        }
        found.map(|(_, path)| path)
    }
}

impl super::Outside {
    /// The sentence with every hidden text in it replaced.
    fn hidden_in(&self, sentence: &str) -> String {
        self.0.iter().fold(sentence.to_owned(), |sentence, text| {
            let quoted = Value::from(text.as_str()).to_string();
            let sentence = sentence.replace(&quoted, SECRET);
            match text.len() >= super::secrets::HIDDEN_BYTES_MIN {
                true => sentence.replace(text, SECRET),
                false => sentence,
            }
        })
    }
}

/// The place in a text that a sentence names, as in `program, line 3, column 5: there is no …`.
fn line_and_column(sentence: &str) -> Option<(usize, usize)> {
    let (line, rest) = sentence.split_once("line ")?.1.split_once(", column ")?;
    let column = rest.split(|other: char| !other.is_ascii_digit()).next()?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// The path of the setting that a sentence names first, in the spelling of the files.
fn named(settings: &Map<String, Value>, sentence: &str) -> Option<String> {
    let mut paths = Vec::new();
    for (name, value) in settings {
        all_paths(name.clone(), join("", name), value, &mut paths);
    }
    let found = paths
        .into_iter()
        .filter_map(|(shown, path)| Some((whole_word(sentence, &shown)?, shown.len(), path)));
    found
        .min_by_key(|(at, length, _)| (*at, std::cmp::Reverse(*length)))
        .map(|(_, _, path)| path)
}

/// Adds the path of a value and of everything in it, as a plugin writes it and as the files do.
fn all_paths(shown: String, path: String, value: &Value, paths: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            all_paths(format!("{shown}.{name}"), join(&path, name), value, paths);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| {
            all_paths(
                format!("{shown}[{at}]"),
                format!("{path}[{at}]"),
                value,
                paths,
            );
        }),
        _ => {}
    }
    paths.push((shown, path));
}

/// Where a sentence has these words and not only a part of a longer one.
fn whole_word(sentence: &str, word: &str) -> Option<usize> {
    let goes_on = |character: char| character.is_alphanumeric() || "_-".contains(character);
    let ends = |at: usize| {
        let before = sentence[..at].chars().next_back();
        let behind = sentence[at + word.len()..].chars().next();
        !before.is_some_and(|character| goes_on(character) || character == '.')
            && !behind.is_some_and(goes_on)
    };
    sentence
        .match_indices(word)
        .map(|(at, _)| at)
        .find(|at| ends(*at))
}
