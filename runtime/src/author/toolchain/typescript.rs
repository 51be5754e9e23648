//! Plugins in TypeScript: `plugin.ts` is checked by the TypeScript compiler, bundled with its
//! packages by esbuild, and put into a component with QuickJS inside by componentize-qjs.
//!
//! Needs Node and npm. npm fetches the three tools, pinned by the digests of their packages. If the
//! folder's `package.json` names packages that are not installed, npm installs them first.

#[cfg(test)]
mod wit;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::tools::{self, Driver};
use super::{Compiled, Error, io_error, output_of, perform};
use crate::files;

/// The tools with their exact versions, and below the lock file with their digests.
const PACKAGE: &str = include_str!("../../../assets/tools/typescript/package.json");
const PACKAGE_LOCK: &str = include_str!("../../../assets/tools/typescript/package-lock.json");
/// The driver that uses them.
const DRIVER: &str = include_str!("../../../assets/tools/typescript/build.mjs");
/// The name of the tools' folder; a test compares it with the versions in `package.json`.
const SET: &str = "typescript-7.0.2-esbuild-0.28.2-componentize-qjs-0.4.5";
/// The oldest version of Node that the tools support.
const NODE_MIN: u32 = 20;

/// Builds a component from the plugin in `folder`.
pub(super) fn compile(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Compiled, Error> {
    let node = node()?;
    let tools = tools::folder(
        SET,
        "TypeScript, esbuild and componentize-qjs with npm (80 MB)",
        say,
        |beside| {
            let write = |name: &str, text: &str| {
                let path = beside.join(name);
                fs::write(&path, text).map_err(|error| io_error("writing", &path, error))
            };
            write("package.json", PACKAGE)?;
            write("package-lock.json", PACKAGE_LOCK)?;
            npm(
                beside,
                &["--omit-lockfile-registry-resolved", "--ignore-scripts"],
            )
        },
    )?;
    install_packages(folder, say)?;
    let tool_chain =
        format!("TypeScript 7.0.2, esbuild 0.28.2 and componentize-qjs 0.4.5 on Node {node}");
    let (source, interpreter) = ((DRIVER, "build.mjs"), Command::new("node"));
    Driver {
        folder,
        tools: &tools,
        source,
        interpreter,
        salt: SET.into(),
        more: json!({}),
        tool_chain,
    }
    .run(say)
}

/// Node's version, if Node is installed and recent enough.
fn node() -> Result<String, Error> {
    let version = output_of(Command::new("node").arg("--version"));
    match version
        .as_deref()
        .and_then(|version| version.strip_prefix('v'))
    {
        Some(version) if major(version) >= NODE_MIN => Ok(version.to_owned()),
        found => Err(Error::NoToolChain(format!(
            "plugins in TypeScript are built with Node {NODE_MIN} or newer, but {}; install Node with npm, for example with \
             `apt-get install nodejs npm` or from your system's packages",
            found.map_or("there is no `node`".to_owned(), |version| format!(
                "`node` is {version}"
            ))
        ))),
    }
}

fn major(version: &str) -> u32 {
    version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or(0)
}

/// Installs the packages in the folder's `package.json` from npm's configured registry.
fn npm(folder: &Path, options: &[&str]) -> Result<(), Error> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
        .args(options)
        .current_dir(folder);
    perform(&mut npm).map_err(|why| {
        Error::NoToolChain(format!(
            "packages cannot be fetched with npm ({why}); is its registry configured and reachable?"
        ))
    })
}

/// Installs the packages that the folder's `package.json` asks for, unless they are there in versions
/// that fit. A file beside them remembers for which `package.json` that was found.
fn install_packages(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let file = folder.join("package.json");
    let text = match files::read(&file, PACKAGE_BYTES_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|error| io_error("reading", &file, error))?,
    };
    let package: Value = serde_json::from_slice(&text)
        .map_err(|error| Error::NotPlugin(format!("package.json is not JSON: {error}")))?;
    let names = package["dependencies"].as_object();
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        return Ok(());
    };
    let modules = folder.join("node_modules");
    let all_there = names.keys().all(|name| modules.join(name).exists());
    let (checked, digest) = (
        modules.join(".weir-checked"),
        hex::encode(Sha256::digest(&text)),
    );
    if all_there && fs::read(&checked).is_ok_and(|known| known == digest.as_bytes()) {
        return Ok(());
    }
    if !all_there || !versions_fit(folder) {
        say("installing the plugin's packages with npm");
        npm(folder, &["--ignore-scripts"])?;
    }
    fs::write(&checked, digest).map_err(|error| io_error("writing", &checked, error))
}

/// Whether the installed packages are in the ranges of `package.json`. npm knows what a range is, and
/// compares without the network; it takes about a second.
fn versions_fit(folder: &Path) -> bool {
    let mut npm = Command::new("npm");
    npm.args(["ls", "--omit=dev", "--loglevel=silent"])
        .current_dir(folder);
    output_of(&mut npm).is_some()
}

/// Maximum length of `package.json`, in bytes.
const PACKAGE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_what_their_folder_is_called() {
        let package: Value = serde_json::from_str(PACKAGE).expect("JSON");
        let version = |name: &str| {
            package["dependencies"][name]
                .as_str()
                .expect(name)
                .to_owned()
        };
        let set = ["typescript", "esbuild", "componentize-qjs"]
            .map(|name| format!("{name}-{}", version(name)));
        assert_eq!(set.join("-"), SET);
        let lock: Value = serde_json::from_str(PACKAGE_LOCK).expect("JSON");
        let packages = lock["packages"].as_object().expect("packages");
        assert_eq!(packages[""]["dependencies"], package["dependencies"]);
        assert!(
            packages
                .values()
                .all(|package| package["resolved"].is_null()),
            "a registry is named"
        );
    }

    // A changed version in package.json was ignored as long as some version was installed.
    #[test]
    fn packages_are_installed_in_the_versions_asked_for() {
        if node().is_err() {
            eprintln!("\n*** NOTHING IS PROVEN OF PACKAGES: there is no Node ***\n");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            fs::write(file, text).expect("a file")
        };
        // Packages in folders need no registry.
        for version in ["1.3.0", "2.0.0"] {
            let package = format!(r#"{{"name": "lamp", "version": "{version}"}}"#);
            write(&format!("lamp-{version}/package.json"), &package);
        }
        let asks = |version: &str| {
            let lamp = format!(r#"{{"dependencies": {{"lamp": "file:lamp-{version}"}}}}"#);
            write("package.json", &lamp);
        };
        let installs = || {
            let mut steps = 0;
            install_packages(folder.path(), &mut |_| steps += 1).expect("installed");
            let package = folder.path().join("node_modules/lamp/package.json");
            (steps, fs::read_to_string(package).unwrap_or_default())
        };
        assert_eq!(installs(), (0, String::new()), "it names no package");
        asks("1.3.0");
        assert!(matches!(installs(), (1, package) if package.contains("1.3.0")));
        assert_eq!(installs().0, 0, "they are there");
        asks("2.0.0");
        assert!(matches!(installs(), (1, package) if package.contains("2.0.0")));
        write("package.json", "{");
        assert!(install_packages(folder.path(), &mut |_| ()).is_err());
    }

    #[test]
    fn old_versions_are_told_from_new_ones() {
        assert_eq!(["20.1.0", "9.1", "x"].map(major), [20, 9, 0]);
    }
}
