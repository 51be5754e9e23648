//! `weir-bench open`: the time of a start after `kill -9` under load, and the number of repeated
//! deliveries.
//!
//! A Weir in its own process is loaded and its eighteen channels, which have no renderer, are
//! filled. Then randomly drawn products change as fast as the changes are accepted, until the
//! process is killed and started again; three times. When nothing is owed any more, no target may
//! hold anything older than what was accepted, and there may be no more repeated deliveries than
//! deliveries that may not have been saved: those of the last three seconds before the kill.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::churn::{Churn, Kind};
use crate::clock::{Memory, round};
use crate::documents::{self, BATCH, MARK, SOURCE};
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Child;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Products at full size.
const PRODUCTS: f64 = 1_500_000.0;
const CHANNELS: usize = 18;
/// Kills.
const ROUNDS: u32 = 3;
/// How long products change before a kill at full size, and at least at a smaller scale.
const CHURN: Duration = Duration::from_secs(30);
const CHURN_MIN: Duration = Duration::from_secs(1);
/// Deliveries within this time before a kill may not have been saved: saves are a second apart and
/// take some time.
const UNSAVED: Duration = Duration::from_secs(3);
/// Time after which deliveries in flight at a kill have arrived.
const ARRIVAL: Duration = Duration::from_millis(500);

/// The result of one kill.
struct Round {
    ready: f64,
    again: u64,
    unsaved: u64,
}

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let products = args.scaled(PRODUCTS);
    let recorder = Recorder::start(CHANNELS, products, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let recorder = Arc::new(recorder);
    let mut child = Child::start(
        args.folder.as_deref(),
        &documents::configuration(&recorder, CHANNELS, "content", 500),
    )?;
    let mut report = Report::new("open", args.scale);
    let loaded = fill(&child, &recorder, products)?;
    report.figure("products", products);
    report.figure("channels", CHANNELS);
    report.figure(
        "fill_deliveries_per_second",
        round(recorder.held().delivered() as f64 / loaded.as_secs_f64(), 0),
    );
    report.figure("disk_bytes_after_load", child.disk_bytes());

    let kind = Kind {
        source: SOURCE,
        lane: None,
        batch: BATCH,
        every: Duration::ZERO,
        marked: true,
        write: documents::line,
    };
    let churn = Churn::begin(child.address(), products, vec![kind; CONNECTIONS])?;
    let rounds = (0..ROUNDS)
        .map(|number| kill(number, args, &mut child, &churn, &recorder))
        .collect::<Result<Vec<Round>, Failure>>()?;
    let ledger = churn.end()?;
    child.api().wait_until_idle()?;
    let compared = ledger.compare(recorder.held());

    let each = |of: &dyn Fn(&Round) -> String| rounds.iter().map(of).collect::<Vec<_>>().join(" ");
    let most = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    report.figure("kills", ROUNDS);
    report.figure("changes_accepted_meanwhile", ledger.counts().0);
    report.figure(
        "ready_seconds_each",
        each(&|round| format!("{:.2}", round.ready)),
    );
    report.at_most("ready_seconds", most(&|round| round.ready), 10.0);
    report.figure("sent_again_each", each(&|round| round.again.to_string()));
    report.figure(
        "delivered_in_the_three_seconds_before_each",
        each(&|round| round.unsaved.to_string()),
    );
    report.at_most(
        "sent_again_by_what_may_not_have_been_saved",
        most(&|round| round.again as f64 / round.unsaved.max(1) as f64),
        1.0,
    );
    report.figure(
        "sent_again_by_all_pairs",
        round(
            most(&|round| round.again as f64) / recorder.held().pairs() as f64,
            5,
        ),
    );
    compared.report(child.api(), &mut report);
    report.exactly("deliveries_not_understood", recorder.held().strange(), 0);
    report.figure("older_after_newer", recorder.held().older());
    report.figure("disk_bytes", child.disk_bytes());
    report.figure(
        "rss_mib",
        child
            .process()
            .map(|process| Memory::of(&process).resident_mib)
            .unwrap_or_default(),
    );
    report.figure(
        "rss_peak_mib_since_the_last_start",
        child
            .process()
            .map(|process| Memory::of(&process).peak_mib)
            .unwrap_or_default(),
    );
    report.figure("folder", child.parent());
    report.end(args.common.json, out)
}

/// Loads every product and waits until each target holds it.
fn fill(child: &Child, recorder: &Arc<Recorder>, products: usize) -> Result<Duration, Failure> {
    recorder.held().expect(|_| 1);
    let progress = Progress::begin("loading and filling the targets", recorder.held().pairs());
    let (mark, recording) = (progress.mark(), recorder.clone());
    let posted = post(child.address(), CONNECTIONS, move |turn, _, request| {
        mark.at(recording.held().reached());
        documents::fill(request, products, turn, 1)
    });
    let posted = posted.map_err(Failure::Failed)?;
    child.api().converge(recorder, &progress)?;
    child.api().settled(recorder)?;
    Ok(recorder.held().reached_at().duration_since(posted.started))
}

/// Lets products change for a while, kills the child, starts it again, and waits until it has
/// delivered everything owed.
fn kill(
    number: u32,
    args: &FullArgs,
    child: &mut Child,
    churn: &Churn,
    recorder: &Recorder,
) -> Result<Round, Failure> {
    let churning = CHURN.mul_f64(args.scale.min(1.0)).max(CHURN_MIN);
    let _progress = Progress::begin(&format!("churn and kill {}", number + 1), 1);
    std::thread::sleep(churning);
    let killed = Instant::now();
    child.kill();
    std::thread::sleep(ARRIVAL);
    let held = recorder.held();
    let (before, unsaved) = (
        held.repeated(),
        held.delivered_since(killed.checked_sub(UNSAVED).unwrap_or(killed)),
    );
    child.start_again()?;
    churn.move_to(child.address());
    // Deliveries are repeated while new changes arrive. Those that carry a newer state by then
    // count as new, which they are.
    std::thread::sleep(churning.min(Duration::from_secs(5)));
    Ok(Round {
        ready: child.ready_after.as_secs_f64(),
        again: held.repeated() - before,
        unsaved,
    })
}
