//! What a stream holds, for a drift check: single messages beside what they should be, and all keys.
//!
//! Keys are read through a consumer of the newest message of each subject, headers alone, that lives on the
//! server between two pages and is removed after the last, or by itself when nobody asks for a while.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde_json::json;

use super::stream::{Stream, api, state};
use super::{Connection, Nats, Session, permitted};
use crate::targets::broker;
use crate::targets::http;
use crate::targets::{Held, Item, Page};

/// Messages that are read at the same time.
const READS: usize = 64;
/// Keys of a page.
const PAGE: usize = 5_000;
/// How long a consumer lives without a question.
const IDLE: Duration = Duration::from_secs(300);

/// Compares messages with items.
///
/// # Errors
/// Why the stream cannot be asked.
pub(super) async fn compare(nats: &Nats, items: &[Item]) -> Result<Vec<Held>, String> {
    let session = session(nats).await?;
    let (connection, stream) = both(&session)?;
    let mut held = Vec::with_capacity(items.len());
    // In groups, so that no more than these have their bodies in memory.
    for group in items.chunks(READS) {
        let mut reads: FuturesOrdered<_> = group
            .iter()
            .map(|item| beside(nats, connection, stream, item))
            .collect();
        while let Some(result) = reads.next().await {
            held.push(result);
        }
    }
    Ok(held)
}

/// Compares a message with what it should be.
async fn beside(nats: &Nats, connection: &Connection, stream: &Stream, item: &Item) -> Held {
    let timeout = nats.options.timeout;
    let subject = nats.options.subject(item);
    let read = permitted(connection, stream.newest(connection, &subject));
    let found = match tokio::time::timeout(timeout, read).await {
        Ok(Ok(found)) => found,
        Ok(Err(outcome)) => return Held::Unknown(http::reason(outcome)),
        Err(_) => return Held::Unknown(format!("no answer within {timeout:?}")),
    };
    let there = found.filter(|stored| !stored.state.deleted);
    match (&item.rendering, there) {
        (None, None) => Held::Same,
        (None, Some(_)) => Held::Extra,
        (Some(_), None) => Held::Missing,
        (Some(rendering), Some(stored)) => {
            let media = rendering.content_type.as_deref();
            let same_body = stored.body == broker::body(item);
            let same_type = stored.content_type.as_deref().unwrap_or("application/json")
                == media.unwrap_or("application/json");
            match (same_body && same_type, stored.state.sequence) {
                (true, _) => Held::Same,
                (false, Some(sequence)) if sequence < item.sequence => Held::Older(sequence),
                (false, _) if same_body => Held::Different(vec!["content-type".to_owned()]),
                (false, _) => Held::Different(vec!["body".to_owned()]),
            }
        }
    }
}

/// A page of keys. `after` names the consumer, what it has read, and where it ends: what is written meanwhile is
/// not waited for, or a list beside a busy channel would have no end.
///
/// # Errors
/// Why the stream cannot be asked.
pub(super) async fn keys(nats: &Nats, after: Option<&str>) -> Result<Page, String> {
    let session = session(nats).await?;
    let (connection, stream) = both(&session)?;
    let timeout = nats.options.timeout;
    let page = async {
        let (consumer, read, end) = match after {
            Some(after) => {
                let (name, read, end) = position(after).ok_or("this is not the end of a page")?;
                (name.to_owned(), read, Some(end))
            }
            None => (consumer(nats, connection, stream).await?, 0, None),
        };
        next(nats, (connection, stream), &consumer, read, end).await
    };
    tokio::time::timeout(timeout, page)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {timeout:?}")))
}

/// The consumer, what it has read, and where it ends.
fn position(after: &str) -> Option<(&str, u64, u64)> {
    let mut parts = after.split(' ');
    let (name, read, end) = (parts.next()?, parts.next()?, parts.next()?);
    Some((name, read.parse().ok()?, end.parse().ok()?))
}

async fn session(nats: &Nats) -> Result<std::sync::Arc<Session>, String> {
    let timeout = nats.options.timeout;
    match tokio::time::timeout(timeout, nats.session()).await {
        Ok(session) => session.map_err(http::reason),
        Err(_) => Err(format!("NATS was not ready within {timeout:?}")),
    }
}

fn both(session: &Session) -> Result<(&Connection, &Stream), String> {
    let stream = session.stream.as_ref();
    let stream = stream.ok_or("core NATS keeps nothing that could be compared")?;
    Ok((&session.connection, stream))
}

