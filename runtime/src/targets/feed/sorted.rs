//! Sorted entries on disk: runs of changes, and the base, which is the last generation's file with an index
//! of its records. In memory there is one key for each piece of a file, however many entries it has.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use super::frames::{self, Entry, Reader};
use super::manifest::{Generation, data_name, index_name, run_name};

/// Bytes of a file for each key in memory.
const PIECE_BYTES: u64 = 64 << 10;
/// Bytes that are read at once from each file of a merge.
const READ_BYTES: usize = 256 << 10;
/// The same for one lookup.
const LOOKUP_BYTES: usize = 16 << 10;
/// Bytes of a line of an index before its key: lengths of key and record, sequence.
const LINE: usize = 4 + 4 + 8;
/// Longer keys and records are damage.
const LENGTH_MAX: usize = 1 << 30;

/// A file that is read from a place on, by several readers at once.
struct At {
    file: Arc<File>,
    offset: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn damaged(what: &Path, why: &str) -> io::Error {
    let what = format!("{}: {why}", what.display());
    io::Error::new(ErrorKind::InvalidData, what)
}

/// An error with the file that it is about.
pub(super) fn said(what: &Path, error: &io::Error) -> io::Error {
    // Too many open files, in the system or in this process (ENFILE, EMFILE), has no kind of its own.
    let kind = match error.raw_os_error() {
        Some(23 | 24) => ErrorKind::ResourceBusy,
        _ => error.kind(),
    };
    io::Error::new(kind, format!("{}: {error}", what.display()))
}

// -- runs
// ------------------------------------------------------------------------------------------------

/// Changes in the order of their keys.
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) entries: u64,
    path: PathBuf,
    file: Arc<File>,
    /// The first key of each piece, and where it is.
    pieces: Vec<(Box<[u8]>, u64)>,
}

/// Writes a run.
pub(super) struct RunWriter {
    out: BufWriter<File>,
    path: PathBuf,
    number: u64,
    entries: u64,
    position: u64,
    pieces: Vec<(Box<[u8]>, u64)>,
    frame: Vec<u8>,
}

impl RunWriter {
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<RunWriter> {
        let path = folder.join(run_name(number));
        Ok(RunWriter {
            out: BufWriter::with_capacity(READ_BYTES, File::create(&path)?),
            path,
            number,
            entries: 0,
            position: 0,
            pieces: Vec::new(),
            frame: Vec::new(),
        })
    }

    pub(super) fn add(
        &mut self,
        key: &[u8],
        sequence: u64,
        record: Option<&[u8]>,
    ) -> io::Result<()> {
        note_piece(&mut self.pieces, key, self.position);
        self.frame.clear();
        frames::write(key, sequence, 0, record, &mut self.frame);
        self.out.write_all(&self.frame)?;
        self.position += self.frame.len() as u64;
        self.entries += 1;
        Ok(())
    }

    /// Makes it durable.
    pub(super) fn finish(self) -> io::Result<Run> {
        let file = self.out.into_inner();
        file.map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(Run {
            file: Arc::new(File::open(&self.path)?),
            number: self.number,
            entries: self.entries,
            path: self.path,
            pieces: self.pieces,
        })
    }
}

fn note_piece(pieces: &mut Vec<(Box<[u8]>, u64)>, key: &[u8], at: u64) {
    if pieces
        .last()
        .is_none_or(|(_, last)| at - last >= PIECE_BYTES)
    {
        pieces.push((key.into(), at));
    }
}

/// Where the search for a key begins.
fn piece_of(pieces: &[(Box<[u8]>, u64)], key: &[u8]) -> Option<usize> {
    pieces
        .partition_point(|(first, _)| **first <= *key)
        .checked_sub(1)
}

impl Run {
    /// Opens a run and reads all of it once.
    pub(super) fn open(folder: &Path, number: u64) -> io::Result<Run> {
        let path = folder.join(run_name(number));
        let file = Arc::new(File::open(&path).map_err(|error| said(&path, &error))?);
        let mut run = Run {
            number,
            entries: 0,
            path,
            file,
            pieces: Vec::new(),
        };
        let mut cursor = run.cursor(None);
        let mut pieces = Vec::new();
        loop {
            let at = cursor.position();
            let Some(entry) = cursor.next()? else { break };
            note_piece(&mut pieces, &entry.key, at);
            run.entries += 1;
        }
        run.pieces = pieces;
        Ok(run)
    }

    /// From the first key that is greater than `after` on.
    pub(super) fn cursor(&self, after: Option<&[u8]>) -> Cursor {
        let piece = after.and_then(|after| piece_of(&self.pieces, after));
        let offset = piece.map_or(0, |piece| self.pieces[piece].1);
        Cursor {
            from: From::Run(self.reader(offset, READ_BYTES)),
            path: self.path.clone(),
            after: after.map(Into::into),
        }
    }

