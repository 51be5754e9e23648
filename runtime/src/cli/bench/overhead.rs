//! `weir bench overhead`: what it costs that a mapping is a plugin.
//!
//! The same function maps the same events, once called natively and once as a component through the host as ingest calls it, in
//! turns and in one process. What is compared is processor time of all threads, so the hand-over to the workers, the copies in and
//! out and the checks of what a guest gives back are in the host's figure. The native side ends with the same values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::client::pretty;
use super::events::{Products, System};
use super::{OverheadArgs, clock, component, unreachable};
use crate::cli::{Failure, Outcome};
use crate::model::{Change, Event, Payload};
use crate::plugin::{self, Class, EventVerdict, Host, Limits, SourceChain, Use};

/// Events in a call, as in a request of the ingest benchmark.
const EVENTS: usize = 500;
/// How long each side is measured before it is the other's turn.
const TURN: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
pub(super) struct Figures {
    events_a_call: usize,
    mappings: Vec<Mapping>,
    /// Of all mappings, each as often as the others.
    ratio: f64,
}

/// One mapping; times are medians of turns.
#[derive(Debug, Serialize)]
struct Mapping {
    plugin: &'static str,
    bytes_an_event: usize,
    native_us_an_event: f64,
    host_us_an_event: f64,
    ratio: f64,
    turns: usize,
}

pub(super) fn run(args: &OverheadArgs, out: &mut String) -> Outcome {
    let figures = measure(args)?;
    out.push_str(&if args.common.json { pretty(&figures) } else { told(&figures) });
    Ok(true)
}

pub(super) fn measure(args: &OverheadArgs) -> Result<Figures, Failure> {
    let host = Host::start(&plugin::Options::default()).map_err(|error| unreachable("no plugin host", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| unreachable("cannot start", error))?;
    let products = Products::new(200_000);
    let numbers = std::sync::atomic::AtomicU64::new(1);
    let mut mappings = Vec::new();
    for system in System::ALL {
        let chain = chain(&host, args, system)?;
        let events = Arc::new(events(system, &products, &numbers));
        eprintln!("measuring {} for {} s", system.plugin(), 2 * args.seconds.max(1));
        let native = native(system).map_err(Failure::No)?;
        let by_host = || runtime.block_on(host.map(&chain, events.clone(), Class::Ingest));
        let natively = || events.iter().map(&native).collect::<Vec<_>>();
        if natively() != by_host() {
            return Err(Failure::No(format!("{} gives other changes natively than as a component", system.plugin())));
        }
        mappings.push(compare(system, &events, args.seconds.max(1), natively, by_host));
    }
    let sum = |side: fn(&Mapping) -> f64| mappings.iter().map(side).sum::<f64>();
    let ratio = sum(|mapping| mapping.host_us_an_event) / sum(|mapping| mapping.native_us_an_event);
    Ok(Figures { events_a_call: EVENTS, mappings, ratio: round(ratio) })
}

fn chain(host: &Host, args: &OverheadArgs, system: System) -> Result<Arc<SourceChain>, Failure> {
    let path = component(&args.common.plugins, system)?;
    let bytes = std::fs::read(&path).map_err(|error| unreachable(&format!("cannot read {}", path.display()), error))?;
    let no = |fault: plugin::Fault| Failure::No(fault.to_string());
    let component = host.load(system.plugin(), &bytes, Limits::default()).map_err(no)?;
    let of = Use::configure(&component, &system.settings().to_string()).map_err(no)?;
    SourceChain::new(&[of]).map(Arc::new).map_err(no)
}

fn events(system: System, products: &Products, numbers: &std::sync::atomic::AtomicU64) -> Vec<Event> {
    let event = |n| {
        let mut data = Vec::new();
        system.write_one(products.drawn(n), numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed), &mut data);
        Event {
            id: String::new(),
            origin: String::new(),
            event_type: String::new(),
            subject: None,
            time: None,
            content_type: Some(system.content_type(false).to_owned()),
            attributes: Vec::new(),
            data: Payload::from_bytes(data),
        }
    };
    (0..EVENTS).map(event).collect()
}

