//! Quarantined events on disk: one JSON text per event, split into rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::open::rows;
use super::sums::{Rows, Sums};
use super::writer::fatal;
use super::{Shared, lock};
use crate::model::{Event, Failure, Lane, Payload, Sequence, Timestamp};
use crate::store::{Error, Pending, Quarantined, QuarantinedEvent, Shelf, keys};

/// The quarantine of one source.
pub(super) struct SourceShelf {
    pub(super) shared: Arc<Shared>,
    pub(super) source: Arc<str>,
}

impl SourceShelf {
    /// The number of the source's name; `None` if no event of it was ever kept.
    fn number(&self) -> Option<u32> {
        self.shared.index().names.find(&self.source)
    }
}

impl Shelf for SourceShelf {
    fn list(&self, after: Option<Sequence>, limit: usize) -> Result<Vec<QuarantinedEvent>, Error> {
        match self.number() {
            Some(source) => read(&self.shared.db, source, after, limit),
            None => Ok(Vec::new()),
        }
    }

    fn count(&self) -> u64 {
        let there = |source| lock(&self.shared.quarantine).get(&source).copied();
        self.number().and_then(there).unwrap_or(0)
    }

    fn remove(&self, sequences: &[Sequence]) -> Pending<usize> {
        let (source, sequences) = (self.source.clone(), sequences.to_vec());
        (self.shared).on_writer(move |writer| writer.unquarantine(&source, &sequences))
    }
}

/// A quarantined event as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Row {
    id: String,
    origin: String,
    event_type: String,
    subject: Option<String>,
    event_time: Option<String>,
    content_type: Option<String>,
    attributes: Vec<(String, String)>,
    text: Option<String>,
    binary: Option<Vec<u8>>,
    #[serde(default)]
    unread: bool,
    lane: Option<String>,
    code: String,
    message: String,
    plugin: Option<String>,
    time: u64,
}

impl Row {
    pub(super) fn encode(quarantined: Quarantined, now: Timestamp) -> Vec<u8> {
        let Event {
            id,
            origin,
            event_type,
            subject,
            time,
            content_type,
            attributes,
            data,
        } = quarantined.event;
        let (text, binary) = match data {
            Payload::Text(text) => (Some(text), None),
            Payload::Binary(bytes) => (None, Some(bytes)),
        };
        let Failure { code, message } = quarantined.failure;
        let (lane, plugin) = (
            quarantined.lane.map(|lane| lane.name().to_owned()),
            quarantined.plugin,
        );
        let (event_time, time) = (time, now.0);
        let row = Row {
            id,
            origin,
            event_type,
            subject,
            event_time,
            content_type,
            attributes,
            text,
            binary,
            unread: quarantined.unread,
            lane,
            code,
            message,
            plugin,
            time,
        };
        serde_json::to_vec(&row).unwrap_or_default()
    }

    fn decode(bytes: &[u8], sequence: Sequence) -> Option<QuarantinedEvent> {
        let row: Row = serde_json::from_slice(bytes).ok()?;
        let data = row
            .text
            .map(Payload::Text)
            .unwrap_or_else(|| Payload::Binary(row.binary.unwrap_or_default()));
        let event = Event {
            id: row.id,
            origin: row.origin,
            event_type: row.event_type,
            subject: row.subject,
            time: row.event_time,
            content_type: row.content_type,
            attributes: row.attributes,
            data,
        };
        let lane = row.lane.as_deref().and_then(Lane::parse);
        let failure = Failure {
            code: row.code,
            message: row.message,
        };
        let event = Quarantined {
            event,
            unread: row.unread,
            lane,
            failure,
            plugin: row.plugin,
        };
        Some(QuarantinedEvent {
            sequence,
            time: Timestamp(row.time),
            event,
        })
    }
}

/// Stages the rows of an event, or with `None` their removal, replacing those stored under its
/// sequence. Returns whether there were any.
pub(super) fn write(
    db: &sled::Db,
    source: u32,
    sequence: Sequence,
    text: Option<&[u8]>,
    written: &mut Rows,
) -> Result<bool, Error> {
    let mut there = 0;
    for key in db
        .scan_prefix(
            [
                keys::quarantine_of(source),
                sequence.0.to_be_bytes().to_vec(),
            ]
            .concat(),
        )
        .keys()
    {
        key.map_err(fatal)?;
        there += 1;
    }
    let mut pieces = text.unwrap_or_default().chunks(keys::ROW_BYTES_MAX);
    for part in 0.. {
        let piece = pieces.next();
        if piece.is_none() && part >= there {
            break;
        }
        written.set(
            db,
            keys::quarantine(source, sequence.0, part),
            piece.map(<[u8]>::to_vec),
        )?;
    }
    Ok(there > 0)
}

/// Quarantined events of a source, oldest first.
pub(super) fn read(
    db: &sled::Db,
    source: u32,
    after: Option<Sequence>,
    limit: usize,
) -> Result<Vec<QuarantinedEvent>, Error> {
    let from = keys::quarantine(
        source,
        after.map_or(0, |after| after.0.saturating_add(1)),
        0,
    );
    let prefix = keys::quarantine_of(source);
    let (mut events, mut current, mut bytes): (Vec<QuarantinedEvent>, Option<u64>, Vec<u8>) =
        (Vec::new(), None, Vec::new());
    let damaged = || Error::Damaged("a quarantined event cannot be read".into());
    for row in db.range(from..) {
        let (key, piece) = row.map_err(|error| Error::Damaged(error.to_string()))?;
        let sequence = u64::from_be_bytes(keys::number_at(&key, 5));
        if !key.starts_with(&prefix) {
            break;
        }
        if let Some(done) = current.filter(|current| *current != sequence) {
            events.push(Row::decode(&bytes, Sequence(done)).ok_or_else(damaged)?);
            bytes.clear();
            current = None;
            if events.len() == limit {
                break;
            }
        }
        current = Some(sequence);
        bytes.extend_from_slice(&piece);
    }
    if let Some(done) = current.filter(|_| events.len() < limit) {
        events.push(Row::decode(&bytes, Sequence(done)).ok_or_else(damaged)?);
    }
    Ok(events)
}

/// The number of quarantined events of each source, by the number of its name.
pub(super) fn count(db: &sled::Db, found: &mut Sums) -> Result<BTreeMap<u32, u64>, Error> {
    let mut counts = BTreeMap::new();
    for row in rows(db, keys::QUARANTINE, found) {
        let (key, _) = row?;
        if u16::from_be_bytes(keys::number_at(&key, 13)) == 0 {
            *counts
                .entry(u32::from_be_bytes(keys::number_at(&key, 1)))
                .or_default() += 1;
        }
    }
    Ok(counts)
}
