//! The stream that keeps the messages of a target: which it is, whether it is still the one that acknowledged
//! them, and what it holds under a subject.

use async_nats::header::HeaderMap;
use base64::Engine;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::answer::Problem;
use super::connection::{Connection, Silence, away, trip};
use super::{Form, Options};
use crate::signature::BASE64;
use crate::targets::Outcome;
use crate::targets::broker::State;

/// A stream, as it was when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) name: String,
    /// When it was made. Another one of this name has another time.
    pub(super) created: String,
    /// The sequence of its last message.
    pub(super) last: u64,
    pub(super) config: Config,
}

/// What of a stream's configuration means something here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) allow_direct: bool,
    pub(super) sealed: bool,
    /// Nanoseconds; 0 is for ever.
    pub(super) max_age: i64,
    /// -1 is without a limit, as in all of these.
    pub(super) max_msgs: i64,
    pub(super) max_bytes: i64,
    pub(super) max_msgs_per_subject: i64,
    pub(super) max_msg_size: i64,
    pub(super) discard: String,
    pub(super) retention: String,
    pub(super) num_replicas: i64,
    pub(super) storage: String,
}

/// How far a stream had come at the latest acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reached {
    stream: String,
    created: String,
    last: u64,
}

impl Reached {
    pub(super) fn at(stream: &Stream, last: u64) -> Reached {
        Reached {
            stream: stream.name.clone(),
            created: stream.created.clone(),
            last,
        }
    }

    /// Whether a later acknowledgement is one of the same stream.
    pub(super) fn is_in(&self, stream: &Stream) -> bool {
        self.stream == stream.name && self.created == stream.created
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// What shows that a stream does not hold any more what was acknowledged; `None` if nothing does.
    pub(super) fn is_lost_by(&self, stream: &Stream) -> Option<String> {
        if !self.is_in(stream) {
            return Some(format!(
                "the stream {:?} was made anew at {}; deliveries went to {:?} of {}",
                stream.name, stream.created, self.stream, self.created
            ));
        }
        (stream.last < self.last).then(|| {
            format!(
                "the stream {:?} ends at sequence {}, and has acknowledged {}: it was restored, or has lost its last messages",
                stream.name, stream.last, self.last
            )
        })
    }
}

/// A message that a stream holds.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// Its sequence in the stream.
    pub(super) at: u64,
    pub(super) state: State,
    pub(super) content_type: Option<String>,
    pub(super) body: Bytes,
}

/// Asks an API of JetStream.
///
/// # Errors
/// The outcome of an attempt that had to ask this first.
pub(super) async fn api(
    connection: &Connection,
    subject: String,
    question: Value,
) -> Result<Result<Value, Problem>, Outcome> {
    let payload = Bytes::from(question.to_string());
    let answer = connection.ask(subject, None, payload).await;
    let answer = answer.map_err(|silence| match silence {
        Silence::NoResponders => trip(format!(
            "{} has no JetStream, or this account may not use it",
            connection.server
        )),
        Silence::Lost(reason) => away(reason),
    })?;
    let answer: Value = serde_json::from_slice(&answer.payload)
        .map_err(|error| away(format!("an answer of JetStream is no JSON: {error}")))?;
    Ok(match answer.get("error") {
        Some(error) => Err(serde_json::from_value(error.clone()).unwrap_or(Problem {
            code: 0,
            err_code: 0,
            description: error.to_string(),
        })),
        None => Ok(answer),
    })
}

impl Stream {
    /// Looks for the stream of these options.
    ///
    /// # Errors
    /// The outcome of an attempt, if it is not there.
    pub(super) async fn look(
        connection: &Connection,
        options: &Options,
    ) -> Result<Stream, Outcome> {
        let name = match &options.form {
            Form::Bucket { bucket, .. } => format!("KV_{bucket}"),
            Form::Stream {
                stream: Some(name), ..
            } => name.clone(),
            Form::Stream { subject, .. } => {
                Stream::capturing(connection, &subject.filter()).await?
            }
            Form::Core { .. } => return Err(trip("core NATS has no stream".to_owned())),
        };
        let info = api(connection, format!("$JS.API.STREAM.INFO.{name}"), json!({})).await?;
        let info = match (info, &options.form) {
            (Ok(info), _) => info,
            (Err(problem), Form::Bucket { bucket, .. }) if problem.is_missing() => {
                return Err(trip(format!(
                    "there is no bucket {bucket:?}: make it with `nats kv add {bucket}`"
                )));
            }
            (Err(problem), _) if problem.is_missing() => {
                return Err(trip(format!("there is no stream {name:?}")));
            }
            (Err(problem), _) => return Err(problem.outcome()),
        };
        let stream = Stream {
            created: info["created"].as_str().unwrap_or_default().to_owned(),
            last: info["state"]["last_seq"].as_u64().unwrap_or_default(),
            config: serde_json::from_value(info["config"].clone()).unwrap_or_default(),
            name,
        };
        match stream.config.sealed {
            true => Err(trip(format!("the stream {:?} is sealed", stream.name))),
            false => Ok(stream),
        }
    }

