//! `weir-bench fan`: changes are posted as fast as they are accepted, while eighteen channels
//! without a renderer deliver them.
//!
//! Each product changes at least once, in random order. The measurement ends when each target holds
//! the newest document of each product. No plugin is involved.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Phase, round};
use crate::documents::{self, BATCH, MARK, SOURCE};
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Numbers at full size.
const PRODUCTS: f64 = 200_000.0;
const CHANGES: f64 = 300_000.0;
/// Channels, each with its own target.
const CHANNELS: usize = 18;

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let (products, changes) = (args.scaled(PRODUCTS), args.scaled(CHANGES));
    let recorder = Recorder::start(CHANNELS, products, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let recorder = Arc::new(recorder);
    let stage = Stage::start(
        args.folder.as_deref(),
        &documents::configuration(&recorder, CHANNELS, "content", 500),
    )?;
    let (held, order) = (recorder.held(), order(products, changes));
    let mut newest = vec![0; products];
    order
        .iter()
        .zip(1..)
        .for_each(|(product, number)| newest[*product as usize] = number);
    held.expect(|product| newest[product]);

    let (phase, progress) = (
        Phase::start(),
        Progress::begin("delivering to each target", held.pairs()),
    );
    let (mark, recording) = (progress.mark(), recorder.clone());
    let posted = post(stage.address(), CONNECTIONS, move |turn, _, request| {
        mark.at(recording.held().reached());
        let first = order.len().min(turn * BATCH);
        let changed = &order[first..order.len().min(first + BATCH)];
        (request.source, request.events) = (SOURCE, changed.len() as u64);
        changed
            .iter()
            .zip(first as u32 + 1..)
            .for_each(|(product, number)| {
                documents::line(&mut request.body, *product as usize, number)
            });
        request.events > 0
    });
    let posted = posted.map_err(Failure::Failed)?;
    stage.api().converge(&recorder, &progress)?;
    drop(progress);
    let usage = phase.end(posted.cpu);
    let took = held.reached_at().duration_since(posted.started);
    let best = held.best_second(posted.started);
    stage.api().settled(&recorder)?;

    let mut report = Report::new("fan", args.scale);
    report.figure("changes", changes);
    report.figure("products", products);
    report.figure("channels", CHANNELS);
    report.figure(
        "bytes_a_change",
        round(posted.bytes as f64 / posted.events.max(1) as f64, 1),
    );
    report.figure("changes_stale_by_overtaking", posted.stale);
    report.at_least("events_per_second", posted.rate(), 30_000.0);
    report.figure(
        "answer_p50_ms",
        posted.latency.value_at_quantile(0.5) as f64 / 1e3,
    );
    report.figure(
        "answer_p99_ms",
        posted.latency.value_at_quantile(0.99) as f64 / 1e3,
    );
    report.at_most("converged_after_seconds", took.as_secs_f64(), 15.0);
    report.at_least("best_second_deliveries", best as f64, 250_000.0);
    report.figure("deliveries", held.delivered());
    report.figure(
        "mean_deliveries_per_second",
        round(
            held.delivered() as f64 / took.max(Duration::from_millis(1)).as_secs_f64(),
            0,
        ),
    );
    report.figure("requests_to_targets", held.requests().0);
    report.figure("bytes_to_targets", held.requests().1);
    report.figure(
        "weir_cpu_us_a_delivery",
        round(
            usage.weir_cpu_seconds() * 1e6 / held.delivered().max(1) as f64,
            2,
        ),
    );
    report.figure("disk_bytes", stage.disk_bytes());
    report.figure("of_rss_the_recorder_mib", held.memory_mib());
    report.figure("delivered_twice", held.repeated());
    report.exactly("older_after_newer", held.older(), 0);
    report.figure("folder", stage.parent());
    report.usage("fan", &usage);
    stage.stop();
    report.end(args.common.json, out)
}

/// The product of each change: each product at least once, the rest drawn at random, all shuffled.
fn order(products: usize, changes: usize) -> Vec<u32> {
    let mut chance = fastrand::Rng::with_seed(4_711);
    let mut order: Vec<u32> = (0..products as u32).collect();
    order.extend((products..changes).map(|_| chance.u32(..products as u32)));
    chance.shuffle(&mut order);
    order
}
