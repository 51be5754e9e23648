//! The drift check as a job. An operator begins it, or the `drift` of a channel does when its time has come.
//! What the last check of a channel has found is kept over restarts.

use std::sync::Arc;

use super::super::{Inner, now};
use super::{Begun, Ends, Found, Jobs, Task};
use crate::dispatch::drift::{Check, Difference, Drift, Extras, Progress};
use crate::dispatch::{Channel, status};
use crate::model::Timestamp;
use crate::server::views::{DriftExample, DriftView, JobView};
use crate::server::{DriftRequest, Problem};
use crate::sync::lock;

/// While so many jobs run, no regular check begins, so that an operator can always begin one.
const REGULAR_MAX: usize = 2;

/// The name of the store's note with the last drift check of a channel.
fn note_of_drift(channel: &str) -> String {
    format!("drift {channel}")
}

impl Jobs {
    /// Whether the target of a channel is being checked.
    fn is_checking(&self, channel: &str) -> bool {
        let table = lock(&self.table);
        let mut running = table.jobs.values().filter(|job| job.runs());
        running.any(|job| matches!(&job.task, Task::Drift { channel: of, .. } if **of == *channel))
    }

    /// What the last drift check of a channel has found, if one was completed.
    pub(in crate::app) fn last_drift(&self, channel: &str) -> Option<Arc<DriftView>> {
        lock(&self.table).drifts.get(channel).cloned().flatten()
    }
}

impl Inner {
    /// Begins a drift check of a channel.
    ///
    /// # Errors
    /// One of this channel is running, or too many of others.
    pub(in crate::app) fn begin_check(
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
        let check = Check {
            sample: request.sample,
            repair: request.repair,
        };
        let task = Task::Drift {
            channel: name.clone(),
            check,
        };
        let progress = Progress {
            cancelled: self.stopping.child_token(),
            others,
            ..Progress::default()
        };
        let job = match self.jobs.begin(task, progress)? {
            Begun::New(job) => job,
            Begun::Running(view) => return Ok(*view),
        };
        let view = job.view();
        let (jobs, store) = (self.jobs.clone(), self.store.clone());
        self.deliveries.spawn(async move {
            let ends = Ends(job);
            let job = &ends.0;
            let checked = channel.drift(check, &job.progress).await;
            let ended = now();
            let found = checked.map(|drift| seen(job.began, check, ended, &drift));
            report(&name, &job.progress, &found);
            if let Ok(drift) = &found {
                let note = serde_json::to_vec(drift).ok();
                let note = store.set_note(&note_of_drift(&name), note).await;
                if let Err(error) = note {
                    tracing::warn!(channel = &*name, %error, "the result of the drift check is lost at the next stop");
                }
                let mut table = lock(&jobs.table);
                table.drifts.insert(name, Some(Arc::new(drift.clone())));
            }
            job.end(ended, found.map(|drift| Found::Drift(Box::new(drift))));
        });
        Ok(view)
    }

    /// Begins the drift checks whose time has come, as many as may run. The others wait for their turn.
    pub(in crate::app) fn begin_due_checks(&self) {
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
            if self.jobs.running() >= REGULAR_MAX {
                return;
            }
            // While a sweep is running, what it has not met yet is owed.
            let status = channel.status();
            let quiet = status.state == status::State::Flowing && status.owed.sweep == 0;
            if !quiet || self.jobs.is_checking(name) {
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

fn seen(began: Timestamp, check: Check, ended: Timestamp, drift: &Drift) -> DriftView {
    let count = |difference| drift.differences.get(&difference).copied().unwrap_or(0);
    DriftView {
        began: began.into(),
        ended: ended.into(),
        compared: drift.compared,
        sample: check.sample,
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

fn report(channel: &str, progress: &Progress, found: &Result<DriftView, String>) {
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
        Err(_) if progress.cancelled.is_cancelled() => {
            tracing::info!(channel, "the drift check was cancelled");
        }
        Err(reason) => tracing::warn!(channel, reason, "the drift check failed"),
    }
}
