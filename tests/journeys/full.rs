//! A disk that is really full. Weir accepts nothing more, still has and delivers everything that it
//! accepted, and continues by itself when there is room again. The test needs a disk of its own, so
//! root and loop mounts; without them it prints loudly that it did not run.

use std::path::Path;

use serde_json::json;

use crate::support::disk::Disk;
use crate::support::stage::CATALOG;
use crate::support::{Ledger, Reply, Stage, change, eventually};

/// The store leaves the last 64 MiB of its disk free.
const DISK_MIB: u64 = 256;
/// Size of other data on the disk; it leaves room for some thousand changes.
const BALLAST_MIB: u64 = 130;
const PADDING: usize = 5_000;

fn put(stage: &Stage, ledger: &Ledger, key: &str) -> Reply {
    let number = ledger.sends(key, |_| false);
    let lines = [
        change(key, "content", json!(number)),
        change(
            key,
            "padding",
            json!(fastrand::u64(..).to_string() + &"x".repeat(PADDING)),
        ),
    ];
    let lines = lines.map(|change| change.to_string()).join("\n");
    let reply = stage.send(
        "pim",
        &[("content-type", "application/x-ndjson")],
        lines.as_bytes(),
    );
    if reply.status == 202 {
        ledger.accepted(
            key,
            number,
            reply.json()["sequence"].as_u64().expect("a sequence"),
        );
    }
    reply
}

fn closes(stage: &Stage, ledger: &Ledger) {
    stage.settles("shop");
    let counts = ledger
        .close(stage, "shop", &stage.shop.deliveries())
        .unwrap_or_else(|why| panic!("{why}"));
    println!("{counts:?}");
}

#[test]
fn with_a_full_disk_weir_accepts_nothing_loses_nothing_and_continues_when_there_is_room() {
    let padded = "facets.content = { owner = \"pim\" }\nfacets.padding = { owner = \"pim\" }";
    let mut stage = Stage::closed(&CATALOG.replace("facets.content = { owner = \"pim\" }", padded));
    let Some(_disk) = Disk::mount(stage.folder(), DISK_MIB) else {
        return eprintln!(
            "NOT RUN: no root or no loop mounts here; the behaviour on a full disk was not tested"
        );
    };
    let ballast = stage.folder().join("data/ballast");
    fill(&ballast);
    stage.start();
    let ledger = Ledger::default();
    let refusal = eventually_full(&stage, &ledger);
    assert!(
        ledger.count() > 100,
        "only {} changes were accepted before the disk was full",
        ledger.count()
    );
    assert!(
        refusal.status == 503 && refusal.header("retry-after").is_some(),
        "{} {}",
        refusal.status,
        refusal.text()
    );
    let ready = stage.weir().get("/readyz");
    assert!(
        ready.status == 503 && ready.text().contains("disk"),
        "readiness does not report the full disk: {} {}",
        ready.status,
        ready.text()
    );
    closes(&stage, &ledger);

    // It can be stopped and started while nothing can be accepted.
    stage.kill();
    stage.start();
    closes(&stage, &ledger);
    assert_eq!(put(&stage, &ledger, "k0").status, 503);

    std::fs::remove_file(ballast).expect("removed");
    eventually("it continues by itself", || {
        (put(&stage, &ledger, "k1").status == 202).then_some(())
    });
    assert_eq!(stage.weir().get("/readyz").status, 200);
    closes(&stage, &ledger);
    stage.kill();
}

/// Sends changes until one is rejected; returns that response.
fn eventually_full(stage: &Stage, ledger: &Ledger) -> Reply {
    let answers = (0..60_000).map(|number| put(stage, ledger, &format!("k{}", number % 50)));
    answers
        .into_iter()
        .find(|reply| reply.status != 202)
        .expect("the disk fills up")
}

fn fill(path: &Path) {
    std::fs::write(path, vec![7; (BALLAST_MIB << 20) as usize]).expect("written");
}
