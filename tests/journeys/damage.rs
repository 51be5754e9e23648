//! Data that was damaged on disk while Weir was stopped is reported, and does not affect anything
//! else.

use serde_json::{Value, json};

use crate::support::stage::CATALOG;
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
