//! Lines that are appended to a file.
//!
//! A batch is one write and one sync. The length that was acknowledged is known: what lies beyond it after a
//! failed write or sync was not acknowledged and is cut off, through another descriptor, because after a
//! failed sync the system may take pages for clean that are not on disk. Of a file that an earlier Weir left,
//! only a last line without an end is cut, never a whole one. Before each batch the file is compared with its
//! name: one that was renamed or removed is left alone, and a new one begins; one that has become shorter has
//! lost what it acknowledged.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::line::{self, Line};
use super::{Rotate, Shared, When, outcome};
use crate::model::Sequence;
use crate::sync::lock;
use crate::targets::http::status::uncertain;
use crate::targets::{Item, Outcome};

/// Bytes that are read at a time when the end of a file is looked for.
const PIECE_BYTES: u64 = 64 * 1024;
/// Bytes of a line in which its sequence is looked for.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The writer of lines.
pub(super) struct Lines {
    folder: Arc<Folder>,
    name: String,
    rotate: Rotate,
    shared: Shared,
    open: Option<Open>,
    /// The file and the length up to which it is acknowledged, after something went wrong beyond it.
    suspect: Option<(u64, u64)>,
}

/// The file that is appended to.
struct Open {
    file: File,
    root: OwnedFd,
    inode: u64,
    device: u64,
    /// The length that is acknowledged.
    bytes: u64,
    born: SystemTime,
    /// The sequence of the last line that an earlier Weir left.
    last: Option<u64>,
}

impl Lines {
    pub(super) fn new(folder: Arc<Folder>, name: String, rotate: Rotate, shared: Shared) -> Lines {
        Lines {
            folder,
            name,
            rotate,
            shared,
            open: None,
            suspect: None,
        }
    }

    /// Appends a batch.
    pub(super) fn write(&mut self, items: &[Item], when: When) -> Vec<Outcome> {
        let mut bytes = Vec::with_capacity(items.iter().map(Item::bytes_in_batch).sum());
        items.iter().for_each(|item| line::write(item, &mut bytes));
        let written = self.append(&bytes, when);
        vec![written.err().unwrap_or(Outcome::Delivered); items.len()]
    }

    fn append(&mut self, bytes: &[u8], when: When) -> Result<(), Outcome> {
        if std::mem::take(&mut lock(&self.shared).start_over) {
            (self.open, self.suspect) = (None, None);
        }
        self.ready()?;
        self.rotate(bytes.len() as u64, when.now)?;
        let Some(open) = &mut self.open else {
            return Err(uncertain("the file is not open".to_owned()));
        };
        let foreign = |last| {
            when.foreign
                .is_some_and(|it| (it.first.0..=it.last.0).contains(&last))
        };
        if let Some(last) = open
            .last
            .filter(|last| *last > when.head.0 && !foreign(*last))
        {
            return Err(Outcome::Ahead {
                reason: format!(
                    "the last line of {} has the sequence {last}, and Weir has given out none after {}",
                    self.name, when.head.0
                ),
                sequence: Sequence(last),
            });
        }
        let written = open.file.write_all(bytes);
        let done = written.and_then(|()| {
            open.file
                .sync_data()
                .map_err(|error| io::Error::new(error.kind(), format!("the sync failed: {error}")))
        });
        if let Err(error) = done {
            // Nothing of it was acknowledged. Whether it is on disk nobody knows, so it goes.
            self.suspect = Some((open.inode, open.bytes));
            self.open = None;
            // Others may need the room. What cannot be cut now is before the next batch.
            let _ = self.ready();
            return Err(outcome(
                &format!("no lines can be appended to {}", self.name),
                &error,
            ));
        }
        open.bytes += bytes.len() as u64;
        open.last = None;
        lock(&self.shared).mark = Some(mark(open.inode, open.bytes));
        Ok(())
    }

