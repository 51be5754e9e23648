//! `weir-bench outage`: 18 channels whose targets have a fifth more room than is needed. One of the
//! targets falls to a tenth of what it takes for half a minute, and heals; later each of its answers
//! takes ten times as long for half a minute.
//!
//! A target in trouble must get at most 1.2 requests for each delivery and ten a second more, until a
//! minute after it has healed. By then it must get 95 % of what it got before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clock::round;
use crate::documents::{self, SOURCE};
use crate::limited::{Dialect, Limited};
use crate::post::post;
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

const CHANNELS: usize = 18;
/// The channel whose target gets into trouble.
const TROUBLED: usize = 0;
/// Requests per second that this target takes, and changes per second.
const CAPACITY: f64 = 100.0;
const CHANGES: f64 = 80.0;
/// The time of an answer.
const DELAY: Duration = Duration::from_millis(50);
/// Products that change in turn; more than change in a phase, so that none waits twice.
const PRODUCTS: usize = 50_000;
/// Seconds at full size: before the trouble, of it, and after it; a rate is measured in the last ten.
const BEFORE: f64 = 20.0;
const TROUBLE: f64 = 30.0;
const AFTER: f64 = 60.0;
const MEASURE: f64 = 10.0;

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("outage", args.scale);
    for (name, capacity, delay) in [
        ("a_tenth_of_the_capacity", CAPACITY / 10.0, DELAY),
        ("tenfold_latency", CAPACITY, DELAY * 10),
    ] {
        measure(args, name, capacity, delay, &mut report)?;
    }
    report.end(args.common.json, out)
}

/// Measures an outage in which the target has this capacity and delay.
fn measure(
    args: &FullArgs,
    name: &str,
    capacity: f64,
    delay: Duration,
    report: &mut Report,
) -> Result<(), Failure> {
    let target = Limited::start(CAPACITY, Dialect::Status("503 Service Unavailable"));
    let target = target.map_err(|error| unreachable("no target in this process", error))?;
    target.delay(DELAY);
    let recorder = Recorder::start(CHANNELS, 0, None);
    let recorder = recorder.map_err(|error| unreachable("no targets in this process", error))?;
    let mut configuration = documents::configuration(&recorder, CHANNELS, "content", 16);
    let troubled = &mut configuration["channels"][format!("site-{TROUBLED:03}")];
    troubled["target"]["url"] = json!(format!("http://{}/", target.address));
    troubled["batch"] = json!(1);
    let stage = Stage::start(args.folder.as_deref(), &configuration)?;

    let (to, over) = (stage.address(), Arc::new(AtomicBool::new(false)));
    let (began, ends) = (Instant::now(), over.clone());
    let load = std::thread::spawn(move || {
        post(to, 1, move |number, _, request| {
            let due = began + Duration::from_secs_f64(number as f64 / CHANGES);
            sleep(due.saturating_duration_since(Instant::now()));
            (request.source, request.events) = (SOURCE, 1);
            let version = 1 + (number / PRODUCTS) as u32;
            documents::line(&mut request.body, number % PRODUCTS, version);
            !ends.load(Ordering::Relaxed)
        })
    });
    let seconds = |full: f64| Duration::from_secs_f64(full * args.scale);
    // Deliveries per second, in the end of a phase of so many seconds.
    let rate_after = |whole: f64| {
        sleep(seconds(whole - MEASURE));
        let (before, began) = (target.counts().0, Instant::now());
        sleep(seconds(MEASURE));
        (target.counts().0 - before) as f64 / began.elapsed().as_secs_f64()
    };
    let _progress = Progress::begin(&name.replace('_', " "), 1);
    let before = rate_after(BEFORE);
    let (trouble, counted) = (Instant::now(), target.counts());
    target.limit(capacity, 0.0);
    target.delay(delay);
    let during = rate_after(TROUBLE);
    target.limit(CAPACITY, 0.0);
    target.delay(DELAY);
    let after = rate_after(AFTER);
    let counts = target.counts();
    let (accepted, refused) = (counts.0 - counted.0, counts.1 - counted.1);
    let allowed = 1.2 * accepted as f64 + 10.0 * trouble.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let posted = load.join();
    let posted = posted.map_err(|_| Failure::Failed("the load panicked".into()))?;
    let posted = posted.map_err(Failure::Failed)?;
    stage.stop();

    for (what, rate) in [("before", before), ("during", during)] {
        report.figure(&format!("per_second_{what}_{name}"), round(rate, 1));
    }
    report.figure(
        &format!("changes_per_second_{name}"),
        round(posted.rate(), 1),
    );
    report.figure(&format!("refused_{name}"), refused);
    report.at_least(
        &format!("goodput_after_by_before_{name}"),
        after / before,
        0.95,
    );
    let attempts = (accepted + refused) as f64;
    report.at_most(
        &format!("attempts_by_allowed_{name}"),
        attempts / allowed,
        1.0,
    );
    Ok(())
}
