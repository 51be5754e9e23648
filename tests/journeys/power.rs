//! A power cut: the store has a file system of its own, which is shut down without writing back
//! what is in memory.
//!
//! A kill proves nothing about syncing, because the page cache survives it. Here the process is
//! stopped first, then the file system is shut down, then the process is killed; a new mount shows
//! what was on the disk. A control run without the sync must lose something, because otherwise the
//! test could not detect a loss. It needs root and loop mounts; without them it prints loudly that
//! it did not run.
//!
//! `WEIR_CUTS=200 cargo test --test journeys power` makes more cuts, and ten times as many in the
//! control run.

mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::disk::{Disk, run};
use crate::support::http::Connection;
use crate::support::ledger::Counts;
use crate::support::stage::CATALOG;
use crate::support::weir::PROGRAM;
use crate::support::{Ends, Ledger, Stage, change, deletion, eventually, repeats};

/// The number of cuts in a run of all tests.
const CUTS: usize = 20;
/// Without the sync, one of at most this many cuts must lose something, every time.
const CUTS_WITHOUT_SYNC: usize = 5;
const SENDERS: usize = 4;
const KEYS: usize = 5;
/// Longer than what the store keeps in an entity record, so that the value has rows of its own.
const PADDING_MAX: usize = 6_000;

fn loud() {
    eprintln!(
        "NOT RUN: no root or no loop mounts here; the loss of data in a power cut was not tested"
    );
}

/// Sends a next value of each of these keys, or deletes it, until Weir does not respond any more, and records
/// what was accepted.
fn send(
    stage: &Stage,
    ledger: &Ledger,
    over: &AtomicBool,
    mut names: impl FnMut() -> Vec<String>,
    deletes: fn(&str, u64) -> bool,
) {
    let Ok(mut connection) = Connection::open(stage.weir().address()) else {
        return;
    };
    while !over.load(Ordering::SeqCst) {
        let keys = names();
        let numbers: Vec<u64> = keys
            .iter()
            .map(|key| ledger.sends(key, |number| deletes(key, number)))
            .collect();
        let padding = || json!("x".repeat(fastrand::usize(..PADDING_MAX)));
        let changes = |(key, number): (&String, &u64)| {
            let content = match deletes(key, *number) {
                true => deletion(key, "content"),
                false => change(key, "content", json!(number)),
            };
            let padding = change(key, "padding", padding());
            [content.to_string(), padding.to_string()]
        };
        let lines: Vec<String> = keys.iter().zip(&numbers).flat_map(changes).collect();
        let headers = [("content-type", "application/x-ndjson")];
        match connection.exchange(
            "POST",
            "/v1/sources/pim/events",
            &headers,
            lines.join("\n").as_bytes(),
        ) {
            Ok(reply) if reply.status == 202 => {
                let sequence = reply.json()["sequence"].as_u64().expect("a sequence");
                keys.iter()
                    .zip(numbers)
                    .for_each(|(key, number)| ledger.accepted(key, number, sequence));
            }
            _ => return,
        }
    }
}

/// Waits until so much was accepted that a cut has something to lose; a slow disk takes its time.
fn accepts(ledger: &Ledger, before: usize) {
    eventually("changes are accepted", || {
        (ledger.count() > before + SENDERS * KEYS).then_some(())
    });
}

/// The keys of a sender, whose values rise.
fn keys(sender: usize) -> Vec<String> {
    (0..KEYS).map(|key| format!("{sender}-{key}")).collect()
}

/// The catalogue, and in addition to the content a facet of any length, to which no channel
/// subscribes.
fn config() -> String {
    CATALOG.replace(
        "facets.content = { owner = \"pim\" }",
        "facets.content = { owner = \"pim\" }\nfacets.padding = { owner = \"pim\" }",
    )
}

/// Cuts the power: Weir cannot write anything more.
pub fn cut(running: &Stage, disk: &Disk) {
    freeze(running);
    disk.cut();
    running.weir().signal(Signal::KILL);
}

