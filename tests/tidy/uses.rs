//! Which modules and crates a file names: in `use` trees of any form, in paths, and inside macros;
//! and which of its log statements print a value as `Debug` does.

use std::collections::BTreeSet;
use std::path::Path;

use syn::visit::{self, Visit};

/// What the production code of a file names, tests left out.
#[derive(Default)]
pub struct Named {
    /// First segment below `crate::`, also where it was reached by `super::`.
    pub rooms: BTreeSet<String>,
    /// First segment of every other path: crates, and names that are no import from a room.
    pub roots: BTreeSet<String>,
    /// Log statements with `?value` or `{value:?}`.
    pub debug_logs: Vec<String>,
}

/// Reads a file of the runtime. `inside` is its path below `src`.
pub fn named(inside: &Path, text: &str) -> Named {
    let file = syn::parse_file(text).expect("the file is Rust");
    let mut module: Vec<String> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module == ["lib"] || module == ["main"] {
        module.clear();
    }
    let mut reader = Reader {
        module,
        imported: BTreeSet::new(),
        named: Named::default(),
    };
    reader.visit_file(&file);
    let imported = |root: &String| !reader.imported.contains(root);
    reader.named.roots.retain(imported);
    reader.named
}

struct Reader {
    /// Where in the crate the code stands: `["dispatch", "run"]`.
    module: Vec<String>,
    /// Names that a `use` brings in from this crate, such as a module that is called like a crate.
    imported: BTreeSet<String>,
    named: Named,
}

impl Reader {
    /// Notes one path, written as its segments.
    fn note(&mut self, segments: &[String]) {
        let mut at = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            Some(root) => {
                self.named.roots.insert(root.to_owned());
                return;
            }
            None => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => at.push(name.to_owned()),
            }
        }
        self.named.rooms.extend(at.into_iter().next());
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let longer = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&longer(&path.ident), &path.tree),
            syn::UseTree::Name(name) => {
                let ours = ["crate", "self", "super"];
                if before
                    .first()
                    .is_some_and(|root| ours.contains(&root.as_str()))
                {
                    let itself = name.ident == "self";
                    let bound = before.last().filter(|_| itself).cloned();
                    self.imported
                        .insert(bound.unwrap_or_else(|| name.ident.to_string()));
                }
                self.note(&longer(&name.ident));
            }
            syn::UseTree::Rename(rename) => self.note(&longer(&rename.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.tree(before, tree));
            }
        }
    }

    /// Code inside a macro is not parsed, so paths are put together from its tokens.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        use proc_macro2::TokenTree;
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match &token {
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) if colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                }
                other => {
                    self.note_if_long(&path);
                    path.clear();
                    colons = 0;
                    match other {
                        TokenTree::Ident(name) => path.push(name.to_string()),
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.note_if_long(&path);
    }

    /// A single word inside a macro is a name of anything.
    fn note_if_long(&mut self, path: &[String]) {
        if path.len() > 1 {
            self.note(path);
        }
    }
}

/// Whether a log statement prints a value as `Debug` does: by the mark `?` before a field, not behind
/// a value, or in its text.
fn prints_debug(tokens: &proc_macro2::TokenStream) -> bool {
    use proc_macro2::TokenTree;
    let mut field_begins = true;
    for token in tokens.clone() {
        match &token {
            TokenTree::Punct(mark) if mark.as_char() == '?' && field_begins => return true,
            TokenTree::Literal(text) if text.to_string().contains("?}") => return true,
            _ => {}
        }
        field_begins = matches!(&token, TokenTree::Punct(mark) if ",=".contains(mark.as_char()));
    }
    false
}

/// Whether the item is compiled into tests only.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => {
            list.path.is_ident("cfg") && list.tokens.to_string().replace(' ', "") == "test"
        }
        syn::Meta::Path(path) => path
            .segments
            .last()
            .is_some_and(|last| last.ident == "test"),
        syn::Meta::NameValue(_) => false,
    })
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // `pub(crate)` and `pub(super)` name no room.
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if segments.len() > 1 {
            self.note(&segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let root = item.path.segments.first();
        if root.is_some_and(|root| root.ident == "tracing") && prints_debug(&item.tokens) {
            self.named.debug_logs.push(item.tokens.to_string());
        }
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
