//! PostgreSQL as a target: each entity is a row of a table.
//!
//! An attempt is one statement for thousands of rows (`INSERT … SELECT FROM unnest … ON CONFLICT`), sorted by
//! key. A column holds the sequence of each row, and an older state never replaces a newer one. What the
//! database says decides by its SQLSTATE whose fault it is: that of one row (refused, after the statement
//! was halved until it is alone), of the table or the server (tripped), or of the moment (retried).
//!
//! The database is watched for going back: if it does not hold any more what it acknowledged, all is owed
//! again. Nothing is created or altered: the table is its owner's.

mod compare;
mod connect;
mod error;
mod look;
mod mark;
mod pool;
mod rows;
mod shape;
mod table;
mod text;
mod tls;
mod url;
mod write;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64;

use self::connect::{Conn, Dialer};
use self::error::{Class, Failed};
use self::look::Looked;
use self::mark::Marks;
use self::pool::Pool;
pub use self::rows::Value;
use self::rows::{Rows, Wanted};
use self::shape::Shape;
use self::table::Layout;
pub use self::table::{NAME_BYTES_MAX, Name};
pub use self::tls::Mode;
pub use self::url::Server;
use super::http::{Egress, Tls};
use super::{
    Attempt, BoxFuture, Delivery, Held, Item, Mark, Memory, Nature, Outcome, Page, Target, Unusable,
};
use crate::sync::lock;

/// The rows and the bytes of a statement at most, unless a channel says otherwise. With 5,000 rows a
/// connection writes nine tenths of what `COPY` does; with 1,000, two thirds.
pub const BATCH: (usize, usize) = (5_000, 8 * 1024 * 1024);
/// The connections of a target, unless configured. Two write more than `COPY` does on one.
pub const CONCURRENCY: usize = 4;
/// How long an attempt waits for a statement, unless configured.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// The column of the whole rendering, where no columns are configured.
pub const CONTENT: &str = "content";

/// A table as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Where the database is, and who logs in.
    pub server: Server,
    /// The table.
    pub table: Name,
    /// The column of the key, which is unique.
    pub key: String,
    /// The column of the sequence.
    pub sequence: String,
    /// The columns and where their values are in the rendering; none for the whole of it in [`CONTENT`].
    pub columns: Vec<Value>,
    /// What becomes of a row whose entity is deleted.
    pub delete: Delete,
    /// Whether connections have TLS, and what is checked.
    pub mode: Mode,
    /// Certificates in place of the system's, and the client's own.
    pub tls: Tls,
    /// How long an attempt waits for a statement. The server ends it a little earlier.
    pub timeout: Duration,
    /// The addresses that may be connected to.
    pub egress: Egress,
}

/// What becomes of a row whose entity is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// It is deleted, and its sequence with it.
    Row,
    /// It stays, and this column becomes true.
    Flag(String),
}

impl Options {
    /// The requirements of a database.
    pub fn nature(&self) -> Nature {
        Nature {
            keyed: true,
            batch_max: usize::MAX,
            deletes_alone: false,
            compares: true,
        }
    }

    /// Where the rows are, and how they are written: if it changes, all of them are written again.
    fn place(&self) -> String {
        let columns = self.columns.iter();
        let columns = columns.map(|it| format!("{:?} {:?}", it.name, it.pointer));
        format!(
            "postgres {} {:?} {} {:?} {:?} {:?} {}",
            self.server.hosts_text(),
            self.server.database,
            self.table.quoted(),
            self.key,
            self.sequence,
            self.delete,
            columns.collect::<Vec<_>>().join(" ")
        )
    }

    /// A text of the server without the password, which it has no reason to quote.
    fn without_password(&self, text: &str) -> String {
        let password = self.server.password.as_ref();
        let password = password.and_then(|it| std::str::from_utf8(&it.0).ok());
        match password.filter(|password| password.len() >= 4) {
            Some(password) => text.replace(password, "[secret]"),
            None => text.to_owned(),
        }
    }
}

