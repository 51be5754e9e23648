//! Channels on disk: their positions, and their pairs as pages with a log of recent changes.
//!
//! A row per pair would cost 15 µs and hold sled's lock; this costs a fraction of a microsecond. A
//! save writes the pairs that changed since the last save into rows of the log, or, if much of a
//! page changed, writes the page itself. To shorten the log, a save also rewrites a few of the
//! pages that depend on the oldest log rows, and then removes these rows. Positions and pairs are
//! written in one atomic batch.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::open::rows;
use super::sums::Sums;
use crate::index::{Changed, Channel, ChannelId, Pair, Subscription};
use crate::model::{Failure, Timestamp};
use crate::store::{Error, keys};

/// A page with at least this many changed pairs, a quarter of it, is rewritten and not logged.
const PAGE_WORTH: usize = keys::PAGE_PAIRS as usize / 4;
/// The number of log rows above which pages are rewritten to shorten the log: about 8 MiB, which is
/// read at open.
const LOG_ROWS_MAX: u64 = 256;
/// Pages rewritten in one save to shorten the log: about 240 KB.
const PAGES_A_SAVE: usize = 8;

/// The state of a channel's log.
#[derive(Clone, Debug, Default)]
pub(super) struct PairLog {
    first: u64,
    next: u64,
    /// For each page, the oldest log row with a change of it; below, the same ordered by row.
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
    #[serde(default)]
    sweep_end: u64,
    #[serde(default)]
    withdrawals: Vec<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    code: String,
    message: String,
    time: u64,
}

/// Rows to write, by key; `None` removes. They are collected while the index is locked and written
/// after it is unlocked.
pub(super) type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

impl PairLog {
    /// Puts all changes of a channel into `writes`. From then on they count as saved.
    pub(super) fn save(
        &mut self,
        id: ChannelId,
        channel: &mut Channel,
        sweep_ahead: u64,
        writes: &mut Writes,
    ) {
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
            sweep_end: snapshot.sweep_end,
            withdrawals: channel
                .withdrawals
                .iter()
                .map(|(time, count)| (time.0, *count))
                .collect(),
        };
        writes.push((
            keys::channel(id),
            Some(serde_json::to_vec(&row).unwrap_or_default()),
        ));
        let mut logged = Vec::new();
        for of_page in snapshot
            .pairs
            .chunk_by(|a, b| a.ordinal / keys::PAGE_PAIRS == b.ordinal / keys::PAGE_PAIRS)
        {
            if of_page.len() >= PAGE_WORTH {
                self.write_page(id, of_page[0].ordinal / keys::PAGE_PAIRS, channel, writes);
            } else {
                logged.extend(of_page);
            }
            of_page
                .iter()
                .for_each(|changed| write_extras(id, changed, channel, writes));
        }
        for of_row in logged.chunks(keys::LOG_PAIRS) {
            let mut bytes = Vec::with_capacity(of_row.len() * 20);
            for changed in of_row {
                bytes.extend(changed.ordinal.to_le_bytes());
                bytes.extend(changed.pair.0.to_le_bytes());
                self.speaks_for(changed.ordinal / keys::PAGE_PAIRS, self.next);
            }
            writes.push((keys::log(id, self.next), Some(bytes)));
            self.next += 1;
        }
        if self.next - self.first > LOG_ROWS_MAX {
            let oldest: Vec<u32> = self
                .by_row
                .iter()
                .take(PAGES_A_SAVE)
                .map(|(_, page)| *page)
                .collect();
            oldest
                .into_iter()
                .for_each(|page| self.write_page(id, page, channel, writes));
        }
        let needed = self.by_row.first().map_or(self.next, |(row, _)| *row);
        while self.first < needed {
            writes.push((keys::log(id, self.first), None));
            self.first += 1;
        }
    }

    /// Notes that a log row has a change of this page. The log cannot be shortened past the oldest
    /// such row.
    fn speaks_for(&mut self, page: u32, row: u64) {
        if let Entry::Vacant(unheard) = self.since.entry(page) {
            unheard.insert(row);
            self.by_row.insert((row, page));
        }
    }

    fn write_page(&mut self, id: ChannelId, page: u32, channel: &Channel, writes: &mut Writes) {
        let ordinals = page * keys::PAGE_PAIRS..(page + 1) * keys::PAGE_PAIRS;
        let bytes: Vec<u8> = ordinals
            .flat_map(|ordinal| channel.pair(ordinal).0.to_le_bytes())
            .collect();
        writes.push((keys::page(id, page), Some(bytes)));
        if let Some(row) = self.since.remove(&page) {
            self.by_row.remove(&(row, page));
        }
    }
}

