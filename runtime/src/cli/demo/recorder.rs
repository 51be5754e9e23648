//! The demo's targets: three shops and a search index in one small server on loopback. It keeps the
//! newest state of each entity, delays its responses, and can be switched off for a while.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;

use super::facts::CHANNELS;
use crate::sync;

/// Response time of each, in milliseconds, in the order of the channels. The Austrian shop is slow:
/// it receives fewer deliveries and still every final state.
const ANSWER_TIMES: [u64; 4] = [2, 10, 80, 25];

/// The contents and counts of one channel's target.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// Key → sequence and body; `None` if it was deleted.
    pub(super) entities: BTreeMap<String, (u64, Option<Value>)>,
    /// Entities put and deleted.
    pub(super) delivered: u64,
    /// Deliveries with an older sequence than one before them.
    pub(super) older: u64,
    /// Whether it responds 503 to every request.
    pub(super) away: bool,
}

/// The server; it ends with the process.
#[derive(Clone)]
pub(super) struct Recorder {
    /// Its address.
    pub(super) address: SocketAddr,
    held: Arc<Mutex<BTreeMap<&'static str, Held>>>,
}

impl Recorder {
    /// Listens on a free port of loopback.
    pub(super) async fn start() -> std::io::Result<Recorder> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let held = Arc::new(Mutex::new(
            CHANNELS
                .iter()
                .map(|channel| (*channel, Held::default()))
                .collect(),
        ));
        let recorder = Recorder {
            address: listener.local_addr()?,
            held,
        };
        let routes = Router::new().fallback(answer).with_state(recorder.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(recorder)
    }

    /// The base URL of the shops and of the search index.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The current contents and counts of a channel's target.
    pub(super) fn held(&self, channel: &str) -> Held {
        self.lock().get(channel).cloned().unwrap_or_default()
    }

    /// Entities delivered by channel, in the order of the channels.
    pub(super) fn delivered(&self) -> [u64; 4] {
        let held = self.lock();
        CHANNELS.map(|channel| held.get(channel).map_or(0, |held| held.delivered))
    }

    /// Makes a channel's target unavailable, or available again.
    pub(super) fn set_away(&self, channel: &str, away: bool) {
        if let Some(held) = self.lock().get_mut(channel) {
            held.away = away;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Held>> {
        sync::lock(&self.held)
    }
}

impl Held {
    fn put(&mut self, key: &str, sequence: u64, body: Option<Value>) {
        self.delivered += 1;
        match self.entities.get(key) {
            Some((newest, _)) if *newest > sequence => self.older += 1,
            _ => drop(self.entities.insert(key.to_owned(), (sequence, body))),
        }
    }
}

/// `PUT`, `DELETE` and `GET /{site}/p/{key}` for a shop's page; `POST /search` for documents, `GET
/// /search/{id}` for one.
async fn answer(
    State(recorder): State<Recorder>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let place = uri.path().split('/').nth(1).unwrap_or_default();
    let at = CHANNELS
        .iter()
        .position(|channel| channel.rsplit('.').next() == Some(place));
    let Some((at, channel)) = at.map(|at| (at, CHANNELS[at])) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let key = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    if method == Method::GET {
        return page(&recorder.held(channel), &key);
    }
    if recorder.lock().get(channel).is_some_and(|held| held.away) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    tokio::time::sleep(Duration::from_millis(ANSWER_TIMES[at])).await;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let sequence = headers
        .get("weir-sequence")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let mut held = recorder.lock();
    let Some(held) = held.get_mut(channel) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match (method, body) {
        (Method::PUT, body) => held.put(&key, sequence, Some(body)),
        (Method::DELETE, _) => held.put(&key, sequence, None),
        (_, Value::Array(items)) => items.iter().for_each(|item| {
            let id = item["key"].as_str().unwrap_or_default();
            let gone = item["deleted"].as_bool().unwrap_or(false);
            held.put(
                id,
                item["sequence"].as_u64().unwrap_or(0),
                (!gone).then(|| item["content"].clone()),
            );
        }),
        _ => return StatusCode::BAD_REQUEST.into_response(),
    }
    StatusCode::NO_CONTENT.into_response()
}

fn page(held: &Held, key: &str) -> Response {
    match held.entities.get(key) {
        Some((_, Some(body))) => axum::Json(body).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
