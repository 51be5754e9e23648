//! `weir-bench blackfriday`: what Weir was made for, on one machine. Eighteen shops, a search engine and a feed
//! hold 1.5 million products, and one more shop is dead. Events come in at a steady rate, with bursts of ten
//! times as many. In the middle one facet of every product changes, in lane bulk. Ten times a second, in each
//! lane, a price of a product changes and is watched until each shop that shows it has it.
//!
//! The generator, the shops, the search engine and Weir share the machine. The load is open: an event has its
//! time, whether Weir is ready or not, so that a slow answer does not lower the rate.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bulk::Bulk;
use crate::catalogue;
use crate::clock::{Phase, round};
use crate::cycle::{BATCH, Shops};
use crate::post::{Connection, NDJSON, Request};
use crate::probes::Probes;
use crate::progress::Progress;
use crate::report::Report;
use crate::{FridayArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};
use weir::inside::server::views::ChannelView;

/// Events per second, and how many times as many in a burst.
const PER_SECOND: u64 = 3_000;
const BURST: u64 = 10;
/// A burst begins each so often, and lasts so long.
const BURST_EVERY: Duration = Duration::from_secs(30);
const BURST_LASTS: Duration = Duration::from_secs(5);
/// The connections of the steady load, and the interval at which each of them posts.
const CONNECTIONS: u64 = 4;
const BEAT: Duration = Duration::from_millis(40);
/// How often the channels are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// What the search engine takes for a document.
const A_DOCUMENT: Duration = Duration::from_micros(20);
/// The channels beside the shops.
const SEARCH: &str = "search";
const FEED: &str = "feed";
const DEAD: &str = "dead";
/// The longest that everything may take to arrive after the load.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) fn run(args: &FridayArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("blackfriday", args.full.scale);
    let engine =
        Bulk::start(A_DOCUMENT).map_err(|error| unreachable("no engine in this process", error))?;
    // Connections are accepted by the system, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0");
    let silent = silent.map_err(|error| unreachable("no port for the dead shop", error))?;
    let dead = silent
        .local_addr()
        .map_err(|error| unreachable("no port for the dead shop", error))?;
    let shops = Shops::fill_with(&args.full, &mut report, |configuration| {
        extend(configuration, engine.address, dead);
    })?;
    wait_until(
        &shops,
        "the search engine and the feed are filled",
        |channels| {
            settled(channels, SEARCH) && settled(channels, FEED) && published(channels).is_some()
        },
    )?;

    let friday = Friday {
        newest: (0..shops.products).map(|_| AtomicU32::new(1)).collect(),
        seconds: Duration::from_secs(args.seconds),
    };
    let friday = Arc::new(friday);
    let (delivered, documents) = (shops.recorder.held().delivered(), engine.got().documents);
    let (phase, progress) = (Phase::start(), Progress::begin("the day", args.seconds));
    let numbers = Arc::default();
    let probes = ["urgent", "normal", "bulk"].map(|lane| {
        Probes::begin(
            shops.stage.address(),
            &shops.recorder,
            shops.products,
            lane,
            &numbers,
        )
    });
    let (to, steady) = (shops.stage.address(), friday.clone());
    let began = Instant::now();
    let load = std::thread::spawn(move || steady.post(to));

    // The facet of every product, in the middle of the day.
    sleep(friday.seconds / 3);
    let all = friday.clone();
    let products = shops.products;
    let cycle_began = Instant::now();
    let posted = shops.post(move |turn, request| {
        let (first, last) = (turn * BATCH, products.min((turn + 1) * BATCH));
        (request.source, request.lane, request.events) =
            ("oms", Some("bulk"), last.saturating_sub(first) as u64);
        for product in first..last {
            let mark = all.newest[product].fetch_add(1, Ordering::Relaxed) + 1;
            catalogue::stock(&mut request.body, product, mark);
        }
        first < last
    })?;
    wait_until(
        &shops,
        "the facet of every product is delivered",
        |channels| {
            let shops = channels
                .iter()
                .filter(|channel| channel.name.starts_with("page."));
            shops.fold(0, |owed, channel| owed + channel.owed.bulk) == 0
        },
    )?;
    let cycle = cycle_began.elapsed();

    let load = load
        .join()
        .map_err(|_| Failure::Failed("the load panicked".into()))?;
    let load =
        load.map_err(|error| Failure::Failed(format!("an event was not accepted: {error}")))?;
    let day = began.elapsed();
    let held = shops.recorder.held();
    let [urgent, normal, bulk] = probes.map(Probes::end);
    let (urgent, normal, bulk) = (urgent?, normal?, bulk?);
    held.expect(|product| friday.newest[product].load(Ordering::Relaxed));
    wait_until(&shops, "everything is delivered", |channels| {
        let mut alive = channels.iter().filter(|channel| channel.name != DEAD);
        alive.all(is_settled)
    })?;
    let (after, missing) = (began.elapsed() - day, held.missing());
    drop(progress);
    let usage = phase.end(Duration::ZERO);

    let events = load.events + posted.events + (urgent.posted + normal.posted + bulk.posted) as u64;
    let (delivered, documents) = (
        held.delivered() - delivered,
        engine.got().documents - documents,
    );
    report.figure("seconds", round(day.as_secs_f64(), 1));
    report.figure("events_in", events);
    report.figure(
        "steady_events_per_second",
        round(load.events as f64 / load.took.as_secs_f64(), 0),
    );
    report.figure("late_answers_of_the_steady_load", load.late);
    report.figure("deliveries_to_shops", delivered);
    report.figure("documents_to_search", documents);
    let out_of = (delivered + documents) as f64;
    report.figure(
        "deliveries_per_second",
        round(out_of / (day + after).as_secs_f64(), 0),
    );
    report.figure(
        "deliveries_an_event",
        round(out_of / events.max(1) as f64, 2),
    );
    for (lane, arrived) in [("urgent", &urgent), ("normal", &normal), ("bulk", &bulk)] {
        report.figure(&format!("{lane}_arrivals"), arrived.count());
        report.figure(&format!("{lane}_p50_ms"), arrived.ms(0.5));
        match lane {
            "urgent" => report.at_most("urgent_p99_ms", arrived.ms(0.99), 1000.0),
            _ => report.figure(&format!("{lane}_p99_ms"), arrived.ms(0.99)),
        }
        report.figure(&format!("{lane}_max_ms"), arrived.ms(1.0));
    }
    report.at_most("cycle_seconds", cycle.as_secs_f64(), 300.0);
    report.figure(
        "converged_after_the_load_seconds",
        round(after.as_secs_f64(), 1),
    );
    let channels = shops.stage.api().channels()?;
    let dead = channels.iter().find(|channel| channel.name == DEAD);
    let dead = dead.map_or(0, |dead| dead.owed.total + dead.parked);
    report.figure("owed_to_the_dead_shop", dead);
    report.figure("records_of_the_feed", published(&channels).unwrap_or(0));
    report.exactly("pairs_that_are_not_the_newest", missing, 0);
    report.exactly("older_after_newer", held.older(), 0);
    report.figure("rss_peak_mib", usage.rss_peak_mib);
    report.figure("of_that_the_recorder_mib", held.memory_mib());
    report.figure("disk_bytes", shops.stage.disk_bytes());
    report.usage("day", &usage);
    shops.stage.stop();
    report.end(args.full.common.json, out)
}

