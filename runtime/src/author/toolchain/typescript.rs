//! Plugins in TypeScript: `plugin.ts` is checked by the TypeScript compiler, bundled with its
//! packages by esbuild, and put into a component with QuickJS inside by componentize-qjs.
//!
//! Needs Node and npm. npm fetches the three tools, pinned by the digests of their packages. If the
//! folder's `package.json` names packages that are not installed, npm installs them first.

#[cfg(test)]
mod wit;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::tools::{self, Driver};
use super::{Compiled, Error, io_error, output_of, perform};

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
    if lacks_packages(folder) {
        say("installing the plugin's packages with npm");
        npm(folder, &["--ignore-scripts"])?;
    }
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

/// Whether the folder's `package.json` names packages that are not installed.
fn lacks_packages(folder: &Path) -> bool {
    let package = fs::read(folder.join("package.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let names = package
        .as_ref()
        .and_then(|package| package["dependencies"].as_object());
    names.is_some_and(|names| {
        names
            .keys()
            .any(|name| !folder.join("node_modules").join(name).exists())
    })
}

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

    #[test]
    fn packages_that_are_named_and_not_there_are_missed() {
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |text: &str| fs::write(folder.path().join("package.json"), text).expect("a file");
        assert!(!lacks_packages(folder.path()));
        write(r#"{"name": "lamp"}"#);
        assert!(!lacks_packages(folder.path()));
        write(r#"{"dependencies": {"@scope/lamp": "1"}}"#);
        assert!(lacks_packages(folder.path()));
        fs::create_dir_all(folder.path().join("node_modules/@scope/lamp")).expect("a folder");
        assert!(!lacks_packages(folder.path()));
    }

    #[test]
    fn old_versions_are_told_from_new_ones() {
        assert_eq!(["20.1.0", "9.1", "x"].map(major), [20, 9, 0]);
    }
}
