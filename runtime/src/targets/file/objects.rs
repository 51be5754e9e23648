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

use super::folder::{Folder, parent, replace};
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
        let share = items.len().div_ceil(THREADS).max(1);
        let (template, root, changed) = (&self.template, &root, &folders);
        let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let writing: Vec<_> = items
                .chunks(share)
                .map(|items| {
                    scope.spawn(move || {
                        let write = |item| write_one(root, template, item, changed);
                        items.iter().map(write).collect::<Vec<_>>()
                    })
                })
                .collect();
            let written = writing.into_iter().zip(items.chunks(share));
            written
                .flat_map(|(writing, items)| {
                    writing.join().unwrap_or_else(|_| {
                        let reason = "the thread that wrote the file has failed".to_owned();
                        vec![crate::targets::http::status::uncertain(reason); items.len()]
                    })
                })
                .collect()
        });
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
        let mut said = lock(&self.shared);
        let known = said.mark.clone().or_else(|| said.before.clone());
        if let Some(known) = known
            && found.as_deref().map(str::as_bytes) != Some(&*known)
        {
            return Err(Outcome::Forgot {
                reason: "the folder is not the one that was written to, or was emptied: its file .weir-folder is gone or another's".to_owned(),
            });
        }
        if said.mark.is_none() {
            let id = match found {
                Some(id) if !id.is_empty() => id,
                _ => Folder::make_marker(&root).map_err(trip)?,
            };
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
        Err(error) => return outcome("the file's folder cannot be used", &error),
    };
    let written = match &item.rendering {
        Some(rendering) => replace(&folder, file, rendering.body.as_bytes()),
        None => match rustix::fs::unlinkat(&folder, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
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
    let found = parent(root, &name, false).and_then(|found| {
        let Some((folder, file)) = found else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(&folder, file, flags, Mode::empty()) {
            Ok(file) => Ok(Some(std::fs::File::from(file))),
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