/// Adds the search engine, the feed and the dead shop to the eighteen shops.
fn extend(configuration: &mut Value, engine: SocketAddr, dead: SocketAddr) {
    let settings = json!({
        "locale": "de_DE", "price_list": "de-retail", "currency": "EUR", "url": "https://shop.example",
    });
    let channel = |target: &str| {
        json!({
            "entity": "product",
            "facets": ["content.de_DE", "price.de-retail", "stock.*"],
            "needs": ["content.de_DE", "price.de-retail", "stock.*"],
            "plugins": ["storefront-page"],
            "settings": settings,
            "target": target,
        })
    };
    let targets = &mut configuration["targets"];
    targets[SEARCH] = json!({
        "kind": "search", "dialect": "elasticsearch", "url": format!("http://{engine}"), "index": "products",
    });
    targets[FEED] = json!({
        "kind": "feed", "format": "ndjson", "interval": "60s", "serve": "open",
    });
    targets[DEAD] = json!({ "kind": "webhook", "url": format!("http://{dead}/"), "timeout": "5s" });
    for name in [SEARCH, FEED, DEAD] {
        configuration["channels"][name] = channel(name);
    }
}

fn is_settled(channel: &ChannelView) -> bool {
    channel.owed.total + channel.in_flight + channel.parked == 0
}

