//! Feeds, from outside: events come in, and whoever fetches the file gets a whole and current one.

mod bucket;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::parts::part;
use crate::support::{Ends, Reply, Stage, becomes, change, deletion, eventually};

const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.google]
kind = "feed"
format = "csv"
fields = { key = "/key", price = "/facets/content" }
interval = "100ms"
[channels.google]
entity = "product"
facets = ["content"]
target = "google"
retry = { first = "20ms", cap = "100ms" }
withdraw_max = { share = "100%", per = "1h", min = 1000000 }
"#;

fn key(number: usize) -> String {
    format!("p{number:05}")
}

fn changes(numbers: std::ops::Range<usize>, price: u64) -> Vec<Value> {
    let changed = |number| change(&key(number), "content", json!(price));
    numbers.map(changed).collect()
}

fn fetch(stage: &Stage, headers: &[(&str, &str)]) -> Reply {
    stage.weir().ask("GET", "/v1/feeds/google", headers, b"")
}

/// The records of a file, which must be whole.
pub fn records(body: &[u8]) -> BTreeMap<String, u64> {
    let text = std::str::from_utf8(body).expect("UTF-8");
    assert!(text.ends_with("\r\n"), "the last line is whole");
    let mut lines = text.split_terminator("\r\n");
    assert_eq!(lines.next(), Some("key,price"));
    let record = |line: &str| {
        let (key, price) = line.split_once(',').expect("two columns");
        (key.to_owned(), price.parse().expect("a price"))
    };
    lines.map(record).collect()
}

/// Waits until the feed has exactly these records.
#[track_caller]
fn holds(stage: &Stage, expected: impl IntoIterator<Item = (usize, u64)>) {
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|(at, price)| (key(at), price))
        .collect();
    becomes("the number of records", expected.len(), || {
        let reply = fetch(stage, &[]);
        if reply.status == 200 {
            records(&reply.body).len()
        } else {
            0
        }
    });
    becomes("the records", expected, || records(&fetch(stage, &[]).body));
}

// Weir was killed within a second of its first delivery after a stop. The mark in its store was still that of the stop,
// which included all deliveries, so the files seemed to be newer than the store, and everything was sent again.
#[test]
fn a_weir_that_is_killed_soon_after_a_stop_knows_its_files_again() {
    let mut stage = Stage::with(CATALOG);
    let price = |stage: &Stage| {
        let reply = fetch(stage, &[]);
        (reply.status == 200)
            .then(|| records(&reply.body))?
            .remove(&key(0))
    };
    stage.takes("pim", &changes(0..10, 1));
    stage.settles("google");
    for number in 2..6 {
        stage.stop();
        stage.start();
        stage.takes("pim", &changes(0..1, number));
        becomes("the price", Some(number), || price(&stage));
        stage.kill();
        stage.start();
        stage.takes("pim", &changes(1..2, number));
        stage.settles("google");
        let said = stage.weir().log();
        assert!(!said.contains("does not hold any more"), "{said}");
    }
}

// A reload replaced a feed within a second of its first delivery. The one that took its files over knew how far they were,
// the store did not, and after a crash everything was sent again.
#[test]
fn a_weir_that_is_killed_soon_after_a_reload_knows_its_files_again() {
    let mut stage = Stage::with(CATALOG);
    stage.takes("pim", &changes(0..10, 1));
    stage.settles("google");
    stage.reloads(&CATALOG.replace("100ms", "200ms"));
    stage.kill();
    stage.start();
    stage.takes("pim", &changes(0..1, 2));
    stage.settles("google");
    let said = stage.weir().log();
    assert!(!said.contains("does not hold any more"), "{said}");
}

#[test]
fn a_catalogue_is_fetched_changed_and_withdrawn() {
    let stage = Stage::with(CATALOG);
    let early = fetch(&stage, &[]);
    assert_eq!(
        (early.status, early.header("retry-after")),
        (503, Some("60"))
    );
    assert_eq!(stage.weir().get("/v1/feeds/none").status, 404);
    stage.takes("pim", &changes(0..2_000, 1));
    holds(&stage, (0..2_000).map(|at| (at, 1)));
    stage.takes("pim", &changes(0..10, 2));
    stage.takes("pim", &[deletion(&key(1_999), "content")]);
    let expected = (0..1_999).map(|at| (at, if at < 10 { 2 } else { 1 }));
    holds(&stage, expected);
    // A generation is served a moment before it is counted.
    becomes("the counts", (json!(1_999), json!(0)), || {
        let feed = &stage.channel("google")["feed"];
        let records = feed["generation"]["records"].clone();
        (records, feed["unpublished"].clone())
    });
    let (_, listed) = stage.tell(&["channel", "list"]);
    assert!(listed.contains("with 1999 records"), "{listed}");
}

