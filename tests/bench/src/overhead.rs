//! `weir-bench overhead`: the cost of running a mapping as a plugin instead of native code, by
//! language.
//!
//! The same function maps the same events, once called natively and once as a component through the
//! plugin host, as ingest calls it. Both run in turns in one process. The comparison is of the
//! processor time of all threads, so the host's figure includes passing calls to the workers,
//! copies in and out, and the checks of a guest's results. The native side ends with the same
//! values. A **twin** is another component of the same mapping, written by hand or in another
//! language. It runs in turns with the others and must return the same changes. Fuel is counted
//! separately and repeats exactly.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use weir::inside::author::harness::{Harness, Input};
use weir::inside::author::toolchain;
use weir::inside::cli::{CommandResult, Failure, pretty};
use weir::inside::model::{Change, Event, Payload};
use weir::inside::plugin::{
    self, Binary, Binding, EventVerdict, Host, Limits, Priority, SourceChain,
};
use weir_plugin::Event as GuestEvent;

use crate::events::{Products, System};
use crate::{OverheadArgs, clock, component, unreachable};

/// Events per call, as in a request of the ingest benchmark.
const EVENTS: usize = 500;
/// Length of one turn of each side.
const TURN: Duration = Duration::from_millis(50);

/// Events of the call whose fuel is counted, a whole batch.
const FUEL_EVENTS: usize = 64;

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    events_a_call: usize,
    mappings: Vec<Mapping>,
    /// The ratio over all mappings, equally weighted; twins are left out.
    ratio: f64,
}

/// One mapping; times are medians of turns.
#[derive(Debug, Serialize)]
struct Mapping {
    plugin: &'static str,
    bytes_an_event: usize,
    native_us_an_event: f64,
    /// The plugin itself, then its twins.
    components: Vec<Measured>,
    turns: usize,
}

/// One component of a mapping.
#[derive(Debug, Serialize)]
struct Measured {
    component: String,
    host_us_an_event: f64,
    fuel_an_event: u64,
    /// The ratio of the host's time to the native time.
    ratio: f64,
}

/// Another component of a mapping, or a folder with the source of one.
#[derive(Clone, Debug)]
pub(super) struct Twin {
    plugin: String,
    path: PathBuf,
}

impl Twin {
    /// Parses `PLUGIN=COMPONENT`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (plugin, path) = text
            .split_once('=')
            .ok_or("it is PLUGIN=COMPONENT, such as oms-stock=dist/twin.wasm")?;
        let plugins = System::ALL.map(System::plugin);
        match plugins.contains(&plugin) {
            true => Ok(Twin {
                plugin: plugin.to_owned(),
                path: path.into(),
            }),
            false => Err(format!(
                "`{plugin}` is not one of the mappings that are measured: {}",
                plugins.join(", ")
            )),
        }
    }

    /// The path of its component; a folder is built first.
    fn component(&self) -> Result<PathBuf, Failure> {
        if !self.path.is_dir() {
            return Ok(self.path.clone());
        }
        let built = toolchain::build(&self.path, &mut |step| eprintln!("{step}"));
        built
            .map(|built| built.component)
            .map_err(|error| Failure::Unreachable(error.to_string()))
    }
}

/// A component that is measured in turns.
struct Side {
    name: String,
    chain: SourceChain,
    fuel: u64,
    turns: Vec<f64>,
}

pub(super) fn run(args: &OverheadArgs, out: &mut String) -> CommandResult {
    let figures = measure(args)?;
    out.push_str(&if args.common.json {
        pretty(&figures)
    } else {
        to_text(&figures)
    });
    Ok(true)
}

