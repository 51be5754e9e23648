//! A fake Weir for tests. It has one source, `erp`, two channels and a few entities, and records
//! the operations that are requested.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::views::*;
use super::*;
use crate::metrics::{Snapshot, SourceFigures};
use crate::model::{EntityId, Timestamp};
use crate::plan::{Front, Token};
use crate::tap::{Point, Points, Side};

/// The longest body of the source.
pub(crate) const BODY_BYTES_MAX: u64 = 100_000;
/// Keys of the entities of type `product`, in order.
pub(crate) const KEYS: [&str; 5] = ["4711", "a/b", "lamp 7", "nul\0", "😀"];

#[derive(Default)]
pub(crate) struct Fake {
    pub(crate) tokens: Mutex<Vec<Token>>,
    pub(crate) front: Mutex<Arc<Front>>,
    /// The one source, which also keeps a text for each operation.
    source: Arc<FakeIntake>,
    /// The reasons why it is not ready.
    pub(crate) obstacles: Mutex<Vec<String>>,
    /// The mistakes in its configuration files.
    pub(crate) complaints: Mutex<Vec<ComplaintView>>,
    /// Whether a reload ends halfway.
    pub(crate) halfway: Mutex<bool>,
    /// What `storefront.de` owes.
    pub(crate) owed: Mutex<u64>,
    /// Channels beside the two; what they owe differs each time.
    pub(crate) more_channels: Mutex<usize>,
    /// How often its channels were looked at.
    pub(crate) looks: std::sync::atomic::AtomicUsize,
    /// Bytes by which its configuration is longer than usual.
    pub(crate) config_bytes: Mutex<usize>,
    /// Where its source and channels are tapped.
    pub(crate) points: Points,
}

/// The intake of `erp`.
struct FakeIntake {
    log: Mutex<Vec<String>>,
    requests: Requests,
    /// A permit for each request with the body `held` that may be answered.
    released: Semaphore,
}

impl Default for FakeIntake {
    fn default() -> FakeIntake {
        FakeIntake {
            log: Mutex::default(),
            requests: Requests::default(),
            released: Semaphore::new(0),
        }
    }
}

/// A token whose secret is its role's name.
pub(crate) fn token(role: Role) -> Token {
    let secret = role.name();
    Token {
        name: format!("{secret}-token"),
        sha256: Sha256::digest(secret).into(),
        role,
    }
}

/// Starts a server on loopback in front of a fake.
pub(crate) async fn start(fake: &Arc<Fake>, limits: Limits) -> Server {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    Server::start(anywhere, None, limits, fake.clone())
        .await
        .expect("loopback has a free port")
}

impl Fake {
    fn note(&self, what: String) {
        self.source.log.lock().unwrap().push(what);
    }

    /// The operations since the last call.
    pub(crate) fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.source.log.lock().unwrap())
    }

    /// Answers this many requests with the body `held`, now or when they come.
    pub(crate) fn release(&self, requests: usize) {
        self.source.released.add_permits(requests);
    }

    fn known_source(&self, name: &str) -> Result<(), Problem> {
        if name == "erp" {
            Ok(())
        } else {
            Err(Problem::unknown("source", name))
        }
    }

    fn known_channel(&self, name: &str) -> Result<(), Problem> {
        if ["storefront.de", "old"].contains(&name) {
            Ok(())
        } else {
            Err(Problem::unknown("channel", name))
        }
    }
}

fn answer<'a, T: Send + 'a>(result: Result<T, Problem>) -> Reply<'a, T> {
    Box::pin(async { result })
}

fn refusals() -> Vec<RefusedView> {
    let refused = |key: &str, code: &str| RefusedView {
        entity_type: "product".into(),
        key: key.into(),
        code: code.into(),
        detail: "the shop says: no such category".into(),
        sequence: 7,
        time: Timestamp(1_000).into(),
    };
    vec![refused("4711", "refused"), refused("a/b", "plugin")]
}

