//! Every window between two steps: Weir is killed, panics or stalls exactly there, under load and
//! while its configuration is swapped. In each case it ends or continues as it should, and the
//! accounts of all accepted changes add up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use weir::inside::failpoint::POINTS;

use crate::support::http::{Connection, request};
use crate::support::ledger::Counts;
use crate::support::stage::CATALOG;
use crate::support::{Act, Ends, Ledger, Stage, change, deletion, eventually};

/// Keys that are only changed, deleted now and then, or refused now and then.
const KEYS: [&str; 6] = [
    "plain-0",
    "plain-1",
    "plain-2",
    "gone-0",
    "gone-1",
    "refused-0",
];

fn deletes(key: &str, number: u64) -> bool {
    key.starts_with("gone") && number.is_multiple_of(3)
}

/// A stage on which some entities are refused and everything may be withdrawn.
fn stage() -> Stage {
    let stage = Stage::closed(&config("[\"content\"]"));
    stage.shop.does(|delivery| {
        let number = delivery.json()["facets"]["content"].as_u64().unwrap_or(0);
        Act::Answer(if delivery.key().starts_with("refused") && number % 5 < 2 {
            400
        } else {
            200
        })
    });
    stage
}

fn config(facets: &str) -> String {
    let guard = "withdraw_max = { share = \"100%\", per = \"1h\", min = 1000000 }\n";
    CATALOG.replace(
        "facets = [\"content\", \"price.*\"]",
        &format!("facets = {facets}"),
    ) + guard
}

/// Changes all keys, one request after the other, until it is stopped or gets no response.
fn send(stage: &Stage, ledger: &Ledger, over: &AtomicBool) {
    let Ok(mut connection) = Connection::open(stage.weir().address()) else {
        return;
    };
    while !over.load(Ordering::SeqCst) {
        let mut numbers = Vec::new();
        let line = |key: &&'static str| {
            let number = ledger.sends(key, |number| deletes(key, number));
            numbers.push((*key, number));
            if deletes(key, number) {
                deletion(key, "content")
            } else {
                change(key, "content", json!(number))
            }
            .to_string()
        };
        let lines: Vec<String> = KEYS.iter().map(line).collect();
        let headers = [("content-type", "application/x-ndjson")];
        match connection.exchange(
            "POST",
            "/v1/sources/pim/events",
            &headers,
            lines.join("\n").as_bytes(),
        ) {
            Ok(reply) if reply.status == 202 => {
                let sequence = reply.json()["sequence"].as_u64().expect("a sequence");
                numbers
                    .into_iter()
                    .for_each(|(key, number)| ledger.accepted(key, number, sequence));
            }
            // Rejected, or of unknown result; the next life is sent another change.
            _ => return,
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// On which pass of a point the action happens: late enough that everything is under way.
fn pass(point: &str) -> u32 {
    match point {
        // The first pass is the start.
        "app.swapping" | "store.saving" => 2,
        "dispatch.swapping" => 1,
        "dispatch.withdrawn" => 3,
        _ => 25,
    }
}

/// A panic at these points leaves something half done, so it ends the process.
fn ends(point: &str, action: &str) -> bool {
    match action {
        "kill" => true,
        "panic" => point.starts_with("store") || point.ends_with("swapping"),
        _ => false,
    }
}

/// One window and one action. Returns what became of all changes.
fn check(point: &str, action: &str) -> Counts {
    let (mut stage, ledger) = (stage(), Ledger::default());
    let what = format!("{point}={action}@{}", pass(point));
    stage.start_with(&[("WEIR_FAIL", &what)]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (running, ledger, stop) = (&stage, &ledger, &over);
        let _ends = Ends(stop);
        scope.spawn(move || send(running, ledger, stop));
        if point.ends_with("swapping") {
            std::thread::sleep(Duration::from_millis(200));
            running.configure(&config("[\"content\", \"price.*\"]"));
            // It may end in the middle of this.
            let _ = request(running.weir().address(), "POST", "/v1/reload", &[], b"");
        }
        running.weir().says(&format!("fail point {point}"));
        // Long enough for deferred work to be done; the clients continue meanwhile.
        std::thread::sleep(Duration::from_millis(700));
    });
    if ends(point, action) {
        eventually(&format!("{what}: it ends"), || {
            stage.has_ended().then_some(())
        });
        stage.kill();
        stage.start();
    }
    assert!(!stage.has_ended(), "{what}: it ended");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (running, ledger, stop) = (&stage, &ledger, &over);
        let _ends = Ends(stop);
        let before = ledger.count();
        scope.spawn(move || send(running, ledger, stop));
        eventually("it accepts changes", || {
            (ledger.count() > before + 60).then_some(())
        });
    });
    stage.settles("shop");
    let closed = ledger.close(&stage, "shop", &stage.shop.deliveries());
    closed.unwrap_or_else(|why| panic!("{what}: {why}"))
}

fn check_all(action: &str) {
    for point in POINTS {
        let counts = check(point, action);
        println!("{point} {action}: {counts:?}");
        assert!(
            counts.delivered > 0 && counts.withdrawn > 0 && counts.accepted > 60,
            "{point} {action}: too little happened: {counts:?}"
        );
    }
}

#[test]
fn killed_in_any_window_no_change_is_lost() {
    check_all("kill");
}

#[test]
fn after_a_panic_in_any_window_no_change_is_lost() {
    check_all("panic");
}

#[test]
fn stalling_in_any_window_loses_no_change() {
    check_all("wait");
}

/// The accounts must be able to show a loss: here a target confirms deliveries that it does not
/// record.
#[test]
fn the_accounts_detect_a_target_that_loses_what_it_accepted() {
    let (mut stage, ledger, over) = (stage(), Ledger::default(), AtomicBool::new(false));
    stage.start();
    std::thread::scope(|scope| {
        let (running, ledger, stop) = (&stage, &ledger, &over);
        let _ends = Ends(stop);
        scope.spawn(move || send(running, ledger, stop));
        eventually("changes are accepted", || {
            (ledger.count() > 200).then_some(())
        });
    });
    stage.settles("shop");
    let all = stage.shop.deliveries();
    let right = ledger.close(&stage, "shop", &all);
    assert!(
        right.is_ok_and(|counts| counts.accepted > 200),
        "something is lost already"
    );
    let newest = all
        .iter()
        .rposition(|delivery| delivery.key() == "plain-1")
        .expect("it was delivered");
    let without: Vec<_> = all
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != newest)
        .map(|(_, delivery)| delivery.clone())
        .collect();
    let why = ledger
        .close(&stage, "shop", &without)
        .expect_err("a delivery is missing");
    assert!(why.contains("plain-1") && why.contains("is lost"), "{why}");
}
