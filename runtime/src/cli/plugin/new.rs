//! `weir plugin new`: a folder that builds and passes its cases at once, wherever it lies. All that
//! goes into it is inside this program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use include_dir::{Dir, DirEntry, include_dir};

use super::super::{Failure, Outcome};
use crate::plugin::toolchain::WIT;

/// What new folders are made of; its README tells how.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/assets/templates");
/// Rust's SDK.
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../plugins/weir-plugin");
/// In files that end so, placeholders are filled in.
const FILLED: &str = ".tmpl";

/// Arguments of `weir plugin new`.
#[derive(Clone, Debug, Args)]
pub struct NewArgs {
    /// The plugin's name, or a path that ends in it; the folder is made
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// The language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// What it does: mappers and event filters belong to sources, renderers and entity filters to
    /// channels
    #[arg(long, value_enum, default_value_t = Kind::Mapper)]
    kind: Kind,
}

/// A language that there is a template for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// The quickest to run
    Rust,
    /// Needs Node
    #[value(name = "ts", alias = "typescript")]
    TypeScript,
    /// Needs Python 3
    #[value(alias = "py")]
    Python,
}

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Turns an event into changes
    Mapper,
    /// Turns an entity into what a target gets
    Renderer,
    /// Drops events before they are mapped
    EventFilter,
    /// Decides which entities a channel gets
    EntityFilter,
}

impl Language {
    fn folder(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::TypeScript => "typescript",
            Language::Python => "python",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Language::Rust => "Rust",
            Language::TypeScript => "TypeScript",
            Language::Python => "Python",
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Mapper => "mapper",
            Kind::Renderer => "renderer",
            Kind::EventFilter => "event-filter",
            Kind::EntityFilter => "entity-filter",
        }
    }
}

/// Makes the folder, whole or not at all.
pub(super) fn run(args: &NewArgs, out: &mut String) -> Outcome {
    let name = args
        .folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if !is_name(name) {
        let wrong = format!(
            "`{name}` cannot be the name of a plugin; lower case letters, digits and hyphens can, as in erp-prices"
        );
        return Err(Failure::Usage(wrong));
    }
    let folder = &args.folder;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Failure::No(format!(
            "{} is there already and not empty; nothing was changed",
            folder.display()
        )));
    }
    let files = files(name, args.lang, args.kind)?;
    write(folder, &files).map_err(|error| {
        Failure::Unreachable(format!("cannot write {}: {error}", folder.display()))
    })?;
    let (kind, language, shown) = (args.kind.name(), args.lang.name(), folder.display());
    let watch = format!("weir plugin watch --into {name}");
    let width = watch.len();
    out.push_str(&format!(
        "{shown}: a plugin in {language}, kind {kind}\n\n  cd {shown}\n  {:width$}  builds it and runs its cases\n  {watch}  does so whenever \
         you save, and a running Weir follows\n",
        "weir plugin test"
    ));
    Ok(true)
}

/// It becomes the name of a crate, a module and a file.
fn is_name(name: &str) -> bool {
    let known =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(known)
        && !name.ends_with('-')
        && !name.contains("--")
}

/// What goes into a new folder.
fn files(name: &str, language: Language, kind: Kind) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let filled = |text: &str| {
        let title = name.replace('-', " ");
        let title = title[..1].to_uppercase() + &title[1..];
        let places = [
            ("{{name}}", name),
            ("{{module}}", &name.replace('-', "_")),
            ("{{kind}}", kind.name()),
            ("{{title}}", &title),
        ];
        places.iter().fold(text.to_owned(), |text, (place, value)| {
            text.replace(place, value)
        })
    };
    let mut all = Vec::new();
    for part in ["common", kind.name()] {
        let part = format!("{}/{part}", language.folder());
        let Some(part) = TEMPLATES.get_dir(&part) else {
            let (kind, language) = (kind.name(), language.name());
            return Err(Failure::No(format!(
                "there is no template for a plugin in {language} of kind {kind}; the READMEs of plugins tell how to begin without"
            )));
        };
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
    Ok(all)
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

/// Writes beside the folder first, so that one that is there is whole.
fn write(folder: &Path, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let beside = tempfile::Builder::new()
        .prefix(".weir-new-")
        .tempdir_in(parent)?;
    let whole = beside.path().join("plugin");
    for (path, content) in files {
        let path = whole.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)?;
    }
    fs::rename(whole, folder)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for kind in Kind::value_variants() {
            for language in Language::value_variants() {
                let made = files("erp-prices", *language, *kind);
                assert!(made.is_ok() || *language != Language::Rust, "{kind:?}");
                for (path, content) in made.into_iter().flatten() {
                    let text = String::from_utf8_lossy(&content).into_owned();
                    let open = ["{{name}}", "{{module}}", "{{kind}}", "{{title}}"]
                        .iter()
                        .any(|place| text.contains(place));
                    assert!(
                        !open && path.extension().is_none_or(|ending| ending != "tmpl"),
                        "{}",
                        path.display()
                    );
                }
            }
        }
    }
}
