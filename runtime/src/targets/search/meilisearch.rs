//! Meilisearch: documents are accepted as a task, and delivered when the task has succeeded.
//!
//! A task takes all of its documents or none, and says which one is wrong only of the first. It carries
//! the id of its attempt, so that it is found again if the answer to the request was lost.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Engine, Outcome, Reply, Written, again, is_uncertain, placed, refused};
use crate::targets::http::Method;
use crate::targets::http::status::uncertain;
use crate::targets::{Attempt, Delivery};

/// The first wait before a task is asked for, and the longest.
const POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How long a task is followed.
const TASK_MAX: Duration = Duration::from_secs(600);
/// The tasks among which a lost one is looked for.
const LOST_AMONG: usize = 100;

pub(super) async fn deliver(engine: &Engine, attempt: Attempt<'_>) -> Delivery {
    let Written {
        ids,
        documents,
        puts,
        deletes,
        mut outcomes,
    } = engine.lines(attempt.items);
    let index = &engine.options.index;
    let mark = |kind: &str| {
        format!(
            "weir-{kind}-{:032x}-{:016x}",
            attempt.trace.trace, attempt.trace.span
        )
    };
    // Deletions come first: the key of one entity may have become that of another.
    if !deletes.is_empty() {
        let mark = mark("delete");
        let path = format!("/indexes/{index}/documents/delete-batch?customMetadata={mark}");
        let gone: Vec<&str> = deletes.iter().map(|at| ids[*at].as_str()).collect();
        let body = (
            "application/json",
            Value::from(gone).to_string().into_bytes(),
        );
        let outcome = task(engine, &attempt, &path, body, &mark, deletes.len()).await;
        deletes
            .iter()
            .for_each(|at| outcomes[*at] = Some(outcome.clone()));
    }
    if !puts.is_empty() {
        let mark = mark("put");
        let path = format!("/indexes/{index}/documents?primaryKey=id&customMetadata={mark}");
        let body = ("application/x-ndjson", documents);
        let outcome = task(engine, &attempt, &path, body, &mark, puts.len()).await;
        puts.iter()
            .for_each(|at| outcomes[*at] = Some(outcome.clone()));
    }
    placed(outcomes, &[], Vec::new()).into()
}

/// Makes a request and follows its task to the end.
async fn task(
    engine: &Engine,
    attempt: &Attempt<'_>,
    path: &str,
    body: (&'static str, Vec<u8>),
    mark: &str,
    items: usize,
) -> Outcome {
    let number = match engine
        .ask(Method::POST, path, Some(body), attempt.now)
        .await
    {
        Ok(reply) if reply.is_success() => {
            let number = reply.body.as_ref().and_then(|body| body.get("taskUid"));
            match number.and_then(Value::as_u64) {
                Some(number) => number,
                None => return uncertain("answered without a taskUid".into()),
            }
        }
        Ok(reply) => return refusal(&reply, items),
        Err(outcome) if is_uncertain(&outcome) => match find(engine, attempt, mark).await {
            Some(number) => number,
            None => return outcome,
        },
        Err(outcome) => return outcome,
    };
    let (began, mut wait) = (Instant::now(), POLL.0);
    loop {
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(POLL.1);
        let path = format!("/tasks/{number}");
        // A look that fails is made again: the task goes on.
        if let Ok(reply) = engine.ask(Method::GET, &path, None, attempt.now).await {
            match reply.str("/status") {
                "succeeded" => return Outcome::Delivered,
                "failed" => return failure(engine, &reply, items),
                "canceled" => return uncertain(format!("task {number} was canceled")),
                _ if matches!(reply.status, 401 | 403) => {
                    let why = reply.described();
                    return uncertain(format!("task {number} cannot be followed: {why}"));
                }
                _ => {}
            }
        }
        if began.elapsed() > TASK_MAX {
            return uncertain(format!("task {number} has not ended within 10 minutes"));
        }
    }
}

/// The task with this mark, if its request arrived.
async fn find(engine: &Engine, attempt: &Attempt<'_>, mark: &str) -> Option<u64> {
    let path = format!(
        "/tasks?indexUids={}&limit={LOST_AMONG}",
        engine.options.index
    );
    let reply = engine
        .ask(Method::GET, &path, None, attempt.now)
        .await
        .ok()?;
    let tasks = reply.body.as_ref()?.get("results")?.as_array()?.clone();
    let ours = |task: &&Value| task.get("customMetadata").and_then(Value::as_str) == Some(mark);
    tasks.iter().find(ours)?.get("uid")?.as_u64()
}

/// The outcome of a request that was not accepted.
pub(super) fn refusal(reply: &Reply, items: usize) -> Outcome {
    match (reply.status, reply.str("/code")) {
        (_, "no_space_left_on_device" | "index_not_found" | "invalid_api_key") => reply.trip(),
        (413, _) if items > 1 => again(&reply.described(), true),
        // Documents are read later, by the task. What else is wrong with a request is wrong with each,
        // such as `customMetadata` for a version before 1.26.
        (400 | 409 | 415 | 422, code) if !matches!(code, "" | "malformed_payload") => reply.trip(),
        _ => reply
            .by_status(items)
            .into_iter()
            .next()
            .unwrap_or_else(|| reply.trip()),
    }
}

/// The outcome of a task that has failed.
pub(super) fn failure(engine: &Engine, reply: &Reply, items: usize) -> Outcome {
    let (code, message) = (reply.str("/error/code"), reply.str("/error/message"));
    let quote = format!("the task failed: {code}: {message}");
    let reason = engine.shown(u64::from(reply.status), &quote);
    let of_entity = matches!(
        code,
        "invalid_document_id"
            | "missing_document_id"
            | "invalid_document_fields"
            | "invalid_document_geo_field"
            | "invalid_document_geojson_field"
            | "invalid_vector_dimensions"
            | "invalid_vectors_type"
    );
    match (of_entity, items) {
        (true, 1) => refused(reason),
        (true, _) => again(&reason, false),
        (false, _) => Outcome::Trip { reason },
    }
}
