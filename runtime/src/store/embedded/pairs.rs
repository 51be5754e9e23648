//! Channels on disk: their positions, and their pairs as base pages with a log beside them.
//!
//! A row for each pair would cost 15 µs and hold sled's lock; this costs a fraction of a microsecond. A save writes the pairs that
//! changed since the last one into rows of a log, or, where much of a page changed, the page itself. The pages that the oldest log
//! rows still speak for are rewritten a few at a time, and then those rows go. Positions and pairs are one atomic write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sled::Batch;

use crate::index::{Changed, Channel, Index, Pair, Subscription};
use crate::model::{Failure, Timestamp};
use crate::store::{ChannelId, Error, keys};

/// A page with at least so many changed pairs is written itself: a quarter of it.
const PAGE_WORTH: usize = keys::PAGE_PAIRS as usize / 4;
/// Rows a log may have before pages are rewritten to shorten it: about 8 MiB, read at open.
const LOG_ROWS_MAX: u64 = 256;
/// Pages rewritten in one save to shorten the log: about 240 KB.
const PAGES_A_SAVE: usize = 8;

/// How the log of a channel stands.
#[derive(Clone, Debug, Default)]
pub(super) struct PairLog {
    first: u64,
    next: u64,
    /// Page → the oldest row of the log that speaks for it, and the same by row.
    since: BTreeMap<u32, u64>,
    by_row: BTreeSet<(u64, u32)>,
}

/// A channel's row.
#[derive(Serialize, Deserialize)]
struct Row {
    name: String,
    live: bool,
    paused: bool,
    entity_type: String,
    facets: Vec<String>,
    shape_digest: u64,
    shape_label: String,
    target_digest: u64,
    shape: u16,
    labels: Vec<(u16, String)>,
    acked: [u64; 4],
    reserved: u64,
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    code: String,
    message: String,
    time: u64,
}

impl PairLog {
    /// Puts all that has changed of a channel into `batch`. From here on it counts as saved.
    pub(super) fn save(&mut self, id: ChannelId, channel: &mut Channel, sweep_ahead: u64, batch: &mut Batch) {
        let snapshot = channel.snapshot(sweep_ahead);
        let row = Row {
            name: channel.name.clone(),
            live: channel.live,
            paused: channel.paused,
            entity_type: channel.subscription.entity_type.to_string(),
            facets: channel.subscription.facets.clone(),
            shape_digest: channel.subscription.shape,
            shape_label: channel.subscription.shape_label.clone(),
            target_digest: channel.subscription.target,
            shape: channel.shape,
            labels: channel.labels.iter().cloned().collect(),
            acked: snapshot.acked,
            reserved: snapshot.reserved,
        };
        batch.insert(keys::channel(id), serde_json::to_vec(&row).unwrap_or_default());
        let mut logged = Vec::new();
        for of_page in snapshot.pairs.chunk_by(|a, b| a.ordinal / keys::PAGE_PAIRS == b.ordinal / keys::PAGE_PAIRS) {
            if of_page.len() >= PAGE_WORTH {
                self.write_page(id, of_page[0].ordinal / keys::PAGE_PAIRS, channel, batch);
            } else {
                logged.extend(of_page);
            }
            of_page.iter().for_each(|changed| write_extras(id, changed, channel, batch));
        }
        for of_row in logged.chunks(keys::LOG_PAIRS) {
            let mut bytes = Vec::with_capacity(of_row.len() * 20);
            for changed in of_row {
                bytes.extend(changed.ordinal.to_le_bytes());
                bytes.extend(changed.pair.0.to_le_bytes());
                self.speaks_for(changed.ordinal / keys::PAGE_PAIRS, self.next);
            }
            batch.insert(keys::log(id, self.next), bytes);
            self.next += 1;
        }
        if self.next - self.first > LOG_ROWS_MAX {
            let oldest: Vec<u32> = self.by_row.iter().take(PAGES_A_SAVE).map(|(_, page)| *page).collect();
            oldest.into_iter().for_each(|page| self.write_page(id, page, channel, batch));
        }
        let needed = self.by_row.first().map_or(self.next, |(row, _)| *row);
        while self.first < needed {
            batch.remove(keys::log(id, self.first));
            self.first += 1;
        }
    }

    fn speaks_for(&mut self, page: u32, row: u64) {
        if self.since.insert(page, row).is_none() {
            self.by_row.insert((row, page));
        } else if let Some(oldest) = self.by_row.iter().find(|(_, other)| *other == page).map(|(row, _)| *row) {
            self.since.insert(page, oldest);
        }
    }

