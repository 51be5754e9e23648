//! A cache of compiled code on disk, so that a restart does not compile again.
//!
//! Compiled code is executed unchecked, so each file is authenticated ([`seal`]) and bound to the digest
//! of its Wasm and to the engine that compiled it: its version, its settings and the processor. Code
//! that was cut, changed, compiled by another engine, or put there by somebody else is compiled again.
//! A failure of the cache is never an error; it costs a compilation.
//!
//! [`seal`]: crate::plugin::seal

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wasmtime::Engine;
use wasmtime::component::Component as Code;

use crate::plugin::compile;
use crate::plugin::seal::{Seal, Unsealed};

/// The most files kept; the least recently used are removed first. A file has about 0.5 MB for
/// Rust, and up to 50 MB for other languages.
const FILES_MAX: usize = 200;

const PURPOSE: &str = "compiled code";

/// An open cache directory.
pub(super) struct Cache {
    seal: Seal,
    /// Identifies the engine: its version, its settings and the processor.
    engine: String,
}

impl Cache {
    /// Opens the directory; creates it if missing.
    pub(super) fn open(directory: &Path, engine: &Engine) -> io::Result<Cache> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache {
            seal: Seal::open(directory)?,
            engine: format!("{:016x}", hasher.finish()),
        })
    }

    /// The code for this Wasm, if it is cached and authentic.
    pub(super) fn get(&self, engine: &Engine, sha256: &str) -> Option<Code> {
        let path = self.path(sha256);
        let read = self
            .seal
            .read(&self.file(sha256), &[PURPOSE, sha256, &self.engine]);
        let code = match read {
            Ok(code) => code,
            Err(Unsealed::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                return None;
            }
            Err(why) => {
                tracing::warn!(path = %path.display(), "cached plugin code is not used and compiled again: {why}");
                return None;
            }
        };
        // SAFETY: these are the bytes that `put` wrote for this Wasm and this engine: their
        // authentication shows it.
        match unsafe { compile::revive(engine, &code) } {
            Ok(code) => {
                // The modification time records the last use, for `prune`.
                let _ = File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|file| file.set_modified(SystemTime::now()));
                Some(code)
            }
            Err(error) => {
                tracing::info!(path = %path.display(), "cached plugin code was compiled by another engine; compiling it again: {error:#}");
                None
            }
        }
    }

    /// Caches code in the engine's serialized form.
    pub(super) fn put(&self, sha256: &str, code: &[u8]) {
        let purpose = [PURPOSE, sha256, &self.engine];
        if let Err(error) = self.seal.write(&self.file(sha256), &purpose, code) {
            let directory = self.seal.directory().display();
            tracing::warn!(%directory, "compiled plugin code cannot be cached: {error}");
        }
        self.prune();
    }

    fn file(&self, sha256: &str) -> String {
        format!("{sha256}-{}.cwasm", self.engine)
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.seal.directory().join(self.file(sha256))
    }

    /// Removes files beyond the bound, least recently used first.
    fn prune(&self) {
        let Ok(entries) = fs::read_dir(self.seal.directory()) else {
            return;
        };
        let mut kept = Vec::new();
        for entry in entries.flatten() {
            let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
                continue;
            };
            if entry.file_name().to_string_lossy().ends_with(".cwasm") {
                kept.push((modified, entry.path()));
            }
        }
        kept.sort();
        for (_, path) in kept.iter().take(kept.len().saturating_sub(FILES_MAX)) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn code_that_was_cut_or_changed_on_disk_is_never_run() {
        let engine = Engine::default();
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("code"), &engine).unwrap();
        let code = Code::new(&engine, wat::parse_str("(component)").unwrap())
            .unwrap()
            .serialize()
            .unwrap();
        cache.put("a", &code);
        assert!(cache.get(&engine, "a").is_some());
        assert!(cache.get(&engine, "b").is_none());

        let content = fs::read(cache.path("a")).unwrap();
        let mut changed = content.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(cache.path("a"), changed).unwrap();
        assert!(cache.get(&engine, "a").is_none(), "changed");
        fs::write(cache.path("a"), &content[..content.len() / 2]).unwrap();
        assert!(cache.get(&engine, "a").is_none(), "cut");
        cache.put("a", &code);
        assert!(cache.get(&engine, "a").is_some(), "compiled again");
        // The code of one component ran in the place of another, even of a pinned one.
        cache.put("b", &code);
        fs::copy(cache.path("b"), cache.path("a")).unwrap();
        assert!(cache.get(&engine, "b").is_some());
        assert!(cache.get(&engine, "a").is_none(), "the code of another");
    }

    #[test]
    fn the_directory_is_bounded() {
        let engine = Engine::default();
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), &engine).unwrap();
        let start = SystemTime::now() - Duration::from_secs(90_000);
        for n in 0..FILES_MAX + 5 {
            let file = File::create(cache.path(&format!("{n:03}"))).unwrap();
            file.set_modified(start + Duration::from_secs(n as u64))
                .unwrap();
        }
        cache.prune();
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, FILES_MAX + 1, "and the key");
        assert!(
            !cache.path("004").exists() && cache.path("005").exists(),
            "the oldest ones are removed"
        );
    }
}