    fn reader(&self, offset: u64, buffer: usize) -> Reader<At> {
        let file = self.file.clone();
        Reader::new(At { file, offset }, buffer, offset)
    }

    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Entry>> {
        let Some(piece) = piece_of(&self.pieces, key) else {
            return Ok(None);
        };
        let mut reader = self.reader(self.pieces[piece].1, LOOKUP_BYTES);
        while let Some(entry) = reader.next()? {
            if *entry.key >= *key {
                return Ok((*entry.key == *key).then_some(entry));
            }
        }
        Ok(None)
    }
}

// -- the base
// ------------------------------------------------------------------------------------------------

/// The last generation: its file, and the index of its records.
pub(super) struct Base {
    pub(super) generation: Generation,
    path: PathBuf,
    data: Arc<File>,
    index: Arc<File>,
    /// The first key of each piece of the index, and where it is.
    pieces: Vec<(Box<[u8]>, u64)>,
    /// Where the record of that key is.
    records: Vec<u64>,
}

/// Writes the index of a generation.
pub(super) struct IndexWriter {
    out: BufWriter<File>,
    digest: Xxh3,
    written: u64,
}

impl IndexWriter {
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<IndexWriter> {
        let file = File::create(folder.join(index_name(number)))?;
        Ok(IndexWriter {
            out: BufWriter::with_capacity(READ_BYTES, file),
            digest: Xxh3::new(),
            written: 0,
        })
    }

    pub(super) fn add(&mut self, key: &[u8], sequence: u64, record: usize) -> io::Result<()> {
        let lengths = [key.len() as u32, record as u32].map(u32::to_le_bytes);
        let line = [lengths.as_flattened(), &sequence.to_le_bytes(), key].concat();
        self.digest.update(&line);
        self.written += line.len() as u64;
        self.out.write_all(&line)
    }

    /// Makes it durable; returns its length and its digest.
    pub(super) fn finish(self) -> io::Result<(u64, u128)> {
        let file = self.out.into_inner();
        file.map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok((self.written, self.digest.digest128()))
    }
}

/// A line of an index.
struct Line {
    key: Box<[u8]>,
    sequence: u64,
    record: u64,
}

/// Reads lines of an index.
struct Lines {
    from: io::BufReader<At>,
    digest: Xxh3,
    left: u64,
    /// Where the record of the next line is.
    record_at: u64,
}

impl Lines {
    fn next(&mut self) -> io::Result<Option<Line>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut head = [0; LINE];
        self.from.read_exact(&mut head)?;
        let [a, b, c, d, e, f, g, h, rest @ ..] = head;
        let lengths = [[a, b, c, d], [e, f, g, h]].map(|it| u32::from_le_bytes(it) as usize);
        if lengths.iter().any(|length| *length > LENGTH_MAX)
            || (LINE + lengths[0]) as u64 > self.left
        {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut key = vec![0; lengths[0]];
        self.from.read_exact(&mut key)?;
        self.digest.update(&head);
        self.digest.update(&key);
        self.left -= (LINE + key.len()) as u64;
        self.record_at += lengths[1] as u64;
        Ok(Some(Line {
            key: key.into(),
            sequence: u64::from_le_bytes(rest),
            record: lengths[1] as u64,
        }))
    }
}

impl Base {
    /// Opens a generation, reads its index once and compares it with its digest.
    pub(super) fn open(folder: &Path, generation: &Generation) -> io::Result<Base> {
        let path = folder.join(data_name(generation.data));
        let index_path = folder.join(index_name(generation.index));
        let data = Arc::new(File::open(&path).map_err(|error| said(&path, &error))?);
        let index = Arc::new(File::open(&index_path).map_err(|error| said(&index_path, &error))?);
        if data.metadata()?.len() != generation.bytes {
            return Err(damaged(&path, "it has another length than was written"));
        }
        let mut base = Base {
            generation: generation.clone(),
            path,
            data,
            index,
            pieces: Vec::new(),
            records: Vec::new(),
        };
        let mut lines = base.lines(None, READ_BYTES);
        loop {
            let at = generation.index_bytes - lines.left;
            let record_at = lines.record_at;
            let Some(line) = lines.next().map_err(|error| said(&index_path, &error))? else {
                break;
            };
            let before = base.pieces.len();
            note_piece(&mut base.pieces, &line.key, at);
            if base.pieces.len() > before {
                base.records.push(record_at);
            }
        }
        if format!("{:032x}", lines.digest.digest128()) != generation.index_digest {
            return Err(damaged(&index_path, "it differs from what was written"));
        }
        Ok(base)
    }

    fn lines(&self, piece: Option<usize>, buffer: usize) -> Lines {
        let (offset, record_at) = piece.map_or((0, self.generation.header), |piece| {
            (self.pieces[piece].1, self.records[piece])
        });
        let file = self.index.clone();
        Lines {
            from: io::BufReader::with_capacity(buffer, At { file, offset }),
            digest: Xxh3::new(),
            left: self.generation.index_bytes - offset,
            record_at,
        }
    }