fn write_extras(id: ChannelId, changed: &Changed, channel: &Channel, writes: &mut Writes) {
    // Reading an absent row still costs a search, so only channels whose renderer chooses keys, or
    // that have refused entities, pay it.
    if changed.target_key.is_some() || channel.has_target_keys {
        let key = changed
            .target_key
            .as_ref()
            .map(|key| key.as_bytes().to_vec());
        writes.push((keys::target_key(id, changed.ordinal), key));
    }
    if changed.refusal.is_some() || channel.has_refusals {
        let row = changed.refusal.as_ref().map(|(failure, time)| {
            let refusal = Refusal {
                code: failure.code.clone(),
                message: failure.message.clone(),
                time: time.0,
            };
            serde_json::to_vec(&refusal).unwrap_or_default()
        });
        writes.push((keys::refusal(id, changed.ordinal), row));
    }
}

fn damaged(what: &str, id: ChannelId) -> Error {
    Error::Damaged(format!("{what} of channel number {} cannot be read", id.0))
}

/// Loads all channels. Valid ordinals are below `given_out`. Rows of a channel that is being
/// forgotten are counted and otherwise ignored.
pub(super) fn load(
    db: &sled::Db,
    given_out: u32,
    found: &mut Sums,
) -> Result<BTreeMap<ChannelId, (Channel, PairLog)>, Error> {
    let mut channels: BTreeMap<ChannelId, (Channel, PairLog)> = BTreeMap::new();
    let id_of = |key: &[u8]| ChannelId(u16::from_be_bytes(keys::number_at(key, 1)));
    for row in rows(db, keys::CHANNEL, found) {
        let (key, bytes) = row?;
        let id = id_of(&key);
        let row: Row = serde_json::from_slice(&bytes).map_err(|_| damaged("the row", id))?;
        let mut channel = Channel::new(&row.name, subscription(&row));
        (channel.live, channel.paused, channel.shape) = (row.live, row.paused, row.shape);
        channel.labels = row.labels.into();
        channel.withdrawals = row
            .withdrawals
            .into_iter()
            .map(|(time, count)| (Timestamp(time), count))
            .collect();
        channel.restore_positions(row.acked, row.reserved, row.sweep_end);
        channels.insert(id, (channel, PairLog::default()));
    }
    for kind in [b"B", b"L", b"K", b"R"] {
        for row in rows(db, kind, found) {
            let (key, bytes) = row?;
            if let Some((channel, log)) = channels.get_mut(&id_of(&key)) {
                restore(channel, log, &key, &bytes, given_out)
                    .ok_or_else(|| damaged("a row", id_of(&key)))?;
            }
        }
    }
    Ok(channels)
}

/// Whether these bytes are a channel's row.
pub(super) fn is_channel(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Row>(bytes).is_ok()
}

fn subscription(row: &Row) -> Subscription {
    Subscription {
        entity_type: row.entity_type.as_str().into(),
        facets: row.facets.clone(),
        shape: row.shape_digest,
        shape_label: row.shape_label.clone(),
        target: row.target_digest,
        debounce: None,
    }
}

