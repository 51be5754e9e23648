//! Identities of events, by which a repeated event within the window is recognised, also after a
//! restart.
//!
//! On disk they are rows of entries in the order of the commits. An entry is an id and the content it
//! came with, or says that the id was forgotten. The window has a bounded number of entries; the
//! oldest rows leave it.

use std::collections::HashMap;
use std::collections::VecDeque;

use super::open::rows;
use super::sums::{Rows, Sums};
use crate::store::{Content, Error, Identity, keys};

/// The most entries: 1.5 h at 180 events a second, 25 s at 40,000.
const ENTRIES_MAX: usize = 1_000_000;
/// The first byte of a row. Rows of an earlier version have ids of 16 bytes and nothing else, so
/// their length is even.
const WITH_CONTENT: u8 = 1;
/// Bytes of an entry: the id and the content.
const ENTRY_BYTES: usize = 20;
/// The content of an id that a store of an earlier version remembered without one.
const UNKNOWN: Content = Content(0);
/// The content of an id that was forgotten.
const FORGOTTEN: Content = Content(1);

/// What the window knows about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recall {
    /// Its id is new, or was forgotten.
    New,
    /// Its id came before, with the same content.
    Repeated,
    /// Its id came before, with another content.
    Reused,
}

/// Identities of events within a bounded window.
#[derive(Default)]
pub(super) struct Identities {
    known: HashMap<Id, Known>,
    /// The rows with their numbers, as they are on disk.
    rows: VecDeque<(u64, Vec<u8>)>,
    entries: usize,
    next: u64,
}

/// An id in halves, which need no padding in the map.
type Id = [u64; 2];

#[derive(Clone, Copy)]
struct Known {
    content: Content,
    /// The number of entries in the window that have this id.
    entries: u32,
}

impl Identities {
    pub(super) fn load(db: &sled::Db, found: &mut Sums) -> Result<Identities, Error> {
        let mut identities = Identities::default();
        for row in rows(db, keys::IDENTITIES, found) {
            let (key, bytes) = row?;
            let number = u64::from_be_bytes(keys::number_at(&key, 1));
            for entry in decode(&bytes) {
                identities.add(entry);
                identities.entries += 1;
            }
            identities.rows.push_back((number, bytes.to_vec()));
            identities.next = number.saturating_add(1);
        }
        Ok(identities)
    }

    pub(super) fn recall(&self, identity: Identity) -> Recall {
        match self
            .known
            .get(&halves(identity.id))
            .map(|known| known.content)
        {
            None | Some(FORGOTTEN) => Recall::New,
            Some(UNKNOWN) => Recall::Repeated,
            Some(content) if content == identity.content => Recall::Repeated,
            Some(_) => Recall::Reused,
        }
    }

    /// Remembers an identity; [`Identities::write`] must follow.
    pub(super) fn add(&mut self, identity: Identity) {
        let known = self.known.entry(halves(identity.id)).or_insert(Known {
            content: identity.content,
            entries: 0,
        });
        known.content = identity.content;
        known.entries += 1;
    }

    /// Forgets an id. Returns the entry that says so; [`Identities::write`] must follow with it.
    pub(super) fn forget(&mut self, id: u128) -> Identity {
        let forgotten = Identity {
            id,
            content: FORGOTTEN,
        };
        self.add(forgotten);
        forgotten
    }

    /// Stages entries that were added, and the removal of rows that leave the window.
    pub(super) fn write(&mut self, entries: Vec<Identity>, written: &mut Rows) {
        for piece in entries.chunks((keys::ROW_BYTES_MAX - 1) / ENTRY_BYTES) {
            let row = encode(piece);
            written.swap(keys::identities(self.next), None, Some(row.clone()));
            self.rows.push_back((self.next, row));
            self.next += 1;
        }
        self.entries += entries.len();
        while self.entries > ENTRIES_MAX {
            let Some((number, row)) = self.rows.pop_front() else {
                return;
            };
            for entry in decode(&row) {
                self.leave(entry.id);
                self.entries -= 1;
            }
            written.swap(keys::identities(number), Some(&row), None);
        }
    }

    fn leave(&mut self, id: u128) {
        let id = halves(id);
        if let Some(known) = self.known.get_mut(&id) {
            known.entries = known.entries.saturating_sub(1);
            if known.entries == 0 {
                self.known.remove(&id);
            }
        }
    }
}

fn halves(id: u128) -> Id {
    [(id >> 64) as u64, id as u64]
}

fn encode(row: &[Identity]) -> Vec<u8> {
    let mut bytes = vec![WITH_CONTENT];
    for entry in row {
        bytes.extend(entry.id.to_le_bytes());
        bytes.extend(entry.content.0.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Vec<Identity> {
    let entry = |chunk: &[u8], content| Identity {
        id: u128::from_le_bytes(keys::number_at(chunk, 0)),
        content,
    };
    match bytes.split_first() {
        Some((&WITH_CONTENT, entries)) if entries.len() % ENTRY_BYTES == 0 => entries
            .chunks_exact(ENTRY_BYTES)
            .map(|chunk| {
                let content = u32::from_le_bytes(keys::number_at(chunk, 16));
                entry(chunk, Content(content))
            })
            .collect(),
        _ => bytes
            .chunks_exact(16)
            .map(|chunk| entry(chunk, UNKNOWN))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: u128, content: u32) -> Identity {
        Identity {
            id,
            content: Content(content),
        }
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written_also_of_an_earlier_version() {
        let row = [identity(7, 9), identity(u128::MAX, 2), identity(3, 1)];
        assert_eq!(decode(&encode(&row)), row);
        let earlier: Vec<u8> = [257u128, 2, 3, 4, 5]
            .iter()
            .flat_map(|id| id.to_le_bytes())
            .collect();
        let read = decode(&earlier);
        assert_eq!((read.len(), read[0].id, read[0].content), (5, 257, UNKNOWN));
    }

    #[test]
    fn an_id_leaves_the_window_with_its_last_entry() {
        let mut identities = Identities::default();
        let mut rows = Rows::default();
        let first = identity(1, 5);
        identities.add(first);
        identities.write(vec![first], &mut rows);
        assert_eq!(identities.recall(first), Recall::Repeated);
        assert_eq!(identities.recall(identity(1, 6)), Recall::Reused);
        let forgotten = identities.forget(1);
        assert_eq!(identities.recall(first), Recall::New);
        identities.add(first);
        identities.write(vec![forgotten, first], &mut rows);
        for number in 0..ENTRIES_MAX as u128 / 1000 {
            let many: Vec<_> = (0..1000)
                .map(|id| identity(10 + number * 1000 + id, 5))
                .collect();
            many.iter().for_each(|entry| identities.add(*entry));
            identities.write(many, &mut rows);
        }
        assert_eq!(
            (identities.recall(first), identities.known.len()),
            (Recall::New, ENTRIES_MAX)
        );
    }
}
