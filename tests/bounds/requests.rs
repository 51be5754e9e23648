//! What requests may cost, whoever sends them and whatever becomes of them.

use std::io::Write;
use std::net::TcpStream;

use serde_json::json;

use crate::support::stage::CATALOG;
use crate::support::{Stage, change, eventually};
use crate::{Counted, amplifying};

/// Connections that announce a MiB and send two bytes of it.
const ANNOUNCED: usize = 1000;

// Two thousand connections that had sent two bytes each held 2.3 GB: memory was taken for what was
// announced.
pub fn bodies_that_are_announced_and_not_sent_cost_nothing() {
    let weir = Counted::start(Stage::closed(CATALOG));
    let before = weir.counts.live();
    // 16 KiB for a connection, and up to 80 KiB while a head or a body arrives.
    weir.costs_at_most("announced bodies", 16 + ANNOUNCED * 80 / 1024, |stage| {
        let begin = |_| {
            let mut stream = TcpStream::connect(stage.weir().address()).expect("connected");
            let head = "POST /v1/sources/erp/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\
                        content-length: 1048576\r\n\r\n[[";
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        };
        let streams: Vec<TcpStream> = (0..ANNOUNCED).map(begin).collect();
        stage.takes("pim", &[change("honest", "content", json!(1))]);
        drop(streams);
        // Each of them has been read to its end then.
        eventually("the connections are forgotten", || {
            (weir.counts.live() < before + (4 << 20)).then_some(())
        });
    });
}

/// A source whose lines become changes of 250 KB, and one that takes changes as they are.
const AMPLIFYING: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
[plugins.amplifying]
path = "amplifying.wasm"
[sources.erp]
plugins = ["amplifying"]
split = "lines"
"#;

/// The bytes that a request may become on its way: two stretches of 32 MiB of changes, and a copy of
/// each where it is written.
const REQUEST_MIB_MAX: usize = 160;

// 11.6 KB of lines became a GB of changes before the first was written: the output of a plugin was
// bounded for a call, not for a request.
pub fn a_request_is_bounded_however_much_a_mapper_makes_of_it() {
    amplified(&amplifying::mapper(1), 960, 1);
}

// Where the plugin failed on batches, 870 bytes became 5 GB: the results of each event alone were kept
// until the last one was there.
pub fn a_request_is_bounded_though_its_mapper_fails_on_batches() {
    amplified(&amplifying::mapper_of_single_events(64), 16, 64);
}

fn amplified(mapper: &[u8], lines: u64, changes: u64) {
    let stage = Stage::closed(AMPLIFYING);
    stage.place("amplifying.wasm", mapper);
    let weir = Counted::start(stage);
    let body: String = (0..lines).map(|line| format!("{}\n", line % 50)).collect();
    let made = (lines * changes * u64::from(amplifying::VALUE_BYTES)) >> 20;
    let what = format!("{} bytes of lines that become {made} MiB", body.len());
    weir.costs_at_most(&what, REQUEST_MIB_MAX, |stage| {
        let reply = stage.send("erp", &[("content-type", "text/plain")], body.as_bytes());
        assert_eq!(reply.status, 202, "{}", reply.text());
        let counts = &reply.json()["changes"];
        let count = |name: &str| counts[name].as_u64().expect("a count");
        assert_eq!(count("committed") + count("unchanged"), lines * changes);
    });
}

// Four million members of two bytes each were collected before the first was counted: 31 such requests
// took 2.6 GB.
pub fn members_are_counted_before_they_are_collected() {
    let weir = Counted::start(Stage::closed(CATALOG));
    let zeros = format!("[{}0]", "0,".repeat(4_000_000 - 1));
    let send = |stage: &Stage| {
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let reply = stage.send("erp", &headers, zeros.as_bytes());
        assert!([413, 503].contains(&reply.status), "{}", reply.text());
    };
    // The body, and the most events that a request may have at 512 bytes each.
    weir.costs_at_most("a request of 4,000,000 members", 8 + 64, send);
    // The budgets of all requests, and of bodies that arrive.
    weir.costs_at_most("16 requests of 4,000,000 members", 256 + 64, |stage| {
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| send(stage));
            }
        });
    });
}

// A page of the quarantine held 100 events of 7 MB at once, each several times, and `redrive all`
// held 32.
pub fn large_events_in_quarantine_are_shown_and_redriven_a_few_at_a_time() {
    const EVENTS: u64 = 12;
    let mut weir = Counted::start(Stage::closed(CATALOG));
    let large = change("q", "price.de", json!("z".repeat(7_000_000))).to_string();
    for number in 0..EVENTS {
        let number = number.to_string();
        let headers = [("content-type", "application/json"), ("x-number", &number)];
        let body = large.replace("\"q\"", &format!("\"q{number}\""));
        let reply = weir.stage.send("erp", &headers, body.as_bytes());
        assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
    }
    weir.stage.stop();
    let weir = Counted::start(weir.stage);
    weir.costs_at_most("listing events of 7 MB in quarantine", 96, |stage| {
        let (mut shown, mut after) = (0, String::new());
        loop {
            let path = format!("/v1/sources/erp/quarantine?limit=100{after}");
            let page = stage.weir().get(&path).json();
            shown += page["items"].as_array().expect("items").len() as u64;
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(shown, EVENTS);
    });
    weir.costs_at_most("redriving them", 128, |stage| {
        let path = "/v1/sources/erp/quarantine/redrive?all=true";
        let redriven = stage.weir().post(path);
        assert_eq!(redriven.json()["kept"], EVENTS, "{}", redriven.text());
    });
}
