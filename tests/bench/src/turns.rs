//! `weir-bench turns`: how long a source waits for its small requests while another keeps the writer
//! busy with heavy ones.
//!
//! One connection posts one event at a time. Another source sends as fast as it is answered: events of
//! 4,096 changes of one entity, then of 4,096 entities, then a flood of single changes. No small
//! request may wait longer than 100 ms for them, but for one in a hundred.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::FullArgs;
use crate::clock::{Phase, round};
use crate::post::{CONNECTIONS, Request, Tally, post};
use crate::progress::Progress;
use crate::report::Report;
use crate::stage::Stage;
use weir::inside::cli::{CommandResult, Failure};

/// Seconds of each phase at full size.
const SECONDS: f64 = 20.0;
/// The longest that all but one in a hundred of the small requests may take.
const WAIT_MS_MAX: f64 = 100.0;
/// The most changes that an event may have.
const CHANGES: usize = 4_096;
/// Heavy events, and light ones, of a request.
const HEAVY: usize = 16;
const LIGHT: usize = 5_000;

/// Fills in a request of the busy source; gets the number of the request.
type Load = fn(usize, &mut Request);

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("turns", args.scale);
    let stage = Stage::start(
        args.folder.as_deref(),
        &json!({
            "config_version": 1,
            "server": { "listen": "127.0.0.1:0", "reload": "signal" },
            "store": { "path": "data" },
            "entities": { "product": { "facets": {
                "price.*": { "owner": "erp" },
                "stock": { "owner": "oms" },
            } } },
            "sources": { "erp": {}, "oms": {} },
        }),
    )?;
    let loads: [(&str, Option<Load>); 4] = [
        ("alone", None),
        ("events_of_one_entity", Some(one_entity)),
        ("events_of_many_entities", Some(many_entities)),
        ("a_flood", Some(flood)),
    ];
    for (name, load) in loads {
        let _progress = Progress::begin(&name.replace('_', " "), 1);
        let phase = Phase::start();
        let end = Instant::now() + Duration::from_secs_f64(SECONDS * args.scale);
        let (small, busy) = beside(&stage, end, load)?;
        let ms = |quantile| small.latency.value_at_quantile(quantile) as f64 / 1000.0;
        report.figure(&format!("small_requests_{name}"), small.requests);
        report.figure(&format!("p50_ms_{name}"), round(ms(0.5), 1));
        if load.is_some() {
            report.at_most(&format!("p99_ms_{name}"), ms(0.99), WAIT_MS_MAX);
        } else {
            report.figure(&format!("p99_ms_{name}"), round(ms(0.99), 1));
        }
        report.figure(&format!("max_ms_{name}"), round(ms(1.0), 1));
        if let Some(busy) = busy {
            let changes = (busy.committed + busy.unchanged) as f64 / busy.wall.as_secs_f64();
            report.figure(&format!("changes_per_second_{name}"), round(changes, 0));
        }
        report.usage(name, &phase.end(small.cpu));
    }
    stage.stop();
    report.end(args.common.json, out)
}

/// Posts small requests of one source until `end`, and those of the load on another meanwhile.
fn beside(
    stage: &Stage,
    end: Instant,
    load: Option<Load>,
) -> Result<(Tally, Option<Tally>), Failure> {
    let to = stage.address();
    let posted = std::thread::scope(|scope| {
        let busy = load.map(|load| {
            scope.spawn(move || {
                post(to, CONNECTIONS, move |number, _, request| {
                    request.source = "erp";
                    load(number, request);
                    Instant::now() < end
                })
            })
        });
        let small = post(to, 1, move |number, _, request| {
            (request.source, request.events) = ("oms", 1);
            line(&mut request.body, number % 10_000, "stock", number);
            Instant::now() < end
        });
        let busy = busy.map(|busy| {
            busy.join()
                .unwrap_or_else(|_| Err("the load panicked".into()))
        });
        Ok::<_, String>((small?, busy.transpose()?))
    });
    posted.map_err(Failure::Failed)
}

fn one_entity(number: usize, request: &mut Request) {
    heavy(request, |event, change, changes| {
        let facet = format!("price.{}", change % 500);
        object(changes, event, &facet, number * HEAVY + change / 500);
    });
}

fn many_entities(number: usize, request: &mut Request) {
    heavy(request, |event, change, changes| {
        let key = (number * HEAVY + event) * CHANGES + change;
        object(changes, key % 1_000_000, "price.de", number);
    });
}

/// Fills in events of many changes, each an array in a line of its own.
fn heavy(request: &mut Request, write: impl Fn(usize, usize, &mut Vec<u8>)) {
    request.events = HEAVY as u64;
    for event in 0..HEAVY {
        for change in 0..CHANGES {
            request.body.push(if change == 0 { b'[' } else { b',' });
            write(event, change, &mut request.body);
        }
        request.body.extend_from_slice(b"]\n");
    }
}

fn flood(number: usize, request: &mut Request) {
    request.events = LIGHT as u64;
    for event in 0..LIGHT {
        let key = (number * LIGHT + event) % 200_000;
        line(&mut request.body, key, "price.de", number);
    }
}

fn line(body: &mut Vec<u8>, key: usize, facet: &str, value: usize) {
    object(body, key, facet, value);
    body.push(b'\n');
}

fn object(body: &mut Vec<u8>, key: usize, facet: &str, value: usize) {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write!(
        text,
        r#"{{"type":"product","key":"{key}","facet":"{facet}","value":{value}}}"#
    );
    body.extend_from_slice(text.as_bytes());
}