    /// Has the file open that has this name now.
    fn ready(&mut self) -> Result<(), Outcome> {
        let trip = |folder: &Folder, error: io::Error| Outcome::Trip {
            reason: folder.said(&error),
        };
        let root = self
            .folder
            .open()
            .map_err(|error| trip(&self.folder, error))?;
        let found = match rustix::fs::statat(&root, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Some(found),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(trip(&self.folder, error.into())),
        };
        if let (Some(open), Some(found)) = (&mut self.open, &found)
            && (open.inode, open.device) == (found.st_ino, found.st_dev)
        {
            let there = u64::try_from(found.st_size).unwrap_or(0);
            if there < open.bytes {
                return Err(self.shorter(there));
            }
            if there == open.bytes {
                return Ok(());
            }
            // Somebody else appends, too; perhaps half a line.
        }
        // A file that was renamed or removed has all that it acknowledged, and another begins.
        self.open = None;
        let is_new = found.is_none();
        let opened = self.opened(root);
        let mut open = opened.map_err(|error| trip(&self.folder, error))?;
        let there = open.bytes;
        let before = lock(&self.shared).before.take();
        if let Some((inode, acknowledged)) = before.as_deref().and_then(marked)
            && inode == open.inode
            && there < acknowledged
            && !is_new
        {
            // It is asked again until all is owed again.
            lock(&self.shared).before = before;
            return Err(self.shorter(there));
        }
        let suspect = self.suspect.filter(|(inode, _)| *inode == open.inode);
        let kept = match suspect {
            Some((_, acknowledged)) => acknowledged.min(there),
            None => end_of_lines(&open.file, there).map_err(|error| trip(&self.folder, error))?,
        };
        if kept < there {
            let cut = open.file.set_len(kept).and_then(|()| open.file.sync_data());
            cut.map_err(|error| trip(&self.folder, error))?;
        }
        self.suspect = None;
        open.bytes = kept;
        open.last = match suspect {
            Some(_) => None,
            None => last_sequence(&open.file, kept).map_err(|error| trip(&self.folder, error))?,
        };
        lock(&self.shared).mark = Some(mark(open.inode, open.bytes));
        self.open = Some(open);
        Ok(())
    }

    fn shorter(&self, there: u64) -> Outcome {
        Outcome::Forgot {
            reason: format!(
                "{} has become shorter ({there} bytes): lines that were acknowledged are gone",
                self.name
            ),
        }
    }

    /// Opens the file, or creates it.
    fn opened(&self, root: OwnedFd) -> io::Result<Open> {
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&root, &*self.name, flags, Mode::from_raw_mode(0o666))?;
        let file = File::from(file);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        // Its name may be new, also if an earlier Weir was killed before it was durable.
        rustix::fs::fsync(&root)?;
        use std::os::unix::fs::MetadataExt;
        Ok(Open {
            root,
            inode: metadata.ino(),
            device: metadata.dev(),
            bytes: metadata.len(),
            born: metadata.created().or_else(|_| metadata.modified())?,
            last: None,
            file,
        })
    }

    /// Begins a new file if the one that is there is full or old, and removes what is too much.
    fn rotate(&mut self, more: u64, now: SystemTime) -> Result<(), Outcome> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let age = now.duration_since(open.born).unwrap_or_default();
        let full = self
            .rotate
            .bytes
            .is_some_and(|most| open.bytes + more > most);
        let old = self.rotate.every.is_some_and(|most| age >= most);
        if open.bytes == 0 || !(full || old) {
            return Ok(());
        }
        let failed = |error: Errno| {
            outcome(
                &format!("no new file can take the place of {}", self.name),
                &error.into(),
            )
        };
        let old = old_files(&open.root, &self.name);
        let old = old.map_err(|error| outcome("the old files cannot be listed", &error))?;
        let mut name = rotated(
            &self.name,
            jiff::Timestamp::try_from(now).unwrap_or_default(),
        );
        // Two within a millisecond, or a clock that was set back: the order of names stays that of files.
        if let Some(last) = old.last().filter(|last| **last >= name)
            && let Some(at) = rotated_at(&self.name, last)
        {
            name = rotated(&self.name, at + std::time::Duration::from_millis(1));
        }
        rustix::fs::renameat(&open.root, &*self.name, &open.root, &*name).map_err(failed)?;
        rustix::fs::fsync(&open.root).map_err(failed)?;
        self.open = None;
        self.ready()?;
        if let (Some(keep), Some(open)) = (self.rotate.keep, &self.open) {
            let old = old_files(&open.root, &self.name);
            let old = old.map_err(|error| outcome("the old files cannot be listed", &error))?;
            let too_many = old.len().saturating_sub(keep);
            for name in &old[..too_many] {
                match rustix::fs::unlinkat(&open.root, &**name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    // The next rotation tries again; lines are more important.
                    Err(error) => tracing::warn!(name, %error, "an old file cannot be removed"),
                }
            }
        }
        Ok(())
    }
}

