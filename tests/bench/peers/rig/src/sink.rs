//! The sink: one server that stands for all sites, each with a path of its own.
//!
//! It answers every `POST` and `PUT` with an empty 200 and notes, for each path and product, the state that
//! arrived last and the newest that ever arrived. `POST /check` compares that with what the load says it
//! sent: a pair (path, product) whose last arrival is older than the newest state is wrong for good, because
//! nothing will correct it. `POST /day/SITES/END/UNTIL` compares it with when each event of a day was due.
//!
//! The path `/dead` is one more site: it takes connections and requests, and never answers.

mod freshness;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State as Shared};
use axum::http::{StatusCode, Uri};
use axum::routing::{any, get, post};
use serde::Serialize;

use self::freshness::{Arrival, Freshness};
use crate::events::{Due, State, states};
use crate::now_ms;

/// Most bytes of a delivery, and of an expectation.
const BODY_BYTES_MAX: usize = 256 << 20;
/// Products are numbered from zero; a larger number is not from the load.
const KEYS_MAX: u32 = 100_000_000;

/// Arguments of `peers-rig sink`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Port on the loopback address
    #[arg(long, value_name = "PORT")]
    port: u16,
}

/// What arrived at a path.
#[derive(Default)]
struct Site {
    requests: u64,
    items: u64,
    bytes: u64,
    /// Arrivals of an older state after a newer one of the same product.
    older: u64,
    /// Items whose state could not be read.
    unread: u64,
    first_ms: u64,
    last_ms: u64,
    /// For each product the state that arrived last and the newest one; events are numbered from 1.
    arrived: Vec<(u32, u32)>,
    /// All arrivals in their order.
    log: Vec<Arrival>,
}

#[derive(Clone, Default)]
struct Sites(Arc<Mutex<BTreeMap<String, Site>>>);

/// Totals over all paths. Times are milliseconds since 1970, 0 if nothing arrived.
#[derive(Serialize)]
struct Stats {
    requests: u64,
    items: u64,
    bytes: u64,
    older_after_newer: u64,
    unread: u64,
    paths: usize,
    first_ms: u64,
    last_ms: u64,
}

/// The comparison with what was sent, over the paths at which something arrived.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Verdict {
    paths: usize,
    keys: usize,
    /// Pairs at which the newest state has arrived, whatever came after it.
    newest_arrived: u64,
    /// Pairs whose last arrival is older than the newest state.
    stale: u64,
    /// Pairs at which nothing arrived.
    missing: u64,
}

/// Serves until it is stopped.
///
/// # Errors
/// The port cannot be opened.
pub async fn run(options: Options) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .map_err(|error| format!("{address} could not be opened: {error}"))?;
    axum::serve(listener, router())
        .await
        .map_err(|error| format!("the sink stopped: {error}"))
}

fn router() -> Router {
    Router::new()
        .route(
            "/stats",
            get(|Shared(sites): Shared<Sites>| async move { Json(sites.stats()) }),
        )
        .route("/check", post(check))
        .route("/day/{sites}/{end_ms}/{until_ms}", post(day))
        .route("/dead", any(std::future::pending::<()>))
        .fallback(any(deliver))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Sites::default())
}

async fn deliver(Shared(sites): Shared<Sites>, uri: Uri, body: Bytes) {
    if !body.is_empty() {
        sites.arrived(uri.path(), &body, now_ms());
    }
}

async fn check(
    Shared(sites): Shared<Sites>,
    expected: String,
) -> Result<Json<Verdict>, StatusCode> {
    let expected = expected
        .lines()
        .map(expectation)
        .collect::<Option<Vec<State>>>()
        .ok_or(StatusCode::BAD_REQUEST)?;
    Ok(Json(sites.check(&expected)))
}

/// How long the sites waited for the events of a day that ended at `end_ms`, as known at `until_ms`.
async fn day(
    Shared(sites): Shared<Sites>,
    Path((count, end_ms, until_ms)): Path<(usize, u64, u64)>,
    events: String,
) -> Result<Json<Freshness>, StatusCode> {
    let events = events
        .lines()
        .map(Due::read)
        .collect::<Option<Vec<Due>>>()
        .ok_or(StatusCode::BAD_REQUEST)?;
    let sites = sites.lock();
    let logs = sites.values().map(|site| site.log.as_slice());
    // A site that nothing reached has no log.
    let logs = logs.chain(std::iter::repeat(&[][..])).take(count);
    Ok(Json(Freshness::compare(events, logs, end_ms, until_ms)))
}

/// A line that the load wrote: the product and the number of its newest event.
fn expectation(line: &str) -> Option<State> {
    let (key, seq) = line.split_once(' ')?;
    Some(State {
        key: key.parse().ok()?,
        seq: seq.parse().ok()?,
    })
}