/// Restores the content of a row. Returns `None` if the row cannot be decoded or names an ordinal
/// that was never given out, because the highest ordinal determines the size of the array of pairs.
/// Restore all pages before the log.
fn restore(
    channel: &mut Channel,
    log: &mut PairLog,
    key: &[u8],
    bytes: &[u8],
    given_out: u32,
) -> Option<()> {
    let known = |ordinal: u32| (ordinal < given_out).then_some(ordinal);
    let ordinal = u32::from_be_bytes(keys::number_at(key, 3));
    match key.first()? {
        b'B' => {
            for (pair, ordinal) in bytes
                .chunks_exact(16)
                .zip(ordinal.checked_mul(keys::PAGE_PAIRS)?..)
            {
                let pair = Pair(u128::from_le_bytes(keys::number_at(pair, 0)));
                // The end of a page is empty when fewer ordinals exist than it has room for.
                if pair != Pair::default() {
                    channel.restore_pair(known(ordinal)?, pair);
                }
            }
        }
        b'L' => {
            let number = u64::from_be_bytes(keys::number_at(key, 3));
            log.first = if log.next == 0 { number } else { log.first };
            log.next = number.checked_add(1)?;
            for entry in bytes.chunks_exact(20) {
                let ordinal = known(u32::from_le_bytes(keys::number_at(entry, 0)))?;
                channel.restore_pair(
                    ordinal,
                    Pair(u128::from_le_bytes(keys::number_at(entry, 4))),
                );
                log.speaks_for(ordinal / keys::PAGE_PAIRS, number);
            }
        }
        b'K' => {
            channel.restore_target_key(known(ordinal)?, Arc::from(std::str::from_utf8(bytes).ok()?))
        }
        _ => {
            let refusal: Refusal = serde_json::from_slice(bytes).ok()?;
            let failure = Failure {
                code: refusal.code,
                message: refusal.message,
            };
            channel.restore_refusal(known(ordinal)?, failure, Timestamp(refusal.time));
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Found by fuzzing: one damaged entry of a log named ordinal 4,294,967,295, and the process
    // died allocating 64 GiB instead of reporting the damage.
    #[test]
    fn a_row_that_speaks_of_what_was_never_given_out_is_damage_and_costs_no_memory() {
        let subscription = Subscription {
            entity_type: "product".into(),
            facets: vec!["content".into()],
            shape: 1,
            shape_label: String::new(),
            target: 1,
            debounce: None,
        };
        let id = ChannelId(0);
        let pair = Pair::default().settled(7, 1);
        let check = |key: Vec<u8>, bytes: &[u8]| {
            let mut channel = Channel::new("shop", subscription.clone());
            restore(&mut channel, &mut PairLog::default(), &key, bytes, 3)
        };
        let entry =
            |ordinal: u32| [ordinal.to_le_bytes().as_slice(), &pair.0.to_le_bytes()].concat();
        assert_eq!(check(keys::log(id, 0), &entry(2)), Some(()));
        assert_eq!(check(keys::log(id, 0), &entry(3)), None);
        assert_eq!(check(keys::log(id, 0), &entry(u32::MAX)), None);
        assert_eq!(
            check(keys::log(id, u64::MAX), &entry(2)),
            None,
            "after the last number of a row comes no other"
        );
        let page =
            |at: usize| [vec![0; at * 16], pair.0.to_le_bytes().to_vec(), vec![0; 64]].concat();
        assert_eq!(
            check(keys::page(id, 0), &page(2)),
            Some(()),
            "the end of a page is empty"
        );
        assert_eq!(check(keys::page(id, 0), &page(3)), None);
        assert_eq!(
            check(keys::page(id, u32::MAX / keys::PAGE_PAIRS), &page(0)),
            None
        );
        assert_eq!(check(keys::target_key(id, 3), b"k"), None);
        assert_eq!(
            check(
                keys::refusal(id, u32::MAX),
                br#"{"code": "plugin", "message": "no", "time": 1}"#
            ),
            None
        );
    }
}