/// A table that is ready for deliveries.
pub struct Postgres {
    options: Options,
    place: u64,
    wanted: Wanted,
    pool: Pool,
    marks: Marks,
    /// How to write; `None` before the first look, and after trouble.
    layout: Mutex<Option<Arc<Layout>>>,
    shape: Shape,
    /// The newest sequence that any attempt has known.
    head: AtomicU64,
}

impl Postgres {
    /// Prepares a target without opening a connection.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn open(options: &Options) -> Result<Postgres, Unusable> {
        Ok(Postgres {
            place: xxh3_64(options.place().as_bytes()),
            wanted: Wanted::new(&options.columns),
            pool: Pool::new(Dialer::open(options)?),
            marks: Marks::default(),
            layout: Mutex::default(),
            shape: Shape::default(),
            head: AtomicU64::new(0),
            options: options.clone(),
        })
    }

    /// The same, which remembers over a restart what the table takes.
    #[must_use]
    pub fn remembering(mut self, memory: Arc<dyn Memory>) -> Postgres {
        self.shape = Shape::recalled(memory);
        self
    }

    fn newest_head(&self) -> u64 {
        self.head.load(Ordering::Relaxed)
    }

    async fn attempt(&self, attempt: Attempt<'_>) -> Delivery {
        self.head.fetch_max(attempt.head.0, Ordering::Relaxed);
        let items = attempt.items.len();
        let (conn, layout) = match self.ready().await {
            Ok(ready) => ready,
            // Nothing was written.
            Err(failed) => return vec![self.unready(&failed); items].into(),
        };
        let mut outcomes: Vec<Option<Outcome>> = vec![None; items];
        let sorted = rows::sort(attempt.items, &self.options, &self.wanted, &layout.columns);
        for (at, reason) in sorted.refused {
            let after_tries = false;
            outcomes[at] = Some(Outcome::Refused {
                reason,
                after_tries,
            });
        }
        let mut broken = false;
        // Each in a transaction of its own, so that both lock rows in the order of their keys.
        let puts = (&sorted.puts, true);
        for (rows, is_put) in [puts, (&sorted.deletes, false)] {
            if rows.keys.is_empty() {
                continue;
            }
            let done = match broken {
                true => Err(Failed::new(Class::Later, "the connection was given up")),
                false if is_put => self.put(&conn, &layout, rows, &attempt, &mut broken).await,
                false => {
                    self.delete(&conn, &layout, rows, &attempt, &mut broken)
                        .await
                }
            };
            self.place_outcomes(rows, done, &mut outcomes);
        }
        // The older states of a key end as the newest.
        for (older, newest) in sorted.older {
            outcomes[older] = outcomes[newest].clone();
        }
        if !broken {
            self.pool.give(conn);
        }
        let outcome = |outcome: Option<Outcome>| {
            outcome.unwrap_or_else(|| Failed::new(Class::Unknown, "it was not written").outcome(1))
        };
        outcomes.into_iter().map(outcome).collect::<Vec<_>>().into()
    }

    /// Puts the outcomes of rows in the places of their items, and learns from a failure.
    fn place_outcomes(
        &self,
        rows: &Rows<'_>,
        done: Result<Vec<Outcome>, Failed>,
        outcomes: &mut [Option<Outcome>],
    ) {
        let done = done.unwrap_or_else(|failed| {
            self.learn(&failed);
            vec![failed.outcome(rows.keys.len()); rows.keys.len()]
        });
        for (at, outcome) in rows.places.iter().zip(done) {
            outcomes[*at] = Some(outcome);
        }
    }

    fn learn(&self, failed: &Failed) {
        match failed.class {
            // The table may be another one next time.
            Class::Table => *lock(&self.layout) = None,
            // Another server is the primary now, and no connection leads to it.
            Class::ReadOnly => {
                *lock(&self.layout) = None;
                self.pool.renew();
            }
            Class::Unknown => *lock(&self.layout) = None,
            _ => {}
        }
    }

    /// A connection, and how to write.
    ///
    /// # Errors
    /// Why there is none. Nothing was written.
    async fn ready(&self) -> Result<(Conn, Arc<Layout>), Failed> {
        let known = self.marks.known();
        if let Some(reason) = known.forgot() {
            return Err(Failed::new(Class::Table, reason));
        }
        let (conn, is_new) = self.pool.take().await?;
        if let Some(position) = conn.position.filter(|_| is_new)
            && let Err(reason) = self.marks.look(&known, position)
        {
            return Err(Failed::new(Class::Table, reason));
        }
        let layout = lock(&self.layout).clone();
        if let Some(layout) = layout {
            return Ok((conn, layout));
        }
        let looked = self
            .look(&conn)
            .await
            .inspect_err(|failed| self.learn(failed))?;
        self.take_shape(&looked).await;
        match looked.layout {
            Some(layout) => {
                let layout = Arc::new(layout);
                *lock(&self.layout) = Some(layout.clone());
                Ok((conn, layout))
            }
            None => Err(Failed::new(Class::Table, looked.troubles.join("; "))),
        }
    }

    /// The outcome of all items of an attempt before which something was wrong.
    fn unready(&self, failed: &Failed) -> Outcome {
        match self.marks.known().forgot() {
            Some(reason) => Outcome::Forgot {
                reason: reason.to_owned(),
            },
            None => failed.outcome(1),
        }
    }

    async fn look(&self, conn: &Conn) -> Result<Looked, Failed> {
        let limit = self.options.timeout;
        let looked = timeout(limit, look::look(conn, &self.options)).await;
        looked.unwrap_or_else(|_| {
            let reason = format!("the catalog of the database was not read within {limit:?}");
            Err(Failed::new(Class::Later, reason))
        })
    }

    /// Takes the shape of the table. If it has changed, how to write is found out anew before the next write.
    async fn take_shape(&self, looked: &Looked) {
        if let Some(shape) = looked.shape
            && self.shape.take(shape).await
        {
            *lock(&self.layout) = None;
        }
    }

    /// Looks whether the table has been altered. If it cannot be looked at now, it is at the next time.
    async fn look_for_alterations(&self) -> bool {
        if let Ok((conn, _)) = self.ready().await
            && let Ok(looked) = self.look(&conn).await
        {
            self.pool.give(conn);
            self.take_shape(&looked).await;
        }
        self.shape.has_changed()
    }

    async fn check_all(&self) -> Result<Vec<String>, String> {
        let (conn, _) = self.pool.take().await.map_err(|failed| failed.reason)?;
        let looked = self.look(&conn).await.map_err(|failed| failed.reason)?;
        if !looked.troubles.is_empty() {
            return Err(looked.troubles.join("; "));
        }
        let mut warnings = looked.warnings;
        if conn.position.is_none() {
            warnings.push(
                "the server does not say who it is and how far it has come (pg_control_system, pg_walfile_name), so Weir cannot notice that it has lost deliveries; after a failover or a restored backup: weir channel resync NAME"
                    .to_owned(),
            );
        }
        self.pool.give(conn);
        Ok(warnings)
    }
}

impl Target for Postgres {
    fn nature(&self) -> Nature {
        self.options.nature()
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, String>> {
        Box::pin(self.check_all())
    }

    fn deliver<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Delivery> {
        Box::pin(self.attempt(attempt))
    }

    fn mark(&self) -> Option<Vec<u8>> {
        self.marks.mark()
    }

    fn take_mark(&self, mark: Mark) {
        self.marks.take(&mark);
    }

    fn start_over(&self) {
        self.marks.start_over();
        *lock(&self.layout) = None;
        self.pool.renew();
    }

    fn altered(&self) -> BoxFuture<'_, bool> {
        Box::pin(self.look_for_alterations())
    }

    fn compare<'a>(&'a self, items: &'a [Item]) -> BoxFuture<'a, Result<Vec<Held>, String>> {
        Box::pin(self.compare_all(items))
    }

    fn keys<'a>(&'a self, after: Option<&'a str>) -> BoxFuture<'a, Result<Page, String>> {
        Box::pin(self.page(after))
    }
}

#[cfg(test)]
mod tests;
