//! Fetches the tools of other languages once, in pinned versions, with the language's own package
//! manager from its configured registries, into a folder that all plugins share.
//!
//! The folder is `$WEIR_TOOLS`, else `weir/tools` in `$XDG_CACHE_HOME` or `~/.cache`. Each set of
//! tools appears there complete or not at all, and each version has its own folder.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::source::{stamp, stamped};
use super::{Compiled, Error, WIT, component_of, io_error, lock};

/// The file that marks a set of tools as complete.
const WHOLE: &str = ".whole";

/// The folder of a set of tools, fetched if missing. `say` announces `what` first; `fetch` fills a
/// temporary folder, which is then moved to its place.
pub(super) fn folder(
    set: &str,
    what: &str,
    say: &mut dyn FnMut(&str),
    fetch: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let root = root()?;
    let folder = root.join(set);
    if folder.join(WHOLE).is_file() {
        return Ok(folder);
    }
    let _lock = lock(&root.join(format!("{set}.lock")))?;
    if folder.join(WHOLE).is_file() {
        return Ok(folder);
    }
    say(&format!("fetching {what}, once, into {}", folder.display()));
    let beside = tempfile::Builder::new()
        .prefix(&format!(".{set}-"))
        .tempdir_in(&root);
    let beside = beside.map_err(|error| io_error("writing into", &root, error))?;
    fetch(beside.path())?;
    let place = || {
        fs::write(beside.path().join(WHOLE), "")?;
        // An incomplete folder here was left by a process that died; we hold the lock.
        fs::remove_dir_all(&folder).or_else(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        fs::rename(beside.path(), &folder)
    };
    place().map_err(|error| io_error("writing", &folder, error))?;
    Ok(folder)
}

/// The folder of all sets of tools.
pub(super) fn root() -> Result<PathBuf, Error> {
    let given = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = || {
        given("XDG_CACHE_HOME")
            .or_else(|| Some(given("HOME")?.join(".cache")))
            .map(|cache| cache.join("weir/tools"))
    };
    let root = given("WEIR_TOOLS").or_else(cache).ok_or_else(|| {
        Error::NoToolChain(
            "there is no folder for tools: set WEIR_TOOLS to one, or HOME, whose .cache is used"
                .into(),
        )
    })?;
    let root = std::path::absolute(&root).map_err(|error| io_error("finding", &root, error))?;
    fs::create_dir_all(&root).map_err(|error| io_error("creating", &root, error))?;
    Ok(root)
}

/// One build by a driver: a program in the plugin's language that gets its parameters as one JSON
/// object.
pub(super) struct Driver<'a> {
    /// The plugin's folder.
    pub(super) folder: &'a Path,
    /// The folder of the set of tools.
    pub(super) tools: &'a Path,
    /// The driver's source and its file name.
    pub(super) source: (&'a str, &'a str),
    /// The command that runs the driver; its path and the JSON object are added as arguments.
    pub(super) interpreter: Command,
    /// Versions and other inputs that distinguish one build from another.
    pub(super) salt: String,
    /// Additional parameters for the driver.
    pub(super) more: Value,
    /// The tool chain's own name and version.
    pub(super) tool_chain: String,
}

/// A driver's response.
#[derive(Deserialize)]
struct Answer {
    digest: Option<String>,
    #[serde(default)]
    known: bool,
    wrong: Option<String>,
}

impl Driver<'_> {
    /// Builds the plugin, unless nothing has changed since the component in `dist` was built.
    pub(super) fn run(mut self, say: &mut dyn FnMut(&str)) -> Result<Compiled, Error> {
        let package = name(self.folder);
        let component = component_of(self.folder, &package.replace('-', "_"));
        let lock = lock(&component.with_extension("lock"))?;
        let work = tempfile::tempdir()
            .map_err(|error| io_error("writing into", &env::temp_dir(), error))?;
        let written = |name: &str, text: &str| {
            let path = work.path().join(name);
            fs::write(&path, text)
                .map_err(|error| io_error("writing", &path, error))
                .map(|()| path)
        };
        let driver = written(self.source.1, self.source.0)?;
        let wit = match self.folder.join("wit/plugin.wit") {
            vendored if vendored.is_file() => vendored,
            _ => written("plugin.wit", WIT)?,
        };
        let there = fs::read(&component).ok();
        let out = work.path().join("component.wasm");
        let interface =
            fs::read_to_string(&wit).map_err(|error| io_error("reading", &wit, error))?;
        self.more["folder"] = shown(self.folder);
        self.more["tools"] = shown(self.tools);
        self.more["work"] = shown(work.path());
        self.more["wit"] = shown(&wit);
        self.more["out"] = shown(&out);
        self.more["salt"] = Value::from(format!("{} {} {interface}", self.salt, self.source.0));
        self.more["known"] = there.as_deref().and_then(stamp).into();
        say(&format!("compiling {package} with {}", self.tool_chain));
        let program = self
            .interpreter
            .get_program()
            .to_string_lossy()
            .into_owned();
        let child = self
            .interpreter
            .arg(driver)
            .arg(self.more.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output();
        let child = child.map_err(|source| Error::Io {
            what: format!("running {program}"),
            source,
        })?;
        let said = String::from_utf8_lossy(&child.stdout);
        let answer = said
            .lines()
            .last()
            .and_then(|line| serde_json::from_str::<Answer>(line).ok());
        let component = match (answer, there) {
            (Some(Answer { known: true, .. }), Some(there)) => there,
            (
                Some(Answer {
                    digest: Some(digest),
                    ..
                }),
                _,
            ) => stamped(
                fs::read(&out).map_err(|error| io_error("reading", &out, error))?,
                &digest,
            ),
            (
                Some(Answer {
                    wrong: Some(wrong), ..
                }),
                _,
            ) => return Err(Error::NotPlugin(wrong)),
            _ => return Err(Error::Refused { package }),
        };
        Ok(Compiled {
            component,
            name: package.replace('-', "_"),
            tool_chain: self.tool_chain,
            lock,
        })
    }
}

fn shown(path: &Path) -> Value {
    Value::from(path.to_string_lossy().into_owned())
}

/// The plugin's name: the folder's name, reduced to letters, digits and hyphens.
fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let name: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .collect();
    if name.trim_matches('-').is_empty() {
        "plugin".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_named_after_its_folder() {
        for (folder, expected) in [
            ("/p/oms-stock-ts", "oms-stock-ts"),
            ("/p/My Prices", "My-Prices"),
            ("/", "plugin"),
            ("/p/…", "plugin"),
        ] {
            assert_eq!(name(Path::new(folder)), expected, "{folder}");
        }
    }
}
