//! Algolia: a batch of actions is accepted as a task, and delivered when the task is published.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::document::{self, append};
use super::{Engine, Outcome, Reply, again, placed, refused};
use crate::targets::http::status::uncertain;
use crate::targets::http::{Address, Method};
use crate::targets::{Attempt, Delivery};

/// The first wait before a task is asked for again, and the longest.
const POLL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long a task is followed.
const TASK_MAX: Duration = Duration::from_secs(600);

/// The hosts of an application, for the case that the first is dead. A host that is not Algolia's has no
/// others.
pub(super) fn hosts(url: &Address) -> Vec<String> {
    let url = url.as_str().trim_end_matches('/');
    let mut hosts = vec![url.to_owned()];
    if let Some(application) = url.strip_suffix(".algolia.net") {
        hosts.extend((1..=3).map(|number| format!("{application}-{number}.algolianet.com")));
    }
    hosts
}

pub(super) async fn deliver(engine: &Engine, attempt: Attempt<'_>) -> Delivery {
    let ids = engine.ids(attempt.items);
    let mut outcomes: Vec<Option<Outcome>> = vec![None; attempt.items.len()];
    let (mut body, mut sent) = (b"{\"requests\":[".to_vec(), Vec::new());
    for (at, (item, id)) in attempt.items.iter().zip(&ids).enumerate() {
        let from = body.len();
        if !sent.is_empty() {
            body.push(b',');
        }
        match action(engine, item, id, &mut body) {
            Ok(()) => sent.push(at),
            Err(reason) => {
                body.truncate(from);
                outcomes[at] = Some(refused(reason));
            }
        }
    }
    body.extend_from_slice(b"]}");
    if sent.is_empty() {
        return placed(outcomes, &[], Vec::new()).into();
    }
    let path = format!("/1/indexes/{}/batch", engine.options.index);
    let body = Some(("application/json", body));
    let of_sent = match engine.ask(Method::POST, &path, body, attempt.now).await {
        Ok(reply) if reply.is_success() => {
            let outcome = match reply.body.as_ref().and_then(|body| body.get("taskID")) {
                Some(task) => published(engine, &attempt, task).await,
                None => reply.says_nothing("answered without a taskID".into(), sent.len()),
            };
            vec![outcome; sent.len()]
        }
        Ok(reply) => refusal(&reply, sent.len()),
        Err(outcome) => vec![outcome; sent.len()],
    };
    placed(outcomes, &sent, of_sent).into()
}

fn action(
    engine: &Engine,
    item: &crate::targets::Item,
    id: &str,
    body: &mut Vec<u8>,
) -> Result<(), String> {
    match item.rendering {
        Some(_) => {
            body.extend_from_slice(b"{\"action\":\"updateObject\",\"body\":");
            document::write(item, Some(("objectID", id)), engine.options.meta, body)?;
        }
        None => {
            body.extend_from_slice(b"{\"action\":\"deleteObject\",\"body\":{\"objectID\":");
            append(id, body);
            body.push(b'}');
        }
    }
    body.push(b'}');
    Ok(())
}

/// Waits until a task is published; it never fails, it only takes its time.
async fn published(engine: &Engine, attempt: &Attempt<'_>, task: &Value) -> Outcome {
    let path = format!("/1/indexes/{}/task/{task}", engine.options.index);
    let (began, mut wait) = (Instant::now(), POLL.0);
    loop {
        // A look that fails is made again: the task goes on.
        if let Ok(reply) = engine.ask(Method::GET, &path, None, attempt.now).await {
            match reply.status {
                401 | 403 => {
                    let why = reply.described();
                    return uncertain(format!("task {task} cannot be followed: {why}"));
                }
                _ if reply.str("/status") == "published" => return Outcome::Delivered,
                _ => {}
            }
        }
        if began.elapsed() > TASK_MAX {
            return uncertain(format!("task {task} is not published after 10 minutes"));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 3 / 2).min(POLL.1);
    }
}

/// The outcomes of a request that was not accepted. A record that is too big is named by its position;
/// the others are sent again without it.
pub(super) fn refusal(reply: &Reply, items: usize) -> Vec<Outcome> {
    let position = reply.body.as_ref().and_then(|body| body.get("position"));
    let position = position.and_then(Value::as_u64).map(|at| at as usize);
    match (reply.status, position) {
        (400, Some(position)) if position < items => (0..items)
            .map(|at| match at == position {
                true => refused(reply.described()),
                false => again("another record of the request was refused", false),
            })
            .collect(),
        _ => reply.by_status(items),
    }
}
