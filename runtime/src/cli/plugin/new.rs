//! `weir plugin new`: creates a folder that builds and passes its cases at once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::super::{CommandResult, Failure};
use crate::author::template::{self, is_name};
use crate::plugin::Role;

/// Arguments of `weir plugin new`.
#[derive(Clone, Debug, Args)]
pub struct NewArgs {
    /// The plugin's name, or the path of the folder to create, which ends in it
    #[arg(value_name = "NAME")]
    folder: PathBuf,
    /// The language
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    lang: Language,
    /// The role: mappers and event filters belong to sources, renderers and entity filters to
    /// channels
    #[arg(long, value_enum, default_value_t = Kind::Mapper)]
    kind: Kind,
}

/// The languages, as arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Language {
    /// The fastest to run
    Rust,
    /// Needs Node
    #[value(name = "ts", alias = "typescript")]
    TypeScript,
    /// Needs Python 3
    #[value(alias = "py")]
    Python,
}

/// The roles, as arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Turns an event into changes
    Mapper,
    /// Turns an entity into a payload for a target
    Renderer,
    /// Drops events before they are mapped
    EventFilter,
    /// Decides which entities a channel gets
    EntityFilter,
}

impl From<Language> for template::Language {
    fn from(language: Language) -> template::Language {
        match language {
            Language::Rust => template::Language::Rust,
            Language::TypeScript => template::Language::TypeScript,
            Language::Python => template::Language::Python,
        }
    }
}

impl From<Kind> for Role {
    fn from(kind: Kind) -> Role {
        match kind {
            Kind::Mapper => Role::Mapper,
            Kind::Renderer => Role::Renderer,
            Kind::EventFilter => Role::EventFilter,
            Kind::EntityFilter => Role::EntityFilter,
        }
    }
}

/// Creates the folder, whole or not at all.
pub(super) fn run(args: &NewArgs, out: &mut String) -> CommandResult {
    let name = args
        .folder
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    if !is_name(name) {
        let wrong = format!(
            "`{name}` cannot be the name of a plugin; use lower case letters, digits and hyphens, as in erp-prices"
        );
        return Err(Failure::Usage(wrong));
    }
    let folder = &args.folder;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(Failure::Failed(format!(
            "{} exists and is not empty; nothing was changed",
            folder.display()
        )));
    }
    let (language, role) = (template::Language::from(args.lang), Role::from(args.kind));
    write(folder, &template::files(name, language, role)).map_err(|error| {
        Failure::Unreachable(format!("cannot write {}: {error}", folder.display()))
    })?;
    let (role, language, shown) = (role.name(), language.name(), folder.display());
    let watch = format!("weir plugin watch --into {name}");
    let width = watch.len();
    out.push_str(&format!(
        "{shown}: a plugin in {language}, kind {role}\n\n  cd {shown}\n  {:width$}  builds it and runs its cases\n  {watch}  does so on \
         every save and updates a running Weir\n",
        "weir plugin test"
    ));
    Ok(true)
}

/// Writes into a temporary folder next to it first, so that the folder is complete as soon as it
/// exists.
fn write(folder: &Path, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let temporary = tempfile::Builder::new()
        .prefix(".weir-new-")
        .tempdir_in(parent)?;
    let whole = temporary.path().join("plugin");
    for (path, content) in files {
        let path = whole.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, content)?;
    }
    fs::rename(whole, folder)
}
