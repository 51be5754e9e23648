//! Components of this repository's plugins, built from their source on first use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use weir::inside::author::toolchain;

/// The component of a plugin, by the name of its folder under `plugins`. Any number of tests may ask
/// at once.
pub fn plugin(name: &str) -> PathBuf {
    built(&format!("plugins/{name}"))
}

/// The component of a crate, by its folder in the repository.
pub fn built(folder: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let component = built.entry(folder.to_owned()).or_insert_with(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder);
        let component = toolchain::build(&source, &mut |step| eprintln!("{step}"))
            .unwrap_or_else(|error| panic!("{folder}: {error}"));
        component.component
    });
    component.clone()
}
