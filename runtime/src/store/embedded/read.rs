//! Reads entities: from the cache of readings, else from their rows.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::Shared;
use super::readings::Mark;
use crate::model::{Entity, EntityId, Facet, Ordinal, Sequence};
use crate::store::record::{self, Value};
use crate::store::{Error, keys};
use crate::sync::unpoisoned;

/// How often to try to read an entity whose record changes while its long values are being read.
const READ_TRIES: usize = 8;

/// The result of reading one entity.
enum Reading {
    There(Arc<Entity>),
    Forgotten,
    /// It has more bytes than wanted. Its long values were not read.
    TooLarge,
}

impl Shared {
    /// Entities as they are now, the first ones that have `bytes_max` bytes together; `None` for one
    /// that has been forgotten.
    pub(super) fn read(
        &self,
        ordinals: &[Ordinal],
        bytes_max: usize,
    ) -> Result<Vec<Option<Arc<Entity>>>, Error> {
        let marks: Vec<Option<Mark>> = {
            let index = self.index();
            ordinals
                .iter()
                .map(|ordinal| {
                    index
                        .entry(ordinal.0)
                        .map(|entry| Mark::of(entry.facets.iter()))
                })
                .collect()
        };
        let (mut entities, mut bytes) = (Vec::with_capacity(ordinals.len()), 0);
        for (ordinal, mark) in ordinals.iter().zip(marks) {
            let cached = mark.and_then(|mark| self.readings.get(ordinal.0, mark));
            let left = bytes_max - bytes;
            let read = match cached {
                Some(entity) => Reading::There(entity),
                None => self.read_one(*ordinal, left)?,
            };
            match read {
                Reading::There(entity) if entity.bytes() <= left => {
                    bytes += entity.bytes();
                    entities.push(Some(entity));
                }
                Reading::There(_) | Reading::TooLarge => break,
                Reading::Forgotten => entities.push(None),
            }
        }
        Ok(entities)
    }

    /// Reads one entity, if its values have at most `bytes_max` bytes, and caches it for the other channels.
    fn read_one(&self, ordinal: Ordinal, bytes_max: usize) -> Result<Reading, Error> {
        let damaged = || {
            Error::Damaged(format!(
                "the record of entity number {} cannot be read",
                ordinal.0
            ))
        };
        let names = unpoisoned(self.names.read());
        for _ in 0..READ_TRIES {
            let bytes = self
                .db
                .get(keys::entity(ordinal.0))
                .map_err(|error| of_sled(ordinal, &error))?;
            let Some(bytes) = bytes else {
                return Ok(Reading::Forgotten);
            };
            let record = record::decode(&bytes).ok_or_else(damaged)?;
            let length: usize = record.facets.iter().map(|row| row.value.len()).sum();
            if length > bytes_max {
                return Ok(Reading::TooLarge);
            }
            // Long values are in separate rows and sled has no snapshots, so a missing one means
            // that the record has changed.
            let Some(values) = self.values(ordinal, &record)? else {
                continue;
            };
            let mark = Mark::of(record.facets.iter().map(|row| &row.meta));
            let name = |number: u32| {
                let name = names.get(number as usize).cloned().flatten();
                name.ok_or_else(damaged)
            };
            let mut facets = Vec::with_capacity(record.facets.len());
            for (row, value) in record.facets.iter().zip(values) {
                let (name, owner, meta) = (
                    name(row.meta.name.into())?,
                    name(row.meta.owner.into())?,
                    row.meta,
                );
                facets.push(Facet {
                    name,
                    owner,
                    version: meta.version(),
                    sequence: Sequence(meta.sequence),
                    time: row.time,
                    value,
                });
            }
            facets.sort_by(|a, b| a.name.cmp(&b.name));
            let id = EntityId {
                entity_type: name(record.entity_type)?,
                key: record.key.into(),
            };
            let entity = Arc::new(Entity { id, facets });
            self.readings.put(ordinal.0, mark, &entity);
            return Ok(Reading::There(entity));
        }
        Err(damaged())
    }

    /// The values of a record in the order of its facets; `None` if a piece of a long value is
    /// missing.
    fn values(
        &self,
        ordinal: Ordinal,
        record: &record::Record<'_>,
    ) -> Result<Option<Vec<Option<Arc<str>>>>, Error> {
        let mut values = Vec::with_capacity(record.facets.len());
        for row in &record.facets {
            let text = match &row.value {
                Value::Deleted => None,
                Value::New(value) => Some(value.clone()),
                Value::Here(bytes) => Some(Arc::from(text(bytes)?)),
                Value::Parts(parts, len, hash) => {
                    let mut whole = Vec::with_capacity(*len as usize);
                    for part in 0..*parts {
                        let key = keys::part(ordinal.0, row.meta.sequence, part);
                        let part = self.db.get(key).map_err(|error| of_sled(ordinal, &error))?;
                        let Some(part) = part else { return Ok(None) };
                        whole.extend_from_slice(&part);
                    }
                    if xxh3_64(&whole) != *hash {
                        return Err(Error::Damaged(format!(
                            "a long value of entity number {} differs from what was written",
                            ordinal.0
                        )));
                    }
                    Some(Arc::from(text(&whole)?))
                }
            };
            values.push(text);
        }
        Ok(Some(values))
    }
}

fn of_sled(ordinal: Ordinal, error: &sled::Error) -> Error {
    Error::Damaged(format!(
        "entity number {} cannot be read: sled reports: {error}",
        ordinal.0
    ))
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Damaged("a value is not text".into()))
}
