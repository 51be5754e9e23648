//! A file for each entity, replaced as a whole.
//!
//! The folder has a file by which it is recognised. If that is gone or another's, the folder was emptied,
//! replaced or is not mounted, and all that was written is owed again.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use xxhash_rust::xxh3::xxh3_64;

use super::folder::{Folder, is_no_folder, parent, replace};
use super::{NAME_BYTES_MAX, PATH_BYTES_MAX, Shared, outcome};
use crate::sync::lock;
use crate::targets::names::Template;
use crate::targets::{Held, Item, Outcome};

/// Threads that write the files of a batch at the same time: a sync is a wait.
const THREADS: usize = 8;

/// The writer of objects.
pub(super) struct Objects {
    folder: Arc<Folder>,
    template: Template,
    shared: Shared,
}

impl Objects {
    pub(super) fn new(folder: Arc<Folder>, template: Template, shared: Shared) -> Objects {
        Objects {
            folder,
            template,
            shared,
        }
    }

    /// Writes a batch. A file counts as delivered when it and its folder are synced.
    pub(super) fn write(&mut self, items: &[Item]) -> Vec<Outcome> {
        let root = match self.ready() {
            Ok(root) => root,
            Err(outcome) => return vec![outcome; items.len()],
        };
        let folders: Mutex<BTreeMap<String, OwnedFd>> = Mutex::default();
        let (template, root, changed) = (&self.template, &root, &folders);
        // Items of one key are written one after the other: one entity may leave a key to another.
        let mut shares: Vec<Vec<usize>> = vec![Vec::new(); THREADS];
        for (at, item) in items.iter().enumerate() {
            let share = xxh3_64(item.key.as_bytes()) % THREADS as u64;
            shares[share as usize].push(at);
        }
        shares.retain(|share| !share.is_empty());
        let written: Vec<Vec<(usize, Outcome)>> = std::thread::scope(|scope| {
            let writing: Vec<_> = shares
                .iter()
                .map(|share| {
                    scope.spawn(move || {
                        let write = |at: &usize| {
                            let outcome = write_one(root, template, &items[*at], changed);
                            (*at, outcome)
                        };
                        share.iter().map(write).collect::<Vec<_>>()
                    })
                })
                .collect();
            let joined = writing.into_iter().map(|writing| writing.join().ok());
            joined.flatten().collect()
        });
        let failed = "the thread that wrote the file has failed".to_owned();
        let mut outcomes = vec![crate::targets::http::status::uncertain(failed); items.len()];
        for (at, outcome) in written.into_iter().flatten() {
            outcomes[at] = outcome;
        }
        for folder in folders.into_inner().unwrap_or_default().into_values() {
            if let Err(error) = rustix::fs::fsync(&folder) {
                // Which of them are durable is not known.
                let reason = format!("the folder cannot be synced: {error}");
                let delivered = outcomes.iter_mut().filter(|it| **it == Outcome::Delivered);
                delivered.for_each(|outcome| {
                    *outcome = crate::targets::http::status::uncertain(reason.clone());
                });
            }
        }
        outcomes
    }

    /// The folder, if it is the one that was written to before.
    fn ready(&self) -> Result<OwnedFd, Outcome> {
        let trip = |error: io::Error| Outcome::Trip {
            reason: self.folder.said(&error),
        };
        let root = self.folder.open().map_err(trip)?;
        let found = Folder::marker(&root).map_err(trip)?;
        // The lock is not held while the disk is waited for: others ask for the mark meanwhile.
        let (mark, before) = {
            let said = lock(&self.shared);
            (said.mark.clone(), said.before.clone())
        };
        let is_first = mark.is_none();
        if let Some(known) = mark.or(before)
            && found.as_deref().map(str::as_bytes) != Some(&*known)
        {
            return Err(Outcome::Forgot {
                reason: "the folder is not the one that was written to, or was emptied: its file .weir-folder is gone or another's".to_owned(),
            });
        }
        if is_first {
            let id = match found {
                Some(id) if !id.is_empty() => id,
                _ => Folder::make_marker(&root).map_err(trip)?,
            };
            let mut said = lock(&self.shared);
            said.mark = Some(id.into_bytes());
            said.start_over = false;
        }
        Ok(root)
    }
}

