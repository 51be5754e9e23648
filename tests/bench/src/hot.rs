//! `weir-bench hot`: a few keys change again and again while a channel walks past them in batches
//! of a thousand.
//!
//! 1,093 keys are changed 26,630 times in random order, twice. The first time the channel **walks**
//! meanwhile: the newest value of each key must arrive, and none twice. The second time it is
//! **paused**: once resumed, it must deliver each key once and skip none.

use std::sync::Arc;

use crate::clock::{Phase, Usage, round};
use crate::documents::{self, BATCH, MARK, SOURCE};
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Numbers at full size.
const KEYS: f64 = 1_093.0;
const CHANGES: f64 = 26_630.0;
/// Maximum number of entities per delivery.
const WALKED: usize = 1_000;
pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let (keys, changes) = (
        args.scaled(KEYS),
        args.scaled(CHANGES).max(args.scaled(KEYS)),
    );
    let recorder = Recorder::start(1, keys, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let recorder = Arc::new(recorder);
    let stage = Stage::start(
        args.folder.as_deref(),
        &documents::configuration(&recorder, 1, "content", WALKED),
    )?;
    let held = recorder.held();

    let (walking, usage) = round_of_changes(&stage, &recorder, keys, changes, 0)?;
    let (delivered, twice) = (held.delivered(), held.repeated());
    stage.api().operate("pause")?;
    let (paused, _) = round_of_changes(&stage, &recorder, keys, changes, changes)?;

    let mut report = Report::new("hot", args.scale);
    report.figure("keys", keys);
    report.figure("changes", changes);
    report.figure("walked_in_batches_of", WALKED);
    report.exactly("keys_that_hold_their_newest", walking, keys as u64);
    report.figure("deliveries_while_walking", delivered);
    report.exactly("delivered_twice", twice, 0);
    report.exactly(
        "keys_that_hold_their_newest_after_a_pause",
        paused,
        keys as u64,
    );
    report.exactly(
        "deliveries_after_a_pause",
        held.delivered() - delivered,
        keys as u64,
    );
    report.exactly("older_after_newer", held.older(), 0);
    report.figure(
        "weir_cpu_us_a_change",
        round(usage.weir_cpu_seconds() * 1e6 / changes as f64, 2),
    );
    report.figure("folder", stage.parent());
    report.usage("walking", &usage);
    stage.stop();
    report.end(args.common.json, out)
}

/// Makes a number of changes, numbered after `before`, resumes the channel and waits for it.
/// Returns the number of keys whose target holds the newest value.
fn round_of_changes(
    stage: &Stage,
    recorder: &Arc<Recorder>,
    keys: usize,
    changes: usize,
    before: usize,
) -> Result<(u64, Usage), Failure> {
    let mut chance = fastrand::Rng::with_seed(before as u64 + 1);
    // The first changes cover each key once, so that every key could be skipped.
    let mut order: Vec<usize> = (0..keys)
        .chain((keys..changes).map(|_| chance.usize(..keys)))
        .collect();
    chance.shuffle(&mut order);
    let mut newest = vec![0; keys];
    order
        .iter()
        .zip(before as u32 + 1..)
        .for_each(|(key, number)| newest[*key] = number);
    recorder.held().expect(|key| newest[key]);

    let (phase, progress) = (
        Phase::start(),
        Progress::begin(
            if before == 0 {
                "changing while walking"
            } else {
                "changing while paused"
            },
            changes as u64,
        ),
    );
    let mark = progress.mark();
    let posted = post(stage.address(), CONNECTIONS, move |turn, _, request| {
        let first = order.len().min(turn * BATCH);
        let changed = &order[first..order.len().min(first + BATCH)];
        (request.source, request.events) = (SOURCE, changed.len() as u64);
        changed
            .iter()
            .zip((before + first) as u32 + 1..)
            .for_each(|(key, number)| documents::line(&mut request.body, *key, number));
        mark.add(request.events);
        request.events > 0
    });
    let posted = posted.map_err(Failure::Failed)?;
    drop(progress);
    stage.api().operate("resume")?;
    stage.api().converge(
        recorder,
        &Progress::begin("delivering", recorder.held().pairs()),
    )?;
    stage.api().settled(recorder)?;
    Ok((
        recorder.held().pairs() - recorder.held().missing(),
        phase.end(posted.cpu),
    ))
}