fn quarantined() -> Vec<QuarantineView> {
    let event = EventView {
        id: "e1".into(),
        source: "/sap".into(),
        event_type: "idoc".into(),
        subject: None,
        time: None,
        content_type: Some("application/xml".into()),
        attributes: Default::default(),
        data: Some("<IDOC/>".into()),
        data_base64: None,
        cut: None,
    };
    let event = |sequence| QuarantineView {
        sequence,
        time: Timestamp(1_000).into(),
        first: Timestamp(1_000).into(),
        count: 1,
        code: "no-material".into(),
        detail: "the IDoc names no material".into(),
        plugin: Some("erp@3fa9c1b2d0e4".into()),
        unread: false,
        body: false,
        text: None,
        event: event.clone(),
    };
    vec![event(11), event(12)]
}

impl Intake for FakeIntake {
    fn body_bytes_max(&self) -> u64 {
        BODY_BYTES_MAX
    }

    fn reply(&self) -> &crate::plan::Reply {
        static REPLY: crate::plan::Reply = crate::plan::Reply {
            status: 202,
            body: None,
        };
        &REPLY
    }

    fn admit(&self, _: &str, headers: &HeaderMap) -> Result<(), Problem> {
        match headers.get("webhook-signature") {
            Some(signature) if signature == "forged" => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "not-verified",
                "the signature is wrong",
            )),
            _ => Ok(()),
        }
    }

    /// Each GET is a challenge.
    fn challenged(&self, asked: Asked<'_>) -> Result<Option<Challenged>, Problem> {
        let challenged = || Challenged {
            content_type: "text/plain; charset=utf-8",
            body: "1158".into(),
        };
        Ok(asked.body.is_none().then(challenged))
    }

    fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The body determines the result.
    fn accept(&self, request: IngestRequest) -> Reply<'_, Accepted> {
        let kind = request
            .headers
            .get("content-type")
            .and_then(|value| value.to_str().ok())
            .unwrap_or("none")
            .to_owned();
        let signed = request.headers.contains_key("webhook-signature")
            || request.headers.contains_key("authorization");
        let lane = request.lane.map_or("none", crate::model::Lane::name);
        self.log.lock().unwrap().push(format!(
            "ingest erp {} bytes, {kind}, lane {lane}, signed {signed}",
            request.body.len()
        ));
        Box::pin(async move {
            match &request.body[..] {
                b"panic" => panic!("the plugin host is on fire"),
                b"malformed" => Err(Problem::bad_request(
                    "malformed",
                    "line 1, column 1: not JSON",
                )),
                b"busy" => Err(Problem::busy(
                    "the store is busy",
                    Duration::from_millis(1500),
                )),
                b"unsigned" => Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "not-verified",
                    "the signature is wrong",
                )),
                b"broken" => Err(Problem::internal("cannot open /secret/path")),
                b"held" => {
                    let released = self.released.acquire().await;
                    released.expect("it stays open").forget();
                    Ok(Accepted::default())
                }
                body => {
                    let lines = body
                        .split(|byte| *byte == b'\n')
                        .filter(|line| !line.is_empty())
                        .collect::<Vec<_>>();
                    let foreign = lines
                        .iter()
                        .enumerate()
                        .filter(|(_, line)| line.windows(7).any(|word| word == b"foreign"));
                    let problems: Vec<_> = foreign
                        .map(|(index, _)| EventProblem {
                            index: index as u64,
                            code: "foreign-facet".into(),
                            detail: "facet `content` belongs to `pim`".into(),
                        })
                        .collect();
                    let quarantined = problems.len() as u64;
                    let accepted = lines.len() as u64 - quarantined;
                    let events = EventCounts {
                        accepted,
                        quarantined,
                        ..EventCounts::default()
                    };
                    let changes = ChangeCounts {
                        committed: accepted,
                        ..ChangeCounts::default()
                    };
                    Ok(Accepted {
                        events,
                        changes,
                        problems,
                        sequence: 42,
                        ..Accepted::default()
                    })
                }
            }
        })
    }
}

