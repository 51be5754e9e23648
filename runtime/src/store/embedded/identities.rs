//! Identities of events, by which a repeated event within the window is recognised, also after a
//! restart.

use std::collections::{HashSet, VecDeque};

use super::open::rows;
use super::sums::{Rows, Sums};
use crate::store::{Error, keys};

/// The most identities remembered: 1.5 h at 180 events a second, 25 s at 40,000.
const IDENTITIES_MAX: usize = 1_000_000;

/// Identities of events within a bounded window; on disk, one row per commit.
#[derive(Default)]
pub(super) struct Identities {
    known: HashSet<u128>,
    rows: VecDeque<(u64, Vec<u128>)>,
    next: u64,
}

impl Identities {
    pub(super) fn load(db: &sled::Db, found: &mut Sums) -> Result<Identities, Error> {
        let mut identities = Identities::default();
        for row in rows(db, keys::IDENTITIES, found) {
            let (key, bytes) = row?;
            let number = u64::from_be_bytes(keys::number_at(&key, 1));
            let row: Vec<u128> = bytes
                .chunks_exact(16)
                .map(|chunk| u128::from_le_bytes(keys::number_at(chunk, 0)))
                .collect();
            identities.known.extend(&row);
            identities.rows.push_back((number, row));
            identities.next = number.saturating_add(1);
        }
        Ok(identities)
    }

    pub(super) fn knows(&self, identity: u128) -> bool {
        self.known.contains(&identity)
    }

    pub(super) fn add(&mut self, identity: u128) {
        self.known.insert(identity);
    }

    pub(super) fn write(&mut self, row: Vec<u128>, written: &mut Rows) {
        let bytes = |row: &[u128]| -> Vec<u8> {
            row.iter()
                .flat_map(|identity| identity.to_le_bytes())
                .collect()
        };
        for piece in row.chunks(keys::ROW_BYTES_MAX / 16) {
            written.swap(keys::identities(self.next), None, Some(bytes(piece)));
            self.rows.push_back((self.next, piece.to_vec()));
            self.next += 1;
        }
        while self.known.len() > IDENTITIES_MAX {
            let Some((number, row)) = self.rows.pop_front() else {
                return;
            };
            for identity in &row {
                self.known.remove(identity);
            }
            written.swap(keys::identities(number), Some(&bytes(&row)), None);
        }
    }
}
