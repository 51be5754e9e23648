//! `weir-bench ingest`: events of three systems over HTTP, through their mappers, into the store,
//! with responses after the sync.
//!
//! First every product is sent once by each system, then drawn products for a short warm-up, then
//! the measurement. Generator and Weir share the machine; their processor times are reported
//! separately.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::bulk::Bulk;
use crate::clock::round;
use crate::events::{Products, System};
use crate::load::{Load, Work};
use crate::post::Tally;
use crate::readers::Readers;
use crate::recorder::Recorder;
use crate::{IngestArgs, clock, component, folder, unreachable};
use weir::inside::app::{App, Options};
use weir::inside::cli::{CommandResult, Failure, pretty};
use weir::inside::server::Limits;
use weir::inside::store::Store;

/// Events per request, without `--single`.
const BATCH: usize = 500;
/// Maximum length of the warm-up, which is otherwise as long as the measurement; caches and branch
/// predictors need no more.
const WARM_UP_MAX: Duration = Duration::from_secs(3);

/// The goal: this many events per second, from this many entities on.
const AIM_ENTITIES: u64 = 1_500_000;
const AIM: f64 = 20_000.0;

/// The measured figures. Rates are per second; the names of times contain their units.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    seconds: f64,
    connections: usize,
    events_a_request: usize,
    bytes_an_event: f64,
    entities: u64,
    channels: u16,
    events_per_second: f64,
    /// The minimum rate and whether it was reached; only from 1.5 million entities on.
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<Aim>,
    requests_per_second: f64,
    latency_ms: Latency,
    syncs_per_second: f64,
    events_a_sync: f64,
    changes: Changes,
    /// Processor time of all threads except those of the generator and the readers.
    weir_cpu_us_an_event: f64,
    generator_cpu_us_an_event: f64,
    cores_used: f64,
    /// The same by kind of thread; threads that have ended are not included.
    cpu_us_an_event: Map<String, Value>,
    delivered_per_second: f64,
    first_load_events_per_second: f64,
    disk_bytes: u64,
    /// Memory at the end, including the generator's.
    rss_mib: f64,
    folder: String,
}

