//! What `weir top` shows: rows of texts, what is wrong first. Texts of others are escaped here.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Look;
use crate::cli::table::table;
use crate::plain;
use crate::server::views::{ChannelView, SourceView};

/// The names of the columns of channels.
pub(super) const CHANNEL: [&str; 9] = [
    "CHANNEL", "STATE", "URGENT", "NORMAL", "BULK", "FRESH", "WITHIN", "SENT/S", "P99",
];
/// The names of the columns of sources.
pub(super) const SOURCE: [&str; 5] = ["SOURCE", "STATE", "EVENTS/S", "LAST EVENT", "QUARANTINED"];

/// How wrong something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wrong {
    /// It is not in use any more.
    Gone,
    #[default]
    No,
    /// Somebody must look at some of its entities or events, some time.
    Some,
    /// It is late, or waits.
    Late,
    /// Nothing is delivered.
    Stopped,
}

/// A row of cells.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<String>,
    pub(super) wrong: Wrong,
    /// What there is to say of it, in a sentence.
    pub(super) note: String,
}

/// All rows, and where the reader is.
#[derive(Default)]
pub(super) struct Board {
    pub(super) channels: Vec<Row>,
    pub(super) sources: Vec<Row>,
    /// The number of the channel that is selected.
    pub(super) selected: usize,
    /// Why the last look failed, and since when nothing was seen.
    pub(super) lost: Option<String>,
    pub(super) seen: Option<Instant>,
    /// What each channel had sent at the last look.
    sent: BTreeMap<String, u64>,
}

impl Board {
    /// Takes over what was seen. The channel that was selected stays so, wherever it goes.
    pub(super) fn become_look(&mut self, look: Look) {
        let before = self.seen.replace(look.at);
        let passed = before.map(|before| look.at.saturating_duration_since(before).as_secs_f64());
        let selected = self.channels.get(self.selected).map(|row| row.name.clone());
        let sent: BTreeMap<String, u64> = look
            .channels
            .iter()
            .map(|channel| (channel.name.clone(), sent(channel)))
            .collect();
        let rate = |name: &str| {
            let (now, before) = (sent.get(name)?, self.sent.get(name)?);
            // After a restart it counts from 0.
            let more = now.checked_sub(*before)?;
            passed
                .filter(|passed| *passed > 0.0)
                .map(|passed| more as f64 / passed)
        };
        let mut channels: Vec<(f64, u64, Row)> = look
            .channels
            .iter()
            .map(|it| (lateness(it), it.owed.total, channel(it, rate(&it.name))))
            .collect();
        channels.sort_by(|(a_late, a_owed, a), (b_late, b_owed, b)| {
            (b.wrong.cmp(&a.wrong))
                .then(b_late.total_cmp(a_late))
                .then(b_owed.cmp(a_owed))
                .then(a.name.cmp(&b.name))
        });
        self.channels = channels.into_iter().map(|(_, _, row)| row).collect();
        self.sources = look.sources.iter().map(source).collect();
        self.sources
            .sort_by(|a, b| b.wrong.cmp(&a.wrong).then(a.name.cmp(&b.name)));
        let place = selected.filter(|_| self.selected > 0);
        let place = place.and_then(|name| self.channels.iter().position(|row| row.name == name));
        self.selected = place.unwrap_or(0);
        (self.sent, self.lost) = (sent, None);
    }

    /// The last look has failed; what was seen before stays.
    pub(super) fn lost(&mut self, why: &str) {
        self.lost = Some(escaped(why));
    }

    /// Moves the selection.
    pub(super) fn select(&mut self, by: isize) {
        let last = self.channels.len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }

    /// How many channels and sources there are, and how many are wrong.
    pub(super) fn summary(&self) -> String {
        let count =
            |rows: &[Row], wrong: Wrong| rows.iter().filter(|row| row.wrong == wrong).count();
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (channels, sources) = (self.channels.len(), self.sources.len());
        let mut parts = vec![format!("{channels} channel{}", plural(channels))];
        for (wrong, word) in [
            (Wrong::Stopped, "stopped"),
            (Wrong::Late, "late or waiting"),
            (Wrong::Some, "with something set aside"),
        ] {
            let count = count(&self.channels, wrong);
            parts.extend((count > 0).then(|| format!("{count} {word}")));
        }
        let quiet = self
            .sources
            .iter()
            .filter(|row| row.wrong > Wrong::No)
            .count();
        parts.push(format!("{sources} source{}", plural(sources)));
        parts.extend((quiet > 0).then(|| format!("{quiet} silent or with quarantined events")));
        parts.join(" · ")
    }

