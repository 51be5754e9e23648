//! Exports spans to a collector of traces (OTLP over HTTP, JSON).
//!
//! Spans wait in a bounded queue ([`Traces`]) and go in requests of at most [`BATCH_MAX`]. A request that the
//! collector wants again, or that gets no answer, is repeated for a while; meanwhile the queue fills, and what
//! does not fit is dropped and counted. Nothing of Weir ever waits for the collector. What this module sends
//! is itself no delivery, so no span tells of it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::plan::Telemetry;
use crate::sync::lock;
use crate::targets::http::{self, Address, Client, Method};
use crate::traces::otlp::{self, Answer, Resource};
use crate::traces::{BATCH_MAX, Fate, Links, Span, Traces};

/// How long spans are gathered for a request.
const GATHER: Duration = Duration::from_secs(1);
/// The wait before a request is repeated, unless the collector asks for another; doubled each time.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// For how long a request is repeated. What is older is of little use, and newer spans wait for their turn.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long a stop waits for the last spans.
const STOP_MAX: Duration = Duration::from_millis(1_500);
/// Without trouble for so long, exports are well again.
const CALM: Duration = Duration::from_secs(10);

/// The export of spans, which follows the configuration.
pub(super) struct Exporter {
    collector: watch::Sender<Option<Arc<Collector>>>,
    last: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A collector of traces.
pub(crate) struct Collector {
    client: Client,
    address: Address,
    service: String,
    /// The address without its secrets, for the log.
    shown: String,
}

impl Collector {
    /// Prepares requests to the collector of a configuration, and makes none.
    ///
    /// # Errors
    /// Why none can be made, as a phrase.
    pub(crate) fn open(telemetry: &Telemetry) -> Result<Collector, String> {
        let address = traces_at(&telemetry.endpoint);
        let client = Client::open(&telemetry.http, &address, &[]);
        Ok(Collector {
            client: client.map_err(|unusable| unusable.to_string())?,
            shown: address.shown("[secret]"),
            address,
            service: telemetry.service.clone(),
        })
    }

    /// Opens a connection and sends nothing. Returns warnings of what was not tried.
    ///
    /// # Errors
    /// What is wrong, as a phrase.
    pub(crate) async fn reach(&self) -> Result<Vec<String>, String> {
        self.client.reach(&self.address).await
    }

