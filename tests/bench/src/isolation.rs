//! `weir-bench isolation`: one of 50 channels has a target that accepts connections and never answers.
//! How much later do the others get what changes, and how much more memory does Weir take?
//!
//! A product changes a hundred times a second, each time another one, while all targets answer, twice
//! beside the one that does not, and again while all answer, so that a machine that becomes slower favours
//! neither. Each time Weir is a process of its own.

use std::net::TcpListener;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clock::{Memory, round};
use crate::documents::{self, MARK, SOURCE};
use crate::events::FIRST_KEY;
use crate::post::{Connection, NDJSON, Request};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Child;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

const CHANNELS: usize = 50;
/// More than change in the time that an answer may take, so that none changes again before it arrives.
const PRODUCTS: usize = 5_000;
/// Changes per second, and the seconds of each round at full size.
const PER_SECOND: f64 = 100.0;
const SECONDS: f64 = 30.0;
/// The channel whose target never answers.
const SILENT: usize = 0;
/// The lane of the changes.
const LANE: &str = "normal";
/// The longest that the last changes may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rounds of one kind: when each change arrived where an answer is given, and the most memory.
#[derive(Default)]
struct Rounds {
    arrivals: Vec<Duration>,
    resident_mib: f64,
}

impl Rounds {
    fn ms(&self, quantile: f64) -> f64 {
        let last = self.arrivals.len().saturating_sub(1);
        let arrival = self.arrivals.get((last as f64 * quantile) as usize);
        arrival.map_or(0.0, |arrival| arrival.as_secs_f64() * 1000.0)
    }
}

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("isolation", args.scale);
    let (mut alone, mut beside) = (Rounds::default(), Rounds::default());
    for silent in [false, true, true, false] {
        let rounds = if silent { &mut beside } else { &mut alone };
        measure(args, silent, rounds)?;
    }
    for (name, rounds) in [("alone", &mut alone), ("beside", &mut beside)] {
        rounds.arrivals.sort_unstable();
        report.figure(&format!("p50_ms_{name}"), round(rounds.ms(0.5), 1));
        report.figure(&format!("p99_ms_{name}"), round(rounds.ms(0.99), 1));
        report.figure(&format!("resident_mib_{name}"), rounds.resident_mib);
    }
    report.at_most("p99_beside_by_alone", beside.ms(0.99) / alone.ms(0.99), 1.1);
    let more = beside.resident_mib - alone.resident_mib;
    report.at_most("more_resident_mib_beside", more, 64.0);
    report.end(args.common.json, out)
}

/// Measures with all targets answering, or beside the silent one.
fn measure(args: &FullArgs, silent: bool, rounds: &mut Rounds) -> Result<(), Failure> {
    let recorder = Recorder::start(CHANNELS, PRODUCTS, Some(MARK));
    let recorder = recorder.map_err(|error| unreachable("no targets in this process", error))?;
    let mut configuration = documents::configuration(&recorder, CHANNELS, "content", 16);
    // The system completes its connections, and nobody reads them.
    let listener = TcpListener::bind("127.0.0.1:0");
    let listener = listener.map_err(|error| unreachable("no target in this process", error))?;
    if silent {
        let address = listener
            .local_addr()
            .map_err(|error| unreachable("no target in this process", error))?;
        configuration["channels"][format!("site-{SILENT:03}")]["target"]["url"] =
            json!(format!("http://{address}/"));
    }
    let child = Child::start(args.folder.as_deref(), &configuration)?;
    let what = if silent { "beside" } else { "alone" };
    let changes = args.scaled(SECONDS * PER_SECOND);
    let progress = Progress::begin(what, changes as u64);
    send(&child, &recorder, changes, &progress)?;
    let began = Instant::now();
    while recorder.held().watching(LANE) > 0 {
        if began.elapsed() > PATIENCE {
            let missing = recorder.held().watching(LANE);
            return Err(Failure::Failed(format!(
                "{missing} changes have not arrived at all targets that answer"
            )));
        }
        sleep(Duration::from_millis(5));
    }
    if recorder.held().strange() > 0 {
        return Err(Failure::Failed(
            "a target got what it did not understand".into(),
        ));
    }
    rounds.arrivals.extend(recorder.held().arrivals(LANE));
    let process = child.process().unwrap_or_default();
    let resident = Memory::of(&process).resident_mib;
    rounds.resident_mib = rounds.resident_mib.max(resident);
    Ok(())
}

/// Sends changes, each at its time, and has the recorder wait for each of them.
fn send(
    child: &Child,
    recorder: &Recorder,
    changes: usize,
    progress: &Progress,
) -> Result<(), Failure> {
    let targets = (0..CHANNELS).filter(|target| *target != SILENT);
    let targets = targets.fold(0, |bits, target| bits | 1_u64 << target);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| unreachable("cannot start", error))?;
    let sent = runtime.block_on(async {
        let mut connection = Connection::open(child.address()).await?;
        let mut request = Request {
            source: SOURCE,
            content_type: NDJSON,
            lane: None,
            events: 1,
            body: Vec::new(),
        };
        let began = tokio::time::Instant::now();
        for number in 0..changes {
            let due = Duration::from_secs_f64(number as f64 / PER_SECOND);
            tokio::time::sleep_until(began + due).await;
            let (product, amount) = (number % PRODUCTS, number + 1);
            let key = FIRST_KEY + product as u64;
            request.body = format!(
                r#"{{"type":"product","key":"{key}","facet":"content","version":{amount},"value":{{"number":{amount},"price":{{"amount":"{amount}"}}}}}}"#
            )
            .into_bytes();
            recorder.held().watch(product, amount as u32, targets, LANE);
            connection.post(&request).await?;
            progress.mark().add(1);
        }
        Ok::<_, String>(())
    });
    sent.map_err(Failure::Failed)
}
