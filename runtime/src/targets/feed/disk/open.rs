//! Opens the files of a feed, and finds out whether they are what the store believes.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::frames::Reader;
use super::super::manifest::{Manifest, is_own, log_name, sync_folder};
use super::super::sorted::{Base, Run};
use super::{BEHIND_MAX, Change, Disk, Io, Memory, Position, Trouble, failed, forgot};
use crate::sync::lock;

/// Bytes of the log that are read at once.
const READ_BYTES: usize = 256 << 10;

impl Disk {
    /// Opens the files, unless they are open.
    pub(super) fn opened<'a>(&self, guard: &'a mut Option<Io>) -> Result<&'a mut Io, Trouble> {
        if self.is_retired() {
            let why = "the configuration of the feed was replaced";
            return Err(Trouble::Failed(why.to_owned()));
        }
        let fresh = self.fresh.load(Ordering::SeqCst);
        if fresh {
            *guard = None;
        }
        let io = match guard.take() {
            Some(io) => io,
            None => {
                let (io, memory) = self.open(fresh)?;
                *lock(&self.memory) = memory;
                self.fresh.store(false, Ordering::SeqCst);
                io
            }
        };
        Ok(guard.insert(io))
    }

    fn open(&self, fresh: bool) -> Result<(Io, Memory), Trouble> {
        let cannot = || failed("the files of the feed cannot be opened");
        fs::create_dir_all(&self.folder).map_err(cannot())?;
        let mark = lock(&self.mark).clone().filter(|_| !fresh);
        let found = match Manifest::read(&self.folder) {
            Err(error) if error.kind() == ErrorKind::InvalidData && fresh => None,
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(forgot(error)),
            found => found.map_err(cannot())?,
        };
        let (manifest, known) = match found {
            None if mark.is_some() => {
                let why = format!(
                    "the files of the feed in {} are gone",
                    self.folder.display()
                );
                return Err(Trouble::Forgot(why));
            }
            None => (Manifest::new(self.place), false),
            Some(before) if fresh || before.place != self.place => {
                if mark.is_some() {
                    let why = "the files of the feed are those of another configuration";
                    return Err(Trouble::Forgot(why.to_owned()));
                }
                (self.emptied(before), false)
            }
            Some(manifest) => (manifest, true),
        };
        if !known {
            let log = File::create(self.folder.join(log_name(manifest.log)));
            log.and_then(|log| log.sync_all()).map_err(cannot())?;
            sync_folder(&self.folder).map_err(cannot())?;
            manifest.write(&self.folder).map_err(cannot())?;
        }
        let (io, memory) = self.load(manifest)?;
        if known {
            self.compare_with(mark.as_ref(), &io, &memory)?;
        }
        remove_unused(&self.folder, &io.manifest);
        Ok((io, memory))
    }

    /// What stays when everything is owed again: what is served, and the sizes that it is compared with.
    fn emptied(&self, before: Manifest) -> Manifest {
        let mut manifest = Manifest {
            visible: before.visible,
            most: before.most,
            confirmed: before.confirmed,
            next: before.next,
            next_generation: before.next_generation,
            ..Manifest::new(self.place)
        };
        manifest.log = manifest.number();
        manifest
    }

    fn load(&self, manifest: Manifest) -> Result<(Io, Memory), Trouble> {
        let path = self.folder.join(log_name(manifest.log));
        let log = File::options().read(true).write(true).open(&path);
        let log = log.map_err(|error| match error.kind() {
            ErrorKind::NotFound => forgot(error),
            _ => failed("the log of the feed cannot be opened")(error),
        })?;
        let (mut newest, mut newest_time) = (manifest.newest, manifest.newest_time);
        let mut memory = Memory::default();
        let mut reader = Reader::new(&log, READ_BYTES, 0);
        // It ends at the first entry that is not whole: a crash cut it off, or it is damage, which the mark
        // shows.
        while let Ok(Some(entry)) = reader.next() {
            newest = newest.max(entry.sequence);
            newest_time = newest_time.max(entry.time);
            memory.delta.add(Change {
                key: entry.key,
                sequence: entry.sequence,
                record: entry.record,
            });
        }
        let position = reader.position;
        let cut = || failed("the log of the feed cannot be cut behind its last whole entry");
        log.set_len(position).map_err(cut())?;
        for number in &manifest.runs {
            let run = Run::open(&self.folder, *number).map_err(forgot)?;
            memory.runs.push(Arc::new(run));
        }
        if let Some(base) = &manifest.base {
            let base = Base::open(&self.folder, base).map_err(forgot)?;
            memory.base = Some(Arc::new(base));
        }
        let inode = log.metadata().map_err(cut())?.ino();
        let broken = self.reopens.load(Ordering::SeqCst);
        let io = Io {
            manifest,
            log,
            inode,
            position,
            broken,
            newest,
            newest_time,
            found: newest,
        };
        Ok((io, memory))
    }

    /// Compares the files with what the store knows of them.
    fn compare_with(
        &self,
        mark: Option<&(Position, bool)>,
        io: &Io,
        memory: &Memory,
    ) -> Result<(), Trouble> {
        let forgot = |why: &str| Err(Trouble::Forgot(format!("the files of the feed {why}")));
        let Some((mark, exact)) = mark else {
            let empty = memory.base.is_none() && memory.runs.is_empty() && io.position == 0;
            return match empty {
                true => Ok(()),
                false => forgot("hold what the store knows nothing of"),
            };
        };
        if mark.epoch != io.manifest.epoch {
            return forgot("are not those that the store knows");
        }
        let behind = io.manifest.log < mark.log
            || io.manifest.log == mark.log && io.position < mark.bytes
            || io.newest_time < mark.time;
        if behind {
            return forgot("lack what was acknowledged: they are damaged, or older than the store");
        }
        let later = io.newest_time - mark.time;
        if later > if *exact { 0 } else { BEHIND_MAX } {
            return forgot("are newer than the store, which was restored from an earlier copy");
        }
        Ok(())
    }
}

/// Removes what a crash has left behind. What cannot be removed now is so at the next start.
pub(super) fn remove_unused(folder: &Path, manifest: &Manifest) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let unused = |name: &str| is_own(name) && !manifest.uses(name);
        if name.to_str().is_some_and(unused) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
