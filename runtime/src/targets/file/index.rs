//! What a file of lines, with the old ones before it, holds of each entity: its last line.
//!
//! It is built by reading the files once, and again from where it stopped when they have grown. Of an entity
//! it keeps 32 bytes: hashes, a sequence and a place. That is 100 MB for 1.5 million entities at most, while a
//! drift check runs.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use hashbrown::HashMap;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::folder::Folder;
use super::line::{self, Line};
use super::lines::old_files;
use crate::model::Sequence;
use crate::targets::{Held, Item, Page};

/// The most entities; with more, a drift check says that it cannot be made.
const ENTITIES_MAX: usize = 4_000_000;
/// The longest line that is read; a longer one is skipped and its entity is unknown.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Keys in a page.
const PAGE: usize = 5_000;

/// The last line of each entity.
pub(super) struct Index {
    /// Inode of each file and the bytes that were read of it, the oldest first.
    files: Vec<(String, u64, u64)>,
    last: HashMap<u64, Last>,
}

#[derive(Clone, Copy)]
struct Last {
    /// The place of the line: bytes of all files before it.
    at: u64,
    sequence: u64,
    /// A hash of what is written besides; its lowest bit says that the entity is deleted.
    digest: u64,
}

fn digest(line: &Line<'_>) -> u64 {
    xxh3_64(line.rest) & !1 | u64::from(line.is_deleted())
}

impl Index {
    /// The index of what the files hold now.
    ///
    /// # Errors
    /// They cannot be read, or hold too many entities.
    pub(super) fn current(
        kept: Option<Index>,
        folder: &Folder,
        name: &str,
    ) -> Result<Index, String> {
        let root = folder.open().map_err(|error| folder.said(&error))?;
        let failed = |error: std::io::Error| format!("the lines cannot be read: {error}");
        let mut names = old_files(&root, name).map_err(failed)?;
        names.push(name.to_owned());
        let mut files = Vec::new();
        for name in names {
            if let Some(file) = open(&root, &name).map_err(failed)? {
                let inode = file.metadata().map_err(failed)?.ino();
                files.push((name, inode, file));
            }
        }
        // What was read stays valid if the same files are there in the same order, or more behind them.
        let is_same = |kept: &Index| {
            let mut there = files.iter().map(|(_, inode, _)| *inode);
            kept.files
                .iter()
                .all(|(_, inode, _)| there.next() == Some(*inode))
        };
        let mut index = kept.filter(is_same).unwrap_or(Index {
            files: Vec::new(),
            last: HashMap::new(),
        });
        let mut before = 0;
        for (at, (name, inode, file)) in files.into_iter().enumerate() {
            let read = index.files.get(at).map_or(0, |(_, _, read)| *read);
            let read = index.read(file, read, before).map_err(failed)?;
            match index.files.get_mut(at) {
                Some(known) => *known = (name, inode, read),
                None => index.files.push((name, inode, read)),
            }
            before += read;
            if index.last.len() > ENTITIES_MAX {
                return Err(format!("the files hold more than {ENTITIES_MAX} entities"));
            }
        }
        Ok(index)
    }

    /// Reads a file from this place to its end, and returns where that is.
    fn read(&mut self, mut file: File, from: u64, before: u64) -> std::io::Result<u64> {
        file.seek(SeekFrom::Start(from))?;
        each_line(file, from, |at, line| {
            if let Some(line) = Line::read(line)
                && self.last.len() <= ENTITIES_MAX
            {
                let last = Last {
                    at: before + at,
                    sequence: line.sequence,
                    digest: digest(&line),
                };
                self.last.insert(xxh3_64(line.entity), last);
            }
            true
        })
    }

    /// Compares the last line of an item's entity with the item.
    pub(super) fn compare(&self, item: &Item) -> Held {
        let mut expected = Vec::new();
        line::write(item, &mut expected);
        let Some(expected) = Line::read(expected.trim_ascii_end()) else {
            return Held::Unknown("its line cannot be written".to_owned());
        };
        let last = self.last.get(&xxh3_64(expected.entity));
        let there = last.filter(|last| last.digest & 1 == 0);
        match (there, item.rendering.is_some()) {
            (None, false) => Held::Same,
            (None, true) => Held::Missing,
            (Some(_), false) => Held::Extra,
            (Some(last), true) if last.digest == digest(&expected) => Held::Same,
            (Some(last), true) if last.sequence < item.sequence.0 => {
                Held::Older(Sequence(last.sequence))
            }
            (Some(_), true) => Held::Different(vec!["/content".to_owned()]),
        }
    }

    /// The keys whose last line is behind this place and says that they are there.
    ///
    /// # Errors
    /// The files cannot be read.
    pub(super) fn page(&self, folder: &Folder, after: u64) -> Result<Page, String> {
        let root = folder.open().map_err(|error| folder.said(&error))?;
        let failed = |error: std::io::Error| format!("the lines cannot be read: {error}");
        let (mut keys, mut next, mut before) = (Vec::new(), None, 0);
        for (name, inode, bytes) in &self.files {
            let from = after.saturating_sub(before);
            if from < *bytes {
                let file = open(&root, name).map_err(failed)?;
                let Some(mut file) = file else {
                    return Err("the files were rotated meanwhile; begin again".to_owned());
                };
                if file.metadata().map_err(failed)?.ino() != *inode {
                    return Err("the files were rotated meanwhile; begin again".to_owned());
                }
                file.seek(SeekFrom::Start(from)).map_err(failed)?;
                each_line(file, from, |at, text| {
                    if keys.len() == PAGE {
                        next = Some((before + at).to_string());
                        return false;
                    }
                    let Some(line) = Line::read(text) else {
                        return true;
                    };
                    let last = self.last.get(&xxh3_64(line.entity));
                    let is_last = last.is_some_and(|last| last.at == before + at);
                    if is_last && !line.is_deleted() {
                        keys.extend(line.key());
                    }
                    true
                })
                .map_err(failed)?;
                if next.is_some() {
                    break;
                }
            }
            before += bytes;
        }
        Ok(Page { keys, next })
    }
}

fn open(root: &OwnedFd, name: &str) -> std::io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(root, name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(File::from(file))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Calls for each whole line with its place, until it returns false. Returns where the last whole line ends.
fn each_line(
    file: File,
    from: u64,
    mut see: impl FnMut(u64, &[u8]) -> bool,
) -> std::io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut at, mut line, mut length, mut skipped) = (from, Vec::new(), 0_u64, false);
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok(at);
        }
        let end = memchr::memchr(b'\n', piece);
        let part = &piece[..end.unwrap_or(piece.len())];
        match line.len() + part.len() > LINE_BYTES_MAX {
            true => skipped = true,
            false => line.extend_from_slice(part),
        }
        length += part.len() as u64;
        let used = part.len() + usize::from(end.is_some());
        if end.is_some() {
            if !skipped && !see(at, &line) {
                return Ok(at);
            }
            at += length + 1;
            line.clear();
            (length, skipped) = (0, false);
        }
        reader.consume(used);
    }
}
