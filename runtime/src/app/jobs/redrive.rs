//! Redriving many as a job: events in quarantine, or entities that a target has refused.
//!
//! An event is redriven when its result is durable, by the plugins that serve at that moment. An entity is
//! redriven when its channel has tried it: entities are handed over a few at a time, because a channel with too
//! many entities that wait for a retry takes its target for sick. What fails again is set aside again, with the
//! new reason; some of it is listed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::super::apply::Live;
use super::super::backend::{find_quarantined, find_refused};
use super::super::intake::{redriven, rejected};
use super::super::{Inner, now};
use super::{Begun, Ends, Found, Job, Task};
use crate::dispatch::Channel;
use crate::dispatch::drift::Progress;
use crate::model::{Failure, Ordinal};
use crate::server::views::{JobView, RedriveFailure, RedriveView};
use crate::server::{Problem, RedriveRequest, Settled};
use crate::store::{Queue, Refused, Shelf, Standing, State};
use crate::sync::lock;

/// Events that are redriven before progress is told.
const PIECE: usize = 256;
/// Entities of a channel that are tried again at the same time, at most.
const TRIED_MAX: usize = 1_000;
/// How often is looked whether the channel has tried them.
const POLL: Duration = Duration::from_millis(200);
/// How long is waited while the channel tries none: it may be paused, or its target in trouble.
const PATIENCE: Duration = Duration::from_secs(300);
/// What failed again and is listed, at most.
const FAILURES_MAX: usize = 100;

impl Inner {
    /// Begins to redrive what is asked for.
    ///
    /// # Errors
    /// There is no such source or channel, another redrive of it is running, or too many jobs are.
    pub(in crate::app) fn begin_redrive(
        &self,
        request: RedriveRequest,
    ) -> Result<JobView, Problem> {
        let work = match &request {
            RedriveRequest::Quarantined { source, .. } => {
                self.known_source(source)?;
                Work::Events(self.store.shelf(source))
            }
            RedriveRequest::Refused {
                channel,
                filter,
                limit,
            } => {
                let channel = self.known_channel(channel)?;
                let (found, more) = find_refused(&*channel.queue(), filter, None, *limit)?;
                Work::Entities(channel, found, more)
            }
        };
        let progress = Progress {
            cancelled: self.leaving.child_token(),
            ..Progress::default()
        };
        if let Work::Entities(_, found, _) = &work {
            progress.total.store(found.len() as u64, Relaxed);
        }
        let job = match self.jobs.begin(Task::Redrive(request), progress)? {
            Begun::New(job) => job,
            Begun::Running(view) => return Ok(*view),
        };
        let (view, live) = (job.view(), self.live.clone());
        self.deliveries.spawn(async move {
            let ends = Ends(job);
            let job = &ends.0;
            let done = match work {
                Work::Events(shelf) => events(job, &live, shelf).await,
                Work::Entities(channel, found, more) => {
                    lock(&job.redriven).more = more;
                    entities(job, &channel, found).await
                }
            };
            let RedriveView {
                redriven, failed, ..
            } = *lock(&job.redriven);
            let (id, reason) = (job.id, done.as_ref().err());
            tracing::info!(job = id, redriven, failed, reason, "a redrive has ended");
            job.end(now(), done.map(|()| Found::Redriven));
        });
        Ok(view)
    }
}

/// Where the work of a job is done.
enum Work {
    Events(Arc<dyn Shelf>),
    Entities(Arc<Channel>, Vec<Refused>, bool),
}

impl Job {
    /// # Errors
    /// It was cancelled.
    fn goes_on(&self) -> Result<(), String> {
        match self.progress.cancelled.is_cancelled() {
            true => Err("cancelled".to_owned()),
            false => Ok(()),
        }
    }

    /// Lists what failed again, as far as there is room.
    fn lists(&self, failure: RedriveFailure) {
        let mut view = lock(&self.redriven);
        if view.failures.len() < FAILURES_MAX {
            view.failures.push(failure);
        }
    }

    /// Counts what was redriven, and what failed again.
    fn counts(&self, redriven: u64, failed: u64) {
        let mut view = lock(&self.redriven);
        (view.redriven, view.failed) = (view.redriven + redriven, view.failed + failed);
    }
}

