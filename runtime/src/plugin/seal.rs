//! Authenticates the files that this room keeps on disk.
//!
//! Compiled code is run as it is, so a file is trusted only if this Weir wrote it for this purpose: it
//! starts with a code (HMAC-SHA256) over its purpose and its content, under a key that was made in the
//! folder at its first use. The folder and the key must belong to this process's user and be closed
//! to all others. Whoever can read the key is this user, and needs no forged file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The name of the file with the key.
const KEY: &str = "key";
const KEY_BYTES: usize = 32;
/// How the names of temporary files begin.
const TEMPORARY: &str = ".tmp";
/// A temporary file older than this was left by a process that was killed; a younger one may be of
/// another process that is writing it.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3600);
const MAGIC: &[u8; 8] = b"weirSEA1";
const HEADER: usize = MAGIC.len() + 32;

/// A folder whose files are authenticated.
pub(super) struct Seal {
    directory: PathBuf,
    key: [u8; KEY_BYTES],
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsealed {
    /// It is not there, or cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It was cut, changed, written for another purpose, or by somebody else.
    #[error("it is not what this Weir wrote there")]
    Forged,
}

impl Seal {
    /// Opens a folder; makes it, and its key, if they are missing. Removes what killed processes left
    /// unfinished in it.
    ///
    /// # Errors
    /// When the folder or its key belongs to somebody else, or cannot be made.
    pub(super) fn open(directory: &Path) -> io::Result<Seal> {
        fs::create_dir_all(directory)?;
        own(directory)?;
        remove_leftovers(directory, SystemTime::now());
        let path = directory.join(KEY);
        // A power cut may have kept the name of the file and lost its content.
        if fs::metadata(&path).is_ok_and(|file| file.len() < KEY_BYTES as u64) {
            fs::remove_file(&path)?;
        }
        if !path.exists() {
            make_key(directory, &path)?;
        }
        let mut key = [0; KEY_BYTES];
        open_own(&path)?.read_exact(&mut key)?;
        Ok(Seal {
            directory: directory.to_owned(),
            key,
        })
    }

    /// The folder.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file in one step.
    pub(super) fn write(&self, name: &str, purpose: &[&str], content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.directory)?;
        file.write_all(MAGIC)?;
        file.write_all(&self.code(purpose, content).finalize().into_bytes())?;
        file.write_all(content)?;
        file.persist(self.directory.join(name))?;
        Ok(())
    }

    /// The content of a file that was written for this purpose.
    pub(super) fn read(&self, name: &str, purpose: &[&str]) -> Result<Vec<u8>, Unsealed> {
        let mut content = Vec::new();
        open_own(&self.directory.join(name))?.read_to_end(&mut content)?;
        let (head, body) = content.split_at_checked(HEADER).ok_or(Unsealed::Forged)?;
        let code = head.strip_prefix(MAGIC).ok_or(Unsealed::Forged)?;
        self.code(purpose, body)
            .verify_slice(code)
            .map_err(|_| Unsealed::Forged)?;
        content.drain(..HEADER);
        Ok(content)
    }

    fn code(&self, purpose: &[&str], content: &[u8]) -> Hmac<Sha256> {
        let mut code =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length is taken");
        // With its length, so that no two purposes look the same.
        for part in purpose {
            code.update(&(part.len() as u64).to_le_bytes());
            code.update(part.as_bytes());
        }
        code.update(content);
        code
    }
}

fn remove_leftovers(directory: &Path, now: SystemTime) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.map(|modified| now.duration_since(modified).unwrap_or_default());
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && age.is_ok_and(|age| age > TEMPORARY_AGE_MAX)
        {
            // What stays is removed at the next start.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn make_key(directory: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    // A temporary file is readable by its owner alone.
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(directory)?;
    file.write_all(&key)?;
    file.as_file().sync_data()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        // Another process may have been quicker.
        _ => Ok(()),
    }
}

