//! Requests that wait until a channel has settled an entity.
//!
//! A channel settles far more entities than anybody waits for. While nobody waits, that costs one
//! relaxed load; otherwise a flight that ends wakes those who wait for its entity, and nobody else. When a
//! channel gets another configuration or stops, all are woken: what they wait for may be owed no more.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;
use tokio::sync::Notify;

use super::Shared;
use crate::model::Ordinal;
use crate::sync::lock;

/// Those who wait for entities of one channel.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    count: AtomicUsize,
    by_entity: Mutex<HashMap<Ordinal, Vec<Arc<Notify>>>>,
}

impl Waiters {
    /// Wakes those who wait for one of these entities. Call it after the store has settled them: who
    /// waits was counted before it looked at the store, and both hold the store's lock meanwhile.
    pub(super) fn wake(&self, mut settled: impl Iterator<Item = Ordinal>) {
        if self.count.load(Relaxed) == 0 {
            return;
        }
        let by_entity = lock(&self.by_entity);
        let waiting = settled
            .by_ref()
            .filter_map(|ordinal| by_entity.get(&ordinal));
        waiting.flatten().for_each(|wake| wake.notify_one());
    }

    /// Wakes all of them, because the channel is another one from now on, or has ended.
    pub(super) fn wake_all(&self) {
        let by_entity = lock(&self.by_entity);
        let waiting = by_entity.values().flatten();
        waiting.for_each(|wake| wake.notify_one());
    }
}

/// Keeps a request woken by what happens to one entity on one channel, until it is dropped.
pub struct Waiter {
    shared: Arc<Shared>,
    ordinal: Ordinal,
    wake: Arc<Notify>,
}

impl Waiter {
    pub(super) fn new(shared: Arc<Shared>, ordinal: Ordinal, wake: &Arc<Notify>) -> Waiter {
        let (waiters, wake) = (&shared.waiters, wake.clone());
        waiters.count.fetch_add(1, Relaxed);
        let mut by_entity = lock(&waiters.by_entity);
        by_entity.entry(ordinal).or_default().push(wake.clone());
        drop(by_entity);
        Waiter {
            shared,
            ordinal,
            wake,
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let waiters = &self.shared.waiters;
        let mut by_entity = lock(&waiters.by_entity);
        if let Some(waiting) = by_entity.get_mut(&self.ordinal) {
            if let Some(at) = waiting
                .iter()
                .position(|wake| Arc::ptr_eq(wake, &self.wake))
            {
                waiting.swap_remove(at);
            }
            if waiting.is_empty() {
                by_entity.remove(&self.ordinal);
            }
        }
        waiters.count.fetch_sub(1, Relaxed);
    }
}