async fn events(job: &Job, live: &ArcSwap<Live>, shelf: Arc<dyn Shelf>) -> Result<(), String> {
    let Task::Redrive(RedriveRequest::Quarantined {
        source,
        filter,
        limit,
    }) = &job.task
    else {
        return Ok(());
    };
    // Their numbers only: a hundred thousand events need not be in memory at once.
    let number = |event: crate::store::QuarantinedEvent| (event.sequence, 0);
    let found = find_quarantined(shelf, filter, None, *limit, number).await;
    let (sequences, more) = found.map_err(|problem| problem.detail().to_owned())?;
    lock(&job.redriven).more = more;
    job.progress.total.store(sequences.len() as u64, Relaxed);
    for piece in sequences.chunks(PIECE) {
        job.goes_on()?;
        // Each piece by the plugins that serve now: new ones may have come meanwhile.
        let intake = live.load().sources.get(&**source).cloned();
        let intake = intake.ok_or_else(|| format!("there is no source `{source}` any more"))?;
        let done = match intake.source.redrive(piece.to_vec()).await {
            Ok(done) => done,
            Err(rejection) => {
                let taken = rejection.taken().map(|taken| redriven(taken.events));
                let Settled { settled, kept } = taken.unwrap_or_default();
                job.counts(settled, kept);
                return Err(rejected(&rejection).detail().to_owned());
            }
        };
        let Settled { settled, kept } = redriven(done.events);
        job.counts(settled, kept);
        for again in done.failures {
            job.lists(RedriveFailure {
                sequence: Some(again.sequence.0),
                id: again.id,
                ..failure_of(&again.failure)
            });
        }
        job.progress.done.fetch_add(piece.len() as u64, Relaxed);
    }
    Ok(())
}

fn failure_of(failure: &Failure) -> RedriveFailure {
    RedriveFailure {
        code: failure.code.clone(),
        detail: failure.message.clone(),
        ..RedriveFailure::default()
    }
}

async fn entities(job: &Job, channel: &Channel, found: Vec<Refused>) -> Result<(), String> {
    let queue = channel.queue();
    let mut left = found.into_iter();
    let mut tried: Vec<Refused> = Vec::new();
    let mut last = Instant::now();
    loop {
        job.goes_on()?;
        let next: Vec<Refused> = left.by_ref().take(TRIED_MAX - tried.len()).collect();
        if !next.is_empty() {
            let ordinals = next.iter().map(|refused| refused.ordinal).collect();
            let handed = channel.redrive(ordinals).await;
            handed.map_err(|error| error.to_string())?;
            tried.extend(next);
        }
        if tried.is_empty() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = job.progress.cancelled.cancelled() => {}
        }
        let before = tried.len();
        tried.retain(|refused| match queue.standing(refused.ordinal) {
            Some(standing) if is_open(&standing) => true,
            Some(standing) if standing.state == State::Refused => {
                let failure = reason(&*queue, refused.ordinal);
                let failure = failure.as_ref().unwrap_or(&refused.failure);
                job.counts(0, 1);
                job.lists(RedriveFailure {
                    id: refused.id.key.to_string(),
                    ..failure_of(failure)
                });
                false
            }
            _ => {
                job.counts(1, 0);
                false
            }
        });
        let settled = before - tried.len();
        job.progress.done.fetch_add(settled as u64, Relaxed);
        if settled > 0 {
            last = Instant::now();
        } else if last.elapsed() > PATIENCE {
            return Err(format!(
                "the channel has tried none of them for {} s: it is paused, or its target is in trouble; {} wait for a retry, which they will get",
                PATIENCE.as_secs(),
                tried.len()
            ));
        }
    }
}

/// Whether an entity still waits for its retry.
fn is_open(standing: &Standing) -> bool {
    standing.in_flight || matches!(standing.state, State::Parked(_))
}

/// Why an entity is refused.
fn reason(queue: &dyn Queue, ordinal: Ordinal) -> Option<Failure> {
    let before = ordinal.0.checked_sub(1).map(Ordinal);
    let mut found = queue.refused(before, 1).into_iter();
    let found = found.find(|refused| refused.ordinal == ordinal);
    found.map(|refused| refused.failure)
}