#[test]
fn fetchers_ask_whether_it_changed_take_it_packed_and_resume() {
    let stage = Stage::with(CATALOG);
    // More than is packed in a piece: curl once took the first of them for the whole file.
    stage.takes("pim", &changes(0..2_000, 1));
    holds(&stage, (0..2_000).map(|at| (at, 1)));
    let whole = fetch(&stage, &[]);
    let header = |name| {
        whole
            .header(name)
            .unwrap_or_else(|| panic!("no {name}"))
            .to_owned()
    };
    let (etag, modified) = (header("etag"), header("last-modified"));
    assert_eq!(header("content-length"), whole.body.len().to_string());
    assert_eq!(header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(
        (header("accept-ranges"), header("vary")),
        ("bytes".into(), "accept-encoding".into())
    );

    for condition in [("if-none-match", &etag), ("if-modified-since", &modified)] {
        let same = fetch(&stage, &[(condition.0, condition.1)]);
        assert_eq!((same.status, same.body.len()), (304, 0));
        assert_eq!(same.header("etag"), Some(&*etag));
        assert!(same.header("last-modified").is_some() && same.header("vary").is_some());
    }
    let packed = fetch(&stage, &[("accept-encoding", "gzip")]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert_ne!(packed.header("etag"), Some(&*etag), "each form has its own");
    let file = stage.weir().get("/v1/feeds/google.gz");
    assert_eq!(file.body, packed.body);
    assert_eq!(file.header("content-type"), Some("application/gzip"));
    assert_eq!(
        file.header("content-encoding"),
        None,
        "or it is unpacked twice"
    );

    let part = fetch(&stage, &[("range", "bytes=10-19"), ("if-range", &etag)]);
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..20]));
    let range = format!("bytes 10-19/{}", whole.body.len());
    assert_eq!(part.header("content-range"), Some(&*range));
    let behind = fetch(&stage, &[("range", "bytes=9999999-")]);
    assert_eq!(behind.status, 416);
    let other = fetch(
        &stage,
        &[("range", "bytes=10-19"), ("if-range", "\"other\"")],
    );
    assert_eq!((other.status, other.body.len()), (200, whole.body.len()));
    assert_eq!(fetch(&stage, &[("if-match", "\"other\"")]).status, 412);

    // HEAD on a bare socket: nothing comes behind the head.
    let mut socket = TcpStream::connect(stage.weir().address()).expect("connected");
    socket
        .write_all(
            b"HEAD /v1/feeds/google HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
        )
        .expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("read");
    let length = format!("content-length: {}\r\n", whole.body.len());
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(&length),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");

    if let Some(curl) = part_of_curl() {
        let url = format!("http://{}/v1/feeds/google", stage.weir().address());
        let run = |arguments: &[&str]| {
            let output = Command::new(&curl)
                .args(arguments)
                .output()
                .expect("it runs");
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        assert_eq!(run(&["-s", "-f", "--compressed", &url]), whole.body);
        assert_eq!(run(&["-s", "-f", &url]), whole.body);
        let packed = run(&["-s", "-f", "--compressed", &format!("{url}.gz")]);
        assert_eq!(
            packed, file.body,
            "a file of its own is not unpacked on the way"
        );
        assert_eq!(run(&["-s", "-f", "-r", "5-8", &url]), whole.body[5..9]);
    }
}

fn part_of_curl() -> Option<std::path::PathBuf> {
    part("curl", "whether curl fetches a feed")
}

/// The tag of a generation with these bytes: it is their digest.
fn tag(body: &[u8]) -> String {
    format!("\"{:032x}\"", xxhash_rust::xxh3::xxh3_128(body))
}

/// Fetches in pieces, each on a connection of its own, and starts again when the server sends the whole file. What
/// it returns are the bytes of one generation.
fn in_pieces(address: SocketAddr) -> Vec<u8> {
    let (mut body, mut etag) = (Vec::new(), String::new());
    loop {
        let range = format!("bytes={}-{}", body.len(), body.len() + 5_000);
        let mut headers = vec![("range", &*range)];
        if !etag.is_empty() {
            headers.push(("if-range", &*etag));
        }
        let reply = request(address, "GET", "/v1/feeds/google", &headers, b"").expect("an answer");
        let new = reply.header("etag").unwrap_or_default().to_owned();
        match reply.status {
            200 => body = reply.body.clone(),
            206 => body.extend(&reply.body),
            416 => {
                assert_eq!(tag(&body), etag, "all pieces are of one generation");
                return body;
            }
            other => panic!("{other} {}", reply.text()),
        }
        etag = new;
        let whole = reply
            .header("content-range")
            .and_then(|it| it.split_once('/'));
        let whole = whole.and_then(|(_, length)| length.parse().ok());
        if whole.unwrap_or(body.len()) == body.len() {
            assert_eq!(tag(&body), etag, "all pieces are of one generation");
            return body;
        }
    }
}

