//! What a stream holds beside what it should, and all of its keys.

use std::collections::BTreeSet;

use super::*;

#[tokio::test]
async fn each_difference_has_its_name() {
    let Some(bus) = Bus::start("differences in a bucket") else {
        return;
    };
    let store = catalog(&bus).await;
    let nats = nats(bus.port(), bucket());
    let items: Vec<Item> = ["same", "older", "other", "gone", "extra"]
        .into_iter()
        .zip(1..)
        .map(|(key, sequence)| item(key, sequence, Some("1")))
        .collect();
    delivers(&nats, &items).await;
    delivers(&nats, &[item("gone", 10, None)]).await;
    let put = store.put("other", "by hand".into()).await;
    put.expect("it is stored");
    let expected = [
        item("same", 1, Some("1")),
        item("older", 20, Some("2")),
        item("other", 3, Some("1")),
        item("gone", 10, None),
        item("gone", 11, Some("1")),
        item("extra", 5, None),
        item("never", 6, None),
        item("missing", 7, Some("1")),
    ];
    let held = nats.compare(&expected).await.expect("it compares");
    // A message that was put by hand has no header with its key: it was listed as extra, under its subject.
    let page = nats.keys(None).await.expect("a page");
    let keys: BTreeSet<&str> = page.keys.iter().map(|key| &**key).collect();
    assert_eq!(keys, BTreeSet::from(["extra", "older", "other", "same"]));
    let body = vec!["body".to_owned()];
    assert_eq!(
        held,
        [
            Held::Same,
            Held::Older(Sequence(2)),
            Held::Different(body),
            Held::Same,
            Held::Missing,
            Held::Extra,
            Held::Same,
            Held::Missing,
        ]
    );
}

#[tokio::test]
async fn all_keys_come_in_pages_without_the_deleted_ones() {
    let Some(bus) = Bus::start("the keys of a stream") else {
        return;
    };
    let config = js::Config {
        max_messages_per_subject: 3,
        ..newest_only()
    };
    let mut stream = stream(&bus, config).await;
    let nats = nats(bus.port(), subjects());
    let key = |number: u64| format!("ä/{number}");
    for first in [0, 4_000, 8_000] {
        let items: Vec<Item> = (first..first + 4_000)
            .map(|number| item(&key(number), number + 1, Some("{}")))
            .collect();
        delivers(&nats, &items).await;
    }
    let deleted: Vec<Item> = (0..12_000)
        .step_by(3)
        .map(|number| item(&key(number), 20_000 + number, None))
        .collect();
    delivers(&nats, &deleted).await;
    let (mut keys, mut after, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let page = nats.keys(after.as_deref()).await.expect("a page");
        pages += 1;
        for key in page.keys {
            assert!(keys.insert(key), "a key comes once");
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, 3);
    let expected: BTreeSet<String> = (0..12_000)
        .filter(|number| number % 3 != 0)
        .map(key)
        .collect();
    assert!(keys == expected, "{} keys", keys.len());
    let info = stream.info().await.expect("an answer");
    assert_eq!(info.state.consumer_count, 0, "the consumer is removed");
    let empty = super::nats(bus.port(), bucket());
    catalog(&bus).await;
    assert_eq!(empty.keys(None).await, Ok(Page::default()));
}
