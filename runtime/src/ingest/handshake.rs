//! The handshakes with which senders find out whether an endpoint wants their events.
//!
//! A source answers them only if its configuration names the sender. An answer repeats a short text of the
//! request; nothing is fetched, because a URL in a request is one that the sender chose. Where a sender
//! wants a URL opened, the request goes into quarantine, where a person finds it.

use crate::model::{Event, Failure, Payload, Timestamp};
use crate::signature::Secret;
use crate::traces;

use super::envelope::Unread;
use super::source::Arriving;
use super::verify::{self, parameter};
use super::{Headers, Incoming, ItemProblem, Rejection, Source, Summary, json, media};

/// The longest body that is looked at for a challenge: 16 KiB.
const CHALLENGE_BYTES_MAX: usize = 16 * 1024;
/// The longest text that is repeated.
const REPEATED_BYTES_MAX: usize = 2048;

/// How a sender asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// Slack: a POST of type `url_verification`, signed like all others.
    Slack,
    /// Azure Event Grid, in its own schema: a POST with a validation code. (With CloudEvents it asks by
    /// OPTIONS, which every source answers.)
    EventGrid,
    /// Microsoft Graph: a POST with `?validationToken=`.
    Graph,
    /// Adobe I/O Events: a GET with `?challenge=`.
    Adobe,
    /// Meta: a GET with `?hub.challenge=` and one of these tokens.
    Meta {
        /// What `hub.verify_token` may be.
        tokens: Vec<Secret>,
    },
    /// Amazon SNS: a POST with a URL that a person must open.
    Sns,
}

/// A request that may be a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its headers, with its path and query.
    pub headers: &'a Headers,
    /// Its body; `None` if it is a GET.
    pub body: Option<&'a [u8]>,
}

/// The answer to a challenge, with status 200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its media type.
    pub content_type: &'static str,
    /// Its body.
    pub body: String,
}

impl Handshake {
    /// The name, as `handshake` of a source has it.
    pub fn name(&self) -> &'static str {
        match self {
            Handshake::Slack => "slack",
            Handshake::EventGrid => "event-grid",
            Handshake::Graph => "graph",
            Handshake::Adobe => "adobe",
            Handshake::Meta { .. } => "meta",
            Handshake::Sns => "sns",
        }
    }

    /// Whether this parameter of the query belongs to a challenge by POST.
    pub fn reads(&self, query: &str) -> bool {
        *self == Handshake::Graph && query == "validationToken"
    }

    /// The answer, if the request is a challenge. Meta proves itself by its token.
    fn answer(&self, asked: Asked<'_>) -> Option<Answer> {
        let target = asked.headers.target();
        let query = |name| parameter(target, name).ok().flatten();
        match (self, asked.body) {
            (Handshake::Slack, Some(body)) => {
                let text = short(body)?;
                (member(text, "/type")? == "url_verification").then_some(())?;
                plain(member(text, "/challenge")?)
            }
            (Handshake::EventGrid, Some(body)) => {
                let kind = asked.headers.get("aeg-event-type")?;
                (kind == b"SubscriptionValidation").then_some(())?;
                let code = member(short(body)?, "/0/data/validationCode")?;
                let answer = serde_json::json!({ "validationResponse": repeated(code)? });
                Some(Answer {
                    content_type: "application/json",
                    body: answer.to_string(),
                })
            }
            (Handshake::Graph, Some(_)) => plain(query("validationToken")?),
            (Handshake::Adobe, None) => plain(query("challenge")?),
            (Handshake::Meta { tokens }, None) => {
                (query("hub.mode")? == "subscribe").then_some(())?;
                let given = query("hub.verify_token")?;
                verify::is_one_of(tokens, &given).then_some(())?;
                plain(query("hub.challenge")?)
            }
            _ => None,
        }
    }

    /// Why a person must see this request, if it asks for a URL to be opened.
    fn for_a_person(&self, incoming: &Incoming) -> Option<Failure> {
        if *self != Handshake::Sns {
            return None;
        }
        let kind = incoming.headers.get("x-amz-sns-message-type")?;
        let what = match kind {
            b"SubscriptionConfirmation" => {
                "Amazon SNS asks whether this source wants a topic: open the `SubscribeURL` of this message if it does, then drop the message"
            }
            b"UnsubscribeConfirmation" => {
                "Amazon SNS has ended the subscription of this source to a topic: open the `SubscribeURL` of this message if that is a mistake, then drop the message"
            }
            _ => return None,
        };
        Some(Failure::new("confirm-by-hand", what))
    }
}

impl Source {
    /// The answer to a request that is a challenge, and not an event.
    ///
    /// # Errors
    /// `NotVerified`: it is a challenge, and its sender cannot be verified.
    pub fn challenged(
        &self,
        asked: Asked<'_>,
        now: Timestamp,
    ) -> Result<Option<Answer>, Rejection> {
        let Some(handshake) = &self.options().handshake else {
            return Ok(None);
        };
        let Some(answer) = handshake.answer(asked) else {
            return Ok(None);
        };
        if !matches!(handshake, Handshake::Meta { .. }) {
            let body = asked.body.unwrap_or_default();
            verify::verify(&self.options().verify, asked.headers, body, now)?;
        }
        Ok(Some(answer))
    }

    /// Whether a person must see this request of a verified sender, and why.
    pub(super) fn for_a_person(&self, incoming: &Incoming) -> Option<Failure> {
        self.options().handshake.as_ref()?.for_a_person(incoming)
    }

    /// Keeps a request that a person must see.
    ///
    /// # Errors
    /// It could not be kept.
    pub(super) async fn keep_for_a_person(
        &self,
        incoming: Incoming,
        failure: Failure,
    ) -> Result<Summary, Rejection> {
        let (content_type, _) = media::content_type(&incoming.headers);
        let data = Payload::from_bytes(incoming.body.into());
        let unread = Unread {
            index: 0,
            item: Event::plain(content_type.as_deref(), data),
            failure,
            whole: false,
        };
        let arriving = Arriving {
            lane: incoming.lane,
            arrival: None,
        };
        let kept = vec![self.keep_unread(unread, arriving)];
        let done = self.commit(&[], kept, |_| None, traces::now()).await;
        self.activity.taken(done.events, done.changes);
        let sequence = self.head(&done).0;
        let problems = done.problems.into_iter();
        let problems = problems.map(|(at, failure)| ItemProblem::new(at, failure));
        let summary = Summary {
            events: done.events,
            changes: done.changes,
            problems: problems.collect(),
            sequence,
            ..Summary::default()
        };
        match done.trouble {
            None => Ok(summary),
            Some(trouble) => Err(trouble.rejection(summary)),
        }
    }
}

/// A body that may be a challenge, as text.
fn short(body: &[u8]) -> Option<&str> {
    (body.len() <= CHALLENGE_BYTES_MAX).then_some(())?;
    let text = json::text(body).ok()?;
    json::check(text).ok().map(|()| text)
}

/// The text at a pointer into a body.
fn member(text: &str, pointer: &str) -> Option<String> {
    serde_json::from_str(json::at(text, pointer).ok()??).ok()
}

/// A text that may be repeated to its sender.
fn repeated(text: String) -> Option<String> {
    let is_fine = text.len() <= REPEATED_BYTES_MAX && !text.chars().any(char::is_control);
    is_fine.then_some(text)
}

fn plain(text: String) -> Option<Answer> {
    repeated(text).map(|body| Answer {
        content_type: "text/plain; charset=utf-8",
        body,
    })
}