pub(super) fn measure(args: &OverheadArgs) -> Result<Figures, Failure> {
    let host = Host::start(&plugin::Options::default())
        .map_err(|error| unreachable("no plugin host", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| unreachable("cannot start", error))?;
    let products = Products::new(200_000);
    let numbers = AtomicU64::new(1);
    let mut mappings = Vec::new();
    for system in System::ALL {
        let events = Arc::new(events(system, args.bytes, &products, &numbers));
        let mut sides = vec![side(
            &host,
            &component(&args.common.plugins, system)?,
            system,
            &events,
        )?];
        for twin in args
            .twins
            .iter()
            .filter(|twin| twin.plugin == system.plugin())
        {
            sides.push(side(&host, &twin.component()?, system, &events)?);
        }
        let native = native(system).map_err(Failure::Failed)?;
        let guest_events: Vec<GuestEvent> = events.iter().map(guest_event).collect();
        let natively = || guest_events.iter().map(&native).collect::<Vec<_>>();
        let by_host = |chain: &SourceChain| {
            runtime.block_on(host.map(chain, events.clone(), Priority::Ingest))
        };
        let expected = compared(natively());
        for side in &sides {
            if compared(by_host(&side.chain)) != expected {
                return Err(Failure::Failed(format!(
                    "{} gives other changes natively than as {}",
                    system.plugin(),
                    side.name
                )));
            }
        }
        eprintln!(
            "measuring {} for {} s",
            system.plugin(),
            (1 + sides.len() as u64) * args.seconds.max(1)
        );
        mappings.push(compare(
            system,
            &events,
            args.seconds.max(1),
            natively,
            by_host,
            sides,
        ));
    }
    let native = mappings
        .iter()
        .map(|mapping| mapping.native_us_an_event)
        .sum::<f64>();
    let host = mappings
        .iter()
        .filter_map(|mapping| mapping.components.first())
        .map(|first| first.host_us_an_event)
        .sum::<f64>();
    Ok(Figures {
        events_a_call: EVENTS,
        mappings,
        ratio: round(host / native),
    })
}

fn side(host: &Host, path: &Path, system: System, events: &[Event]) -> Result<Side, Failure> {
    let binary = Binary::read(path)
        .map_err(|error| unreachable(&format!("cannot read {}", path.display()), error))?;
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let settings = system.settings().to_string();
    let failed = |fault: plugin::Fault| Failure::Failed(fault.to_string());
    let loaded = host
        .load(&name, &binary, Limits::default())
        .map_err(failed)?;
    let binding = Binding::configure(&loaded, &settings).map_err(failed)?;
    let chain = SourceChain::new(vec![binding]).map_err(failed)?;
    let counted: Vec<Event> = events.iter().take(FUEL_EVENTS).cloned().collect();
    let count = counted.len().max(1) as u64;
    let report = Harness::load(&name, &binary, Limits::default())
        .and_then(|harness| harness.run(&settings, Input::Events(counted)))
        .map_err(failed)?;
    let fuel = report.calls.iter().map(|call| call.fuel).sum::<u64>() / count;
    Ok(Side {
        name,
        chain,
        fuel,
        turns: Vec::new(),
    })
}

fn events(system: System, bytes: usize, products: &Products, numbers: &AtomicU64) -> Vec<Event> {
    let event = |n| {
        let mut data = Vec::new();
        system.write_one(
            products.drawn(n),
            numbers.fetch_add(1, Ordering::Relaxed),
            &mut data,
        );
        pad(&mut data, bytes);
        Event::plain(Some(system.content_type(false)), Payload::from_bytes(data))
    };
    (0..EVENTS).map(event).collect()
}

/// Pads a JSON object with a list of fields that no mapping reads, to at least `bytes` bytes.
fn pad(data: &mut Vec<u8>, bytes: usize) {
    if data.len() >= bytes || data.pop_if(|last| *last == b'}').is_none() {
        return;
    }
    data.extend_from_slice(br#","more":[null"#);
    while data.len() < bytes {
        data.extend_from_slice(
            br#",{"name":"length","value":"1.8000","unit":"METER","listed":true}"#,
        );
    }
    data.extend_from_slice(b"]}");
}

/// The event as a plugin gets it, made before the measurement, because a mapping that is compiled
/// in would not copy it.
fn guest_event(event: &Event) -> GuestEvent {
    GuestEvent {
        event_type: event.event_type.clone(),
        time: event.time.clone(),
        ..GuestEvent::of(event.data.as_bytes().to_vec())
    }
}

/// A mapping that is compiled in.
type Native = Box<dyn Fn(&GuestEvent) -> EventVerdict>;

/// The plugin's own function, its changes turned into Weir's, as a mapping that is compiled in
/// would be.
fn native(system: System) -> Result<Native, String> {
    let settings = system.settings().to_string();
    Ok(match system {
        System::Pim => {
            let settings = pim_product::Settings::parse(&settings)?;
            Box::new(move |event| verdict(pim_product::changes(event, &settings)))
        }
        System::Erp => {
            let settings = erp_product::Settings::parse(&settings)?;
            Box::new(move |event| {
                verdict(
                    event
                        .text()
                        .and_then(|document| erp_product::changes(document, &settings)),
                )
            })
        }
        System::Oms => {
            let settings = oms_stock::Settings::parse(&settings)?;
            Box::new(move |event| verdict(oms_stock::changes(event, &settings)))
        }
    })
}

/// All events here can be mapped; if one failed, the result would differ from the host's.
fn verdict(changes: weir_plugin::Result<Vec<weir_plugin::Change>>) -> EventVerdict {
    EventVerdict::Changes(
        changes
            .unwrap_or_default()
            .into_iter()
            .map(change)
            .collect(),
    )
}

fn change(change: weir_plugin::Change) -> Change {
    let weir_plugin::Change {
        entity_type,
        key,
        facet,
        value,
        version,
        ..
    } = change;
    Change {
        entity_type,
        key,
        facet,
        value: value.map(String::into_boxed_str),
        version,
        lane: None,
    }
}

/// A change without its value, and the value parsed, because another language may write the same
/// JSON with different white space.
type Meant = (Change, Option<Value>);

/// The parts that must be equal; `None` for an event that failed.
fn compared(verdicts: Vec<EventVerdict>) -> Vec<Option<Vec<Meant>>> {
    let apart = |mut change: Change| {
        let value = change
            .value
            .take()
            .map(|text| serde_json::from_str(&text).unwrap_or(Value::Null));
        (change, value)
    };
    let changes = |verdict| match verdict {
        EventVerdict::Changes(changes) => Some(changes.into_iter().map(apart).collect()),
        _ => None,
    };
    verdicts.into_iter().map(changes).collect()
}

fn compare(
    system: System,
    events: &[Event],
    seconds: u64,
    native: impl Fn() -> Vec<EventVerdict>,
    host: impl Fn(&SourceChain) -> Vec<EventVerdict>,
    mut sides: Vec<Side>,
) -> Mapping {
    let mut natives = Vec::new();
    let end = Instant::now() + Duration::from_secs((1 + sides.len() as u64) * seconds);
    while Instant::now() < end {
        natives.push(turn(&native));
        for side in &mut sides {
            side.turns.push(turn(|| host(&side.chain)));
        }
    }
    let native = median(&mut natives);
    let measured = |mut side: Side| {
        let host = median(&mut side.turns);
        Measured {
            component: side.name,
            host_us_an_event: round(host),
            fuel_an_event: side.fuel,
            ratio: round(host / native),
        }
    };
    let bytes: usize = events.iter().map(|event| event.data.as_bytes().len()).sum();
    Mapping {
        plugin: system.plugin(),
        bytes_an_event: bytes / events.len().max(1),
        native_us_an_event: round(native),
        components: sides.into_iter().map(measured).collect(),
        turns: natives.len(),
    }
}

/// Processor time per event in microseconds, over one turn.
fn turn(map: impl Fn() -> Vec<EventVerdict>) -> f64 {
    let (started, cpu, mut events) = (Instant::now(), clock::process_cpu(), 0);
    while started.elapsed() < TURN {
        events += std::hint::black_box(map()).len();
    }
    (clock::process_cpu() - cpu).as_secs_f64() * 1e6 / events.max(1) as f64
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn to_text(figures: &Figures) -> String {
    let row = |mapping: &Mapping, of: &Measured| {
        vec![
            mapping.plugin.to_owned(),
            mapping.bytes_an_event.to_string(),
            format!("{:.2}", mapping.native_us_an_event),
            of.component.clone(),
            format!("{:.2}", of.host_us_an_event),
            format!("{:.2}", of.ratio),
            of.fuel_an_event.to_string(),
            mapping.turns.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = figures
        .mappings
        .iter()
        .flat_map(|mapping| mapping.components.iter().map(|of| row(mapping, of)))
        .collect();
    let titles = [
        "mapping",
        "bytes",
        "native µs",
        "component",
        "host µs",
        "ratio",
        "fuel",
        "turns",
    ];
    let mut text = weir::inside::cli::table(&titles, &rows);
    text.push_str(&format!(
        "\nall three together: {:.2} times the native cost (processor time per event, {} events per call)\n",
        figures.ratio, figures.events_a_call
    ));
    text
}
