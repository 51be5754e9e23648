//! Quarantined events on disk: one text per event, split into rows. The text is two lines of JSON:
//! the heading, which is all that the writer needs, and the event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let there = |source| {
            lock(&self.shared.quarantine)
                .get(&source)
                .map(|known| known.events)
        };
        self.number().and_then(there).unwrap_or(0)
    }

    fn remove(&self, sequences: &[Sequence]) -> Pending<usize> {
        self.unquarantine(sequences, false)
    }

    fn discard(&self, sequences: &[Sequence]) -> Pending<usize> {
        self.unquarantine(sequences, true)
    }
}

impl SourceShelf {
    fn unquarantine(&self, sequences: &[Sequence], forget: bool) -> Pending<usize> {
        let (source, mut sequences) = (self.source.clone(), sequences.to_vec());
        sequences.sort_unstable();
        sequences.dedup();
        (self.shared).on_writer(move |writer| writer.unquarantine(&source, &sequences, forget))
    }
}

/// What the writer knows of a source's quarantine without reading it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The number of events.
    pub(super) events: u64,
    /// The sequence of an event by its content.
    by_content: HashMap<u128, Sequence>,
    /// The level of filling that was reported last.
    reported: Level,
}

/// How full a quarantine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Low,
    Half,
    Full,
}

impl Known {
    /// The event with this content, if there is one.
    pub(super) fn find(&self, content: u128) -> Option<Sequence> {
        self.by_content.get(&content).copied()
    }

    /// Records that the event with this content has this sequence.
    pub(super) fn keep(&mut self, content: u128, sequence: Sequence) {
        self.by_content.insert(content, sequence);
    }

    /// Records that the event with this sequence has left, or has another content now.
    pub(super) fn leave(&mut self, heading: &Heading, sequence: Sequence) {
        if let Some(content) = heading.content
            && self.find(content) == Some(sequence)
        {
            self.by_content.remove(&content);
        }
    }

    /// A sentence for the log when the quarantine becomes half full and when it becomes full, once
    /// until it is nearly empty again.
    pub(super) fn report(&mut self, most: u64) -> Option<&'static str> {
        let level = match self.events {
            events if events >= most => Level::Full,
            events if events >= most.div_ceil(2) => Level::Half,
            events if events > most / 4 => return None,
            _ => Level::Low,
        };
        if level > self.reported || level == Level::Low {
            self.reported = level;
        } else {
            return None;
        }
        match level {
            Level::Low => None,
            Level::Half => Some(
                "the quarantine of this source is half full; redrive or drop its events (weir quarantine list)",
            ),
            Level::Full => Some(
                "the quarantine of this source is full, and requests whose events would go there are answered 503; redrive or drop events (weir quarantine list)",
            ),
        }
    }
}

/// The first line of an event's text. It is short, so it is always in the first row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heading {
    /// [`Quarantined::content`]; `None` if an earlier version wrote the event.
    pub(super) content: Option<u128>,
    /// The number of times that the event arrived.
    pub(super) count: u64,
    /// The time of its first arrival; `None` if an earlier version wrote the event.
    pub(super) first: Option<Timestamp>,
    /// The id that is forgotten when the event is discarded.
    pub(super) id: Option<u128>,
}

impl Default for Heading {
    /// The heading of an event that an earlier version wrote, or that arrives for the first time.
    fn default() -> Heading {
        Heading {
            content: None,
            count: 1,
            first: None,
            id: None,
        }
    }
}

/// A heading as it is written; hashes are in hex.
#[derive(Serialize, Deserialize)]
struct WrittenHeading {
    content: String,
    count: u64,
    first: u64,
    id: Option<String>,
}

impl Heading {
    /// Reads the heading of an event from its first row or its whole text.
    pub(super) fn read(text: &[u8]) -> Heading {
        split(text).0
    }

