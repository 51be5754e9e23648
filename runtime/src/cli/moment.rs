//! Times for people: how long ago something was, by the clock of this machine. `--json` has them exactly.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;
use crate::server::views::Time;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// What is further away is shown by its date.
const FAR: u64 = 60 * DAY;
/// By so much the clock of Weir may be ahead of this machine's without anybody noticing.
const SLACK: u64 = 2 * SECOND;

/// How long ago a time was, or how far ahead it is.
pub(super) fn ago(time: Time) -> String {
    ago_at(time, now())
}

/// The same, or a dash.
pub(super) fn ago_or_dash(time: Option<Time>) -> String {
    time.map_or_else(|| "-".to_owned(), ago)
}

/// A time of these hours as a clock shows it in UTC, to the millisecond; another one with its date.
pub(super) fn clock(time: Time) -> String {
    clock_at(time, now())
}

fn clock_at(time: Time, now: Timestamp) -> String {
    let whole = time.to_string();
    match whole.split_once('T') {
        Some((_, clock)) if time.0.0.abs_diff(now.0) < 12 * HOUR => clock.to_owned(),
        _ => whole,
    }
}

/// The time by the clock of this machine.
pub(super) fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since_1970.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    Timestamp(millis)
}

fn ago_at(time: Time, now: Timestamp) -> String {
    let (then, now) = (time.0.0, now.0);
    let distance = then.abs_diff(now);
    let date = || {
        time.to_string()
            .chars()
            .take("2026-11-18".len())
            .collect::<String>()
    };
    match then > now {
        _ if distance >= FAR => date(),
        true if distance <= SLACK => "now".to_owned(),
        true => format!("in {}", length(distance)),
        false if distance < SECOND => "now".to_owned(),
        false => format!("{} ago", length(distance)),
    }
}

/// A length of time with the one unit that fits it, in at most six characters.
pub(super) fn length(millis: u64) -> String {
    match millis {
        0..MINUTE => format!("{} s", millis / SECOND),
        MINUTE..HOUR => format!("{} min", millis / MINUTE),
        HOUR..172_800_000 => format!("{} h", millis / HOUR),
        _ => format!("{} d", millis / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_its_distance_and_a_far_one_by_its_date() {
        // 2026-11-18T11:06:40.120Z
        let now = 1_795_000_000_120;
        for (then, told) in [
            (now, "now"),
            (now - 999, "now"),
            (now - SECOND, "1 s ago"),
            (now - 59 * SECOND, "59 s ago"),
            (now - MINUTE, "1 min ago"),
            (now - 59 * MINUTE, "59 min ago"),
            (now - 47 * HOUR, "47 h ago"),
            (now - 2 * DAY, "2 d ago"),
            (now - 59 * DAY, "59 d ago"),
            (now - 60 * DAY, "2026-09-19"),
            // The clock of Weir is a little ahead of this one, or much.
            (now + SLACK, "now"),
            (now + SLACK + SECOND, "in 3 s"),
            (now + 90 * SECOND, "in 1 min"),
            (0, "1970-01-01"),
            (u64::MAX, "9999-12-30"),
        ] {
            let time = Time(Timestamp(then));
            assert_eq!(ago_at(time, Timestamp(now)), told);
        }
    }

    #[test]
    fn a_clock_shows_no_date_unless_it_could_be_of_another_day() {
        let time = Time(Timestamp(1_795_000_000_120));
        assert_eq!(clock_at(time, Timestamp(time.0.0 + HOUR)), "11:06:40.120Z");
        assert_eq!(
            clock_at(time, Timestamp(time.0.0 + DAY)),
            "2026-11-18T11:06:40.120Z"
        );
    }
}
