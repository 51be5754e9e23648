//! The plugins that come with Weir: `builtin = "jq-mapper"` in the configuration is the path of a
//! component that is installed with the program.
//!
//! A component is a file in any case, so that a package can replace it and a change of it takes over
//! like that of any other. In a repository it is where `weir plugin build` puts it.

use std::path::{Path, PathBuf};

/// Their names.
pub const BUILTINS: [&str; 3] = ["jq-filter", "jq-mapper", "jq-renderer"];

/// The component's file: the one that is installed beside this program, else the one in the
/// repository that this program was built in, whether it is there or not.
pub fn builtin(name: &str) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let installed = installed(&program).map(|folder| component(&folder, name));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new(""));
    installed
        .filter(|path| path.is_file())
        .unwrap_or_else(|| component(repository, name))
}

/// What a package installs beside a program: for `/usr/bin/weir` that is `/usr/share/weir`.
fn installed(program: &Path) -> Option<PathBuf> {
    Some(program.parent()?.parent()?.join("share/weir"))
}

fn component(folder: &Path, name: &str) -> PathBuf {
    let file = format!("{}.wasm", name.replace('-', "_"));
    folder.join("plugins").join(name).join("dist").join(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builtin_is_a_file_of_the_package_or_of_the_repository() {
        let path =
            installed(Path::new("/usr/bin/weir")).map(|folder| component(&folder, "jq-mapper"));
        let expected = "/usr/share/weir/plugins/jq-mapper/dist/jq_mapper.wasm";
        assert_eq!(path, Some(PathBuf::from(expected)));
        for name in BUILTINS {
            // The tests do not run in an installed program.
            let path = builtin(name);
            let folder = path.parent().and_then(Path::parent).expect("a folder");
            assert!(folder.join("Cargo.toml").is_file(), "{}", path.display());
        }
    }
}
