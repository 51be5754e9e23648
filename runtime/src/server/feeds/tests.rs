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
