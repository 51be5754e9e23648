//! Files of sled that hold no data and of which it refuses the whole store when they are not as it
//! expects: they are put out of the way before it opens.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// sled's file of settings: text, and a checksum of it in the last four bytes.
const SETTINGS: &str = "conf";
/// The name of damaged settings that were set aside.
const SETTINGS_ASIDE: &str = "conf.damaged";

/// Puts out of the way what would stop sled, and of which nothing is lost. `witnessed` says whether a
/// witness knows the end of the log.
///
/// Returns false, and changes nothing, while another process or thread has the store open: it may be
/// writing these files at this moment.
pub(super) fn clear(path: &Path, witnessed: bool) -> std::io::Result<bool> {
    // Held to the end, so that nobody opens the store meanwhile.
    let log = File::open(path.join("db")).ok();
    if let Some(log) = &log
        && flock(log, FlockOperation::NonBlockingLockExclusive).is_err()
    {
        return Ok(false);
    }
    remove_unfinished_snapshots(path)?;
    set_damaged_settings_aside(path, witnessed)?;
    Ok(true)
}

/// Removes snapshots that sled had begun to write at an earlier start. It writes each to
/// `snap.NUMBER.generating`, syncs it, and renames it, so a file of that name is the leftover of a
/// start that was killed or met a full disk. sled 0.34.7 takes it for the newest snapshot and refuses
/// the whole store as damaged, although it needs no snapshot: everything is in its log.
fn remove_unfinished_snapshots(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
            tracing::warn!(
                file = %entry.path().display(),
                "removed a snapshot that an interrupted start left unfinished; nothing is lost by it"
            );
        }
    }
    Ok(())
}

/// Renames sled's settings if they differ from what was written. sled 0.34.7 only warns that their
/// checksum is wrong, and then refuses the store, or reads it with a wrong setting. Without the file
/// it writes the settings that it is opened with, and Weir always opens it with the same.
///
/// Left for sled to refuse are settings with a right checksum that differ from Weir's, and those of a
/// log whose end no witness knows: a file of something else would be taken for an empty store.
fn set_damaged_settings_aside(path: &Path, witnessed: bool) -> std::io::Result<()> {
    let file = path.join(SETTINGS);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let intact = bytes
        .split_last_chunk()
        .is_some_and(|(text, sum)| crc32fast::hash(text) == u32::from_le_bytes(*sum));
    let log = std::fs::metadata(path.join("db")).map_or(0, |log| log.len());
    if !intact && (log == 0 || witnessed) {
        let aside = path.join(SETTINGS_ASIDE);
        std::fs::rename(&file, &aside)?;
        tracing::warn!(
            file = %aside.display(),
            "set the store's settings aside, because they differ from what was written; they are \
             written again, and nothing is lost"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};

    use super::*;

    /// The files were put out of the way after the lock had been given back. Another process that
    /// opened the store in between lost a snapshot that it was writing.
    #[test]
    fn nobody_opens_the_store_while_leftovers_are_put_out_of_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, log) = (folder.path().to_owned(), folder.path().join("db"));
        std::fs::write(&log, "a log").expect("written");
        // Whoever reads the settings waits until this test has written them.
        let settings = path.join(SETTINGS);
        mknodat(CWD, &settings, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let clearing = std::thread::spawn(move || clear(&path, true));
        let pipe = loop {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK;
            match open(&settings, flags, Mode::empty()) {
                Ok(pipe) => break pipe,
                Err(_) => std::thread::yield_now(), // nobody reads yet
            }
        };
        let log = File::open(&log).expect("it is there");
        let locked = || flock(&log, FlockOperation::NonBlockingLockExclusive);
        assert!(locked().is_err(), "it can be opened meanwhile");
        drop(pipe);
        assert!(clearing.join().expect("no panic").expect("it is done"));
        // Another test may be starting a program, which inherits the locked file until it runs.
        let begun = std::time::Instant::now();
        while locked().is_err() {
            assert!(begun.elapsed().as_secs() < 10, "it stays locked");
            std::thread::yield_now();
        }
    }
}
