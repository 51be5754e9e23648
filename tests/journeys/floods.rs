//! Floods: bodies that are held back, requests that become much more than they are, answers that are
//! large. What each costs in memory, and what it costs the others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::stage::CATALOG;
use crate::support::{Reply, Stage, change, guests, http};

/// Connections that announce 1 MiB and send two bytes of it.
const ANNOUNCED: usize = 2000;
/// Connections that send 8 MiB but for the last byte.
const HELD_BACK: usize = 32;
/// Requests of the honest sender in each measurement.
const HONEST: usize = 200;
/// A smaller difference is noise of the disk and of other tests on the machine. With the budget gone,
/// no request was taken at all.
const NOISE: Duration = Duration::from_millis(500);
/// What all of this may cost: the budget of bodies that arrive, 48 KiB for each connection, and a
/// rest that does not depend on the attack.
const GROWTH_MIB_MAX: u64 = 64 + (ANNOUNCED + HELD_BACK) as u64 * 48 / 1024 + 64;

// Two thousand connections that had sent two bytes each held 2.3 GB, and 32 that had sent 8 MiB but
// for a byte took the budget of all bodies: every sender of every source was answered 503. The
// attacker needs no secret, since only a complete body can be verified.
#[test]
fn bodies_that_are_held_back_cost_bounded_memory_and_the_others_nothing() {
    allow_descriptors(2 * (ANNOUNCED + HELD_BACK) as u64 + 1000);
    let signed =
        r#"verify = { kind = "hmac", header = "x-signature", secrets = ["a-long-secret"] }"#;
    let config = CATALOG.replace("[sources.erp]\n", &format!("[sources.erp]\n{signed}\n"));
    let stage = Stage::with(&config);
    let quiet = honest(&stage, "quiet");
    let before = resident_mib(&stage);

    let mut attack = Vec::new();
    for _ in 0..ANNOUNCED {
        attack.push(begin(&stage, 1 << 20, b"[["));
    }
    let almost = vec![b'['; (8 << 20) - 1];
    for _ in 0..HELD_BACK {
        attack.push(begin(&stage, 8 << 20, &almost));
    }
    let during = honest(&stage, "attacked");
    let growth = resident_mib(&stage).saturating_sub(before);
    println!("p99 {quiet:?} before, {during:?} during the attack; it costs {growth} MiB");
    assert!(
        during <= 2 * quiet + NOISE,
        "{quiet:?} before, {during:?} during"
    );
    assert!(growth <= GROWTH_MIB_MAX, "it costs {growth} MiB");

    // Most of the large ones have been told to come again.
    let mut told = 0;
    for stream in &mut attack[ANNOUNCED..] {
        stream.set_nonblocking(true).expect("non-blocking");
        let mut answer = [0; 12];
        told += usize::from(matches!(stream.read(&mut answer), Ok(12) if answer.ends_with(b"503")));
    }
    assert!(told >= HELD_BACK - 8, "{told} gave way");
}

/// Begins a request whose body does not end. Writing may fail once the body has given way.
fn begin(stage: &Stage, announced: usize, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(stage.weir().address()).expect("connected");
    let head = format!(
        "POST /v1/sources/erp/events HTTP/1.1\r\nhost: 127.0.0.1\r\nx-signature: 00\r\ncontent-length: {announced}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let _ = stream.write_all(body);
    stream
}

/// Sends small requests to another source, all of which must be taken; returns the 99th percentile
/// of their times.
fn honest(stage: &Stage, when: &str) -> Duration {
    let mut times: Vec<Duration> = (0..HONEST)
        .map(|number| {
            let start = Instant::now();
            stage.takes(
                "pim",
                &[change(&format!("{when}-{number}"), "content", json!(1))],
            );
            start.elapsed()
        })
        .collect();
    times.sort();
    times[HONEST * 99 / 100]
}

/// Sends a request that moves hundreds of megabytes, which takes its time without optimisation.
fn ask_patiently(stage: &Stage, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let connection = http::Connection::open(stage.weir().address());
    connection
        .and_then(|it| it.waiting(Duration::from_secs(240)))
        .and_then(|mut it| it.exchange("POST", path, headers, body.as_bytes()))
        .expect("a response")
}

/// The memory of Weir now.
fn resident_mib(stage: &Stage) -> u64 {
    status_mib(stage, "VmRSS:")
}

/// The most memory that Weir has had.
fn peak_mib(stage: &Stage) -> u64 {
    status_mib(stage, "VmHWM:")
}

/// Begins a new measurement of the peak; returns the memory now.
fn forget_peak(stage: &Stage) -> u64 {
    let path = format!("/proc/{}/clear_refs", stage.weir().pid());
    std::fs::write(path, "5").expect("the peak can be reset");
    resident_mib(stage)
}

fn status_mib(stage: &Stage, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.weir().pid()));
    let status = status.expect("the status of the process");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") / 1024
}

