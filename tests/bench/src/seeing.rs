//! `weir-bench seeing`: what it costs that a running Weir can be looked at, and how long a look takes.
//!
//! **Times**: 108 channels deliver a steady trickle of changes, and somebody asks for an entity, for all
//! channels, for the stream of the console, and for receipts of what they have just sent.
//!
//! **Cost**: `cycle` and `ingest` run in pairs, each run in a process of its own: once as configured unless
//! told otherwise, with traces and three readers of the stream, and once without bodies and traces and with
//! nobody who looks. A third series of pairs shows what it costs to follow one of the channels of `cycle`. The
//! order alternates, and the figures are medians of the pairs.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clock::round;
use crate::documents::{self, MARK};
use crate::events::FIRST_KEY;
use crate::post::{CONNECTIONS, Connection, NDJSON, Request, post};
use crate::progress::Progress;
use crate::readers::{CONSOLE, Readers};
use crate::recorder::{Held, Recorder};
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// The channels that are looked at, and their products at full size.
const CHANNELS: usize = 108;
const PRODUCTS: f64 = 20_000.0;
/// Entities per delivery.
const BATCH: usize = 64;
/// The time between two changes of the trickle, and between two looks.
const TRICKLE: Duration = Duration::from_millis(10);
const BETWEEN: Duration = Duration::from_millis(5);
/// Looks of each kind at full size, and how long the stream is read.
const LOOKS: f64 = 300.0;
const STREAMED: f64 = 20.0;
/// Pairs of runs of each measurement at full size.
const PAIRS: f64 = 5.0;

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("seeing", args.scale);
    times(args, &mut report)?;
    for comparison in &COMPARISONS {
        comparison.run(args, &mut report)?;
    }
    report.end(args.common.json, out)
}

/// What is measured with and without those who look.
struct Comparison {
    /// As it is called in the report.
    name: &'static str,
    scenario: &'static str,
    /// The words that make the one run and the other.
    without: &'static [&'static str],
    with: &'static [&'static str],
    /// Where the scenario reports processor time and memory.
    figures: [&'static str; 2],
    /// The highest ratio of processor time.
    aim: Option<f64>,
}

const COMPARISONS: [Comparison; 3] = [
    Comparison {
        name: "cycle",
        scenario: "cycle",
        without: &["--bodies", "0B"],
        with: &["--readers", "3", "--traces"],
        figures: ["/figures/weir_cpu_us_a_rendering", "/figures/rss_peak_mib"],
        aim: Some(1.03),
    },
    Comparison {
        name: "ingest",
        scenario: "ingest",
        without: &["--bodies", "0B"],
        with: &["--readers", "3", "--traces"],
        figures: ["/weir_cpu_us_an_event", "/rss_mib"],
        aim: Some(1.03),
    },
    Comparison {
        name: "tap",
        scenario: "cycle",
        without: &[],
        with: &["--tap", "channels/page.s00"],
        figures: ["/figures/weir_cpu_us_a_rendering", "/figures/rss_peak_mib"],
        aim: None,
    },
];

impl Comparison {
    fn run(&self, args: &FullArgs, report: &mut Report) -> Result<(), Failure> {
        let (mut ratios, mut more) = (Vec::new(), Vec::new());
        for pair in 0..args.scaled(PAIRS) {
            let mut figures = [[0.0; 2]; 2];
            // Whichever runs first meets another machine.
            for side in [pair % 2, 1 - pair % 2] {
                let words = [self.without, self.with][side];
                let report = measured(args, self.scenario, words)?;
                figures[side] = self.figures.map(|figure| {
                    let value = report.pointer(figure).and_then(Value::as_f64);
                    value.unwrap_or_default()
                });
            }
            let [without, with] = figures;
            ratios.push(round(with[0] / without[0].max(1e-9), 3));
            more.push(round(with[1] - without[1], 1));
        }
        let name = self.name;
        report.figure(&format!("{name}_processor_time_ratios"), ratios.clone());
        let (ratio, more) = (median(ratios), median(more));
        let figure = format!("{name}_processor_time_ratio");
        match self.aim {
            Some(most) => {
                report.at_most(&figure, ratio, most);
                report.at_most(&format!("{name}_more_mib"), more, 64.0);
            }
            None => {
                report.figure(&figure, ratio);
                report.figure(&format!("{name}_more_mib"), more);
            }
        }
        Ok(())
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// A measurement with these words, in a process of its own.
fn measured(args: &FullArgs, scenario: &str, words: &[&str]) -> Result<Value, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| unreachable("this program cannot be started again", error))?;
    let mut command = Command::new(program);
    command.args([scenario, "--json", "--plugins"]);
    command.arg(&args.common.plugins).stdin(Stdio::null());
    if let Some(folder) = &args.folder {
        command.arg("--folder").arg(folder);
    }
    match scenario {
        "cycle" => command.args(["--scale", &(0.05 * args.scale).to_string()]),
        _ => {
            let seconds = args.scaled(5.0).to_string();
            command.args(["--entities", "50k", "--seconds", &seconds]);
            command.args(["--scale", &args.scale.to_string()])
        }
    };
    let output = command.args(words).stderr(Stdio::null()).output();
    let output = output.map_err(|error| unreachable(scenario, error))?;
    serde_json::from_slice(&output.stdout).map_err(|error| unreachable(scenario, error))
}

