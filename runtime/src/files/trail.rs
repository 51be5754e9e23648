//! On which entries of folders it depends what a path leads to.
//!
//! A mounted ConfigMap is a link to a link, and an update exchanges the link in the middle. A release
//! is a link to a folder. Whoever watches a file for changes has to watch those links as well.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Maximum number of links on the way; the system follows 40 too.
const LINKS_MAX: usize = 40;

/// The entries that decide what `path` leads to: each link on the way, and the file at its end or,
/// if a part of the way is missing, that part. Paths are absolute, and their folders have no links in
/// them, so they are the paths that the system reports changes with.
pub(crate) fn trail(path: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut entries = BTreeSet::new();
    let (mut here, mut links) = (PathBuf::new(), 0);
    let mut rest = parts(&std::path::absolute(path)?);
    while let Some(part) = rest.pop() {
        match part.components().next() {
            Some(Component::ParentDir) => drop(here.pop()),
            Some(Component::Normal(name)) => {
                let entry = here.join(name);
                if let Ok(target) = std::fs::read_link(&entry) {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(io::Error::other("too many links"));
                    }
                    entries.insert(entry);
                    rest.extend(parts(&target));
                } else {
                    if rest.is_empty() || !entry.exists() {
                        entries.insert(entry);
                        return Ok(entries);
                    }
                    here = entry;
                }
            }
            _ => here = part,
        }
    }
    Ok(entries)
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let parts = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| PathBuf::from(part.as_os_str()));
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Folder(tempfile::TempDir, PathBuf);

    impl Folder {
        fn new() -> Folder {
            let folder = tempfile::tempdir().unwrap();
            let real = folder.path().canonicalize().unwrap();
            for name in ["..1", "releases/2", "etc"] {
                fs::create_dir_all(real.join(name)).unwrap();
            }
            Folder(folder, real)
        }

        fn link(&self, target: &str, name: &str) {
            symlink(target, self.1.join(name)).unwrap();
        }

        fn trail(&self, path: &str) -> Vec<String> {
            let inside = |entry: PathBuf| {
                let inside = entry.strip_prefix(&self.1).expect("inside").to_owned();
                inside.display().to_string()
            };
            let path = self.0.path().join(path);
            trail(&path).unwrap().into_iter().map(inside).collect()
        }
    }

    #[test]
    fn each_link_on_the_way_decides_and_so_does_the_file_at_its_end() {
        let folder = Folder::new();
        fs::write(folder.1.join("..1/weir.toml"), "").unwrap();
        folder.link("..1", "..data");
        folder.link("..data/weir.toml", "weir.toml");
        folder.link("../weir.toml", "etc/weir.toml");
        assert_eq!(folder.trail("..1/weir.toml"), ["..1/weir.toml"]);
        assert_eq!(
            folder.trail("./etc/weir.toml"),
            ["..1/weir.toml", "..data", "etc/weir.toml", "weir.toml"]
        );
    }

    #[test]
    fn what_is_missing_decides_when_it_comes() {
        let folder = Folder::new();
        folder.link("releases/2", "current");
        folder.link("releases/3", "next");
        assert_eq!(
            folder.trail("current/p.wasm"),
            ["current", "releases/2/p.wasm"]
        );
        assert_eq!(folder.trail("next/p.wasm"), ["next", "releases/3"]);
        assert_eq!(folder.trail("no/such/file"), ["no"]);
    }

    #[test]
    fn a_circle_of_links_ends() {
        let folder = Folder::new();
        folder.link("b", "a");
        folder.link("a", "b");
        let error = trail(&folder.1.join("a")).unwrap_err();
        assert_eq!(error.to_string(), "too many links");
    }
}
