//! The progress display: one line per second while the systems send, and a table at the end.

use std::time::Duration;

use super::facts::CHANNELS;
use super::recorder::Recorder;
use super::systems::{Counts, Systems};
use crate::cli::table::table;
use crate::server::views::{ChannelView, List};

/// The response to `GET /v1/channels`.
pub(super) type Channels = List<ChannelView>;

/// Lines between two headers.
const HEADER_EVERY: u64 = 20;

/// The figures at the last line, so that the next one can show the difference.
pub(super) struct Board {
    counts: Counts,
    delivered: [u64; 4],
}

/// Whether a channel has delivered everything.
pub(super) fn owes_nothing(channel: &ChannelView) -> bool {
    owed(channel) == 0
}

fn owed(channel: &ChannelView) -> u64 {
    let owed = channel.owed;
    owed.urgent
        + owed.normal
        + owed.bulk
        + owed.sweep
        + channel.in_flight
        + channel.parked
        + channel.held
        + channel.refused
}

impl Board {
    pub(super) fn new() -> Board {
        Board {
            counts: Counts::default(),
            delivered: [0; 4],
        }
    }

    /// The line for the second that has just passed.
    pub(super) fn line(
        &mut self,
        second: u64,
        systems: &Systems,
        recorder: &Recorder,
        channels: &Channels,
    ) -> String {
        let (counts, delivered) = (systems.counts(), recorder.delivered());
        let mut line = String::new();
        if (second - 1).is_multiple_of(HEADER_EVERY) {
            line.push_str("               per second      deliveries per second to          avoided    oldest\n");
            line.push_str("second    events  changes      de     fr     at  search           so far      owed\n");
        }
        line.push_str(&format!(
            "{second:>6}  {:>8}  {:>7}  ",
            counts.sent - self.counts.sent,
            counts.changes - self.counts.changes
        ));
        for (now, before) in delivered.iter().zip(self.delivered) {
            line.push_str(&format!("{:>7}", now - before));
        }
        let owing: u64 = channels.items.iter().map(owed).sum();
        let meant: u64 = systems.facts().news.values().sum();
        let spared = meant.saturating_sub(delivered.iter().sum::<u64>() + owing);
        let share = 100 * spared / meant.max(1);
        let oldest = channels
            .items
            .iter()
            .map(|channel| channel.freshness_seconds)
            .fold(0.0, f64::max);
        line.push_str(&format!("  {spared:>9} {share:>3} %  {oldest:>6.1} s"));
        for channel in channels
            .items
            .iter()
            .filter(|channel| channel.state != "flowing")
        {
            line.push_str(&format!("  {} is {}", channel.name, channel.state));
        }
        (self.counts, self.delivered) = (counts, delivered);
        line
    }

    /// The totals at the end, with a table of the channels.
    pub(super) fn summary(
        &self,
        systems: &Systems,
        recorder: &Recorder,
        channels: &Channels,
        sending: Duration,
        settling: Duration,
    ) -> String {
        let (counts, delivered) = (systems.counts(), recorder.delivered());
        let facts = systems.facts();
        let mut rows = Vec::new();
        for (channel, delivered) in CHANNELS.iter().zip(delivered) {
            let view = channels
                .items
                .iter()
                .find(|view| view.name == *channel)
                .cloned()
                .unwrap_or_default();
            let count = |name: &str| view.deliveries.get(name).copied().unwrap_or(0);
            let meant = facts.news.get(channel).copied().unwrap_or(0);
            let (suppressed, withheld) = (count("suppressed"), count("withheld"));
            let coalesced = meant.saturating_sub(delivered + suppressed + withheld);
            let numbers = [
                meant,
                delivered,
                suppressed,
                withheld,
                coalesced,
                owed(&view),
            ];
            rows.push(
                std::iter::once((*channel).to_owned())
                    .chain(numbers.map(|number| number.to_string()))
                    .collect(),
            );
        }
        let header = [
            "CHANNEL",
            "CHANGES",
            "DELIVERED",
            "SUPPRESSED",
            "WITHHELD",
            "COALESCED",
            "OWED",
        ];
        format!(
            "\n{} events in {:.0} s: {} filtered as noise, {} repeated, {} quarantined.\n\
             {} changes committed; {} unchanged and {} stale changes dropped. {} requests retried.\n\
             Nothing was owed {:.1} s after the last event.\n\n{}",
            counts.sent,
            sending.as_secs_f64(),
            counts.filtered,
            counts.repeated,
            counts.quarantined,
            counts.changes,
            counts.unchanged,
            counts.stale,
            counts.retried,
            settling.as_secs_f64(),
            table(&header, &rows),
        )
    }
}
