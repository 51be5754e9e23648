//! How far a database had come at the last delivery that it acknowledged, and whether it has gone back.
//!
//! A standby that takes over may lack the last seconds, and a backup that was restored lacks more. The
//! database then takes writes as if nothing had happened, and no channel would send again what is lost,
//! because it was acknowledged. So each connection reads who the server is and the end of its log, and
//! compares both with the mark. A plain role may read them.

use std::fmt;
use std::sync::Mutex;

use super::Options;
use super::table::literal;
use crate::sync::lock;
use crate::targets::Mark;

/// Who a server is, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The number that `initdb` gave to it. A standby has that of its primary.
    system: u64,
    /// Rises when a standby takes over, and when a backup is restored up to a point in time.
    timeline: u32,
    /// The end of the log that is on its disk, in bytes; it only rises.
    log: u64,
    /// The number of the table; 0 if there is none. A table that is created again has another.
    table: u32,
}

/// The query for a [`Position`], as one text. The flushed end of the log, because the written one may be
/// lost in a crash that loses nothing else.
pub(super) fn query(options: &Options) -> String {
    format!(
        "SELECT s.system_identifier::pg_catalog.text || ' ' || \
         pg_catalog.substr(pg_catalog.pg_walfile_name(f), 1, 8) || ' ' || \
         (f - '0/0'::pg_catalog.pg_lsn)::pg_catalog.text || ' ' || \
         coalesce(pg_catalog.to_regclass({})::pg_catalog.oid::pg_catalog.text, '0') \
         FROM pg_catalog.pg_control_system() AS s, pg_catalog.pg_current_wal_flush_lsn() AS f",
        literal(&options.table.quoted())
    )
}

impl Position {
    /// Reads it from its text.
    pub(super) fn parse(text: &str) -> Option<Position> {
        let mut words = text.split(' ');
        let system: i128 = words.next()?.parse().ok()?;
        let position = Position {
            // It is shown as a signed number.
            system: system as u64,
            timeline: u32::from_str_radix(words.next()?, 16).ok()?,
            log: words.next()?.parse().ok()?,
            table: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(position)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position {
            system,
            timeline,
            log,
            table,
        } = self;
        write!(f, "{system} {timeline:08X} {log} {table}")
    }
}

/// What is known of the database.
#[derive(Default)]
pub(super) struct Marks(Mutex<Known>);

#[derive(Clone, Default)]
pub(super) struct Known {
    /// At the last acknowledged delivery.
    last: Option<Position>,
    exact: bool,
    /// Why all is owed again, until it is.
    forgot: Option<String>,
}

impl Marks {
    /// What is known now. Positions that are read after this are compared with it: with a later one, an
    /// answer that was overtaken would look like a step back.
    pub(super) fn known(&self) -> Known {
        lock(&self.0).clone()
    }

    /// Takes the position that a server has shown after `known`.
    ///
    /// # Errors
    /// What shows that it does not hold any more what it acknowledged.
    pub(super) fn look(&self, known: &Known, now: Position) -> Result<(), String> {
        known.compare(now).inspect_err(|reason| {
            lock(&self.0).forgot.get_or_insert_with(|| reason.clone());
        })
    }

    /// A delivery was acknowledged before the server was here.
    pub(super) fn acknowledged(&self, now: Position) {
        let mut known = lock(&self.0);
        if known.forgot.is_none() && known.last.is_none_or(|last| last.log <= now.log) {
            (known.last, known.exact) = (Some(now), true);
        }
    }

    /// See [`crate::targets::Target::mark`].
    pub(super) fn mark(&self) -> Option<Vec<u8>> {
        let last = lock(&self.0).last;
        last.map(|last| last.to_string().into_bytes())
    }

    /// See [`crate::targets::Target::take_mark`].
    pub(super) fn take(&self, mark: &Mark) {
        let text = String::from_utf8_lossy(&mark.bytes);
        let last = Position::parse(&text);
        let exact = mark.exact;
        *lock(&self.0) = Known {
            last,
            exact,
            forgot: None,
        };
    }

    /// See [`crate::targets::Target::start_over`].
    pub(super) fn start_over(&self) {
        *lock(&self.0) = Known::default();
    }
}

impl Known {
    /// Why all is owed again.
    pub(super) fn forgot(&self) -> Option<&str> {
        self.forgot.as_deref()
    }

    fn compare(&self, now: Position) -> Result<(), String> {
        let Some(last) = self.last else { return Ok(()) };
        let wrong = if last.system != now.system {
            "it is another database than the one that acknowledged deliveries".to_owned()
        } else if last.table != now.table && last.table != 0 && now.table != 0 {
            "the table was created again since it acknowledged deliveries".to_owned()
        } else if now.log < last.log {
            format!(
                "its log ends {} bytes before the last delivery that it acknowledged",
                last.log - now.log
            )
        } else if now.timeline < last.timeline {
            "it has gone back to an earlier timeline".to_owned()
        // A switchover loses nothing. If the mark may be too early, that cannot be seen.
        } else if now.timeline != last.timeline && !self.exact {
            "another server has taken over, and Weir did not stop by itself before".to_owned()
        } else {
            return Ok(());
        };
        Err(format!(
            "the database has lost what it acknowledged: {wrong}; all of it is sent again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(system: u64, timeline: u32, log: u64, table: u32) -> Position {
        Position {
            system,
            timeline,
            log,
            table,
        }
    }

    #[test]
    fn a_server_that_has_gone_back_is_recognised() {
        let last = position(7, 2, 1000, 5);
        for (now, exact, forgot) in [
            (position(7, 2, 1000, 5), true, None),
            (position(7, 2, 1000, 0), true, None),
            (position(7, 2, 9000, 5), false, None),
            (position(7, 3, 1000, 5), true, None),
            (position(7, 3, 1000, 5), false, Some("taken over")),
            (position(7, 3, 999, 5), true, Some("1 bytes before")),
            (position(7, 1, 9000, 5), true, Some("earlier timeline")),
            (position(8, 2, 9000, 5), true, Some("another database")),
            (position(7, 2, 9000, 6), true, Some("created again")),
        ] {
            let marks = Marks::default();
            let bytes = last.to_string().into_bytes();
            marks.take(&Mark { bytes, exact });
            let looked = marks.look(&marks.known(), now);
            match forgot {
                None => assert_eq!(looked, Ok(())),
                Some(words) => assert!(looked.expect_err("a reason").contains(words), "{now}"),
            }
            assert_eq!(marks.known().forgot().is_some(), forgot.is_some());
            marks.start_over();
            assert_eq!(
                (marks.mark(), marks.look(&marks.known(), now)),
                (None, Ok(()))
            );
        }
    }

    // Two connections read 100 and 200; the answer with 100 was looked at last.
    #[test]
    fn an_answer_that_was_overtaken_is_no_step_back() {
        let marks = Marks::default();
        let known = marks.known();
        marks.acknowledged(position(7, 1, 200, 5));
        assert_eq!(marks.look(&known, position(7, 1, 100, 5)), Ok(()));
        marks.acknowledged(position(7, 1, 100, 5));
        assert_eq!(marks.mark(), Some(b"7 00000001 200 5".to_vec()));
    }
}
