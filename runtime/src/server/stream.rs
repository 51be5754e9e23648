//! `GET /v1/stream`: what the console's overview shows, kept up to date by server-sent events. It is called
//! after what it is: a page has this one stream, and everything that is live on it comes from here.
//!
//! The first event is a `snapshot`; then `changes` has the fields that have changed since this client's last
//! event, about once a second. When nothing has been said for a while there is a `beat`, and before the
//! stream ends because its token has, a `bye`. A client that reads slowly misses moments, never changes:
//! what is kept for it is the number of the last moment that it got.
//!
//! Nothing is done while nobody looks. A moment is read and encoded once for all who look, by the first who
//! asks for it. However many channels there are, a stream carries about [`BYTES_PER_SECOND`]: after a long
//! event the next one waits longer.

mod picture;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

use self::picture::Picture;
use super::backend::Backend;
use super::console;
use super::params::Query;
use super::problem::Problem;
use super::state::AppState;
use super::viewer::{Says, endless, event};
use super::views::{ChannelView, JobView, SourceView, Time};
use crate::model::{Lane, Timestamp};
use crate::sync::lock;

/// The shortest time between two moments.
const LOOK: Duration = Duration::from_secs(1);
/// What `changes` carry to a client on average, at most.
const BYTES_PER_SECOND: u64 = 20_000;
/// Encoded events that are kept for other clients in the same place.
const ENCODED_MAX: usize = 4;
/// When a client that found no place may ask again.
const NO_PLACE_WAIT: Duration = Duration::from_secs(5);
/// Longer texts are cut in the stream; the routes of one channel have them whole.
const TEXT_MAX: usize = 300;

/// The streams of all listeners.
#[derive(Debug)]
pub(super) struct Streams {
    places: Arc<Semaphore>,
    moments: Mutex<Moments>,
    /// A name for this run of the program, by which a page notices a restart.
    boot: String,
}

/// What the last moment looked like, and when it may be looked at again.
#[derive(Debug)]
struct Moments {
    picture: Picture,
    time: Timestamp,
    next: Instant,
    /// The encoded events of this moment, by the moment of the client's last event. Nearly all clients are
    /// up to date, or begin.
    encoded: Vec<(u64, Bytes)>,
}

/// What a client gets at a moment.
struct Seen {
    /// Nothing if nothing has changed for it.
    event: Option<Bytes>,
    moment: u64,
    next: Instant,
}

impl Streams {
    /// At most this many at the same time.
    pub(super) fn new(places: usize) -> Streams {
        Streams {
            places: Arc::new(Semaphore::new(places)),
            moments: Mutex::new(Moments {
                picture: Picture::default(),
                time: Timestamp(0),
                next: Instant::now(),
                encoded: Vec::new(),
            }),
            boot: format!("{:016x}", fastrand::u64(..)),
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.places.clone().try_acquire_owned();
        place.map_err(|_| {
            let detail = "there are as many streams to consoles as there may be; close one, or try again in a moment";
            Problem::busy(detail, NO_PLACE_WAIT)
        })
    }

    /// What has changed since a client's last moment; 0 is that of one that has nothing yet.
    fn since(&self, backend: &dyn Backend, moment: u64) -> Seen {
        let (mut moments, now) = (lock(&self.moments), Instant::now());
        if moments.next <= now {
            moments.look(backend, now);
        }
        let event = (moment < moments.picture.moment()).then(|| self.event(&mut moments, moment));
        // The snapshot is not followed by a long silence: what a page shows first must be new.
        let changes = event.as_ref().filter(|_| moment > 0);
        let length = changes.map_or(0, |changes| changes.len() as u64);
        let pause = Duration::from_micros(length * 1_000_000 / BYTES_PER_SECOND);
        Seen {
            event,
            moment: moments.picture.moment(),
            next: moments.next.max(now + pause),
        }
    }

    fn event(&self, moments: &mut Moments, since: u64) -> Bytes {
        let known = moments.encoded.iter().find(|(other, _)| *other == since);
        if let Some((_, event)) = known {
            return event.clone();
        }
        let mut data = moments.picture.since(since);
        data.insert("time".to_owned(), time(moments.time));
        let name = if since == 0 {
            data.insert("boot".to_owned(), json!(self.boot));
            data.insert("build".to_owned(), json!(console::build()));
            "snapshot"
        } else {
            "changes"
        };
        let event = event(name, Value::Object(data));
        if moments.encoded.len() < ENCODED_MAX {
            moments.encoded.push((since, event.clone()));
        }
        event
    }
}

impl Moments {
    /// Takes a look at the running Weir.
    fn look(&mut self, backend: &dyn Backend, now: Instant) {
        let before = self.picture.moment();
        let channels = backend.channels();
        let owed = |of: fn(&ChannelView) -> u64| channels.iter().map(of).sum::<u64>();
        let lanes = [
            (Lane::Urgent, owed(|channel| channel.owed.urgent)),
            (Lane::Normal, owed(|channel| channel.owed.normal)),
            (Lane::Bulk, owed(|channel| channel.owed.bulk)),
        ];
        let lanes = lanes.map(|(lane, owed)| (lane.name().to_owned(), json!({ "owed": owed })));
        let sources = backend.sources().into_iter().map(of_source);
        self.picture.become_all([
            ("weir", vec![("weir".to_owned(), of_weir(backend))]),
            ("sources", sources.collect()),
            ("lanes", lanes.into()),
            ("channels", channels.into_iter().map(of_channel).collect()),
            ("jobs", backend.jobs().into_iter().map(of_job).collect()),
        ]);
        if self.picture.moment() != before {
            self.encoded.clear();
        }
        self.time = Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0));
        self.next = now + LOOK;
    }
}