/// Closes a folder to others; fails if it is not this user's.
#[cfg(unix)]
fn own(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let metadata = fs::metadata(directory)?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the folder belongs to another user"));
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn own(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens a file of this user that nobody else may write; follows no link.
#[cfg(unix)]
fn open_own(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    let metadata = file.metadata()?;
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if !metadata.is_file() || !ours || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "it is not a file that only this user can write",
        ));
    }
    Ok(file)
}

#[cfg(not(unix))]
fn open_own(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_changed_or_written_for_another_purpose_is_not_read() {
        let directory = tempfile::tempdir().expect("a folder");
        let folder = directory.path().join("code");
        let seal = Seal::open(&folder).expect("it opens");
        seal.write("a", &["code", "a"], b"content")
            .expect("written");
        assert_eq!(seal.read("a", &["code", "a"]).expect("read"), b"content");
        for purpose in [&["code", "b"][..], &["codea"], &["code", "a", ""]] {
            assert!(seal.read("a", purpose).is_err(), "{purpose:?}");
        }
        let written = fs::read(folder.join("a")).expect("read");
        for position in 0..written.len() {
            let mut changed = written.clone();
            changed[position] ^= 1;
            fs::write(folder.join("a"), changed).expect("written");
            assert!(seal.read("a", &["code", "a"]).is_err(), "at {position}");
        }
        for length in 0..written.len() {
            fs::write(folder.join("a"), &written[..length]).expect("written");
            assert!(seal.read("a", &["code", "a"]).is_err(), "cut at {length}");
        }
        fs::write(folder.join("a"), &written).expect("written");
        let again = Seal::open(&folder).expect("it opens again");
        assert!(again.read("a", &["code", "a"]).is_ok(), "the key is kept");
        fs::remove_file(folder.join(KEY)).expect("removed");
        let other = Seal::open(&folder).expect("it opens with a new key");
        assert!(other.read("a", &["code", "a"]).is_err());
    }

    // After a power cut the key was empty for good, and each start compiled all plugins again.
    #[test]
    fn a_key_that_lost_its_content_is_made_again() {
        let directory = tempfile::tempdir().expect("a folder");
        drop(Seal::open(directory.path()).expect("it opens"));
        fs::write(directory.path().join(KEY), b"").expect("cut");
        let seal = Seal::open(directory.path()).expect("it opens again");
        seal.write("a", &["code"], b"content").expect("written");
        let again = Seal::open(directory.path()).expect("it opens once more");
        assert_eq!(again.read("a", &["code"]).expect("read"), b"content");
    }

    #[test]
    fn what_a_killed_process_left_unfinished_is_removed() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = |name: &str| directory.path().join(name);
        let (old, young) = (SystemTime::now() - 2 * TEMPORARY_AGE_MAX, SystemTime::now());
        for (name, modified) in [(".tmpdead", old), (".tmplive", young), ("other", old)] {
            let file = File::create(path(name)).expect("made");
            file.set_modified(modified).expect("set");
        }
        Seal::open(directory.path()).expect("it opens");
        let there = [".tmpdead", ".tmplive", "other"].map(|name| path(name).exists());
        assert_eq!(there, [false, true, true]);
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_or_file_that_others_can_write_is_not_trusted() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let directory = tempfile::tempdir().expect("a folder");
        let folder = directory.path().join("code");
        let seal = Seal::open(&folder).expect("it opens");
        assert_eq!((mode(&folder), mode(&folder.join(KEY))), (0o700, 0o600));
        seal.write("a", &["code"], b"content").expect("written");
        fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o666)).expect("changed");
        assert!(seal.read("a", &["code"]).is_err());
        fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(seal.read("a", &["code"]).is_ok());
        fs::rename(folder.join("a"), folder.join("b")).expect("renamed");
        std::os::unix::fs::symlink("b", folder.join("a")).expect("linked");
        assert!(seal.read("a", &["code"]).is_err(), "a link");
        // Only root can give a folder away.
        if chown(&folder, Some(65534), None).is_ok() {
            let error = Seal::open(&folder).err().expect("refused");
            assert_eq!(error.to_string(), "the folder belongs to another user");
        }
    }
}