// A resumed download of a feed that was replaced meanwhile was spliced of two, and the receiver deleted
// half of the catalogue.
#[test]
fn downloads_that_resume_while_the_feed_is_replaced_are_whole() {
    let stage = Stage::with(CATALOG);
    stage.takes("pim", &changes(0..2_000, 1));
    holds(&stage, (0..2_000).map(|at| (at, 1)));
    let over = AtomicBool::new(false);
    let address = stage.weir().address();
    let mut generations = BTreeSet::new();
    std::thread::scope(|scope| {
        let ends = Ends(&over);
        let fetchers: Vec<_> = (0..2)
            .map(|_| {
                let over = &over;
                scope.spawn(move || {
                    let mut fetched = 0;
                    while !over.load(Ordering::SeqCst) {
                        let body = in_pieces(address);
                        let prices: BTreeSet<u64> = records(&body).into_values().collect();
                        // Each change is of all records in one request.
                        assert_eq!(records(&body).len(), 2_000);
                        assert!(prices.len() <= 2, "of two generations at most: {prices:?}");
                        fetched += 1;
                    }
                    fetched
                })
            })
            .collect();
        let replaced = (2..22).try_for_each(|price| {
            stage.takes("pim", &changes(0..2_000, price));
            let newest = eventually("the next generation", || {
                let reply = fetch(&stage, &[]);
                let records = records(&reply.body);
                let newest = records.values().all(|it| *it == price);
                newest
                    .then(|| reply.header("etag").map(str::to_owned))
                    .flatten()
            });
            generations.insert(newest).then_some(()).ok_or(())
        });
        drop(ends);
        let fetched: usize = fetchers
            .into_iter()
            .map(|it| it.join().expect("each is whole"))
            .sum();
        assert!(replaced.is_ok() && fetched > 2, "{fetched} downloads");
    });
    assert_eq!(generations.len(), 20);
}

#[test]
fn a_feed_that_shrinks_is_held_until_it_is_confirmed() {
    let stage = Stage::with(CATALOG);
    stage.takes("pim", &changes(0..100, 1));
    holds(&stage, (0..100).map(|at| (at, 1)));
    let gone: Vec<Value> = (0..50).map(|at| deletion(&key(at), "content")).collect();
    stage.takes("pim", &gone);
    // A generation may be due in the middle of the deletions.
    let held = eventually("it is held", || {
        let feed = stage.channel("google")["feed"].clone();
        (feed["held"] == json!({"records": 50, "before": 100})).then_some(feed)
    });
    assert!(
        held["reason"].to_string().contains("weir channel confirm"),
        "{held:#}"
    );
    let served = records(&fetch(&stage, &[]).body).len();
    assert!((80..=100).contains(&served), "{served} records are served");
    let standing = stage.stands(&key(3), "google", "withdrawn");
    assert!(
        standing["detail"]
            .to_string()
            .contains("in the next generation"),
        "{standing:#}"
    );
    let (code, said) = stage.tell(&["channel", "confirm", "google"]);
    assert_eq!(code, 0, "{said}");
    holds(&stage, (50..100).map(|at| (at, 1)));
}

#[test]
fn killed_at_any_point_of_a_build_the_last_generation_stays_and_nothing_is_lost() {
    for point in weir::inside::failpoint::POINTS_OF_FEEDS {
        // The first generation passes twice where the manifest is switched: with the first run as well.
        for pass in [1, 3] {
            let mut stage = Stage::closed(CATALOG);
            stage.start();
            stage.takes("pim", &changes(0..300, 1));
            holds(&stage, (0..300).map(|at| (at, 1)));
            let before = fetch(&stage, &[]);
            stage.stop();
            stage.start_with(&[("WEIR_FAIL", &format!("{point}=kill@{pass}"))]);
            let mut price = 1;
            eventually(&format!("{point}@{pass} kills it"), || {
                price += 1;
                let lines: Vec<String> = changes(0..300, price)
                    .iter()
                    .map(Value::to_string)
                    .collect();
                // It may die with the request or after it.
                let _ = request(
                    stage.weir().address(),
                    "POST",
                    "/v1/sources/pim/events",
                    &[("content-type", "application/x-ndjson")],
                    lines.join("\n").as_bytes(),
                );
                std::thread::sleep(Duration::from_millis(50));
                stage.has_ended().then_some(())
            });
            stage.kill();
            // So that no other generation is built before it is looked at.
            stage.configure(&CATALOG.replace("\"100ms\"\n[channels", "\"1h\"\n[channels"));
            stage.start();
            let after = fetch(&stage, &[]);
            assert_eq!(after.status, 200, "{point}: a generation is served at once");
            assert_eq!(records(&after.body).len(), 300, "{point}");
            let etag = after.header("etag").unwrap_or_default().to_owned();
            assert_eq!(etag, tag(&after.body), "{point}");
            if pass == 1 {
                assert_eq!(Some(&*etag), before.header("etag"), "{point}");
                assert!(after.body == before.body, "{point}: the old bytes");
            }
            stage.reloads(CATALOG);
            stage.takes("pim", &changes(0..301, 99));
            holds(&stage, (0..301).map(|at| (at, 99)));
        }
    }
}

