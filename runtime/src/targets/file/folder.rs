//! A folder, and what is below it without following a link.
//!
//! Whoever can write below the folder could otherwise lead Weir's files anywhere: each step is taken from the
//! folder before it, and only to a real one.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::NAME_BYTES_MAX;

/// What all names of our own files begin with: no name of a key does, because a point at its beginning is
/// encoded.
pub(super) const OWN: &str = ".weir-";
/// The file by which a folder is recognised, and the bytes of what is in it.
const MARKER: &str = ".weir-folder";
const MARKER_BYTES: usize = 32;

/// A folder as configured.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Folder {
        Folder { path }
    }

    /// Opens the folder itself.
    ///
    /// # Errors
    /// It is not there, or is not a folder.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::empty())?)
    }

    /// Why the folder cannot be used, for users.
    pub(super) fn said(&self, error: &io::Error) -> String {
        match error.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no folder {}: create it, or mount what belongs there",
                self.path.display()
            ),
            _ => format!("the folder {} cannot be used: {error}", self.path.display()),
        }
    }

    /// The content of the file by which the folder is recognised; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn marker(root: &OwnedFd) -> io::Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(root, MARKER, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut text = String::new();
        let mut reader = io::Read::take(file, 2 * MARKER_BYTES as u64);
        io::Read::read_to_string(&mut reader, &mut text)?;
        Ok(Some(text.trim().to_owned()))
    }

    /// Makes the folder one that is recognised, and returns by what.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn make_marker(root: &OwnedFd) -> io::Result<String> {
        let id = format!("{:032x}", fastrand::u128(..));
        replace(root, MARKER, format!("{id}\n").as_bytes())?;
        rustix::fs::fsync(root)?;
        Ok(id)
    }

    /// Looks whether files can be written here, and how names are treated. Returns warnings.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&self, lines: Option<&str>) -> Result<Vec<String>, String> {
        let root = self.open().map_err(|error| self.said(&error))?;
        if let Some(name) = lines {
            match rustix::fs::statat(&root, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => {
                    let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
                    if !kind.is_file() {
                        return Err(format!(
                            "{} is no regular file, and lines are appended to nothing else",
                            self.path.join(name).display()
                        ));
                    }
                }
                Err(Errno::NOENT) => {}
                Err(error) => return Err(self.said(&error.into())),
            }
        }
        let mut warnings = Vec::new();
        let probe = format!("{OWN}{:016x}", fastrand::u64(..));
        let (small, large) = (format!("{probe}-a"), format!("{probe}-A"));
        let created = create(&root, &small);
        created.map_err(|error| {
            format!("no file can be written in {}: {error}", self.path.display())
        })?;
        let folds = rustix::fs::statat(&root, &large, AtFlags::SYMLINK_NOFOLLOW).is_ok();
        let removed = rustix::fs::unlinkat(&root, &small, AtFlags::empty());
        removed.map_err(|error| {
            format!("no file can be removed in {}: {error}", self.path.display())
        })?;
        if folds && lines.is_none() {
            warnings.push(format!(
                "{} takes large and small letters for the same: two keys that differ in nothing else share a file, and the last one wins",
                self.path.display()
            ));
        }
        if let Ok(found) = rustix::fs::fstatvfs(&root)
            && found.f_namemax < NAME_BYTES_MAX as u64
        {
            warnings.push(format!(
                "{} takes names of {} bytes and no longer: entities with long keys will be refused",
                self.path.display(),
                found.f_namemax
            ));
        }
        Ok(warnings)
    }
}

/// The folder of a name below `root`, and the last part of the name. Missing folders are created and synced,
/// or with `create = false` reported as `None`.
///
/// # Errors
/// A part is a link or no folder, or cannot be created.
pub(super) fn parent<'a>(
    root: &OwnedFd,
    name: &'a str,
    create: bool,
) -> io::Result<Option<(OwnedFd, &'a str)>> {
    let mut folder = root.try_clone()?;
    let mut rest = name;
    while let Some((part, after)) = rest.split_once('/') {
        folder = match step(&folder, part) {
            Ok(next) => next,
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                rustix::fs::fsync(&folder)?;
                step(&folder, part)?
            }
            Err(error) => return Err(error.into()),
        };
        rest = after;
    }
    Ok(Some((folder, rest)))
}

/// Opens a folder in a folder, which must be a real one.
pub(super) fn step(folder: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        // With both flags, a link is said to be no folder.
        Err(Errno::NOTDIR) => Err(Errno::LOOP),
        other => other,
    }
}

/// Creates a file that is not there yet.
pub(super) fn create(folder: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o666))?;
    Ok(File::from(file))
}

/// Replaces a file as a whole: whoever reads sees the old bytes or the new ones. The bytes are synced, their
/// name is when the folder is.
///
/// # Errors
/// It cannot be written; the old file is as it was.
pub(super) fn replace(folder: impl AsFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Short and independent of the name, which may be as long as a name can be.
    let temporary = format!("{OWN}{:016x}", fastrand::u64(..));
    let written = (|| {
        let mut file = create(&folder, &temporary)?;
        file.write_all(bytes)?;
        // After a failed sync the file is thrown away: the system may take its pages for clean.
        file.sync_data()?;
        rustix::fs::renameat(&folder, &temporary, &folder, name)?;
        Ok(())
    })();
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
    }
    written
}
