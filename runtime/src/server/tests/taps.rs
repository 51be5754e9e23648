//! Taps: who gets one, what it says, how many there may be, and when they end.

use super::streams::{Reader, often};
use super::*;
use crate::tap::Side;
use crate::tap::story::{DeliveryStory, Story};

const SHOP: &str = "/v1/tap/channels/storefront.de";

/// A tap that has begun.
async fn tapped(server: &Server, path: &str, headers: &str) -> Reader {
    let mut reader = Reader::open_at(server, path, headers).await;
    assert_eq!(reader.event().await.expect("it begins").0, "tap");
    reader
}

/// Something is delivered to the shop.
fn deliver(fake: &Fake, key: &str, outcome: &str) {
    let point = fake.points.of(Side::Channel, &"storefront.de".into());
    let Some(open) = point.open() else { return };
    let fits = |wanted: &crate::tap::Wanted| wanted.is_by("product", key);
    open.offer(outcome, fits, |_| {
        Story::Delivery(Box::new(DeliveryStory {
            outcome: outcome.to_owned(),
            key: key.to_owned(),
            ..DeliveryStory::default()
        }))
    });
}

#[tokio::test]
async fn a_tap_shows_what_it_was_asked_for_and_says_what_is_left_out() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, often()).await;
    let head = get(&server, SHOP).await;
    assert_eq!(head.headers["content-type"], "text/event-stream");
    assert_eq!(head.headers["x-accel-buffering"], "no");
    // A line break in a key, a field of its own, and what a terminal obeys.
    let hostile = "a\r\n\nevent: bye\u{2028}\u{1b}[2J";
    let path = format!("{SHOP}?outcome=refused&type=product&sample=1");
    let mut reader = tapped(&server, &path, "").await;
    deliver(&fake, "4711", "delivered");
    for _ in 0..5 {
        deliver(&fake, hostile, "refused");
    }
    let item = reader.named("item").await;
    assert_eq!(
        (&item["key"], &item["outcome"]),
        (&json!(hostile), &json!("refused"))
    );
    let figures = reader.named("beat").await;
    assert_eq!(
        figures,
        json!({ "seen": "5", "skipped": "4", "dropped": "0" })
    );
    // The next one that is taken comes after those.
    let gap = async {
        loop {
            deliver(&fake, "4712", "refused");
            if let Some((name, data)) = reader.event().await
                && name == "gap"
            {
                return data;
            }
        }
    };
    let gap = timeout(Duration::from_secs(20), gap).await.expect("a gap");
    assert!(gap["gap"].as_u64() >= Some(4), "{gap}");
    assert_eq!(reader.event().await.expect("an item").1["key"], "4712");
}

#[tokio::test]
async fn a_wrong_question_is_answered_with_the_right_words() {
    let server = start(&Arc::new(Fake::default()), often()).await;
    for (path, status, code) in [
        ("/v1/tap/channels/nope", 404, "unknown-channel"),
        ("/v1/tap/sources/nope", 404, "unknown-source"),
        (
            "/v1/tap/sources/erp?outcome=delivered",
            400,
            "bad-parameter",
        ),
        (
            "/v1/tap/channels/storefront.de?sample=0",
            400,
            "bad-parameter",
        ),
        (
            "/v1/tap/channels/storefront.de?sample=101",
            400,
            "bad-parameter",
        ),
        (
            "/v1/tap/channels/storefront.de?full=yes",
            400,
            "bad-parameter",
        ),
        (
            "/v1/tap/channels/storefront.de?keys=1",
            400,
            "bad-parameter",
        ),
    ] {
        let answer = get(&server, path).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (status, code.to_owned()),
            "{path}"
        );
    }
    let wrong = get(&server, "/v1/tap/sources/erp?outcome=failed").await;
    assert!(wrong.body.contains("`quarantined`"), "{}", wrong.body);
}

#[tokio::test]
async fn there_are_at_most_eight_taps_and_a_place_is_free_again_when_one_is_closed() {
    let fake = Arc::new(Fake::default());
    let server = start(&fake, often()).await;
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(tapped(&server, SHOP, "").await);
    }
    let none = get(&server, "/v1/tap/sources/erp").await;
    assert_eq!((none.status, none.problem()), (503, "busy".to_owned()));
    assert!(none.headers.contains_key("retry-after"));
    assert_eq!(
        get(&server, "/v1/stream").await.status,
        200,
        "consoles are apart"
    );
    readers.pop();
    let freed = async { while get(&server, SHOP).await.status != 200 {} };
    timeout(Duration::from_secs(10), freed)
        .await
        .expect("a place");
    drop(readers);
    let closed = async {
        while fake
            .points
            .of(Side::Channel, &"storefront.de".into())
            .open()
            .is_some()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), closed)
        .await
        .expect("nobody listens");
}

#[tokio::test]
async fn a_tap_ends_by_itself_and_says_so() {
    let limits = Limits {
        tap_time: Duration::from_millis(200),
        ..often()
    };
    let fake = Arc::new(Fake::default());
    let server = start(&fake, limits).await;
    let mut reader = tapped(&server, SHOP, "").await;
    let bye = reader.named("bye").await;
    let expected = json!({ "why": "time", "seen": "0", "skipped": "0", "dropped": "0" });
    assert_eq!(bye, expected);
}

#[tokio::test]
async fn a_token_that_is_removed_sees_no_further_item() {
    let fake = Arc::new(Fake::default());
    *fake.tokens.lock().unwrap() = vec![token(Role::Read)];
    let server = start(&fake, often()).await;
    assert_eq!(get(&server, SHOP).await.status, 401);
    let mut reader = tapped(&server, SHOP, "authorization: Bearer read\r\n").await;
    deliver(&fake, "4711", "delivered");
    assert_eq!(reader.named("item").await["key"], "4711");
    *fake.tokens.lock().unwrap() = vec![token(Role::Admin)];
    deliver(&fake, "4712", "delivered");
    let mut after = Vec::new();
    while let Some((name, data)) = reader.event().await {
        after.push((name, data["why"].clone()));
    }
    let (last, before) = after.split_last().expect("it ends");
    assert_eq!(*last, ("bye".to_owned(), json!("token-unknown")));
    assert!(before.iter().all(|(name, _)| name == "beat"), "{after:?}");
}

#[tokio::test]
async fn a_stop_ends_taps_at_once() {
    let server = start(&Arc::new(Fake::default()), Limits::default()).await;
    let mut reader = tapped(&server, SHOP, "").await;
    let begin = Instant::now();
    server.stop(Duration::from_secs(60)).await;
    assert!(begin.elapsed() < Duration::from_secs(10));
    while reader.event().await.is_some() {}
}

// A reader that never reads costs the buffer of its tap and what the sockets hold, and is cut off.
#[tokio::test]
async fn who_never_reads_is_cut_off() {
    let limits = Limits {
        beat_time: Duration::from_millis(50),
        ..short()
    };
    let fake = Arc::new(Fake::default());
    let server = start(&fake, limits).await;
    let reader = tapped(&server, &format!("{SHOP}?sample=100"), "").await;
    let key = "x".repeat(64 << 10);
    let cut = async {
        while fake
            .points
            .of(Side::Channel, &"storefront.de".into())
            .open()
            .is_some()
        {
            deliver(&fake, &key, "delivered");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), cut)
        .await
        .expect("it is cut off");
    drop(reader);
}
