//! Channels: the entities that each consumes, how it renders them, and where it delivers them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::basics::wrong_pattern;
use super::notes::{Notes, expanded, named};
use super::targets::{Targets, never_suppresses, refuses_batches, target, usual_batch};
use super::uses::uses;
use super::{Channel, Drift, Plugin};
use crate::config::cursor::{Cursor, Field};
use crate::config::row::{Row, WAS};
use crate::config::scalar;
use crate::config::text::suggestion;
use crate::dispatch::hours::{Hours, Span};
use crate::dispatch::{self, WithdrawMax, retry};
use crate::model::{EntityType, Lane, facet_matches, patterns_meet};
use crate::store::Debounce;

/// With more entities in one request, one slow response would delay too many.
const BATCH: RangeInclusive<i64> = 1..=10_000;
/// More than this is more than a target takes, and than a channel may have in memory.
const BATCH_BYTES: RangeInclusive<u64> = 1024..=16 * 1024 * 1024;
/// Times of changes are known to less than half a second, so a shorter wait would mean nothing. Nobody waits
/// for a day until an entity is quiet: such a channel wants `hours`.
const DEBOUNCE: RangeInclusive<Duration> = Duration::from_millis(500)..=DAY;
/// The longest wait if `debounce_max` is left out, as a multiple of `debounce`.
const DEBOUNCE_MAX_FACTOR: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The sections that a channel may refer to.
struct Known<'k> {
    entities: &'k BTreeMap<Arc<str>, EntityType>,
    plugins: &'k BTreeMap<Arc<str>, Plugin>,
    targets: Targets,
}

type Channels = BTreeMap<Arc<str>, Channel>;

