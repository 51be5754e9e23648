//! The configuration as written: one or several TOML files, merged into one document in which every
//! value knows its place in a file.
//!
//! Files given with `-c` are merged in order, and keys of later files win. A file and the files
//! that it includes must not set the same key; that is a complaint. This module does not know what
//! any key means; [`crate::plan`] does.

pub mod cursor;
pub mod row;
pub mod scalar;
pub mod text;
pub mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files;
use text::{Cause, Complaint, Place, Source};
use tree::{Entry, Lines, Merge, Table, Value};

/// The only version of the format so far.
pub const VERSION: i64 = 1;

/// Maximum length of a file, in bytes. A thousand channels fit in 1 MiB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Maximum length of all files together, in bytes: a pattern may match any number of files.
const FILES_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// All files as one document.
pub struct Document {
    /// The merged content of the files.
    pub root: Table,
    /// The start of the first file.
    pub place: Place,
    /// Every file that was read or could not be read; a reload watches them.
    pub files: Vec<PathBuf>,
    /// Folders in which a new file would be included; a reload watches them.
    pub folders: Vec<PathBuf>,
    /// Lines that are not TOML, by file. Nothing that was read from them can be trusted.
    pub broken: Vec<(PathBuf, Lines)>,
    /// The mistakes found so far.
    pub complaints: Vec<Complaint>,
    /// Oddities found so far, which do not stop the configuration from being used.
    pub warnings: Vec<Complaint>,
}

/// Reads and merges files. Mistakes do not stop it; they are in the document's complaints.
pub fn load(files: &[PathBuf]) -> Document {
    let nowhere = Arc::new(Source {
        path: files.first().cloned().unwrap_or_default(),
        text: String::new(),
        quotable: true,
    });
    let mut loader = Loader::default();
    let (mut root, mut place) = (Table::default(), None);
    for (index, file) in files.iter().enumerate() {
        let Some((table, start)) = loader.with_includes(file, index == 0) else {
            continue;
        };
        tree::merge(&mut root, table, Merge::Later, "", &mut loader.complaints);
        place.get_or_insert(start);
    }
    let Loader {
        folders,
        files,
        broken,
        complaints,
        warnings,
        ..
    } = loader;
    let place = place.unwrap_or_else(|| Place::new(&nowhere, 0));
    Document {
        root,
        place,
        files,
        folders: folders.into_iter().collect(),
        broken,
        complaints,
        warnings,
    }
}

#[derive(Default)]
struct Loader {
    seen: BTreeSet<PathBuf>,
    /// The length of the files read so far, in bytes.
    bytes: u64,
    folders: BTreeSet<PathBuf>,
    files: Vec<PathBuf>,
    broken: Vec<(PathBuf, Lines)>,
    complaints: Vec<Complaint>,
    warnings: Vec<Complaint>,
}

impl Loader {
    /// Reads a file given with `-c` and the files that it includes.
    fn with_includes(&mut self, file: &Path, first: bool) -> Option<(Table, Place)> {
        let (mut table, place) = self.read_file(file, None)?;
        self.version(&mut table, first.then_some(&place));
        let included = table
            .remove("include")
            .map(|entry| self.included(&entry))
            .unwrap_or_default();
        for (file, entry_place) in included {
            let Some((mut part, _)) = self.read_file(&file, Some(&entry_place)) else {
                continue;
            };
            self.version(&mut part, None);
            if let Some(nested) = part.remove("include") {
                let help = "move this include to a file given with -c".to_owned();
                self.complaints.push(Complaint::at(
                    &nested.place,
                    "include",
                    "an included file cannot include other files",
                    help,
                ));
            }
            tree::merge(&mut table, part, Merge::Beside, "", &mut self.complaints);
        }
        Some((table, place))
    }

    fn read_file(&mut self, file: &Path, included_at: Option<&Place>) -> Option<(Table, Place)> {
        if !self
            .seen
            .insert(files::real(file).unwrap_or_else(|_| file.to_owned()))
        {
            let what = "this file is listed twice";
            let help = Some("name each file once".to_owned());
            let complaint = included_at.map_or_else(
                || Complaint::of_file(file, what, help.clone()),
                |at| Complaint::at(at, "include", what, help.clone()),
            );
            self.complaints.push(complaint);
            return None;
        }
        self.files.push(file.to_owned());
        match self.text_of(file) {
            Ok(text) => Some(self.parsed(file, text, included_at.is_some())),
            Err(why) => {
                let complaint = match included_at {
                    Some(at) => Complaint::at(
                        at,
                        "include",
                        format!("{} cannot be read: {why}", file.display()),
                        None,
                    ),
                    None => {
                        Complaint::of_file(file, format!("this file cannot be read: {why}"), None)
                    }
                };
                self.complaints.push(complaint.because(Cause::Unreadable));
                None
            }
        }
    }

