//! The arithmetic of a day, and a short one against a server that notes what comes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::State as Shared;
use axum::http::{StatusCode, Uri};
use axum::routing::post;

use super::*;
use crate::events::states;

fn shape() -> Shape {
    Shape {
        day: Duration::from_secs(60),
        per_second: 3_000,
        burst: 10,
        burst_every: Duration::from_secs(30),
        burst_lasts: Duration::from_secs(5),
        connections: 8,
    }
}

#[test]
fn a_burst_is_at_the_end_of_each_interval() {
    let until = |seconds| shape().events_until(Duration::from_secs(seconds));
    assert_eq!(until(0), 0);
    assert_eq!(until(25), 75_000);
    assert_eq!(until(26), 75_000 + 30_000);
    assert_eq!(until(30), 75_000 + 150_000);
    assert_eq!(until(31), 225_000 + 3_000);
    assert_eq!(until(60), 450_000);
}

#[test]
fn the_connections_send_together_what_is_due() {
    let odd = Shape {
        per_second: 77,
        connections: 3,
        ..shape()
    };
    for shape in [shape(), odd] {
        for millis in [0, 1, 13, 40, 25_013, 59_999, 60_000] {
            let time = Duration::from_millis(millis);
            let shares = (0..shape.connections).map(|number| shape.share(number, time));
            assert_eq!(shares.sum::<u64>(), shape.events_until(time));
        }
    }
}

#[test]
fn the_beats_of_a_connection_end_with_the_day() {
    let shape = shape();
    let ms = |connection, beat| shape.beat(connection, beat).as_millis();
    assert_eq!((ms(0, 0), ms(0, 1), ms(4, 0)), (40, 80, 60));
    assert_eq!(
        (ms(0, 1_498), ms(0, 1_499), ms(4, 1_499)),
        (59_960, 60_000, 60_000)
    );
}

#[test]
fn a_product_that_changes_is_not_drawn_and_all_others_are() {
    let part = Part::new(43, 4, 1);
    let mut random = fastrand::Rng::with_seed(1);
    for changing in [0..0, 0..3, 4..7, 9..11] {
        let drawn: BTreeSet<u32> = (0..2_000)
            .map(|_| part.draw(&mut random, &changing))
            .collect();
        let others = (0..11).filter(|slot| !changing.contains(slot));
        assert_eq!(drawn, others.map(|slot| slot * 4 + 1).collect());
    }
}

/// What a server took: the path and query, and the states.
type Taken = Arc<std::sync::Mutex<Vec<(String, Vec<State>)>>>;

/// Notes a request after a while that differs, so that requests that are open together change their order; in
/// between it is out of order.
async fn take(Shared(taken): Shared<Taken>, uri: Uri, body: String) -> StatusCode {
    let (states, unread) = states(body.as_bytes());
    assert_eq!(unread, 0);
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..12))).await;
    if fastrand::u8(0..10) == 0 {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let mut taken = taken.lock().expect("no test panicked");
    taken.push((uri.to_string(), states));
    StatusCode::ACCEPTED
}

// A comparison that sends the states of a product out of order would blame the systems for it.
#[tokio::test]
async fn every_event_arrives_and_those_of_a_product_in_their_order() {
    let taken = Taken::default();
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let router = Router::new()
        .route("/events", post(take))
        .with_state(taken.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let day = Day::begin(Options {
        url: format!("http://{address}/events"),
        full_change_url: Some(format!("http://{address}/events?lane=bulk")),
        keys: 400,
        seconds: 2,
        per_second: 1_000,
        burst: 4,
        burst_every: 2,
        burst_lasts: 1,
        connections: 4,
        batch: 10,
        bytes: 200,
        give_up: 60,
        expected: None,
        events: None,
    });
    let day = day.expect("it begins");
    let (steady, full_change) = day.clone().post_all().await.expect("all is taken");
    assert_eq!(steady.events.len(), 5_000);
    let every: BTreeSet<u32> = full_change.events.iter().map(|due| due.state.key).collect();
    assert_eq!((every, full_change.events.len()), ((0..400).collect(), 400));
    let in_time = |due: &Due| (0..=2_000).contains(&(due.ms - day.started_ms));
    assert!(steady.events.iter().all(in_time));

    let taken = taken.lock().expect("no test panicked");
    let mut newest = BTreeMap::new();
    for State { key, seq } in taken.iter().flat_map(|(_, states)| states) {
        let before = newest.insert(*key, *seq).unwrap_or(0);
        assert!(before < *seq, "product {key}: {seq} after {before}");
    }
    let posted = |path: &str| {
        let there = taken.iter().filter(|(at, _)| at == path);
        there.map(|(_, states)| states.len()).sum::<usize>()
    };
    assert_eq!(
        (posted("/events"), posted("/events?lane=bulk")),
        (5_000, 400)
    );
    assert_eq!(
        day.sender.bytes(),
        5_400 * 200 + 5_400 - (steady.requests + full_change.requests)
    );
}
