//! Copies of a store in one file, taken while it is in use, and a store made of such a copy.
//!
//! The writer copies the rows in the order of their keys, a few at a time, between the turns of
//! commits. What changes meanwhile before the place where it is, it appends: a later entry of a key
//! replaces an earlier one. So the copy is the store as it is when the last row has been copied, and
//! the sums of the rows prove that nothing is missing.
//!
//! The file: [`MAGIC`]; for each entry the lengths of key and value and their bytes, where the length
//! [`REMOVED`] says that the row is gone; an entry with an empty key, the number of entries, and a
//! hash of all before it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use xxhash_rust::xxh3::Xxh3;

use super::sums::Write as Row;
use super::writer::Writer;
use super::{Embedded, Options, open};
use crate::store::{BackedUp, Error, keys};

const MAGIC: &[u8; 14] = b"weir backup 1\n";
/// The length of a value that stands for none.
const REMOVED: u32 = u32::MAX;
/// The most bytes of a key or a value. Most rows have at most 32 KiB, but the row of a channel names
/// each of its facets, and a renderer may choose a long key. A bound keeps a damaged length from
/// taking all memory.
const ENTRY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most that is copied between two turns of commits, some milliseconds, and written at once by a
/// restore.
const ROWS_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 1024 * 1024;

type Answer = oneshot::Sender<Result<BackedUp, Error>>;

/// A copy that is being made.
pub(super) struct Backup {
    entries: Entries<BufWriter<File>>,
    /// The first key that is not copied yet.
    next: Vec<u8>,
    path: PathBuf,
    answer: Answer,
}

/// Entries with their number and hash, while they are written.
struct Entries<W> {
    out: W,
    hash: Xxh3,
    count: u64,
    bytes: u64,
}

impl<W: Write> Entries<W> {
    fn begin(mut out: W) -> io::Result<Entries<W>> {
        out.write_all(MAGIC)?;
        Ok(Entries {
            out,
            hash: Xxh3::new(),
            count: 0,
            bytes: 0,
        })
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        if key.len().max(value.map_or(0, <[u8]>::len)) > ENTRY_BYTES_MAX {
            return Err(io::Error::other("a row is too long for a backup"));
        }
        let length = value.map_or(REMOVED, |value| value.len() as u32);
        let head = [(key.len() as u32).to_le_bytes(), length.to_le_bytes()].concat();
        for bytes in [&head, key, value.unwrap_or_default()] {
            self.hash.update(bytes);
            self.out.write_all(bytes)?;
            self.bytes += bytes.len() as u64;
        }
        self.count += 1;
        Ok(())
    }

    fn end(mut self) -> io::Result<W> {
        let end = [0u32.to_le_bytes(), REMOVED.to_le_bytes()].concat();
        self.out.write_all(&end)?;
        self.out.write_all(&self.count.to_le_bytes())?;
        self.out.write_all(&self.hash.digest().to_le_bytes())?;
        Ok(self.out)
    }
}

impl Backup {
    /// Begins a copy in a new file, which only its owner may read.
    fn begin(path: PathBuf, answer: Answer) -> Result<Backup, (Error, Answer)> {
        if path.exists() {
            let error = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err((cannot_write(&path, &error), answer));
        }
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(unfinished(&path));
        match file.and_then(|file| Entries::begin(BufWriter::with_capacity(1 << 20, file))) {
            Ok(entries) => Ok(Backup {
                entries,
                next: Vec::new(),
                path,
                answer,
            }),
            Err(error) => Err((cannot_write(&path, &error), answer)),
        }
    }

    /// Appends what a batch changes of the rows that are copied already.
    fn note(&mut self, rows: &[Row]) -> io::Result<()> {
        let copied = rows.iter().filter(|(key, _)| *key < self.next);
        for (key, value) in copied {
            self.entries.put(key, value.as_deref())?;
        }
        Ok(())
    }

