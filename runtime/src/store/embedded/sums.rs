//! Checksums of the whole store: for each kind of row, their number and the sum of their hashes, in
//! a row that every batch updates.
//!
//! sled checks what it reads, but its recovery silently drops what it cannot read: a page reverts
//! to an older state, or the tail of the log is cut off. Opening reads all rows anyway, so it adds
//! them up again and compares. The sums do not depend on the order of the rows, so a change costs
//! two hashes: of the row before and after. Pieces of long values are not included, because opening
//! does not read them; the record of their entity has their checksum.

use hashbrown::HashMap;
use sled::Batch;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::writer::fatal;
use crate::store::{Error, keys};

/// The kinds of rows by the first byte of their keys, with their names for error messages.
const KINDS: [(u8, &str); 10] = [
    (b'M', "figures of the store"),
    (b'N', "names"),
    (b'E', "entities"),
    (b'C', "channels"),
    (b'B', "deliveries of channels"),
    (b'L', "recent deliveries"),
    (b'K', "keys at targets"),
    (b'R', "refused entities"),
    (b'Q', "quarantined events"),
    (b'I', "identities of events"),
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hash: u64,
}

/// The number of the last batch, and a sum for each kind of row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Rises by one with each batch.
    pub(super) batch: u64,
    kinds: [Sum; KINDS.len()],
}

/// The index of a row's kind and the row's hash; `None` if the sums do not include it.
fn hash(key: &[u8], value: &[u8]) -> Option<(usize, u64)> {
    let kind = KINDS
        .iter()
        .position(|(kind, _)| key.first() == Some(kind))?;
    // A restore writes its mark beside the rows of the backup, whose sums it takes over.
    let left_out = [keys::FORMAT, keys::SUMS, keys::RESTORED].contains(&key);
    (!left_out).then(|| (kind, xxh3_64_with_seed(value, xxh3_64(key))))
}

