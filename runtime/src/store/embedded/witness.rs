//! The witness: a file next to sled's that records the last synced batch, and whether a sync has
//! failed after it.
//!
//! When sled opens, it cuts off a tail of its log that it cannot read, and nothing in the
//! remaining, older state shows the loss. The witness shows it. It is written after each sync and
//! is not synced itself, so it is never ahead of the durable state; after a power cut it can only
//! be behind, which is harmless.
//!
//! A failed sync may leave pages in the page cache that are not on disk. The mark of the failure is
//! in the page cache too: a restart of the machine removes both the danger and the mark.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

/// Its name in the directory of the store.
pub(super) const NAME: &str = "witness";

/// The open file, with its content.
pub(super) struct Witness {
    file: File,
    seen: Seen,
}

/// The content of the witness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The last synced batch.
    pub(super) batch: u64,
    /// Whether a sync has failed since.
    pub(super) failed: bool,
}

/// The bit of the stored number that marks a failed sync.
const FAILED: u64 = 1 << 63;

impl Witness {
    /// Opens the file and reads it. If it is missing or damaged, it counts as having seen nothing,
    /// so an operator who removes it accepts the store as it is.
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
            // Allocate its space on disk now, so that later writes change only these bytes.
            file.write_all_at(&encode(Seen::default()), 0)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
        }
        Ok(Witness {
            file,
            seen: seen.unwrap_or_default(),
        })
    }

    /// The content as read or last written.
    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// Records a synced batch.
    pub(super) fn saw(&mut self, batch: u64) {
        self.write(Seen {
            batch,
            failed: false,
        });
    }

    /// Records a failed write or sync.
    pub(super) fn saw_failure(&mut self) {
        self.write(Seen {
            failed: true,
            ..self.seen
        });
    }

    /// A failure is ignored, because a witness that is behind does no harm.
    fn write(&mut self, seen: Seen) {
        self.seen = seen;
        let _ = self.file.write_all_at(&encode(seen), 0);
    }

    /// Makes the witness durable. Call this when the store is closed.
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
