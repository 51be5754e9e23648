//! Everything that the demo shows, each as text for people and as one line of JSON for programs.
//!
//! A line of JSON is an object whose `kind` says which of [`Shown`] it is. The last line is
//! `compared`; a demo that ended without it was stopped or failed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde::Serialize;

use super::facts::CHANNELS;
use super::systems::Counts;
use crate::cli::table::table;

/// Lines of figures between two headers.
const HEADER_EVERY: u64 = 20;

/// Prints what the demo shows.
#[derive(Clone, Copy)]
pub(super) struct Printer {
    /// Whether as JSON.
    pub(super) json: bool,
}

/// One thing to show.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Shown {
    /// A plugin is being built.
    Building {
        /// The step that begins.
        step: String,
    },
    /// Everything runs.
    Started(Started),
    /// The figures of a second.
    Second(Second),
    /// The systems stop sending; the channels deliver what they still owe.
    Settling,
    /// The totals.
    Summary(Summary),
    /// The result of the comparison.
    Compared(Compared),
}

/// What runs where.
#[derive(Serialize)]
pub(super) struct Started {
    /// The address of Weir.
    pub(super) weir: String,
    /// The address of the shops and of the search index.
    pub(super) targets: String,
    /// The configuration file.
    pub(super) configuration: String,
    /// The number of sources, plugins and channels, as a phrase.
    pub(super) runs: String,
    /// The names of the channels.
    pub(super) channels: [&'static str; 4],
    /// The number of products.
    pub(super) products: usize,
    /// The beginning of a command for this Weir.
    #[serde(skip)]
    pub(super) command: String,
}

/// The figures of the second that has just passed.
#[derive(Serialize)]
pub(super) struct Second {
    /// Its number, from 1.
    pub(super) second: u64,
    /// Events that the systems sent in it.
    pub(super) events: u64,
    /// Changes that were committed in it.
    pub(super) changes: u64,
    /// Deliveries in it, by channel.
    pub(super) deliveries: BTreeMap<&'static str, u64>,
    /// Changes since the start that needed no delivery of their own.
    pub(super) avoided: u64,
    /// Their share of all changes that channels subscribe to.
    pub(super) avoided_percent: u64,
    /// The age of the oldest change that a channel owes.
    pub(super) oldest_owed_seconds: f64,
    /// Channels that are not flowing, with their state.
    pub(super) not_flowing: BTreeMap<String, String>,
}

/// The totals at the end.
#[derive(Serialize)]
pub(super) struct Summary {
    /// What the systems sent, and what became of it.
    pub(super) events: Counts,
    /// For how long they sent.
    pub(super) sending_seconds: f64,
    /// How long after the last event nothing was owed.
    pub(super) settling_seconds: f64,
    /// The channels.
    pub(super) channels: Vec<ChannelTotals>,
}

/// What became of the changes that a channel subscribes to.
#[derive(Serialize)]
pub(super) struct ChannelTotals {
    pub(super) channel: &'static str,
    /// Changes that the systems made.
    pub(super) changes: u64,
    pub(super) delivered: u64,
    pub(super) suppressed: u64,
    pub(super) withheld: u64,
    /// Changes that were covered by newer ones before they were delivered.
    pub(super) coalesced: u64,
    pub(super) owed: u64,
}

/// The comparison of what the targets hold with what the systems sent.
#[derive(Serialize)]
pub(super) struct Compared {
    pub(super) products: usize,
    pub(super) channels: usize,
    /// Renderings that must be there, and that must not.
    pub(super) expected: usize,
    pub(super) not_expected: usize,
    pub(super) differences: usize,
    /// Older states that were delivered after newer ones.
    pub(super) older: u64,
    /// The first differences, a sentence each.
    pub(super) first_differences: Vec<String>,
    /// Whether there are neither differences nor older states.
    pub(super) converged: bool,
}

impl Printer {
    /// Prints it and flushes, so that it appears at once in a pipe too. A closed pipe is not an error.
    pub(super) fn show(self, shown: &Shown) {
        let line = if self.json {
            // This cannot fail: all of it are texts, numbers, and maps with texts as keys.
            serde_json::to_string(shown).unwrap_or_default()
        } else {
            shown.to_string()
        };
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Building { step } => write!(f, "plugins: {step}"),
            Shown::Started(started) => started.fmt(f),
            Shown::Second(second) => second.fmt(f),
            Shown::Settling => {
                f.write_str("\nThe systems stop sending; the channels deliver what they still owe.")
            }
            Shown::Summary(summary) => summary.fmt(f),
            Shown::Compared(compared) => compared.fmt(f),
        }
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Started {
            weir,
            targets,
            configuration,
            runs,
            products,
            command,
            ..
        } = self;
        write!(
            f,
            "\nWeir runs {configuration} on {weir}: {runs}.\n\
             An ERP, a PIM and an OMS send it changes to {products} products; three shops and a search index receive the current state.\n\
             The Austrian shop is slow, and the French one is unavailable for a few seconds of each minute.\n\n\
             To look at it from another terminal:\n  \
             {command} show product/4711\n  \
             {command} channel list\n  \
             curl {weir}/v1/channels/storefront.at\n  \
             curl {weir}/metrics\n  \
             curl {targets}/de/p/4711\n",
        )
    }
}

