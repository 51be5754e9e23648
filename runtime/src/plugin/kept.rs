//! The component files that took over last, one for each plugin, kept beside the store.
//!
//! A start falls back to them: a component that is refused, or not there, must not keep everything
//! else from running. A failure to keep one is never an error; it is logged, and a later start has
//! nothing to fall back to.

use std::fs;
use std::io;
use std::path::Path;

use crate::plugin::binary::Binary;
use crate::plugin::seal::{Seal, Unsealed};

const PURPOSE: &str = "component";

/// The folder of the kept components.
pub struct Kept(Option<Seal>);

impl Kept {
    /// Opens the folder, and makes it if it is missing. Logs a warning and keeps nothing if that is
    /// not possible.
    pub fn open(directory: &Path) -> Kept {
        let opened = Seal::open(directory);
        Kept(opened.inspect_err(|error| {
            tracing::warn!(directory = %directory.display(), "components cannot be kept for the next start: {error}");
        }).ok())
    }

    /// The component of a plugin that took over last.
    pub fn get(&self, plugin: &str) -> Option<Binary> {
        let seal = self.0.as_ref()?;
        let (name, sha256) = files(seal).find(|(name, _)| name == plugin)?;
        match seal.read(&file(&name, &sha256), &[PURPOSE, &name]) {
            Ok(bytes) => Some(Binary::new(bytes)),
            Err(Unsealed::Unreadable(error)) => {
                tracing::warn!(plugin, "its kept component cannot be read: {error}");
                None
            }
            Err(Unsealed::Forged) => {
                tracing::warn!(
                    plugin,
                    "its kept component is not what this Weir wrote there; it is not used"
                );
                None
            }
        }
    }

    /// Keeps the component of a plugin instead of its last one. A file of it that was damaged, or that
    /// another has put there, is written again. Blocking.
    pub fn keep(&self, plugin: &str, binary: &Binary) {
        let Some(seal) = &self.0 else { return };
        let kept = file(plugin, binary.sha256());
        let is_intact = seal.read(&kept, &[PURPOSE, plugin]).is_ok();
        if !is_intact && let Err(error) = seal.write(&kept, &[PURPOSE, plugin], binary.bytes()) {
            tracing::warn!(
                plugin,
                "its component cannot be kept for the next start: {error}"
            );
            return;
        }
        self.remove(|name, sha256| name == plugin && sha256 != binary.sha256());
    }

    /// Removes the components of plugins that have left the configuration.
    pub fn retain(&self, mut known: impl FnMut(&str) -> bool) {
        self.remove(|name, _| !known(name));
    }

    fn remove(&self, mut unwanted: impl FnMut(&str, &str) -> bool) {
        let Some(seal) = &self.0 else { return };
        for (name, sha256) in files(seal) {
            if unwanted(&name, &sha256) {
                // What stays is removed the next time.
                let _: io::Result<()> =
                    fs::remove_file(seal.directory().join(file(&name, &sha256)));
            }
        }
    }
}

/// The name of a plugin's file.
fn file(plugin: &str, sha256: &str) -> String {
    format!("{plugin}-{sha256}.wasm")
}

/// Plugin and digest of each file.
fn files(seal: &Seal) -> impl Iterator<Item = (String, String)> {
    let entries = fs::read_dir(seal.directory())
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let (plugin, sha256) = name.strip_suffix(".wasm")?.rsplit_once('-')?;
        Some((plugin.to_owned(), sha256.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_of_each_plugin_is_kept_and_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = Kept::open(&folder.path().join("plugins"));
        let bytes = |plugin: &str| kept.get(plugin).map(|binary| binary.bytes().to_vec());
        kept.keep("erp-product", &Binary::new(b"one".to_vec()));
        kept.keep("erp", &Binary::new(b"two".to_vec()));
        kept.keep("erp-product", &Binary::new(b"three".to_vec()));
        assert_eq!(bytes("erp-product").as_deref(), Some(&b"three"[..]));
        assert_eq!(bytes("erp").as_deref(), Some(&b"two"[..]));
        let seal = kept.0.as_ref().expect("it is open");
        assert_eq!(files(seal).count(), 2);

        let (name, sha256) = files(seal).find(|(name, _)| name == "erp").expect("kept");
        let (_, other) = files(seal).find(|(name, _)| name != "erp").expect("kept");
        let path = |name: &str, sha256: &str| seal.directory().join(file(name, sha256));
        fs::copy(path("erp-product", &other), path(&name, &sha256)).expect("copied");
        assert_eq!(bytes("erp"), None, "another plugin's component");
        // It stayed as it was for good, because a file of that name was there.
        kept.keep("erp", &Binary::new(b"two".to_vec()));
        assert_eq!(bytes("erp").as_deref(), Some(&b"two"[..]), "written again");
        kept.retain(|name| name == "erp-product");
        assert_eq!(files(seal).count(), 1);
    }
}
