//! What an answer says about the pace: a wait (`Retry-After`, the `RateLimit` draft, the headers of
//! known APIs), a rate (`RateLimit-Policy`), or points (Shopify). Pure functions.
//!
//! A hint only ever makes Weir slower. A target that announces many requests left does not get them
//! faster than the rate that it was found to bear, nor faster than its policy allows over time.

use std::time::{Duration, SystemTime};

use hyper::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::targets::{Hints, PointsLeft};

/// The longest wait that is kept to; a longer one is more likely a mistake than intended.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// The wait for a date that has passed: the target did ask for a wait.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// From this number on a reset is a time, in seconds since 1970, and not a wait.
const EPOCH_FROM: f64 = 1e9;

/// The longest window of a policy that is kept to as a rate, in seconds. A quota of a day is not spread
/// evenly over it: an urgent change would wait though nearly all of it is left.
const WINDOW_MAX: f64 = 3600.0;

/// The most points that are reckoned with; more are a mistake.
const POINTS_MAX: f64 = 1e9;

/// An answer as far as it says something about the pace.
pub(crate) struct Hinting<'a> {
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) now: SystemTime,
}

/// Returns all that an answer says about the pace.
pub(crate) fn read(answer: &Hinting<'_>) -> Hints {
    Hints {
        wait: wait(answer),
        rate: policy(answer.headers),
        points: shopify(answer.body),
    }
}

/// Returns how long the target asks Weir to wait before the next request; `None` if it does not.
/// `Retry-After` and the resets of vendors are both kept to: the longer one counts. The `RateLimit`
/// fields are read only without them, and only when no request is left.
pub(crate) fn wait(answer: &Hinting<'_>) -> Option<Duration> {
    let headers = answer.headers;
    let told = text(headers, RETRY_AFTER.as_str())
        .and_then(|value| retry_after(value, date(headers).unwrap_or(answer.now)));
    told.max(bigcommerce(answer))
        .or_else(|| rate_limit(answer))
        .map(|wait| wait.min(WAIT_MAX))
}

