//! What a call may use, and how a breach is named.
//!
//! Time is wall time counted in epochs; memory is the sum over all memories of an instance; output
//! is what is copied out of it in one answer. Each breach says the limit and its size, never the
//! machine's own words alone.

use std::fmt;
use std::time::Duration;

use wasmtime::{ResourceLimiter, Trap};

use crate::plugin::words::{Breach, Fault, Limits};

/// The length of an epoch. A deadline is exact to about two of them, far below any sensible limit.
pub(super) const EPOCH: Duration = Duration::from_millis(10);
/// The most elements of one table. A JavaScript engine uses some ten thousand.
pub(super) const TABLE_ELEMENTS_MAX: usize = 100_000;
/// The most core instances, memories and tables of one component; Python needs 17 instances.
pub(super) const CORE_INSTANCES_MAX: usize = 200;
/// See [`CORE_INSTANCES_MAX`].
pub(super) const MEMORIES_MAX: usize = 16;
/// See [`CORE_INSTANCES_MAX`].
pub(super) const TABLES_MAX: usize = 32;

/// The default bounds of a batch.
impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: Duration::from_secs(1),
            memory_bytes: 64 << 20,
            output_bytes: 16 << 20,
            log_bytes: 64 << 10,
        }
    }
}

impl Limits {
    /// The time in epochs, rounded up, and one for the epoch that is already running.
    pub(super) fn epochs(&self) -> u64 {
        let epochs = self.time.as_millis().div_ceil(EPOCH.as_millis());
        u64::try_from(epochs)
            .unwrap_or(u64::MAX / 2)
            .min(u64::MAX / 2)
            + 1
    }
}

/// Counts the linear memory of one store and refuses what goes over.
pub(super) struct Meter {
    memory_max: usize,
    memory: usize,
    peak: usize,
    /// Of the growth that was granted last, in case it fails after all.
    granted: usize,
}

/// The errors by which the limiter stops a guest.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("memory limit exceeded")]
    Memory,
    #[error("table limit exceeded")]
    Table,
}

impl Meter {
    pub(super) fn new(memory_max: usize) -> Meter {
        Meter {
            memory_max,
            memory: 0,
            peak: 0,
            granted: 0,
        }
    }

    /// Bytes of linear memory now.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// The most there was.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let growth = desired.saturating_sub(current);
        if self.memory.saturating_add(growth) > self.memory_max {
            // An error stops the guest with this reason; `false` would leave it to a guest's
            // allocator, which aborts without one.
            return Err(wasmtime::Error::new(Over::Memory));
        }
        self.memory += growth;
        self.granted = growth;
        self.peak = self.peak.max(self.memory);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory -= std::mem::take(&mut self.granted);
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A table from the pool has the pool's bound as its maximum, unless its module has a lower
        // one.
        if maximum.is_some_and(|maximum| maximum < TABLE_ELEMENTS_MAX && desired > maximum) {
            return Ok(false);
        }
        if desired > TABLE_ELEMENTS_MAX {
            Err(wasmtime::Error::new(Over::Table))
        } else {
            Ok(true)
        }
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

/// Names what stopped a call. `said` is the last error line that the plugin logged in it.
pub(super) fn name(error: &wasmtime::Error, limits: &Limits, said: Option<&str>) -> Fault {
    let (breach, mut what) = if let Some(over) = error.downcast_ref::<Over>() {
        match over {
            Over::Memory => (
                Breach::Memory,
                format!("memory limit of {} exceeded", Size(limits.memory_bytes)),
            ),
            Over::Table => (
                Breach::Memory,
                format!("limit of {TABLE_ELEMENTS_MAX} elements of a table exceeded"),
            ),
        }
    } else if error
        .downcast_ref::<wasmtime::PoolConcurrencyLimitError>()
        .is_some()
    {
        (
            Breach::Host,
            "the host has no room for another instance".to_owned(),
        )
    } else {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => (
                Breach::Time,
                format!("time limit of {} exceeded", Length(limits.time)),
            ),
            Some(Trap::StackOverflow) => (Breach::Stack, "call stack exhausted".to_owned()),
            Some(Trap::MemoryOutOfBounds) => (
                Breach::Trap,
                format!(
                    "{} (unbounded recursion ends like this in some languages)",
                    Trap::MemoryOutOfBounds
                ),
            ),
            Some(trap) => (Breach::Trap, trap.to_string()),
            None => {
                let text = error.root_cause().to_string();
                // The one limit that the runtime reports as text only; a test holds it to these
                // words.
                match text.contains("fuel allocated for hostcalls has been exhausted") {
                    true => (
                        Breach::Output,
                        format!("output limit of {} exceeded", Size(limits.output_bytes)),
                    ),
                    false => (Breach::Trap, text),
                }
            }
        }
    };
    if let Some(said) = said {
        what.push_str("; it said: ");
        what.push_str(said);
    }
    Fault::Breach { breach, what }
}

/// Bytes for people: `64 MiB`, `1500 bytes`.
pub(super) struct Size(pub(super) usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => write!(f, "{} GiB", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(f, "{} MiB", n >> 20),
            n if n > 0 && n % (1 << 10) == 0 => write!(f, "{} KiB", n >> 10),
            n => write!(f, "{n} bytes"),
        }
    }
}

/// A time for people: `1 s`, `250 ms`.
pub(super) struct Length(pub(super) Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms > 0 && ms % 1000 == 0 => write!(f, "{} s", ms / 1000),
            ms => write!(f, "{ms} ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_in_round_units() {
        assert_eq!(Size(64 << 20).to_string(), "64 MiB");
        assert_eq!(Size(1500).to_string(), "1500 bytes");
        assert_eq!(Length(Duration::from_secs(1)).to_string(), "1 s");
        assert_eq!(Length(Duration::from_millis(250)).to_string(), "250 ms");
    }

    #[test]
    fn memory_is_the_sum_over_all_memories_and_a_failed_growth_gives_it_back() {
        let mut meter = Meter::new(100);
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(
            meter.memory_growing(0, 41, None).is_err(),
            "a second memory that goes over together with the first"
        );
        assert!(meter.memory_growing(0, 40, None).unwrap());
        meter
            .memory_grow_failed(wasmtime::Error::msg("no"))
            .unwrap();
        assert_eq!((meter.memory(), meter.peak()), (60, 100));
        assert!(
            !meter.memory_growing(60, 70, Some(65)).unwrap(),
            "the module's own maximum is no breach"
        );
    }

    #[test]
    fn a_deadline_is_never_shorter_than_the_limit() {
        let limits = Limits {
            time: Duration::from_millis(15),
            ..Limits::default()
        };
        assert_eq!(limits.epochs(), 3);
    }
}