pub(super) fn channels<'a>(
    root: &mut Cursor<'a>,
    notes: &mut Notes<'a>,
    entities: &BTreeMap<Arc<str>, EntityType>,
    plugins: &BTreeMap<Arc<str>, Plugin>,
    targets: Targets,
) -> (Channels, Targets) {
    let mut known = Known {
        entities,
        plugins,
        targets,
    };
    let mut channels = Channels::new();
    let mut before: Vec<(String, Arc<str>, Field<'a>)> = Vec::new();
    for field in named(root, "channels") {
        notes.place(field.path(), field.place());
        let mut by_row: Vec<(&str, Vec<String>)> = Vec::new();
        field.table(|table| {
            for row in notes.rows_of(table) {
                let name: Arc<str> = expanded(field.key, row).into();
                if let Some(row) = row {
                    table.fill_from(row);
                }
                if let Some((was, at)) = was(&field, table, row) {
                    before.push((was, name.clone(), at));
                }
                let channel = channel(name.clone(), table, row, notes, &mut known);
                if let Some(row) = row {
                    by_row.push((&row.name, channel.options.facets.clone()));
                }
                if channels.insert(name.clone(), channel).is_some() {
                    table.complain(
                        format!("there are two channels named {name:?}"),
                        "rename one of them".to_owned(),
                    );
                }
                notes.place(&format!("channels.{name}"), field.place());
            }
        });
        overlaps(&field, &by_row);
    }
    rename(&mut channels, before);
    let Known { mut targets, .. } = known;
    for name in &targets.inline {
        if let Some(was) = channels.get(name).and_then(|it| it.options.was.as_deref()) {
            targets.renamed.insert(name.clone(), was.into());
        }
    }
    (channels, targets)
}

/// Warns where one row's family takes facets that are meant for another row, as `price.{site}-*` of the
/// row `de` takes those of the row `de-at`. The patterns of a section come in the same order for each
/// row, and those without the row in them are equal.
fn overlaps(section: &Field<'_>, by_row: &[(&str, Vec<String>)]) {
    for (row, patterns) in by_row {
        for (other, theirs) in by_row.iter().filter(|(other, _)| other != row) {
            let covers = |(ours, theirs): &(&String, &String)| {
                let meant = theirs.strip_suffix('*').unwrap_or(theirs);
                ours != theirs && ours.ends_with('*') && facet_matches(ours, meant)
            };
            if let Some((ours, theirs)) = patterns.iter().zip(theirs).find(covers) {
                section.warn(
                    format!(
                        "the row {row:?} also gets the facets of the row {other:?}: {ours:?} covers {theirs:?}"
                    ),
                    "end the row's name in the pattern with a character that no row's name has, such as \"price.{site}/*\", or rename a row".to_owned(),
                );
            }
        }
    }
}

fn channel(
    name: Arc<str>,
    table: &mut Cursor<'_>,
    row: Option<&Row>,
    notes: &mut Notes<'_>,
    known: &mut Known<'_>,
) -> Channel {
    let entity = table.require(
        "entity",
        "write the type it consumes, such as entity = \"product\"",
    );
    let entity_type = entity
        .as_ref()
        .and_then(|field| entity_type(field, known.entities));
    let help = "write which facets it gets, such as facets = [\"content\", \"price.*\"]; nothing new leaks by default";
    let facets_field = table.require("facets", help);
    let facets = facets_field
        .as_ref()
        .map(|field| facets(field, entity_type))
        .unwrap_or_default();
    let needs = table
        .take("needs")
        .map(|field| needs(&field, facets_field.is_some().then_some(&facets)))
        .unwrap_or_default();
    let settings = table
        .take("settings")
        .and_then(|field| field.object())
        .unwrap_or_default();
    let mut columns = row.map(|row| row.columns.clone()).unwrap_or_default();
    columns.remove(WAS);
    if let Some(row) = row {
        // The row's own name, under the name of its table, as in the placeholder `{site}`.
        columns
            .entry(row.table.clone())
            .or_insert_with(|| row.name.clone().into());
    }
    let plugins = uses(table, notes, known.plugins, &[&columns, &settings]);
    let batch_field = table.take("batch");
    let batch = batch_field
        .as_ref()
        .and_then(|field| field.integer(BATCH))
        .and_then(|batch| usize::try_from(batch).ok());
    let batch_bytes = table
        .take("batch_bytes")
        .and_then(|field| field.size(BATCH_BYTES))
        .and_then(|bytes| usize::try_from(bytes).ok());
    let target = to_target(&name, table, row, &mut known.targets);
    let options = known.targets.by_name.get(&target).and_then(Option::as_ref);
    let usual = options.map_or((1, 1024 * 1024), usual_batch);
    let (batch, batch_bytes) = (batch.unwrap_or(usual.0), batch_bytes.unwrap_or(usual.1));
    if let Some(options) = options
        && let Some((complaint, help)) = refuses_batches(options)
        && let Some(field) = batch_field.filter(|_| batch > 1)
    {
        field.complain(complaint, help.to_owned());
    }
    let deliver = table
        .take("deliver")
        .and_then(|field| field.boolean())
        .unwrap_or(true);
    let never = options.and_then(never_suppresses);
    let suppress = table.take("suppress").and_then(|field| {
        let suppress = field.boolean()?;
        if let Some(why) = never.filter(|_| suppress) {
            let help = "leave suppress out: it is false here".to_owned();
            field.complain(why, help);
        }
        Some(suppress)
    });
    let suppress = suppress.unwrap_or(never.is_none());
    let freshness = table
        .take("freshness")
        .and_then(|field| field.duration(SECOND..=365 * DAY));
    let debounce = debounce(table);
    let retry = table
        .take("retry")
        .and_then(|field| field.table(|table| retry(&field, table)))
        .unwrap_or(RETRY);
    let hours = table
        .take("hours")
        .and_then(|field| field.table(hours))
        .flatten();
    let drift = table
        .take("drift")
        .and_then(|field| field.table(drift))
        .flatten();
    let withdraw_max = table
        .take("withdraw_max")
        .and_then(|field| field.table(withdraw_max))
        .unwrap_or(WITHDRAW_MAX);
    let entity_type = entity_type
        .map(|entity_type| entity_type.name.clone())
        .unwrap_or_default();
    let options = dispatch::Options {
        name,
        entity_type,
        facets,
        needs,
        target,
        batch,
        batch_bytes,
        deliver,
        suppress,
        freshness,
        debounce,
        hours,
        retry,
        withdraw_max,
        was: None,
    };
    Channel {
        options,
        plugins,
        drift,
    }
}

/// Reads when the target is checked for drift; `None` after a complaint.
fn drift(table: &mut Cursor<'_>) -> Option<Drift> {
    let every = table
        .require(
            "every",
            "write the time between two checks, such as every = \"1d\"",
        )
        .and_then(|field| field.duration(Duration::from_secs(60)..=365 * DAY));
    let sample = table
        .take("sample")
        .and_then(|field| field.integer(1..=i64::MAX))
        .and_then(|sample| u64::try_from(sample).ok());
    Some(Drift {
        every: every?,
        sample,
    })
}

/// Reads how long the channel waits until an entity is quiet.
fn debounce(table: &mut Cursor<'_>) -> Option<Debounce> {
    let field = table.take("debounce");
    let longest = table.take("debounce_max");
    let Some(field) = field else {
        if let Some(longest) = longest {
            let help = "add debounce, such as debounce = \"2s\", or remove it".to_owned();
            longest.complain("debounce_max bounds a wait, and there is no debounce", help);
        }
        return None;
    };
    let quiet = field.duration(DEBOUNCE)?;
    let max = match &longest {
        Some(longest) => longest.duration(DEBOUNCE)?,
        None => (quiet * DEBOUNCE_MAX_FACTOR).min(DAY),
    };
    if let Some(longest) = longest.filter(|_| max < quiet) {
        let complaint = format!(
            "the longest wait, {}, is shorter than debounce, {}",
            scalar::duration_text(max),
            scalar::duration_text(quiet)
        );
        let help = "write a longer one; it is how long an entity that changes all the time waits";
        longest.complain(complaint, help.to_owned());
    }
    Some(Debounce { quiet, max })
}

/// Reads the hours of lanes; `None` after a complaint.
fn hours(table: &mut Cursor<'_>) -> Option<Hours> {
    let help = "write the name of a zone, such as zone = \"Europe/Berlin\"";
    let zone = table
        .require("zone", help)
        .and_then(|field| field.parsed("a time zone", help, |name| TimeZone::get(name).ok()));
    let help = "write two times of the day, such as \"22:00-06:00\"";
    let lanes = Lane::ALL.map(|lane| {
        let field = table.take(lane.name());
        field.and_then(|field| field.parsed("hours of the day", help, Span::parse))
    });
    Some(Hours { zone: zone?, lanes })
}

fn entity_type<'k>(
    field: &Field<'_>,
    entities: &'k BTreeMap<Arc<str>, EntityType>,
) -> Option<&'k EntityType> {
    let name = field.string()?;
    let found = entities.get(name.as_str());
    if found.is_none() {
        let help = suggestion(&name, entities.keys().map(|name| &**name));
        field.complain_of_missing(
            format!("there is no entity type {name:?}"),
            help.unwrap_or_else(|| format!("write [entities.{name}]")),
        );
    }
    found
}