/// Writes or removes one file, and notes the folder in which it is.
fn write_one(
    root: &OwnedFd,
    template: &Template,
    item: &Item,
    changed: &Mutex<BTreeMap<String, OwnedFd>>,
) -> Outcome {
    let entity = &item.entity.entity_type;
    let name = match template.name(entity, &item.key, NAME_BYTES_MAX, PATH_BYTES_MAX) {
        Ok(name) => name,
        // It cannot be there.
        Err(_) if item.rendering.is_none() => return Outcome::Delivered,
        Err(reason) => {
            return Outcome::Refused {
                reason,
                after_tries: false,
            };
        }
    };
    let (folder, file) = match parent(root, &name, item.rendering.is_some()) {
        Ok(Some(found)) => found,
        Ok(None) => return Outcome::Delivered,
        // A file stands where its folder would be, so there is nothing to remove.
        Err(error) if item.rendering.is_none() && is_no_folder(&error) => {
            return Outcome::Delivered;
        }
        // The keys "a" and "a/b": it is the other entity's file, which may go, and not the target's fault.
        Err(error) if template.slashes() && item.key.contains('/') && is_no_folder(&error) => {
            return Outcome::Refused {
                reason: format!("a file stands where a folder of {name} belongs"),
                after_tries: true,
            };
        }
        Err(error) => return outcome("the file's folder cannot be used", &error),
    };
    let written = match &item.rendering {
        Some(rendering) => replace(&folder, file, rendering.body.as_bytes()),
        None => match rustix::fs::unlinkat(&folder, file, AtFlags::empty()) {
            // A folder is none of our files.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => Ok(()),
            Err(error) => Err(error.into()),
        },
    };
    if let Err(error) = written {
        let doing = match item.rendering {
            Some(_) => "the file cannot be written",
            None => "the file cannot be removed",
        };
        return outcome(doing, &error);
    }
    let within = name[..name.len() - file.len()].to_owned();
    lock(changed).entry(within).or_insert(folder);
    Outcome::Delivered
}

/// Compares the file of an item with the item.
pub(super) fn compare(_: &Folder, root: &OwnedFd, template: &Template, item: &Item) -> Held {
    let entity = &item.entity.entity_type;
    let name = match template.name(entity, &item.key, NAME_BYTES_MAX, PATH_BYTES_MAX) {
        Ok(name) => name,
        Err(_) if item.rendering.is_none() => return Held::Same,
        Err(reason) => return Held::Unknown(reason),
    };
    let folder = match parent(root, &name, false) {
        Err(error) if is_no_folder(&error) => Ok(None),
        other => other,
    };
    let found = folder.and_then(|found| {
        let Some((folder, file)) = found else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&folder, file, flags, Mode::empty()) {
            Ok(file) => {
                let file = std::fs::File::from(file);
                // A folder is none of our files.
                Ok((!file.metadata()?.is_dir()).then_some(file))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    match (found, &item.rendering) {
        (Err(error), _) => Held::Unknown(format!("its file cannot be read: {error}")),
        (Ok(None), None) => Held::Same,
        (Ok(None), Some(_)) => Held::Missing,
        (Ok(Some(_)), None) => Held::Extra,
        (Ok(Some(file)), Some(rendering)) => match is_same(file, rendering.body.as_bytes()) {
            Ok(None) => Held::Same,
            Ok(Some(what)) => Held::Different(vec![what.to_owned()]),
            Err(error) => Held::Unknown(format!("its file cannot be read: {error}")),
        },
    }
}

/// What differs between a file and what it should hold.
fn is_same(mut file: std::fs::File, mut expected: &[u8]) -> io::Result<Option<&'static str>> {
    if file.metadata()?.len() != expected.len() as u64 {
        return Ok(Some("size"));
    }
    let mut piece = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((!expected.is_empty()).then_some("size"));
        }
        match expected.split_at_checked(read) {
            Some((same, rest)) if *same == piece[..read] => expected = rest,
            _ => return Ok(Some("content")),
        }
    }
}
