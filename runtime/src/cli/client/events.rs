//! Server-sent events: a response without an end, read event by event.

use std::time::Duration;

use axum::http::Method;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::super::Failure;
use super::{Client, RESPONSE_BYTES_MAX, Response};

/// A stream that is silent for longer than three of its signs of life is dead.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// The longest event.
const EVENT_BYTES_MAX: usize = 16 << 20;

/// The events of a route, as they come.
pub(in super::super) struct Events<'a> {
    client: &'a Client,
    body: Incoming,
    read: BytesMut,
}

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Event {
    pub(in super::super) name: String,
    /// JSON.
    pub(in super::super) data: String,
}

impl Client {
    /// Begins to read the events of a route; a problem is an error.
    ///
    /// # Errors
    /// When there is no response, or it reports a problem.
    pub(in super::super) async fn events(&self, path: &str) -> Result<Events<'_>, Failure> {
        let begin = self.begin(Method::GET, path, self.authorization(), Bytes::new());
        let begun = timeout(self.time_max, begin).await;
        let (parts, body) = begun.unwrap_or_else(|_| Err(self.late()))?;
        if parts.status.is_success() {
            return Ok(Events {
                client: self,
                body,
                read: BytesMut::new(),
            });
        }
        let collecting = Limited::new(body, RESPONSE_BYTES_MAX).collect();
        let body = timeout(self.time_max, collecting).await;
        let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
        let response = Response {
            status: parts.status,
            headers: parts.headers,
            body: body.unwrap_or_default(),
        };
        Err(Failure::Failed(response.problem()))
    }
}

impl Events<'_> {
    /// The next event.
    ///
    /// # Errors
    /// When the stream has ended, or is silent for too long.
    pub(in super::super) async fn next(&mut self) -> Result<Event, Failure> {
        let lost = |why: &str| self.client.unreachable(&format!("the stream {why}"), false);
        loop {
            if let Some(event) = take(&mut self.read) {
                return Ok(event);
            }
            if self.read.len() > EVENT_BYTES_MAX {
                return Err(lost("has an event that is too long"));
            }
            let frame = timeout(SILENCE_MAX, self.body.frame()).await;
            match frame {
                Err(_) => return Err(lost("is silent")),
                Ok(None) => return Err(lost("has ended")),
                Ok(Some(Err(error))) => return Err(lost(&format!("was cut off: {error}"))),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// Takes the first whole event out of what was read. Weir ends each line with LF.
fn take(read: &mut BytesMut) -> Option<Event> {
    let length = memchr::memmem::find(read, b"\n\n")?;
    let text = String::from_utf8_lossy(&read[..length]).into_owned();
    read.advance(length + 2);
    let field = |name: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    Some(Event {
        name: field("event"),
        data: field("data"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let sent = "event: tap\ndata: {}\n\nevent: item\ndata: {\"key\":\"ä\"}\n\n".as_bytes();
        for cut in 0..=sent.len() {
            let mut read = BytesMut::new();
            let mut events = Vec::new();
            for piece in [&sent[..cut], &sent[cut..]] {
                read.extend_from_slice(piece);
                events.extend(std::iter::from_fn(|| take(&mut read)));
            }
            let seen: Vec<_> = events.iter().map(|it| (&*it.name, &*it.data)).collect();
            assert_eq!(seen, [("tap", "{}"), ("item", "{\"key\":\"ä\"}")], "{cut}");
        }
    }
}
