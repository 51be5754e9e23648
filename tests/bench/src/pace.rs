//! `weir-bench pace`: a target that takes 150 requests a second and refuses those beyond it, with more
//! to deliver than it takes. How much of what it takes is used?
//!
//! The target refuses with `429` and `Retry-After: 1`, then with a bare `503`. Each time its limit
//! falls to a tenth for a while and comes back. A minute after each change, at least nine tenths of
//! the limit must be used, without an operator. A target without a limit is measured first.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clock::{Phase, round};
use crate::documents::{self, BATCH, SOURCE};
use crate::limited::Limited;
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// The limit of the target in requests per second, and the one to which it falls.
const LIMIT: f64 = 150.0;
const FALLEN: f64 = 15.0;
/// Seconds at full size: for Weir to find the limit, and to measure what it uses of it.
const FIND: f64 = 60.0;
const MEASURE: f64 = 30.0;
/// Requests to the target without a limit, at full size.
const UNLIMITED: f64 = 20_000.0;
/// The refusals: the names of their figures, and the answers.
const REFUSALS: [(&str, &str); 2] = [
    ("429_retry_after", "429 Too Many Requests\r\nRetry-After: 1"),
    ("503", "503 Service Unavailable"),
];

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("pace", args.scale);
    let unlimited = args.scaled(UNLIMITED);
    let (target, stage) = set_up(args, f64::INFINITY, REFUSALS[1].1, unlimited)?;
    let phase = Phase::start();
    stage.api().operate("resume")?;
    let began = Instant::now();
    while target.counts().0 < unlimited as u64 {
        if began.elapsed() > Duration::from_secs(300) {
            return Err(Failure::Failed("the deliveries take too long".into()));
        }
        sleep(Duration::from_millis(1));
    }
    let rate = unlimited as f64 / began.elapsed().as_secs_f64();
    report.figure("requests_per_second_without_a_limit", round(rate, 0));
    report.usage("without_a_limit", &phase.end(Duration::ZERO));
    stage.stop();

    for (name, refusal) in REFUSALS {
        let seconds = |full: f64| Duration::from_secs_f64(full * args.scale);
        let all = (2.0 * (FIND + MEASURE) * LIMIT + FIND * FALLEN) * args.scale * 1.2;
        let (target, stage) = set_up(args, LIMIT, refusal, all.max(100.0) as usize)?;
        stage.api().operate("resume")?;
        for (what, limit) in [
            ("limit", LIMIT),
            ("fallen_limit", FALLEN),
            ("limit_again", LIMIT),
        ] {
            target.limit(limit);
            let settled = if limit == FALLEN { FIND / 2.0 } else { FIND };
            let _progress = Progress::begin(&format!("{refusal}: {limit} a second"), 1);
            let before = target.counts();
            sleep(seconds(settled));
            let (accepted, refused) = target.counts();
            let began = Instant::now();
            sleep(seconds(MEASURE));
            let used = (target.counts().0 - accepted) as f64 / began.elapsed().as_secs_f64();
            report.at_least(&format!("{name}_used_of_{what}"), used / limit, 0.9);
            report.figure(
                &format!("{name}_refused_before_and_during_{what}"),
                format!("{} and {}", refused - before.1, target.counts().1 - refused),
            );
        }
        stage.stop();
    }
    report.end(args.common.json, out)
}

/// A target, and a Weir that owes it a number of documents; the channel is paused.
fn set_up(
    args: &FullArgs,
    limit: f64,
    refusal: &str,
    products: usize,
) -> Result<(Limited, Stage), Failure> {
    let target = Limited::start(limit, refusal);
    let target = target.map_err(|error| unreachable("no target in this process", error))?;
    let url = format!("http://{}/", target.address);
    let configuration = json!({
        "config_version": 1,
        "server": { "listen": "127.0.0.1:0", "reload": "signal" },
        "store": { "path": "data" },
        "entities": { "product": { "facets": { "content": { "owner": SOURCE } } } },
        "sources": { SOURCE: {} },
        "channels": { "shop": {
            "entity": "product",
            "facets": ["content"],
            "target": { "kind": "webhook", "url": url },
        } },
    });
    let stage = Stage::start(args.folder.as_deref(), &configuration)?;
    stage.api().operate("pause")?;
    let posted = post(stage.address(), CONNECTIONS, move |turn, _, request| {
        let first = products.min(turn * BATCH);
        let last = products.min(first + BATCH);
        (request.source, request.events) = (SOURCE, (last - first) as u64);
        (first..last).for_each(|product| documents::line(&mut request.body, product, 1));
        request.events > 0
    });
    posted.map_err(Failure::Failed)?;
    Ok((target, stage))
}
