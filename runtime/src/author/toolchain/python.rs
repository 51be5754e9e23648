//! Plugins in Python: `plugin.py` is put into a component with CPython inside by componentize-py.
//!
//! Needs Python 3 with pip, or with venv, which includes pip. The packages in the folder's
//! `requirements.txt` are fetched too; only packages in pure Python work.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::tools::{self, Driver};
use super::{Compiled, Error, io_error, output_of, perform};
use crate::files;

/// The tool with its version; with a hyphen, also the name of its folder.
const TOOL: &str = "componentize-py==0.25.1";
/// The driver that uses it.
const DRIVER: &str = include_str!("../../../assets/tools/python/build.py");
/// The oldest minor version of Python 3 that the tool and the driver support.
const MINOR_MIN: u32 = 10;

/// Builds a component from the plugin in `folder`.
pub(super) fn compile(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Compiled, Error> {
    let python = python()?;
    let tools = tools::folder(
        &TOOL.replace("==", "-"),
        &format!("{} with pip (50 MB)", shown(TOOL)),
        say,
        |beside| pip(folder, beside, &["--only-binary=:all:", TOOL]),
    )?;
    let packages = Packages::fetch(folder, &python, say)?;
    let tool_chain = format!("{} on {python}", shown(TOOL));
    // Isolated, because packages on this machine's Python path do not belong to the plugin.
    let mut interpreter = Command::new("python3");
    interpreter.arg("-I");
    let more = json!({ "packages": packages.path() });
    Driver {
        folder,
        tools: &tools,
        source: (DRIVER, "build.py"),
        interpreter,
        salt: TOOL.into(),
        more,
        tool_chain,
    }
    .run(say)
}

fn shown(requirement: &str) -> String {
    requirement.replace("==", " ")
}

/// Python's version, if Python is installed and recent enough, such as `Python 3.13.1`.
fn python() -> Result<String, Error> {
    let version = output_of(Command::new("python3").arg("--version"));
    match version {
        Some(version) if minor(&version) >= MINOR_MIN => Ok(version),
        found => Err(Error::NoToolChain(format!(
            "plugins in Python are built with Python 3.{MINOR_MIN} or newer, but {}; install it, for example with \
             `apt-get install python3 python3-venv` or from your system's packages",
            found.map_or("there is no `python3`".to_owned(), |version| format!(
                "`python3` is {version}"
            ))
        ))),
    }
}

fn minor(version: &str) -> u32 {
    let number = version.strip_prefix("Python 3.").unwrap_or_default();
    number
        .split('.')
        .next()
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0)
}

/// The packages of a plugin, in a folder.
enum Packages {
    /// It names none.
    None,
    /// Fetched once for all plugins with the same requirements.
    Shared(PathBuf),
    /// Fetched for this build, and removed after it.
    Fresh(TempDir),
}

impl Packages {
    /// Fetches the packages in `requirements.txt`. Only packages that an index has, by name and
    /// version, are the same wherever the same line is written. What a path or an address leads to
    /// may be another package in another folder, or tomorrow.
    fn fetch(folder: &Path, python: &str, say: &mut dyn FnMut(&str)) -> Result<Packages, Error> {
        let file = folder.join("requirements.txt");
        let text = match files::read_text(&file, REQUIREMENTS_BYTES_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Packages::None),
            text => text.map_err(|error| io_error("reading", &file, error))?,
        };
        let install = |into: &Path| pip(folder, into, &["-r", "requirements.txt"]);
        if !text.lines().all(is_of_an_index) {
            say(
                "fetching the packages of requirements.txt with pip; it names some by path or address, so for this build only",
            );
            let fresh = tempfile::tempdir()
                .map_err(|error| io_error("writing into", &std::env::temp_dir(), error))?;
            install(fresh.path())?;
            return Ok(Packages::Fresh(fresh));
        }
        // pip chooses packages by the version of Python, too.
        let key = Sha256::digest(format!("{python}\n{text}"));
        let set = format!("python-packages-{}", &hex::encode(key)[..16]);
        let what = "the packages of requirements.txt with pip";
        tools::folder(&set, what, say, install).map(Packages::Shared)
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Packages::None => None,
            Packages::Shared(folder) => Some(folder),
            Packages::Fresh(folder) => Some(folder.path()),
        }
    }
}

/// Maximum length of `requirements.txt`, in bytes.
const REQUIREMENTS_BYTES_MAX: u64 = 1 << 20;

/// Whether a line of `requirements.txt` names a package of an index, with its extras, versions,
/// markers and hashes, or nothing. Options (`-r`, `-e`, `--find-links`), paths and addresses are
/// something else, and so is a line that goes on in the next one.
fn is_of_an_index(line: &str) -> bool {
    let line = line.split(" #").next().unwrap_or_default().trim();
    let (requirement, marker) = match line.split_once(';') {
        Some((requirement, marker)) => (requirement, marker),
        None => (line, ""),
    };
    let name_and_versions = |text: &str| {
        text.chars().all(|character| {
            character.is_ascii_alphanumeric() || "._-[],<>=!~* ".contains(character)
        }) && !text.starts_with(['.', '-'])
            && !text.ends_with(".whl")
    };
    line.starts_with('#') || name_and_versions(requirement) && !marker.contains(['@', '\\'])
}

/// Installs packages into a folder, with this machine's pip or, if Python has none, with the pip of
/// a temporary virtual environment. pip uses its configured index, and paths are relative to the
/// plugin's folder.
fn pip(plugin: &Path, beside: &Path, what: &[&str]) -> Result<(), Error> {
    let no_pip = |why: String| {
        Error::NoToolChain(format!(
            "packages cannot be fetched with pip ({why}); is it installed (`apt-get install python3-venv`), and its index configured and reachable?"
        ))
    };
    let environment = tempfile::tempdir()
        .map_err(|error| io_error("writing into", &std::env::temp_dir(), error))?;
    let mut python = PathBuf::from("python3");
    if output_of(Command::new(&python).args(["-m", "pip", "--version"])).is_none() {
        perform(
            Command::new(&python)
                .args(["-m", "venv"])
                .arg(environment.path()),
        )
        .map_err(no_pip)?;
        python = environment.path().join("bin/python3");
    }
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
        "--target",
    ])
    .arg(beside)
    .current_dir(plugin);
    perform(pip.args(what)).map_err(no_pip)
}

#[cfg(test)]
mod tests {
    use super::*;

    // A plugin whose requirements were `./shared` got the packages of another plugin whose requirements
    // were `./shared` too.
    #[test]
    fn only_packages_of_an_index_are_shared_between_plugins() {
        for line in [
            "",
            "# our packages",
            "requests",
            "requests==2.32.3",
            "requests[socks,use-chardet] >= 2.8.1, == 2.8.* ; python_version < \"3.14\"",
            "zope.interface~=7.0  # pinned",
        ] {
            assert!(is_of_an_index(line), "{line}");
        }
        for line in [
            "./shared",
            "../shared",
            "/opt/shared",
            "shared/price",
            "price.whl",
            ".",
            "-e ../shared",
            "-r more.txt",
            "--find-links=wheels",
            "price @ file:///opt/price",
            "https://example.com/price.tar.gz",
            "git+ssh://git@example.com/price",
            "requests \\",
            "${SHARED}/price",
        ] {
            assert!(!is_of_an_index(line), "{line}");
        }
    }

    #[test]
    fn old_versions_are_told_from_new_ones() {
        assert_eq!(
            ["Python 3.13.1", "Python 3.9.2", "Python 2.7.18", "x"].map(minor),
            [13, 9, 0, 0]
        );
    }
}
