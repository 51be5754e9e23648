//! Compiled code on disk, so that a restart does not compile again.
//!
//! A file is named after the digest of its Wasm and the engine that made it, and begins with a sum
//! of its own content: one that was cut, rotted or made by another engine is compiled anew. The
//! directory belongs to the process alone (0700), because compiled code is run as it is. No trouble
//! here is ever an error; it costs a compilation.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::Engine;
use wasmtime::component::Component as Code;
use xxhash_rust::xxh3::xxh3_128;

use crate::plugin::compile;

/// Files kept; the ones unused for longest go first. Some 0.5 MB each for Rust, up to 50 MB for
/// other languages.
const FILES_MAX: usize = 200;
/// A temporary file older than that is left from a process that died.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

const MAGIC: &[u8; 8] = b"weirCWA2";
const HEADER: usize = MAGIC.len() + 16;

/// The directory.
pub(super) struct Cache {
    directory: PathBuf,
    /// Names the engine: its version, its settings and the processor.
    engine: String,
}

impl Cache {
    /// Opens the directory, making it if it is not there.
    pub(super) fn open(directory: &Path, engine: &Engine) -> io::Result<Cache> {
        fs::create_dir_all(directory)?;
        own(directory)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Cache {
            directory: directory.to_owned(),
            engine: format!("{:016x}", hasher.finish()),
        })
    }

    /// The code for that Wasm, if it is there and whole.
    pub(super) fn get(&self, engine: &Engine, sha256: &str) -> Option<Code> {
        let path = self.path(sha256);
        let content = fs::read(&path).ok()?;
        let whole = content.len() > HEADER
            && content.starts_with(MAGIC)
            && content[MAGIC.len()..HEADER] == xxh3_128(&content[HEADER..]).to_le_bytes();
        if !whole {
            tracing::warn!(path = %path.display(), "compiled plugin code is damaged and will be made again");
            return None;
        }
        // SAFETY: the bytes are those that `put` was given: the sum says that they are whole, and
        // the directory that nobody else wrote them.
        match unsafe { compile::revive(engine, &content[HEADER..]) } {
            Ok(code) => {
                // Its time of change tells when it was last of use.
                let _ = File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|file| file.set_modified(SystemTime::now()));
                Some(code)
            }
            Err(error) => {
                tracing::info!(path = %path.display(), "compiled plugin code is of another engine and will be made again: {error:#}");
                None
            }
        }
    }

    /// Keeps code, as the engine has written it.
    pub(super) fn put(&self, sha256: &str, code: &[u8]) {
        if let Err(error) = self.write(sha256, code) {
            tracing::warn!(directory = %self.directory.display(), "compiled plugin code cannot be kept: {error}");
        }
        self.prune(SystemTime::now());
    }

    fn write(&self, sha256: &str, code: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".tmp")
            .tempfile_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(&xxh3_128(code).to_le_bytes())?;
        file.write_all(code)?;
        file.persist(self.path(sha256))?;
        Ok(())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.directory
            .join(format!("{sha256}-{}.cwasm", self.engine))
    }

    /// Removes what is beyond the bound, oldest first, and what a process that died left half
    /// written.
    fn prune(&self, now: SystemTime) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        let mut kept = Vec::new();
        for entry in entries.flatten() {
            let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) else {
                continue;
            };
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".cwasm") {
                kept.push((modified, entry.path()));
            } else if name.starts_with(".tmp")
                && now
                    .duration_since(modified)
                    .is_ok_and(|age| age > TEMPORARY_AGE_MAX)
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        kept.sort();
        for (_, path) in kept.iter().take(kept.len().saturating_sub(FILES_MAX)) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(unix)]
fn own(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Fails where the directory is somebody else's, and then there is no cache.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn own(_directory: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
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
        for position in [0, MAGIC.len(), HEADER, content.len() - 1] {
            let mut changed = content.clone();
            changed[position] ^= 1;
            fs::write(cache.path("a"), changed).unwrap();
            assert!(cache.get(&engine, "a").is_none(), "changed at {position}");
        }
        fs::write(cache.path("a"), &content[..content.len() / 2]).unwrap();
        assert!(cache.get(&engine, "a").is_none(), "cut");
        cache.put("a", &code);
        assert!(cache.get(&engine, "a").is_some(), "made again");
    }

    #[test]
    fn the_directory_is_bounded_and_closed_to_others() {
        let engine = Engine::default();
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), &engine).unwrap();
        let start = SystemTime::now() - Duration::from_secs(90_000);
        for n in 0..FILES_MAX + 5 {
            let file = File::create(cache.path(&format!("{n:03}"))).unwrap();
            file.set_modified(start + Duration::from_secs(n as u64))
                .unwrap();
        }
        File::create(directory.path().join(".tmpdead"))
            .unwrap()
            .set_modified(start)
            .unwrap();
        cache.prune(SystemTime::now());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), FILES_MAX);
        assert!(
            !cache.path("004").exists() && cache.path("005").exists(),
            "the oldest go"
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777,
                0o700
            );
        }
    }
}
