//! The memory budget for requests in progress, shared by all requests of all sources.
//!
//! A request holds a [`Reservation`] from the first byte of its body until its response. The
//! reservation grows with the body, with the decompressed body and with the events that it is split
//! into. A request whose bytes do not fit into the budget at the moment is rejected before memory
//! grows.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A shared memory budget. Clones share the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    total: usize,
}

/// The budget does not have enough left at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests are in memory")]
pub struct Exhausted;

impl Budget {
    /// A budget of `total` bytes, at most 4 GiB.
    pub fn new(total: u64) -> Budget {
        let total = u32::try_from(total).unwrap_or(u32::MAX) as usize;
        Budget {
            bytes: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// An empty reservation.
    pub fn reservation(&self) -> Reservation {
        Reservation {
            permit: None,
            budget: self.clone(),
        }
    }

    /// Free bytes.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.bytes.available_permits()
    }
}

/// A part of the budget, returned when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
    budget: Budget,
}

impl Reservation {
    /// Reserved bytes.
    pub fn held(&self) -> usize {
        self.permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Grows the reservation to at least `bytes`. More than the whole budget counts as the whole
    /// budget: such a request is served when no other request is in progress.
    ///
    /// # Errors
    /// If the rest is not free at the moment; the reservation keeps its size.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Exhausted> {
        let wanted = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(self.budget.total);
        let missing = wanted.saturating_sub(self.held());
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget.bytes)
            .try_acquire_many_owned(missing)
            .map_err(|_| Exhausted)?;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(budget: &Budget, bytes: u64) -> Result<Reservation, Exhausted> {
        let mut reservation = budget.reservation();
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }

    #[test]
    fn what_does_not_fit_into_the_budget_is_turned_away_and_what_is_done_gives_back() {
        let budget = Budget::new(100);
        let mut first = reserve(&budget, 60).unwrap();
        assert!(reserve(&budget, 41).is_err());
        let second = reserve(&budget, 40).unwrap();
        assert!(first.grow_to(61).is_err());
        drop(second);
        first.grow_to(61).unwrap();
        first.grow_to(10).unwrap();
        assert_eq!((budget.free(), first.held()), (39, 61));
        drop(first);
        assert_eq!(
            reserve(&budget, u64::MAX).unwrap().budget.free(),
            0,
            "a request larger than the budget takes all of it"
        );
        assert_eq!(budget.free(), 100);
    }
}