impl Backend for Fake {
    fn tokens(&self) -> Arc<[Token]> {
        self.tokens.lock().unwrap().as_slice().into()
    }

    fn front(&self) -> Arc<Front> {
        self.front.lock().unwrap().clone()
    }

    fn intake(&self, source: &str) -> Option<Arc<dyn Intake>> {
        (source == "erp").then(|| self.source.clone() as Arc<dyn Intake>)
    }
}

impl Look for Fake {
    fn sources(&self) -> Vec<SourceView> {
        vec![SourceView {
            name: "erp".into(),
            owner: "erp".into(),
            verify: "none".into(),
            quarantined: 2,
            // A rate falls each second without anything happening.
            events_per_second: Some(
                1.0 / (1 + self.looks.load(std::sync::atomic::Ordering::Relaxed)) as f64,
            ),
            ..SourceView::default()
        }]
    }

    fn source(&self, name: &str) -> Result<SourceView, Problem> {
        self.known_source(name).map(|()| self.sources().remove(0))
    }

    fn entity<'a>(&'a self, id: &'a EntityId) -> Reply<'a, EntityView> {
        if &*id.entity_type != "product" || !KEYS.contains(&&*id.key) {
            return answer(Err(Problem::unknown("entity", &id.to_string())));
        }
        let facet = FacetView {
            name: "price.de".into(),
            owner: "erp".into(),
            version: Some(17),
            sequence: 41,
            time: Timestamp(1_000).into(),
            deleted: false,
            value: serde_json::value::RawValue::from_string(r#"{"amount":9.90}"#.into()).ok(),
            cut: None,
        };
        let standing = StandingView {
            channel: "storefront.de".into(),
            state: "parked".into(),
            attempts: Some(3),
            last_error: Some("the shop answered 500".into()),
            ..StandingView::default()
        };
        let (entity_type, key) = (id.entity_type.to_string(), id.key.to_string());
        answer(Ok(EntityView {
            entity_type,
            key,
            facets: vec![facet],
            channels: vec![standing],
            way: Vec::new(),
        }))
    }

    fn receipt<'a>(&'a self, id: &'a EntityId, query: ReceiptQuery) -> Reply<'a, ReceiptView> {
        if &*id.entity_type != "product" || !KEYS.contains(&&*id.key) {
            return answer(Err(Problem::unknown("entity", &id.to_string())));
        }
        let settled = SettledView {
            channel: "storefront.de".into(),
            settled: false,
            state: "parked".into(),
            reason: Some("the shop answered 500".into()),
        };
        let receipt = ReceiptView {
            entity_type: id.entity_type.to_string(),
            key: id.key.to_string(),
            sequence: query.sequence.0,
            settled: false,
            channels: vec![settled],
        };
        Box::pin(async move {
            tokio::time::sleep(query.wait).await;
            Ok(receipt)
        })
    }

    fn entities<'a>(
        &'a self,
        query: &'a EntityQuery,
        page: &'a Page,
    ) -> Reply<'a, List<EntityRow>> {
        if let Some(Err(problem)) = query
            .owed
            .as_deref()
            .map(|channel| self.known_channel(channel))
        {
            return answer(Err(problem));
        }
        let row = |key: &str| EntityRow {
            entity_type: query.entity_type.clone(),
            key: key.into(),
        };
        let rows = KEYS
            .into_iter()
            .filter(|key| key.starts_with(&query.prefix))
            .map(row)
            .collect();
        answer(Ok(params::page_of(rows, page, |row| &row.key)))
    }

    fn channels(&self) -> Vec<ChannelView> {
        let channel = |name: &str, state: &str| ChannelView {
            name: name.into(),
            state: state.into(),
            ..ChannelView::default()
        };
        self.looks
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut all = vec![
            channel("storefront.de", "flowing"),
            channel("old", "retired"),
        ];
        all[0].owed.bulk = *self.owed.lock().unwrap();
        let looks = self.looks.load(std::sync::atomic::Ordering::Relaxed) as u64;
        for number in 0..*self.more_channels.lock().unwrap() {
            let mut more = channel(&format!("site.{number}"), "flowing");
            more.owed.urgent = looks;
            all.push(more);
        }
        // An age grows each second without anything happening.
        all[0].freshness_seconds = looks as f64;
        all
    }

    fn channel(&self, name: &str) -> Result<ChannelView, Problem> {
        let known = self
            .channels()
            .into_iter()
            .find(|channel| channel.name == name);
        known.ok_or_else(|| Problem::unknown("channel", name))
    }

    fn channel_entities<'a>(
        &'a self,
        channel: &'a str,
        query: &'a StateQuery,
        page: &'a Page,
    ) -> Reply<'a, ChannelEntitiesView> {
        let entity = |key: &str| ChannelEntityView {
            entity_type: "product".into(),
            key: key.into(),
            since: Some(Timestamp(1_000).into()),
            sequence: Some(7),
            reason: Some("needs".into()),
            ..ChannelEntityView::default()
        };
        let keys = KEYS
            .into_iter()
            .filter(|key| key.starts_with(&query.prefix));
        let rows: Vec<_> = keys
            .filter(|_| query.state == "withheld")
            .map(entity)
            .collect();
        let needs = ReasonView {
            reason: Some("needs".into()),
            count: rows.len() as u64,
        };
        let reasons = query.reasons.then(|| ReasonsView {
            total: needs.count,
            counts: vec![needs],
            others: 0,
        });
        let List { items, next } = params::page_of(rows, page, |row| &row.key);
        answer(self.known_channel(channel).map(|()| ChannelEntitiesView {
            items,
            next,
            reasons,
        }))
    }

    fn point(&self, side: Side, name: &str) -> Result<Arc<Point>, Problem> {
        match side {
            Side::Source => self.known_source(name)?,
            Side::Channel => self.known_channel(name)?,
        }
        Ok(self.points.of(side, &name.into()))
    }

    fn preview_events<'a>(
        &'a self,
        source: &'a str,
        request: IngestRequest,
    ) -> Reply<'a, RequestPreviewView> {
        if let Err(problem) = self.known_source(source) {
            return answer(Err(problem));
        }
        let log = LogLineView {
            level: "info".into(),
            message: "a lamp".into(),
        };
        let stage = StageView {
            plugin: "erp@3fa9c1b2d0e4".into(),
            role: "mapper".into(),
            result: "mapped".into(),
            log: vec![log],
            ..StageView::default()
        };
        let change = ChangePreviewView {
            entity_type: "product".into(),
            key: "4711".into(),
            facet: "price.de".into(),
            value: serde_json::value::RawValue::from_string(
                String::from_utf8_lossy(&request.body).into_owned(),
            )
            .ok(),
            result: Some("committed".into()),
            channels: vec!["storefront.de".into()],
            ..ChangePreviewView::default()
        };
        let event = EventPreviewView {
            event: quarantined().remove(0).event,
            stages: vec![stage],
            result: "accepted".into(),
            changes: vec![change],
            ..EventPreviewView::default()
        };
        answer(Ok(RequestPreviewView {
            sender: SenderView {
                verify: "none".into(),
                result: "verified".into(),
                detail: None,
            },
            events: vec![event],
            more_events: 0,
        }))
    }

    fn feed(&self, channel: &str) -> Result<Feed, Problem> {
        self.known_channel(channel)
            .map_err(|_| Problem::unknown("feed", channel))?;
        let file = tempfile::tempfile().expect("a file");
        std::io::Write::write_all(&mut &file, b"key\r\n4711\r\n").expect("written");
        let form = FeedForm {
            file: Arc::new(file),
            length: 11,
            etag: "\"4711\"".into(),
        };
        Ok(Feed {
            access: FeedAccess::Open,
            generation: Some(Generation {
                plain: form.clone(),
                gzip: form,
                modified: std::time::UNIX_EPOCH,
                content_type: "text/csv".into(),
            }),
            retry_after: Duration::from_secs(60),
        })
    }

    fn preview<'a>(&'a self, channel: &'a str, key: &'a str) -> Reply<'a, PreviewView> {
        if let Err(problem) = self.known_channel(channel) {
            return answer(Err(problem));
        }
        let filter = FilterVerdict {
            plugin: "in-stock@aa".into(),
            verdict: "passed".into(),
        };
        let rendering = RenderingView {
            key: key.into(),
            content_type: "application/json".into(),
            body: Some(r#"{"title":"Lamp"}"#.into()),
            body_base64: None,
            cut: None,
        };
        answer(Ok(PreviewView {
            channel: channel.into(),
            entity_type: "product".into(),
            key: key.into(),
            result: "rendering".into(),
            filters: vec![filter],
            rendering: Some(rendering),
            ..PreviewView::default()
        }))
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        let obstacles = self.obstacles.lock().unwrap().clone();
        if obstacles.is_empty() {
            Ok(())
        } else {
            Err(obstacles)
        }
    }

    fn snapshot(&self) -> Snapshot {
        let erp = SourceFigures {
            name: "erp".into(),
            requests: self.source.requests.counts(),
            quarantined: 2,
            ..SourceFigures::default()
        };
        Snapshot {
            sources: vec![erp],
            ..Snapshot::default()
        }
    }
}