// A hundred fetchers came at once, and each got so little that all of them gave up in the middle.
#[test]
fn a_fetcher_too_many_is_told_to_come_again() {
    let stage = Stage::with(CATALOG);
    // More than a socket that nobody reads takes.
    let long = "x".repeat(60_000);
    let changed = |number| change(&key(number), "content", json!(long));
    for first in (0..300).step_by(100) {
        let changes: Vec<Value> = (first..first + 100).map(changed).collect();
        stage.takes("pim", &changes);
    }
    let length = |stage: &Stage| {
        let feed = stage.channel("google")["feed"].clone();
        feed["generation"]["records"].as_u64()
    };
    becomes("the feed", Some(300), || length(&stage));
    let etag = fetch(&stage, &[])
        .header("etag")
        .unwrap_or_default()
        .to_owned();
    let ask = b"GET /v1/feeds/google HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    let mut readers: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut socket = TcpStream::connect(stage.weir().address()).expect("connected");
            socket.write_all(ask).expect("sent");
            let mut begin = [0; 12];
            socket.read_exact(&mut begin).expect("it is answered");
            assert_eq!(&begin, b"HTTP/1.1 200");
            socket
        })
        .collect();
    let many = fetch(&stage, &[]);
    assert_eq!((many.status, many.header("retry-after")), (503, Some("30")));
    assert!(many.text().contains("64 downloads"), "{}", many.text());
    // Who asks whether anything is new takes no place, and one that has gone gives back its own.
    let same = fetch(&stage, &[("if-none-match", &etag)]);
    assert_eq!(same.status, 304);
    readers.pop();
    eventually("a place", || {
        (fetch(&stage, &[]).status == 200).then_some(())
    });
}

// The store was restored from a backup of the night, and the feed kept products of the day for ever.
#[test]
fn a_restored_store_or_lost_files_lead_to_a_new_whole_generation() {
    let mut stage = Stage::with(CATALOG);
    stage.takes("pim", &changes(0..100, 1));
    holds(&stage, (0..100).map(|at| (at, 1)));
    stage.stop();
    let own = stage.folder().join("data/targets/google");
    assert!(
        own.join("manifest").exists(),
        "its files are where they are expected"
    );
    std::fs::remove_dir_all(&own).expect("removed");
    stage.start();
    holds(&stage, (0..100).map(|at| (at, 1)));
    // A copy of the store from before the next changes.
    stage.stop();
    let (store, copy) = (
        stage.folder().join("data/store"),
        stage.folder().join("copy"),
    );
    let copies = |from: &std::path::Path, to: &std::path::Path| {
        let done = Command::new("cp").arg("-r").arg(from).arg(to).status();
        assert!(done.is_ok_and(|it| it.success()), "copied");
    };
    copies(&store, &copy);
    stage.start();
    stage.takes("pim", &changes(100..110, 1));
    holds(&stage, (0..110).map(|at| (at, 1)));
    stage.stop();
    std::fs::remove_dir_all(&store).expect("removed");
    copies(&copy, &store);
    stage.start();
    holds(&stage, (0..100).map(|at| (at, 1)));
    stage.takes("pim", &changes(0..1, 2));
    holds(&stage, (0..100).map(|at| (at, if at == 0 { 2 } else { 1 })));
}

#[test]
fn credentials_are_asked_for_on_both_listeners() {
    let serve =
        "interval = \"100ms\"\nserve = { basic = { user = \"google\", password = \"s3cret\" } }";
    let stage = Stage::with(&CATALOG.replace("interval = \"100ms\"", serve));
    stage.takes("pim", &changes(0..3, 1));
    let login = "Basic Z29vZ2xlOnMzY3JldA==";
    eventually("it is there", || {
        let reply = fetch(&stage, &[("authorization", login)]);
        (reply.status == 200).then_some(())
    });
    let refused = fetch(&stage, &[]);
    assert_eq!(refused.status, 401);
    assert!(
        refused
            .header("www-authenticate")
            .is_some_and(|it| it.starts_with("Basic "))
    );
    let wrong = fetch(&stage, &[("authorization", "Basic Z29vZ2xlOnMzY3JldB==")]);
    assert_eq!(wrong.status, 401);
}
