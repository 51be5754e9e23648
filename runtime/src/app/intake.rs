//! A source behind its HTTP route: converts the request to the neutral form for the source, and the
//! result to JSON or to a problem for the sender. The counts and problems of a request are
//! converted only here.

use std::sync::Arc;

use super::now;
use crate::ingest::{self, Incoming, Rejection, Source, Summary, handshake, http};
use crate::model::{EntityId, Sequence, Timestamp};
use crate::plan;
use crate::server::views::{Accepted, ChangeCounts, EventCounts, EventProblem, NamedEntity};
use crate::server::{
    Asked, Challenged, HeaderMap, IngestRequest, Intake, Problem, Reply, Requests, Settled,
};

/// A source, and the counts of its requests, which outlive it.
pub(crate) struct HttpIntake {
    /// The source.
    pub(crate) source: Source,
    /// The response to a request that was taken.
    pub(crate) reply: plan::Reply,
    /// Its requests by status.
    pub(crate) requests: Arc<Requests>,
    /// When the source came into the configuration, or Weir was started.
    pub(crate) since: Timestamp,
}

impl HttpIntake {
    /// Since when the source is silent: its last event, if its `quiet` has passed since. A source that has
    /// sent none yet counts from its beginning; a reload begins nothing.
    pub(crate) fn silent_since(&self, now: Timestamp) -> Option<Timestamp> {
        let quiet = self.source.options().quiet?.as_millis();
        let last = self.source.activity().counts().last_event;
        let last = last.unwrap_or(self.since);
        (u128::from(now.0.saturating_sub(last.0)) > quiet).then_some(last)
    }
}

impl Intake for HttpIntake {
    fn body_bytes_max(&self) -> u64 {
        self.source.options().body_bytes_max
    }

    fn reply(&self) -> &plan::Reply {
        &self.reply
    }

    fn admit(&self, target: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let admitted = http::admit(&self.source, target, headers);
        admitted.map_err(|rejection| {
            self.source.tell_rejected(&rejection);
            rejected_by(&self.source, &rejection)
        })
    }

    fn reads(&self, parameter: &str) -> bool {
        let options = self.source.options();
        let handshake = options.handshake.as_ref();
        options.verify.reads(parameter) || handshake.is_some_and(|it| it.reads(parameter))
    }

    fn challenged(&self, asked: Asked<'_>) -> Result<Option<Challenged>, Problem> {
        if self.source.options().handshake.is_none() {
            return Ok(None);
        }
        let headers = http::neutral(asked.headers).at(asked.target);
        let asked = handshake::Asked {
            headers: &headers,
            body: asked.body,
        };
        match self.source.challenged(asked, now()) {
            Ok(answer) => Ok(answer.map(|answer| Challenged {
                content_type: answer.content_type,
                body: answer.body,
            })),
            Err(rejection) => {
                self.source.tell_rejected(&rejection);
                Err(rejected_by(&self.source, &rejection))
            }
        }
    }

    fn accept(&self, request: IngestRequest) -> Reply<'_, Accepted> {
        Box::pin(take(&self.source, request, now()))
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }
}

/// Takes a request to a source; returns the body of its response.
pub(crate) async fn take(
    source: &Source,
    request: IngestRequest,
    now: Timestamp,
) -> Result<Accepted, Problem> {
    let IngestRequest {
        target,
        headers,
        body,
        lane,
        receipt,
        memory,
    } = request;
    let incoming = Incoming {
        receipt,
        ..http::incoming(&target, &headers, body, lane, now, memory)
    };
    let taken = source.accept(incoming).await;
    taken
        .map(|summary| accepted(&summary))
        .map_err(|rejection| rejected_by(source, &rejection))
}

/// The rejection of a request to this source; a 401 names the kind of proof that it wants.
fn rejected_by(source: &Source, rejection: &Rejection) -> Problem {
    let problem = rejected(rejection);
    match rejection {
        Rejection::NotVerified(_) => problem.challenge(source.options().verify.scheme()),
        _ => problem,
    }
}

fn accepted(summary: &Summary) -> Accepted {
    Accepted {
        events: events(summary.events),
        changes: changes(summary.changes),
        problems: problems(&summary.problems),
        sequence: summary.sequence,
        entities: summary.named.entities().map(named).collect(),
        more_entities: summary.named.has_more(),
    }
}

fn named((id, sequence): (&EntityId, Sequence)) -> NamedEntity {
    NamedEntity {
        entity_type: id.entity_type.to_string(),
        key: id.key.to_string(),
        sequence: sequence.0,
    }
}

/// Events by result, as they are shown.
pub(super) fn events(counts: ingest::EventCounts) -> EventCounts {
    let ingest::EventCounts {
        accepted,
        filtered,
        quarantined,
        repeated,
    } = counts;
    EventCounts {
        accepted,
        filtered,
        quarantined,
        repeated,
    }
}

/// Changes by result, as they are shown.
pub(super) fn changes(counts: ingest::ChangeCounts) -> ChangeCounts {
    let ingest::ChangeCounts {
        committed,
        unchanged,
        stale,
    } = counts;
    ChangeCounts {
        committed,
        unchanged,
        stale,
    }
}

fn problems(problems: &[ingest::ItemProblem]) -> Vec<EventProblem> {
    let shown = |problem: &ingest::ItemProblem| EventProblem {
        index: problem.index as u64,
        code: problem.code.clone(),
        detail: problem.detail.clone(),
    };
    problems.iter().map(shown).collect()
}

/// A rejection as the sender gets it, with a summary of the part that was taken, if any.
pub(super) fn rejected(rejection: &Rejection) -> Problem {
    let mut problem = Problem::new(
        http::status(rejection),
        rejection.code().to_owned(),
        rejection.to_string(),
    );
    if let Some(wait) = rejection.retry_after() {
        problem = problem.retry_after(wait);
    }
    if let Rejection::Unavailable { reason, .. } = rejection {
        problem = problem.logged(reason.clone());
    }
    let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
    let items = problems(rejection.problems());
    if let Some(taken) = rejection.taken() {
        problem = problem.with("taken", json(serde_json::to_value(accepted(taken))));
    }
    if items.is_empty() {
        problem
    } else {
        problem.with("problems", json(serde_json::to_value(items)))
    }
}

/// The counts of redriven events, as they are shown.
pub(super) fn redriven(events: ingest::EventCounts) -> Settled {
    Settled {
        settled: events.accepted + events.filtered + events.repeated,
        kept: events.quarantined,
    }
}

/// The problem of a redrive that ended before all events were tried: first what it has done.
pub(super) fn redrive_ended(rejection: &Rejection) -> Problem {
    let taken = rejection.taken().map(|taken| taken.events);
    let Settled { settled, kept } = redriven(taken.unwrap_or_default());
    let done = format!(
        "{settled} events were redriven and {kept} failed again, the others were not tried and stay \
         in quarantine"
    );
    rejected(rejection)
        .after(&done)
        .with("redriven", settled)
        .with("kept", kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrive_that_ended_early_says_first_what_it_has_done() {
        let mut taken = Summary::default();
        (taken.events.accepted, taken.events.quarantined) = (12, 3);
        let problem = redrive_ended(&Rejection::Busy {
            taken: Box::new(taken),
        });
        let begins = "12 events were redriven and 3 failed again, the others were not tried";
        assert!(problem.detail().starts_with(begins), "{}", problem.detail());
    }
}
