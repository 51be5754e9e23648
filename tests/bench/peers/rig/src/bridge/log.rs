//! The log of the plain bridge: events in the order of their acceptance, until all targets have them.
//!
//! On disk it is a folder of segments. A record is its length, a checksum and the event; a position is the
//! number of bytes before it since the log began, and a segment is called after its first position. One
//! thread writes: it takes all batches that wait, writes them, syncs once, and then answers them. In memory
//! the same positions lead into a queue. Readers see an event only after it is durable.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

/// A segment that is at least this long is followed by another.
const SEGMENT_BYTES: u64 = if cfg!(test) { 1 << 10 } else { 64 << 20 };
/// Bytes of a record before its event: the length and the checksum.
const HEAD_BYTES: usize = 8;
/// Batches that wait for the writer; more of them wait at the door.
const WAITING_MAX: usize = 256;

/// An event and the position behind it.
pub type Entry = (Bytes, u64);

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// All of it is in the log.
    Done,
    /// None of it is in the log, because too much waits already.
    Full,
}

/// Events by their position.
pub struct Log {
    /// Bytes between the first and the last position.
    backlog_max: u64,
    end: watch::Sender<u64>,
    place: Place,
}

enum Place {
    Memory(Mutex<Queue>),
    Disk(Arc<Segments>, mpsc::Sender<Batch>),
}

/// The events in memory, and the position of the first.
#[derive(Default)]
struct Queue {
    start: u64,
    entries: VecDeque<Entry>,
}

struct Segments {
    folder: PathBuf,
    /// Files by their first position.
    files: Mutex<BTreeMap<u64, Arc<File>>>,
}

/// A batch on its way to the disk.
struct Batch {
    records: Vec<u8>,
    done: oneshot::Sender<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that an event takes.
fn size(event: &Bytes) -> u64 {
    (HEAD_BYTES + event.len()) as u64
}

impl Log {
    /// An empty log that a crash loses.
    pub fn in_memory(backlog_max: u64) -> Log {
        Log {
            backlog_max,
            end: watch::Sender::new(0),
            place: Place::Memory(Mutex::default()),
        }
    }

    /// Opens the log of a folder, and cuts off what a crash left half written at its end.
    ///
    /// # Errors
    /// The folder cannot be used, or a segment that is not the last is damaged.
    pub fn open(folder: &Path, backlog_max: u64) -> Result<Log, String> {
        let opened = || {
            fs::create_dir_all(folder)?;
            let segments = Segments::open(folder)?;
            let (position, file) = segments.last()?;
            let end = watch::Sender::new(position + file.metadata()?.len());
            Ok::<_, io::Error>((Arc::new(segments), end))
        };
        let (segments, end) = opened().map_err(|error| {
            format!("the log in {} cannot be opened: {error}", folder.display())
        })?;
        let (batches, waiting) = mpsc::channel(WAITING_MAX);
        let writer = (segments.clone(), end.clone());
        std::thread::spawn(move || {
            let (segments, end) = writer;
            // After a failed write or sync nobody knows what is on the disk: no answer is better than a wrong one.
            if let Err(error) = write(&segments, &end, waiting) {
                eprintln!("peers-rig: the log could not be written, so the bridge ends: {error}");
                std::process::exit(1);
            }
        });
        Ok(Log {
            backlog_max,
            end,
            place: Place::Disk(segments, batches),
        })
    }

    /// Position of the first event that is still there.
    pub fn start(&self) -> u64 {
        match &self.place {
            Place::Memory(queue) => lock(queue).start,
            Place::Disk(segments, _) => lock(&segments.files).keys().next().copied().unwrap_or(0),
        }
    }

    /// Position behind the last event.
    pub fn end(&self) -> u64 {
        *self.end.borrow()
    }