    /// Parses the text of a file. An included file may be a link to any file that Weir can read, such
    /// as a key, so nothing is taken from one that is not TOML, and its lines are not quoted.
    fn parsed(&mut self, file: &Path, text: String, included: bool) -> (Table, Place) {
        let error = tree::syntax_error(&text);
        let source = Arc::new(Source {
            path: file.to_owned(),
            text,
            quotable: error.is_none(),
        });
        let start = Place::new(&source, 0);
        if let (Some((offset, what)), true) = (error, included) {
            let complaint = Complaint::at(&Place::new(&source, offset), "", what, None);
            self.complaints.push(complaint.because(Cause::Syntax));
            return (Table::default(), start);
        }
        let mut broken = Vec::new();
        let table = tree::parse(&source, &mut self.complaints, &mut broken);
        self.broken
            .extend(broken.into_iter().map(|lines| (file.to_owned(), lines)));
        (table, start)
    }

    fn text_of(&mut self, file: &Path) -> Result<String, String> {
        let left = FILES_BYTES_MAX.saturating_sub(self.bytes);
        let text = files::read_text(file, FILE_BYTES_MAX.min(left)).map_err(|error| {
            let all = scalar::size_text(FILES_BYTES_MAX);
            match left < FILE_BYTES_MAX {
                true => format!("{error}: all files of a configuration have at most {all}"),
                false => error.to_string(),
            }
        })?;
        self.bytes += text.len() as u64;
        Ok(text)
    }

    fn version(&mut self, table: &mut Table, required_at: Option<&Place>) {
        let key = "config_version";
        match (table.remove(key), required_at) {
            (Some(entry), _) if !matches!(entry.node.value, Value::Integer(VERSION)) => {
                let what = "this version of the format is not supported";
                let help = format!("write config_version = {VERSION}");
                self.complaints
                    .push(Complaint::at(&entry.node.place, key, what, help));
            }
            (None, Some(place)) => {
                let help = format!("start the file with config_version = {VERSION}");
                self.complaints.push(
                    Complaint::at(place, key, "config_version is missing", help)
                        .because(Cause::Missing),
                );
            }
            _ => {}
        }
    }

    /// The files that `include` names, each with the place of the item that names it: in the order
    /// of the list, and by name where a pattern matches several.
    fn included(&mut self, entry: &Entry) -> Vec<(PathBuf, Place)> {
        let Value::Array(items) = &entry.node.value else {
            let help = "write a list: include = [\"conf.d/*.toml\"]".to_owned();
            self.complaints.push(Complaint::at(
                &entry.node.place,
                "include",
                "a list is expected here",
                help,
            ));
            return Vec::new();
        };
        let mut files = Vec::new();
        for item in items {
            let Value::String(pattern) = &item.value else {
                let help = "write a path, such as \"conf.d/*.toml\"".to_owned();
                self.complaints.push(Complaint::at(
                    &item.place,
                    "include",
                    "a string is expected here",
                    help,
                ));
                continue;
            };
            files.extend(
                self.matching(pattern, &item.place)
                    .into_iter()
                    .map(|file| (file, item.place.clone())),
            );
        }
        files
    }

    fn matching(&mut self, pattern: &str, place: &Place) -> Vec<PathBuf> {
        let path = cursor::relative(place, pattern);
        let (folder, name) = (
            path.parent().unwrap_or(Path::new("")).to_owned(),
            path.file_name().unwrap_or_default().to_string_lossy(),
        );
        if folder.to_string_lossy().contains(['*', '?']) {
            let help = "use * and ? in the name of the file only".to_owned();
            self.complaints.push(Complaint::at(
                place,
                "include",
                "a folder cannot be a pattern",
                help,
            ));
            return Vec::new();
        }
        if !name.contains(['*', '?']) {
            return vec![path];
        }
        let folder_path = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => &folder,
        };
        self.folders.insert(folder_path.to_owned());
        let names = files::names(folder_path).unwrap_or_default();
        let mut names: Vec<String> = names
            .into_iter()
            .filter(|file| !file.starts_with('.') && glob(&name, file))
            .collect();
        names.sort();
        if names.is_empty() {
            self.warnings.push(Complaint::at(
                place,
                "include",
                format!("{} matches no file", path.display()),
                None,
            ));
        }
        names.into_iter().map(|name| folder.join(name)).collect()
    }
}

/// Whether a file name matches a pattern in which `*` matches any characters and `?` a single one.
fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // The position of the last star and how far it has matched. Backtracking to the last star is
    // enough, so this takes at most n × m steps.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern
            .get(p)
            .is_some_and(|character| *character == '?' || *character == name[n])
        {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, reached)) = star {
            star = Some((at, reached + 1));
            (p, n) = (at + 1, reached + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_together_are_bounded_because_a_pattern_matches_any_number() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.toml");
        std::fs::write(&file, "a = 1").expect("written");
        let mut loader = Loader {
            bytes: FILES_BYTES_MAX - 9,
            ..Loader::default()
        };
        assert_eq!(loader.text_of(&file), Ok("a = 1".to_owned()));
        assert_eq!(
            loader.text_of(&file),
            Err("it has 5 bytes, the limit is 4 bytes: all files of a configuration have at most 64MiB".to_owned())
        );
    }

    #[test]
    fn a_star_stands_for_anything_in_a_file_name() {
        for (pattern, name) in [
            ("*.toml", "a.toml"),
            ("*", "a"),
            ("a*b*c", "aXbYbc"),
            ("team-?.toml", "team-1.toml"),
            ("ä*", "äö"),
        ] {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*.toml", "a.toml~"),
            ("team-?.toml", "team-10.toml"),
            ("a*b", "acbd"),
            ("", "a"),
        ] {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }
}
