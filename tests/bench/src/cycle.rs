//! `weir-bench cycle` and `weir-bench again`: one facet of every product changes, and eighteen
//! shops render and receive all of the changes.
//!
//! First the catalogue is loaded and every shop filled. Then comes the **cycle**: the stock of
//! every product changes, posted in lane bulk as fast as Weir accepts it, while about ten times a
//! second the price of a product, drawn at random, changes in lane urgent. The cycle ends when each
//! target holds the new stock of each product. Then comes **again**: every channel renders
//! everything once more, nothing differs, and nothing may be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::api::{PATIENCE, advance};
use crate::catalogue::{self, MARK, SITES};
use crate::clock::{Phase, round};
use crate::post::{CONNECTIONS, Connection, NDJSON, Request, Tally, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, built, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Products at full size.
const PRODUCTS: f64 = 1_500_000.0;
/// Events per request.
const BATCH: usize = 500;
/// Interval between two urgent prices.
const URGENT_EVERY: Duration = Duration::from_millis(100);
/// The first amount of an urgent price, higher than all prices of the first load.
const URGENT_AMOUNT: u32 = 1_000_000;

/// The catalogue, loaded and delivered to every shop.
struct Shops {
    stage: Stage,
    recorder: Arc<Recorder>,
    products: usize,
}

/// Measures the cycle, then the same again with nothing changed.
pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("cycle", args.scale);
    let shops = Shops::fill(args, &mut report)?;
    shops.cycle(&mut report)?;
    shops.again(&mut report)?;
    shops.close(report, args, out)
}

/// Measures only the repetition with nothing changed.
pub(super) fn run_again(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("again", args.scale);
    let shops = Shops::fill(args, &mut report)?;
    shops.again(&mut report)?;
    shops.close(report, args, out)
}

impl Shops {
    /// Loads the catalogue while the channels are paused, then lets them deliver all of it.
    fn fill(args: &FullArgs, report: &mut Report) -> Result<Shops, Failure> {
        let products = args.scaled(PRODUCTS);
        let component = built(&args.common.plugins, "storefront-page")?;
        let recorder = Recorder::start(SITES, products, Some(MARK))
            .map_err(|error| unreachable("no target in this process", error))?;
        let stage = Stage::start(
            args.folder.as_deref(),
            &catalogue::configuration(&component, &recorder),
        )?;
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
        shops.stage.api().settled(&shops.recorder)?;
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
        let prices = Prices::begin(self);
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
        let (posted_prices, mut waits) = prices.end(self)?;
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
        waits.sort_unstable();
        let at = |share: f64| {
            let index =
                ((waits.len() as f64 * share).ceil() as usize).clamp(1, waits.len().max(1)) - 1;
            waits.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        report.figure("urgent_prices", posted_prices);
        report.figure("urgent_deliveries", waits.len());
        report.figure("urgent_p50_ms", round(at(0.5), 2));
        report.at_most("urgent_p99_ms", at(0.99), 1000.0);
        report.figure("urgent_max_ms", round(at(1.0), 2));
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

    fn post<W>(&self, write: W) -> Result<Tally, Failure>
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

/// A running load of urgent prices of randomly drawn products, posted one at a time until it is
/// stopped.
struct Prices {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<usize, String>>,
}

impl Prices {
    fn begin(shops: &Shops) -> Prices {
        let (over, recorder) = (Arc::new(AtomicBool::new(false)), shops.recorder.clone());
        let (until, address, products) = (over.clone(), shops.stage.address(), shops.products);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            runtime.block_on(Self::post(address, &recorder, products, &until))
        });
        Prices { over, thread }
    }

    async fn post(
        address: std::net::SocketAddr,
        recorder: &Recorder,
        products: usize,
        over: &AtomicBool,
    ) -> Result<usize, String> {
        let (mut connection, mut chance, mut posted) = (
            Connection::open(address).await?,
            fastrand::Rng::with_seed(42),
            0,
        );
        let mut beat = tokio::time::interval(URGENT_EVERY);
        // The delay is measured from the latest time at which the price should have been posted.
        // Otherwise a slow response would hide the delay of the prices after it (coordinated
        // omission).
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !over.load(Ordering::Relaxed) {
            beat.tick().await;
            let (product, list) = (chance.usize(..products), chance.usize(..catalogue::lists()));
            let amount = URGENT_AMOUNT + posted as u32;
            if !recorder
                .held()
                .watch(product, amount, catalogue::shows(list))
            {
                continue;
            }
            let mut request = Request {
                source: "erp",
                content_type: NDJSON,
                lane: Some("urgent"),
                events: 1,
                body: Vec::new(),
            };
            catalogue::price(list, product, amount, 2 + posted as u32, &mut request.body);
            connection.post(&request).await?;
            posted += 1;
        }
        Ok(posted)
    }

    /// Stops posting, and waits until each price has arrived at each target that shows it.
    fn end(self, shops: &Shops) -> Result<(usize, Vec<Duration>), Failure> {
        self.over.store(true, Ordering::Relaxed);
        let posted = self
            .thread
            .join()
            .map_err(|_| Failure::Failed("the thread of urgent prices panicked".to_owned()))?;
        let posted = posted.map_err(|error| {
            Failure::Failed(format!("an urgent price was not accepted: {error}"))
        })?;
        let (held, until) = (shops.recorder.held(), Instant::now() + PATIENCE);
        while held.watching() > 0 {
            if Instant::now() > until {
                return Err(Failure::Failed(format!(
                    "of {posted} urgent prices {} have not arrived everywhere",
                    held.watching()
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((posted, held.arrivals()))
    }
}
