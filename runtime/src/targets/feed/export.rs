//! Writes a generation to the path that is configured: as a whole, under a short temporary name in the same
//! folder first.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::manifest::sync_folder;

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// The name of the packed file beside it.
pub(super) fn packed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// A name that does not grow with the file's, which may have as many bytes as a name can have. Each purpose has
/// its own, because a check may run beside the Weir that writes the file.
fn temporary(path: &Path, purpose: &str) -> PathBuf {
    let digest = xxh3_64(path.as_os_str().as_encoded_bytes());
    folder(path).join(format!(".weir-{purpose}-{digest:016x}"))
}

/// Copies `from` to the path; readers see the old file or the new one.
pub(super) fn copy(from: &Path, path: &Path) -> io::Result<()> {
    let temporary = temporary(path, "feed");
    let copied = (|| {
        // Not over something else with that name, such as a link.
        let _ = fs::remove_file(&temporary);
        let mut source = File::open(from)?;
        let mut target = File::create_new(&temporary)?;
        io::copy(&mut source, &mut target)?;
        target.sync_all()?;
        drop(target);
        fs::rename(&temporary, path)?;
        sync_folder(folder(path))
    })();
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

/// Whether the files of a path can be written, without a change of what is there.
pub(super) fn check(path: &Path) -> Result<(), String> {
    let wrong = |error: io::Error| {
        format!(
            "the feed cannot be written to {}: {error}; create the folder, or let Weir write there",
            path.display()
        )
    };
    if path.is_dir() {
        return Err(format!(
            "{} is a folder; write the name of a file",
            path.display()
        ));
    }
    let temporary = temporary(path, "check");
    let _ = fs::remove_file(&temporary);
    File::create_new(&temporary).map_err(wrong)?;
    fs::remove_file(&temporary).map_err(wrong)
}