impl Sites {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Site>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(&self, path: &str, body: &[u8], now_ms: u64) {
        let (states, unread) = states(body);
        let mut sites = self.lock();
        if !sites.contains_key(path) {
            sites.insert(path.to_owned(), Site::default());
        }
        let Some(site) = sites.get_mut(path) else {
            return;
        };
        site.requests += 1;
        site.items += (states.len() as u64 + unread).max(1);
        site.bytes += body.len() as u64;
        site.unread += unread;
        if site.first_ms == 0 {
            site.first_ms = now_ms;
        }
        site.last_ms = now_ms;
        for State { key, seq } in states {
            if key > KEYS_MAX {
                site.unread += 1;
                continue;
            }
            let ms = now_ms;
            site.log.push(Arrival { key, seq, ms });
            let key = key as usize;
            if site.arrived.len() <= key {
                site.arrived.resize(key + 1, (0, 0));
            }
            let (last, newest) = &mut site.arrived[key];
            site.older += u64::from(seq < *newest);
            (*last, *newest) = (seq, seq.max(*newest));
        }
    }

    fn stats(&self) -> Stats {
        let sites = self.lock();
        let sum = |field: fn(&Site) -> u64| sites.values().map(field).sum();
        Stats {
            requests: sum(|site| site.requests),
            items: sum(|site| site.items),
            bytes: sum(|site| site.bytes),
            older_after_newer: sum(|site| site.older),
            unread: sum(|site| site.unread),
            paths: sites.len(),
            first_ms: sites.values().map(|site| site.first_ms).min().unwrap_or(0),
            last_ms: sites.values().map(|site| site.last_ms).max().unwrap_or(0),
        }
    }

    fn check(&self, expected: &[State]) -> Verdict {
        let sites = self.lock();
        let mut verdict = Verdict {
            paths: sites.len(),
            keys: expected.len(),
            ..Verdict::default()
        };
        for site in sites.values() {
            for State { key, seq } in expected {
                match site.arrived.get(*key as usize) {
                    None | Some((0, _)) => verdict.missing += 1,
                    Some((last, newest)) => {
                        verdict.stale += u64::from(last < seq);
                        verdict.newest_arrived += u64::from(newest >= seq);
                    }
                }
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Format;

    fn deliver(sites: &Sites, path: &str, key: u32, seq: u32) {
        let body = Format::Plain.write(State { key, seq }, 0);
        sites.arrived(path, body.as_bytes(), 1);
    }

    #[test]
    fn what_arrived_last_decides_whether_a_pair_is_stale() {
        let sites = Sites::default();
        for (path, key, seq) in [
            ("/s1", 0, 1), // superseded
            ("/s1", 0, 4), // the newest
            ("/s1", 1, 2), // the newest of the second product
            ("/s2", 0, 4), // the newest …
            ("/s2", 0, 1), // … and an older one after it
        ] {
            deliver(&sites, path, key, seq);
        }
        let expected = ["0 4", "1 2", "2 3"].map(|line| expectation(line).expect("it is one"));
        let verdict = Verdict {
            paths: 2,
            keys: 3,
            newest_arrived: 3,
            stale: 1,
            missing: 3,
        };
        assert_eq!(sites.check(&expected), verdict);
        let stats = sites.stats();
        assert_eq!(
            (stats.items, stats.older_after_newer, stats.unread),
            (5, 1, 0)
        );
    }

    // A dead site that counted as a path would make a bridge look as if it had not delivered everything.
    #[tokio::test]
    async fn the_dead_site_never_answers_and_is_not_counted() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        tokio::spawn(async move { axum::serve(listener, router()).await });
        let client = reqwest::Client::new();
        let post = |path: &str, body: String| {
            let request = client.post(format!("http://{address}{path}"));
            request.body(body).send()
        };
        let event = Format::Plain.write(State { key: 0, seq: 7 }, 0);
        let dead = post("/dead", event.clone());
        let silence = tokio::time::timeout(std::time::Duration::from_millis(300), dead).await;
        assert!(silence.is_err(), "{silence:?}");
        let alive = post("/s1", event).await.expect("it answers");
        assert!(alive.status().is_success());
        let verdict = post("/check", "0 7\n".into()).await.expect("it answers");
        let verdict = verdict.text().await.expect("it is text");
        assert!(
            verdict.contains(r#""paths":1,"keys":1,"newest_arrived":1"#),
            "{verdict}"
        );
        // The site that nothing has reached yet is one that waits.
        let day = post("/day/2/2000/9999999999999", "0 7 1000 0\n".into());
        let day = day.await.expect("it answers").text().await;
        let day = day.expect("it is text");
        assert!(
            day.contains(r#""owed_ms":9999999998999,"owed_pairs":1"#),
            "{day}"
        );
        let wrong = post("/day/2/2000/3000", "0 7\n".into()).await;
        assert_eq!(wrong.expect("it answers").status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn what_is_not_from_the_load_is_counted_and_takes_no_memory() {
        let sites = Sites::default();
        sites.arrived("/s1", br#"{"key":"sku-4000000000","seq":1}"#, 1);
        sites.arrived("/s1", b"hello", 2);
        let stats = sites.stats();
        assert_eq!((stats.requests, stats.items, stats.unread), (2, 2, 1));
        assert!(expectation("no number").is_none());
    }
}
