//! Plugins in Python: `plugin.py` is put into a component with CPython inside by componentize-py.
//!
//! Needs Python 3 with pip, or with venv, which includes pip. The packages in the folder's
//! `requirements.txt` are fetched too; only packages in pure Python work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::tools::{self, Driver};
use super::{Compiled, Error, io_error, output_of, perform};

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
        |beside| pip(beside, &["--only-binary=:all:", TOOL]),
    )?;
    let packages = packages(folder, say)?;
    let tool_chain = format!("{} on {python}", shown(TOOL));
    // Isolated, because packages on this machine's Python path do not belong to the plugin.
    let mut interpreter = Command::new("python3");
    interpreter.arg("-I");
    let more = json!({ "packages": packages });
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

/// The folder of the packages in `requirements.txt`, fetched once for all plugins with the same
/// requirements.
fn packages(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Option<PathBuf>, Error> {
    let file = folder.join("requirements.txt");
    let Ok(text) = fs::read(&file) else {
        return Ok(None);
    };
    let set = format!(
        "python-packages-{}",
        &hex::encode(Sha256::digest(&text))[..16]
    );
    let file = file.to_string_lossy();
    tools::folder(
        &set,
        "the packages of requirements.txt with pip",
        say,
        |beside| pip(beside, &["-r", &file]),
    )
    .map(Some)
}

/// Installs packages into a folder, with this machine's pip or, if Python has none, with the pip of
/// a temporary virtual environment. pip uses its configured index.
fn pip(beside: &Path, what: &[&str]) -> Result<(), Error> {
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
    .arg(beside);
    perform(pip.args(what)).map_err(no_pip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_told_from_new_ones() {
        assert_eq!(
            ["Python 3.13.1", "Python 3.9.2", "Python 2.7.18", "x"].map(minor),
            [13, 9, 0, 0]
        );
    }
}
