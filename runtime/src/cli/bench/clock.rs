//! Processor time: of this process, of this thread, and of each kind of thread.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What all threads of this process have used, those that ended included.
pub(super) fn of_process() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// What this thread has used.
pub(super) fn of_thread() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What the threads that live now have used, by their names without the numbers in them. Empty where the system does not tell.
pub(super) fn of_threads() -> BTreeMap<String, Duration> {
    let mut all: BTreeMap<String, Duration> = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        // A thread may end between two reads.
        let (Some(name), Some(times)) = (read("comm"), read("schedstat")) else { continue };
        let nanos = times.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
        let name = name.trim().trim_end_matches(|letter: char| letter.is_ascii_digit()).trim_end_matches(['-', '_']);
        *all.entry(name.to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    all
}

/// What each kind of thread has used in between.
pub(super) fn since(before: &BTreeMap<String, Duration>, after: BTreeMap<String, Duration>) -> BTreeMap<String, Duration> {
    let used = after.into_iter().map(|(name, now)| {
        let then = before.get(&name).copied().unwrap_or_default();
        (name, now.saturating_sub(then))
    });
    used.filter(|(_, used)| !used.is_zero()).collect()
}