/// Reads patterns, each of which must be able to match a facet of the type.
fn facets(field: &Field<'_>, entity_type: Option<&EntityType>) -> Vec<String> {
    let patterns = field.list(|item| {
        let pattern = item.string()?;
        if let Some(why) = wrong_pattern(&pattern) {
            item.complain(
                why,
                "write a name, or a family such as \"price.*\"".to_owned(),
            );
        } else if let Some(entity_type) = entity_type
            && !entity_type
                .facets
                .iter()
                .any(|rule| patterns_meet(&pattern, &rule.pattern))
        {
            let help = suggestion(
                &pattern,
                entity_type.facets.iter().map(|rule| &*rule.pattern),
            );
            item.complain_of_missing(
                format!("{} has no facet {pattern:?}", entity_type.name),
                help,
            );
        }
        Some(pattern)
    });
    if field.is_empty_list() {
        field.complain(
            "the channel gets no facets",
            "write which, such as facets = [\"content\", \"price.*\"]".to_owned(),
        );
    }
    patterns
}

/// Reads patterns that the channel's facets must cover.
fn needs(field: &Field<'_>, facets: Option<&Vec<String>>) -> Vec<String> {
    field.list(|item| {
        let need = item.string()?;
        if let Some(facets) = facets
            && !facets.iter().any(|facet| covers(facet, &need))
        {
            let help = format!(
                "add {need:?} to facets; there is {}",
                crate::config::text::listed(facets.iter().map(String::as_str), 12)
            );
            item.complain(
                format!("the channel needs {need:?} but does not get it"),
                help,
            );
        }
        Some(need)
    })
}

/// Whether `wide` matches every name that `narrow` matches.
fn covers(wide: &str, narrow: &str) -> bool {
    wide == narrow
        || match (wide.strip_suffix('*'), narrow.strip_suffix('*')) {
            (Some(wide), Some(narrow)) => narrow.starts_with(wide),
            _ => facet_matches(wide, narrow),
        }
}

/// Returns the name of the channel's target. An inline target is added to the others under the
/// channel's name.
fn to_target(
    name: &Arc<str>,
    table: &mut Cursor<'_>,
    row: Option<&Row>,
    targets: &mut Targets,
) -> Arc<str> {
    let help =
        "write the name of a target, or inline: target = { kind = \"webhook\", url = \"…\" }";
    let Some(field) = table.require("target", help) else {
        return name.clone();
    };
    if field.is_table() {
        let options = field.table(|table| target(name.clone(), table, targets));
        if targets.by_name.contains_key(name) {
            let help = "give one of them another name".to_owned();
            field.complain(format!("this target gets the name of its channel, and there is already a target {name:?}"), help);
        } else {
            targets.by_name.insert(name.clone(), options.flatten());
            targets.inline.insert(name.clone());
        }
        return name.clone();
    }
    let Some(wanted) = field.string() else {
        return name.clone();
    };
    if !targets.by_name.contains_key(wanted.as_str()) {
        let help = match (targets.for_each.get(&wanted), row) {
            (Some(each), Some(row)) if *each == row.table => Some(format!(
                "there is one for each {each}: write \"{wanted}.{{{each}}}\""
            )),
            (Some(each), _) => Some(format!(
                "there is one for each {each}, so write which: \"{wanted}.NAME\""
            )),
            (None, _) => {
                let known = targets.by_name.keys().map(|name| &**name);
                suggestion(&wanted, known).or_else(|| Some(format!("write [targets.{wanted}]")))
            }
        };
        field.complain_of_missing(format!("there is no target {wanted:?}"), help);
    }
    wanted.into()
}

