//! The memory budget for requests in progress, shared by all requests of all sources.
//!
//! A request holds a [`Reservation`] from the end of its body until its response. The reservation
//! grows with the body, with the decompressed body, with the events that it is cut into and with
//! the changes that these become. Memory grows only after the reservation has grown.
//!
//! The budget is shared fairly: beyond its first request, a source may hold at most as many bytes
//! as are still free. One busy source thus gets half of the budget, two get a third each, and some
//! of it is always free for a source that holds nothing yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::sync::lock;

/// A shared memory budget. Clones share the same budget.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: u64,
    books: Mutex<Books>,
    /// Some memory was returned.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Books {
    held: u64,
    sources: HashMap<Arc<str>, Holding>,
}

/// The part of the budget that the requests of one source hold.
#[derive(Debug, Default)]
struct Holding {
    bytes: u64,
    /// Reservations that are not empty.
    reservations: usize,
}

/// The budget refuses to let a reservation grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Other requests hold the rest at the moment.
    #[error("too many requests are in memory")]
    Now,
    /// The request alone needs more than the whole budget.
    #[error("the request needs more than {limit} bytes of memory")]
    Ever {
        /// The whole budget, in bytes.
        limit: u64,
    },
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Budget {
        Budget(Arc::new(Shared {
            total,
            books: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// An empty reservation for a request of this source.
    pub fn reservation(&self, source: impl Into<Arc<str>>) -> Reservation {
        Reservation {
            budget: self.0.clone(),
            source: source.into(),
            held: AtomicU64::new(0),
        }
    }

    /// Free bytes.
    #[cfg(test)]
    pub(crate) fn free(&self) -> u64 {
        self.0.total - lock(&self.0.books).held
    }
}

/// A part of the budget, returned when dropped. Several threads may work on the request that holds
/// it.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Shared>,
    source: Arc<str>,
    /// Changes only while the books are locked.
    held: AtomicU64,
}

impl Reservation {
    /// Reserved bytes.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Grows the reservation to at least `bytes`.
    ///
    /// # Errors
    /// If the budget does not allow it; the reservation keeps its size.
    pub fn grow_to(&self, bytes: u64) -> Result<(), Exhausted> {
        let mut books = lock(&self.budget.books);
        self.grow_by(&mut books, bytes.saturating_sub(self.held()))
    }

    /// Grows the reservation by `bytes`.
    ///
    /// # Errors
    /// As for [`Reservation::grow_to`].
    pub fn grow(&self, bytes: u64) -> Result<(), Exhausted> {
        self.grow_by(&mut lock(&self.budget.books), bytes)
    }

    /// Grows the reservation by `bytes`, and waits until `deadline` for others to return memory.
    ///
    /// # Errors
    /// As for [`Reservation::grow_to`].
    pub async fn grow_when_free(&self, bytes: u64, deadline: Instant) -> Result<(), Exhausted> {
        loop {
            // Created before the attempt, so that what is returned in between is not missed.
            let freed = self.budget.freed.notified();
            match self.grow(bytes) {
                Err(Exhausted::Now) => {}
                grown => return grown,
            }
            if timeout_at(deadline, freed).await.is_err() {
                return Err(Exhausted::Now);
            }
        }
    }

    /// Returns `bytes`, or everything if it holds less.
    pub fn shrink(&self, bytes: u64) {
        if bytes == 0 || self.held() == 0 {
            return;
        }
        let mut books = lock(&self.budget.books);
        let less = bytes.min(self.held());
        let left = self.held() - less;
        self.held.store(left, Relaxed);
        books.held -= less;
        if let Some(holding) = books.sources.get_mut(&self.source) {
            holding.bytes -= less;
            holding.reservations -= usize::from(left == 0);
            if holding.reservations == 0 {
                books.sources.remove(&self.source);
            }
        }
        drop(books);
        self.budget.freed.notify_waiters();
    }

    /// Returns what is held beyond `bytes`.
    pub fn shrink_to(&self, bytes: u64) {
        self.shrink(self.held().saturating_sub(bytes));
    }

    fn grow_by(&self, books: &mut Books, more: u64) -> Result<(), Exhausted> {
        let total = self.budget.total;
        let held = self.held();
        if more == 0 {
            return Ok(());
        }
        if more > total.saturating_sub(held) {
            return Err(Exhausted::Ever { limit: total });
        }
        let free = total - books.held;
        let of_source = books.sources.get(&self.source).map_or(0, |it| it.bytes);
        let alone = of_source == held;
        // A source's only request may take what is there; else a large one could never be served.
        if more > free || (!alone && of_source + more > free - more) {
            return Err(Exhausted::Now);
        }
        books.held += more;
        let holding = books.sources.entry(self.source.clone()).or_default();
        holding.bytes += more;
        holding.reservations += usize::from(held == 0);
        self.held.store(held + more, Relaxed);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shrink(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reserve(budget: &Budget, source: &str, bytes: u64) -> Result<Reservation, Exhausted> {
        let reservation = budget.reservation(source);
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }

    #[test]
    fn what_does_not_fit_into_the_budget_is_turned_away_and_what_is_done_gives_back() {
        let budget = Budget::new(100);
        let first = reserve(&budget, "erp", 60).unwrap();
        assert_eq!(reserve(&budget, "pim", 41).err(), Some(Exhausted::Now));
        let second = reserve(&budget, "pim", 40).unwrap();
        assert!(first.grow_to(61).is_err());
        drop(second);
        first.grow_to(61).unwrap();
        first.grow_to(10).unwrap();
        assert_eq!((budget.free(), first.held()), (39, 61));
        first.shrink_to(20);
        assert_eq!((budget.free(), first.held()), (80, 20));
        drop(first);
        assert_eq!(budget.free(), 100);
        assert_eq!(
            reserve(&budget, "erp", 101).err(),
            Some(Exhausted::Ever { limit: 100 }),
            "waiting does not help a request that is larger than the budget"
        );
        assert!(lock(&budget.0.books).sources.is_empty());
    }

    // One source with many large requests held the whole budget, and the others were answered 503.
    #[test]
    fn a_source_takes_no_more_than_it_leaves_to_the_others() {
        let budget = Budget::new(1000);
        let hold = |source: &str| -> Vec<Reservation> {
            std::iter::from_fn(|| reserve(&budget, source, 10).ok()).collect()
        };
        let erp = hold("erp");
        assert_eq!(erp.len(), 50);
        let pim = hold("pim");
        assert_eq!(pim.len(), 25);
        let alone = reserve(&budget, "oms", 250).expect("its only request may have all the rest");
        drop((alone, erp));
        assert_eq!(hold("erp").len(), 37, "half of the rest");
        drop(pim);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_what_is_returned_or_by_its_deadline() {
        let budget = Budget::new(100);
        let first = reserve(&budget, "erp", 80).unwrap();
        let waiting = budget.reservation("pim");
        let soon = Instant::now() + Duration::from_secs(1);
        assert_eq!(
            waiting.grow_when_free(50, soon).await,
            Err(Exhausted::Now),
            "nothing was returned in time"
        );
        let later = Instant::now() + Duration::from_secs(10);
        let (grown, ()) = tokio::join!(waiting.grow_when_free(50, later), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            first.shrink_to(50);
        });
        assert_eq!((grown, waiting.held()), (Ok(()), 50));
    }
}
