//! `weir-bench pace`: a target that takes 150 requests a second and refuses those beyond it, with more
//! to deliver than it takes. How much of what it takes is used, and how much is refused?
//!
//! The target refuses with `429` and `Retry-After: 1`, then with a bare `503`, then as Shopify does, with
//! `200` and the points that are left. Each time its limit falls to 50, rises to 300, and then another
//! client uses half of that. A minute after each change, at least nine tenths of what is left to Weir
//! must be used and at most one request in fifty refused, without an operator. A target without a limit
//! is measured first.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clock::{Phase, round};
use crate::documents::{self, SOURCE};
use crate::limited::{Dialect, Limited};
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// The limits of the target in turn: their names in figures, requests per second, and those of them that
/// another client uses.
const LIMITS: [(&str, f64, f64); 4] = [
    ("limit", 150.0, 0.0),
    ("fallen_limit", 50.0, 0.0),
    ("risen_limit", 300.0, 0.0),
    ("shared_limit", 300.0, 150.0),
];
/// Seconds at full size: for Weir to find a limit, and to measure what it uses of it.
const FIND: f64 = 60.0;
const MEASURE: f64 = 30.0;
/// Requests to the target without a limit, at full size.
const UNLIMITED: f64 = 20_000.0;
/// How it refuses, with the names of the figures.
const REFUSALS: [(&str, Dialect); 3] = [
    (
        "429_retry_after",
        Dialect::Status("429 Too Many Requests\r\nRetry-After: 1"),
    ),
    ("503", Dialect::Status("503 Service Unavailable")),
    ("points", Dialect::Points),
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

    for (name, dialect) in REFUSALS {
        let seconds = |full: f64| Duration::from_secs_f64(full * args.scale);
        let all: f64 = LIMITS.iter().map(|(_, limit, others)| limit - others).sum();
        let all = all * (FIND + MEASURE) * args.scale * 1.2;
        let (target, stage) = set_up(args, LIMITS[0].1, dialect, all.max(100.0) as usize)?;
        stage.api().operate("resume")?;
        for (what, limit, others) in LIMITS {
            target.limit(limit, others);
            let _progress = Progress::begin(&format!("{name}: {what}"), 1);
            let before = target.counts();
            sleep(seconds(FIND));
            let (accepted, refused) = target.counts();
            let began = Instant::now();
            sleep(seconds(MEASURE));
            let rate = (target.counts().0 - accepted) as f64 / began.elapsed().as_secs_f64();
            let of_it = target.counts().1 - refused;
            let share = of_it as f64 / (target.counts().0 - accepted + of_it).max(1) as f64;
            let used = rate / (limit - others);
            report.at_least(&format!("{name}_used_of_{what}"), used, 0.9);
            report.at_most(&format!("{name}_refused_share_of_{what}"), share, 0.02);
            report.figure(
                &format!("{name}_refused_until_found_{what}"),
                refused - before.1,
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
    dialect: Dialect,
    products: usize,
) -> Result<(Limited, Stage), Failure> {
    let target = Limited::start(limit, dialect);
    let target = target.map_err(|error| unreachable("no target in this process", error))?;
    let url = format!("http://{}/", target.address);
    let configured = match dialect {
        Dialect::Status(_) => json!({ "kind": "webhook", "url": url }),
        Dialect::Points => json!({ "kind": "webhook", "url": url, "answers": "shopify" }),
    };
    let configuration = json!({
        "config_version": 1,
        "server": { "listen": "127.0.0.1:0", "reload": "signal" },
        "store": { "path": "data" },
        "entities": { "product": { "facets": { "content": { "owner": SOURCE } } } },
        "sources": { SOURCE: {} },
        "channels": { "shop": {
            "entity": "product",
            "facets": ["content"],
            "target": configured,
        } },
    });
    let stage = Stage::start(args.folder.as_deref(), &configuration)?;
    stage.api().operate("pause")?;
    let posted = post(stage.address(), CONNECTIONS, move |turn, _, request| {
        documents::fill(request, products, turn, 1)
    });
    posted.map_err(Failure::Failed)?;
    Ok((target, stage))
}