    /// Everything, for a reader that is no terminal.
    pub(super) fn as_text(&self) -> String {
        let rows = |rows: &[Row]| -> Vec<Vec<String>> {
            let row = |row: &Row| {
                let mut cells = vec![row.name.clone()];
                cells.extend(row.cells.iter().cloned());
                cells.push(row.note.clone());
                cells
            };
            rows.iter().map(row).collect()
        };
        let with_note = |names: &[&'static str]| [names, &["NOTE"]].concat();
        format!(
            "{}\n\n{}\n{}",
            self.summary(),
            table(&with_note(&CHANNEL), &rows(&self.channels)),
            table(&with_note(&SOURCE), &rows(&self.sources))
        )
    }
}

/// How late a channel is, in parts of its objective, or in hours.
fn lateness(channel: &ChannelView) -> f64 {
    let objective = channel.freshness_objective_seconds.unwrap_or(3600.0);
    channel.overdue_seconds / objective.max(0.001)
}

fn sent(channel: &ChannelView) -> u64 {
    let of = |word: &str| channel.deliveries.get(word).copied().unwrap_or(0);
    of("delivered") + of("withdrawn")
}

fn channel(channel: &ChannelView, rate: Option<f64>) -> Row {
    let is_late = (channel.freshness_objective_seconds)
        .is_some_and(|objective| channel.overdue_seconds > objective);
    let (wrong, state) = match channel.state.as_str() {
        "retired" => (Wrong::Gone, "retired"),
        "flowing" if is_late => (Wrong::Late, "late"),
        "flowing" if channel.held > 0 => (Wrong::Late, "held"),
        "flowing" if channel.parked > 0 => (Wrong::Some, "parked"),
        "flowing" if channel.refused > 0 => (Wrong::Some, "refused"),
        "flowing" => (Wrong::No, "flowing"),
        "paused" => (Wrong::Late, "paused"),
        "probing" => (Wrong::Late, "probing"),
        other => (Wrong::Stopped, other),
    };
    let objective = channel.freshness_objective_seconds.map(seconds);
    let p99 = [
        channel.latency.urgent,
        channel.latency.normal,
        channel.latency.bulk,
    ];
    let p99 = p99.iter().filter_map(|lane| lane.minute.p99_ms).max();
    let cells = [
        escaped(state),
        count(channel.owed.urgent),
        count(channel.owed.normal),
        count(channel.owed.bulk),
        seconds(channel.freshness_seconds),
        objective.unwrap_or_else(|| "-".to_owned()),
        rate.map_or_else(|| "-".to_owned(), per_second),
        p99.map_or_else(|| "-".to_owned(), |ms| seconds(ms as f64 / 1e3)),
    ];
    let set_aside = [
        (channel.parked, "parked"),
        (channel.refused, "refused"),
        (channel.held, "held"),
    ];
    let set_aside = set_aside.iter().filter(|(count, _)| *count > 0);
    let mut note: Vec<String> = set_aside
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    note.extend((channel.owed.sweep > 0).then(|| format!("{} to sweep", channel.owed.sweep)));
    note.extend(channel.reason.clone());
    let fails = channel.parked + channel.refused > 0 && channel.reason.is_none();
    let error = channel.last_error.as_ref().filter(|_| fails);
    note.extend(error.map(|error| error.detail.clone()));
    Row {
        name: escaped(&channel.name),
        cells: cells.to_vec(),
        wrong,
        note: escaped(&note.join("; ")),
    }
}

fn source(source: &SourceView) -> Row {
    let (wrong, state) = match (source.silent, source.quarantined) {
        (true, _) => (Wrong::Late, "silent"),
        (false, 1..) => (Wrong::Some, "quarantined"),
        (false, 0) => (Wrong::No, "-"),
    };
    let rate = source.events_per_second.map(per_second);
    let last = source.last_event.map(|time| {
        // The clock of the reader may be another; the time is that of Weir.
        let text = time.to_string();
        text.get(11..19).unwrap_or(&text).to_owned()
    });
    Row {
        name: escaped(&source.name),
        cells: vec![
            state.to_owned(),
            rate.unwrap_or_else(|| "-".to_owned()),
            last.unwrap_or_else(|| "-".to_owned()),
            count(source.quarantined),
        ],
        wrong,
        note: String::new(),
    }
}

/// Text that no terminal obeys and whose width is known: characters that only change how the one before
/// them is shown shift the rest of the row in some terminals.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for character in plain::line(text).chars() {
        match character {
            '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{20e3}' => {
                shown.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => shown.push(character),
        }
    }
    shown
}

/// A number in at most five characters.
pub(super) fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{}k", number / 1_000),
        1_000_000..1_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

fn per_second(rate: f64) -> String {
    match rate {
        0.0..10.0 => format!("{rate:.1}"),
        _ => count(rate.round() as u64),
    }
}

/// A time in at most five characters.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        _ if seconds < 0.05 => "0s".to_owned(),
        0..10 => format!("{seconds:.1}s"),
        10..120 => format!("{whole}s"),
        120..7_200 => format!("{}m", whole / 60),
        7_200..172_800 => format!("{}h", whole / 3_600),
        _ => format!("{}d", whole / 86_400),
    }
}