/// How long looks take while 108 channels deliver a trickle.
fn times(args: &FullArgs, report: &mut Report) -> Result<(), Failure> {
    let products = args.scaled(PRODUCTS).max(2);
    let recorder = Recorder::start(CHANNELS, products, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let configuration = documents::configuration(&recorder, CHANNELS, "content", BATCH);
    let stage = Stage::start(args.folder.as_deref(), &configuration)?;
    let held = recorder.held();
    held.expect(|_| 1);
    let first = post(stage.address(), CONNECTIONS, move |turn, _, request| {
        documents::fill(request, products, turn, 1)
    });
    first.map_err(Failure::Failed)?;
    let progress = Progress::begin("filling the targets", held.pairs());
    stage.api().converge(&recorder, &progress)?;
    drop(progress);

    // The first half of the products changes all the time. The others are those of the receipts.
    let (half, over) = (products / 2, Arc::new(AtomicBool::new(false)));
    let (to, ends) = (stage.address(), over.clone());
    let trickle = std::thread::spawn(move || {
        post(to, 1, move |turn, _, request| {
            sleep(TRICKLE);
            (request.source, request.events) = (documents::SOURCE, 1);
            documents::line(&mut request.body, turn % half, 2 + turn as u32);
            !ends.load(Ordering::Relaxed)
        })
    });
    let looked = look(args, &stage, held, half, report);
    over.store(true, Ordering::Relaxed);
    let trickled = trickle
        .join()
        .map_err(|_| Failure::Failed("the trickle panicked".to_owned()))?;
    looked?;
    let trickled = trickled.map_err(Failure::Failed)?;
    report.figure("changes_per_second_meanwhile", round(trickled.rate(), 0));
    stage.api().settled(&recorder)?;
    stage.stop();
    Ok(())
}

fn look(
    args: &FullArgs,
    stage: &Stage,
    held: &Held,
    half: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let looks = args.scaled(LOOKS);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| unreachable("cannot start", error))?;
    let entity = format!("/v1/entities/product/{}", FIRST_KEY + half as u64);
    for (figure, route, most) in [
        ("entity", entity.as_str(), 5.0),
        ("all_channels", "/v1/channels?limit=1000", 20.0),
    ] {
        let times = runtime.block_on(gets(stage, route, looks));
        times_of(report, figure, times.map_err(Failure::Failed)?, most);
    }
    let times = runtime.block_on(receipts(stage, held, half, looks));
    times_of(
        report,
        "receipt_after_the_last_answer",
        times.map_err(Failure::Failed)?,
        20.0,
    );
    let (readers, seconds) = (
        Readers::start(stage.address(), vec![CONSOLE.to_owned()])?,
        args.scaled(STREAMED),
    );
    // The first event is the whole picture.
    sleep(Duration::from_secs(2));
    let (before, began) = (readers.bytes(), Instant::now());
    report.figure("stream_snapshot_bytes", before);
    sleep(Duration::from_secs(seconds as u64));
    readers.check()?;
    let rate = (readers.bytes() - before) as f64 / began.elapsed().as_secs_f64();
    report.at_most("stream_bytes_per_second", rate, 20_000.0);
    Ok(())
}

fn times_of(report: &mut Report, figure: &str, mut times: Vec<Duration>, most: f64) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share).ceil() as usize;
        let time = times.get(index.max(1) - 1).copied().unwrap_or_default();
        round(time.as_secs_f64() * 1e3, 2)
    };
    report.figure(&format!("{figure}_p50_ms"), at(0.5));
    report.at_most(&format!("{figure}_p99_ms"), at(0.99), most);
    report.figure(&format!("{figure}_max_ms"), at(1.0));
}

/// The times that one client waits for this resource.
async fn gets(stage: &Stage, route: &str, looks: usize) -> Result<Vec<Duration>, String> {
    let mut connection = Connection::open(stage.address()).await?;
    let mut times = Vec::with_capacity(looks);
    for _ in 0..looks {
        let began = Instant::now();
        connection.get(route).await?;
        times.push(began.elapsed());
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(times)
}

/// Changes products one after the other and waits for the receipt of each. Returns the times from the last
/// target's answer to the receipt.
async fn receipts(
    stage: &Stage,
    held: &Held,
    half: usize,
    looks: usize,
) -> Result<Vec<Duration>, String> {
    let mut connection = Connection::open(stage.address()).await?;
    let (mut times, mut request) = (
        Vec::with_capacity(looks),
        Request {
            source: documents::SOURCE,
            content_type: NDJSON,
            lane: None,
            events: 1,
            body: Vec::new(),
        },
    );
    for look in 0..looks {
        let (product, number) = (half + look % half, 2 + look as u32);
        // No target holds 0 of a product, so that this one alone is watched.
        held.expect(|other| if other == product { number } else { 0 });
        request.body.clear();
        documents::line(&mut request.body, product, number);
        let sequence = connection.post(&request).await?.sequence;
        let key = FIRST_KEY + product as u64;
        let route = format!("/v1/entities/product/{key}?sequence={sequence}&wait=30s");
        let receipt = connection.get(&route).await?;
        let now = Instant::now();
        let receipt: Value = serde_json::from_slice(receipt).map_err(|error| error.to_string())?;
        if receipt["settled"] != true || held.reached() != CHANNELS as u64 {
            let reached = held.reached();
            return Err(format!(
                "{reached} of {CHANNELS} targets have it: {receipt}"
            ));
        }
        times.push(now.saturating_duration_since(held.reached_at()));
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(times)
}