#[derive(Debug, Serialize)]
struct Aim {
    at_least: f64,
    hit: bool,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Changes {
    committed: u64,
    unchanged: u64,
    stale: u64,
}

pub(super) fn run(args: &IngestArgs, out: &mut String) -> CommandResult {
    let figures = measure(args)?;
    out.push_str(&if args.common.json {
        pretty(&figures)
    } else {
        to_text(&figures)
    });
    Ok(true)
}

pub(super) fn measure(args: &IngestArgs) -> Result<Figures, Failure> {
    let folder = folder(args.folder.as_deref())?;
    let recorder = Recorder::start(args.channels.into(), 0, None)
        .map_err(|error| unreachable("no target in this process", error))?;
    let file = folder.path().join("weir.toml");
    let collector = args.looks.collector()?;
    let configuration = configuration(args, &recorder, collector.as_ref())?;
    fs::write(&file, configuration).map_err(|error| unreachable("no configuration", error))?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build();
    let runtime = runtime.map_err(|error| unreachable("cannot start", error))?;
    let app = runtime.block_on(App::start(Options {
        files: vec![file],
        limits: Limits::default(),
        compiler: None,
        set_aside_damaged: false,
        steps: Default::default(),
    }));
    let app = app.map_err(|error| unreachable("Weir does not start", error))?;
    let load = Arc::new(Load {
        address: app.ingest_addr(),
        products: Arc::new(Products::new(entities(args))),
        connections: args
            .connections
            .unwrap_or(if args.single { 64 } else { 4 })
            .max(1),
        batch: if args.single { 1 } else { BATCH },
        numbers: AtomicU64::new(1),
    });
    let figures = drive(args, &app, &load, &recorder, folder.path());
    runtime.block_on(app.stop());
    figures.map_err(Failure::Failed)
}

fn entities(args: &IngestArgs) -> u32 {
    (f64::from(args.entities) * args.scale).round().max(1.0) as u32
}

fn drive(
    args: &IngestArgs,
    app: &App,
    load: &Arc<Load>,
    recorder: &Recorder,
    folder: &Path,
) -> Result<Figures, String> {
    let store = app.store();
    let time = Duration::from_secs(args.seconds.max(1));
    // Single events would take minutes here, and the first load is not part of the result.
    let first = Load {
        products: load.products.clone(),
        batch: BATCH,
        numbers: AtomicU64::new(1),
        connections: 4,
        ..**load
    };
    eprintln!(
        "sending each of {} products once by each system",
        load.products.count()
    );
    let first = Arc::new(first);
    let loaded = first.send(Work::Each)?;
    load.numbers
        .store(1 + loaded.events, std::sync::atomic::Ordering::Relaxed);
    load.send(Work::Drawn(time.min(WARM_UP_MAX)))?;

    eprintln!("measuring for {} s", time.as_secs());
    let reading = |failure: Failure| failure.to_string();
    let readers = Readers::start(load.address, args.looks.streams()).map_err(reading)?;
    let (cpu, threads, commits, delivered) = (
        clock::process_cpu(),
        clock::thread_cpu_by_kind(),
        syncs(&*store),
        recorder.held().delivered(),
    );
    let tally = load.send(Work::Drawn(time))?;
    let (cpu, threads) = (
        clock::process_cpu() - cpu,
        clock::since(&threads, clock::thread_cpu_by_kind()),
    );
    let (after, delivered) = (store.figures(), recorder.held().delivered() - delivered);
    readers.check().map_err(reading)?;
    let of_those_who_look: Duration = ["reader", "engine"]
        .iter()
        .filter_map(|name| threads.get(*name))
        .sum();

    let rss_mib = clock::Memory::of("self").resident_mib;
    let Tally {
        events,
        requests,
        wall,
        latency,
        ..
    } = &tally;
    let (count, wall) = (*events as f64, wall.as_secs_f64());
    let each = |time: Duration| round(time.as_secs_f64() * 1e6 / count, 3);
    let ms = |micros: u64| micros as f64 / 1e3;
    let commits = (syncs(&*store) - commits) as f64;
    Ok(Figures {
        seconds: round(wall, 2),
        connections: load.connections,
        events_a_request: load.batch,
        bytes_an_event: round(tally.bytes as f64 / count, 1),
        entities: after.entities,
        channels: args.channels,
        events_per_second: round(count / wall, 0),
        aim: (after.entities >= AIM_ENTITIES && !args.single).then(|| Aim {
            at_least: AIM,
            hit: count / wall >= AIM,
        }),
        requests_per_second: round(*requests as f64 / wall, 1),
        latency_ms: Latency {
            p50: ms(latency.value_at_quantile(0.5)),
            p99: ms(latency.value_at_quantile(0.99)),
            max: ms(latency.max()),
        },
        syncs_per_second: round(commits / wall, 1),
        events_a_sync: round(count / commits.max(1.0), 1),
        changes: Changes {
            committed: tally.committed,
            unchanged: tally.unchanged,
            stale: tally.stale,
        },
        weir_cpu_us_an_event: each(cpu.saturating_sub(tally.cpu + of_those_who_look)),
        generator_cpu_us_an_event: each(tally.cpu),
        cores_used: round(cpu.as_secs_f64() / wall, 2),
        cpu_us_an_event: threads
            .into_iter()
            .map(|(name, time)| (name, json!(each(time))))
            .collect(),
        delivered_per_second: round(delivered as f64 / wall, 0),
        first_load_events_per_second: round(loaded.events as f64 / loaded.wall.as_secs_f64(), 0),
        disk_bytes: after.bytes,
        rss_mib,
        folder: folder.parent().unwrap_or(folder).display().to_string(),
    })
}

/// Number of commit writes so far, each with its sync.
fn syncs(store: &dyn Store) -> u64 {
    store.figures().commit_seconds.0.iter().sum()
}

/// The configuration: three sources with their mappers, as in a product catalogue, and any number
/// of channels.
fn configuration(
    args: &IngestArgs,
    recorder: &Recorder,
    collector: Option<&Bulk>,
) -> Result<String, Failure> {
    let (mut facets, mut plugins, mut sources, mut channels) =
        (Map::new(), Map::new(), Map::new(), Map::new());
    for system in System::ALL {
        let path = component(&args.common.plugins, system)?;
        facets.insert(
            system.facets().into(),
            json!({ "owner": system.name(), "lane": if system == System::Pim { "normal" } else { "urgent" } }),
        );
        plugins.insert(
            system.plugin().into(),
            json!({ "path": path, "settings": system.settings() }),
        );
        let mut source = json!({ "plugins": [system.plugin()] });
        if system == System::Erp {
            source["split"] = "xml:IDOC".into();
        }
        sources.insert(system.name().into(), source);
    }
    for number in 0..args.channels {
        let target =
            json!({ "kind": "webhook", "url": format!("http://{}/{number}", recorder.address) });
        let facets = System::ALL.map(System::facets);
        channels.insert(
            format!("site-{number}"),
            json!({ "entity": "product", "facets": facets, "target": target, "batch": 64 }),
        );
    }
    let mut all = json!({
        "config_version": 1,
        "server": { "listen": "127.0.0.1:0", "reload": "signal" },
        "store": { "path": "data" },
        "entities": { "product": { "facets": facets } },
        "plugins": plugins,
        "sources": sources,
        "channels": channels,
    });
    args.looks.configure(&mut all, collector);
    toml::to_string(&all).map_err(|error| unreachable("no configuration", error))
}

fn to_text(figures: &Figures) -> String {
    let Figures {
        latency_ms: Latency { p50, p99, max },
        changes:
            Changes {
                committed,
                unchanged,
                stale,
            },
        ..
    } = figures;
    let f = figures;
    let form = match f.events_a_request {
        1 => "one event per request: JSON from pim and oms, an XML document with one IDoc from erp"
            .to_owned(),
        many => format!(
            "{many} events per request: NDJSON from pim and oms, XML documents cut at IDOC from erp"
        ),
    };
    let mut text = format!(
        "{form}; {:.0} bytes per event, {} products\n",
        f.bytes_an_event, f.entities
    );
    text.push_str(&format!(
        "{} connections, {} s, {} channels, store in {}\n\n",
        f.connections, f.seconds, f.channels, f.folder
    ));
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<16}  {value}\n"));
    line("events", format!("{} per second", f.events_per_second));
    line(
        "requests",
        format!(
            "{} per second, answered after the sync",
            f.requests_per_second
        ),
    );
    line(
        "latency",
        format!("p50 {p50} ms, p99 {p99} ms, max {max} ms"),
    );
    line(
        "syncs",
        format!(
            "{} per second, {} events each",
            f.syncs_per_second, f.events_a_sync
        ),
    );
    line(
        "changes",
        format!("{committed} committed, {unchanged} unchanged, {stale} stale"),
    );
    if f.channels > 0 {
        line(
            "delivered",
            format!("{} entities per second", f.delivered_per_second),
        );
    }
    line(
        "first load",
        format!("{} events per second", f.first_load_events_per_second),
    );
    if let Some(Aim { at_least, hit }) = f.aim {
        line(
            "goal",
            format!(
                "at least {at_least} events per second: {}",
                if hit { "hit" } else { "MISSED" }
            ),
        );
    }
    line("disk", format!("{} bytes", f.disk_bytes));
    line("memory", format!("{} MiB", f.rss_mib));
    let all = f.weir_cpu_us_an_event + f.generator_cpu_us_an_event;
    let share = f.generator_cpu_us_an_event * 100.0 / all;
    line(
        "processor time",
        format!(
            "{} µs per event for Weir, {} µs for the generator ({share:.0} %)",
            f.weir_cpu_us_an_event, f.generator_cpu_us_an_event
        ),
    );
    line("cores", format!("{} in use", f.cores_used));
    for (name, time) in &f.cpu_us_an_event {
        line(&format!("  {name}"), format!("{time} µs per event"));
    }
    text
}