    /// Makes one request. Returns the answer, and how long to wait before another one, if it says so.
    async fn send(&self, body: Vec<u8>) -> (Answer, Option<Duration>) {
        let url = self.address.as_str();
        let content = Some(("application/json", body));
        match self.client.send(Method::POST, url, content).await {
            Ok(answered) => {
                let body = self.client.redact(&answered.body);
                let wait = answered.wait(SystemTime::now());
                (otlp::meaning(answered.parts.status.as_u16(), &body), wait)
            }
            Err(outcome) => (Answer::Again(http::reason(outcome)), None),
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The address with the path of traces, if it has none.
fn traces_at(endpoint: &Address) -> Address {
    let (rest, query) = match endpoint.as_str().split_once('?') {
        Some((rest, query)) => (rest, format!("?{query}")),
        None => (endpoint.as_str(), String::new()),
    };
    let host = rest.split_once("://").map_or(rest, |(_, host)| host);
    let has_path = host.trim_end_matches('/').contains('/');
    if has_path {
        return endpoint.clone();
    }
    let with_path = format!("{}{}{query}", rest.trim_end_matches('/'), otlp::PATH);
    Address::parse(&with_path).unwrap_or_else(|_| endpoint.clone())
}

impl Exporter {
    /// Starts with no collector.
    pub(super) fn start(traces: Arc<Traces>) -> Exporter {
        let collector = watch::Sender::new(None);
        let last = CancellationToken::new();
        let work = Work {
            traces,
            instance: format!("{:016x}", fastrand::u64(1..)),
            batch: Vec::new(),
            last: last.clone(),
            trouble: Trouble::default(),
        };
        let task = tokio::spawn(work.run(collector.subscribe()));
        Exporter {
            collector,
            last,
            task: Mutex::new(Some(task)),
        }
    }

    /// Exports to this collector from now on; `None` exports nothing.
    pub(super) fn use_collector(&self, collector: Option<Collector>) {
        self.collector.send_replace(collector.map(Arc::new));
    }

    /// Exports what waits, as far as that takes no longer than [`STOP_MAX`].
    pub(super) async fn stop(&self) {
        self.last.cancel();
        let task = lock(&self.task).take();
        if let Some(mut task) = task
            && tokio::time::timeout(STOP_MAX, &mut task).await.is_err()
        {
            task.abort();
            tracing::warn!("the last spans could not be exported before the stop");
        }
    }
}

/// The task of an exporter.
struct Work {
    traces: Arc<Traces>,
    /// `service.instance.id`.
    instance: String,
    /// The spans of the request that is being made. Another collector gets them if the configuration
    /// changes meanwhile.
    batch: Vec<(Span, Links)>,
    /// Cancelled when Weir stops.
    last: CancellationToken,
    trouble: Trouble,
}

impl Work {
    async fn run(mut self, mut collectors: watch::Receiver<Option<Arc<Collector>>>) {
        loop {
            let collector = collectors.borrow_and_update().clone();
            let Some(collector) = collector else {
                self.traces.count(Fate::Dropped, self.batch.len());
                self.batch.clear();
                self.traces.clear();
                self.trouble = Trouble::default();
                let last = self.last.clone();
                tokio::select! {
                    changed = collectors.changed() => match changed {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                    () = last.cancelled() => return,
                }
            };
            self.trouble.dropped = self.traces.counted(Fate::Dropped);
            tokio::select! {
                changed = collectors.changed() => if changed.is_err() { return },
                () = self.export(&collector) => return,
            }
        }
    }

    /// Exports until Weir stops and nothing waits any more.
    async fn export(&mut self, collector: &Collector) {
        loop {
            if self.batch.is_empty() && !self.gather(collector).await {
                return;
            }
            self.send(collector).await;
        }
    }

    /// Takes the next spans; false if there will be none.
    async fn gather(&mut self, collector: &Collector) -> bool {
        loop {
            let last = self.last.is_cancelled();
            if self.traces.waiting() == 0 {
                if last {
                    return false;
                }
                let calm = self.trouble.calm_in();
                tokio::select! {
                    () = self.traces.arrive() => {}
                    () = self.last.cancelled() => {}
                    () = async { sleep(calm.unwrap_or_default()).await }, if calm.is_some() => {
                        self.trouble.end(collector, &self.traces);
                    }
                }
                continue;
            }
            if !last && self.traces.waiting() < BATCH_MAX {
                tokio::select! {
                    () = sleep(GATHER) => {}
                    () = self.traces.arrive() => {}
                    () = self.last.cancelled() => continue,
                }
            }
            self.batch = self.traces.take(last);
            if !self.batch.is_empty() {
                return true;
            }
            // They wait until an event is stored.
            sleep(GATHER / 10).await;
        }
    }

    /// Exports the batch, or gives it up.
    async fn send(&mut self, collector: &Collector) {
        let (began, mut wait) = (Instant::now(), WAIT_FIRST);
        let resource = Resource {
            service: collector.service.clone(),
            instance: self.instance.clone(),
        };
        let spans = self.batch.len();
        loop {
            let last = self.last.is_cancelled();
            let body = otlp::encode(&resource, &self.batch);
            let (answer, asked) = collector.send(body).await;
            let reason = match answer {
                Answer::Taken { rejected, message } => {
                    let rejected = spans.min(usize::try_from(rejected).unwrap_or(spans));
                    self.traces.count(Fate::Exported, spans - rejected);
                    self.traces.count(Fate::Rejected, rejected);
                    if rejected > 0 {
                        self.trouble
                            .note(collector, &format!("it rejected spans: {message}"));
                    } else if !message.is_empty() {
                        tracing::debug!(%collector, message, "the collector of traces warns");
                    }
                    break;
                }
                Answer::Refused(reason) => {
                    self.traces.count(Fate::Failed, spans);
                    self.trouble.note(collector, &reason);
                    break;
                }
                Answer::Again(reason) => reason,
            };
            self.trouble.note(collector, &reason);
            if last || began.elapsed() >= RETRY_MAX {
                self.traces.count(Fate::Failed, spans);
                break;
            }
            let jitter = 0.8 + 0.4 * fastrand::f64();
            let pause = asked.unwrap_or_else(|| wait.mul_f64(jitter)).min(RETRY_MAX);
            wait = (wait * 2).min(WAIT_MAX);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.last.cancelled() => {}
            }
        }
        self.batch.clear();
        let dropped = self.traces.counted(Fate::Dropped);
        if std::mem::replace(&mut self.trouble.dropped, dropped) < dropped {
            self.trouble
                .note(collector, "more spans ended than it took");
        }
        if self.trouble.calm_in() == Some(Duration::ZERO) {
            self.trouble.end(collector, &self.traces);
        }
    }
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Exports that do not work as they should: one line when that begins, and one when it has ended.
#[derive(Debug, Default)]
struct Trouble {
    /// When it began, when something went wrong last, and what had been lost before.
    since: Option<(Instant, Instant, u64)>,
    /// The number of dropped spans at the last look.
    dropped: u64,
}

impl Trouble {
    fn note(&mut self, collector: &Collector, reason: &str) {
        let now = Instant::now();
        match &mut self.since {
            Some((_, last, _)) => *last = now,
            None => {
                self.since = Some((now, now, self.dropped));
                tracing::warn!(
                    %collector,
                    reason,
                    "the collector of traces does not take all spans; what it does not take within a minute is lost, \
                     and nothing else depends on it. See `weir_trace_spans_total`"
                );
            }
        }
    }

    /// How long it takes until the trouble is over if nothing else happens; `None` without trouble.
    fn calm_in(&self) -> Option<Duration> {
        let (_, last, _) = self.since?;
        Some((last + CALM).saturating_duration_since(Instant::now()))
    }

    fn end(&mut self, collector: &Collector, traces: &Traces) {
        if let Some((began, last, dropped)) = self.since.take() {
            tracing::info!(
                %collector,
                seconds = (last - began).as_secs(),
                dropped = traces.counted(Fate::Dropped) - dropped,
                "the collector of traces takes all spans again"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_there_is_none() {
        for (endpoint, url) in [
            ("http://otel:4318", "http://otel:4318/v1/traces"),
            ("http://otel:4318/", "http://otel:4318/v1/traces"),
            ("https://otel?key=1", "https://otel/v1/traces?key=1"),
            ("https://otel/otlp/v1/traces", "https://otel/otlp/v1/traces"),
            ("https://otel/otlp", "https://otel/otlp"),
            ("https://[::1]:4318", "https://[::1]:4318/v1/traces"),
        ] {
            let address = Address::parse(endpoint).expect("an address");
            assert_eq!(traces_at(&address).as_str(), url, "{endpoint}");
        }
    }
}
