//! Guests: the real plugins, built on first use, and hostile or tiny ones assembled from text in
//! milliseconds.

use std::fmt::Write as _;
use std::path::Path;

use weir::inside::author::cases::{Case, embed};
use wit_component::StringEncoding;

/// The hostile guests of the plugin host's own tests; a letter in each item chooses what they do
/// with it.
#[path = "../../runtime/src/plugin/tests/guests.rs"]
pub mod hostile;
pub mod versioned;

pub use super::components::plugin;

/// A file from a plugin's cases, as the source system sends it, such as `night-run/body.xml`.
pub fn case(plugin: &str, file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../plugins")
        .join(plugin)
        .join("cases")
        .join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A component that carries these cases; `module` may be a core module or a component.
pub fn with_cases(module: &[u8], cases: &[Case]) -> Vec<u8> {
    embed(module, cases).expect("the cases fit in").0
}

/// Assembles a core module for a world of the plugin interface from the text of its body.
pub fn module(world: &str, body: &str) -> Vec<u8> {
    let mut text = String::from("(module\n");
    let _ = write!(text, "{body})");
    let mut module = wat::parse_str(&text).expect("the guest's text assembles");
    let mut resolve = wit_parser::Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve
        .push_dir(&wit)
        .expect("the plugin interface is readable");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("the world exists");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the type can be embedded");
    module
}
