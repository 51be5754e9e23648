//! `GET /v1/tap/sources/{source}` and `GET /v1/tap/channels/{channel}`: what passes, item by item, as
//! server-sent events.
//!
//! `tap` comes first and says what is shown. Then `item` has a story (`tap::story`), and `gap` before it the
//! number of items that passed since the last one and are not shown, and the figures so far. `beat` has the
//! figures too; it comes when nothing was said for a while. `bye` is the last event, with the figures, when the time of the tap is
//! over or the token has ended.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::params::{Query, Segments};
use super::problem::Problem;
use super::state::AppState;
use super::viewer::{Says, endless, event};
use crate::tap::story::{DELIVERY_OUTCOMES, EVENT_OUTCOMES, Story};
use crate::tap::{Figures, Listener, Side, Wanted};

/// Items a second, if the request does not say how many.
pub(super) const SAMPLE: u64 = 10;
/// The most items a second.
pub(super) const SAMPLE_MAX: u64 = 100;
/// When a client that found no place may ask again.
const NO_PLACE_WAIT: Duration = Duration::from_secs(10);

/// The taps of all listeners.
#[derive(Debug)]
pub(super) struct Taps {
    places: Arc<Semaphore>,
    places_max: usize,
}

impl Taps {
    /// At most this many at the same time.
    pub(super) fn new(places_max: usize) -> Taps {
        Taps {
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| {
            let most = self.places_max;
            let detail = format!(
                "{most} taps are open, and there may be no more at a time; close one, or wait: each ends by itself"
            );
            Problem::busy(detail, NO_PLACE_WAIT)
        })
    }
}

/// `GET /v1/tap/sources/{source}?key=&type=&outcome=&sample=&full=`
pub(super) async fn source(
    state: State<Arc<AppState>>,
    Segments(source): Segments<String>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    tap(state.0, Side::Source, &source, headers, query)
}

/// `GET /v1/tap/channels/{channel}?key=&type=&outcome=&sample=&full=`
pub(super) async fn channel(
    state: State<Arc<AppState>>,
    Segments(channel): Segments<String>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    tap(state.0, Side::Channel, &channel, headers, query)
}

fn tap(
    state: Arc<AppState>,
    side: Side,
    name: &str,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    let wanted = wanted(side, query)?;
    let point = state.backend.point(side, name)?;
    let place = state.taps.place()?;
    let listening = Listening {
        begin: Some(begin(side, name, &wanted, state.limits.tap_time)),
        ends: Instant::now() + state.limits.tap_time,
        listener: point.listen(wanted),
        next: None,
    };
    Ok(endless(state, headers, place, listening))
}

fn wanted(side: Side, mut query: Query) -> Result<Wanted, Problem> {
    let outcomes: &[&str] = match side {
        Side::Source => &EVENT_OUTCOMES,
        Side::Channel => &DELIVERY_OUTCOMES,
    };
    let filled = |value: &String| !value.is_empty();
    let wanted = Wanted {
        key: query.take("key").filter(filled),
        kind: query.take("type").filter(filled),
        outcome: query.take("outcome").filter(filled),
        per_second: query.number("sample", 1..=SAMPLE_MAX)?.unwrap_or(SAMPLE) as u32,
        full: query.flag("full")?,
    };
    query.end()?;
    if let Some(outcome) = &wanted.outcome
        && !outcomes.contains(&outcome.as_str())
    {
        let known = outcomes.join("`, `");
        let detail = format!("must be one of `{known}`, not `{outcome}`");
        return Err(Problem::bad_parameter("outcome", detail));
    }
    Ok(wanted)
}

fn begin(side: Side, name: &str, wanted: &Wanted, time: Duration) -> Bytes {
    let side = match side {
        Side::Source => "source",
        Side::Channel => "channel",
    };
    let data = json!({
        side: name,
        "key": wanted.key,
        "type": wanted.kind,
        "outcome": wanted.outcome,
        "sample": wanted.per_second,
        "full": wanted.full,
        "seconds": time.as_secs(),
    });
    event("tap", data)
}

/// A client that listens to a tap.
struct Listening {
    listener: Listener,
    /// The first event.
    begin: Option<Bytes>,
    /// What follows the `gap` that was just said.
    next: Option<Story>,
    /// When the time of the tap is over.
    ends: Instant,
}

impl Says for Listening {
    fn news(&mut self, _: Instant) -> Option<Bytes> {
        if let Some(begin) = self.begin.take() {
            return Some(begin);
        }
        let story = match self.next.take() {
            Some(story) => story,
            None => {
                let (gap, story) = self.listener.next()?;
                if gap > 0 {
                    self.next = Some(story);
                    let mut data = self.figures();
                    data["gap"] = json!(gap);
                    return Some(event("gap", data));
                }
                story
            }
        };
        let data = match &story {
            Story::Event(story) => json!(story),
            Story::Delivery(story) => json!(story),
        };
        Some(event("item", data))
    }

    async fn more(&mut self) {
        self.listener.news().await;
    }

    /// As texts: no reader rounds them.
    fn figures(&self) -> Value {
        let Figures {
            seen,
            skipped,
            dropped,
        } = self.listener.figures();
        json!({
            "seen": seen.to_string(),
            "skipped": skipped.to_string(),
            "dropped": dropped.to_string(),
        })
    }

    fn ends(&self) -> Option<Instant> {
        Some(self.ends)
    }
}
