//! Compares rows with what they should be, and lists keys, for a drift check. Reads only.
//!
//! The database compares, with the casts of the upsert: elsewhere `1e3` and `1000`, or a price that a
//! `numeric(10,2)` rounds, would look different.

use tokio_postgres::types::Type;

use super::Postgres;
use super::connect::Conn;
use super::error::{Class, Failed};
use super::rows::{self, Rows};
use super::table::Layout;
use super::write::Param;
use crate::model::Sequence;
use crate::targets::{Held, Item, Page};

/// The items of a statement, and the keys of a page.
const ROWS_MAX: usize = 5_000;
/// The columns that a difference names at most.
const NAMED_MAX: usize = 20;

impl Postgres {
    pub(super) async fn compare_all(&self, items: &[Item]) -> Result<Vec<Held>, String> {
        let (conn, layout) = self.ready().await.map_err(|failed| failed.reason)?;
        let mut held = Vec::with_capacity(items.len());
        let mut broken = false;
        for items in items.chunks(ROWS_MAX) {
            // A value that no column takes fails the statement, so it is looked for in halves.
            let mut parts = vec![items];
            while let Some(part) = parts.pop() {
                let compared = self.compare_some(&conn, &layout, part, &mut broken).await;
                match compared {
                    Ok(found) => held.extend(found),
                    Err(failed) if failed.class == Class::Row && part.len() > 1 => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                    Err(failed) if failed.class == Class::Row => {
                        held.push(Held::Unknown(failed.reason));
                    }
                    Err(failed) => return Err(failed.reason),
                }
            }
        }
        if !broken {
            self.pool.give(conn);
        }
        Ok(held)
    }

    async fn compare_some(
        &self,
        conn: &Conn,
        layout: &Layout,
        items: &[Item],
        broken: &mut bool,
    ) -> Result<Vec<Held>, Failed> {
        let sorted = rows::sort(items, &self.options, &self.wanted, &layout.columns);
        let mut held = vec![Held::Unknown("another item has the same key".to_owned()); items.len()];
        for (at, reason) in sorted.refused {
            held[at] = Held::Unknown(reason);
        }
        let mut gone = sorted.deletes;
        gone.values = vec![vec![None; gone.keys.len()]; layout.columns.len()];
        for (rows, should_be) in [(sorted.puts, true), (gone, false)] {
            if rows.keys.is_empty() {
                continue;
            }
            let found = self.read(conn, layout, &rows, broken).await?;
            for row in &found {
                let number: i64 = row.get(0);
                let at = usize::try_from(number - 1).unwrap_or(usize::MAX);
                let (Some(place), Some(sent)) = (rows.places.get(at), rows.sequences.get(at))
                else {
                    continue;
                };
                held[*place] = verdict(row, layout, *sent, should_be);
            }
        }
        Ok(held)
    }

    async fn read(
        &self,
        conn: &Conn,
        layout: &Layout,
        rows: &Rows<'_>,
        broken: &mut bool,
    ) -> Result<Vec<tokio_postgres::Row>, Failed> {
        let statement = layout.compare();
        let mut params: Vec<Param<'_>> = vec![
            (&rows.keys, Type::TEXT_ARRAY),
            (&rows.sequences, Type::INT8_ARRAY),
        ];
        params.extend(
            rows.values
                .iter()
                .map(|column| -> Param<'_> { (column, Type::TEXT_ARRAY) }),
        );
        let body = conn.client.query_typed(&statement, &params);
        let read = self.transact(conn, layout, body, broken).await?;
        Ok(read.done)
    }

    pub(super) async fn page(&self, after: Option<&str>) -> Result<Page, String> {
        let (conn, layout) = self.ready().await.map_err(|failed| failed.reason)?;
        let statement = layout.page(after.is_some(), ROWS_MAX);
        let params: Vec<Param<'_>> = match &after {
            Some(after) => vec![(after, Type::TEXT)],
            None => Vec::new(),
        };
        let mut broken = false;
        let body = conn.client.query_typed(&statement, &params);
        let read = self.transact(&conn, &layout, body, &mut broken).await;
        let read = read.map_err(|failed| failed.reason)?;
        self.pool.give(conn);
        let keys: Vec<String> = read.done.iter().map(|row| row.get(0)).collect();
        let next = keys.last().filter(|_| keys.len() == ROWS_MAX).cloned();
        Ok(Page { keys, next })
    }
}

/// What a row is, beside what it should be.
fn verdict(row: &tokio_postgres::Row, layout: &Layout, sent: i64, should_be: bool) -> Held {
    let (there, stored): (bool, Option<i64>) = (row.get(1), row.get(2));
    match (there, should_be) {
        (false, false) => return Held::Same,
        (false, true) => return Held::Missing,
        (true, false) => return Held::Extra,
        (true, true) => {}
    }
    let differs = |at: usize| row.get::<_, bool>(at + 3);
    let columns = layout.columns.iter().enumerate();
    let mut different: Vec<String> = columns
        .filter(|(at, _)| differs(*at))
        .map(|(_, column)| column.name.clone())
        .collect();
    different.truncate(NAMED_MAX);
    match stored {
        _ if different.is_empty() => Held::Same,
        Some(stored) if stored < sent => Held::Older(Sequence(u64::try_from(stored).unwrap_or(0))),
        _ => Held::Different(different),
    }
}