    fn encode(&self) -> Vec<u8> {
        let hex = |hash: u128| format!("{hash:032x}");
        let written = WrittenHeading {
            content: hex(self.content.unwrap_or_default()),
            count: self.count,
            first: self.first.unwrap_or_default().0,
            id: self.id.map(hex),
        };
        let mut line = serde_json::to_vec(&written).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The heading and the rest of a text. A text of an earlier version is one line, without a heading.
fn split(text: &[u8]) -> (Heading, &[u8]) {
    let hash = |hex: &str| u128::from_str_radix(hex, 16).ok();
    let written = || {
        let end = text.iter().position(|byte| *byte == b'\n')?;
        let written: WrittenHeading = serde_json::from_slice(&text[..end]).ok()?;
        let heading = Heading {
            content: hash(&written.content),
            count: written.count,
            first: Some(Timestamp(written.first)),
            id: written.id.as_deref().and_then(hash),
        };
        Some((heading, &text[end + 1..]))
    };
    written().unwrap_or((Heading::default(), text))
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
    /// Data that is not text, as earlier versions wrote it: a list of numbers.
    #[serde(default, skip_serializing)]
    binary: Option<Vec<u8>>,
    /// Data that is not text.
    #[serde(default)]
    base64: Option<String>,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    whole: bool,
    #[serde(default)]
    arrived: Option<u64>,
    lane: Option<String>,
    code: String,
    message: String,
    plugin: Option<String>,
    time: u64,
}

impl Row {
    pub(super) fn encode(heading: &Heading, quarantined: Quarantined, now: Timestamp) -> Vec<u8> {
        let Event {
            id,
            origin,
            event_type,
            subject,
            time,
            content_type,
            attributes,
            trace: _,
            data,
        } = quarantined.event;
        let (text, base64) = match data {
            Payload::Text(text) => (Some(text), None),
            Payload::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
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
            binary: None,
            base64,
            unread: quarantined.unread,
            whole: quarantined.whole,
            arrived: quarantined.arrived.map(|sequence| sequence.0),
            lane,
            code,
            message,
            plugin,
            time,
        };
        let mut text = heading.encode();
        match serde_json::to_writer(&mut text, &row) {
            Ok(()) => text,
            Err(_) => Vec::new(),
        }
    }

    fn decode(bytes: &[u8], sequence: Sequence) -> Option<QuarantinedEvent> {
        let (heading, bytes) = split(bytes);
        let row: Row = serde_json::from_slice(bytes).ok()?;
        let data = match (row.text, row.base64) {
            (Some(text), _) => Payload::Text(text),
            (None, Some(encoded)) => Payload::Binary(STANDARD.decode(encoded).ok()?),
            (None, None) => Payload::Binary(row.binary.unwrap_or_default()),
        };
        let event = Event {
            id: row.id,
            origin: row.origin,
            event_type: row.event_type,
            subject: row.subject,
            time: row.event_time,
            content_type: row.content_type,
            attributes: row.attributes,
            trace: None,
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
            whole: row.whole,
            arrived: row.arrived.map(Sequence),
            lane,
            failure,
            plugin: row.plugin,
        };
        Some(QuarantinedEvent {
            sequence,
            time: Timestamp(row.time),
            first: heading.first.unwrap_or(Timestamp(row.time)),
            count: heading.count,
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

/// Whether these bytes are the whole text of an event.
pub(super) fn is_event(text: &[u8]) -> bool {
    Row::decode(text, Sequence(0)).is_some()
}

/// The most bytes of events that are read at once; a single larger one is read alone.
const READ_BYTES_MAX: usize = 4 << 20;

/// Quarantined events of a source, oldest first; none only if there are none.
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
    let mut read = 0;
    let damaged = || Error::Damaged("a quarantined event cannot be read".into());
    for row in db.range(from..) {
        let (key, piece) = row.map_err(|error| Error::Damaged(error.to_string()))?;
        let sequence = u64::from_be_bytes(keys::number_at(&key, 5));
        if !key.starts_with(&prefix) {
            break;
        }
        if let Some(done) = current.filter(|current| *current != sequence) {
            events.push(Row::decode(&bytes, Sequence(done)).ok_or_else(damaged)?);
            read += bytes.len();
            bytes.clear();
            current = None;
            if events.len() == limit || read >= READ_BYTES_MAX {
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

/// What is known of the quarantine of each source, by the number of its name.
pub(super) fn load(db: &sled::Db, found: &mut Sums) -> Result<BTreeMap<u32, Known>, Error> {
    let mut sources = BTreeMap::<u32, Known>::new();
    for row in rows(db, keys::QUARANTINE, found) {
        let (key, first) = row?;
        if u16::from_be_bytes(keys::number_at(&key, 13)) != 0 {
            continue;
        }
        let source = u32::from_be_bytes(keys::number_at(&key, 1));
        let known = sources.entry(source).or_default();
        known.events += 1;
        if let Some(content) = Heading::read(&first).content {
            let sequence = u64::from_be_bytes(keys::number_at(&key, 5));
            known.keep(content, Sequence(sequence));
        }
    }
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filling_quarantine_is_reported_at_half_and_when_it_is_full_and_not_again_at_once() {
        let mut known = Known::default();
        let mut reported = Vec::new();
        let up_and_down = (1..=10)
            .chain((3..10).rev())
            .chain(3..=10)
            .chain((0..10).rev())
            .chain(1..=5);
        for events in up_and_down {
            known.events = events;
            if let Some(sentence) = known.report(10) {
                reported.push((events, sentence.contains("half")));
            }
        }
        assert_eq!(reported, [(5, true), (10, false), (5, true)]);
    }

    #[test]
    fn an_event_of_an_earlier_version_is_read_without_a_heading() {
        let text = br#"{"id":"1","origin":"","event_type":"","subject":null,"event_time":null,"content_type":null,"attributes":[],"text":"a\nb","binary":null,"lane":null,"code":"c","message":"m","plugin":null,"time":7}"#;
        let read = Row::decode(text, Sequence(3)).expect("it can be read");
        assert_eq!(
            (read.count, read.first, read.event.event.id.as_str()),
            (1, Timestamp(7), "1")
        );
        let heading = Heading {
            content: Some(u128::MAX),
            count: 4,
            first: Some(Timestamp(9)),
            id: None,
        };
        let again = Row::encode(&heading, read.event, Timestamp(11));
        assert_eq!(Heading::read(&again), heading);
        let again = Row::decode(&again, Sequence(3)).expect("it can be read");
        assert_eq!(
            (again.count, again.first, again.time),
            (4, Timestamp(9), Timestamp(11))
        );
        let text = String::from_utf8_lossy(text).replace(
            r#""text":"a\nb","binary":null"#,
            r#""text":null,"binary":[0,159]"#,
        );
        let read = Row::decode(text.as_bytes(), Sequence(3)).expect("it can be read");
        assert_eq!(read.event.event.data, Payload::Binary(vec![0, 159]));
    }
}
