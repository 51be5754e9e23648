//! The quota of a target: slots for requests in flight, and a pace. Several targets share one where an
//! API counts all their requests together (`[paces.NAME]`): then what one of them is told holds for the
//! others.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Mutex as FairMutex, Semaphore};

use super::lock;
use super::pace::{BearableRate, Pace};
use crate::targets::Options;

/// Slots and pace of a target, or of several.
pub struct Quota {
    /// Maximum number of requests in flight.
    pub(super) concurrency: usize,
    rate: Option<f64>,
    pace: Mutex<Pace>,
    /// Those that wait for the pace, in order: others, and urgent ones.
    lines: [FairMutex<()>; 2],
    /// Slots for any request.
    pub(super) general: Arc<Semaphore>,
    /// A slot for urgent requests only, if there are two or more in all.
    pub(super) urgent: Option<Arc<Semaphore>>,
}

impl Quota {
    /// The quota of a target with these options, which starts at the rate that it bore before.
    pub(super) fn new(options: &Options, bearable: Option<BearableRate>) -> Arc<Quota> {
        let concurrency = options.concurrency.clamp(1, 1024);
        let (general, urgent) = match concurrency {
            1 => (1, None),
            slots => (slots - 1, Some(Arc::new(Semaphore::new(1)))),
        };
        Arc::new(Quota {
            concurrency,
            rate: options.rate,
            pace: Mutex::new(Pace::new(options.rate, bearable)),
            lines: Default::default(),
            general: Arc::new(Semaphore::new(general)),
            urgent,
        })
    }

    /// Whether it is that of a target with these options.
    pub fn fits(&self, options: &Options) -> bool {
        self.concurrency == options.concurrency.clamp(1, 1024) && self.rate == options.rate
    }

    pub(super) fn pace(&self) -> MutexGuard<'_, Pace> {
        lock(&self.pace)
    }

    pub(super) fn line(&self, urgent: bool) -> &FairMutex<()> {
        &self.lines[usize::from(urgent)]
    }
}