/// Parses `Retry-After`, in seconds, which may have a fraction, or as a date in one of the three
/// forms of HTTP; `None` if it is neither. `now` is the time at the target.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Some(wait) = seconds(value) {
        return Some(wait.min(WAIT_MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let wait = until.duration_since(now).unwrap_or(WAIT_MIN);
    Some(wait.min(WAIT_MAX))
}

/// Milliseconds until the window ends, if no request is left in it. A 429 has `X-Retry-After` too.
fn bigcommerce(answer: &Hinting<'_>) -> Option<Duration> {
    let headers = answer.headers;
    let told = text(headers, "x-retry-after").and_then(seconds);
    let none_left = text(headers, "x-rate-limit-requests-left").map(str::trim) == Some("0");
    let reset = text(headers, "x-rate-limit-time-reset-ms")
        .filter(|_| none_left || answer.status == 429)
        .and_then(seconds)
        .map(|milliseconds| milliseconds / 1000);
    told.max(reset)
}

/// The points of a GraphQL answer. One that was throttled used none.
fn shopify(body: &[u8]) -> Option<PointsLeft> {
    // Most answers are small and have nothing of it.
    memchr::memmem::find(body, b"\"throttleStatus\"")?;
    let body: Value = serde_json::from_slice(body).ok()?;
    let cost = body.pointer("/extensions/cost")?;
    let number = |at: &str| {
        let number = cost.pointer(at).and_then(Value::as_f64);
        number.filter(|number| (0.0..=POINTS_MAX).contains(number))
    };
    let told = PointsLeft {
        needed: number("/requestedQueryCost")?,
        used: number("/actualQueryCost").unwrap_or_default(),
        left: number("/throttleStatus/currentlyAvailable")?,
        most: number("/throttleStatus/maximumAvailable")?,
        per_second: number("/throttleStatus/restoreRate")?,
    };
    // If so few come back, a full bucket would take longer than any clock runs.
    (told.per_second >= 1.0 / POINTS_MAX).then_some(told)
}

/// The wait of the `RateLimit` field in its draft forms, or of the older fields of one value each, if
/// no request is left. Of several limits the longest wait counts.
fn rate_limit(answer: &Hinting<'_>) -> Option<Duration> {
    let headers = answer.headers;
    let field = |name: &str| text(headers, name);
    match field("ratelimit") {
        Some(value) if parameter(value, "remaining").is_some() => reset(
            answer,
            parameter(value, "remaining")?,
            parameter(value, "reset")?,
        ),
        Some(value) => value
            .split(',')
            .filter_map(|limit| reset(answer, parameter(limit, "r")?, parameter(limit, "t")?))
            .max(),
        None => {
            let either = |name: &str| field(name).or_else(|| field(&format!("x-{name}")));
            reset(
                answer,
                either("ratelimit-remaining")?,
                either("ratelimit-reset")?,
            )
        }
    }
}

/// The time until requests are left again, if none is.
fn reset(answer: &Hinting<'_>, left: &str, reset: &str) -> Option<Duration> {
    if left.trim().parse::<f64>().ok()? > 0.0 {
        return None;
    }
    let reset: f64 = reset.trim().parse().ok()?;
    let wait = match reset >= EPOCH_FROM {
        true => {
            let now = date(answer.headers).unwrap_or(answer.now);
            let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            (reset - now.as_secs_f64()).max(WAIT_MIN.as_secs_f64())
        }
        false => reset,
    };
    Duration::try_from_secs_f64(wait).ok()
}

/// The requests per second that a policy allows over its window: `"default";q=100;w=60`, or `100;w=60`
/// in the older form, where `RateLimit-Limit` may have it too. Many requests left in a short rest of
/// the window (`r=10000;t=10`) are no rate that the target bears. Of several policies the lowest
/// counts; those that count something else than requests (`qu`) do not.
fn policy(headers: &HeaderMap) -> Option<f64> {
    let field = text(headers, "ratelimit-policy").or_else(|| text(headers, "ratelimit-limit"))?;
    let rate = |policy: &str| {
        let number = |text: &str| {
            let number = text.trim().parse().ok();
            number.filter(|it: &f64| (1.0..=1e9).contains(it))
        };
        let quota = parameter(policy, "q").or_else(|| policy.split(';').next())?;
        let (quota, window) = (number(quota)?, number(parameter(policy, "w")?)?);
        let requests = parameter(policy, "qu").is_none_or(|unit| unit == "\"requests\"");
        (requests && window <= WINDOW_MAX).then_some(quota / window)
    };
    field.split(',').filter_map(rate).min_by(f64::total_cmp)
}

/// The value of a parameter of `"default";r=50;t=30` or `limit=100, remaining=50, reset=30`.
fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split([';', ',']).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// A number of seconds that may have a fraction.
fn seconds(value: &str) -> Option<Duration> {
    let value = value.trim();
    let plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = value.parse().ok().filter(|_| plain)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(WAIT_MAX))
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, DATE.as_str())?).ok()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(status: u16, headers: &[(&'static str, &str)], body: &str) -> Option<Duration> {
        hinted(status, headers, body).wait
    }

    fn hinted(status: u16, headers: &[(&'static str, &str)], body: &str) -> Hints {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().expect("a header value"));
        }
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        read(&Hinting {
            status,
            headers: &map,
            body: body.as_bytes(),
            now,
        })
    }

    fn seconds_of(wait: Option<Duration>) -> Option<f64> {
        wait.map(|wait| (wait.as_secs_f64() * 1000.0).round() / 1000.0)
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_an_hour() {
        for (value, expected) in [
            ("7", Some(7.0)),
            ("2.0", Some(2.0)),
            ("0.25", Some(0.25)),
            (" 0 ", Some(0.0)),
            ("86400", Some(3600.0)),
            ("99999999999999999999999999", Some(3600.0)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10.0)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10.0)),
            ("Sun Nov  6 08:49:47 1994", Some(10.0)),
            ("Sat, 06 Nov 1993 08:49:47 GMT", Some(1.0)),
            ("soon", None),
            ("-1", None),
            ("1e3", None),
            ("", None),
        ] {
            assert_eq!(
                seconds_of(asked(429, &[("retry-after", value)], "")),
                expected,
                "{value:?}"
            );
        }
    }

    // The clock of the target was two minutes ahead, and each wait was two minutes too long.
    #[test]
    fn a_date_is_read_against_the_date_of_the_answer() {
        let headers = [
            ("retry-after", "Sun, 06 Nov 1994 08:51:47 GMT"),
            ("date", "Sun, 06 Nov 1994 08:51:37 GMT"),
        ];
        assert_eq!(seconds_of(asked(503, &headers, "")), Some(10.0));
    }

    #[test]
    fn the_rate_limit_fields_make_weir_wait_only_when_nothing_is_left() {
        for (headers, expected) in [
            (&[("ratelimit", r#""default";r=0;t=30"#)][..], Some(30.0)),
            (&[("ratelimit", r#""default";r=50;t=30"#)], None),
            (
                &[("ratelimit", "limit=100, remaining=0, reset=12")],
                Some(12.0),
            ),
            (&[("ratelimit", "nonsense")], None),
            (
                &[("ratelimit-remaining", "0"), ("ratelimit-reset", "5")],
                Some(5.0),
            ),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "784111787"),
                ],
                Some(3600.0),
            ),
            (
                &[
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "soon"),
                ],
                None,
            ),
            (
                &[("ratelimit", r#""default";r=0;t=30"#), ("retry-after", "3")],
                Some(3.0),
            ),
            (
                &[(
                    "ratelimit",
                    r#""burst";r=0;t=2, "hour";r=0;t=60, "day";r=7;t=999"#,
                )],
                Some(60.0),
            ),
            (&[("ratelimit", r#""default";r=0"#)], None),
        ] {
            assert_eq!(seconds_of(asked(200, headers, "")), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_reset_above_a_billion_is_a_time() {
        let headers = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "1700000020"),
            ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ];
        assert_eq!(seconds_of(asked(200, &headers, "")), Some(20.0));
    }

    #[test]
    fn of_bigcommerce_the_longer_wait_counts() {
        let window = [
            ("x-rate-limit-time-window-ms", "30000"),
            ("x-rate-limit-time-reset-ms", "15000"),
            ("x-rate-limit-requests-quota", "150"),
        ];
        let with = |more: &[(&'static str, &'static str)]| [&window[..], more].concat();
        let left = with(&[("x-rate-limit-requests-left", "35")]);
        assert_eq!(asked(200, &left, ""), None);
        let none = with(&[("x-rate-limit-requests-left", "0")]);
        assert_eq!(seconds_of(asked(500, &none, "")), Some(15.0));
        let told = with(&[("x-retry-after", "20")]);
        assert_eq!(seconds_of(asked(429, &told, "")), Some(20.0));
    }

    // Ten thousand requests were left for the last ten seconds of a window, and a client sent a thousand
    // a second.
    #[test]
    fn a_policy_is_a_rate_over_its_window_and_what_is_left_is_none() {
        let long = [
            ("ratelimit-policy", r#""default";q=10000;w=1000"#),
            ("ratelimit", r#""default";r=10000;t=10"#),
        ];
        assert_eq!(hinted(200, &long, "").rate, Some(10.0));
        for (header, value, expected) in [
            ("ratelimit", r#""default";r=10000;t=10"#, None),
            ("ratelimit-policy", "100;w=50", Some(2.0)),
            ("ratelimit-limit", "100, 100;w=50", Some(2.0)),
            ("ratelimit-limit", "100", None),
            (
                "ratelimit-policy",
                r#""burst";q=50;w=1,"hour";q=3600;w=3600"#,
                Some(1.0),
            ),
            ("ratelimit-policy", r#""day";q=1000;w=86400"#, None),
            (
                "ratelimit-policy",
                r#""default";q=100;qu="content-bytes";w=1"#,
                None,
            ),
            (
                "ratelimit-policy",
                r#""default";q=100;qu="requests";w=1"#,
                Some(100.0),
            ),
            ("ratelimit-policy", r#""default";q=0;w=1"#, None),
            ("ratelimit-policy", r#""default";q=5;w=0"#, None),
            ("ratelimit-policy", r#""default";q=0.001;w=1"#, None),
            ("ratelimit-policy", "nonsense", None),
        ] {
            let hints = hinted(200, &[(header, value)], "");
            assert_eq!((hints.rate, hints.wait), (expected, None), "{value}");
        }
    }

    #[test]
    fn shopify_tells_its_points() {
        let body = r#"{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":752,"actualQueryCost":null,"throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":666,"restoreRate":50.0}}}}"#;
        let told = PointsLeft {
            needed: 752.0,
            used: 0.0,
            left: 666.0,
            most: 1000.0,
            per_second: 50.0,
        };
        assert_eq!(hinted(200, &[], body).points, Some(told));
        let ran = body.replace("\"actualQueryCost\":null", "\"actualQueryCost\":12");
        let used = hinted(200, &[], &ran).points.map(|points| points.used);
        assert_eq!(used, Some(12.0));
        for broken in [
            "\"restoreRate\":0",
            "\"restoreRate\":1e-323",
            "\"restoreRate\":1e300",
            "\"restored\":50.0",
            "\"restoreRate\":\"50\"",
        ] {
            let broken = body.replace("\"restoreRate\":50.0", broken);
            assert_eq!(hinted(200, &[], &broken).points, None, "{broken}");
        }
    }
}
