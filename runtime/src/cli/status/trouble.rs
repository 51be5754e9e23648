//! What is wrong, in sentences, the worst first, each with the commands that help. The console says the same
//! (`assets/console/trouble.js`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::Look;
use crate::cli::moment::{ago, length};
use crate::server::views::{ChannelView, SourceView};

/// How wrong something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Grave {
    /// Somebody must look at some of the entities or events, some time.
    Some,
    /// It is late, or waits for somebody.
    Late,
    /// Nothing is delivered, or something is held back.
    Stopped,
    /// No events are taken.
    Closed,
}

impl Grave {
    /// A sign in front of the sentence.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Grave::Some => "-",
            Grave::Late => "!",
            Grave::Stopped | Grave::Closed => "x",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Trouble {
    pub(super) grave: Grave,
    /// A sentence.
    pub(super) text: String,
    /// The commands that help.
    pub(super) help: Vec<String>,
}

/// Channels that are named where several have the same trouble.
const NAMES_SHOWN: usize = 3;

/// All that is wrong, the worst first.
pub(super) fn troubles(look: &Look) -> Vec<Trouble> {
    let mut all: Vec<Trouble> = look
        .not_ready
        .iter()
        .map(|why| Trouble {
            grave: Grave::Closed,
            text: format!("Weir takes no events: {why}."),
            help: Vec::new(),
        })
        .collect();
    all.extend(look.warnings.iter().map(|warning| Trouble {
        grave: Grave::Late,
        text: format!("{}.", warning.trim_end_matches('.')),
        help: vec!["weir plugin list".to_owned()],
    }));
    all.extend(refused_configuration(look));
    all.extend(targets(&look.channels));
    all.extend(look.channels.iter().flat_map(channel));
    all.extend(look.sources.iter().flat_map(source));
    all.sort_by_key(|trouble| std::cmp::Reverse(trouble.grave));
    all
}

/// How wrong a channel is; `None` if it is not.
pub(super) fn of_channel(channel: &ChannelView) -> Option<Grave> {
    let target = is_stopped(channel).then_some(Grave::Stopped);
    let own = self::channel(channel).into_iter().map(|it| it.grave);
    own.chain(target).max()
}

/// Whether a change is overdue for longer than the objective.
pub(super) fn is_late(channel: &ChannelView) -> bool {
    (channel.freshness_objective_seconds).is_some_and(|it| channel.overdue_seconds > it)
}

fn is_stopped(channel: &ChannelView) -> bool {
    ["tripped", "probing", "ahead", "stopped"].contains(&channel.state.as_str())
}

/// A reload that was refused, in whole or for a plugin, or that ended halfway: a start would do otherwise.
fn refused_configuration(look: &Look) -> Option<Trouble> {
    let reload = look.configuration.last_reload.as_ref()?;
    if reload.success {
        return None;
    }
    let count = several(reload.complaints.len() as u64, "mistake", "mistakes");
    let when = ago(reload.time);
    let first = reload.complaints.first();
    let first = first.map(|first| format!(" The first: {}.", first.what.trim_end_matches('.')));
    let first = first.unwrap_or_default();
    let (what, help) = match (reload.partly_applied, look.configuration.files.first()) {
        (true, _) => (
            "ended halfway, so that some channels may not follow it",
            "weir reload".to_owned(),
        ),
        (false, Some(file)) => (
            "was refused, in whole or for a plugin",
            format!("weir check -c {file}"),
        ),
        (false, None) => (
            "was refused, in whole or for a plugin",
            "weir check".to_owned(),
        ),
    };
    Some(Trouble {
        grave: Grave::Late,
        text: format!("The last reload {what} ({when}, {count}).{first}"),
        help: vec![help],
    })
}

/// Targets that get no deliveries, each once with the channels that wait for it.
fn targets(channels: &[ChannelView]) -> Vec<Trouble> {
    let mut waiting: BTreeMap<(&str, bool), Vec<&ChannelView>> = BTreeMap::new();
    for channel in channels {
        let is_ahead = channel.state == "ahead";
        if is_ahead || channel.state == "tripped" || channel.state == "probing" {
            let of_target = waiting
                .entry((channel.target.as_str(), is_ahead))
                .or_default();
            of_target.push(channel);
        }
    }
    let trouble = |((target, is_ahead), channels): ((&str, bool), Vec<&ChannelView>)| {
        let first = channels.first()?;
        let nothing = nothing_from(&channels);
        let why = because(first);
        let owed: u64 = channels.iter().map(|channel| channel.owed.total).sum();
        let oldest = channels.iter().map(|channel| channel.freshness_seconds);
        let owed = owes(owed, oldest.fold(0.0, f64::max));
        let name = &first.name;
        Some(match is_ahead {
            false => Trouble {
                grave: Grave::Stopped,
                text: format!("Target {target} is tripped{why}: {nothing}. {owed}"),
                help: vec![
                    format!("weir channel show {name}"),
                    "weir check --connect".to_owned(),
                ],
            },
            true => Trouble {
                grave: Grave::Stopped,
                text: format!(
                    "Target {target} holds newer states than Weir has: {nothing}. If Weir is right, send everything over them:"
                ),
                help: vec![format!("weir channel overwrite {name}")],
            },
        })
    };
    waiting.into_iter().filter_map(trouble).collect()
}

/// What is wrong with a channel itself, not with its target.
fn channel(channel: &ChannelView) -> Vec<Trouble> {
    let name = &channel.name;
    let mut all = Vec::new();
    let mut add = |grave, text: String, help: &[&str]| {
        let help = help.iter().map(|command| format!("weir channel {command}"));
        let help = help.collect();
        all.push(Trouble { grave, text, help });
    };
    let owed = owes(channel.owed.total, channel.freshness_seconds);
    match channel.state.as_str() {
        "paused" => add(
            Grave::Late,
            format!("Channel {name} is paused{}. {owed}", because(channel)),
            &[&format!("resume {name}")],
        ),
        "stopped" => add(
            Grave::Stopped,
            format!(
                "The task of channel {name} has ended, which is a bug: keep the log, and start Weir again."
            ),
            &[&format!("show {name}")],
        ),
        _ => {}
    }
    if channel.held > 0 {
        let held = several(channel.held, "deletion", "deletions");
        add(
            Grave::Stopped,
            format!(
                "Channel {name} holds back {held}, more than its withdraw_max. If they are right, confirm them."
            ),
            &[
                &format!("entities {name} --state held"),
                &format!("confirm {name}"),
            ],
        );
    }
    let feed = channel.feed.as_ref();
    if let Some(held) = feed.and_then(|feed| feed.held) {
        let (records, before) = (held.records, held.before);
        add(
            Grave::Stopped,
            format!(
                "The feed of channel {name} would shrink from {before} records to {records}, so the earlier one is served. If that is right, confirm it."
            ),
            &[&format!("confirm {name}")],
        );
    }
    let bucket = feed.and_then(|feed| feed.bucket.as_ref());
    if let Some(why) = bucket.and_then(|bucket| bucket.reason.as_ref()) {
        let text = format!("The last feed of channel {name} is not in its bucket: {why}.");
        add(Grave::Late, text, &[&format!("show {name}")]);
    }
    if is_late(channel) && channel.state == "flowing" {
        let objective = channel.freshness_objective_seconds.unwrap_or_default();
        let (overdue, objective) = (seconds(channel.overdue_seconds), seconds(objective));
        add(
            Grave::Late,
            format!(
                "Channel {name} is late: a change has been owed for {overdue}, and its freshness is {objective}."
            ),
            &[&format!("show {name}")],
        );
    }
    if channel.refused > 0 {
        let refused = several(channel.refused, "entity", "entities");
        add(
            Grave::Some,
            format!("Channel {name} has {refused} refused."),
            &[&format!("entities {name} --state refused")],
        );
    }
    all
}

fn source(source: &SourceView) -> Vec<Trouble> {
    let name = &source.name;
    let silent = source.silent.then(|| {
        let last = match source.last_event {
            Some(last) => format!("its last event came {}", ago(last)),
            None => "no event has come since Weir started".to_owned(),
        };
        let quiet = source.quiet_seconds.map(seconds).unwrap_or_default();
        Trouble {
            grave: Grave::Late,
            text: format!("Source {name} is silent: {last}, and it is expected within {quiet}. Look at the system that sends, and at what it is answered:"),
            help: vec![format!("weir tap {name}")],
        }
    });
    let quarantined = (source.quarantined > 0).then(|| Trouble {
        grave: Grave::Some,
        text: format!(
            "Source {name} has {} in quarantine.",
            several(source.quarantined, "event", "events")
        ),
        help: vec![format!("weir quarantine list {name}")],
    });
    silent.into_iter().chain(quarantined).collect()
}

/// The reason of a channel's state, behind it.
fn because(channel: &ChannelView) -> String {
    let reason = channel.reason.as_deref().filter(|why| !why.is_empty());
    reason.map_or_else(String::new, |why| format!(" ({why})"))
}

/// That these channels deliver nothing.
fn nothing_from(channels: &[&ChannelView]) -> String {
    let names: Vec<&str> = channels.iter().map(|it| it.name.as_str()).collect();
    match names.as_slice() {
        [one] => format!("channel {one} delivers nothing"),
        [first, second] => format!("channels {first} and {second} deliver nothing"),
        all => format!(
            "channels {} and {} more deliver nothing",
            all[..all.len().min(NAMES_SHOWN - 1)].join(", "),
            all.len().saturating_sub(NAMES_SHOWN - 1)
        ),
    }
}

/// What is owed, in a sentence.
fn owes(total: u64, oldest: f64) -> String {
    match total {
        0 => "Nothing is owed.".to_owned(),
        _ => format!(
            "Up to {} are owed, the oldest change for {}.",
            several(total, "entity", "entities"),
            seconds(oldest)
        ),
    }
}

fn several(count: u64, one: &str, many: &str) -> String {
    let what = if count == 1 { one } else { many };
    format!("{count} {what}")
}

/// A length of time.
pub(super) fn seconds(seconds: f64) -> String {
    length((seconds.max(0.0) * 1e3) as u64)
}
