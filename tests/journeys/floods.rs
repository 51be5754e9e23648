//! Bodies that are held back: what they cost in memory, and what they cost the others. `tests/bounds`
//! measures what whole requests may cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::support::stage::CATALOG;
use crate::support::{Stage, change};

/// Connections that announce 1 MiB and send two bytes of it.
const ANNOUNCED: usize = 2000;
/// Connections that send 8 MiB but for the last byte.
const HELD_BACK: usize = 32;
/// Requests of the honest sender in each measurement.
const HONEST: usize = 200;
/// A smaller difference is noise. With the budget gone, no request was accepted at all.
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
    // Another Weir that nobody attacks waits for the same disk and the same processors.
    let spared = Stage::with(&config);
    honest(&stage, &spared, "quiet");
    let before = resident_mib(&stage);

    let mut attack = Vec::new();
    for _ in 0..ANNOUNCED {
        attack.push(begin(&stage, 1 << 20, b"[["));
    }
    let almost = vec![b'['; (8 << 20) - 1];
    for _ in 0..HELD_BACK {
        attack.push(begin(&stage, 8 << 20, &almost));
    }
    let (attacked, elsewhere) = honest(&stage, &spared, "attacked");
    let growth = resident_mib(&stage).saturating_sub(before);
    println!("p95 {attacked:?} under attack, {elsewhere:?} elsewhere; it costs {growth} MiB");
    assert!(
        attacked <= 2 * elsewhere + NOISE,
        "{attacked:?} under attack, {elsewhere:?} elsewhere"
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

/// Sends small requests to another source of both, in turn, so that a pause of the machine meets both
/// alike. All must be accepted. Returns the 95th percentile of the times of each.
fn honest(stage: &Stage, spared: &Stage, when: &str) -> (Duration, Duration) {
    let post = |stage: &Stage, number: usize| {
        let content = change(&format!("{when}-{number}"), "content", json!(1));
        let start = Instant::now();
        stage.takes("pim", &[content]);
        start.elapsed()
    };
    let (mut here, mut there): (Vec<_>, Vec<_>) = (0..HONEST)
        .map(|number| (post(stage, number), post(spared, number)))
        .unzip();
    here.sort();
    there.sort();
    (here[HONEST * 95 / 100], there[HONEST * 95 / 100])
}

/// The memory of Weir now.
fn resident_mib(stage: &Stage) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.weir().pid()));
    let status = status.expect("the status of the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
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