    /// Copies the next rows. Returns whether there are more.
    fn advance(&mut self, db: &sled::Db) -> Result<bool, Error> {
        let mut bytes = 0;
        for (count, row) in db.range(self.next.clone()..).enumerate() {
            if count == ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                return Ok(true);
            }
            let (key, value) = row.map_err(|error| Error::Damaged(error.to_string()))?;
            let put = self.entries.put(&key, Some(&value));
            put.map_err(|error| cannot_write(&self.path, &error))?;
            bytes += key.len() + value.len();
            self.next = [&key, &[0][..]].concat();
        }
        Ok(false)
    }

    /// Syncs the file and gives it its name; takes seconds.
    fn end(self) {
        let (path, count, bytes) = (self.path, self.entries.count, self.entries.bytes);
        let finish = || {
            let file = self.entries.end()?.into_inner()?;
            file.sync_all()?;
            std::fs::rename(unfinished(&path), &path)?;
            path.parent()
                .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        };
        let ended = finish();
        let copied = ended.map_err(|error| {
            let _ = std::fs::remove_file(unfinished(&path)); // as in `fail`
            cannot_write(&path, &error)
        });
        let _ = self
            .answer
            .send(copied.map(|()| BackedUp { rows: count, bytes })); // the caller may have gone
    }

    fn fail(self, error: Error) {
        // What is left of the file is only in the way; that it cannot be removed changes nothing.
        let _ = std::fs::remove_file(unfinished(&self.path));
        let _ = self.answer.send(Err(error)); // the caller may have gone
    }
}

/// The name of a file that is not complete yet.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// Removes the backups in a folder that were not complete when Weir was killed. No backup is being
/// made there.
pub fn remove_unfinished(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if unfinished(&path) == path && begins_like_a_backup(&path).is_ok_and(|ours| ours) {
            match std::fs::remove_file(&path) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "removed a backup that was not complete")
                }
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "an incomplete backup cannot be removed")
                }
            }
        }
    }
}

/// Whether a file begins as a backup, or is empty as one that has just begun.
fn begins_like_a_backup(path: &Path) -> io::Result<bool> {
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Ok(false);
    }
    let mut begin = Vec::new();
    let most = MAGIC.len() as u64;
    File::open(path)?.take(most).read_to_end(&mut begin)?;
    Ok(begin.is_empty() || begin == MAGIC)
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::Unavailable(format!(
        "the backup {} cannot be written: {error}",
        path.display()
    ))
}

impl Writer {
    /// Begins a copy of the store in a new file, unless one is being made.
    pub(super) fn back_up(&mut self, path: PathBuf, answer: Answer) {
        if self.backup.is_some() {
            let busy = "a backup is being made; begin another one when it has ended";
            let _ = answer.send(Err(Error::Unavailable(busy.into()))); // the caller may have gone
            return;
        }
        match Backup::begin(path, answer) {
            Ok(backup) => {
                self.backup = Some(backup);
                self.continue_backup();
            }
            Err((error, answer)) => {
                let _ = answer.send(Err(error)); // the caller may have gone
            }
        }
    }

    /// Keeps the copy that is being made up to date with a batch. That a copy cannot be written is no
    /// reason to stop.
    pub(super) fn note_in_backup(&mut self, rows: &[Row]) {
        let Some(mut backup) = self.backup.take() else {
            return;
        };
        match backup.note(rows) {
            Ok(()) => self.backup = Some(backup),
            Err(error) => {
                let error = cannot_write(&backup.path, &error);
                backup.fail(error);
            }
        }
    }

    /// Copies the next rows, and queues the rest of the work behind the commits that wait.
    fn continue_backup(&mut self) {
        let Some(mut backup) = self.backup.take() else {
            return;
        };
        let (shared, full) = (self.shared.clone(), self.shared.has_disk());
        match full.and_then(|()| backup.advance(&shared.db)) {
            Ok(true) => {
                self.backup = Some(backup);
                // If the store is closing, the copy ends with it, unfinished.
                shared.inbox.work(Box::new(Writer::continue_backup));
            }
            Ok(false) => drop(std::thread::spawn(move || backup.end())),
            Err(error) => backup.fail(error),
        }
    }
}

