//! Jobs: what takes long, goes on after the request that began it, and can be asked for and cancelled.
//!
//! There are two kinds: `drift` compares what a target holds with what it should hold, and `redrive` tries
//! again what was set aside. Jobs are forgotten at a stop.

mod drift;
mod redrive;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use super::now;
use crate::dispatch::drift::{Check, Progress};
use crate::model::Timestamp;
use crate::server::views::{DriftView, JobView, RedriveView};
use crate::server::{Problem, RedriveRequest};
use crate::sync::lock;

/// The most jobs that are remembered after their end.
const ENDED_MAX: usize = 100;
/// The most jobs that run at the same time. Each has its piece of memory, and renders or maps.
const RUNNING_MAX: usize = 4;

/// All jobs since the start, and the last drift check of each channel.
#[derive(Default)]
pub(super) struct Jobs {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// The number of the last job that was begun.
    last: u64,
    jobs: BTreeMap<u64, Arc<Job>>,
    drifts: BTreeMap<Arc<str>, Option<Arc<DriftView>>>,
    /// When the regular check of a channel was begun last.
    scheduled: BTreeMap<Arc<str>, Timestamp>,
}

/// What a job does.
#[derive(Debug, PartialEq)]
enum Task {
    /// A drift check of a channel.
    Drift { channel: Arc<str>, check: Check },
    /// Tries again what was set aside.
    Redrive(RedriveRequest),
}

impl Task {
    /// What it does to what. There is at most one job of each at a time.
    fn subject(&self) -> String {
        match self {
            Task::Drift { channel, .. } => format!("is checking channel `{channel}`"),
            Task::Redrive(RedriveRequest::Refused { channel, .. }) => {
                format!("redrives what is refused on channel `{channel}`")
            }
            Task::Redrive(RedriveRequest::Quarantined { source, .. }) => {
                format!("redrives what is in the quarantine of source `{source}`")
            }
        }
    }

    /// The parts of its view that do not change.
    fn view(&self) -> JobView {
        let (kind, channel, source) = match self {
            Task::Drift { channel, .. } => ("drift", channel.to_string(), None),
            Task::Redrive(RedriveRequest::Refused { channel, .. }) => {
                ("redrive", channel.clone(), None)
            }
            Task::Redrive(RedriveRequest::Quarantined { source, .. }) => {
                ("redrive", String::new(), Some(source.clone()))
            }
        };
        JobView {
            kind: kind.to_owned(),
            channel,
            source,
            ..JobView::default()
        }
    }
}

/// A job that runs or has ended.
struct Job {
    id: u64,
    task: Task,
    began: Timestamp,
    progress: Progress,
    /// What a redrive has come to so far.
    redriven: Mutex<RedriveView>,
    end: Mutex<Option<(Timestamp, Result<Found, String>)>>,
}

/// The result of a job.
enum Found {
    Drift(Box<DriftView>),
    /// A redrive says what it has come to while it runs.
    Redriven,
}

impl Job {
    fn runs(&self) -> bool {
        lock(&self.end).is_none()
    }

    fn end(&self, at: Timestamp, found: Result<Found, String>) {
        *lock(&self.end) = Some((at, found));
    }

    fn view(&self) -> JobView {
        let mut view = JobView {
            id: self.id.to_string(),
            state: "running".to_owned(),
            began: self.began.into(),
            done: self.progress.done.load(Relaxed),
            total: self.progress.total.load(Relaxed),
            ..self.task.view()
        };
        if matches!(self.task, Task::Redrive(_)) {
            view.redrive = Some(lock(&self.redriven).clone());
        }
        if let Some((ended, result)) = &*lock(&self.end) {
            view.ended = Some((*ended).into());
            match result {
                Ok(found) => {
                    view.state = "done".to_owned();
                    if let Found::Drift(drift) = found {
                        view.drift = Some(DriftView::clone(drift));
                    }
                }
                Err(_) if self.progress.cancelled.is_cancelled() => {
                    view.state = "cancelled".to_owned();
                }
                Err(why) => {
                    view.state = "failed".to_owned();
                    view.error = Some(why.clone());
                }
            }
        }
        view
    }
}

/// Ends a job whose task has panicked: it would count as running for ever, and no other of its subject could
/// begin.
struct Ends(Arc<Job>);

impl Drop for Ends {
    fn drop(&mut self) {
        let unexpected = "the job ended in a way that was not expected; see the log";
        lock(&self.0.end).get_or_insert_with(|| (now(), Err(unexpected.to_owned())));
    }
}

/// What became of the wish to begin a job.
enum Begun {
    /// It is to be run.
    New(Arc<Job>),
    /// The same one is running already.
    Running(Box<JobView>),
}

impl Jobs {
    /// Adds a job that is about to run. The same request once more changes nothing.
    ///
    /// # Errors
    /// Another one of its subject is running, or too many of others.
    fn begin(&self, task: Task, progress: Progress) -> Result<Begun, Problem> {
        let mut table = lock(&self.table);
        let running: Vec<&Arc<Job>> = table.jobs.values().filter(|job| job.runs()).collect();
        let subject = task.subject();
        if let Some(job) = running.iter().find(|job| job.task.subject() == subject) {
            if job.task == task {
                return Ok(Begun::Running(Box::new(job.view())));
            }
            let id = job.id;
            let detail = format!("job {id} {subject}; cancel it, or wait for its end");
            return Err(Problem::conflict("job-running", detail));
        }
        if running.len() >= RUNNING_MAX {
            let count = running.len();
            let detail = format!("{count} jobs are running; cancel one, or wait for its end");
            return Err(Problem::conflict("jobs-running", detail));
        }
        table.last += 1;
        let job = Arc::new(Job {
            id: table.last,
            task,
            began: now(),
            progress,
            redriven: Mutex::default(),
            end: Mutex::default(),
        });
        table.jobs.insert(job.id, job.clone());
        let ended = table.jobs.values().filter(|job| !job.runs());
        let ended: Vec<u64> = ended.map(|job| job.id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
            table.jobs.remove(id);
        }
        Ok(Begun::New(job))
    }

    /// How many are running.
    fn running(&self) -> usize {
        let table = lock(&self.table);
        table.jobs.values().filter(|job| job.runs()).count()
    }

    /// Those that are running, and the last ones that ended.
    pub(super) fn all(&self) -> Vec<JobView> {
        let table = lock(&self.table);
        table.jobs.values().map(|job| job.view()).collect()
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Problem> {
        let number = id.parse().ok();
        let found = number.and_then(|number: u64| lock(&self.table).jobs.get(&number).cloned());
        found.ok_or_else(|| Problem::unknown("job", id))
    }

    /// One of them.
    pub(super) fn one(&self, id: &str) -> Result<JobView, Problem> {
        Ok(self.find(id)?.view())
    }

    /// Cancels one that has not ended.
    pub(super) fn cancel(&self, id: &str) -> Result<JobView, Problem> {
        let job = self.find(id)?;
        if job.runs() {
            job.progress.cancelled.cancel();
        }
        Ok(job.view())
    }
}
