//! What a fetcher gets for its conditions, ranges, codings and credentials.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn form() -> FeedForm {
    FeedForm {
        file: Arc::new(tempfile::tempfile().expect("a file")),
        length: 1_000,
        etag: "\"abc\"".into(),
    }
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn asked(lines: &[(&str, &str)]) -> Answer {
    // With a fraction of a second, which no header carries.
    let modified = UNIX_EPOCH + Duration::from_millis(784_111_777_900);
    decide(&Method::GET, &headers(lines), &form(), modified)
}

const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

#[test]
fn conditions_are_checked_in_the_order_of_the_standard() {
    use Answer::{NotModified, PreconditionFailed, Whole};
    let cases: [(&[(&str, &str)], Answer); 14] = [
        (&[], Whole),
        (&[("if-none-match", "\"abc\"")], NotModified),
        (&[("if-none-match", "\"x\", W/\"abc\"")], NotModified),
        (&[("if-none-match", "*")], NotModified),
        (&[("if-none-match", "\"x\"")], Whole),
        // The tag decides alone.
        (
            &[("if-none-match", "\"x\""), ("if-modified-since", SAME)],
            Whole,
        ),
        (&[("if-modified-since", SAME)], NotModified),
        (&[("if-modified-since", EARLIER)], Whole),
        (&[("if-modified-since", "yesterday")], Whole),
        (&[("if-match", "\"abc\"")], Whole),
        (&[("if-match", "W/\"abc\"")], PreconditionFailed),
        (
            &[("if-match", "\"x\""), ("if-none-match", "\"abc\"")],
            PreconditionFailed,
        ),
        (&[("if-unmodified-since", EARLIER)], PreconditionFailed),
        (&[("if-unmodified-since", SAME)], Whole),
    ];
    for (lines, expected) in cases {
        assert_eq!(asked(lines), expected, "{lines:?}");
    }
}

#[test]
fn a_range_is_given_if_it_is_one_and_of_this_generation() {
    use Answer::{Unsatisfiable, Whole};
    let part = |first, length| Answer::Part { first, length };
    for (range, expected) in [
        ("bytes=0-99", part(0, 100)),
        ("bytes=900-", part(900, 100)),
        ("bytes=-100", part(900, 100)),
        ("bytes=-5000", part(0, 1_000)),
        ("bytes=999-2000", part(999, 1)),
        ("Bytes = 1-1", part(1, 1)),
        ("bytes=1000-", Unsatisfiable),
        ("bytes=-0", Unsatisfiable),
        ("bytes=99999999999999999999999-", Unsatisfiable),
        ("bytes=5-4", Whole),
        ("bytes=0-1,5-6", Whole),
        ("bytes=", Whole),
        ("bytes=-", Whole),
        ("bytes=a-b", Whole),
        ("items=0-1", Whole),
    ] {
        assert_eq!(asked(&[("range", range)]), expected, "{range}");
    }
    for (condition, expected) in [
        ("\"abc\"", part(0, 2)),
        ("W/\"abc\"", Whole),
        ("\"x\"", Whole),
        (SAME, part(0, 2)),
        (EARLIER, Whole),
        ("nonsense", Whole),
    ] {
        let lines = [("range", "bytes=0-1"), ("if-range", condition)];
        assert_eq!(asked(&lines), expected, "{condition}");
    }
    let head = decide(
        &Method::HEAD,
        &headers(&[("range", "bytes=0-1")]),
        &form(),
        UNIX_EPOCH,
    );
    assert_eq!(head, Whole, "HEAD has no ranges");
}

#[test]
fn gzip_is_sent_to_those_who_want_it() {
    for (accept, expected) in [
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("*", true),
        ("gzip;q=0", false),
        ("gzip;q=0.5, identity", false),
        ("identity, *;q=0", false),
        ("br", false),
        ("", false),
    ] {
        let headers = headers(&[("accept-encoding", accept)]);
        assert_eq!(prefers_gzip(&headers), expected, "{accept}");
    }
    assert!(!prefers_gzip(&HeaderMap::new()));
}

