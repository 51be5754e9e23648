//! Locks that stay usable after a panic elsewhere.
//!
//! A thread that panics while it holds a lock poisons it. The values that Weir keeps behind locks
//! (counters, maps, queues) stay usable whatever statement panicked, so the next thread uses them
//! as they are: a panic must cost one request and not the process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex, poisoned or not.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoisoned(mutex.lock())
}

/// The guard of a lock, a wait or a join, poisoned or not.
pub fn unpoisoned<G>(result: Result<G, PoisonError<G>>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}