    /// The stream that captures these subjects.
    async fn capturing(connection: &Connection, filter: &str) -> Result<String, Outcome> {
        let question = json!({"subject": filter});
        let found = api(connection, "$JS.API.STREAM.NAMES".to_owned(), question).await?;
        let found = found.map_err(|problem| problem.outcome())?;
        let names: Vec<&str> = found["streams"]
            .as_array()
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        match names[..] {
            [name] => Ok(name.to_owned()),
            [] => Err(trip(format!(
                "no stream captures {filter}: make one, such as `nats stream add --subjects '{filter}' --max-msgs-per-subject 1`"
            ))),
            _ => Err(trip(format!(
                "several streams capture {filter} ({}): write stream = \"…\"",
                names.join(", ")
            ))),
        }
    }

    /// The newest message of a subject.
    ///
    /// # Errors
    /// The outcome of an attempt, if it cannot be read.
    pub(super) async fn newest(
        &self,
        connection: &Connection,
        subject: &str,
    ) -> Result<Option<Stored>, Outcome> {
        let name = &self.name;
        if !self.config.allow_direct {
            let question = json!({"last_by_subj": subject});
            let found = api(
                connection,
                format!("$JS.API.STREAM.MSG.GET.{name}"),
                question,
            )
            .await?;
            return match found {
                Ok(found) => Ok(Some(by_api(&found["message"]))),
                Err(problem) if problem.is_missing() => Ok(None),
                Err(problem) => Err(problem.outcome()),
            };
        }
        let question = format!("$JS.API.DIRECT.GET.{name}.{subject}");
        let found = connection.ask(question, None, Bytes::new()).await;
        let found = found.map_err(|silence| match silence {
            Silence::NoResponders => away(format!("the stream {name:?} has no leader, or is gone")),
            Silence::Lost(reason) => away(reason),
        })?;
        match found.status.map(|status| status.as_u16()) {
            None => {}
            Some(404) => return Ok(None),
            Some(status) => {
                let said = found.description.unwrap_or_default();
                return Err(away(format!(
                    "reading {subject} was answered {status} {said}"
                )));
            }
        }
        let headers = found.headers.unwrap_or_default();
        let header = |name: &str| headers.get(name).map(|value| value.as_str());
        let at = header("Nats-Sequence").and_then(|text| text.parse().ok());
        Ok(Some(Stored {
            at: at.unwrap_or_default(),
            state: state(header),
            content_type: header("content-type").map(str::to_owned),
            body: found.payload,
        }))
    }
}

/// The state that a message has: a bucket marks deletions of its own, and so does a server when it drops the last
/// message of a subject.
pub(super) fn state<'h>(header: impl Fn(&str) -> Option<&'h str>) -> State {
    let mut state = State::read(&header);
    state.deleted |= matches!(header("KV-Operation"), Some("DEL" | "PURGE"))
        || header("Nats-Marker-Reason").is_some();
    state
}

/// A message as `STREAM.MSG.GET` shows it.
fn by_api(message: &Value) -> Stored {
    let decode = |name: &str| {
        let text = message[name].as_str().unwrap_or_default();
        BASE64.decode(text).unwrap_or_default()
    };
    let lines = decode("hdrs");
    let lines = String::from_utf8_lossy(&lines);
    let header = |name: &str| {
        lines.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found == name).then(|| value.trim())
        })
    };
    Stored {
        at: message["seq"].as_u64().unwrap_or_default(),
        state: state(header),
        content_type: header("content-type").map(str::to_owned),
        body: decode("data").into(),
    }
}

/// Bytes that headers have on the wire.
pub(super) fn header_bytes(headers: &HeaderMap) -> usize {
    let line = |name: &str, value: &str| name.len() + value.len() + ": \r\n".len();
    let lines = headers.iter().flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| line(name, value.as_str()))
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::state;

    #[test]
    fn each_way_to_say_that_a_message_is_a_deletion_is_understood() {
        for (name, value, deleted) in [
            ("weir-deleted", "true", true),
            ("KV-Operation", "DEL", true),
            ("KV-Operation", "PURGE", true),
            ("Nats-Marker-Reason", "MaxAge", true),
            ("Nats-Msg-Id", "1", false),
        ] {
            let found = state(|asked| (asked == name).then_some(value));
            assert_eq!(found.deleted, deleted, "{name}: {value}");
        }
    }
}
