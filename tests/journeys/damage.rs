//! Data that was damaged on disk while Weir was stopped is reported, and does not affect anything
//! else.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Value, json};

use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Receiver, Stage, change, eventually};

const OTHERS: usize = 20;

/// One product of many could not be read, and everything that the channel had taken together with
/// it was parked again and again, because entities taken together were read all or not at all.
#[test]
fn a_damaged_value_is_named_and_does_not_hold_up_the_others() {
    let mut stage = Stage::with(CATALOG);
    let long = change("damaged", "content", json!("x".repeat(10_000)));
    let others = (0..OTHERS).map(|number| change(&format!("p{number}"), "content", json!(number)));
    stage.takes("pim", &others.chain([long]).collect::<Vec<Value>>());
    stage.settles("shop");
    stage.stop();

    let db = sled::Config::new()
        .path(stage.folder().join("data/store"))
        .segment_size(4 << 20)
        .open()
        .expect("sled opens");
    let (key, piece) = db
        .scan_prefix(b"P")
        .next()
        .expect("the long value has rows of its own")
        .expect("it can be read");
    db.insert(key, [b"?", &piece[1..]].concat())
        .expect("it is put");
    db.flush().expect("it is written");
    drop(db);

    // Another channel subscribes to everything; it meets the damaged entity first or among the
    // others.
    let late = Receiver::start();
    let more = format!(
        "[targets.late]\nkind = \"webhook\"\nurl = \"{}\"\n[channels.late]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"late\"\n",
        late.url()
    );
    stage.configure(&(CATALOG.to_owned() + &more));
    stage.start();
    eventually("the others arrive", || {
        (late.holds().len() == OTHERS).then_some(())
    });
    let channel = eventually("the damaged entity is parked", || {
        Some(stage.channel("late")).filter(|channel| channel["parked"] == 1)
    });
    assert!(!late.holds().contains_key("damaged"), "{channel:#}");
    let reply = stage.weir().get("/v1/entities/product/damaged");
    assert!(
        reply.status >= 500 && !reply.text().contains("xxxx"),
        "the damaged entity is shown as if it were intact: {} {}",
        reply.status,
        reply.text()
    );
    assert!(
        stage.weir().log().contains("a long value of entity number"),
        "the log does not name it:\n{}",
        stage.weir().log()
    );
}

/// The number of entities of the second story: enough for many pages of sled's.
const MANY: usize = 400;

/// The text of a product of the second story.
fn text(number: usize) -> String {
    format!("content of {number}.")
}

/// Where sled's file has these bytes.
fn copies(log: &[u8], bytes: &str) -> Vec<usize> {
    (0..log.len() - bytes.len())
        .filter(|at| log[*at..].starts_with(bytes.as_bytes()))
        .collect()
}

/// The length of sled's segments, as Weir sets it.
const SEGMENT: usize = 4 << 20;

/// The part of sled's file that it wrote last: the segment with the highest sequence number, which its
/// header has inverted, behind a checksum of four bytes.
fn newest_segment(log: &[u8]) -> Range<usize> {
    let number = |start: &usize| {
        let header = log[start + 4..start + 12].try_into().expect("eight bytes");
        i64::from_le_bytes(header) ^ i64::MAX
    };
    let starts = (0..log.len()).step_by(SEGMENT);
    let used = starts.filter(|start| log[*start..].iter().take(12).any(|byte| *byte != 0));
    let start = used.max_by_key(number).expect("sled has written");
    start..start + SEGMENT
}

/// One damaged byte, and Weir did not start again before the store was restored from a copy.
#[test]
fn a_damaged_record_is_set_aside_and_sent_again_and_the_others_are_served_meanwhile() {
    let mut stage = Stage::with(CATALOG);
    let name = |number: usize| format!("p{number}");
    let send = |stage: &Stage, numbers: &mut dyn Iterator<Item = usize>| {
        let changes: Vec<Value> = numbers
            .map(|n| change(&name(n), "content", json!(text(n))))
            .collect();
        stage.takes("pim", &changes);
        stage.settles("shop");
    };
    send(&stage, &mut (0..MANY));
    // sled refuses a damage in the part of its log that it wrote last; now that is another part.
    for n in 0..60 {
        let long = json!("x".repeat(100_000));
        stage.takes("pim", &[change(&format!("filler-{n}"), "content", long)]);
    }
    stage.settles("shop");
    stage.stop();
    // After another start sled knows its pages, and does not read its log again to find them.
    stage.start();
    stage.settles("shop");
    stage.stop();
    // sled may have moved some records there meanwhile.
    let file = stage.folder().join("data/store/db");
    let mut log = std::fs::read(&file).expect("it is there");
    let newest = newest_segment(&log);
    let victim = (0..MANY).rev().find(|n| {
        let copies = copies(&log, &text(*n));
        !copies.is_empty() && copies.iter().all(|at| !newest.contains(at))
    });
    let victim = victim.expect("sled has not moved every record");
    for at in copies(&log, &text(victim)) {
        log[at + 1] ^= 4;
    }
    std::fs::write(&file, log).expect("written");

    let refused = command(stage.folder(), &["run", "-c", "weir.toml"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("weir run --set-aside-damaged"),
        "{refused:?}"
    );
    stage.shop.forget();
    stage.start_with_options(&["--set-aside-damaged"]);
    let log = stage.weir().log();
    let aside = std::fs::read_dir(stage.folder().join("data"))
        .expect("it can be listed")
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("damaged-"))
        .expect("the damaged store is beside the new one");
    let missing = std::fs::read_to_string(aside.path().join("missing-entities.txt"));
    let missing = missing.expect("it is there");
    let missing: BTreeSet<&str> = missing.lines().collect();
    assert!(
        missing.contains(&*format!("product/{}", name(victim))),
        "{missing:?}\n{log}"
    );
    assert!(
        log.contains(&format!("entity=product/{}", name(victim))),
        "{log}"
    );
    assert!(missing.len() < MANY / 4, "{} are missing", missing.len());

    let is_missing = |n: &usize| missing.contains(&*format!("product/{}", name(*n)));
    stage.settles("shop");
    let held = |stage: &Stage| {
        let keys = stage.shop.holds().into_keys();
        keys.filter(|key| key.starts_with('p'))
            .collect::<BTreeSet<String>>()
    };
    let kept: BTreeSet<String> = (0..MANY).filter(|n| !is_missing(n)).map(name).collect();
    assert_eq!(held(&stage), kept, "each of the others is sent again");
    for n in [0, 100, MANY - 1].iter().filter(|n| !is_missing(n)) {
        let entity = stage.entity(&name(*n));
        assert_eq!(entity["facets"][0]["value"], text(*n));
    }
    let gone = stage
        .weir()
        .get(&format!("/v1/entities/product/{}", name(victim)));
    assert_eq!(gone.status, 404, "{}", gone.text());

    send(&stage, &mut (0..MANY).filter(is_missing));
    assert_eq!(held(&stage), (0..MANY).map(name).collect());
    stage.stop();
    // It is not damaged any more.
    stage.start();
    stage.settles("shop");
    assert_eq!(
        stage.entity(&name(victim))["facets"][0]["value"],
        text(victim)
    );
}
