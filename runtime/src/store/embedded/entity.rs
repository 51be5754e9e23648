//! Writes an entity: its record, and separate rows for long values.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::sums::Rows;
use super::writer::fatal;
use crate::index::Meta;
use crate::model::Timestamp;
use crate::store::record::{self, Record, Row, Value};
use crate::store::{Error, keys};

/// Values longer than this, in bytes, get separate rows, so that a change of another facet does not
/// rewrite them.
const INLINE_MAX: usize = 4 * 1024;
/// A value of up to this length, in bytes, stays in the record, because a row of its own would hardly
/// make the record shorter.
const SPILL_MIN: usize = 64;

/// New values of one entity, by the number of the facet's name; `None` deletes.
pub(super) type Values = Vec<(u32, Option<Arc<str>>)>;

/// An entity whose record must be written.
pub(super) struct Touched {
    pub(super) ordinal: u32,
    /// Number of the type's name.
    pub(super) entity_type: u32,
    pub(super) key: Arc<str>,
    /// All facets as they will be stored.
    pub(super) facets: Vec<Meta>,
    /// New values, by the number of the facet's name; one for each facet.
    pub(super) values: Values,
}

/// Puts the record and the rows of its long values into `written`. Values that did not change are
/// copied from the stored record.
pub(super) fn write(
    db: &sled::Db,
    touched: Touched,
    now: Timestamp,
    written: &mut Rows,
) -> Result<(), Error> {
    let Touched {
        ordinal,
        entity_type,
        key,
        facets,
        values,
    } = touched;
    let stored = db.get(keys::entity(ordinal)).map_err(fatal)?;
    let damaged = || {
        Error::Damaged(format!(
            "the record of entity number {ordinal} cannot be read"
        ))
    };
    let old = match &stored {
        Some(bytes) => record::decode(bytes).ok_or_else(damaged)?.facets,
        None => Vec::new(),
    };
    // Pieces go with the value that they are of: when another follows it, and with its facet.
    for row in &old {
        if let Value::Parts(parts, ..) = row.value {
            let has = |name: u32| u32::from(row.meta.name) == name;
            let stays = facets.iter().any(|meta| meta.name == row.meta.name);
            if !stays || values.iter().any(|(name, _)| has(*name)) {
                let piece = |part| keys::part(ordinal, row.meta.sequence, part);
                (0..parts).for_each(|part| written.remove_piece(piece(part)));
            }
        }
    }
    let mut rows = Vec::with_capacity(facets.len());
    for meta in facets {
        let before = old.iter().find(|row| row.meta.name == meta.name);
        let new = values
            .iter()
            .find(|(name, _)| *name == u32::from(meta.name));
        let (time, value) = match (new, before) {
            (Some((_, Some(value))), _) => (now, Value::New(value.clone())),
            (Some((_, None)), _) => (now, Value::Deleted),
            (None, Some(before)) => (before.time, before.value.clone()),
            (None, None) => return Err(damaged()),
        };
        rows.push(Row { meta, time, value });
    }
    let mut record = Record {
        entity_type,
        key: &key,
        facets: rows,
    };
    let long = |row: &Row<'_>| matches!(&row.value, Value::New(value) if value.len() > INLINE_MAX);
    for at in 0..record.facets.len() {
        if long(&record.facets[at]) {
            spill(ordinal, &mut record.facets[at], written);
        }
    }
    let size = |row: &Row<'_>| match &row.value {
        Value::Here(value) => value.len(),
        Value::New(value) => value.len(),
        Value::Deleted | Value::Parts(..) => 0,
    };
    let mut bytes = record.encode();
    let mut length = bytes.len();
    while length > keys::ROW_BYTES_MAX {
        let Some(largest) = record
            .facets
            .iter_mut()
            .max_by_key(|row| size(row))
            .filter(|row| size(row) > SPILL_MIN)
        else {
            break;
        };
        length -= size(largest) - record::PARTS_BYTES;
        spill(ordinal, largest, written);
    }
    if length != bytes.len() {
        bytes = record.encode();
        debug_assert_eq!(length, bytes.len(), "what was spilled is accounted for");
    }
    written.swap(keys::entity(ordinal), stored.as_deref(), Some(bytes));
    Ok(())
}

/// Puts a long value into separate rows.
fn spill(ordinal: u32, row: &mut Row<'_>, written: &mut Rows) {
    let parts = {
        let value = match &row.value {
            Value::Here(value) => *value,
            Value::New(value) => value.as_bytes(),
            Value::Deleted | Value::Parts(..) => return,
        };
        let mut parts = 0;
        for piece in value.chunks(keys::ROW_BYTES_MAX) {
            written.put_piece(keys::part(ordinal, row.meta.sequence, parts), piece);
            parts += 1;
        }
        Value::Parts(parts, value.len() as u32, xxh3_64(value))
    };
    row.value = parts;
}