impl fmt::Display for Second {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (self.second - 1).is_multiple_of(HEADER_EVERY) {
            f.write_str("               per second      deliveries per second to          avoided    oldest\n")?;
            f.write_str("second    events  changes      de     fr     at  search           so far      owed\n")?;
        }
        let (second, events, changes) = (self.second, self.events, self.changes);
        write!(f, "{second:>6}  {events:>8}  {changes:>7}  ")?;
        for channel in CHANNELS {
            let delivered = self.deliveries.get(channel).copied().unwrap_or(0);
            write!(f, "{delivered:>7}")?;
        }
        write!(
            f,
            "  {:>9} {:>3} %  {:>6.1} s",
            self.avoided, self.avoided_percent, self.oldest_owed_seconds
        )?;
        for (channel, state) in &self.not_flowing {
            write!(f, "  {channel} is {state}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = [
            "CHANNEL",
            "CHANGES",
            "DELIVERED",
            "SUPPRESSED",
            "WITHHELD",
            "COALESCED",
            "OWED",
        ];
        let row = |totals: &ChannelTotals| {
            let numbers = [
                totals.changes,
                totals.delivered,
                totals.suppressed,
                totals.withheld,
                totals.coalesced,
                totals.owed,
            ];
            std::iter::once(totals.channel.to_owned())
                .chain(numbers.map(|number| number.to_string()))
                .collect::<Vec<String>>()
        };
        let rows: Vec<_> = self.channels.iter().map(row).collect();
        let events = &self.events;
        write!(
            f,
            "\n{} events in {:.0} s: {} filtered as noise, {} repeated, {} quarantined.\n\
             {} changes committed; {} unchanged and {} stale changes dropped. {} requests retried.\n\
             Nothing was owed {:.1} s after the last event.\n\n{}",
            events.sent,
            self.sending_seconds,
            events.filtered,
            events.repeated,
            events.quarantined,
            events.changes,
            events.unchanged,
            events.stale,
            events.retried,
            self.settling_seconds,
            table(&header, &rows),
        )
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.first_differences {
            writeln!(f, "  {difference}")?;
        }
        writeln!(
            f,
            "Compared {} products on {} channels with the last values that the systems sent, {} expected to exist and {} not: {} differences, {} \
             older states delivered after newer ones.",
            self.products,
            self.channels,
            self.expected,
            self.not_expected,
            self.differences,
            self.older,
        )?;
        f.write_str(if self.converged {
            "All channels have converged."
        } else {
            "Not all channels have converged."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_shown_is_a_text_and_a_line_of_json_with_its_kind() {
        let second = Second {
            second: 2,
            events: 424,
            changes: 446,
            deliveries: CHANNELS.into_iter().zip([240, 236, 88, 276]).collect(),
            avoided: 3478,
            avoided_percent: 63,
            oldest_owed_seconds: 1.04,
            not_flowing: [("storefront.fr".to_owned(), "tripped".to_owned())].into(),
        };
        let shown = Shown::Second(second);
        assert_eq!(
            shown.to_string(),
            "     2       424      446      240    236     88    276       3478  63 %     1.0 s  storefront.fr is tripped"
        );
        let json = serde_json::to_string(&shown).expect("JSON");
        assert!(!json.contains('\n'), "{json}");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            (&json["kind"], &json["deliveries"]["storefront.at"]),
            (&"second".into(), &88.into())
        );
        let json = serde_json::to_string(&Shown::Settling).expect("JSON");
        assert_eq!(json, r#"{"kind":"settling"}"#);
    }
}