fn of_weir(backend: &dyn Backend) -> Value {
    json!({
        "not_ready": backend.ready().err().unwrap_or_default(),
        "warnings": backend.warnings(),
    })
}

/// A source. A rate falls each second after the last event without anything happening, so a client makes it of
/// the counts.
fn of_source(view: SourceView) -> (String, Value) {
    let name = view.name.clone();
    let view = SourceView {
        events_per_second: None,
        factor: None,
        ..view
    };
    (name, serde_json::to_value(view).unwrap_or_default())
}

/// A channel, with what is shown of all channels at once: 108 of them are about 35 kB. The rest is at its route.
/// Ages change each second without anything happening, so only times are sent, and whether the channel is late.
fn of_channel(view: ChannelView) -> (String, Value) {
    let objective = view.freshness_objective_seconds;
    let sweep = view.last_sweep.filter(|_| view.owed.sweep > 0);
    let mut value = json!({
        "entity": view.entity,
        "state": view.state,
        "owed": { "urgent": view.owed.urgent, "normal": view.owed.normal, "bulk": view.owed.bulk, "total": view.owed.total },
        "refused": view.refused,
        "late": objective.is_some_and(|objective| view.overdue_seconds > objective),
        "delivered": view.deliveries.get("delivered").unwrap_or(&0) + view.deliveries.get("withdrawn").unwrap_or(&0),
    });
    let rest = [
        ("reason", json!(view.reason)),
        ("oldest_owed", json!(view.oldest_owed)),
        ("freshness_objective_seconds", json!(objective)),
        ("held", json!(Some(view.held).filter(|held| *held > 0))),
        (
            "held_feed",
            json!(
                view.feed
                    .and_then(|feed| feed.held)
                    .map(|held| held.records)
            ),
        ),
        ("sweep.left", json!(sweep.map(|_| view.owed.sweep))),
        ("sweep.total", json!(sweep.map(|sweep| sweep.total))),
        ("sweep.began", json!(sweep.map(|sweep| sweep.began))),
    ];
    for (field, it) in rest.into_iter().filter(|(_, it)| !it.is_null()) {
        value[field] = it;
    }
    (view.name, value)
}

/// A job, without what it has found: that is at its channel.
fn of_job(mut view: JobView) -> (String, Value) {
    view.drift = None;
    if let Some(redrive) = &mut view.redrive {
        redrive.failures.clear();
    }
    (
        view.id.clone(),
        serde_json::to_value(view).unwrap_or_default(),
    )
}

fn time(timestamp: Timestamp) -> Value {
    json!(Time(timestamp))
}

/// `GET /v1/stream`
pub(super) async fn stream(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response, Problem> {
    query.end()?;
    let place = state.streams.place()?;
    let picture = Following {
        state: state.clone(),
        moment: 0,
        next: Instant::now(),
    };
    Ok(endless(state, headers, place, picture))
}

/// A client that follows the picture.
struct Following {
    state: Arc<AppState>,
    /// That of its last event.
    moment: u64,
    /// When to look again.
    next: Instant,
}

impl Says for Following {
    fn news(&mut self, now: Instant) -> Option<Bytes> {
        if self.next > now {
            return None;
        }
        let seen = self.state.streams.since(&*self.state.backend, self.moment);
        (self.moment, self.next) = (seen.moment, seen.next);
        seen.event
    }

    fn more(&mut self) -> impl Future<Output = ()> + Send {
        sleep_until(self.next)
    }
}
