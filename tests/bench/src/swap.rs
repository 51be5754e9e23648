//! `weir-bench swap`: a mapper is replaced a thousand times while events flow through it.
//!
//! A Weir in a separate process takes stock levels in through a Rust mapper and delivers them.
//! First the mapper is replaced without load, by new bytes and by bytes that were compiled before,
//! to measure the time until the new version is in use. Then the same happens under constant load,
//! to measure the remaining throughput and to check that every accepted change is at the target at
//! the end.
//!
//! New bytes are the same component with another number in a custom section that is ignored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::churn::{Churn, Kind};
use crate::clock::round;
use crate::events::{FIRST_KEY, System};
use crate::post::{CONNECTIONS, Request, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Child;
use crate::{FullArgs, built, unreachable};
use weir::inside::cli::{CommandResult, Failure};
use weir::inside::server::views::SwapView;

/// Products, and swaps, at full size.
const PRODUCTS: f64 = 20_000.0;
const SWAPS: f64 = 1_000.0;
/// One in this many swaps uses new bytes, which are compiled; the others use bytes that were
/// compiled before.
const FRESH: usize = 10;
/// Swaps of each kind without load.
const IDLE: usize = 20;
/// How long the throughput is measured before swaps start, and at least at a smaller scale.
const BEFORE: Duration = Duration::from_secs(10);
/// Pause between two swaps to bytes that were compiled before; without it, the swaps would dominate
/// the measurement.
const PAUSE: Duration = Duration::from_millis(20);
/// Events per request.
const BATCH: usize = 200;
/// The text before the number of a stock level in a delivery.
const MARK: &str = "\"available\":";
/// The plugin's name, and its file next to the configuration.
const PLUGIN: &str = "oms-stock";

/// The component, in any number of versions, and the Weir that runs it.
struct Bench {
    component: Vec<u8>,
    file: PathBuf,
    child: Child,
    version: u64,
}

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let (products, swaps) = (args.scaled(PRODUCTS), args.scaled(SWAPS).max(2));
    let component = built(&args.common.plugins, PLUGIN)?;
    let component =
        fs::read(&component).map_err(|error| unreachable("the component cannot be read", error))?;
    let folder = crate::folder(args.folder.as_deref())?;
    let file = folder.path().join("mapper.wasm");
    let recorder = Recorder::start(1, products, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let recorder = Arc::new(recorder);
    place(&file, &version(&component, 0))?;
    let child = Child::start(Some(folder.path()), &configuration(&file, &recorder))?;
    let mut bench = Bench {
        component,
        file,
        child,
        version: 0,
    };
    let mut report = Report::new("swap", args.scale);
    report.figure("component_bytes", bench.component.len());

    let idle = IDLE.min(swaps);
    let new: Vec<SwapView> = (0..idle)
        .map(|_| bench.fresh())
        .collect::<Result<_, Failure>>()?;
    let old: Vec<SwapView> = (1..=idle as u64)
        .map(|version| bench.swap(version))
        .collect::<Result<_, Failure>>()?;
    report_swaps(&mut report, "new_bytes_served", &new, 300.0);
    report_swaps(&mut report, "compiled_before_served", &old, 5.0);

    let load = under_load(&mut bench, &recorder, products, swaps, args.scale)?;
    report.figure("products", products);
    report.figure("events_per_second_before", round(load.before, 0));
    report.figure(
        "events_per_second_while_new_bytes_are_swapped",
        round(load.fresh.0, 0),
    );
    report.at_least(
        "left_while_new_bytes_are_swapped",
        load.fresh.0 / load.before.max(1.0),
        0.6,
    );
    report.figure(
        "events_per_second_while_swapped_every_20_ms",
        round(load.again.0, 0),
    );
    report.figure(
        "left_while_swapped_every_20_ms",
        round(load.again.0 / load.before.max(1.0), 2),
    );
    spread(&mut report, "under_load_new_bytes_served", &load.fresh.1);
    spread(
        &mut report,
        "under_load_compiled_before_served",
        &load.again.1,
    );
    report.figure("swaps_under_load", load.fresh.1.len() + load.again.1.len());
    let (accepted, broken) = load.ledger.counts();
    report.figure("changes_accepted", accepted);
    report.exactly("requests_not_taken_whole", broken, 0);
    load.ledger
        .compare(recorder.held())
        .report(bench.child.api(), &mut report);
    report.exactly("deliveries_not_understood", recorder.held().strange(), 0);
    report.figure("folder", bench.child.parent());
    drop(bench);
    report.end(args.common.json, out)
}

/// The results of swaps under load: events per second, and the swaps of each kind.
struct Load {
    before: f64,
    fresh: (f64, Vec<SwapView>),
    again: (f64, Vec<SwapView>),
    ledger: Arc<crate::churn::Ledger>,
}

fn under_load(
    bench: &mut Bench,
    recorder: &Arc<Recorder>,
    products: usize,
    swaps: usize,
    scale: f64,
) -> Result<Load, Failure> {
    recorder.held().expect(|_| 1);
    let filling = Progress::begin("filling the target", recorder.held().pairs());
    let first = move |turn: usize, _: usize, request: &mut Request| {
        let (first, last) = (turn * BATCH, products.min((turn + 1) * BATCH));
        (request.source, request.events) = (System::Oms.name(), last.saturating_sub(first) as u64);
        (first..last).for_each(|product| level(&mut request.body, product, 1));
        first < last
    };
    post(bench.child.address(), CONNECTIONS, first).map_err(Failure::Failed)?;
    bench.child.api().converge(recorder, &filling)?;
    drop(filling);

    let kind = Kind {
        source: System::Oms.name(),
        lane: None,
        batch: BATCH,
        every: Duration::ZERO,
        marked: true,
        write: level,
    };
    let churn = Churn::begin(bench.child.address(), products, vec![kind; CONNECTIONS])?;
    let progress = Progress::begin("swapping under load", swaps as u64);
    let before = rate(&churn, || {
        std::thread::sleep(
            BEFORE
                .mul_f64(scale.min(1.0))
                .max(Duration::from_millis(500)),
        );
        Ok(())
    })?;
    let count = (swaps / FRESH).max(1);
    let mut fresh = Vec::new();
    let while_fresh = rate(&churn, || {
        for _ in 0..count {
            fresh.push(bench.fresh()?);
            progress.mark().add(1);
        }
        Ok(())
    })?;
    let mut again = Vec::new();
    let while_again = rate(&churn, || {
        for n in 0..swaps - count {
            // One of the versions that were compiled last, but not the one in use.
            again.push(
                bench.swap(
                    bench
                        .version
                        .saturating_sub(1 + n as u64 % count.min(2) as u64),
                )?,
            );
            progress.mark().add(1);
            std::thread::sleep(PAUSE);
        }
        Ok(())
    })?;
    drop(progress);
    let ledger = churn.end()?;
    bench.child.api().wait_until_idle()?;
    Ok(Load {
        before,
        fresh: (while_fresh, fresh),
        again: (while_again, again),
        ledger,
    })
}

/// Events accepted per second while the given work runs.
fn rate(churn: &Churn, mut what: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let (events, began) = (churn.events(), Instant::now());
    what()?;
    Ok((churn.events() - events) as f64 / began.elapsed().as_secs_f64())
}

impl Bench {
    /// Swaps to a version that was never used before.
    fn fresh(&mut self) -> Result<SwapView, Failure> {
        self.version += 1;
        self.swap(self.version)
    }

    /// Swaps to a version. Returns its rollout.
    fn swap(&self, number: u64) -> Result<SwapView, Failure> {
        place(&self.file, &version(&self.component, number))?;
        let swap = self.child.api().swapped(PLUGIN)?;
        swap.ok_or_else(|| Failure::Failed("the new version was not swapped in".to_owned()))
    }
}

/// Reports the times of one kind of swap, judged by their median.
fn report_swaps(report: &mut Report, name: &str, swaps: &[SwapView], aim_ms: f64) {
    let times = sorted(swaps);
    report.at_most(
        &format!("{name}_ms"),
        times.get(times.len() / 2).copied().unwrap_or_default(),
        aim_ms,
    );
    spread(report, name, swaps);
}

/// Reports the minimum, median and maximum, and the steps of the median swap.
fn spread(report: &mut Report, name: &str, swaps: &[SwapView]) {
    let times = sorted(swaps);
    let Some(median) = times.get(times.len() / 2) else {
        return;
    };
    let (least, most) = (
        times.first().copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
    report.figure(
        &format!("{name}_ms_least_median_most"),
        format!("{least} {median} {most}"),
    );
    if let Some(swap) = swaps.iter().find(|swap| swap.steps.total_ms == *median) {
        report.figure(&format!("{name}_steps_of_the_median"), json!(swap.steps));
    }
    let cached = swaps.iter().filter(|swap| swap.steps.from_cache).count();
    report.figure(
        &format!("{name}_of_them_from_the_cache"),
        format!("{cached} of {}", swaps.len()),
    );
}

fn sorted(swaps: &[SwapView]) -> Vec<f64> {
    let mut times: Vec<f64> = swaps.iter().map(|swap| swap.steps.total_ms).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The component with a number in a custom section that is ignored.
fn version(component: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = component.to_vec();
    let name = b"bench";
    bytes.extend_from_slice(&[0, (1 + name.len() + 8) as u8, name.len() as u8]);
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes
}

/// Writes the file in one step, as a build does.
fn place(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let part = file.with_extension("part");
    let placed = fs::write(&part, bytes).and_then(|()| fs::rename(&part, file));
    placed.map_err(|error| unreachable("the component cannot be placed", error))
}

/// A stock level as the shop system sends it. Its time is derived from the number too, so that a
/// newer one is never stale.
fn level(body: &mut Vec<u8>, product: usize, number: u32) {
    let (key, seconds) = (FIRST_KEY + product as u64, number / 1000);
    let (day, hour, minute) = (
        1 + seconds / 86_400 % 28,
        seconds / 3600 % 24,
        seconds / 60 % 60,
    );
    let line = format!(
        r#"{{"inventory_item_id":49148{key},"location_id":24826418,"available":{number},"updated_at":"2026-01-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z","sku":"{key}"}}"#,
        seconds % 60,
        number % 1000
    );
    body.extend_from_slice(line.as_bytes());
    body.push(b'\n');
}

fn configuration(component: &Path, recorder: &Recorder) -> Value {
    let system = System::Oms;
    json!({
        "config_version": 1,
        "server": { "listen": "127.0.0.1:0", "reload": "signal" },
        "store": { "path": "data" },
        "entities": { "product": { "facets": { (system.facets()): { "owner": system.name() } } } },
        "plugins": { PLUGIN: { "path": component, "settings": system.settings() } },
        "sources": { (system.name()): { "plugins": [PLUGIN] } },
        "targets": { "shop": { "kind": "webhook", "url": format!("http://{}/0", recorder.address) } },
        "channels": { "shop": { "entity": "product", "facets": [system.facets()], "target": "shop", "batch": 500 } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_number_is_another_component_that_does_the_same() {
        let one = version(&wat::parse_str("(component)").expect("text"), 1);
        assert_ne!(
            one,
            version(&wat::parse_str("(component)").expect("text"), 2)
        );
        assert!(wasmparser::validate(&one).is_ok());
    }

    #[test]
    fn a_level_is_what_the_mapper_understands_and_its_version_rises_with_its_number() {
        let settings =
            oms_stock::Settings::parse(&System::Oms.settings().to_string()).expect("settings");
        let version = |number| {
            let mut body = Vec::new();
            level(&mut body, 3, number);
            let data = String::from_utf8(body).expect("text");
            let changes = oms_stock::changes(&weir_plugin::Event::of(data.trim()), &settings)
                .expect("changes");
            assert_eq!(
                (&*changes[0].key, changes[0].value.as_deref()),
                ("1000003", Some(&*format!(r#"{{"available":{number}}}"#)))
            );
            changes[0].version.expect("a version")
        };
        assert!(
            version(1) < version(2)
                && version(999) < version(1000)
                && version(3_599_999) < version(3_600_000)
        );
        assert!(version(86_399_999) < version(86_400_000));
    }
}