    /// Follows the position behind the last event.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Appends a batch; returns when it is as durable as this log can make it.
    pub async fn append(&self, events: Vec<Bytes>) -> Appended {
        if events.is_empty() {
            return Appended::Done;
        }
        let more: u64 = events.iter().map(size).sum();
        if self.end() - self.start() + more > self.backlog_max {
            return Appended::Full;
        }
        match &self.place {
            Place::Memory(queue) => {
                let mut queue = lock(queue);
                let mut end = self.end();
                for event in events {
                    end += size(&event);
                    // A copy: a slice would keep the whole request in memory until its last event is delivered.
                    queue
                        .entries
                        .push_back((Bytes::copy_from_slice(&event), end));
                }
                self.end.send_replace(end);
                Appended::Done
            }
            Place::Disk(_, batches) => {
                let (done, answer) = oneshot::channel();
                let batch = Batch {
                    records: records(&events),
                    done,
                };
                // The writer ends only with the whole program.
                let sent = batches.send(batch).await.is_ok();
                match sent && answer.await.is_ok() {
                    true => Appended::Done,
                    false => Appended::Full,
                }
            }
        }
    }

    /// Events from a position on: at least one if there is one, and not many more than `bytes`.
    pub fn read(&self, from: u64, bytes: usize) -> Vec<Entry> {
        match &self.place {
            Place::Memory(queue) => {
                let queue = lock(queue);
                let first = queue.entries.partition_point(|(_, next)| *next <= from);
                let mut left = bytes;
                let fits = |entry: &&Entry| {
                    let fits = left > 0;
                    left = left.saturating_sub(entry.0.len());
                    fits
                };
                queue
                    .entries
                    .range(first..)
                    .take_while(fits)
                    .cloned()
                    .collect()
            }
            Place::Disk(segments, _) => {
                // A short read, nearly always of bytes that the system still has in memory.
                segments.read(from, self.end(), bytes).unwrap_or_else(|error| {
                    eprintln!("peers-rig: the log could not be read at {from}, so the bridge ends: {error}");
                    std::process::exit(1);
                })
            }
        }
    }

    /// Lets go of what lies before a position, on disk in whole segments.
    pub fn forget(&self, before: u64) {
        match &self.place {
            Place::Memory(queue) => {
                let mut queue = lock(queue);
                let gone = queue.entries.partition_point(|(_, next)| *next <= before);
                queue.entries.drain(..gone);
                queue.start = queue.start.max(before);
            }
            Place::Disk(segments, _) => segments.forget(before),
        }
    }
}

/// The events as they are on disk.
fn records(events: &[Bytes]) -> Vec<u8> {
    let mut records = Vec::with_capacity(events.iter().map(size).sum::<u64>() as usize);
    for event in events {
        records.extend((event.len() as u32).to_le_bytes());
        records.extend(crc32fast::hash(event).to_le_bytes());
        records.extend_from_slice(event);
    }
    records
}

/// The record at the beginning of some bytes: its event, and the length of the record. `None` if it is not
/// complete or not what was written.
fn record(bytes: &Bytes) -> Option<(Bytes, usize)> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(bytes.get(4..HEAD_BYTES)?.try_into().ok()?);
    let end = HEAD_BYTES.checked_add(length)?;
    // A stretch of zeros, which some file systems leave after a power cut, is no record of an empty event.
    if length == 0 || bytes.len() < end {
        return None;
    }
    let event = bytes.slice(HEAD_BYTES..end);
    (crc32fast::hash(&event) == sum).then_some((event, end))
}

/// The thread that writes. Ends when the log is dropped.
fn write(
    segments: &Segments,
    end: &watch::Sender<u64>,
    mut waiting: mpsc::Receiver<Batch>,
) -> io::Result<()> {
    let (mut start, mut file) = segments.last()?;
    while let Some(batch) = waiting.blocking_recv() {
        let mut batches = vec![batch];
        while let Ok(more) = waiting.try_recv() {
            batches.push(more);
        }
        let mut position = *end.borrow();
        if position - start >= SEGMENT_BYTES {
            (start, file) = (position, segments.add(position)?);
        }
        let mut file = &*file;
        for batch in &batches {
            file.write_all(&batch.records)?;
            position += batch.records.len() as u64;
        }
        file.sync_data()?;
        end.send_replace(position);
        for batch in batches {
            // A sender that went away gets no answer; its events are accepted all the same.
            let _ = batch.done.send(());
        }
    }
    Ok(())
}

