//! The bytes of an entity record: type, key and all facets. Long values are in rows of their own.
//!
//! The encoding is little-endian and starts with a version byte. For a value stored elsewhere the
//! record has a hash of its bytes, by which it is checked when it is read. Each facet has its lane
//! and sequence, so the change index can be rebuilt from the records alone.

use std::sync::Arc;

use crate::index::Meta;
use crate::model::{FACETS_MAX, KEY_BYTES_MAX, Lane, Timestamp};

const VERSION: u8 = 1;
const DELETED: u8 = 1;
const VERSIONED: u8 = 2;
const IN_PARTS: u8 = 4;
/// The bytes that a record holds of a value in rows of its own, in addition to its length: the
/// number of rows and the hash.
pub(super) const PARTS_BYTES: usize = 2 + 8;

/// An entity record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Number of the type's name.
    pub(super) entity_type: u32,
    /// The entity's key.
    pub(super) key: &'a str,
    /// The facets.
    pub(super) facets: Vec<Row<'a>>,
}

/// A facet in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// The facet's metadata in the index.
    pub(super) meta: Meta,
    /// When it changed.
    pub(super) time: Timestamp,
    /// The value, or where it is.
    pub(super) value: Value<'a>,
}

/// Where the value of a facet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// Nowhere, because the facet is deleted.
    Deleted,
    /// In the record.
    Here(&'a [u8]),
    /// New; still to be written.
    New(Arc<str>),
    /// In rows of its own: the number of rows, the length of the value in bytes, and its hash.
    Parts(u16, u32, u64),
}

impl Value<'_> {
    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        match self {
            Value::Deleted => 0,
            Value::Here(bytes) => bytes.len(),
            Value::New(text) => text.len(),
            Value::Parts(_, length, _) => *length as usize,
        }
    }
}

impl Record<'_> {
    /// Encodes the record. A `New` value that belongs in rows of its own must have been turned into
    /// `Parts` before; any other value is stored in the record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend(self.entity_type.to_le_bytes());
        bytes.extend((self.key.len() as u16).to_le_bytes());
        bytes.extend(self.key.as_bytes());
        bytes.extend((self.facets.len() as u16).to_le_bytes());
        for Row { meta, time, value } in &self.facets {
            let flags = [
                (meta.deleted, DELETED),
                (meta.version().is_some(), VERSIONED),
                (matches!(value, Value::Parts(..)), IN_PARTS),
            ];
            bytes.extend(u32::from(meta.name).to_le_bytes());
            bytes.extend(u32::from(meta.owner).to_le_bytes());
            bytes.push(meta.lane.index() as u8);
            bytes.push(
                flags
                    .into_iter()
                    .filter(|flag| flag.0)
                    .map(|flag| flag.1)
                    .sum(),
            );
            bytes.extend(meta.version().unwrap_or(0).to_le_bytes());
            bytes.extend(meta.sequence.to_le_bytes());
            bytes.extend(time.0.to_le_bytes());
            bytes.extend(meta.hash.to_le_bytes());
            let here: &[u8] = match value {
                Value::Deleted => &[],
                Value::Here(value) => value,
                Value::New(value) => value.as_bytes(),
                Value::Parts(parts, len, hash) => {
                    bytes.extend(len.to_le_bytes());
                    bytes.extend(parts.to_le_bytes());
                    bytes.extend(hash.to_le_bytes());
                    continue;
                }
            };
            bytes.extend((here.len() as u32).to_le_bytes());
            bytes.extend(here);
        }
        bytes
    }
}

/// Decodes a record; `None` if the bytes are not one.
pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let mut rest = Rest(bytes);
    if u8::from_le_bytes(rest.take()?) != VERSION {
        return None;
    }
    let entity_type = u32::from_le_bytes(rest.take()?);
    let key_len = u16::from_le_bytes(rest.take()?);
    let key = std::str::from_utf8(rest.bytes(key_len.into())?).ok()?;
    let count = u16::from_le_bytes(rest.take()?);
    let mut facets = Vec::with_capacity(count.into());
    for _ in 0..count {
        facets.push(facet(&mut rest)?);
    }
    rest.0.is_empty().then_some(Record {
        entity_type,
        key,
        facets,
    })
}

