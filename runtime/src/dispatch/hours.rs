//! The hours of the day in which a channel sends a lane, in a named time zone. Pure: time is an argument.
//!
//! What counts is the civil time of now. A duration since the last opening would be an hour wrong on the
//! two days of the year on which the clocks change.

use jiff::civil::Time;
use jiff::tz::TimeZone;

use crate::model::{Lane, Timestamp};

/// The hours of a channel's lanes. A lane without hours is always open.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    /// The zone of the times.
    pub zone: TimeZone,
    /// Where a lane opens and closes, by [`Lane::index`].
    pub lanes: [Option<Span>; 3],
}

/// From one time of the day to another; over midnight if the second is the earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first moment.
    pub from: Time,
    /// The first moment after it.
    pub to: Time,
}

impl Span {
    /// Parses `22:00-06:00`; `None` if it is something else, or empty.
    pub fn parse(text: &str) -> Option<Span> {
        let (from, to) = text.split_once('-')?;
        let time = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let number = |text: &str| {
                (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
                    .then(|| text.parse::<i8>().ok())?
            };
            match (number(hours)?, number(minutes)?) {
                // The end of the day is its beginning.
                (24, 0) => Some(Time::midnight()),
                (hours, minutes) => Time::new(hours, minutes, 0, 0).ok(),
            }
        };
        let span = Span {
            from: time(from)?,
            to: time(to)?,
        };
        (span.from != span.to).then_some(span)
    }

    fn contains(&self, time: Time) -> bool {
        match self.from < self.to {
            true => self.from <= time && time < self.to,
            false => self.from <= time || time < self.to,
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from.hour(),
            from.minute(),
            to.hour(),
            to.minute()
        )
    }
}

impl Hours {
    /// The zone's name, such as `Europe/Berlin`.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or_default()
    }

    /// Whether a lane may be sent now.
    pub fn open(&self, lane: Lane, now: Timestamp) -> bool {
        let Some(span) = &self.lanes[lane.index()] else {
            return true;
        };
        span.contains(self.civil(now).time())
    }

    /// When a lane opened last, also if it has closed since; `None` for a lane without hours.
    pub fn opened(&self, lane: Lane, now: Timestamp) -> Option<Timestamp> {
        let span = self.lanes[lane.index()]?;
        let now = self.civil(now);
        let today = now.date();
        let opened = [Ok(today), today.yesterday()].into_iter().flatten();
        let moment = |date: jiff::civil::Date| {
            let opens = date.to_datetime(span.from).to_zoned(self.zone.clone());
            opens.ok().map(|opens| opens.timestamp())
        };
        let last = opened
            .filter_map(moment)
            .find(|opens| *opens <= now.timestamp())?;
        u64::try_from(last.as_millisecond()).ok().map(Timestamp)
    }

    fn civil(&self, now: Timestamp) -> jiff::Zoned {
        let now = i64::try_from(now.0).unwrap_or(i64::MAX);
        let now = jiff::Timestamp::from_millisecond(now).unwrap_or(jiff::Timestamp::MAX);
        now.to_zoned(self.zone.clone())
    }

    /// The lanes that may not be sent now.
    pub fn closed(&self, now: Timestamp) -> impl Iterator<Item = (Lane, Span)> {
        let closed = move |lane: Lane| self.lanes[lane.index()].filter(|_| !self.open(lane, now));
        Lane::ALL
            .into_iter()
            .filter_map(move |lane| Some((lane, closed(lane)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().expect("a moment");
        Timestamp(moment.as_millisecond() as u64)
    }

    fn night() -> Hours {
        Hours {
            zone: TimeZone::get("Europe/Berlin").expect("a zone"),
            lanes: [None, None, Span::parse("22:00-06:00")],
        }
    }

    #[test]
    fn a_lane_is_open_over_midnight_and_the_others_always() {
        for (moment, open) in [
            ("2026-01-15T20:59:59Z", false),
            ("2026-01-15T21:00:00Z", true),
            ("2026-01-16T00:00:00Z", true),
            ("2026-01-16T04:59:59Z", true),
            ("2026-01-16T05:00:00Z", false),
        ] {
            assert_eq!(night().open(Lane::Bulk, at(moment)), open, "{moment}");
            assert!(night().open(Lane::Urgent, at(moment)));
        }
        let closed: Vec<_> = night().closed(at("2026-01-15T12:00:00Z")).collect();
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].1.to_string(), "22:00-06:00");
    }

    // 22:00 is not 24 hours after 22:00 on two days of the year: a sweep began an hour late, in the
    // morning traffic, or stopped an hour early.
    #[test]
    fn the_days_on_which_the_clock_changes_have_the_same_hours() {
        for (moment, open) in [
            // 29 March 2026: 02:00 becomes 03:00.
            ("2026-03-28T20:59:00Z", false),
            ("2026-03-28T21:00:00Z", true),
            ("2026-03-29T03:59:00Z", true),
            ("2026-03-29T04:00:00Z", false),
            ("2026-03-29T20:00:00Z", true),
            // 25 October 2026: 03:00 becomes 02:00.
            ("2026-10-24T20:00:00Z", true),
            ("2026-10-25T04:59:00Z", true),
            ("2026-10-25T05:00:00Z", false),
            ("2026-10-25T20:59:00Z", false),
            ("2026-10-25T21:00:00Z", true),
        ] {
            assert_eq!(night().open(Lane::Bulk, at(moment)), open, "{moment}");
        }
    }

    #[test]
    fn a_lane_that_has_closed_still_knows_when_it_opened_last() {
        for (moment, opened) in [
            ("2026-01-15T22:00:00Z", "2026-01-15T21:00:00Z"),
            ("2026-01-16T04:00:00Z", "2026-01-15T21:00:00Z"),
            ("2026-01-16T12:00:00Z", "2026-01-15T21:00:00Z"),
            ("2026-03-29T12:00:00Z", "2026-03-28T21:00:00Z"),
            ("2026-03-29T20:30:00Z", "2026-03-29T20:00:00Z"),
        ] {
            let last = night().opened(Lane::Bulk, at(moment));
            assert_eq!(last, Some(at(opened)), "{moment}");
        }
        assert_eq!(
            night().opened(Lane::Urgent, at("2026-01-15T22:00:00Z")),
            None
        );
    }

    #[test]
    fn a_span_is_two_times_of_the_day() {
        for (text, shown) in [
            ("22:00-06:00", Some("22:00-06:00")),
            ("08:30 - 24:00", Some("08:30-00:00")),
            ("8:00-9:00", None),
            ("08:00-08:00", None),
            ("08:00", None),
            ("25:00-26:00", None),
            ("night", None),
        ] {
            let span = Span::parse(text).map(|span| span.to_string());
            assert_eq!(span.as_deref(), shown, "{text}");
        }
    }
}
