//! How fast Weir delivers to NATS, beside the client library alone: a real nats-server gets 500,000 documents
//! from a channel that was paused, and then as many from a bare client, with the same headers, the same
//! precondition and as many in flight. Both go to streams of the same settings of one server, so the time that the
//! server takes is in both.

use std::time::{Duration, Instant};

use async_nats::header::{self, HeaderMap, HeaderValue};
use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use futures_util::{StreamExt, stream as streams};
use serde_json::json;

use crate::bus::Bus;
use crate::clock::{Phase, round};
use crate::documents;
use crate::progress::Progress;
use crate::report::Report;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Documents at full size.
const DOCUMENTS: f64 = 500_000.0;
/// Messages of the bare client in flight: what two requests of a channel hold, unless configured. Of the three that
/// a target takes at the same time, one is kept for urgent work.
const IN_FLIGHT: usize = 4_000;
/// The longest that all documents may take.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("nats", args.scale);
    let documents = args.scaled(DOCUMENTS);
    report.figure("documents", documents);
    let bus = Bus::start("deliveries to NATS")
        .ok_or_else(|| Failure::Failed("nats-server is not there".into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("generator")
        .build()
        .map_err(|error| unreachable("cannot start", error))?;
    let reader = runtime
        .block_on(Reader::make(&bus))
        .map_err(Failure::Failed)?;

    let target = json!({ "kind": "nats", "url": bus.url(), "subject": "weir.{key}" });
    let stage = documents::owing(args, &target, documents)?;
    let (phase, progress) = (Phase::start(), Progress::begin("nats", documents as u64));
    let began = Instant::now();
    stage.api().operate("resume")?;
    loop {
        let stored = runtime
            .block_on(reader.stored("WEIR"))
            .map_err(Failure::Failed)?;
        progress.mark().at(stored);
        if stored >= documents as u64 {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Failed("the deliveries take too long".into()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let by_weir = documents as f64 / began.elapsed().as_secs_f64();
    drop(progress);
    report.usage("nats", &phase.end(Duration::ZERO));
    let delivered = stage.api().wait_until_idle()?;
    stage.stop();

    let bare = runtime
        .block_on(reader.publish(documents))
        .map_err(Failure::Failed)?;
    report.figure("documents_per_second", round(by_weir, 0));
    report.figure("documents_per_second_of_the_client_alone", round(bare, 0));
    report.at_least("ratio", by_weir / bare, 0.7);
    report.exactly("delivered", delivered, documents as u64);
    report.end(args.common.json, out)
}

/// Whoever makes the streams, counts what they hold, and publishes without Weir.
struct Reader {
    client: async_nats::Client,
    js: jetstream::Context,
}

impl Reader {
    async fn make(bus: &Bus) -> Result<Reader, String> {
        let client = async_nats::connect(bus.url())
            .await
            .map_err(|error| error.to_string())?;
        let js = jetstream::new(client.clone());
        for (name, subjects) in [("WEIR", "weir.*"), ("BARE", "bare.*")] {
            let config = stream::Config {
                name: name.to_owned(),
                subjects: vec![subjects.to_owned()],
                max_messages_per_subject: 1,
                allow_direct: true,
                ..stream::Config::default()
            };
            let made = js.create_stream(config).await;
            made.map_err(|error| error.to_string())?;
        }
        Ok(Reader { client, js })
    }

    /// The messages that a stream holds.
    async fn stored(&self, stream: &str) -> Result<u64, String> {
        let mut stream = self
            .js
            .get_stream(stream)
            .await
            .map_err(|error| error.to_string())?;
        let info = stream.info().await.map_err(|error| error.to_string())?;
        Ok(info.state.messages)
    }

    /// Publishes as many messages as Weir did, like its own. Returns the messages per second.
    async fn publish(&self, documents: usize) -> Result<f64, String> {
        let newest = self
            .js
            .get_stream("WEIR")
            .await
            .map_err(|error| error.to_string())?;
        let like = newest
            .get_raw_message(documents as u64)
            .await
            .map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        for (name, values) in like.headers.iter() {
            for value in values {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers.insert(header::NATS_EXPECTED_STREAM, "BARE");
        let (headers, payload) = (&headers, like.payload);
        let began = Instant::now();
        let mut answers = streams::iter(0..documents)
            .map(|number| self.message(number, headers.clone(), payload.clone()))
            .buffer_unordered(IN_FLIGHT);
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(documents as f64 / began.elapsed().as_secs_f64())
    }

    async fn message(
        &self,
        number: usize,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), String> {
        headers.insert(
            header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
            HeaderValue::from(0_u64),
        );
        headers.insert(header::NATS_MESSAGE_ID, format!("weir_{number:032x}"));
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(payload)
            .timeout(None);
        let answer = self.client.send_request(format!("bare.{number}"), request);
        let answer = answer.await.map_err(|error| error.to_string())?;
        match answer.payload.windows(7).any(|text| text == b"\"error\"") {
            true => Err(String::from_utf8_lossy(&answer.payload).into_owned()),
            false => Ok(()),
        }
    }
}
