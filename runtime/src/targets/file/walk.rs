//! The keys of a folder with a file for each entity, a page at a time.
//!
//! A folder of a million files is read once and not from the beginning for each page: the walk keeps its
//! folders open between two pages.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;

use super::folder::{Folder, step};
use crate::targets::Page;
use crate::targets::names::{Named, Template};

/// Keys in a page.
const PAGE: usize = 5_000;

/// A walk through a folder, at some place in it.
pub(super) struct Walk {
    template: Template,
    /// The open folders, the innermost last, each with its path below the first and a slash.
    folders: Vec<(Dir, OwnedFd, String)>,
    /// The keys that were returned.
    count: u64,
    /// How deep files can be.
    depth: Option<usize>,
}

impl Walk {
    /// The walk that has come to this place: the one that is kept, or a new one that goes there.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn at(
        kept: Option<Walk>,
        folder: &Folder,
        template: &Template,
        after: u64,
    ) -> Result<Walk, String> {
        if let Some(kept) = kept.filter(|kept| kept.count == after && after > 0) {
            return Ok(kept);
        }
        let root = folder.open().map_err(|error| folder.said(&error))?;
        let dir = Dir::read_from(&root).map_err(|error| folder.said(&error.into()))?;
        let depth = template.as_str().matches('/').count() + 1;
        let mut walk = Walk {
            template: template.clone(),
            folders: vec![(dir, root, String::new())],
            count: 0,
            depth: (!template.slashes()).then_some(depth),
        };
        while walk.count < after {
            if walk.next()?.is_none() {
                break;
            }
        }
        Ok(walk)
    }

    /// The next page.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub(super) fn page(&mut self) -> Result<Page, String> {
        let mut keys = Vec::new();
        while keys.len() < PAGE {
            match self.next()? {
                Some(key) => keys.push(key),
                None => return Ok(Page { keys, next: None }),
            }
        }
        Ok(Page {
            keys,
            next: Some(self.count.to_string()),
        })
    }

    fn next(&mut self) -> Result<Option<String>, String> {
        let failed = |error: Errno| format!("the folder cannot be read: {error}");
        loop {
            let depth = self.folders.len();
            let Some((dir, folder, within)) = self.folders.last_mut() else {
                return Ok(None);
            };
            let entry = match dir.read() {
                Some(entry) => entry.map_err(failed)?,
                None => {
                    self.folders.pop();
                    continue;
                }
            };
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{within}{name}");
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                    match rustix::fs::statat(&*folder, name, flags) {
                        Ok(found) => FileType::from_raw_mode(found.st_mode),
                        Err(Errno::NOENT) => continue,
                        Err(error) => return Err(failed(error)),
                    }
                }
                kind => kind,
            };
            if kind.is_dir() && self.depth.is_none_or(|most| depth < most) {
                let inner = match step(&*folder, name) {
                    Ok(inner) => inner,
                    Err(Errno::NOENT | Errno::LOOP) => continue,
                    Err(error) => return Err(failed(error)),
                };
                let dir = Dir::read_from(&inner).map_err(failed)?;
                self.folders.push((dir, inner, format!("{path}/")));
            } else if kind.is_file()
                && let Some(Named::Key(key)) = self.template.key(&path)
            {
                self.count += 1;
                return Ok(Some(key));
            }
        }
    }
}
