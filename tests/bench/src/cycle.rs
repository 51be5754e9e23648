//! `weir-bench cycle` and `weir-bench again`: one facet of every product changes, and eighteen
//! shops render and receive all of the changes.
//!
//! First the catalogue is loaded and every shop filled. Then comes the **cycle**: the stock of
//! every product changes, posted in lane bulk as fast as Weir accepts it, while about ten times a
//! second the price of a product, drawn at random, changes in lane urgent. The cycle ends when each
//! target holds the new stock of each product. Then comes **again**: every channel renders
//! everything once more, nothing differs, and nothing may be sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::advance;
use crate::catalogue::{self, MARK, SITES};
use crate::clock::{Phase, round};
use crate::post::{CONNECTIONS, Request, Tally, post};
use crate::probes::Probes;
use crate::progress::Progress;
use crate::readers::Readers;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Stage;
use crate::{CycleArgs, FullArgs, built, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Products at full size.
pub(super) const PRODUCTS: f64 = 1_500_000.0;
/// Events per request.
pub(super) const BATCH: usize = 500;
/// The catalogue, loaded and delivered to every shop.
pub(super) struct Shops {
    pub(super) stage: Stage,
    pub(super) recorder: Arc<Recorder>,
    pub(super) products: usize,
}

/// Measures the cycle, then the same again with nothing changed.
pub(super) fn run(args: &CycleArgs, out: &mut String) -> CommandResult {
    let CycleArgs { full: args, looks } = args;
    let mut report = Report::new("cycle", args.scale);
    let collector = looks.collector()?;
    let shops = Shops::fill_with(args, &mut report, |configuration| {
        looks.configure(configuration, collector.as_ref());
    })?;
    shops.stage.api().settled(&shops.recorder)?;
    let readers = Readers::start(shops.stage.address(), looks.streams())?;
    shops.cycle(&mut report)?;
    readers.check()?;
    report.figure("bytes_to_those_who_look", readers.bytes());
    drop(readers);
    if let Some(collector) = &collector {
        let sent = collector.got();
        report.figure("requests_with_traces", sent.requests);
        report.figure("bytes_of_traces", sent.bytes);
    }
    shops.again(&mut report)?;
    shops.close(report, args, out)
}

/// Measures only the repetition with nothing changed.
pub(super) fn run_again(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("again", args.scale);
    let shops = Shops::fill_with(args, &mut report, |_| {})?;
    shops.stage.api().settled(&shops.recorder)?;
    shops.again(&mut report)?;
    shops.close(report, args, out)
}

impl Shops {
    /// Loads the catalogue while the channels are paused, then lets them deliver all of it. `extend` adds to
    /// the configuration.
    pub(super) fn fill_with(
        args: &FullArgs,
        report: &mut Report,
        extend: impl FnOnce(&mut Value),
    ) -> Result<Shops, Failure> {
        let products = args.scaled(PRODUCTS);
        let component = built(&args.common.plugins, "storefront-page")?;
        let recorder = Recorder::start(SITES, products, Some(MARK))
            .map_err(|error| unreachable("no target in this process", error))?;
        let mut configuration = catalogue::configuration(&component, &recorder);
        extend(&mut configuration);
        let stage = Stage::start(args.folder.as_deref(), &configuration)?;
        let shops = Shops {
            stage,
            recorder: Arc::new(recorder),
            products,
        };
        shops.recorder.held().expect(|_| 1);
        shops.stage.api().operate("pause")?;

        let (phase, progress) = (
            Phase::start(),
            Progress::begin("loading products", 3 * products as u64),
        );
        let mark = progress.mark();
        let loaded = shops.post(move |turn, request| {
            let more = catalogue::first(turn, products, BATCH, request);
            mark.add(if more { request.events } else { 0 });
            more
        })?;
        drop(progress);
        report.figure("products", products);
        report.figure("sites", SITES);
        report.figure("load_events_per_second", round(loaded.rate(), 0));
        report.usage("load", &phase.end(loaded.cpu));

        let (phase, progress) = (
            Phase::start(),
            Progress::begin("filling the shops", shops.recorder.held().pairs()),
        );
        let began = Instant::now();
        shops.stage.api().operate("resume")?;
        shops.stage.api().converge(&shops.recorder, &progress)?;
        let took = shops
            .recorder
            .held()
            .reached_at()
            .duration_since(began)
            .as_secs_f64();
        drop(progress);
        report.figure("fill_seconds", round(took, 2));
        report.figure(
            "fill_renderings_per_second",
            round((SITES * products) as f64 / took, 0),
        );
        report.usage("fill", &phase.end(Duration::ZERO));
        Ok(shops)
    }

    /// Changes the stock of each product and waits until every target has it.
    fn cycle(&self, report: &mut Report) -> Result<(), Failure> {
        let (held, products) = (self.recorder.held(), self.products);
        held.expect(|_| 2);
        let (requests, bytes) = held.requests();
        let (to, numbers) = (self.stage.address(), Arc::default());
        let prices = Probes::begin(to, &self.recorder, products, "urgent", &numbers);
        let (phase, progress) = (Phase::start(), Progress::begin("cycle", held.pairs()));
        let (mark, recorder) = (progress.mark(), self.recorder.clone());
        let posted = self.post(move |turn, request| {
            mark.at(recorder.held().reached());
            let (first, last) = (turn * BATCH, products.min((turn + 1) * BATCH));
            (request.source, request.lane, request.events) =
                ("oms", Some("bulk"), last.saturating_sub(first) as u64);
            (first..last).for_each(|product| catalogue::stock(&mut request.body, product, 2));
            first < last
        })?;
        self.stage.api().converge(&self.recorder, &progress)?;
        drop(progress);
        let usage = phase.end(posted.cpu);
        let took = held
            .reached_at()
            .duration_since(posted.started)
            .as_secs_f64();
        let prices = prices.end()?;
        self.stage.api().settled(&self.recorder)?;

        let renderings = (SITES * products) as f64;
        report.figure("posted_events_per_second", round(posted.rate(), 0));
        report.figure("posted_in_seconds", round(posted.wall.as_secs_f64(), 2));
        report.at_most("cycle_seconds", took, 270.0);
        report.at_least("renderings_per_second", renderings / took, 100_000.0);
        report.figure("best_second_deliveries", held.best_second(posted.started));
        let (requests, bytes) = (held.requests().0 - requests, held.requests().1 - bytes);
        report.figure("requests_to_targets", requests);
        report.figure("bytes_to_targets", bytes);
        report.figure(
            "weir_cpu_us_a_rendering",
            round(usage.weir_cpu_seconds() * 1e6 / renderings, 2),
        );
        report.at_most(
            "rss_peak_mib",
            usage.rss_peak_mib,
            3_000_000_000.0 / f64::from(1 << 20),
        );
        report.figure("of_that_the_recorder_mib", held.memory_mib());
        report.figure("urgent_prices", prices.posted);
        report.figure("urgent_deliveries", prices.count());
        report.figure("urgent_p50_ms", prices.ms(0.5));
        report.at_most("urgent_p99_ms", prices.ms(0.99), 1000.0);
        report.figure("urgent_max_ms", prices.ms(1.0));
        report.figure("disk_bytes", self.stage.disk_bytes());
        report.usage("cycle", &usage);
        Ok(())
    }

    /// Lets every channel render everything again, with nothing changed.
    fn again(&self, report: &mut Report) -> Result<(), Failure> {
        let held = self.recorder.held();
        let (sent, before, pairs) = (
            held.delivered(),
            self.stage.api().counted("suppressed")?,
            held.pairs(),
        );
        let (phase, progress, began) = (
            Phase::start(),
            Progress::begin("again", pairs),
            Instant::now(),
        );
        self.stage.api().operate("rerender")?;
        let suppressed = || {
            self.stage
                .api()
                .counted("suppressed")
                .unwrap_or_default()
                .saturating_sub(before)
        };
        let waited = advance(suppressed, pairs, &progress);
        let took = began.elapsed().as_secs_f64();
        drop(progress);
        let usage = phase.end(Duration::ZERO);
        waited.map_err(|suppressed| {
            Failure::Failed(format!(
                "of {pairs} renderings {suppressed} were suppressed, and no more come"
            ))
        })?;
        self.stage.api().settled(&self.recorder)?;
        report.figure("again_seconds", round(took, 2));
        report.at_least("suppressed_per_second", pairs as f64 / took, 200_000.0);
        report.exactly("sent_again", held.delivered() - sent, 0);
        report.figure(
            "again_weir_cpu_us_a_rendering",
            round(usage.weir_cpu_seconds() * 1e6 / pairs as f64, 2),
        );
        report.usage("again", &usage);
        Ok(())
    }

    fn close(self, mut report: Report, args: &FullArgs, out: &mut String) -> CommandResult {
        let held = self.recorder.held();
        report.exactly("older_after_newer", held.older(), 0);
        report.figure("folder", self.stage.parent());
        self.stage.stop();
        report.end(args.common.json, out)
    }

    /// Posts as fast as Weir accepts.
    pub(super) fn post<W>(&self, write: W) -> Result<Tally, Failure>
    where
        W: Fn(usize, &mut Request) -> bool + Send + Sync + 'static,
    {
        post(
            self.stage.address(),
            CONNECTIONS,
            move |turn, _, request| write(turn, request),
        )
        .map_err(Failure::Failed)
    }
}
