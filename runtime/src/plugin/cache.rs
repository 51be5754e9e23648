//! A cache of compiled code on disk, so that a restart does not compile again.
//!
//! The name of a file contains the digest of its Wasm and the engine that compiled it, and the file
//! starts with a checksum of its content: code that was truncated, damaged or compiled by another
//! engine is compiled again. Only this process's user has access to the directory (0700), because
//! compiled code is executed unchecked. A failure of the cache is never an error; it costs a
//! compilation.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::Engine;
use wasmtime::component::Component as Code;
use xxhash_rust::xxh3::xxh3_128;

use crate::plugin::compile;

/// The most files kept; the least recently used are removed first. A file has about 0.5 MB for
/// Rust, and up to 50 MB for other languages.
const FILES_MAX: usize = 200;
/// A temporary file older than this was left by a process that died.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);

const MAGIC: &[u8; 8] = b"weirCWA2";
const HEADER: usize = MAGIC.len() + 16;

/// An open cache directory.
pub(super) struct Cache {
    directory: PathBuf,
    /// Identifies the engine: its version, its settings and the processor.
    engine: String,
}

impl Cache {
    /// Opens the directory; creates it if missing.
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

    /// The code for this Wasm, if it is cached and undamaged.
    pub(super) fn get(&self, engine: &Engine, sha256: &str) -> Option<Code> {
        let path = self.path(sha256);
        let content = fs::read(&path).ok()?;
        let whole = content.len() > HEADER
            && content.starts_with(MAGIC)
            && content[MAGIC.len()..HEADER] == xxh3_128(&content[HEADER..]).to_le_bytes();
        if !whole {
            tracing::warn!(path = %path.display(), "cached plugin code is damaged; compiling it again");
            return None;
        }
        // SAFETY: these are the bytes that `put` wrote: the checksum shows that they are complete,
        // and the directory's mode that nobody else wrote them.
        match unsafe { compile::revive(engine, &content[HEADER..]) } {
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
        if let Err(error) = self.write(sha256, code) {
            tracing::warn!(directory = %self.directory.display(), "compiled plugin code cannot be cached: {error}");
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

    /// Removes files beyond the bound, least recently used first, and temporary files of processes
    /// that died.
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
    // Fails if another user owns the directory; then there is no cache.
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
        assert!(cache.get(&engine, "a").is_some(), "compiled again");
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
            "the oldest ones are removed"
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
