//! Whoever reads a response of server-sent events that has no end: the console's stream, or a tap.
//!
//! Before anything is written it is checked whether the reader may still see it: a token that was removed sees
//! nothing more. When nothing has been said for a while there is a `beat`; `bye` is the last event, when the
//! token has ended or the time of the stream is over.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::access::{Access, check};
use super::problem::Problem;
use super::pulse::Endless;
use super::state::AppState;
use crate::plan::Role;

/// What is said to a reader.
pub(super) trait Says: Send + 'static {
    /// What is to be said now.
    fn news(&mut self, now: Instant) -> Option<Bytes>;

    /// Returns when there may be something to say.
    fn more(&mut self) -> impl Future<Output = ()> + Send;

    /// The members of each `beat`, and of `bye`.
    fn figures(&self) -> Value {
        json!({})
    }

    /// When the stream ends by itself.
    fn ends(&self) -> Option<Instant> {
        None
    }
}

/// A reader.
struct Viewer<S> {
    state: Arc<AppState>,
    /// Of its request: they prove its rights.
    headers: HeaderMap,
    says: S,
    /// When something was said last.
    said: Instant,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// The response to a reader, who has a place as long as it reads.
pub(super) fn endless(
    state: Arc<AppState>,
    headers: HeaderMap,
    place: OwnedSemaphorePermit,
    says: impl Says,
) -> Response {
    let viewer = Viewer {
        state,
        headers,
        says,
        said: Instant::now(),
        is_over: false,
        _place: place,
    };
    let events = unfold(viewer, async |mut viewer| {
        let event = viewer.event().await?;
        Some((Ok::<_, Infallible>(event), viewer))
    });
    let head = [
        (CONTENT_TYPE.as_str(), "text/event-stream"),
        (CACHE_CONTROL.as_str(), "no-cache, no-transform"),
        // nginx would keep events until it has a page of them.
        ("x-accel-buffering", "no"),
    ];
    let mut response = (head, Body::from_stream(events)).into_response();
    response.extensions_mut().insert(Endless);
    response
}

/// A server-sent event. Texts of others are in its data only, and JSON has no line breaks in texts.
pub(super) fn event(name: &str, data: Value) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

impl<S: Says> Viewer<S> {
    /// Waits for the next event; nothing follows a `bye`.
    async fn event(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        loop {
            if let Err(problem) = self.may_see() {
                return Some(self.bye(problem.code()));
            }
            let now = Instant::now();
            let ends = self.says.ends();
            if ends.is_some_and(|ends| ends <= now) {
                return Some(self.bye("time"));
            }
            if let Some(news) = self.says.news(now) {
                self.said = now;
                return Some(news);
            }
            let beat = self.said + self.state.limits.beat_time;
            if beat <= now {
                self.said = now;
                return Some(event("beat", self.says.figures()));
            }
            tokio::select! {
                () = self.says.more() => {}
                () = sleep_until(ends.map_or(beat, |ends| ends.min(beat))) => {}
            }
        }
    }

    fn may_see(&self) -> Result<(), Problem> {
        let state = &self.state;
        let (needs, tokens) = (Access::Needs(Role::Read), state.backend.tokens());
        let (sessions, reach) = (&state.sessions, state.reach());
        check(
            needs,
            &tokens,
            sessions,
            &reach,
            &Method::GET,
            &self.headers,
        )
        .map(|_| ())
    }

    fn bye(&mut self, why: &str) -> Bytes {
        self.is_over = true;
        let mut data = self.says.figures();
        data["why"] = json!(why);
        event("bye", data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A key with a line break would forge fields, and CR alone ends a line too.
    #[test]
    fn a_text_of_others_stays_in_its_data() {
        let bytes = event(
            "changes",
            json!({ "a\r\n\nb": "x\n\nevent: bye\r\0\u{2028}" }),
        );
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(!text.contains(['\r', '\0']), "{text:?}");
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines.len(), 4, "{text:?}");
        assert!(lines[1].starts_with("data: {") && lines[2].is_empty());
    }
}