/// Makes a consumer of all keys, and returns its name.
async fn consumer(nats: &Nats, connection: &Connection, stream: &Stream) -> Result<String, String> {
    let (stream, filter) = (&stream.name, nats.options.filter());
    let name = format!("weir-keys-{:016x}", fastrand::u64(..));
    let question = json!({
        "stream_name": stream,
        "config": {
            "name": name,
            "deliver_policy": "last_per_subject",
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subject": filter,
            "headers_only": true,
            "inactive_threshold": IDLE.as_nanos() as u64,
            "mem_storage": true,
            "num_replicas": 1,
        },
    });
    let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.{filter}");
    let made = permitted(connection, api(connection, subject, question)).await;
    match made.map_err(http::reason)? {
        Ok(_) => Ok(name),
        Err(problem) => Err(format!("no consumer can be made: {problem}")),
    }
}

async fn next(
    nats: &Nats,
    (connection, stream): (&Connection, &Stream),
    consumer: &str,
    read: u64,
    mut end: Option<u64>,
) -> Result<Page, String> {
    let stream = &stream.name;
    let question = json!({"batch": PAGE, "no_wait": true});
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
    let question = Bytes::from(question.to_string());
    let mut answers = connection.ask_many(subject, question).await?;
    let (mut keys, mut at, mut left) = (Vec::new(), read, 0);
    for _ in 0..PAGE {
        let message = tokio::select! {
            message = answers.next() => message.ok_or("the connection ended")?,
            text = connection.is_denied() => return Err(text),
        };
        match message.status.map(|status| status.as_u16()) {
            None => {}
            // There are no more.
            Some(404 | 408) => {
                left = 0;
                break;
            }
            Some(503) => {
                return Err("the list of keys was interrupted: begin again".to_owned());
            }
            Some(status) => {
                let said = message.description.unwrap_or_default();
                return Err(format!("the list of keys was answered {status} {said}"));
            }
        }
        let place = message.reply.as_deref().and_then(place);
        let (number, pending) = place.ok_or("a message without its place among the others")?;
        if number != at + 1 {
            return Err("a part of the list of keys was lost: begin again".to_owned());
        }
        let last = *end.get_or_insert(number + pending);
        (at, left) = (number, pending.min(last.saturating_sub(number)));
        let headers = message.headers.unwrap_or_default();
        let state = state(|name| headers.get(name).map(|value| value.as_str()));
        if !state.deleted {
            // What somebody else has written says no key. Where no entity of ours could be, it is shown as what
            // it is.
            let subject = message.subject.as_str();
            let key = state.key.or_else(|| nats.options.key(subject));
            keys.push(key.unwrap_or_else(|| subject.to_owned()));
        }
        if left == 0 {
            break;
        }
    }
    if left == 0 {
        let subject = format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}");
        // If this fails, it ends by itself.
        let _ = permitted(connection, api(connection, subject, json!({}))).await;
    }
    Ok(Page {
        keys,
        next: end
            .filter(|_| left > 0)
            .map(|end| format!("{consumer} {at} {end}")),
    })
}

/// The number of a message among those of its consumer, and how many come after it, from the subject that
/// would acknowledge it: `$JS.ACK.stream.consumer.deliveries.sequence.number.time.pending`, in newer servers
/// with a domain and an account before the stream and a random part at the end.
fn place(subject: &str) -> Option<(u64, u64)> {
    let parts: Vec<&str> = subject.split('.').collect();
    let (number, pending) = match parts.len() {
        9 => (parts[6], parts[8]),
        11.. => (parts[8], parts[10]),
        _ => return None,
    };
    Some((number.parse().ok()?, pending.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{place, position};

    #[test]
    fn a_position_that_no_page_has_ended_with_is_none() {
        assert_eq!(position("weir-keys-1 70 90"), Some(("weir-keys-1", 70, 90)));
        for wrong in ["", "weir-keys-1", "weir-keys-1 70", "weir-keys-1 70 x"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_place_of_a_message_is_in_both_forms_of_its_subject() {
        assert_eq!(place("$JS.ACK.S.C.1.70.7.1700000000.42"), Some((7, 42)));
        assert_eq!(place("$JS.ACK.D.A.S.C.1.70.7.1700000000.42"), Some((7, 42)));
        assert_eq!(
            place("$JS.ACK.D.A.S.C.1.70.7.1700000000.42.token"),
            Some((7, 42))
        );
        assert_eq!(place("$JS.ACK.S"), None);
    }
}
