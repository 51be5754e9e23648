//! The witness: a file beside sled's that knows the last batch that was synced.
//!
//! A tail of sled's log that cannot be read is cut off when sled opens, and what is left is whole and older: nothing in it tells. The
//! witness does. It is written after each sync and without one of its own, so it is never ahead of what is durable; a power
//! cut can only leave it behind, which tells nothing and harms nothing.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

/// Its name in the directory of the store.
pub(super) const NAME: &str = "witness";

/// The file, open.
pub(super) struct Witness(File);

impl Witness {
    /// Opens the file and reads the number of the batch it has seen; without a file, or with one that cannot be understood, it has seen
    /// none. Whoever removes it says: take the store as it is.
    pub(super) fn open(folder: &Path) -> Result<(Witness, u64)> {
        let path = folder.join(NAME);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = [0; 16];
        let seen = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        if seen.is_none() {
            // Its place on the disk is settled here, so that writing it later changes nothing but these bytes.
            file.write_all_at(&encode(0), 0)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()?;
        }
        Ok((Witness(file), seen.unwrap_or(0)))
    }

    /// That batch is synced. Whether this can be written does not matter to what is stored: it then stays behind.
    pub(super) fn saw(&self, batch: u64) {
        let _ = self.0.write_all_at(&encode(batch), 0);
    }

    /// Makes what it has seen durable; to be called when the store is closed.
    pub(super) fn sync(&self) {
        let _ = self.0.sync_data();
    }
}

fn encode(batch: u64) -> [u8; 16] {
    let (number, check) = (batch.to_le_bytes(), xxh3_64(&batch.to_le_bytes()).to_le_bytes());
    std::array::from_fn(|at| if at < 8 { number[at] } else { check[at - 8] })
}

fn decode(bytes: [u8; 16]) -> Option<u64> {
    let batch = u64::from_le_bytes(*bytes.first_chunk()?);
    (encode(batch) == bytes).then_some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_remembers_the_last_batch_and_nothing_that_it_cannot_understand() {
        let folder = tempfile::tempdir().unwrap();
        let seen = || Witness::open(folder.path()).unwrap();
        assert_eq!(seen().1, 0);
        seen().0.saw(17);
        seen().0.saw(18);
        assert_eq!(seen().1, 18);
        std::fs::write(folder.path().join(NAME), [7; 16]).unwrap();
        assert_eq!(seen().1, 0);
        std::fs::write(folder.path().join(NAME), [7; 3]).unwrap();
        assert_eq!(seen().1, 0);
        seen().0.saw(19);
        assert_eq!(seen().1, 19);
    }
}