const RETRY: retry::Options = retry::Options {
    first: SECOND,
    factor: 2.0,
    cap: Duration::from_secs(600),
    attempts: 12,
    refused: HOUR,
};

fn retry(field: &Field<'_>, table: &mut Cursor<'_>) -> retry::Options {
    let mut wait = |key: &str, default| {
        let wait = table
            .take(key)
            .and_then(|field| field.duration(Duration::from_millis(1)..=DAY));
        wait.unwrap_or(default)
    };
    let (first, cap) = (wait("first", RETRY.first), wait("cap", RETRY.cap));
    let refused = wait("refused", RETRY.refused);
    let factor = table
        .take("factor")
        .and_then(|field| field.number(1.0..=100.0))
        .unwrap_or(RETRY.factor);
    let attempts = table
        .take("attempts")
        .and_then(|field| field.integer(1..=255))
        .and_then(|attempts| u8::try_from(attempts).ok());
    if first > cap {
        let texts = (scalar::duration_text(first), scalar::duration_text(cap));
        field.complain(
            format!(
                "the first wait is {}, longer than the cap of {}",
                texts.0, texts.1
            ),
            "make cap the longest wait".to_owned(),
        );
    }
    retry::Options {
        first,
        factor,
        cap,
        attempts: attempts.unwrap_or(RETRY.attempts),
        refused,
    }
}

const WITHDRAW_MAX: WithdrawMax = WithdrawMax {
    share: 0.02,
    per: HOUR,
    min: 100,
};

fn withdraw_max(table: &mut Cursor<'_>) -> WithdrawMax {
    let share = table
        .take("share")
        .and_then(|field| field.parsed("a share", scalar::SHARE, scalar::share));
    let per = table
        .take("per")
        .and_then(|field| field.duration(SECOND..=30 * DAY));
    let min = table
        .take("min")
        .and_then(|field| field.integer(0..=i64::from(u32::MAX)))
        .and_then(|min| u64::try_from(min).ok());
    WithdrawMax {
        share: share.unwrap_or(WITHDRAW_MAX.share),
        per: per.unwrap_or(HOUR),
        min: min.unwrap_or(WITHDRAW_MAX.min),
    }
}

/// The channel's old name, if the table of the channel or its row has another name now. For a row the
/// table's old name is expanded with the row's old name, unless it contains a placeholder for the row.
fn was<'a>(
    section: &Field<'a>,
    table: &mut Cursor<'a>,
    row: Option<&Row>,
) -> Option<(String, Field<'a>)> {
    let row_was = row.and_then(|row| row.was.as_deref());
    let before = |name: &str| match row_was {
        Some(was) => format!("{name}.{was}"),
        None => expanded(name, row),
    };
    let Some(field) = table.take("was") else {
        return row_was.map(|_| (before(section.key), section.clone()));
    };
    let was = field.string()?;
    let filled = row.is_some_and(|row| field.mentions(&row.table));
    Some((if filled { was } else { before(&was) }, field))
}

fn rename(channels: &mut Channels, before: Vec<(String, Arc<str>, Field<'_>)>) {
    let mut taken: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for (was, name, field) in before {
        if channels.contains_key(was.as_str()) {
            let help = "was names a channel that no longer exists; leave it out".to_owned();
            field.complain(format!("there is still a channel {was:?}"), help);
        } else if let Some(other) = taken.insert(was.clone(), name.clone()) {
            field.complain(
                format!("{other:?} was {was:?} as well"),
                "only one channel can continue where it stopped".to_owned(),
            );
        }
        if let Some(channel) = channels.get_mut(&name) {
            channel.options.was = Some(was);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_covered_by_what_holds_all_of_it() {
        assert!(
            covers("price.*", "price.de-*")
                && covers("price.*", "price.de")
                && covers("content", "content")
        );
        assert!(
            !covers("price.de-*", "price.*")
                && !covers("content", "content.*")
                && !covers("content", "base")
        );
    }
}
