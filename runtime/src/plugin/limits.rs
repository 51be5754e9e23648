//! Enforces the limits of a call, and describes a breach.
//!
//! Time is the processor time of the thread, which is looked at when enough epochs have passed;
//! memory is the sum over all memories of an instance; output is the data copied out of it in one
//! response. The message of a breach names the limit and its size, and never consists of Wasmtime's
//! message alone.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, Trap, UpdateDeadline};

use crate::plugin::words::{Breach, Fault, Limits};

/// The length of an epoch. Deadlines are accurate to about two epochs, far below any sensible
/// limit.
pub(super) const EPOCH: Duration = Duration::from_millis(10);
/// The most elements of one table. A JavaScript engine uses about ten thousand.
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
            strict: false,
        }
    }
}

/// A time in epochs, rounded up, plus one for the epoch that has already started.
pub(super) fn epochs(time: Duration) -> u64 {
    let epochs = time.as_millis().div_ceil(EPOCH.as_millis());
    u64::try_from(epochs)
        .unwrap_or(u64::MAX / 2)
        .min(u64::MAX / 2)
        + 1
}

/// A call may last as long as this many times its processor time. Whoever waits for it does not wait
/// without end, however busy the machine is.
const PATIENCE: u32 = 5;

/// The processor time that a call may use on the thread on which it began.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    began: Duration,
    allowed: Duration,
    until: Instant,
}

impl Allowance {
    /// An allowance that begins now.
    pub(super) fn begin(allowed: Duration) -> Allowance {
        Allowance {
            began: processor_time(),
            allowed,
            until: Instant::now() + allowed * PATIENCE,
        }
    }

    /// The processor time used since the beginning.
    pub(super) fn used(&self) -> Duration {
        processor_time().saturating_sub(self.began)
    }

    /// What to do when the epochs of the allowance have passed: on a busy machine the guest has not
    /// had all of its processor time yet.
    pub(super) fn at_deadline(&self) -> UpdateDeadline {
        match self.allowed.saturating_sub(self.used()) {
            Duration::ZERO => UpdateDeadline::Interrupt,
            _ if Instant::now() >= self.until => UpdateDeadline::Interrupt,
            left => UpdateDeadline::Continue(epochs(left)),
        }
    }
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Counts the memory of one store and rejects growth beyond the limit.
pub(super) struct Meter {
    memory_max: usize,
    memory: usize,
    peak: usize,
    table_elements: usize,
    /// The size of the last granted growth, to undo it if the growth fails.
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
            table_elements: 0,
            granted: 0,
        }
    }

    /// Current linear memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Peak linear memory, in bytes.
    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Linear memory and tables, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.memory + self.table_elements * size_of::<usize>()
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
            // An error stops the guest with this reason. After `false`, the guest's allocator would
            // abort without giving one.
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
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // A pooled table has the pool's bound as its maximum, unless its module declares a lower
        // one.
        if maximum.is_some_and(|maximum| maximum < TABLE_ELEMENTS_MAX && desired > maximum) {
            return Ok(false);
        }
        if desired > TABLE_ELEMENTS_MAX {
            Err(wasmtime::Error::new(Over::Table))
        } else {
            self.table_elements += desired.saturating_sub(current);
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

/// Turns the error that stopped a call into a fault. `said` is the last error line that the plugin
/// logged during the call.
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
                // Wasmtime reports only this limit as text; a test checks the wording.
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

/// A human-readable size: `64 MiB`, `1500 bytes`.
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

/// A human-readable duration: `1 s`, `250 ms`.
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
        assert_eq!(epochs(Duration::from_millis(15)), 3);
    }

    // A machine with other work let a plugin run for a tenth of its second, and the plugin was
    // blamed for the second.
    #[test]
    fn time_that_a_guest_did_not_get_does_not_count() {
        let allowance = Allowance::begin(Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(60));
        assert!(allowance.used() < Duration::from_millis(50));
        let UpdateDeadline::Continue(epochs) = allowance.at_deadline() else {
            panic!("it has used nothing");
        };
        assert!((2990..=3001).contains(&epochs), "{epochs}");
        let mut starved = allowance;
        starved.until = Instant::now();
        assert!(matches!(starved.at_deadline(), UpdateDeadline::Interrupt));
        let spent = Allowance::begin(Duration::ZERO);
        assert!(matches!(spent.at_deadline(), UpdateDeadline::Interrupt));
    }
}
