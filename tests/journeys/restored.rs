//! A store that is made of a backup: a running Weir is backed up, goes on, is stopped and restored. In
//! the end each target holds the newest state, also one that compares `weir-sequence` and ignores what
//! is older than what it has, and the accounts of all changes add up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::http::Connection;
use crate::support::receiver::Delivery;
use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Ledger, Stage, change, deletion, eventually};

const KEYS: usize = 60;

/// What becomes of a key after the backup, and is sent again after the restore.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Later {
    Nothing,
    Changed,
    Deleted,
}

fn later(key: usize) -> Later {
    [Later::Nothing, Later::Changed, Later::Deleted][key % 3]
}

fn name(key: usize) -> String {
    format!("lamp-{key}")
}

/// Sends the next change of an entity, which must be accepted.
fn put(connection: &mut Connection, ledger: &Ledger, key: &str, deletes: bool) {
    let number = ledger.sends(key, |_| deletes);
    let change = match deletes {
        true => deletion(key, "content"),
        false => change(key, "content", json!(number)),
    };
    let headers = [("content-type", "application/json")];
    let body = change.to_string();
    let reply = connection.exchange("POST", "/v1/sources/pim/events", &headers, body.as_bytes());
    let reply = reply.expect("Weir runs");
    assert_eq!(reply.status, 202, "{}", reply.text());
    let sequence = reply.json()["sequence"].as_u64().expect("a sequence");
    ledger.accepted(key, number, sequence);
}

/// What a target holds that takes nothing older than what it has: by key, the sequence and the content.
fn compared(deliveries: &[Delivery]) -> BTreeMap<String, (u64, Option<Value>)> {
    let mut held = BTreeMap::<String, (u64, Option<Value>)>::new();
    for delivery in deliveries {
        for (key, content) in delivery.entities() {
            let newest = held.get(&key).map_or(0, |(sequence, _)| *sequence);
            if delivery.sequence() >= newest {
                held.insert(key, (delivery.sequence(), content));
            }
        }
    }
    held
}

#[test]
fn a_store_that_was_backed_up_while_it_ran_is_restored_and_the_accounts_add_up() {
    let guard = "withdraw_max = { share = \"100%\", per = \"1h\", min = 1000000 }\n";
    let config = CATALOG.to_owned() + guard;
    let (mut stage, ledger) = (Stage::with(&config), Ledger::default());
    let mut connection = Connection::open(stage.weir().address()).expect("it listens");
    for key in (0..KEYS).chain(0..KEYS) {
        put(&mut connection, &ledger, &name(key), false);
    }

    // The backup is made while changes come in and are delivered. They are of entities that change
    // again after it.
    let url = format!("http://{}", stage.weir().address());
    let over = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = Connection::open(stage.weir().address()).expect("it listens");
            while !over.load(Ordering::SeqCst) {
                for key in (0..KEYS).filter(|key| later(*key) == Later::Changed) {
                    put(&mut connection, &ledger, &name(key), false);
                }
            }
        });
        let before = ledger.count();
        eventually("changes come in", || {
            (ledger.count() > before).then_some(())
        });
        let made = command(stage.folder(), &["backup", "--url", &url, "--json"]);
        over.store(true, Ordering::SeqCst);
        made
    });
    assert!(made.status.success(), "{made:?}");
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let file = made["file"].as_str().expect("the name of the file");

    let after = |connection: &mut Connection| {
        for key in 0..KEYS {
            match later(key) {
                Later::Nothing => {}
                Later::Changed => put(connection, &ledger, &name(key), false),
                Later::Deleted => put(connection, &ledger, &name(key), true),
            }
        }
        put(connection, &ledger, "new", false);
    };
    after(&mut connection);
    stage.settles("shop");
    let before = stage.shop.deliveries();
    let highest = before.iter().map(Delivery::sequence).max().expect("some");
    stage.stop();

    let data = stage.folder().join("data");
    let restore = || command(stage.folder(), &["restore", file, "-c", "weir.toml"]);
    let refused = restore();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("is not empty"),
        "a restore replaces no store: {refused:?}"
    );
    std::fs::rename(data.join("store"), data.join("old-store")).expect("moved aside");
    let restored = restore();
    assert!(restored.status.success(), "{restored:?}");
    let said = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(
        said.contains("each channel sends everything again"),
        "{said}"
    );

    stage.start();
    stage.settles("shop");
    let since = |stage: &Stage| stage.shop.deliveries().split_off(before.len());
    let again = since(&stage);
    for key in 0..KEYS {
        let sent = again.iter().any(|delivery| delivery.key() == name(key));
        assert!(sent, "{} is not sent again", name(key));
    }
    // The sources send again what they sent after the backup.
    let mut connection = Connection::open(stage.weir().address()).expect("it listens");
    after(&mut connection);
    stage.settles("shop");
    let lower = since(&stage)
        .into_iter()
        .find(|delivery| delivery.sequence() <= highest);
    assert!(lower.is_none(), "a target would ignore it: {lower:?}");

    let deliveries = stage.shop.deliveries();
    let held = compared(&deliveries);
    for key in (0..KEYS).map(name).chain(["new".to_owned()]) {
        let content = |value: Option<&Value>| value.map(|value| value["facets"]["content"].clone());
        let shown = stage.entity(&key);
        let facets = shown["facets"].as_array().into_iter().flatten();
        let value = facets
            .filter(|facet| facet["name"] == "content")
            .map(|facet| facet["value"].clone())
            .find(|value| !value.is_null());
        let there = held.get(&key).and_then(|(_, content)| content.as_ref());
        assert_eq!(content(there), value, "{key}: {shown:#}");
    }
    let counts = ledger
        .close(&stage, "shop", &deliveries)
        .unwrap_or_else(|why| panic!("{why}"));
    println!("{counts:?}");
    // Everything before the backup, twice what came after it, and what a fast or a slow machine sent
    // meanwhile.
    let after = KEYS / 3 * 2 + 1;
    assert!(
        counts.accepted > 2 * KEYS + 2 * after && counts.owed == 0,
        "{counts:?}"
    );
}
