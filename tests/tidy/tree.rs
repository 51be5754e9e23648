//! The files of the repository as the checks see them: read once, so that a test can plant a wrong file
//! without touching the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use syn::visit::{self, Visit};

/// Kinds of files that the checks read.
const EXTENSIONS: [&str; 9] = ["rs", "md", "toml", "wit", "json", "py", "sh", "ts", "tmpl"];

/// Text of each file, by its path from the root of the repository.
#[derive(Clone, Default)]
pub struct Tree(BTreeMap<PathBuf, String>);

impl Tree {
    /// Reads the repository. Left out is what is made, not written: folders that cargo marks as its own
    /// (`CACHEDIR.TAG`), installed packages, built components, and git's folder. A folder is never left
    /// out because of a name that a room of the product might have.
    pub fn read() -> Tree {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the crate is in a folder of the repository");
        let mut files = BTreeMap::new();
        add(root, root, &mut files);
        assert!(files.len() > 100, "only {} files were found", files.len());
        Tree(files)
    }

    /// The same tree with one more file, or with another text in it.
    pub fn with(&self, path: &str, text: &str) -> Tree {
        let mut planted = self.clone();
        planted.0.insert(path.into(), text.to_owned());
        planted
    }

    /// The same tree with a text behind the one that the file has.
    pub fn with_line(&self, path: &Path, line: &str) -> Tree {
        let mut planted = self.clone();
        let text = planted.0.get_mut(path).expect("the file is there");
        text.push('\n');
        text.push_str(line);
        text.push('\n');
        planted
    }

    /// All files and their texts.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0
            .iter()
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// The files in Rust.
    pub fn sources(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files()
            .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "rs"))
    }

    /// The text of a file.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<&str> {
        self.0.get(path.as_ref()).map(String::as_str)
    }

    /// Files that some crate compiles: the roots of crates, and what their `mod` items lead to.
    pub fn compiled(&self) -> BTreeSet<PathBuf> {
        let roots = self
            .sources()
            .map(|(path, _)| path)
            .filter(|path| is_root(path));
        let mut open: Vec<PathBuf> = roots.map(Path::to_owned).collect();
        let mut found = BTreeSet::new();
        while let Some(path) = open.pop() {
            let Some(text) = self.text(&path).filter(|_| found.insert(path.clone())) else {
                continue;
            };
            let file = syn::parse_file(text).expect("the file is Rust");
            let mut modules = Modules {
                at: vec![own_folder(&path)],
                base: path,
                found: Vec::new(),
            };
            modules.visit_file(&file);
            let there = |candidates: Vec<PathBuf>| {
                candidates
                    .into_iter()
                    .find(|path| self.0.contains_key(path))
            };
            open.extend(modules.found.into_iter().filter_map(there));
        }
        found
    }
}

fn add(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder)
        .expect("the folder can be listed")
        .flatten()
    {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            let made = path.join("CACHEDIR.TAG").exists();
            if !made && name != ".git" && name != "node_modules" && name != "dist" {
                add(root, &path, files);
            }
        } else if let Some(extension) = path.extension()
            && EXTENSIONS.iter().any(|known| extension == *known)
        {
            let text = fs::read_to_string(&path).expect("the file is text");
            let inside = path.strip_prefix(root).expect("the file is below the root");
            files.insert(inside.to_owned(), text);
        }
    }
}

/// Whether cargo compiles the file because of where it is.
fn is_root(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    match stem {
        Some("lib" | "main") => {
            folder.ends_with("src") || folder.parent() == Some(Path::new("tests"))
        }
        // Tests of a plugin or of the benchmarks; those of the runtime are named in its manifest.
        _ => {
            folder.ends_with("tests")
                && folder != Path::new("tests")
                && !folder.starts_with("runtime")
        }
    }
}

/// Where the modules of a file lie: beside a root, in a folder of the file's name otherwise.
fn own_folder(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    match path.file_stem().and_then(|stem| stem.to_str()) {
        _ if is_root(path) => folder,
        Some("mod") | None => folder,
        Some(stem) => folder.join(stem),
    }
}

/// Finds the `mod` items of a file that lie in other files.
struct Modules {
    base: PathBuf,
    at: Vec<PathBuf>,
    found: Vec<Vec<PathBuf>>,
}

impl<'ast> Visit<'ast> for Modules {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let folder = self.at.last().expect("there is always one").clone();
        if item.content.is_some() {
            self.at.push(folder.join(name));
            visit::visit_item_mod(self, item);
            self.at.pop();
            return;
        }
        let named = item
            .attrs
            .iter()
            .find_map(|attribute| match &attribute.meta {
                syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                    syn::Expr::Lit(syn::ExprLit {
                        lit: syn::Lit::Str(text),
                        ..
                    }) => Some(text.value()),
                    _ => None,
                },
                _ => None,
            });
        self.found.push(match named {
            Some(path) => vec![plain(
                &self.base.parent().unwrap_or(Path::new("")).join(path),
            )],
            None => vec![
                folder.join(format!("{name}.rs")),
                folder.join(name).join("mod.rs"),
            ],
        });
    }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}
