//! The real servers and readers that tests of targets run against, as `tests/parts/install` installs them.
//!
//! A test that needs one asks for it first and ends if it is not there, after it has said so. On a machine
//! whose tests must all run (the variable `CI`), it fails instead.

use std::path::{Path, PathBuf};

/// Folders in which Debian puts what is not in everybody's `PATH`.
const DEBIAN: [&str; 2] = ["/usr/lib/postgresql/15/bin", "/usr/sbin"];

/// The program of this name: in the folder that `WEIR_PARTS` names, in the `PATH`, or where Debian has it.
/// `None` if it is not installed, after a line that says what was not tested.
///
/// # Panics
/// If it is not installed, and `CI` is set.
pub fn part(program: &str, proves: &str) -> Option<PathBuf> {
    let parts = std::env::var_os("WEIR_PARTS").map(PathBuf::from);
    let installed = parts.iter().flat_map(|parts| {
        [
            parts.join("bin"),
            parts.join("python/bin"),
            parts.join("node/node_modules/.bin"),
        ]
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = installed
        .chain(std::env::split_paths(&path))
        .chain(DEBIAN.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| is_program(file));
    if found.is_none() {
        let missing = format!(
            "{program} is not installed (tests/parts/install FOLDER, then WEIR_PARTS=FOLDER)"
        );
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("NOT RUN: {missing}; not tested: {proves}");
    }
    found
}

/// The text of a file of a package from npm, `axe-core/axe.min.js`; otherwise as [`part`].
#[allow(dead_code)]
pub fn script(file: &str, proves: &str) -> Option<String> {
    text(&format!("node/node_modules/{file}"), proves)
}

/// The text of a file in the folder of the parts, `jq/jq.test`; otherwise as [`part`].
#[allow(dead_code)]
pub fn text(file: &str, proves: &str) -> Option<String> {
    let parts = std::env::var_os("WEIR_PARTS").map(PathBuf::from);
    let text = parts.and_then(|parts| std::fs::read_to_string(parts.join(file)).ok());
    if text.is_none() {
        let missing =
            format!("{file} is not installed (tests/parts/install FOLDER, then WEIR_PARTS=FOLDER)");
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("NOT RUN: {missing}; not tested: {proves}");
    }
    text
}

/// A Python that has this module; otherwise as [`part`].
#[allow(dead_code)]
pub fn python_with(module: &str, proves: &str) -> Option<PathBuf> {
    let parts = std::env::var_os("WEIR_PARTS").map(PathBuf::from);
    let python = parts.map(|parts| parts.join("python/bin/python"));
    let found = python.filter(|python| {
        let import = std::process::Command::new(python)
            .args(["-c", &format!("import {module}")])
            .output();
        import.is_ok_and(|import| import.status.success())
    });
    if found.is_none() {
        let missing = format!(
            "{module} is not installed (tests/parts/install FOLDER, then WEIR_PARTS=FOLDER)"
        );
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("NOT RUN: {missing}; not tested: {proves}");
    }
    found
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_in_the_path_is_found() {
        let found = super::part("sh", "nothing").expect("there is always a shell");
        assert!(found.ends_with("sh"));
    }
}
