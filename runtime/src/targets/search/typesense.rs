//! Typesense: documents are imported as lines and answered line by line; deletions have a request of their
//! own.

use std::time::Duration;

use serde_json::Value;

use super::{Engine, Outcome, Reply, Written, placed, refused};
use crate::targets::http::Method;
use crate::targets::http::status::uncertain;
use crate::targets::{Attempt, Delivery};

/// The most ids in one deletion, and the most bytes of them: they are in its URL, of which older engines
/// read 2,000 bytes.
const DELETE_MAX: usize = 100;
const DELETE_BYTES_MAX: usize = 1_900;
/// The wait when the engine lags behind its own log.
const LAGGING: Duration = Duration::from_secs(10);

pub(super) async fn deliver(engine: &Engine, attempt: Attempt<'_>) -> Delivery {
    let Written {
        ids,
        documents,
        mut puts,
        deletes,
        mut outcomes,
    } = engine.lines(attempt.items);
    let collection = format!("/collections/{}/documents", engine.options.index);
    let longest = deletes.iter().map(|at| ids[*at].len() + 1).max();
    let at_once = (DELETE_BYTES_MAX / longest.unwrap_or(1)).clamp(1, DELETE_MAX);
    // What keeps the engine from taking one request keeps it from taking the others, which would each
    // wait for their own time-out.
    let mut stopped: Option<Outcome> = None;
    for part in deletes.chunks(at_once) {
        let outcome = match &stopped {
            Some(outcome) => outcome.clone(),
            None => {
                let gone: Vec<&str> = part.iter().map(|at| ids[*at].as_str()).collect();
                let path = format!("{collection}?filter_by=id:%5B{}%5D", gone.join(","));
                match engine.ask(Method::DELETE, &path, None, attempt.now).await {
                    Ok(reply) if reply.is_success() => Outcome::Delivered,
                    Ok(reply) => trouble(&reply, part.len()),
                    Err(outcome) => outcome,
                }
            }
        };
        let goes_on = matches!(
            outcome,
            Outcome::Delivered | Outcome::Refused { .. } | Outcome::Split { .. }
        );
        if !goes_on {
            stopped = Some(outcome.clone());
        }
        part.iter()
            .for_each(|at| outcomes[*at] = Some(outcome.clone()));
    }
    if let Some(outcome) = stopped {
        puts.iter()
            .for_each(|at| outcomes[*at] = Some(outcome.clone()));
        puts.clear();
    }
    if puts.is_empty() {
        return placed(outcomes, &[], Vec::new()).into();
    }
    let path = format!("{collection}/import?action=upsert&return_id=true");
    let body = Some(("text/plain", documents));
    let of_puts = match engine.ask(Method::POST, &path, body, attempt.now).await {
        Ok(reply) if reply.is_success() => lines(engine, &reply, puts.len()),
        Ok(reply) => vec![trouble(&reply, puts.len()); puts.len()],
        Err(outcome) => vec![outcome; puts.len()],
    };
    placed(outcomes, &puts, of_puts).into()
}

/// The outcome of each document by its line. An answer that breaks off looks whole, so lines that are
/// missing make their documents uncertain. Some versions repeat each document that they refuse: of an
/// answer that is too long because of that, the lines that were read count.
pub(super) fn lines(engine: &Engine, reply: &Reply, documents: usize) -> Vec<Outcome> {
    let read = match &reply.cut {
        Some(_) => reply.text.rsplitn(2, |byte| *byte == b'\n').nth(1),
        None => Some(&*reply.text),
    };
    let lines = read.unwrap_or_default().split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    let outcomes = lines.map(|line| match serde_json::from_slice::<Value>(line) {
        Ok(line) => one(engine, &line),
        Err(_) => uncertain("the response has a line that is not JSON".into()),
    });
    let mut outcomes: Vec<Outcome> = outcomes.collect();
    if outcomes.len() > documents {
        let reason = format!(
            "answered with {} lines for {documents} documents",
            outcomes.len()
        );
        return vec![uncertain(reason); documents];
    }
    let rest = match &reply.cut {
        Some(reason) if documents == 1 => refused(format!(
            "refused, it seems: {reason}, as an answer is only if it repeats a long document"
        )),
        _ => {
            let why = "the response has no line for this document".into();
            reply.says_nothing(why, documents)
        }
    };
    outcomes.resize(documents, rest);
    outcomes
}

fn one(engine: &Engine, line: &Value) -> Outcome {
    match line.get("success").and_then(Value::as_bool) {
        Some(true) => Outcome::Delivered,
        Some(false) => {
            let code = line.get("code").and_then(Value::as_u64).unwrap_or(400);
            let error = line
                .get("error")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let reason = engine.shown(code, error);
            match code {
                _ if is_out_of_resources(error) => Outcome::Trip { reason },
                400 | 409 | 413 | 422 => refused(reason),
                404 => Outcome::Trip { reason },
                _ => uncertain(reason),
            }
        }
        None => uncertain("the response has a line that says neither success nor failure".into()),
    }
}

/// The outcome of a request that failed as a whole.
pub(super) fn trouble(reply: &Reply, items: usize) -> Outcome {
    let text = String::from_utf8_lossy(&reply.text);
    match reply.status {
        422 if is_out_of_resources(&text) => reply.trip(),
        500 | 503 if text.contains("Not Ready or Lagging") || text.contains("find a leader") => {
            match reply.throttled() {
                Outcome::Throttled { reason, after } => Outcome::Throttled {
                    reason,
                    after: after.max(Some(LAGGING)),
                },
                outcome => outcome,
            }
        }
        _ => reply
            .by_status(items)
            .into_iter()
            .next()
            .unwrap_or_else(|| reply.trip()),
    }
}

/// Whether the engine refuses all writes because its disk or its memory is full.
fn is_out_of_resources(text: &str) -> bool {
    ["running out of resource type", "Skipping writes"]
        .iter()
        .any(|said| text.contains(said))
}
