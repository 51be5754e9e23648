//! Entry points for `tests/fuzz`: reading rows from bytes that Weir did not write. Compiled only
//! with the feature `fuzz`.

use std::cell::RefCell;

use super::{open, quarantine};
use crate::index::{ChannelId, Index};
use crate::model::Sequence;
use crate::store::{keys, record};

/// Decodes a record. One that decodes must encode and decode to the same record.
pub fn record(bytes: &[u8]) {
    if let Some(record) = record::decode(bytes) {
        assert_eq!(record::decode(&record.encode()), Some(record));
    }
}

/// Loads a store with these rows: kind, number, bytes. The keys are valid, because sled finds rows
/// by them.
pub fn load(rows: &[(u8, u8, &[u8])]) {
    thread_local! { static DB: RefCell<Option<sled::Db>> = const { RefCell::new(None) }; }
    let temporary = || {
        sled::Config::new()
            .temporary(true)
            .flush_every_ms(None)
            .open()
            .expect("a folder for a temporary store")
    };
    DB.with_borrow_mut(|db| {
        let db = db.get_or_insert_with(temporary);
        db.clear().expect("it can be emptied");
        for (kind, number, bytes) in rows {
            db.insert(key(*kind, *number), *bytes)
                .expect("it can be written");
        }
        // Any 32-bit number of ordinals is valid; 16 bits keep the index of this test small.
        let ordinals = db
            .get(keys::ORDINALS)
            .ok()
            .flatten()
            .map_or(0, |row| u16::from_le_bytes(keys::number_at(&row, 0)));
        db.insert(keys::ORDINALS, &u64::from(ordinals).to_le_bytes())
            .expect("it can be written");
        let mut index = Index::default();
        // Damaged rows make the load fail; otherwise there are no more entities than rows.
        if open::load(db, &mut index, 0).is_ok() {
            assert!(index.total() <= rows.len() as u64);
        }
        for source in 0..4 {
            let events = quarantine::read(db, source, Some(Sequence(0)), 10).unwrap_or_default();
            assert!(events.len() <= rows.len());
        }
    });
}

fn key(kind: u8, number: u8) -> Vec<u8> {
    let (channel, small) = (ChannelId(u16::from(number >> 6)), u32::from(number & 63));
    match kind % 13 {
        0 => keys::name(small),
        1 => keys::CEILING.to_vec(),
        2 => keys::ORDINALS.to_vec(),
        3 => keys::CLOCK.to_vec(),
        4 => keys::entity(small),
        5 => keys::part(small, 7, 0),
        6 => keys::channel(channel),
        7 => keys::page(channel, small),
        8 => keys::log(channel, small.into()),
        9 => keys::target_key(channel, small),
        10 => keys::refusal(channel, small),
        11 => keys::quarantine(u32::from(channel.0), (small / 4).into(), (small % 4) as u16),
        _ => keys::identities(small.into()),
    }
}