    /// The whole generation in order. At its end the file is compared with its digest.
    pub(super) fn whole(&self) -> Cursor {
        let file = self.data.clone();
        self.cursor_on(
            None,
            Some(Data {
                from: io::BufReader::with_capacity(READ_BYTES, At { file, offset: 0 }),
                digest: Xxh3::new(),
                header: self.generation.header,
                expected: self.generation.digest.clone(),
            }),
        )
    }

    /// The keys from the first that is greater than `after` on; the records are empty.
    pub(super) fn keys(&self, after: Option<&[u8]>) -> Cursor {
        self.cursor_on(after, None)
    }

    fn cursor_on(&self, after: Option<&[u8]>, data: Option<Data>) -> Cursor {
        let piece = after.and_then(|after| piece_of(&self.pieces, after));
        Cursor {
            from: From::Base(Box::new((self.lines(piece, READ_BYTES), data))),
            path: self.path.clone(),
            after: after.map(Into::into),
        }
    }

    /// The sequence of a record, where it is, and its length.
    pub(super) fn find(&self, key: &[u8]) -> io::Result<Option<(u64, u64, u64)>> {
        let Some(piece) = piece_of(&self.pieces, key) else {
            return Ok(None);
        };
        let mut lines = self.lines(Some(piece), LOOKUP_BYTES);
        loop {
            let at = lines.record_at;
            let Some(line) = lines.next()? else {
                return Ok(None);
            };
            if *line.key >= *key {
                let found = *line.key == *key;
                return Ok(found.then_some((line.sequence, at, line.record)));
            }
        }
    }

    /// Bytes of the file.
    pub(super) fn read(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).ok().filter(|it| *it <= LENGTH_MAX);
        let mut bytes = vec![0; length.ok_or(ErrorKind::InvalidData)?];
        self.data.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

// -- cursors
// ------------------------------------------------------------------------------------------------

/// Reads sorted entries.
pub(super) struct Cursor {
    from: From,
    path: PathBuf,
    after: Option<Box<[u8]>>,
}

enum From {
    Run(Reader<At>),
    Base(Box<(Lines, Option<Data>)>),
    Memory(std::vec::IntoIter<Entry>),
}

/// The file of a generation, as it is read.
struct Data {
    from: io::BufReader<At>,
    digest: Xxh3,
    /// Bytes before the first record that were not read yet.
    header: u64,
    expected: String,
}

impl Data {
    fn read(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.from).take(length).read_to_end(&mut bytes)?;
        self.digest.update(&bytes);
        match read as u64 == length {
            true => Ok(bytes),
            false => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    fn is_as_written(&mut self) -> io::Result<bool> {
        loop {
            let rest = self.read_some()?;
            if rest == 0 {
                break;
            }
        }
        Ok(format!("{:032x}", self.digest.digest128()) == self.expected)
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        let read = self.from.read(&mut bytes)?;
        self.digest.update(&bytes[..read]);
        Ok(read)
    }
}

impl Cursor {
    /// Entries that are in memory, in order.
    pub(super) fn of_memory(entries: Vec<Entry>) -> Cursor {
        Cursor {
            from: From::Memory(entries.into_iter()),
            path: PathBuf::new(),
            after: None,
        }
    }

    fn position(&self) -> u64 {
        match &self.from {
            From::Run(reader) => reader.position,
            From::Base(_) | From::Memory(_) => 0,
        }
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let entry = self.step().map_err(|error| said(&self.path, &error))?;
            let passed = |entry: &Entry| {
                let after = self.after.as_ref();
                after.is_some_and(|after| entry.key <= *after)
            };
            if !entry.as_ref().is_some_and(passed) {
                return Ok(entry);
            }
        }
    }

    fn step(&mut self) -> io::Result<Option<Entry>> {
        let (lines, data) = match &mut self.from {
            From::Run(reader) => return reader.next(),
            From::Memory(entries) => return Ok(entries.next()),
            From::Base(base) => (&mut base.0, &mut base.1),
        };
        let Some(line) = lines.next()? else {
            let whole = match data {
                Some(data) => data.is_as_written()?,
                None => true,
            };
            let differs =
                || io::Error::new(ErrorKind::InvalidData, "it differs from what was written");
            return whole.then_some(None).ok_or_else(differs);
        };
        let record = match data {
            None => Vec::new(),
            Some(data) => {
                let header = std::mem::take(&mut data.header);
                data.read(header)?;
                data.read(line.record)?
            }
        };
        Ok(Some(Entry {
            key: line.key,
            sequence: line.sequence,
            time: 0,
            record: Some(record.into()),
        }))
    }
}
