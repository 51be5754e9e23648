//! Builds a generation: one pass over the base and the runs in the order of the keys, with fixed buffers.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::Xxh3;

use super::super::gzip::Packer;
use super::super::manifest::{
    Generation, Manifest, blocks_name, data_name, gzip_name, index_name, sync_folder,
};
use super::super::merge::Merge;
use super::super::sorted::{Base, IndexWriter, Run};
use super::open::remove_unused;
use super::{Disk, Trouble, failed, forgot};
use crate::failpoint;
use crate::sync::lock;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

/// What a generation is built for.
pub(in super::super) struct Wanted<'a> {
    pub(in super::super) header: &'a [u8],
    pub(in super::super) footer: &'a [u8],
    pub(in super::super) content_type: &'a str,
    /// The share by which it may have shrunk.
    pub(in super::super) shrink_max: f64,
    /// Whether the channel has met all of its entities.
    pub(in super::super) complete: &'a AtomicBool,
    /// Milliseconds since 1970.
    pub(in super::super) now: u64,
}

/// What became of a build.
#[derive(Debug)]
pub(in super::super) enum Built {
    /// Another generation is served now, or the same one whose content has not changed.
    Published(Generation),
    /// It has too few records, beside the most since an operator confirmed one.
    Shrank { most: u64, records: u64 },
    /// The first one would be empty.
    Empty,
    /// There is nothing to build.
    Nothing,
}

/// The numbers of the files of a generation.
#[derive(Clone, Copy)]
struct Numbers {
    data: u64,
    index: u64,
}

impl Disk {
    /// Builds the next generation and makes it the one that is served. `show` opens what is shown; what it
    /// returns is called when the generation is durable, before its changes count as published. Blocking, for
    /// seconds; deliveries go on meanwhile.
    ///
    /// # Errors
    /// See [`Trouble`]; then the last generation is still the one that is served.
    pub(in super::super) fn build<S: FnOnce()>(
        &self,
        wanted: &Wanted<'_>,
        show: impl Fn(&Generation) -> io::Result<S>,
    ) -> Result<Built, Trouble> {
        // A generation that is held leaves one run more each time.
        self.spill_now()?;
        let _building = lock(&self.building);
        let (numbers, base, runs, epoch, visible) = {
            let mut guard = lock(&self.io);
            let io = self.opened(&mut guard)?;
            if let Err(trouble) = self.spill(io) {
                return self.after(&mut guard, trouble);
            }
            // A sweep that has begun since the caller looked says so before it delivers anything.
            let complete = wanted.complete.load(Ordering::SeqCst);
            let memory = lock(&self.memory);
            if !complete || memory.runs.is_empty() && memory.base.is_some() {
                return Ok(Built::Nothing);
            }
            let numbers = Numbers {
                data: io.manifest.number(),
                index: io.manifest.number(),
            };
            let visible = io.manifest.visible.as_ref().map(|it| it.data);
            let epoch = io.manifest.epoch.clone();
            (
                numbers,
                memory.base.clone(),
                memory.runs.clone(),
                epoch,
                visible,
            )
        };
        let written = self.write(wanted, numbers, base.as_deref(), &runs, visible);
        let generation = written.inspect_err(|_| self.remove(numbers))?;
        // After an error the manifest on the disk may name these files already.
        let built = self.publish(wanted, generation, &runs, &epoch, show)?;
        if !matches!(built, Built::Published(_)) {
            self.remove(numbers);
        }
        Ok(built)
    }

