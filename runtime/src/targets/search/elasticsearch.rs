//! Elasticsearch and OpenSearch: `_bulk` with external versions.
//!
//! Each action carries the revision of its entity as `version`, with `external_gte`: an older state never
//! replaces a newer one, and a repeated one passes. A version conflict is a delivery only if the version
//! that it names can be ours. A deleted version is remembered for a minute only, so a delete is repeated
//! after that time if an earlier request for the document had no answer: it may still be applied.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::document::{self, append};
use super::{Engine, Index, Outcome, Reply, again, is_uncertain, placed, refused};
use crate::model::Sequence;
use crate::sync::lock;
use crate::targets::http::Method;
use crate::targets::http::status::uncertain;
use crate::targets::{Attempt, Delivery, Item};

/// `index.gc_deletes` is 60 s, unless somebody has changed it; and a margin.
const DELETE_AGAIN_AFTER: Duration = Duration::from_secs(75);
/// The most documents of which it is remembered that a request for them had no answer.
const UNANSWERED_MAX: usize = 100_000;
/// A request of this length whose connection was reset twice in a row is taken for too long.
const RESET_BYTES_MIN: usize = 1024 * 1024;

/// What is remembered between attempts.
#[derive(Default)]
pub(super) struct State {
    /// When a request for a document was given up.
    unanswered: Mutex<HashMap<String, Instant>>,
    /// Requests in a row that were long and whose connection was reset.
    resets: AtomicU32,
}

pub(super) async fn deliver(engine: &Engine, index: Index, attempt: Attempt<'_>) -> Delivery {
    let ids = engine.ids(attempt.items);
    let mut outcomes: Vec<Option<Outcome>> = vec![None; attempt.items.len()];
    let (mut body, mut sent) = (Vec::new(), Vec::new());
    for (at, (item, id)) in attempt.items.iter().zip(&ids).enumerate() {
        let from = body.len();
        match action(engine, item, id, &mut body) {
            Ok(()) => sent.push(at),
            Err(reason) => {
                body.truncate(from);
                outcomes[at] = Some(refused(reason));
            }
        }
    }
    if sent.is_empty() {
        return placed(outcomes, &[], Vec::new()).into();
    }
    let length = body.len();
    // The engine gives up before Weir does, so that what it had to say arrives.
    let wait = (engine.options.http.timeout * 2 / 3).as_millis().max(1);
    let alias = if index.alias {
        "&require_alias=true"
    } else {
        ""
    };
    let filter = "filter_path=errors,error,status,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";
    let path = format!(
        "/{}/_bulk?timeout={wait}ms&{filter}{alias}",
        engine.options.index
    );
    let body = Some(("application/x-ndjson", body));
    let (state, began) = (&engine.elasticsearch, Instant::now());
    let (of_sent, wait, answered) = match engine.ask(Method::POST, &path, body, attempt.now).await {
        Ok(reply) => {
            state.resets.store(0, Ordering::Relaxed);
            let of_sent = judged(engine, &attempt, &sent, &reply);
            (of_sent, reply.wait, true)
        }
        // Some engines reset the connection of a request that is too long for them. One that takes too
        // long has too much to do, and halves would come at once.
        Err(outcome) => {
            let reset = is_uncertain(&outcome) && began.elapsed() < engine.options.http.timeout;
            let long = reset && length >= RESET_BYTES_MIN && sent.len() > 1;
            let outcome = match long && state.resets.fetch_add(1, Ordering::Relaxed) > 0 {
                true => again("the connection broke at two long requests in a row", true),
                false => outcome,
            };
            (vec![outcome; sent.len()], None, false)
        }
    };
    let mut outcomes = placed(outcomes, &sent, of_sent);
    state.note(&ids, attempt.items, &mut outcomes, answered);
    Delivery {
        outcomes,
        hints: wait.into(),
    }
}

impl State {
    /// Remembers requests without an answer, and holds back the outcome of a delete that an earlier
    /// request may undo.
    fn note(&self, ids: &[String], items: &[Item], outcomes: &mut [Outcome], answered: bool) {
        let mut unanswered = lock(&self.unanswered);
        if !unanswered.is_empty() {
            unanswered.retain(|_, at| at.elapsed() < DELETE_AGAIN_AFTER);
        }
        for ((id, item), outcome) in ids.iter().zip(items).zip(outcomes) {
            // Of a request that was answered, nothing comes late, even if its parts are sent again.
            let halved = matches!(outcome, Outcome::Split { .. });
            if is_uncertain(outcome) || (halved && !answered) {
                if unanswered.len() < UNANSWERED_MAX {
                    unanswered.insert(id.clone(), Instant::now());
                }
            } else if item.rendering.is_none()
                && *outcome == Outcome::Delivered
                && let Some(at) = unanswered.get(id)
            {
                *outcome = Outcome::Repeat {
                    reason: format!(
                        "deleted; an earlier request had no answer and may still write it, so it is deleted once more after {} s",
                        DELETE_AGAIN_AFTER.as_secs()
                    ),
                    after: DELETE_AGAIN_AFTER.saturating_sub(at.elapsed()),
                };
            }
        }
    }
}

