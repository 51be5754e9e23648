//! The same channel with a real socket, for what no script can imitate: that no server listens,
//! that a response breaks off, and that the wall clock runs.

use super::*;
use crate::targets::fixture::{self, Fixture};
use crate::targets::http::{self, Address};
use crate::targets::webhook;

/// What a target is given that is not silent: no attempt times out on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

async fn story(url: &str, timeout: Duration, knobs: Knobs) -> Story {
    let kind = Kind::Webhook(Box::new(webhook::Options {
        http: http::Options {
            timeout,
            ..http::Options::default()
        },
        ..webhook::Options::new(Address::parse(url).expect("a URL"))
    }));
    let nobody = Script::new(|_| Reply::Hang);
    Story::with(
        Arc::default(),
        nobody,
        setup_of(kind, Clock::system(), knobs),
    )
    .await
}

#[tokio::test]
async fn a_response_that_does_not_come_whole_is_followed_by_another_attempt_under_the_same_id() {
    use fixture::Reply;
    for reply in [Reply::Half(200), Reply::Close, Reply::Hang] {
        let (first, said) = (AtomicBool::new(true), reply.clone());
        let target = Fixture::start(move |_| match first.swap(false, Ordering::SeqCst) {
            true => said.clone(),
            false => Reply::Status(200),
        })
        .await;
        let timeout = match reply {
            Reply::Hang => Duration::from_secs(2),
            _ => TIMEOUT,
        };
        let story = story(&target.url("/weir"), timeout, Knobs::default()).await;
        story.set("a", "price", "1");
        story.quiet().await;
        let asked = target.asked();
        let prices = asked
            .iter()
            .map(|asked| asked.json()["facets"]["price"].clone());
        assert_eq!(prices.collect::<Vec<_>>(), [1, 1], "{reply:?}");
        assert_eq!(
            asked[0].headers["webhook-id"], asked[1].headers["webhook-id"],
            "{reply:?}"
        );
        assert_eq!(story.standing("a"), Standing::Delivered, "{reply:?}");
        story.end().await;
    }
}

#[tokio::test]
async fn a_key_of_its_own_url_is_deleted_before_another_is_put() {
    let target = Fixture::start(|_| fixture::Reply::Status(200)).await;
    let knobs = Knobs {
        chain: Some(keys_by_price()),
        ..Knobs::default()
    };
    let story = story(&target.url("/p/{key}"), TIMEOUT, knobs).await;
    for price in ["1", "2"] {
        story.set("a", "price", price);
        story.quiet().await;
    }
    let asked = target.asked();
    let lines = asked
        .iter()
        .map(|asked| format!("{} {}", asked.method, asked.path));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["PUT /p/a-1", "DELETE /p/a-1", "PUT /p/a-2"]
    );
    story.end().await;
}

#[tokio::test]
async fn a_target_that_refuses_connections_trips_and_is_found_again_by_a_probe() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let address = listener.local_addr().expect("address");
    drop(listener);
    let slow = breaker::Options {
        first: Duration::from_millis(200),
        cap: Duration::from_millis(200),
        ..breaker::Options::default()
    };
    let story = story(
        &format!("http://{address}/weir"),
        TIMEOUT,
        Knobs {
            breaker: slow,
            ..Knobs::default()
        },
    )
    .await;
    for number in 0..40 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story
        .until("tripped", |story| {
            story.channel.status().state == status::State::Tripped
        })
        .await;
    let status = story.channel.status();
    assert!(
        status.reason.starts_with("no connection to 127.0.0.1"),
        "{}",
        status.reason
    );
    let attempts = story.channel.counters().attempts();
    assert!(attempts < 8, "{attempts} attempts at a target that is away");
    assert!(status.freshness > Duration::ZERO && status.owed.oldest.is_some());

    let listener = tokio::net::TcpListener::bind(address)
        .await
        .expect("the same port again");
    let back = Fixture::serve(listener, |_| fixture::Reply::Status(200));
    story
        .until("all delivered", |story| {
            (0..40).all(|n| story.standing(&format!("e{n}")) == Standing::Delivered)
        })
        .await;
    assert_eq!(
        (back.asked().len(), story.channel.status().state),
        (40, status::State::Flowing)
    );
    story.end().await;
}