impl Operate for Fake {
    fn operate<'a>(&'a self, channel: &'a str, operation: Operation) -> Reply<'a, ()> {
        if let Err(problem) = self.known_channel(channel) {
            return answer(Err(problem));
        }
        if operation == Operation::Forget && channel != "old" {
            return answer(Err(Problem::conflict(
                "channel-live",
                format!("channel `{channel}` is in the configuration"),
            )));
        }
        self.note(format!("{operation:?} {channel}"));
        answer(Ok(()))
    }

    fn refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        page: &'a Page,
    ) -> Reply<'a, List<RefusedView>> {
        let matches = |refused: &RefusedView| {
            filter.key.as_ref().is_none_or(|key| *key == refused.key)
                && filter
                    .code
                    .as_ref()
                    .is_none_or(|code| *code == refused.code)
        };
        let rows = refusals().into_iter().filter(matches).collect();
        answer(
            self.known_channel(channel)
                .map(|()| params::page_of(rows, page, |row| &row.key)),
        )
    }

    fn settle_refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        settle: Settle,
    ) -> Reply<'a, u64> {
        self.note(format!(
            "{settle:?} refused of {channel}, key {:?}, code {:?}",
            filter.key, filter.code
        ));
        answer(
            self.known_channel(channel)
                .map(|()| if filter.key.is_some() { 1 } else { 2 }),
        )
    }

    fn resend<'a>(&'a self, channel: &'a str, id: &'a EntityId) -> Reply<'a, ()> {
        self.note(format!("Resend {id} to {channel}"));
        let known = self.known_channel(channel);
        answer(known.and_then(|()| match KEYS.contains(&&*id.key) {
            true => Ok(()),
            false => Err(Problem::unknown("entity", &id.to_string())),
        }))
    }

    fn begin_drift(&self, channel: &str, request: DriftRequest) -> Result<JobView, Problem> {
        self.note(format!("{request:?} of {channel}"));
        self.known_channel(channel)?;
        self.job("1")
    }

    fn begin_redrive(&self, request: RedriveRequest) -> Result<JobView, Problem> {
        let is_one = match &request {
            RedriveRequest::Quarantined { source, filter, .. } => {
                self.note(format!(
                    "Redrive quarantine of {source}, sequence {:?}, plugin {:?}",
                    filter.sequence, filter.plugin
                ));
                self.known_source(source)?;
                filter.sequence.is_some()
            }
            RedriveRequest::Refused {
                channel, filter, ..
            } => {
                self.note(format!(
                    "Redrive refused of {channel}, key {:?}, code {:?}",
                    filter.key, filter.code
                ));
                self.known_channel(channel)?;
                filter.key.is_some()
            }
        };
        Ok(JobView {
            total: if is_one { 1 } else { 3 },
            ..self.job("2")?
        })
    }

    fn jobs(&self) -> Vec<JobView> {
        let example = DriftExample {
            kind: "different".into(),
            key: "4711".into(),
            at: vec!["/price".into()],
            sequence: None,
        };
        let drift = DriftView {
            compared: 5,
            sample: Some(1000),
            different: 1,
            extras: "not looked for".into(),
            examples: vec![example],
            ..DriftView::default()
        };
        let checked = JobView {
            id: "1".into(),
            kind: "drift".into(),
            channel: "storefront.de".into(),
            state: "done".into(),
            drift: Some(drift),
            ..JobView::default()
        };
        let failure = RedriveFailure {
            sequence: Some(7),
            code: "foreign".into(),
            detail: "another owner writes it".into(),
            ..RedriveFailure::default()
        };
        let redriven = JobView {
            id: "2".into(),
            kind: "redrive".into(),
            source: Some("erp".into()),
            state: "done".into(),
            redrive: Some(RedriveView {
                redriven: 2,
                failed: 1,
                failures: vec![failure],
                ..RedriveView::default()
            }),
            ..JobView::default()
        };
        vec![checked, redriven]
    }

    fn job(&self, id: &str) -> Result<JobView, Problem> {
        let mut jobs = self.jobs().into_iter();
        let found = jobs.find(|job| job.id == id);
        found.ok_or_else(|| Problem::unknown("job", id))
    }

    fn cancel_job(&self, id: &str) -> Result<JobView, Problem> {
        self.note(format!("Cancel job {id}"));
        self.job(id)
    }

    fn reset_versions<'a>(&'a self, source: &'a str) -> Reply<'a, u64> {
        self.note(format!("Reset versions of {source}"));
        answer(self.known_source(source).map(|()| 3))
    }

    fn quarantine<'a>(
        &'a self,
        source: &'a str,
        _: &'a QuarantineFilter,
        page: &'a Page,
    ) -> Reply<'a, List<QuarantineView>> {
        let items: Vec<_> = quarantined().into_iter().take(page.limit).collect();
        answer(
            self.known_source(source)
                .map(|()| List { items, next: None }),
        )
    }

    fn settle_quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        settle: Settle,
    ) -> Reply<'a, Settled> {
        self.note(format!(
            "{settle:?} quarantine of {source}, sequence {:?}, plugin {:?}",
            filter.sequence, filter.plugin
        ));
        answer(self.known_source(source).map(|()| Settled {
            settled: if filter.sequence.is_some() { 1 } else { 2 },
            kept: 0,
        }))
    }
}

impl Setup for Fake {
    fn plugins(&self) -> Vec<PluginView> {
        vec![PluginView {
            name: "erp".into(),
            ..PluginView::default()
        }]
    }

    fn config(&self) -> ConfigView {
        ConfigView {
            config: serde_json::json!({
                "config_version": 1,
                "more": "x".repeat(*self.config_bytes.lock().unwrap()),
            }),
            ..ConfigView::default()
        }
    }

    fn confirm_plugin<'a>(&'a self, name: &'a str) -> Reply<'a, ReloadView> {
        self.note(format!("confirm plugin {name}"));
        Setup::reload(self)
    }

    fn backup(&self) -> Reply<'_, BackupView> {
        self.note("backup".into());
        answer(Ok(BackupView {
            file: "/data/backups/one.weir-backup".into(),
            rows: 7,
            bytes: 700,
        }))
    }

    fn reload(&self) -> Reply<'_, ReloadView> {
        self.note("reload".into());
        let complaints = self.complaints.lock().unwrap().clone();
        answer(Ok(ReloadView {
            success: complaints.is_empty(),
            partly_applied: *self.halfway.lock().unwrap(),
            complaints,
            ..ReloadView::default()
        }))
    }
}
