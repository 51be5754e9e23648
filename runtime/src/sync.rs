//! Locks that a panic elsewhere does not take down with it.
//!
//! A thread that panics while it holds a lock poisons it. The values that Weir keeps
//! behind locks (counters, maps, queues) stay usable whatever statement panicked, so the next thread
//! takes them as they are: one lost request must not become a lost process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, poisoned or not.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// The guard of a lock, a wait or a join, poisoned or not.
pub fn unpoisoned<G>(result: Result<G, PoisonError<G>>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