    fn write_page(&mut self, id: ChannelId, page: u32, channel: &Channel, batch: &mut Batch) {
        let ordinals = page * keys::PAGE_PAIRS..(page + 1) * keys::PAGE_PAIRS;
        let bytes: Vec<u8> = ordinals.flat_map(|ordinal| channel.pair(ordinal).0.to_le_bytes()).collect();
        batch.insert(keys::page(id, page), bytes);
        if let Some(row) = self.since.remove(&page) {
            self.by_row.remove(&(row, page));
        }
    }
}

fn write_extras(id: ChannelId, changed: &Changed, channel: &Channel, batch: &mut Batch) {
    // Removing what is not there costs a search; only channels whose renderer chooses keys, or that refused something, pay it.
    match &changed.target_key {
        Some(key) => batch.insert(keys::target_key(id, changed.ordinal), key.as_bytes()),
        None if channel.has_target_keys => batch.remove(keys::target_key(id, changed.ordinal)),
        None => {}
    }
    match &changed.refusal {
        Some((failure, time)) => {
            let refusal = Refusal { code: failure.code.clone(), message: failure.message.clone(), time: time.0 };
            batch.insert(keys::refusal(id, changed.ordinal), serde_json::to_vec(&refusal).unwrap_or_default());
        }
        None if channel.has_refusals => batch.remove(keys::refusal(id, changed.ordinal)),
        None => {}
    }
}

fn damaged(what: &str, id: ChannelId) -> Error {
    Error::Damaged(format!("{what} of channel number {} cannot be read", id.0))
}

/// Loads all channels into the index.
pub(super) fn load(db: &sled::Db, index: &mut Index) -> Result<BTreeMap<ChannelId, PairLog>, Error> {
    let mut logs = BTreeMap::new();
    for row in db.scan_prefix(keys::CHANNEL) {
        let (key, bytes) = row.map_err(|error| Error::Damaged(error.to_string()))?;
        let id = ChannelId(u16::from_be_bytes(keys::number_at(&key, 1)));
        let row: Row = serde_json::from_slice(&bytes).map_err(|_| damaged("the row", id))?;
        let mut channel = Channel::new(&row.name, subscription(&row));
        (channel.live, channel.paused, channel.shape) = (row.live, row.paused, row.shape);
        channel.labels = row.labels.into();
        channel.restore_positions(row.acked, row.reserved);
        let log = load_pairs(db, id, &mut channel)?;
        index.put_channel(id, channel);
        logs.insert(id, log);
    }
    Ok(logs)
}

fn subscription(row: &Row) -> Subscription {
    Subscription {
        entity_type: row.entity_type.as_str().into(),
        facets: row.facets.clone(),
        shape: row.shape_digest,
        shape_label: row.shape_label.clone(),
        target: row.target_digest,
    }
}

fn load_pairs(db: &sled::Db, id: ChannelId, channel: &mut Channel) -> Result<PairLog, Error> {
    let rows = |kind: u8| db.scan_prefix(keys::of_channel(kind, id)).map(|row| row.map_err(|error| Error::Damaged(error.to_string())));
    for row in rows(b'B') {
        let (key, bytes) = row?;
        let first = u32::from_be_bytes(keys::number_at(&key, 3)) * keys::PAGE_PAIRS;
        for (pair, ordinal) in bytes.chunks_exact(16).zip(first..) {
            channel.restore_pair(ordinal, Pair(u128::from_le_bytes(keys::number_at(pair, 0))));
        }
    }
    let mut log = PairLog::default();
    for row in rows(b'L') {
        let (key, bytes) = row?;
        let number = u64::from_be_bytes(keys::number_at(&key, 3));
        log.first = if log.next == 0 { number } else { log.first };
        log.next = number + 1;
        for entry in bytes.chunks_exact(20) {
            let ordinal = u32::from_le_bytes(keys::number_at(entry, 0));
            channel.restore_pair(ordinal, Pair(u128::from_le_bytes(keys::number_at(entry, 4))));
            log.speaks_for(ordinal / keys::PAGE_PAIRS, number);
        }
    }
    for row in rows(b'K') {
        let (key, bytes) = row?;
        let name = std::str::from_utf8(&bytes).map_err(|_| damaged("a target's key", id))?;
        channel.restore_target_key(u32::from_be_bytes(keys::number_at(&key, 3)), Arc::from(name));
    }
    for row in rows(b'R') {
        let (key, bytes) = row?;
        let refusal: Refusal = serde_json::from_slice(&bytes).map_err(|_| damaged("a refusal", id))?;
        let failure = Failure { code: refusal.code, message: refusal.message };
        channel.restore_refusal(u32::from_be_bytes(keys::number_at(&key, 3)), failure, Timestamp(refusal.time));
    }
    Ok(log)
}
