//! The one door through which a file is read whose path somebody has written: configuration,
//! includes, secrets, components, cases.
//!
//! Such a path may lead to a FIFO that nobody writes to, to a device without an end, to a sparse file
//! of terabytes, or to a file system that hangs. Therefore the kind and the size of a file are
//! checked before its first byte is read, no more than the stated number of bytes is read, and no
//! caller waits longer than [`WAIT_MAX`].

mod trail;

use std::collections::BTreeSet;
use std::fs::{File, FileType, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::sync;
pub(crate) use trail::trail;

/// How long a caller waits for a file. A local file takes milliseconds; a network file system that
/// has lost its server takes for ever, and with it the reload that reads the file.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Files for which a thread still waits although its caller has given up. A path is in it once, so the
/// number of such threads is bounded by the number of paths.
static GIVEN_UP: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Reads a regular file of at most `bytes_max` bytes. Blocking, for 5 s at most.
///
/// # Errors
/// The reason as a phrase about the file ("it is a FIFO, not a regular file"): it is not there or
/// may not be read, is not a regular file, is too long, or does not arrive in time.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    in_time(path, WAIT_MAX, move |path| {
        let (file, length) = open(path, bytes_max)?;
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        // A file may grow while it is read, and those of `/proc` have no length at all.
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > bytes_max {
            true => Err(too_long(bytes.len() as u64, bytes_max)),
            false => Ok(bytes),
        }
    })
}

/// The same for text.
///
/// # Errors
/// As [`read`], and if the text is not UTF-8.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        io::Error::new(
            ErrorKind::InvalidData,
            format!("it is not valid UTF-8 at byte {valid}"),
        )
    })
}

/// The names of the files and folders in a folder, in no order. A name that is not UTF-8 is converted
/// lossily. Blocking, for 5 s at most.
///
/// # Errors
/// The folder is not there, may not be read, or does not arrive in time.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    in_time(folder, WAIT_MAX, |folder| {
        let name = |entry: io::Result<std::fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        std::fs::read_dir(folder)?.map(name).collect()
    })
}

/// The path with all links followed. Blocking, for 5 s at most.
///
/// # Errors
/// A part of the path is not there, may not be read, or does not arrive in time.
pub(crate) fn real(path: &Path) -> io::Result<PathBuf> {
    in_time(path, WAIT_MAX, Path::canonicalize)
}

/// Opens a regular file and returns it with its length in bytes. The kind is checked before the file
/// is opened, because opening a FIFO waits and opening a device may do something, and again
/// afterwards, because the path may lead elsewhere by then.
fn open(path: &Path, bytes_max: u64) -> io::Result<(File, u64)> {
    regular(&std::fs::metadata(path)?, bytes_max)?;
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
    let length = regular(&file.metadata()?, bytes_max)?;
    Ok((file, length))
}

/// The length of a regular file.
fn regular(metadata: &Metadata, bytes_max: u64) -> io::Result<u64> {
    if let Some(kind) = special(metadata.file_type()) {
        let what = format!("it is {kind}, not a regular file");
        return Err(io::Error::new(ErrorKind::InvalidInput, what));
    }
    match metadata.len() {
        length if length > bytes_max => Err(too_long(length, bytes_max)),
        length => Ok(length),
    }
}

fn special(kind: FileType) -> Option<&'static str> {
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a folder")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

fn too_long(bytes: u64, bytes_max: u64) -> io::Error {
    let what = format!("it has {}, the limit is {}", size(bytes), size(bytes_max));
    io::Error::new(ErrorKind::FileTooLarge, what)
}

/// A number of bytes for people, rounded up, so that what is over a limit also looks like it.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// Does `work` on a thread of its own and waits for it for at most `wait_max`. A thread cannot be
/// stopped while it waits for the system: it then remains until the system answers, and until then
/// the same file is rejected at once.
fn in_time<T: Send + 'static>(
    path: &Path,
    wait_max: Duration,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if sync::lock(&GIVEN_UP).contains(path) {
        return Err(slow());
    }
    // Without a buffer, so that the thread knows whether its result was received.
    let (done, result) = mpsc::sync_channel(0);
    let theirs = path.to_owned();
    std::thread::Builder::new()
        .name("weir-file".to_owned())
        .spawn(move || {
            if done.send(work(&theirs)).is_err() {
                sync::lock(&GIVEN_UP).remove(&theirs);
            }
        })?;
    match result.recv_timeout(wait_max) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // The thread removes the path after `result` is dropped, so after it was inserted.
            sync::lock(&GIVEN_UP).insert(path.to_owned());
            Err(slow())
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("the thread that read it panicked"))
        }
    }
}

fn slow() -> io::Error {
    let what = format!(
        "its file system does not answer within {} s",
        WAIT_MAX.as_secs()
    );
    io::Error::new(ErrorKind::TimedOut, what)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    fn why(path: &Path) -> String {
        let started = Instant::now();
        let error = read(path, 10).unwrap_err();
        assert!(started.elapsed() < WAIT_MAX, "it waited for the file");
        error.to_string()
    }

    // A component that was /dev/zero or a sparse file filled the memory before its size was looked at,
    // and a FIFO among the included files stopped the reload for good.
    #[test]
    fn what_is_no_regular_file_of_the_allowed_size_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), 0o600.into()).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink(at("fifo"), at("link")).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        File::create(at("sparse"))
            .unwrap()
            .set_len(5 << 30)
            .unwrap();

        assert_eq!(why(&at("fifo")), "it is a FIFO, not a regular file");
        assert_eq!(why(&at("link")), "it is a FIFO, not a regular file");
        assert_eq!(why(&at("zero")), "it is a device, not a regular file");
        assert_eq!(why(&at("socket")), "it is a socket, not a regular file");
        assert_eq!(why(folder.path()), "it is a folder, not a regular file");
        assert_eq!(why(&at("sparse")), "it has 5120 MiB, the limit is 10 bytes");
        assert!(why(&at("nowhere")).starts_with("No such file or directory"));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!(read_text(&path, 10).unwrap(), "0123456789");
        let error = read(&path, 9).unwrap_err().to_string();
        assert_eq!(error, "it has 10 bytes, the limit is 9 bytes");
        // It has no length before it is read.
        let error = read(Path::new("/proc/self/maps"), 100).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it has 101 bytes, the limit is 100 bytes"
        );
        std::fs::write(&path, b"ab\xff").unwrap();
        let error = read_text(&path, 10).unwrap_err().to_string();
        assert_eq!(error, "it is not valid UTF-8 at byte 2");
    }

    #[test]
    fn a_file_system_that_hangs_stops_neither_its_caller_nor_other_files() {
        let path = Path::new("/a/share/that/hangs");
        let (answer, system) = mpsc::channel::<()>();
        let hang = move |_: &Path| {
            let _ = system.recv();
            Ok(())
        };
        let error = in_time(path, Duration::from_millis(20), hang).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let again = in_time(path, WAIT_MAX, |_| Ok(())).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::TimedOut, "no second thread waits");
        in_time(Path::new("/another"), WAIT_MAX, |_| Ok(())).expect("another file");

        answer.send(()).unwrap();
        while sync::lock(&GIVEN_UP).contains(path) {
            std::thread::yield_now();
        }
        in_time(path, WAIT_MAX, |_| Ok(())).expect("the share answers again");
    }
}
