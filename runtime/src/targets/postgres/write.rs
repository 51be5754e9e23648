//! Writes the rows of an attempt, in one statement for those that are there and one for those that go.
//!
//! Each is a transaction of its own, sent in one go: its limits, the statement, the commit, and the question
//! how far the server has come. A statement is never left alone: at the end of the time it is cancelled and
//! its end awaited; if that does not come, the connection is given up and the outcome is unknown.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::Postgres;
use super::connect::Conn;
use super::error::{self, Class, Failed};
use super::mark::{Known, Position};
use super::rows::Rows;
use super::table::Layout;
use crate::model::Sequence;
use crate::targets::{Attempt, Outcome};

/// How long the end of a cancelled statement is awaited.
const GRACE: Duration = Duration::from_secs(5);

/// Why a row counts as refused that was written without an error.
const MISSING: &str = "the row is not there although it was written: a trigger or a rule of the table drops it, a policy hides it, or somebody has deleted it";

/// A parameter with its type.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A transaction that was committed.
pub(super) struct Committed<T> {
    pub(super) done: T,
    /// How far the server had come after it.
    position: Option<Position>,
}

impl Postgres {
    /// Runs statements in a transaction. `body` must send all of them when it is polled first.
    ///
    /// # Errors
    /// Why it was not committed. If its end did not come, the connection must not be used again, which
    /// `broken` says.
    pub(super) async fn transact<T>(
        &self,
        conn: &Conn,
        layout: &Layout,
        body: impl Future<Output = Result<T, Error>>,
        broken: &mut bool,
    ) -> Result<Committed<T>, Failed> {
        let limit = self.options.timeout;
        let begin = conn.begin(limit);
        let client = &conn.client;
        let mut work = pin!(async {
            let (begun, done, committed, position) = tokio::join!(
                biased;
                client.batch_execute(&begin),
                body,
                client.batch_execute("COMMIT"),
                self.pool.dialer.position(client),
            );
            begun?;
            let done = done?;
            committed?;
            Ok(Committed { done, position })
        });
        let ended = match timeout(limit, &mut work).await {
            Ok(ended) => Some(ended),
            Err(_) => {
                // The request may reach the server late, and would end the next statement.
                *broken = true;
                self.pool.dialer.cancel(conn).await;
                timeout(GRACE, &mut work).await.ok()
            }
        };
        let Some(ended) = ended else {
            return Err(Failed::new(
                Class::Unknown,
                format!(
                    "no answer of the database within {limit:?}, and the statement could not be cancelled"
                ),
            ));
        };
        ended.map_err(|error: Error| {
            *broken |= error.as_db_error().is_none() || client.is_closed();
            error::failed(&error, &self.options, &layout.written())
        })
    }

