//! Jobs: what takes long, goes on after the request that began it, and can be asked for and cancelled.
//!
//! There is one kind, the drift check. An operator begins it, or the `drift` of a channel does when its time
//! has come. What the last check of a channel has found is kept over restarts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use super::{Inner, now};
use crate::dispatch::drift::{Check, Difference, Drift, Extras, Progress};
use crate::dispatch::{Channel, status};
use crate::model::Timestamp;
use crate::server::views::{DriftExample, DriftView, JobView};
use crate::server::{DriftRequest, Problem};
use crate::sync::lock;

/// The most jobs that are remembered after their end.
const ENDED_MAX: usize = 100;
/// The most jobs that run at the same time. Each has its piece of memory, and renders.
const RUNNING_MAX: usize = 4;
/// While so many run, no regular check begins, so that an operator can always begin one.
const REGULAR_MAX: usize = 2;

/// The name of the store's note with the last drift check of a channel.
fn note_of_drift(channel: &str) -> String {
    format!("drift {channel}")
}

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

/// A drift check that runs or has ended.
struct Job {
    id: u64,
    channel: Arc<str>,
    check: Check,
    began: Timestamp,
    progress: Progress,
    end: Mutex<Option<(Timestamp, Result<DriftView, String>)>>,
}

impl Job {
    fn runs(&self) -> bool {
        lock(&self.end).is_none()
    }