fn facet<'a>(rest: &mut Rest<'a>) -> Option<Row<'a>> {
    let mut number = || u16::try_from(u32::from_le_bytes(rest.take()?)).ok();
    let (name, owner) = (number()?, number()?);
    let lane = *Lane::ALL.get(usize::from(u8::from_le_bytes(rest.take()?)))?;
    let flags = u8::from_le_bytes(rest.take()?);
    let version = u64::from_le_bytes(rest.take()?);
    let sequence = u64::from_le_bytes(rest.take()?);
    let time = Timestamp(u64::from_le_bytes(rest.take()?));
    let hash = u64::from_le_bytes(rest.take()?);
    let len = u32::from_le_bytes(rest.take()?);
    let deleted = flags & DELETED != 0;
    let value = match (deleted, flags & IN_PARTS != 0) {
        (true, _) => Value::Deleted,
        (false, true) => Value::Parts(
            u16::from_le_bytes(rest.take()?),
            len,
            u64::from_le_bytes(rest.take()?),
        ),
        (false, false) => Value::Here(rest.bytes(len as usize)?),
    };
    let version = (flags & VERSIONED != 0).then_some(version);
    Some(Row {
        meta: Meta::new(name, owner, sequence, hash, lane, deleted).with_version(version),
        time,
        value,
    })
}

/// The most bytes that [`head`] looks at.
pub(super) const HEAD_BYTES_MAX: usize = 1 + 4 + 2 + KEY_BYTES_MAX + 2 + 4 + 4 + 1 + 1;

/// The number of the type and the key of bytes that begin as a record does.
pub(super) fn head(bytes: &[u8]) -> Option<(u32, &str)> {
    let mut rest = Rest(bytes);
    if u8::from_le_bytes(rest.take()?) != VERSION {
        return None;
    }
    let entity_type = u32::from_le_bytes(rest.take()?);
    let key_len = usize::from(u16::from_le_bytes(rest.take()?));
    if !(1..=KEY_BYTES_MAX).contains(&key_len) {
        return None;
    }
    let key = rest.bytes(key_len)?;
    let count = usize::from(u16::from_le_bytes(rest.take()?));
    let (name, owner) = (rest.take()?, rest.take()?);
    let (lane, flags) = (
        u8::from_le_bytes(rest.take()?),
        u8::from_le_bytes(rest.take()?),
    );
    let fits = [
        entity_type,
        u32::from_le_bytes(name),
        u32::from_le_bytes(owner),
    ]
    .iter()
    .all(|number| u16::try_from(*number).is_ok());
    let begins = fits
        && (1..=FACETS_MAX).contains(&count)
        && usize::from(lane) < Lane::ALL.len()
        && flags <= DELETED | VERSIONED | IN_PARTS;
    Some((entity_type, std::str::from_utf8(key).ok()?)).filter(|_| begins)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(value: &'static str, parts: bool, deleted: bool, version: Option<u64>) -> Row<'static> {
        let meta = Meta::new(3, 9, 17, 99, Lane::Bulk, deleted).with_version(version);
        let value = match (deleted, parts) {
            (true, _) => Value::Deleted,
            (_, true) => Value::Parts(2, 40_000, 77),
            _ => Value::Here(value.as_bytes()),
        };
        Row {
            meta,
            time: Timestamp(5),
            value,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let facets = vec![
            row("{}", false, false, None),
            row("", true, false, Some(7)),
            row("", false, true, Some(0)),
        ];
        let record = Record {
            entity_type: 4,
            key: "lamp/7 \u{0}✨",
            facets,
        };
        let bytes = record.encode();
        let end = bytes.len().min(HEAD_BYTES_MAX);
        assert_eq!(head(&bytes[..end]), Some((4, record.key)));
        assert_eq!(decode(&bytes), Some(record));
    }

    proptest! {
        #[test]
        fn other_bytes_are_no_record_and_no_panic(bytes: Vec<u8>, cut in 0usize..64) {
            decode(&bytes);
            let record = Record { entity_type: 4, key: "k", facets: vec![row("{}", false, false, None)] }.encode();
            prop_assert_eq!(decode(&record[..cut.min(record.len() - 1)]), None);
        }
    }
}
