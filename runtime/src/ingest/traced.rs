//! The spans of a request to a source: one of the request, and one of each of its events.
//!
//! The trace of a sender is continued. Its context is in the header `traceparent` of the request, or in the
//! attribute of that name of a CloudEvent. Only requests of verified senders get here, so nobody else can
//! make Weir record anything.

use std::sync::Arc;

use super::source::{Done, Source};
use super::{Headers, Rejection, Summary};
use crate::happenings::Hash;
use crate::model::{EntityId, Event, Failure, Sequence, Trace};
use crate::store::{Commit, Effect, Verdict};
use crate::traces::{Expected, Fate, Kind, Nanos, Span, Traces, Value, now};

/// The most events of a stretch of a request that get a span: a bulk request must not take all the room.
const EVENTS_MAX: usize = 100;

/// A request that is being taken.
pub(super) struct Receiving {
    traces: Option<Arc<Traces>>,
    /// The context that the request has.
    header: Option<Trace>,
    /// The span above, and the span of the request, if it is recorded.
    parent: Option<Trace>,
    span: Option<Trace>,
    started: Nanos,
    bytes: u64,
    /// The number of its events, once they are known.
    events: Option<usize>,
}

impl Receiving {
    /// Begins the span of a request.
    pub(super) fn begin(traces: Option<&Arc<Traces>>, headers: &Headers, bytes: u64) -> Receiving {
        let traces = traces.filter(|traces| traces.is_on()).cloned();
        let header = headers.get("traceparent");
        let header = header.and_then(|value| Trace::parse(std::str::from_utf8(value).ok()?));
        Receiving {
            started: traces.as_ref().map(|_| now()).unwrap_or_default(),
            traces,
            header,
            parent: header,
            span: None,
            bytes,
            events: None,
        }
    }

    /// Gives each event of the request its trace: its own, or that of the request.
    pub(super) fn opened(&mut self, events: &mut [Event]) {
        for event in &mut *events {
            event.trace = own_trace(event);
        }
        if let [event] = events {
            self.parent = self.header.or(event.trace);
        }
        self.events = Some(events.len());
        self.decide();
        let request = self.span.or(self.parent);
        for event in events {
            let of_request = request.filter(|request| {
                let own = event.trace.as_ref();
                own.is_none_or(|own| own.trace == request.trace)
            });
            event.trace = of_request.or(event.trace);
        }
    }

    fn decide(&mut self) {
        self.span = self.traces.as_ref().and_then(|it| it.begin(self.parent));
    }

    /// Ends the span of the request.
    pub(super) fn end(mut self, source: &str, result: &Result<Summary, Rejection>) {
        if self.events.is_none() {
            self.decide();
        }
        let (Some(traces), Some(context)) = (self.traces, self.span) else {
            return;
        };
        let parent = self.parent.map(|parent| parent.span);
        let name = format!("receive {source}");
        let span = Span::new(context, parent, Kind::Server, name, self.started, now()).with([
            ("messaging.system", "weir".into()),
            ("messaging.operation.name", "receive".into()),
            ("messaging.operation.type", "receive".into()),
            ("messaging.destination.name", source.into()),
            ("weir.request.body.size", self.bytes.into()),
        ]);
        let span = match self.events {
            Some(events) => span.with([("messaging.batch.message_count", (events as u64).into())]),
            None => span,
        };
        let (taken, rejection) = match result {
            Ok(summary) => (Some(summary), None),
            Err(rejection) => (rejection.taken(), Some(rejection)),
        };
        let span = match taken {
            Some(summary) => span.with([
                ("weir.events.accepted", summary.events.accepted.into()),
                ("weir.events.quarantined", summary.events.quarantined.into()),
                ("weir.changes.committed", summary.changes.committed.into()),
            ]),
            None => span,
        };
        traces.finished(match rejection {
            Some(rejection) => span.failed(rejection.code(), &rejection.to_string()),
            None => span,
        });
    }
}

/// The trace in the attributes of an event.
pub(super) fn own_trace(event: &Event) -> Option<Trace> {
    let mut attributes = event.attributes.iter();
    let (_, parent) = attributes.find(|(name, _)| name == "traceparent")?;
    Trace::parse(parent)
}

/// Events that are being stored, and whose spans are recorded.
pub(super) struct Processing {
    traces: Arc<Traces>,
    started: Nanos,
    processes: Vec<Process>,
}

struct Process {
    /// The position of the event.
    at: usize,
    span: Trace,
    parent: u64,
    entity: Option<EntityId>,
    expected: Vec<Expected>,
}