/// Allows this test, and the Weir that it starts, so many descriptors.
fn allow_descriptors(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised).expect("this test needs more descriptors");
    }
}

/// What a request may cost beyond the memory of a Weir at rest: two stretches of 32 MiB of changes,
/// a few copies of each on their way through the plugin, the checks and the store.
const REQUEST_MIB_MAX: u64 = 224;

/// A source whose lines become changes of 250 KB, and one that takes changes as they are.
const AMPLIFYING: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
facets.stock = { owner = "oms" }
[plugins.amplifying]
path = "amplifying.wasm"
[sources.erp]
plugins = ["amplifying"]
split = "lines"
[sources.oms]
"#;

// 11.6 KB of lines became a GB of changes before the first was written, and where the plugin failed
// on batches, 870 bytes became 5 GB: its output was bounded for a call, not for a request.
#[test]
fn what_a_request_becomes_is_bounded_however_much_a_mapper_makes_of_it() {
    for (mapper, lines, changes) in [
        (guests::amplifying::mapper(1), 480, 1),
        (guests::amplifying::mapper_of_single_events(64), 8, 64),
    ] {
        let mut stage = Stage::closed(AMPLIFYING);
        stage.place("amplifying.wasm", &mapper);
        stage.start();
        let before = resident_mib(&stage);
        let body: String = (0..lines).map(|line| format!("{}\n", line % 50)).collect();
        let path = "/v1/sources/erp/events";
        let reply = ask_patiently(&stage, path, &[("content-type", "text/plain")], &body);
        assert_eq!(reply.status, 202, "{}", reply.text());
        let counts = &reply.json()["changes"];
        let count = |name: &str| counts[name].as_u64().expect("a count");
        assert_eq!(
            count("committed") + count("unchanged"),
            lines * changes,
            "{counts}"
        );
        let growth = peak_mib(&stage).saturating_sub(before);
        let made = (lines * changes * u64::from(guests::amplifying::VALUE_BYTES)) >> 20;
        println!(
            "{} bytes of lines became {made} MiB and cost {growth} MiB",
            body.len()
        );
        assert!(growth <= REQUEST_MIB_MAX, "it cost {growth} MiB");
    }
}

// Four million items of two bytes each were collected before the first was counted: 31 such requests
// took 2.6 GB.
#[test]
fn many_small_items_cost_no_more_than_the_budget() {
    let stage = Stage::with(CATALOG);
    let before = resident_mib(&stage);
    let zeros = format!("[{}0]", "0,".repeat(4_000_000 - 1));
    let headers = [("content-type", "application/cloudevents-batch+json")];
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let reply = stage.send("erp", &headers, zeros.as_bytes());
                assert!([413, 503].contains(&reply.status), "{}", reply.text());
            });
        }
    });
    let growth = peak_mib(&stage).saturating_sub(before);
    println!("16 requests of 8 MiB with 4,000,000 items each cost {growth} MiB");
    assert!(growth <= 256 + 64 + 64, "they cost {growth} MiB");
}

// A page of the quarantine held 100 events of 7 MB at once, each several times, and `redrive all`
// held 32.
#[test]
fn large_events_in_quarantine_are_shown_and_redriven_a_few_at_a_time() {
    const EVENTS: u64 = 8;
    let stage = Stage::with(CATALOG);
    let large = change("q", "price.de", json!("z".repeat(7_000_000))).to_string();
    for number in 0..EVENTS {
        let number = number.to_string();
        let headers = [("content-type", "application/json"), ("x-number", &number)];
        let body = large.replace("\"q\"", &format!("\"q{number}\""));
        let reply = stage.send("erp", &headers, body.as_bytes());
        assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
    }
    let before = forget_peak(&stage);
    let (mut shown, mut after) = (0, String::new());
    loop {
        let page = stage
            .weir()
            .get(&format!("/v1/sources/erp/quarantine?limit=100{after}"));
        let page = page.json();
        shown += page["items"].as_array().expect("items").len() as u64;
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(shown, EVENTS);
    let listing = peak_mib(&stage).saturating_sub(before);
    let before = forget_peak(&stage);
    let path = "/v1/sources/erp/quarantine/redrive?all=true";
    let redriven = ask_patiently(&stage, path, &[], "");
    assert_eq!(redriven.json()["kept"], EVENTS, "{}", redriven.text());
    let redriving = peak_mib(&stage).saturating_sub(before);
    println!("{EVENTS} events of 7 MB: listing costs {listing} MiB, redriving {redriving} MiB");
    assert!(listing <= 96, "listing cost {listing} MiB");
    assert!(redriving <= 128, "redriving cost {redriving} MiB");
}