impl Sums {
    /// Adds a row.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        if let Some((kind, hash)) = hash(key, value) {
            let sum = &mut self.kinds[kind];
            (sum.rows, sum.hash) = (sum.rows.wrapping_add(1), sum.hash.wrapping_add(hash));
        }
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        if let Some((kind, hash)) = hash(key, value) {
            let sum = &mut self.kinds[kind];
            (sum.rows, sum.hash) = (sum.rows.wrapping_sub(1), sum.hash.wrapping_sub(hash));
        }
    }

    /// Adds the changes of one batch, and counts the batch.
    pub(super) fn advance(&mut self, change: &Sums) {
        self.batch += 1;
        self.include(change);
    }

    /// Adds other sums, without counting a batch.
    pub(super) fn include(&mut self, change: &Sums) {
        for (sum, change) in self.kinds.iter_mut().zip(&change.kinds) {
            (sum.rows, sum.hash) = (
                sum.rows.wrapping_add(change.rows),
                sum.hash.wrapping_add(change.hash),
            );
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let words = self.kinds.iter().flat_map(|sum| [sum.rows, sum.hash]);
        let mut bytes: Vec<u8> = std::iter::once(self.batch)
            .chain(words)
            .flat_map(u64::to_le_bytes)
            .collect();
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Decodes the row of sums; `None` if the bytes are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Sums> {
        let (words, check) = bytes.split_last_chunk()?;
        if words.len() != (1 + 2 * KINDS.len()) * 8 || xxh3_64(words) != u64::from_le_bytes(*check)
        {
            return None;
        }
        let word = |at: usize| u64::from_le_bytes(keys::number_at(words, at * 8));
        let kinds = std::array::from_fn(|kind| Sum {
            rows: word(1 + 2 * kind),
            hash: word(2 + 2 * kind),
        });
        Some(Sums {
            batch: word(0),
            kinds,
        })
    }

    /// A sentence on how the rows that were found differ from those that were written; `None` if
    /// they agree.
    pub(super) fn differs_from(&self, found: &Sums) -> Option<String> {
        let wrong: Vec<String> = (KINDS.iter().zip(self.kinds.iter().zip(&found.kinds)))
            .filter(|(_, (written, found))| written != found)
            .map(|((_, name), (written, found))| match written.rows {
                rows if rows == found.rows => {
                    format!("{name} ({rows} rows, some of them changed)")
                }
                rows => format!("{name} ({} rows found, {rows} written)", found.rows),
            })
            .collect();
        (!wrong.is_empty()).then(|| {
            format!(
                "these rows differ from what was written: {}",
                wrong.join(", ")
            )
        })
    }
}

/// A row to be written, by key; `None` removes it.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

/// Rows to be written together, with their effect on the sums.
#[derive(Default)]
pub(super) struct Rows {
    writes: Vec<Write>,
    change: Sums,
    /// The rows that [`Rows::set`] has staged, so that a later one with the same key replaces it
    /// correctly.
    staged: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Rows {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Puts or removes a row whose stored value the caller knows. At most once per key and batch.
    pub(super) fn swap(&mut self, key: Vec<u8>, before: Option<&[u8]>, after: Option<Vec<u8>>) {
        if let Some(before) = before {
            self.change.subtract(&key, before);
        }
        if let Some(after) = &after {
            self.change.add(&key, after);
        }
        self.writes.push((key, after));
    }

    /// Puts or removes a row whatever its stored value. Writes nothing if the stored value is the
    /// same.
    pub(super) fn set(
        &mut self,
        db: &sled::Db,
        key: Vec<u8>,
        after: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        let stored;
        let before = match self.staged.get(&key) {
            Some(staged) => staged.clone(),
            None => {
                stored = db.get(&key).map_err(fatal)?;
                stored.map(|stored| stored.to_vec())
            }
        };
        if before != after {
            self.staged.insert(key.clone(), after.clone());
            self.swap(key, before.as_deref(), after);
        }
        Ok(())
    }

    /// Puts a piece of a long value, whose checksum is in its entity's record.
    pub(super) fn put_piece(&mut self, key: Vec<u8>, piece: &[u8]) {
        self.writes.push((key, Some(piece.to_vec())));
    }

    /// Removes a piece of a long value.
    pub(super) fn remove_piece(&mut self, key: Vec<u8>) {
        self.writes.push((key, None));
    }

    /// The rows, including the row of sums after them; `sums` is advanced to the same state.
    pub(super) fn seal(mut self, sums: &mut Sums) -> Vec<Write> {
        sums.advance(&self.change);
        self.writes.push((keys::SUMS.to_vec(), Some(sums.encode())));
        self.writes
    }
}

/// Rows as sled takes them, together or not at all.
pub(super) fn batch(rows: Vec<Write>) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: &[(&str, &str)]) -> Sums {
        let mut sums = Sums::default();
        rows.iter()
            .for_each(|(key, value)| sums.add(key.as_bytes(), value.as_bytes()));
        sums
    }

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let written = sums(&[("E1", "lamp"), ("E2", "vase"), ("Cshop", "web")]);
        assert_eq!(
            written.differs_from(&sums(&[
                ("Cshop", "web"),
                ("E2", "vase"),
                ("E1", "lamp"),
                ("P1", "a piece")
            ])),
            None
        );
        for (rows, words) in [
            (
                &[("E1", "lamp"), ("Cshop", "web")][..],
                "entities (1 rows found, 2 written)",
            ),
            (
                &[("E1", "vase"), ("E2", "lamp"), ("Cshop", "web")],
                "entities (2 rows, some of them changed)",
            ),
            (
                &[("E1", "lamp"), ("E2", "vase"), ("Cshop", "wef")],
                "channels (1 rows, some of them changed)",
            ),
        ] {
            let why = written.differs_from(&sums(rows)).unwrap();
            assert!(why.ends_with(words), "{why}");
        }
    }

    #[test]
    fn rows_that_change_in_one_batch_follow_on_each_other() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let mut sums = Sums::default();
        for steps in [
            &[Some("1"), Some("2")][..],
            &[None, Some("3"), Some("3")],
            &[None],
        ] {
            let mut rows = Rows::default();
            for step in steps {
                rows.set(
                    &db,
                    b"Qone".to_vec(),
                    step.map(|value| value.as_bytes().to_vec()),
                )
                .unwrap();
            }
            db.apply_batch(batch(rows.seal(&mut sums))).unwrap();
            let mut found = Sums::default();
            db.iter()
                .flatten()
                .for_each(|(key, value)| found.add(&key, &value));
            assert_eq!(sums.differs_from(&found), None, "after {steps:?}");
            assert_eq!(
                Sums::decode(&db.get(keys::SUMS).unwrap().unwrap()),
                Some(sums.clone())
            );
        }
        assert_eq!(sums.batch, 3);
    }

    #[test]
    fn a_row_of_sums_with_a_flipped_bit_is_none() {
        let bytes = sums(&[("E1", "lamp")]).encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Sums::decode(&flipped), None);
        }
    }
}
