//! Processor time and memory of a phase: of the process, of this thread, and of each kind of
//! thread.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Serialize;

/// The resources that a phase used.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Usage {
    /// Its duration.
    pub(super) seconds: f64,
    /// Processor time in seconds, of all threads: Weir's, the generator's, the recorder's.
    pub(super) cpu_seconds: f64,
    /// The same by kind of thread; threads that have ended are not included.
    pub(super) cpu_seconds_by_thread: BTreeMap<String, f64>,
    /// Processor time divided by wall time.
    pub(super) cores_used: f64,
    /// Resident memory at the end, in MiB.
    pub(super) rss_mib: f64,
    /// Peak resident memory during the phase, in MiB; since the start of the process if the system
    /// cannot reset the peak.
    pub(super) rss_peak_mib: f64,
}

/// A phase in progress.
pub(super) struct Phase {
    started: Instant,
    cpu: Duration,
    threads: BTreeMap<String, Duration>,
}

impl Phase {
    /// Starts a phase.
    pub(super) fn start() -> Phase {
        // 5 resets the peak of resident memory; see proc_pid_clear_refs(5).
        let _ = fs::write("/proc/self/clear_refs", "5");
        Phase {
            started: Instant::now(),
            cpu: process_cpu(),
            threads: thread_cpu_by_kind(),
        }
    }

    /// Ends the phase; `generator` is the processor time of generator threads that have ended.
    pub(super) fn end(self, generator: Duration) -> Usage {
        let (seconds, cpu_seconds) = (
            self.started.elapsed().as_secs_f64(),
            (process_cpu() - self.cpu).as_secs_f64(),
        );
        let mut threads = since(&self.threads, thread_cpu_by_kind());
        *threads.entry("generator".to_owned()).or_default() += generator;
        let memory = Memory::of("self");
        Usage {
            seconds: round(seconds, 3),
            cpu_seconds: round(cpu_seconds, 3),
            cpu_seconds_by_thread: threads
                .into_iter()
                .map(|(name, used)| (name, round(used.as_secs_f64(), 3)))
                .collect(),
            cores_used: round(cpu_seconds / seconds.max(1e-6), 2),
            rss_mib: memory.resident_mib,
            rss_peak_mib: memory.peak_mib,
        }
    }
}

impl Usage {
    /// Processor time in seconds without the generator, the recorder, the engine and the readers, which are
    /// not part of Weir.
    pub(super) fn weir_cpu_seconds(&self) -> f64 {
        let others = ["generator", "recorder", "engine", "reader"]
            .iter()
            .filter_map(|name| self.cpu_seconds_by_thread.get(*name));
        (self.cpu_seconds - others.sum::<f64>()).max(0.0)
    }
}

/// Resident memory of a process, in MiB. Zero where the system does not report it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    pub(super) resident_mib: f64,
    pub(super) peak_mib: f64,
}

impl Memory {
    /// Memory of the process with this id, or of `self`.
    pub(super) fn of(process: &str) -> Memory {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| {
                line.trim()
                    .trim_end_matches("kB")
                    .trim()
                    .parse::<f64>()
                    .ok()
            });
            round(kib.unwrap_or_default() / 1024.0, 1)
        };
        Memory {
            resident_mib: mib("VmRSS:"),
            peak_mib: mib("VmHWM:"),
        }
    }
}

/// Processor time of all threads of this process, including those that have ended.
pub(super) fn process_cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// Processor time of this thread.
pub(super) fn thread_cpu() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Processor time of the running threads, by their names without numbers. Empty where the system
/// does not report it.
pub(super) fn thread_cpu_by_kind() -> BTreeMap<String, Duration> {
    let mut all: BTreeMap<String, Duration> = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        // A thread may end between two reads.
        let (Some(name), Some(times)) = (read("comm"), read("schedstat")) else {
            continue;
        };
        let nanos = times
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse().ok())
            .unwrap_or_default();
        let name = name
            .trim()
            .trim_end_matches(|letter: char| letter.is_ascii_digit())
            .trim_end_matches(['-', '_']);
        *all.entry(name.to_owned()).or_default() += Duration::from_nanos(nanos);
    }
    all
}

/// Processor time that each kind of thread used between two readings.
pub(super) fn since(
    before: &BTreeMap<String, Duration>,
    after: BTreeMap<String, Duration>,
) -> BTreeMap<String, Duration> {
    let used = after.into_iter().map(|(name, now)| {
        let then = before.get(&name).copied().unwrap_or_default();
        (name, now.saturating_sub(then))
    });
    used.filter(|(_, used)| !used.is_zero()).collect()
}

/// A figure rounded to this many decimal places: more would be noise.
pub(super) fn round(value: f64, places: i32) -> f64 {
    let unit = 10f64.powi(places);
    (value * unit).round() / unit
}