/// How far a file has come.
fn mark(inode: u64, bytes: u64) -> Vec<u8> {
    [inode.to_le_bytes(), bytes.to_le_bytes()].concat()
}

fn marked(mark: &[u8]) -> Option<(u64, u64)> {
    let (inode, bytes) = mark.split_first_chunk()?;
    Some((
        u64::from_le_bytes(*inode),
        u64::from_le_bytes(bytes.try_into().ok()?),
    ))
}

/// The length up to the last line break.
pub(super) fn end_of_lines(file: &File, bytes: u64) -> io::Result<u64> {
    Ok(break_before(file, bytes)?.map_or(0, |at| at + 1))
}

/// The place of the last line break before `end`.
fn break_before(file: &File, mut end: u64) -> io::Result<Option<u64>> {
    let mut piece = Vec::new();
    while end > 0 {
        let from = end.saturating_sub(PIECE_BYTES);
        piece.resize(usize::try_from(end - from).unwrap_or(0), 0);
        file.read_exact_at(&mut piece, from)?;
        if let Some(at) = memchr::memrchr(b'\n', &piece) {
            return Ok(Some(from + at as u64));
        }
        end = from;
    }
    Ok(None)
}

/// The sequence of the last line, if it is one of ours.
fn last_sequence(file: &File, bytes: u64) -> io::Result<Option<u64>> {
    if bytes == 0 {
        return Ok(None);
    }
    let from = break_before(file, bytes - 1)?.map_or(0, |at| at + 1);
    let most = usize::try_from(bytes - 1 - from).unwrap_or(usize::MAX);
    let mut head = vec![0; most.min(HEAD_BYTES_MAX)];
    file.read_exact_at(&mut head, from)?;
    Ok(Line::read(&head).map(|line| line.sequence))
}

/// The name that a file gets when another takes its place.
fn rotated(name: &str, at: jiff::Timestamp) -> String {
    let (stem, extension) = split(name);
    format!("{stem}.{}{extension}", at.strftime("%Y%m%dT%H%M%S.%3fZ"))
}

/// The time in such a name.
fn rotated_at(name: &str, old: &str) -> Option<jiff::Timestamp> {
    let (stem, extension) = split(name);
    let time = old
        .strip_prefix(stem)?
        .strip_prefix('.')?
        .strip_suffix(extension)?;
    let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%S.%fZ", time).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// A name before its extension, and the extension with its point.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 => name.split_at(at),
        _ => (name, ""),
    }
}

/// The old files of a name, the oldest first.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn old_files(root: &OwnedFd, name: &str) -> io::Result<Vec<String>> {
    let (stem, extension) = split(name);
    let is_time = |text: &str| {
        let shape = "00000000T000000.000Z";
        let fits = |(byte, shape): (u8, u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        };
        text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
    };
    let mut old = Vec::new();
    for entry in Dir::read_from(root)? {
        let entry = entry?;
        let Ok(found) = entry.file_name().to_str() else {
            continue;
        };
        let middle = found
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.strip_suffix(extension));
        if middle.is_some_and(is_time) {
            old.push(found.to_owned());
        }
    }
    old.sort_unstable();
    Ok(old)
}