    /// Writes rows. Returns one outcome for each.
    pub(super) async fn put(
        &self,
        conn: &Conn,
        layout: &Layout,
        rows: &Rows<'_>,
        attempt: &Attempt<'_>,
        broken: &mut bool,
    ) -> Result<Vec<Outcome>, Failed> {
        let known = self.marks.known();
        let statement = layout.upsert(foreign(attempt));
        let mut params: Vec<Param<'_>> = vec![
            (&rows.keys, Type::TEXT_ARRAY),
            (&rows.sequences, Type::INT8_ARRAY),
        ];
        // `unnest` would fill a shorter array with NULL, without an error.
        debug_assert!(
            rows.values
                .iter()
                .all(|column| column.len() == rows.keys.len())
        );
        params.extend(
            rows.values
                .iter()
                .map(|column| -> Param<'_> { (column, Type::TEXT_ARRAY) }),
        );
        let body = conn.client.execute_typed(&statement, &params);
        let committed = self.transact(conn, layout, body, broken).await;
        let committed = match committed {
            Err(failed) if failed.class == Class::Locked && rows.keys.len() > 1 => {
                return self
                    .without_locked(conn, layout, rows, failed, broken)
                    .await;
            }
            committed => committed?,
        };
        if let Some(forgot) = self.acknowledge(&known, committed.position) {
            return Ok(vec![forgot; rows.keys.len()]);
        }
        if committed.done == rows.keys.len() as u64 {
            return Ok(vec![Outcome::Delivered; rows.keys.len()]);
        }
        // Some were not written, because what is stored is newer. Which ones, the table says.
        let read = layout.read();
        let params: [Param<'_>; 1] = [(&rows.keys, Type::TEXT_ARRAY)];
        let body = conn.client.query_typed(&read, &params);
        let stored = self.transact(conn, layout, body, broken).await?;
        let stored = stored_of(&stored.done, rows.keys.len());
        let outcomes = stored.into_iter().zip(&rows.sequences);
        Ok(outcomes
            .map(|(stored, sent)| match stored {
                Some(Some(stored)) => self.judge(*sent, stored, attempt),
                Some(None) => Outcome::Delivered,
                // Another channel may have deleted it since; whoever is alone is asked again later.
                None => Failed::new(Class::RowLater, MISSING).outcome(rows.keys.len()),
            })
            .collect())
    }

    /// Deletes rows, or marks them as deleted. Returns one outcome for each.
    pub(super) async fn delete(
        &self,
        conn: &Conn,
        layout: &Layout,
        rows: &Rows<'_>,
        attempt: &Attempt<'_>,
        broken: &mut bool,
    ) -> Result<Vec<Outcome>, Failed> {
        let known = self.marks.known();
        let (lock, statement) = (layout.lock(false), layout.delete(foreign(attempt)));
        let keys: [Param<'_>; 1] = [(&rows.keys, Type::TEXT_ARRAY)];
        let both: [Param<'_>; 2] = [
            (&rows.keys, Type::TEXT_ARRAY),
            (&rows.sequences, Type::INT8_ARRAY),
        ];
        let body = async {
            // A join locks rows in any order, so they are locked before.
            let (locked, deleted) = tokio::join!(
                biased;
                conn.client.query_typed(&lock, &keys),
                conn.client.execute_typed(&statement, &both),
            );
            let locked = locked?;
            deleted.map(|_| locked)
        };
        let committed = self.transact(conn, layout, body, broken).await;
        let committed = match committed {
            Err(failed) if failed.class == Class::Locked && rows.keys.len() > 1 => {
                return self
                    .without_locked(conn, layout, rows, failed, broken)
                    .await;
            }
            committed => committed?,
        };
        if let Some(forgot) = self.acknowledge(&known, committed.position) {
            return Ok(vec![forgot; rows.keys.len()]);
        }
        let stored = stored_of(&committed.done, rows.keys.len());
        let outcomes = stored.into_iter().zip(&rows.sequences);
        Ok(outcomes
            .map(|(stored, sent)| match stored {
                Some(Some(stored)) => self.judge(*sent, stored, attempt),
                // It was not there, or it was and is gone.
                Some(None) | None => Outcome::Delivered,
            })
            .collect())
    }

    /// Somebody has locked some of the rows. Only these wait, the others are sent again without them.
    async fn without_locked(
        &self,
        conn: &Conn,
        layout: &Layout,
        rows: &Rows<'_>,
        failed: Failed,
        broken: &mut bool,
    ) -> Result<Vec<Outcome>, Failed> {
        if *broken {
            return Err(failed);
        }
        let (read, lock) = (layout.read(), layout.lock(true));
        let keys: [Param<'_>; 1] = [(&rows.keys, Type::TEXT_ARRAY)];
        let body = async {
            let (there, free) = tokio::join!(
                biased;
                conn.client.query_typed(&read, &keys),
                conn.client.query_typed(&lock, &keys),
            );
            Ok((there?, free?))
        };
        let looked = self.transact(conn, layout, body, broken).await?;
        let there = stored_of(&looked.done.0, rows.keys.len());
        let free = stored_of(&looked.done.1, rows.keys.len());
        let locked: Vec<bool> = there
            .iter()
            .zip(&free)
            .map(|(there, free)| there.is_some() && free.is_none())
            .collect();
        // None of those that can be seen: somebody else is inserting one of them, and it is looked for in
        // halves.
        Ok(locked
            .into_iter()
            .map(|locked| match locked {
                true => failed.outcome(1),
                false => Outcome::Split {
                    reason: failed.reason.clone(),
                    too_long: false,
                },
            })
            .collect())
    }

    /// What a stored sequence means for an item whose statement left the row as it is, or overwrote it.
    fn judge(&self, sent: i64, stored: i64, attempt: &Attempt<'_>) -> Outcome {
        let is_foreign =
            foreign(attempt).is_some_and(|(first, last)| (first..=last).contains(&stored));
        // Another channel that delivers to this table may have got a later sequence meanwhile.
        let head = self.newest_head();
        let stored_sequence = u64::try_from(stored).unwrap_or(0);
        if stored <= sent || is_foreign || stored_sequence <= head {
            return Outcome::Delivered;
        }
        Outcome::Ahead {
            reason: format!(
                "the table holds a row of sequence {stored}, and Weir has given out {head} at most: the store was lost or restored, or somebody else writes the table"
            ),
            sequence: Sequence(stored_sequence),
        }
    }

    /// Takes the position after a commit. Returns the outcome if it shows that the server has gone back.
    fn acknowledge(&self, known: &Known, position: Option<Position>) -> Option<Outcome> {
        let position = position?;
        match self.marks.look(known, position) {
            Ok(()) => {
                self.marks.acknowledged(position);
                None
            }
            Err(reason) => Some(Outcome::Forgot { reason }),
        }
    }
}

/// The range of sequences that may be overwritten.
fn foreign(attempt: &Attempt<'_>) -> Option<(i64, i64)> {
    let number = |sequence: Sequence| i64::try_from(sequence.0).unwrap_or(i64::MAX);
    let foreign = attempt.foreign?;
    Some((number(foreign.first), number(foreign.last)))
}

/// The stored sequences of items, by rows of their numbers and sequences: `None` if there is no row.
fn stored_of(rows: &[Row], items: usize) -> Vec<Option<Option<i64>>> {
    let mut stored = vec![None; items];
    for row in rows {
        let number: i64 = row.get(0);
        let at = usize::try_from(number - 1).ok();
        if let Some(place) = at.and_then(|at| stored.get_mut(at)) {
            *place = Some(row.get(1));
        }
    }
    stored
}