impl Source {
    /// Begins the spans of the events of these commits, which began to be mapped at `started`.
    pub(super) fn processing(
        &self,
        events: &[Event],
        commits: &[Commit],
        started: Nanos,
    ) -> Option<Processing> {
        let traces = self.activity.traces().filter(|traces| traces.is_on())?;
        let mut processes = Vec::new();
        let mut not_recorded = 0;
        for (at, (event, commit)) in events.iter().zip(commits).enumerate() {
            let Some(parent) = event.trace.filter(|trace| trace.sampled) else {
                continue;
            };
            if processes.len() == EVENTS_MAX {
                not_recorded += 1;
                continue;
            }
            let Some(span) = traces.begin(Some(parent)) else {
                continue;
            };
            let changes = match &commit.effect {
                Effect::Changes(changes) => &changes[..],
                Effect::Filtered | Effect::Quarantine(_) => &[],
            };
            let expected = changes.chunk_by(|one, next| one.id == next.id).map(|of| {
                let facets = of.iter().map(|change| (&*change.facet).into()).collect();
                traces.expect(span, Hash::of(&of[0].id), facets)
            });
            processes.push(Process {
                at,
                span,
                parent: parent.span,
                entity: changes.first().map(|change| change.id.clone()),
                expected: expected.collect(),
            });
        }
        traces.count(Fate::Dropped, not_recorded);
        (!processes.is_empty()).then(|| Processing {
            traces: traces.clone(),
            started,
            processes,
        })
    }

    /// Ends the spans of events, whose fate is known now, and says in the log which were quarantined.
    pub(super) fn processed(&self, events: &[Event], processing: Option<Processing>, done: &Done) {
        let failure = |at: usize| {
            let found = done.problems.iter().find(|(place, _)| *place == at);
            found.map(|(_, failure)| failure)
        };
        self.log_quarantined(events, processing.as_ref(), done);
        let Some(processing) = processing else {
            return;
        };
        let ended = now();
        for process in processing.processes {
            let (at, verdict) = (process.at, done.verdicts.get(&process.at));
            let first = match verdict {
                Some(Verdict::Accepted {
                    committed, newest, ..
                }) if *committed > 0 => Some(Sequence(newest.0 + 1 - u64::from(*committed))),
                _ => None,
            };
            for expected in process.expected {
                expected.settle(first);
            }
            let name = format!("process {}", self.options.name);
            let (context, parent) = (process.span, Some(process.parent));
            let mut span = Span::new(
                context,
                parent,
                Kind::Consumer,
                name,
                processing.started,
                ended,
            )
            .with([
                ("messaging.system", "weir".into()),
                ("messaging.operation.name", "process".into()),
                ("messaging.operation.type", "process".into()),
                ("messaging.destination.name", (&*self.options.name).into()),
                ("weir.result", result(verdict).into()),
            ]);
            span.attributes.extend(about(&events[at]));
            if let Some(entity) = &process.entity {
                span = span.with([
                    ("weir.entity.type", (&*entity.entity_type).into()),
                    ("weir.entity.key", (&*entity.key).into()),
                ]);
            }
            if let Some(Verdict::Accepted { committed, .. }) = verdict {
                span = span.with([("weir.changes.committed", u64::from(*committed).into())]);
            }
            let untaken = || Failure::new("not-taken", "the store did not take it");
            let failed = match verdict {
                Some(Verdict::Accepted { .. } | Verdict::Filtered | Verdict::Repeated) => None,
                _ => Some(failure(at).cloned().unwrap_or_else(untaken)),
            };
            processing.traces.finished(match failed {
                Some(failure) => span.failed(&failure.code, &failure.message),
                None => span,
            });
        }
    }

    fn log_quarantined(&self, events: &[Event], processing: Option<&Processing>, done: &Done) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let quarantined = done
            .verdicts
            .iter()
            .filter(|(_, verdict)| matches!(verdict, Verdict::Quarantined(_)));
        for (at, _) in quarantined {
            let event = events.get(*at);
            let mut processes = processing.into_iter().flat_map(|it| &it.processes);
            let span = processes.find(|process| process.at == *at);
            let problem = done.problems.iter().find(|(place, _)| place == at);
            tracing::debug!(
                source = &*self.options.name,
                event = event.map(|event| event.id.as_str()),
                reason = problem.map(|(_, failure)| tracing::field::display(failure)),
                trace = event.and_then(|event| event.trace).map(Trace::trace_hex),
                span = span.map(|process| process.span.span_hex()),
                "an event was quarantined"
            );
        }
    }
}

/// What became of an event, in the words of the metrics.
fn result(verdict: Option<&Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Accepted { .. }) => "accepted",
        Some(Verdict::Filtered) => "filtered",
        Some(Verdict::Repeated) => "repeated",
        Some(Verdict::Quarantined(_)) => "quarantined",
        Some(Verdict::Reused | Verdict::NoRoom(_)) | None => "not-taken",
    }
}

/// What is known of an event from its envelope.
fn about(event: &Event) -> impl Iterator<Item = (&'static str, Value)> {
    [
        ("messaging.message.id", &event.id),
        ("cloudevents.event_id", &event.id),
        ("cloudevents.event_source", &event.origin),
        ("cloudevents.event_type", &event.event_type),
    ]
    .into_iter()
    .filter(|(name, value)| {
        // An event that is none of CloudEvents has an id at most.
        let of_cloudevents = !event.origin.is_empty() || *name == "messaging.message.id";
        !value.is_empty() && of_cloudevents
    })
    .map(|(name, value)| (name, value.as_str().into()))
}
