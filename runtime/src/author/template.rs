//! The files of a new plugin: a folder that builds and passes its cases at once, in any place.
//!
//! All files are embedded in this program.

use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use crate::author::toolchain::WIT;
use crate::plugin::Role;

/// The templates; their README explains them.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/templates");
/// The SDK for Rust.
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../plugins/weir-plugin");
/// Placeholders are replaced in files with this extension.
const FILLED: &str = ".tmpl";

/// A language with a template for each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust.
    Rust,
    /// TypeScript.
    TypeScript,
    /// Python.
    Python,
}

impl Language {
    /// All languages.
    #[cfg(test)]
    pub const ALL: [Language; 3] = [Language::Rust, Language::TypeScript, Language::Python];

    /// Its folder among the templates.
    fn folder(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::TypeScript => "typescript",
            Language::Python => "python",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::TypeScript => "TypeScript",
            Language::Python => "Python",
        }
    }
}

/// Whether this is a valid name for a plugin; it becomes the name of a crate, a module and a file.
pub fn is_name(name: &str) -> bool {
    let known =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(known)
        && !name.ends_with('-')
        && !name.contains("--")
}

/// The files of a new plugin, by their paths in its folder. `name` is one that [`is_name`] accepts.
pub fn files(name: &str, language: Language, role: Role) -> Vec<(PathBuf, Vec<u8>)> {
    let filled = |text: &str| {
        let title = name.replace('-', " ");
        let title = title[..1].to_uppercase() + &title[1..];
        let places = [
            ("{{name}}", name),
            ("{{module}}", &name.replace('-', "_")),
            ("{{kind}}", role.name()),
            ("{{title}}", &title),
        ];
        places.iter().fold(text.to_owned(), |text, (place, value)| {
            text.replace(place, value)
        })
    };
    let mut all = Vec::new();
    for part in ["common", role.name()] {
        let part = template(language, part);
        for (path, content) in within(part) {
            match (
                path.to_str().and_then(|path| path.strip_suffix(FILLED)),
                std::str::from_utf8(content),
            ) {
                (Some(path), Ok(text)) => {
                    all.push((PathBuf::from(filled(path)), filled(text).into_bytes()))
                }
                _ => all.push((path, content.to_vec())),
            }
        }
    }
    match language {
        Language::Rust => all.extend(
            within(&SDK)
                .into_iter()
                .map(|(path, content)| (Path::new("weir-plugin").join(path), content.to_vec())),
        ),
        Language::TypeScript | Language::Python => all.push(("wit/plugin.wit".into(), WIT.into())),
    }
    all
}

fn template(language: Language, part: &str) -> &'static Dir<'static> {
    TEMPLATES
        .get_dir(format!("{}/{part}", language.folder()))
        .expect("each language has a template for each role, inside this program")
}

/// All files of a folder, by their paths in it.
fn within<'a>(folder: &'a Dir<'_>) -> Vec<(PathBuf, &'a [u8])> {
    fn collect<'a>(folder: &'a Dir<'_>, root: &Path, found: &mut Vec<(PathBuf, &'a [u8])>) {
        for entry in folder.entries() {
            match entry {
                DirEntry::Dir(inner) => collect(inner, root, found),
                DirEntry::File(file) => found.push((
                    file.path()
                        .strip_prefix(root)
                        .unwrap_or(file.path())
                        .to_owned(),
                    file.contents(),
                )),
            }
        }
    }
    let mut found = Vec::new();
    collect(folder, folder.path(), &mut found);
    found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_those_that_crates_modules_and_files_can_have() {
        for name in ["a", "erp-prices", "x2"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            "2x",
            "Erp",
            "erp_prices",
            "erp-",
            "a--b",
            "ä",
            "a.b",
            "a b",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }

    #[test]
    fn what_is_vendored_is_what_the_repository_has() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/weir-plugin");
        let mut seen = 0;
        for (path, content) in within(&SDK) {
            assert_eq!(
                fs::read(sdk.join(&path)).expect("a file").as_slice(),
                content,
                "{}",
                path.display()
            );
            seen += 1;
        }
        assert!(seen > 3, "{seen} files");
    }

    /// All twelve templates exist, each with source, a case and its expected output, and all
    /// placeholders are replaced.
    #[test]
    fn each_language_has_a_whole_template_for_each_role() {
        for (language, source) in
            Language::ALL
                .into_iter()
                .zip(["src/lib.rs", "plugin.ts", "plugin.py"])
        {
            for role in Role::ALL {
                let files = files("erp-prices", language, role);
                let has = |part: &str| {
                    files
                        .iter()
                        .any(|(path, _)| path.to_str().is_some_and(|path| path.contains(part)))
                };
                for part in [source, "cases/", "/expected.json"] {
                    assert!(has(part), "{language:?} {role:?} has no {part}");
                }
                for (path, content) in &files {
                    let text = String::from_utf8_lossy(content);
                    let open = ["{{name}}", "{{module}}", "{{kind}}", "{{title}}"]
                        .iter()
                        .any(|place| text.contains(place));
                    assert!(
                        !open && path.extension().is_none_or(|ending| ending != "tmpl"),
                        "{language:?} {role:?}: {}",
                        path.display()
                    );
                }
            }
        }
    }
}