/// Mounts what was on the disk, and starts.
pub fn powered_again(stage: &mut Stage, disk: &Disk) {
    stage.kill();
    disk.unmount();
    assert!(disk.remount(), "the file system does not mount again");
    stage.start();
}

/// Stops the process, so that it does nothing more before it is killed.
fn freeze(stage: &Stage) {
    stage.weir().signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", stage.weir().pid());
    eventually("the process is stopped", || {
        let stat = std::fs::read_to_string(&stat).ok()?;
        stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
}

/// Builds a library that makes a program's syncs of file contents do nothing, and returns a command that
/// starts Weir with it.
fn without_sync(stage: &Stage) -> impl Fn() -> Command + use<> {
    let shim = stage.folder().join("nosync.so");
    let source = stage.place(
        "nosync.c",
        b"int fdatasync(int descriptor) { (void)descriptor; return 0; }\n",
    );
    assert!(
        run(Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&shim)
            .arg(source)),
        "no C compiler, although Rust needs one"
    );
    move || {
        let mut command = Command::new(PROGRAM);
        command.env("LD_PRELOAD", &shim);
        command
    }
}

/// Cuts the power under load and starts again.
///
/// # Errors
/// An accepted change that is missing afterwards, or that no delivery accounts for.
fn round(stage: &mut Stage, disk: &Disk, ledger: &Ledger) -> Result<Counts, String> {
    let over = AtomicBool::new(false);
    let (running, stop) = (&*stage, &over);
    std::thread::scope(|scope| {
        let _ends = Ends(stop);
        let before = ledger.count();
        for sender in 0..SENDERS {
            scope.spawn(move || send(running, ledger, stop, || keys(sender), |_, _| false));
        }
        accepts(ledger, before);
        std::thread::sleep(Duration::from_millis(fastrand::u64(100..800)));
        cut(running, disk);
    });
    powered_again(stage, disk);
    stage.settles("shop");
    ledger.close(stage, "shop", &stage.shop.deliveries())
}

#[test]
fn after_a_power_cut_every_accepted_change_is_there_and_the_accounts_add_up() {
    let mut stage = Stage::closed(&config());
    let Some(disk) = Disk::mount(stage.folder(), 600) else {
        return loud();
    };
    let (cuts, ledger) = (repeats("WEIR_CUTS", CUTS), Ledger::default());
    stage.start();
    let mut counts = Counts::default();
    for cut in 0..cuts {
        counts = round(&mut stage, &disk, &ledger).unwrap_or_else(|why| panic!("cut {cut}: {why}"));
    }
    assert!(
        counts.accepted > SENDERS * KEYS * cuts,
        "too little was accepted: {counts:?}"
    );
    println!("{cuts} cuts, none lost anything: {counts:?}");
    stage.kill();
}

#[test]
fn without_the_sync_a_power_cut_loses_something() {
    for _ in 0..repeats("WEIR_CUTS", CUTS).div_ceil(CUTS) {
        let mut stage = Stage::closed(&config());
        let Some(disk) = Disk::mount(stage.folder(), 600) else {
            return loud();
        };
        println!("noticed at cut {}", noticed_without_sync(&mut stage, &disk));
    }
}

/// Returns the number of the first cut after which something is missing, or the store does not
/// open.
fn noticed_without_sync(stage: &mut Stage, disk: &Disk) -> usize {
    let without_sync = without_sync(stage);
    stage.start_by(without_sync());
    let ledger = Ledger::default();
    notices(CUTS_WITHOUT_SYNC, |cut| {
        if cut > 1 {
            stage.kill();
            stage.start_by(without_sync());
        }
        round(stage, disk, &ledger)
    })
}

/// Makes cuts until one is noticed, and returns its number. What does not open, or is damaged, counts too: a look
/// at it panics.
fn notices(most: usize, mut round: impl FnMut(usize) -> Result<Counts, String>) -> usize {
    let noticed = (1..=most).find(|cut| {
        let looked = catch_unwind(AssertUnwindSafe(|| round(*cut)));
        !matches!(looked, Ok(Ok(_)))
    });
    noticed.unwrap_or_else(|| {
        panic!("{most} cuts without the sync lost nothing, so this test cannot detect a loss")
    })
}