fn settled(channels: &[ChannelView], name: &str) -> bool {
    let found = channels.iter().find(|channel| channel.name == name);
    found.is_some_and(is_settled)
}

/// The records of the feed's generation, if there is one.
fn published(channels: &[ChannelView]) -> Option<u64> {
    let feed = channels.iter().find(|channel| channel.name == FEED)?;
    Some(feed.feed.as_ref()?.generation.as_ref()?.records)
}

/// Looks at the channels until they are as expected.
fn wait_until(
    shops: &Shops,
    what: &str,
    holds: impl Fn(&[ChannelView]) -> bool,
) -> Result<(), Failure> {
    let began = Instant::now();
    while !holds(&shops.stage.api().channels()?) {
        if began.elapsed() > PATIENCE {
            let text = format!("not within {} s: {what}", PATIENCE.as_secs());
            return Err(Failure::Failed(text));
        }
        sleep(LOOK);
    }
    Ok(())
}

/// The load of the day.
struct Friday {
    /// By product: how often its stock was written.
    newest: Vec<AtomicU32>,
    seconds: Duration,
}

/// What was posted.
#[derive(Default)]
struct Posted {
    events: u64,
    /// Requests that were answered after the next one should have been posted.
    late: u64,
    took: Duration,
}

impl Friday {
    /// Posts stocks in lane normal, at the steady rate with its bursts, until the day is over.
    fn post(self: Arc<Friday>, to: SocketAddr) -> Result<Posted, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async move {
            let (began, mut open) = (Instant::now(), JoinSet::new());
            for number in 0..CONNECTIONS {
                open.spawn(self.clone().post_by(to, began, number));
            }
            let mut all = Posted::default();
            while let Some(done) = open.join_next().await {
                let posted = done.map_err(|error| error.to_string())??;
                all.events += posted.events;
                all.late += posted.late;
            }
            all.took = began.elapsed();
            Ok(all)
        })
    }

    async fn post_by(
        self: Arc<Friday>,
        to: SocketAddr,
        began: Instant,
        number: u64,
    ) -> Result<Posted, String> {
        let mut connection = Connection::open(to).await?;
        let (mut posted, mut chance) = (Posted::default(), fastrand::Rng::with_seed(number));
        let mut beat = tokio::time::interval(BEAT);
        // Each event has its time: what was missed is made up for at once.
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut request = Request {
            source: "oms",
            content_type: NDJSON,
            lane: Some("normal"),
            events: 0,
            body: Vec::new(),
        };
        loop {
            let due = beat.tick().await;
            let day = began.elapsed();
            if day >= self.seconds {
                return Ok(posted);
            }
            let in_burst = day.as_millis() % BURST_EVERY.as_millis()
                >= (BURST_EVERY - BURST_LASTS).as_millis();
            let rate = PER_SECOND * if in_burst { BURST } else { 1 };
            request.events = rate * BEAT.as_millis() as u64 / 1000 / CONNECTIONS;
            request.body.clear();
            for _ in 0..request.events {
                let product = chance.usize(..self.newest.len());
                let mark = self.newest[product].fetch_add(1, Ordering::Relaxed) + 1;
                catalogue::stock(&mut request.body, product, mark);
            }
            connection.post(&request).await?;
            posted.events += request.events;
            posted.late += u64::from(due.elapsed() > BEAT);
        }
    }
}