impl Segments {
    fn open(folder: &Path) -> io::Result<Segments> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|extension| extension == "log")
                && let Some(position) = stem.and_then(|stem| stem.parse::<u64>().ok())
            {
                let file = OpenOptions::new().read(true).append(true).open(&path)?;
                files.insert(position, Arc::new(file));
            }
        }
        let segments = Segments {
            folder: folder.to_owned(),
            files: Mutex::new(files),
        };
        if lock(&segments.files).is_empty() {
            segments.add(0)?;
        }
        let starts: Vec<u64> = lock(&segments.files).keys().copied().collect();
        for (number, start) in starts.iter().enumerate() {
            let file = segments.at(*start)?.1;
            let (valid, length) = (valid(&file)?, file.metadata()?.len());
            let expected = starts.get(number + 1).map(|next| next - start);
            match expected {
                Some(expected) if valid != expected => {
                    let message = format!("the segment at {start} is damaged after {valid} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
                None if valid != length => {
                    file.set_len(valid)?;
                    file.sync_all()?;
                }
                _ => {}
            }
        }
        Ok(segments)
    }

    /// The segment that is written to, and its first position.
    fn last(&self) -> io::Result<(u64, Arc<File>)> {
        self.at(u64::MAX)
    }

    /// The segment that a position lies in, and its first position.
    fn at(&self, position: u64) -> io::Result<(u64, Arc<File>)> {
        let files = lock(&self.files);
        let found = files.range(..=position).next_back();
        found
            .map(|(start, file)| (*start, file.clone()))
            .ok_or_else(|| io::Error::other(format!("no segment has the position {position}")))
    }

    /// Begins a segment. Its name is synced too: a crash must not lose the file with what was accepted.
    fn add(&self, start: u64) -> io::Result<Arc<File>> {
        let path = self.path(start);
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(path)?;
        File::open(&self.folder)?.sync_all()?;
        let file = Arc::new(file);
        lock(&self.files).insert(start, file.clone());
        Ok(file)
    }

    fn path(&self, start: u64) -> PathBuf {
        self.folder.join(format!("{start:020}.log"))
    }

    fn read(&self, from: u64, end: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        let (start, file) = self.at(from)?;
        let stop = lock(&self.files)
            .range(from + 1..)
            .next()
            .map_or(end, |(next, _)| *next);
        let mut length = (stop - from).min(bytes as u64) as usize;
        loop {
            let mut buffer = vec![0; length];
            file.read_exact_at(&mut buffer, from - start)?;
            let buffer = Bytes::from(buffer);
            let (mut entries, mut at) = (Vec::new(), 0);
            while let Some((event, size)) = record(&buffer.slice(at..)) {
                at += size;
                entries.push((event, from + at as u64));
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
            if length as u64 == stop - from {
                let message = format!("the record at {from} is damaged");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            // An event that is longer than a read.
            length = (length as u64 * 4).min(stop - from) as usize;
        }
    }

    fn forget(&self, before: u64) {
        let mut files = lock(&self.files);
        // A segment goes when the next one begins at or before the position; the last one stays.
        let starts: Vec<u64> = files.keys().copied().collect();
        for pair in starts.windows(2).take_while(|pair| pair[1] <= before) {
            files.remove(&pair[0]);
            if let Err(error) = fs::remove_file(self.path(pair[0])) {
                eprintln!("peers-rig: a segment of the log could not be removed: {error}");
            }
        }
    }
}

/// How many bytes from the beginning of a segment are whole records.
fn valid(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let mut content = vec![0; length as usize];
    file.read_exact_at(&mut content, 0)?;
    let content = Bytes::from(content);
    let mut valid = 0;
    while let Some((_, size)) = record(&content.slice(valid..)) {
        valid += size;
    }
    Ok(valid as u64)
}

#[cfg(test)]
mod tests;
