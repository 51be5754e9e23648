//! `weir-bench soak`: half an hour of mixed load on a Weir that is killed again and again; memory
//! and disk must stay flat.
//!
//! The setup is a catalogue with eighteen sites and a renderer, as in `cycle`, in a separate
//! process. Stocks change in batches, prices one at a time in the urgent lane, a site is paused for
//! a while, another renders everything again; every so often the process is killed and started.
//! Memory and disk are sampled throughout; flat means that the mean of the last third exceeds that
//! of the middle third by at most a tenth. At the end no target may hold anything older than what
//! was accepted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::catalogue::{self, MARK, SITES};
use crate::churn::{Churn, Kind};
use crate::clock::{Memory, round};
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Child;
use crate::{SoakArgs, built, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Products at full size.
const PRODUCTS: f64 = 100_000.0;
const MINUTES: f64 = 30.0;
/// Stocks per request, and the interval of requests: 1,000 stocks per second, which make 18,000
/// renderings.
const STOCKS: usize = 200;
const STOCKS_EVERY: Duration = Duration::from_millis(200);
/// Interval at which a price is posted.
const PRICE_EVERY: Duration = Duration::from_millis(20);
/// Samples of a short run; a long one takes one every ten seconds.
const SAMPLES_MIN: u32 = 30;
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// Samples between two operations on channels.
const OPERATE_EVERY: usize = 3;

/// Memory and disk at one moment.
struct Sample {
    minute: f64,
    rss_mib: f64,
    disk_mib: f64,
}

pub(super) fn run(args: &SoakArgs, out: &mut String) -> CommandResult {
    let products = args.full.scaled(PRODUCTS);
    let component = built(&args.full.common.plugins, "storefront-page")?;
    let recorder = Recorder::start(SITES, products, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let recorder = Arc::new(recorder);
    let mut child = Child::start(
        args.full.folder.as_deref(),
        &catalogue::configuration(&component, &recorder),
    )?;
    let progress = Progress::begin("filling the shops", recorder.held().pairs());
    recorder.held().expect(|_| 1);
    post(child.address(), CONNECTIONS, move |turn, _, request| {
        catalogue::first(turn, products, 500, request)
    })
    .map_err(Failure::Failed)?;
    child.api().converge(&recorder, &progress)?;
    drop(progress);

    let stocks = Kind {
        source: "oms",
        lane: Some("bulk"),
        batch: STOCKS,
        every: STOCKS_EVERY,
        marked: true,
        write: catalogue::stock,
    };
    let price = |body: &mut Vec<u8>, product: usize, number: u32| {
        catalogue::price(
            number as usize % catalogue::lists(),
            product,
            number,
            number,
            body,
        )
    };
    let prices = Kind {
        source: "erp",
        lane: Some("urgent"),
        batch: 1,
        every: PRICE_EVERY,
        marked: false,
        write: price,
    };
    let churn = Churn::begin(child.address(), products, vec![stocks, prices])?;
    let (samples, kills, slowest) = live(args, &mut child, &churn, &recorder)?;
    let ledger = churn.end()?;
    child.api().operate("resume")?;
    child.api().wait_until_idle()?;
    let compared = ledger.compare(recorder.held());

    let mut report = Report::new("soak", args.full.scale * (args.minutes / MINUTES).min(1.0));
    report.figure("minutes", args.minutes);
    report.figure("products", products);
    report.figure("sites", SITES);
    report.figure("kills", kills);
    report.figure("slowest_start_seconds", round(slowest, 2));
    report.figure("changes_accepted", ledger.counts().0);
    report.figure("requests_broken_by_kills", ledger.counts().1);
    report.figure("deliveries", recorder.held().delivered());
    report.figure("samples", samples.len());
    for (name, of) in [
        ("rss", (|sample| sample.rss_mib) as fn(&Sample) -> f64),
        ("disk", |sample| sample.disk_mib),
    ] {
        let third = |number: usize| {
            let part = &samples[samples.len() * number / 3..samples.len() * (number + 1) / 3];
            part.iter().map(of).sum::<f64>() / part.len().max(1) as f64
        };
        let thirds = [third(0), third(1), third(2)];
        report.figure(
            &format!("{name}_mib_by_thirds"),
            thirds.map(|mean| format!("{mean:.1}")).join(" "),
        );
        report.figure(
            &format!("{name}_mib_most"),
            round(samples.iter().map(of).fold(0.0, f64::max), 1),
        );
        report.at_most(
            &format!("{name}_last_third_by_middle"),
            thirds[2] / thirds[1].max(1e-9),
            1.1,
        );
    }
    let told = |sample: &Sample| {
        format!(
            "{:.1}:{:.0}:{:.0}",
            sample.minute, sample.rss_mib, sample.disk_mib
        )
    };
    report.figure(
        "minute_rss_disk",
        samples.iter().map(told).collect::<Vec<_>>().join(" "),
    );
    compared.report(child.api(), &mut report);
    report.exactly("deliveries_not_understood", recorder.held().strange(), 0);
    report.figure("older_after_newer", recorder.held().older());
    report.figure("folder", child.parent());
    report.end(args.full.common.json, out)
}

/// Runs during the load: samples memory and disk, operates channels, kills and restarts Weir.
/// Returns the samples, the number of kills and the longest start in seconds.
fn live(
    args: &SoakArgs,
    child: &mut Child,
    churn: &Churn,
    recorder: &Recorder,
) -> Result<(Vec<Sample>, u32, f64), Failure> {
    let whole = Duration::from_secs_f64(args.minutes * 60.0);
    let (every, kill_every) = (
        SAMPLE_EVERY.min(whole / SAMPLES_MIN),
        Duration::from_secs_f64(args.kill_every),
    );
    let progress = Progress::begin("seconds of load", whole.as_secs());
    let (began, mut samples, mut kills, mut slowest) = (
        Instant::now(),
        Vec::new(),
        0,
        child.ready_after.as_secs_f64(),
    );
    // A start takes longer than usual on a busy machine; the kills that are due are made all the same.
    let kills_due = (args.minutes * 60.0 / args.kill_every).ceil() as u32 - 1;
    while began.elapsed() < whole || kills < kills_due {
        std::thread::sleep(every);
        progress.mark().at(began.elapsed().as_secs());
        if began.elapsed() >= kill_every * (kills + 1) {
            kills += 1;
            child.start_again()?;
            churn.move_to(child.address());
            slowest = slowest.max(child.ready_after.as_secs_f64());
        }
        let memory = child
            .process()
            .map(|process| Memory::of(&process))
            .unwrap_or_default();
        let disk_mib = child.disk_bytes() as f64 / f64::from(1 << 20);
        samples.push(Sample {
            minute: began.elapsed().as_secs_f64() / 60.0,
            rss_mib: memory.resident_mib,
            disk_mib,
        });
        if samples.len().is_multiple_of(OPERATE_EVERY) {
            disturb(child, samples.len() / OPERATE_EVERY)?;
        }
        if recorder.held().strange() > 0 {
            return Err(Failure::Failed(
                "a target received something that it did not understand".to_owned(),
            ));
        }
    }
    if churn.events() == 0 {
        return Err(Failure::Failed("no change was accepted".to_owned()));
    }
    Ok((samples, kills, slowest))
}

/// Pauses one site, resumes the previous one, and lets a third render everything again.
fn disturb(child: &Child, number: usize) -> Result<(), Failure> {
    let site = |number: usize| format!("page.s{:02}", number % SITES);
    child.api().operate_one(&site(number), "pause")?;
    child
        .api()
        .operate_one(&site(number + SITES - 1), "resume")?;
    child
        .api()
        .operate_one(&site(number + SITES / 2), "rerender")
}