    fn view(&self) -> JobView {
        let mut view = JobView {
            id: self.id.to_string(),
            kind: "drift".to_owned(),
            channel: self.channel.to_string(),
            state: "running".to_owned(),
            began: self.began.into(),
            done: self.progress.done.load(Relaxed),
            total: self.progress.total.load(Relaxed),
            ..JobView::default()
        };
        if let Some((ended, result)) = &*lock(&self.end) {
            view.ended = Some((*ended).into());
            match result {
                Ok(drift) => {
                    view.state = "done".to_owned();
                    view.drift = Some(drift.clone());
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

/// Ends a job whose task has panicked: it would count as running for ever, and no other check of its channel
/// could begin.
struct Ends(Arc<Job>);

impl Drop for Ends {
    fn drop(&mut self) {
        let unexpected = "the check ended in a way that was not expected; see the log";
        lock(&self.0.end).get_or_insert_with(|| (now(), Err(unexpected.to_owned())));
    }
}

impl Jobs {
    /// The channels that are being checked.
    fn running(&self) -> Vec<Arc<str>> {
        let table = lock(&self.table);
        let running = table.jobs.values().filter(|job| job.runs());
        running.map(|job| job.channel.clone()).collect()
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

    /// What the last drift check of a channel has found, if one was completed.
    pub(super) fn last_drift(&self, channel: &str) -> Option<Arc<DriftView>> {
        lock(&self.table).drifts.get(channel).cloned().flatten()
    }
}

impl Inner {
    /// Begins a drift check of a channel.
    ///
    /// # Errors
    /// One of this channel is running, or too many of others.
    pub(super) fn begin_check(
        &self,
        channel: Arc<Channel>,
        request: DriftRequest,
    ) -> Result<JobView, Problem> {
        let setup = channel.setup();
        let name = setup.options.name.clone();
        let live = self.live.load_full();
        let others = live.channels.values().map(|other| other.setup());
        let others = others.filter(|other| {
            other.options.name != name && other.options.target == setup.options.target
        });
        let others = others.map(|other| other.options.entity_type.clone());
        let others: Vec<Arc<str>> = others.collect();
        let job = {
            let mut table = lock(&self.jobs.table);
            let running = table.jobs.values().filter(|job| job.runs());
            let (mut count, mut same) = (0, None);
            for job in running {
                count += 1;
                if job.channel == name {
                    same = Some(job);
                }
            }
            if let Some(job) = same {
                // The same request once more changes nothing.
                if (job.check.sample, job.check.repair) == (request.sample, request.repair) {
                    return Ok(job.view());
                }
                let id = job.id;
                let detail = format!(
                    "job {id} is checking channel `{name}`; cancel it, or wait for its end"
                );
                return Err(Problem::conflict("job-running", detail));
            }
            if count >= RUNNING_MAX {
                let detail = format!("{count} jobs are running; cancel one, or wait for its end");
                return Err(Problem::conflict("jobs-running", detail));
            }
            table.last += 1;
            let job = Arc::new(Job {
                id: table.last,
                channel: name.clone(),
                check: Check {
                    sample: request.sample,
                    repair: request.repair,
                },
                began: now(),
                progress: Progress {
                    cancelled: self.stopping.child_token(),
                    others,
                    ..Progress::default()
                },
                end: Mutex::default(),
            });
            table.jobs.insert(job.id, job.clone());
            let ended: Vec<u64> = table
                .jobs
                .values()
                .filter(|job| !job.runs())
                .map(|job| job.id)
                .collect();
            for id in ended.iter().take(ended.len().saturating_sub(ENDED_MAX)) {
                table.jobs.remove(id);
            }
            job
        };
        let view = job.view();
        let (jobs, store) = (self.jobs.clone(), self.store.clone());
        self.deliveries.spawn(async move {
            let ends = Ends(job);
            let job = &ends.0;
            let checked = channel.drift(job.check, &job.progress).await;
            let ended = now();
            let found = checked.map(|drift| seen(job, ended, &drift));
            report(job, &found);
            if let Ok(drift) = &found {
                let note = serde_json::to_vec(drift).ok();
                let note = store.set_note(&note_of_drift(&job.channel), note).await;
                if let Err(error) = note {
                    tracing::warn!(channel = &*job.channel, %error, "the result of the drift check is lost at the next stop");
                }
                let mut table = lock(&jobs.table);
                table.drifts.insert(job.channel.clone(), Some(Arc::new(drift.clone())));
            }
            *lock(&job.end) = Some((ended, found));
        });
        Ok(view)
    }

    /// Begins the drift checks whose time has come, as many as may run. The others wait for their turn.
    pub(super) fn begin_due_checks(&self) {
        let live = self.live.load_full();
        let mut due = Vec::new();
        for (name, channel) in &live.channels {
            self.recall_drift(name);
            let Some(wanted) = live.plan.channels.get(name).and_then(|it| it.drift) else {
                continue;
            };
            let found = self.jobs.last_drift(name);
            let ended = found.map_or(0, |drift| drift.ended.0.0);
            let begun = lock(&self.jobs.table).scheduled.get(name).copied();
            let last = ended.max(begun.unwrap_or_default().0);
            if last.saturating_add(wanted.every.as_millis() as u64) <= now().0 {
                due.push((last, name, channel, wanted.sample));
            }
        }
        // Whoever has waited longest goes first, or a few channels would always be checked and others never.
        due.sort_by_key(|(last, ..)| *last);
        for (_, name, channel, sample) in due {
            let running = self.jobs.running();
            if running.len() >= REGULAR_MAX {
                return;
            }
            // While a sweep is running, what it has not met yet is owed.
            let status = channel.status();
            let quiet = status.state == status::State::Flowing && status.owed.sweep == 0;
            if !quiet || running.contains(name) {
                continue;
            }
            let request = DriftRequest {
                sample,
                repair: false,
            };
            // Also if it cannot begin or fails: it is tried again after its time.
            lock(&self.jobs.table).scheduled.insert(name.clone(), now());
            if let Err(problem) = self.begin_check(channel.clone(), request) {
                let reason = problem.code();
                tracing::warn!(
                    channel = &**name,
                    reason,
                    "the regular drift check could not begin"
                );
            }
        }
    }

    /// Reads what the last drift check before this start has found.
    fn recall_drift(&self, channel: &Arc<str>) {
        if lock(&self.jobs.table).drifts.contains_key(channel) {
            return;
        }
        let note = self.store.note(&note_of_drift(channel)).ok().flatten();
        let drift = note.and_then(|note| serde_json::from_slice(&note).ok());
        let mut table = lock(&self.jobs.table);
        table.drifts.insert(channel.clone(), drift.map(Arc::new));
    }
}

fn seen(job: &Job, ended: Timestamp, drift: &Drift) -> DriftView {
    let count = |difference| drift.differences.get(&difference).copied().unwrap_or(0);
    DriftView {
        began: job.began.into(),
        ended: ended.into(),
        compared: drift.compared,
        sample: job.check.sample,
        owed: drift.owed,
        unknown: drift.unknown,
        unknown_because: drift.unknown_because.clone(),
        missing: count(Difference::Missing),
        extra: count(Difference::Extra),
        older: count(Difference::Older),
        different: count(Difference::Different),
        extras: match &drift.extras {
            Extras::NotLookedFor => "not looked for".to_owned(),
            Extras::LookedFor => "looked for".to_owned(),
            Extras::CannotTell(why) => why.clone(),
        },
        repaired: drift.repaired,
        examples: drift
            .examples
            .iter()
            .map(|example| DriftExample {
                kind: example.difference.name().to_owned(),
                key: example.key.clone(),
                at: example.at.clone(),
                sequence: example.sequence.map(|sequence| sequence.0),
            })
            .collect(),
    }
}

fn report(job: &Job, found: &Result<DriftView, String>) {
    let channel = &*job.channel;
    match found {
        Ok(drift) if drift.differences() == 0 && drift.unknown > 0 => tracing::warn!(
            channel,
            compared = drift.compared,
            unknown = drift.unknown,
            reason = drift.unknown_because.as_deref().unwrap_or_default(),
            "the drift check found no difference, but not of all entities what the target holds"
        ),
        Ok(drift) if drift.differences() == 0 => tracing::info!(
            channel,
            compared = drift.compared,
            "the target holds what it should, as far as the drift check looked"
        ),
        Ok(drift) => tracing::warn!(
            channel,
            compared = drift.compared,
            missing = drift.missing,
            extra = drift.extra,
            older = drift.older,
            different = drift.different,
            unknown = drift.unknown,
            repaired = drift.repaired,
            "the target does not hold what it should; {}",
            match (drift.repaired, drift.differences() > drift.extra) {
                (0, true) =>
                    format!("`weir channel drift {channel} --repair` sends what differs again"),
                (0, false) => "what is extra was never Weir's, and is not deleted".to_owned(),
                _ => "what differs is sent again".to_owned(),
            }
        ),
        Err(_) if job.progress.cancelled.is_cancelled() => {
            tracing::info!(channel, "the drift check was cancelled");
        }
        Err(reason) => tracing::warn!(channel, reason, "the drift check failed"),
    }
}