    /// Lets the next generation be published whatever its size is.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(in super::super) fn confirm(&self) -> Result<(), Trouble> {
        let mut guard = lock(&self.io);
        let io = self.opened(&mut guard)?;
        let mut manifest = io.manifest.clone();
        manifest.confirmed = true;
        match manifest.write(&self.folder) {
            Ok(()) => io.manifest = manifest,
            Err(error) => {
                let trouble = failed("the confirmation cannot be written")(error);
                return self.after(&mut guard, trouble);
            }
        }
        Ok(())
    }

    fn remove(&self, numbers: Numbers) {
        let names = [
            data_name(numbers.data),
            gzip_name(numbers.data),
            blocks_name(numbers.data),
            index_name(numbers.index),
        ];
        for name in names {
            let _ = fs::remove_file(self.folder.join(name));
        }
    }

    /// Writes the files of a generation; nothing refers to them yet.
    fn write(
        &self,
        wanted: &Wanted<'_>,
        numbers: Numbers,
        base: Option<&Base>,
        runs: &[Arc<Run>],
        packed_before: Option<u64>,
    ) -> Result<Generation, Trouble> {
        let cannot = || failed("the next generation cannot be written");
        let mut cursors: Vec<_> = base.map(Base::whole).into_iter().collect();
        cursors.extend(runs.iter().map(|run| run.cursor(None)));
        let mut merge = Merge::new(cursors).map_err(forgot)?;
        let mut files = Files::create(self, numbers, packed_before).map_err(cannot())?;
        files.add(&[], wanted.header).map_err(cannot())?;
        let (mut records, mut sequence) = (0, 0);
        while let Some(entry) = merge.next().map_err(forgot)? {
            sequence = entry.sequence.max(sequence);
            let Some(record) = &entry.record else {
                continue;
            };
            files
                .add(&entry.key, record)
                .and_then(|()| files.index.add(&entry.key, entry.sequence, record.len()))
                .map_err(cannot())?;
            records += 1;
            if records % 1024 == 0 && self.is_retired() {
                let why = "the configuration of the feed was replaced";
                return Err(Trouble::Failed(why.to_owned()));
            }
        }
        failpoint::pass("feed.building");
        files.add(&[], wanted.footer).map_err(cannot())?;
        let generation = Generation {
            data: numbers.data,
            index: numbers.index,
            records,
            header: wanted.header.len() as u64,
            content_type: wanted.content_type.to_owned(),
            sequence,
            built: wanted.now,
            modified: wanted.now,
            ..Generation::default()
        };
        let generation = files.finish(generation).map_err(cannot())?;
        sync_folder(&self.folder).map_err(cannot())?;
        Ok(generation)
    }

    /// Makes a generation the one that is served, if it has not shrunk too much.
    fn publish<S: FnOnce()>(
        &self,
        wanted: &Wanted<'_>,
        mut generation: Generation,
        runs: &[Arc<Run>],
        epoch: &str,
        show: impl Fn(&Generation) -> io::Result<S>,
    ) -> Result<Built, Trouble> {
        let mut guard = lock(&self.io);
        let io = self.opened(&mut guard)?;
        if io.manifest.epoch != epoch {
            let why = "the feed has started over while a generation was built";
            return Err(Trouble::Failed(why.to_owned()));
        }
        let mut manifest = io.manifest.clone();
        let (records, most) = (generation.records, manifest.most);
        if !manifest.confirmed {
            if records == 0 && manifest.visible.is_none() {
                return Ok(Built::Empty);
            }
            if (records as f64) < most as f64 * (1.0 - wanted.shrink_max) {
                return Ok(Built::Shrank { most, records });
            }
        }
        let same = manifest.visible.as_ref().filter(|visible| {
            visible.digest == generation.digest && visible.content_type == generation.content_type
        });
        generation.id = match same {
            // An equal file keeps its validators.
            Some(visible) => {
                // Only the base was read through for this generation: another file may be damaged.
                let was_read = manifest.base.as_ref().map(|it| it.data) == Some(visible.data);
                let packed = fs::metadata(self.folder.join(gzip_name(visible.data)));
                if was_read && packed.is_ok_and(|it| it.len() == visible.gzip_bytes) {
                    generation.data = visible.data;
                    generation.gzip_bytes = visible.gzip_bytes;
                    generation.gzip_digest = visible.gzip_digest.clone();
                }
                generation.modified = visible.modified;
                visible.id
            }
            None => {
                // Fetchers compare whole seconds: a later content has a later one, whatever the clock does.
                let before = manifest.visible.as_ref().map(|it| it.modified);
                let later = before.map_or(0, |before| (before / 1000 + 1) * 1000);
                generation.modified = generation.modified.max(later);
                manifest.next_generation += 1;
                manifest.next_generation - 1
            }
        };
        manifest.most = match manifest.confirmed {
            true => records,
            false => most.max(records),
        };
        manifest.confirmed = false;
        manifest.base = Some(generation.clone());
        manifest.visible = Some(generation.clone());
        manifest.runs.drain(..runs.len());
        // Opened before the manifest names it: what cannot be opened must not replace what is served.
        let opened =
            show(&generation).and_then(|shown| Ok((shown, Base::open(&self.folder, &generation)?)));
        let (shown, base) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                remove_unused(&self.folder, &io.manifest);
                return Err(failed("the next generation cannot be opened")(error));
            }
        };
        if let Err(error) = manifest.write(&self.folder) {
            let trouble = failed("the next generation cannot be published")(error);
            return self.after(&mut guard, trouble);
        }
        shown();
        self.take(io, manifest, base, runs.len());
        Ok(Built::Published(generation))
    }

    /// Reads from the new base from now on.
    fn take(&self, io: &mut super::Io, manifest: Manifest, base: Base, runs: usize) {
        io.manifest = manifest;
        let mut memory = lock(&self.memory);
        memory.base = Some(Arc::new(base));
        memory.runs.drain(..runs);
        drop(memory);
        remove_unused(&self.folder, &io.manifest);
    }
}

/// The files of a generation that is being written.
struct Files {
    data: BufWriter<File>,
    digest: Xxh3,
    bytes: u64,
    index: IndexWriter,
    packed: Packer,
}

impl Files {
    fn create(disk: &Disk, numbers: Numbers, packed_before: Option<u64>) -> io::Result<Files> {
        let data = File::create(disk.folder.join(data_name(numbers.data)))?;
        Ok(Files {
            data: BufWriter::with_capacity(WRITE_BYTES, data),
            digest: Xxh3::new(),
            bytes: 0,
            index: IndexWriter::create(&disk.folder, numbers.index)?,
            packed: Packer::create(&disk.folder, numbers.data, packed_before)?,
        })
    }

    fn add(&mut self, key: &[u8], bytes: &[u8]) -> io::Result<()> {
        self.data.write_all(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        self.packed.add(key, bytes)
    }

    fn finish(self, generation: Generation) -> io::Result<Generation> {
        let data = self.data.into_inner();
        data.map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let (reused, blocks) = (self.packed.reused, self.packed.blocks);
        tracing::debug!(reused, blocks, "packed a generation of a feed");
        let (gzip_bytes, gzip_digest) = self.packed.finish()?;
        let (index_bytes, index_digest) = self.index.finish()?;
        Ok(Generation {
            bytes: self.bytes,
            digest: format!("{:032x}", self.digest.digest128()),
            gzip_bytes,
            gzip_digest: format!("{gzip_digest:032x}"),
            index_bytes,
            index_digest: format!("{index_digest:032x}"),
            ..generation
        })
    }
}
