//! The witness: a file beside sled's that knows the last batch that was synced, and whether a sync
//! has failed after it.
//!
//! A tail of sled's log that cannot be read is cut off when sled opens, and what is left is whole
//! and older: nothing in it tells. The witness does. It is written after each sync and without one
//! of its own, so it is never ahead of what is durable; a power cut can only leave it behind, which
//! tells nothing and harms nothing.
//!
//! A sync that failed may leave in the page cache what is not on disk. The mark that says so lives
//! in that cache too: it is gone when the danger is, with the next start of the machine.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

/// Its name in the directory of the store.
pub(super) const NAME: &str = "witness";

/// The file, open.
pub(super) struct Witness {
    file: File,
    seen: Seen,
}

/// What it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The last batch that was synced.
    pub(super) batch: u64,
    /// A sync has failed since.
    pub(super) failed: bool,
}

/// The bit of the number that says that a sync has failed.
const FAILED: u64 = 1 << 63;

impl Witness {
    /// Opens the file and reads what it has seen; without a file, or with one that cannot be
    /// understood, it has seen nothing. Whoever removes it says: take the store as it is.
    pub(super) fn open(folder: &Path) -> Result<Witness> {
        let path = folder.join(NAME);
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let mut bytes = [0; 16];
        let seen = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        if seen.is_none() {
            // Its place on the disk is settled here, so that writing it later changes nothing but
            // these bytes.
            file.write_all_at(&encode(Seen::default()), 0)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
        }
        Ok(Witness {
            file,
            seen: seen.unwrap_or_default(),
        })
    }

    /// What it has seen.
    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// That batch is synced.
    pub(super) fn saw(&mut self, batch: u64) {
        self.write(Seen {
            batch,
            failed: false,
        });
    }

    /// Something could not be written or synced.
    pub(super) fn saw_failure(&mut self) {
        self.write(Seen {
            failed: true,
            ..self.seen
        });
    }

    /// Whether this can be written does not matter to what is stored: it then stays behind.
    fn write(&mut self, seen: Seen) {
        self.seen = seen;
        let _ = self.file.write_all_at(&encode(seen), 0);
    }

    /// Makes what it has seen durable; to be called when the store is closed.
    pub(super) fn sync(&self) {
        let _ = self.file.sync_data();
    }
}

fn encode(seen: Seen) -> [u8; 16] {
    let number = (seen.batch | if seen.failed { FAILED } else { 0 }).to_le_bytes();
    let check = xxh3_64(&number).to_le_bytes();
    std::array::from_fn(|at| if at < 8 { number[at] } else { check[at - 8] })
}

fn decode(bytes: [u8; 16]) -> Option<Seen> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    let seen = Seen {
        batch: number & !FAILED,
        failed: number & FAILED != 0,
    };
    (encode(seen) == bytes).then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_last_batch_and_nothing_that_it_cannot_understand() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Witness::open(folder.path()).unwrap();
        let seen = |batch| Seen {
            batch,
            failed: false,
        };
        assert_eq!(open().seen(), seen(0));
        open().saw(17);
        open().saw(18);
        assert_eq!(open().seen(), seen(18));
        open().saw_failure();
        assert_eq!(
            open().seen(),
            Seen {
                batch: 18,
                failed: true
            }
        );
        open().saw(19);
        assert_eq!(open().seen(), seen(19));
        std::fs::write(folder.path().join(NAME), [7; 16]).unwrap();
        assert_eq!(open().seen(), seen(0));
        std::fs::write(folder.path().join(NAME), [7; 3]).unwrap();
        assert_eq!(open().seen(), seen(0));
        open().saw(20);
        assert_eq!(open().seen(), seen(20));
    }
}
