//! The figures of the progress display: those of each second while the systems send, and the totals
//! at the end.

use std::time::Duration;

use super::facts::CHANNELS;
use super::recorder::Recorder;
use super::shown::{ChannelTotals, Second, Summary};
use super::systems::{Counts, Systems};
use crate::server::views::{ChannelView, List};

/// The response to `GET /v1/channels`.
pub(super) type Channels = List<ChannelView>;

/// The figures at the last second, so that the next one can show the difference.
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

    /// The figures of the second that has just passed.
    pub(super) fn second(
        &mut self,
        second: u64,
        systems: &Systems,
        recorder: &Recorder,
        channels: &Channels,
    ) -> Second {
        let (counts, delivered) = (systems.counts(), recorder.delivered());
        let each = delivered.iter().zip(self.delivered);
        let deliveries = CHANNELS
            .into_iter()
            .zip(each.map(|(now, before)| now - before));
        let owing: u64 = channels.items.iter().map(owed).sum();
        let meant: u64 = systems.facts().news.values().sum();
        let avoided = meant.saturating_sub(delivered.iter().sum::<u64>() + owing);
        let troubled = channels.items.iter().filter(|it| it.state != "flowing");
        let figures = Second {
            second,
            events: counts.sent - self.counts.sent,
            changes: counts.changes - self.counts.changes,
            deliveries: deliveries.collect(),
            avoided,
            avoided_percent: 100 * avoided / meant.max(1),
            oldest_owed_seconds: channels
                .items
                .iter()
                .map(|channel| channel.freshness_seconds)
                .fold(0.0, f64::max),
            not_flowing: troubled
                .map(|channel| (channel.name.clone(), channel.state.clone()))
                .collect(),
        };
        (self.counts, self.delivered) = (counts, delivered);
        figures
    }

    /// The totals at the end.
    pub(super) fn summary(
        &self,
        systems: &Systems,
        recorder: &Recorder,
        channels: &Channels,
        sending: Duration,
        settling: Duration,
    ) -> Summary {
        let facts = systems.facts();
        let totals = |(channel, delivered): (&'static str, u64)| {
            let view = channels
                .items
                .iter()
                .find(|view| view.name == channel)
                .cloned()
                .unwrap_or_default();
            let count = |name: &str| view.deliveries.get(name).copied().unwrap_or(0);
            let changes = facts.news.get(channel).copied().unwrap_or(0);
            let (suppressed, withheld) = (count("suppressed"), count("withheld"));
            ChannelTotals {
                channel,
                changes,
                delivered,
                suppressed,
                withheld,
                coalesced: changes.saturating_sub(delivered + suppressed + withheld),
                owed: owed(&view),
            }
        };
        Summary {
            events: systems.counts(),
            sending_seconds: sending.as_secs_f64(),
            settling_seconds: settling.as_secs_f64(),
            channels: CHANNELS
                .into_iter()
                .zip(recorder.delivered())
                .map(totals)
                .collect(),
        }
    }
}