/// A mapping that is compiled in.
type Native = Box<dyn Fn(&Event) -> EventVerdict>;

/// The plugin's own function between Weir's types, as a mapping that is compiled in would be.
fn native(system: System) -> Result<Native, String> {
    let settings = system.settings().to_string();
    fn text(event: &Event) -> &str {
        match &event.data {
            Payload::Text(text) => text,
            Payload::Binary(_) => "",
        }
    }
    Ok(match system {
        System::Pim => {
            let settings = pim_product::Settings::parse(&settings)?;
            Box::new(move |event| {
                let seen = pim_product::Event { event_type: &event.event_type, time: event.time.as_deref(), data: text(event) };
                verdict(pim_product::changes(seen, &settings).ok(), |of| {
                    change(pim_product::ENTITY_TYPE, of.key, of.facet, of.value, of.version)
                })
            })
        }
        System::Erp => {
            let settings = erp_product::Settings::parse(&settings)?;
            Box::new(move |event| {
                let changes = erp_product::changes(text(event), &settings).ok();
                verdict(changes, |of| change(erp_product::ENTITY_TYPE, of.key, of.facet, of.value, of.version))
            })
        }
        System::Oms => {
            let settings = oms_stock::Settings::parse(&settings)?;
            Box::new(move |event| {
                let seen = oms_stock::Event { topic: None, time: event.time.as_deref(), data: text(event) };
                verdict(oms_stock::changes(seen, &settings).ok(), |of| {
                    change(oms_stock::ENTITY_TYPE, of.key, of.facet, of.value, of.version)
                })
            })
        }
    })
}

/// The events here all map; one that did not would not be equal to what the host gives.
fn verdict<C>(changes: Option<Vec<C>>, change: impl Fn(C) -> Change) -> EventVerdict {
    EventVerdict::Changes(changes.unwrap_or_default().into_iter().map(change).collect())
}

fn change(entity_type: &str, key: String, facet: String, value: Option<String>, version: Option<u64>) -> Change {
    Change { entity_type: entity_type.to_owned(), key, facet, value: value.map(String::into_boxed_str), version, lane: None }
}

fn compare(
    system: System,
    events: &[Event],
    seconds: u64,
    native: impl Fn() -> Vec<EventVerdict>,
    host: impl Fn() -> Vec<EventVerdict>,
) -> Mapping {
    let (mut natives, mut hosts) = (Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(2 * seconds);
    while Instant::now() < end {
        natives.push(turn(&native));
        hosts.push(turn(&host));
    }
    let (native, host) = (median(&mut natives), median(&mut hosts));
    let bytes: usize = events.iter().map(|event| event.data.as_bytes().len()).sum();
    Mapping {
        plugin: system.plugin(),
        bytes_an_event: bytes / events.len().max(1),
        native_us_an_event: round(native),
        host_us_an_event: round(host),
        ratio: round(host / native),
        turns: natives.len(),
    }
}

/// Processor time of an event in microseconds, over one turn.
fn turn(map: impl Fn() -> Vec<EventVerdict>) -> f64 {
    let (started, cpu, mut events) = (Instant::now(), clock::of_process(), 0);
    while started.elapsed() < TURN {
        events += std::hint::black_box(map()).len();
    }
    (clock::of_process() - cpu).as_secs_f64() * 1e6 / events.max(1) as f64
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn round(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

fn told(figures: &Figures) -> String {
    let row = |mapping: &Mapping| {
        vec![
            mapping.plugin.to_owned(),
            mapping.bytes_an_event.to_string(),
            format!("{:.2}", mapping.native_us_an_event),
            format!("{:.2}", mapping.host_us_an_event),
            format!("{:.2}", mapping.ratio),
            mapping.turns.to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = figures.mappings.iter().map(row).collect();
    let mut text = super::super::table::table(&["mapping", "bytes", "native us", "host us", "ratio", "turns"], &rows);
    text.push_str(&format!(
        "\nall three together: {:.2} times the native cost (processor time of an event, {} events a call)\n",
        figures.ratio, figures.events_a_call
    ));
    text
}