/// Makes a store of a copy. Everything that its channels know of their targets becomes unknown,
/// because it may have changed since the copy was made: each sends everything again.
///
/// # Errors
/// `Damaged` if the copy is not complete or differs from what was written; `Unavailable` if the
/// directory of the store is not empty or cannot be written.
pub fn restore(backup: &Path, options: Options) -> Result<BackedUp, Error> {
    let checked = read(backup, |_, _| Ok(()))?;
    let there = std::fs::read_dir(&options.path).is_ok_and(|mut files| files.next().is_some());
    if there {
        return Err(Error::Unavailable(format!(
            "{} is not empty; stop Weir and move the folder aside",
            options.path.display()
        )));
    }
    open::safely(&options.path, || {
        let opened = open::open(&options)?;
        let mut batch = sled::Batch::default();
        // In the first batch: whatever interrupts the restore, a store that can be opened has it.
        batch.insert(keys::RESTORED, &[]);
        let failed = |error: &dyn std::fmt::Display| Error::Unavailable(error.to_string());
        let (mut rows, mut bytes) = (0, 0);
        read(backup, |key, value| {
            rows += 1;
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            if rows >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
                (rows, bytes) = (0, 0);
                let full = std::mem::take(&mut batch);
                opened
                    .db
                    .apply_batch(full)
                    .map_err(|error| failed(&error))?;
            }
            Ok(())
        })?;
        opened
            .db
            .apply_batch(batch)
            .map_err(|error| failed(&error))?;
        opened.db.flush().map_err(|error| failed(&error))?;
        (options.sync)(&opened.file).map_err(|error| failed(&error))
    })?;
    // The first opening doubts everything, because of the mark.
    crate::store::Store::close(&Embedded::open(options)?).wait()?;
    Ok(checked)
}

/// Reads a copy, entry by entry.
fn read(
    backup: &Path,
    mut entry: impl FnMut(&[u8], Option<Vec<u8>>) -> Result<(), Error>,
) -> Result<BackedUp, Error> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(backup, "it ends too early"),
        _ => Error::Unavailable(format!("{}: {error}", backup.display())),
    };
    let mut file = BufReader::with_capacity(1 << 20, File::open(backup).map_err(cannot)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(cannot)?;
    if magic != *MAGIC {
        return Err(damaged(backup, "it is not a backup of Weir"));
    }
    let (mut hash, mut done) = (Xxh3::new(), BackedUp::default());
    loop {
        let mut head = [0; 8];
        file.read_exact(&mut head).map_err(cannot)?;
        let length = |from: usize| u32::from_le_bytes(keys::number_at(&head, from));
        let (key, value) = (length(0), length(4));
        if key == 0 {
            break;
        }
        hash.update(&head);
        let mut bytes = |length: u32| {
            // A length that cannot be is noticed before memory is taken for it.
            if length as usize > ENTRY_BYTES_MAX {
                return Err(damaged(backup, "an entry is too long"));
            }
            let mut bytes = vec![0; length as usize];
            file.read_exact(&mut bytes).map_err(cannot)?;
            hash.update(&bytes);
            done.bytes += u64::from(length);
            Ok(bytes)
        };
        let key = bytes(key)?;
        let value = (value != REMOVED).then(|| bytes(value)).transpose()?;
        done.rows += 1;
        done.bytes += head.len() as u64;
        entry(&key, value)?;
    }
    let (mut count, mut sum) = ([0; 8], [0; 8]);
    file.read_exact(&mut count).map_err(cannot)?;
    file.read_exact(&mut sum).map_err(cannot)?;
    let right = u64::from_le_bytes(count) == done.rows && u64::from_le_bytes(sum) == hash.digest();
    if right {
        Ok(done)
    } else {
        Err(damaged(backup, "it differs from what was written"))
    }
}

fn damaged(backup: &Path, why: &str) -> Error {
    Error::Damaged(format!("{}: {why}; use another copy", backup.display()))
}