#[test]
fn credentials_are_those_of_the_configuration() {
    let basic = FeedAccess::Basic {
        user: "google".into(),
        password: b"s3:cret".to_vec(),
    };
    let ask = |access: &FeedAccess, loopback, lines: &[(&str, &str)]| match authorize(
        access,
        loopback,
        &headers(lines),
    ) {
        Ok(()) => "passes".to_owned(),
        Err(problem) => problem.code().to_owned(),
    };
    let line = |text: &str| format!("Basic {}", BASE64.encode(text));
    for (given, expected) in [
        (line("google:s3:cret"), "passes"),
        (line("google:s3:cre"), "feed-credentials-needed"),
        (line("Google:s3:cret"), "feed-credentials-needed"),
        (line(""), "feed-credentials-needed"),
        ("Basic ???".to_owned(), "feed-credentials-needed"),
        ("Bearer abc".to_owned(), "feed-credentials-needed"),
    ] {
        assert_eq!(
            ask(&basic, true, &[("authorization", &given)]),
            expected,
            "{given}"
        );
    }
    assert_eq!(ask(&basic, false, &[]), "feed-credentials-needed");
    assert_eq!(ask(&FeedAccess::Open, false, &[]), "passes");
    assert_eq!(ask(&FeedAccess::Local, false, &[]), "feed-not-served");
    let rebound = [("host", "evil.example")];
    assert_eq!(ask(&FeedAccess::Local, true, &rebound), "foreign-host");
    assert_eq!(
        ask(&FeedAccess::Local, true, &[("host", "127.0.0.1:7700")]),
        "passes"
    );
}

/// The next frame of a body: its length, or nothing if the connection ends.
async fn frame(pieces: &mut Pieces) -> Option<usize> {
    let next = std::future::poll_fn(|cx| Pin::new(&mut *pieces).poll_frame(cx));
    let frame = next.await?.ok()?;
    frame.into_data().ok().map(|piece| piece.len())
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_almost_nothing_is_cut_off_and_gives_its_place_back() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(3 * PIECE_BYTES).expect("a length");
    let places = Arc::new(Semaphore::new(1));
    let place = places.clone().try_acquire_owned().expect("a place");
    let mut pieces = Pieces {
        file: Arc::new(file),
        at: 0,
        left: 3 * PIECE_BYTES,
        taken: 0,
        began: Instant::now(),
        reading: None,
        _place: place,
    };
    assert_eq!(frame(&mut pieces).await, Some(PIECE_BYTES as usize));
    // A slow one that is fast enough.
    tokio::time::advance(SLOW_AFTER + Duration::from_secs(1)).await;
    assert_eq!(frame(&mut pieces).await, Some(PIECE_BYTES as usize));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(frame(&mut pieces).await, None, "the connection ends");
    assert!(pieces.left > 0, "before the end");
    drop(pieces);
    assert_eq!(places.available_permits(), 1);
}

// A feed of 300 MB at 20 Mbit/s takes two minutes: a deadline on the whole would cut each such reader off.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_of_a_large_feed_gets_all_of_it() {
    const LENGTH: u64 = 300 << 20;
    let file = tempfile::tempfile().expect("a file");
    // It takes no room: nothing is written.
    file.set_len(LENGTH).expect("a length");
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned();
    let began = Instant::now();
    let mut pieces = Pieces {
        file: Arc::new(file),
        at: 0,
        left: LENGTH,
        taken: 0,
        began,
        reading: None,
        _place: place.expect("a place"),
    };
    let mut read = 0;
    while read < LENGTH {
        let piece = frame(&mut pieces).await.expect("it is not cut off") as u64;
        read += piece;
        let bits = piece * 8;
        tokio::time::advance(Duration::from_secs_f64(bits as f64 / 20e6)).await;
    }
    assert_eq!(frame(&mut pieces).await, None);
    assert!(began.elapsed() > Duration::from_secs(120));
}

/// The file is shorter than it was, for example because somebody has truncated it.
#[tokio::test]
async fn a_file_that_cannot_be_read_ends_the_connection() {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(10).expect("a length");
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned();
    let mut pieces = Pieces {
        file: Arc::new(file),
        at: 0,
        left: 20,
        taken: 0,
        began: Instant::now(),
        reading: None,
        _place: place.expect("a place"),
    };
    let error = std::future::poll_fn(|cx| Pin::new(&mut pieces).poll_frame(cx));
    assert!(error.await.is_some_and(|it| it.is_err()));
}