fn action(engine: &Engine, item: &Item, id: &str, body: &mut Vec<u8>) -> Result<(), String> {
    let action = match item.rendering {
        Some(_) => "index",
        None => "delete",
    };
    body.extend_from_slice(format!("{{\"{action}\":{{\"_id\":").as_bytes());
    append(id, body);
    let version = item.sequence.0;
    body.extend_from_slice(
        format!(",\"version\":{version},\"version_type\":\"external_gte\"}}}}\n").as_bytes(),
    );
    if item.rendering.is_some() {
        document::write(item, None, engine.options.meta, body)?;
        body.push(b'\n');
    }
    Ok(())
}

/// The outcome of each item that was sent.
pub(super) fn judged(
    engine: &Engine,
    attempt: &Attempt<'_>,
    sent: &[usize],
    reply: &Reply,
) -> Vec<Outcome> {
    let all = |outcome: Outcome| vec![outcome; sent.len()];
    if !reply.is_success() {
        let kind = reply.str("/error/type");
        return match (reply.status, kind) {
            (_, kind) if is_of_target(kind, reply.str("/error/reason")) => all(reply.trip()),
            (413, _) if sent.len() > 1 => all(again(&reply.described(), true)),
            _ => reply.by_status(sent.len()),
        };
    }
    let items = reply.body.as_ref().and_then(|body| body.get("items"));
    let entries = match items.and_then(Value::as_array) {
        Some(entries) if entries.len() == sent.len() => entries,
        _ => {
            let reason = format!(
                "answered {} without a result for each of {} documents",
                reply.status,
                sent.len()
            );
            return all(reply.says_nothing(reason, sent.len()));
        }
    };
    let entry = |(at, entry): (&usize, &Value)| {
        let result = entry.as_object().and_then(|entry| entry.values().next());
        match result {
            Some(result) => one(engine, &attempt.items[*at], attempt.head, result),
            None => uncertain("the response has an entry without a result".into()),
        }
    };
    sent.iter().zip(entries).map(entry).collect()
}

/// The outcome of one item by its result.
fn one(engine: &Engine, item: &Item, head: Sequence, result: &Value) -> Outcome {
    let status = result.get("status").and_then(Value::as_u64).unwrap_or(0);
    let error = result.get("error");
    let text = |name: &str| {
        let value = error.and_then(|error| error.get(name));
        value.and_then(Value::as_str).unwrap_or_default()
    };
    let (kind, why) = (text("type"), text("reason"));
    let cause = error.and_then(|error| error.pointer("/caused_by/reason"));
    let cause = cause.and_then(Value::as_str).unwrap_or_default();
    let quote = match (error, cause) {
        (None, _) => String::new(),
        (_, "") => format!("{kind}: {why}"),
        _ => format!("{kind}: {why}: {cause}"),
    };
    let reason = engine.shown(status, &quote);
    match status {
        200..=299 if error.is_none() => Outcome::Delivered,
        404 if item.rendering.is_none() && error.is_none() => Outcome::Delivered,
        409 if kind == "version_conflict_engine_exception" => conflict(why, head, reason),
        _ if is_of_target(kind, why) || is_of_target(kind, cause) => Outcome::Trip { reason },
        429 => Outcome::Throttled {
            reason,
            after: None,
        },
        503 if kind == "unavailable_shards_exception" => Outcome::Throttled {
            reason,
            after: None,
        },
        400 => refused(reason),
        _ => uncertain(reason),
    }
}

/// The index holds another version: a newer state of ours is there already, or the versions are not
/// ours.
fn conflict(why: &str, head: Sequence, reason: String) -> Outcome {
    let current = why
        .split_once("current version [")
        .and_then(|(_, rest)| rest.split(']').next())
        .and_then(|version| version.parse::<u64>().ok());
    match current {
        Some(version) if version <= head.0 => Outcome::Delivered,
        Some(version) => Outcome::Ahead {
            reason: format!(
                "the index holds version {version}, and Weir has given out {} at most: the store was lost or restored, or somebody else writes the index",
                head.0
            ),
            sequence: Sequence(version),
        },
        None => uncertain(reason),
    }
}

/// Whether an error speaks of the index or of Weir's rights, whatever entity met it.
fn is_of_target(kind: &str, why: &str) -> bool {
    matches!(
        kind,
        "security_exception"
            | "cluster_block_exception"
            | "index_create_block_exception"
            | "index_closed_exception"
            | "index_not_found_exception"
            | "invalid_index_name_exception"
            | "invalid_alias_name_exception"
    ) || [
        "Limit of total fields",
        "no write index is defined",
        "Document ID is not supported",
        "is not an alias",
        "contains unrecognized parameter",
        "pipeline with id [",
        // A strict mapping without the fields that Weir writes takes no document at all.
        "dynamic introduction of [weir_",
    ]
    .iter()
    .any(|text| why.contains(text))
}

impl Engine {
    /// A reason with its status, redacted.
    pub(super) fn shown(&self, status: u64, quote: &str) -> String {
        let quote = self.client.redact(quote.as_bytes());
        let status = u16::try_from(status).unwrap_or_default();
        crate::targets::http::status::describe(status, &quote)
    }
}
