//! Requests that wait until an entity is settled.

use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;

fn has_settled(story: &Story, key: &str, sequence: Sequence) -> bool {
    let standing = story.channel.queue().standing(story.ordinal(key));
    standing.expect("it subscribes").has_settled(sequence)
}

/// Whether `wake` is woken soon; time passes by itself here.
async fn is_woken(wake: &Notify) -> bool {
    let soon = timeout(Duration::from_secs(1), wake.notified());
    soon.await.is_ok()
}

// Waiters that are woken by everything look at the store for each delivery of a channel.
#[tokio::test(start_paused = true)]
async fn who_waits_for_an_entity_is_woken_by_the_end_of_its_flights_alone() {
    let story = Story::begin(Knobs::default(), fine).await;
    story.set("lamp", "price", "1");
    story.set("desk", "price", "1");
    story.quiet().await;
    let sequence = *story.store.watermark().borrow();
    let (lamp, desk) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waiters = [("lamp", &lamp), ("desk", &desk), ("lamp", &desk)]
        .map(|(key, wake)| story.channel.wait_for(story.ordinal(key), wake));
    story.set("lamp", "price", "2");
    let changed = *story.store.watermark().borrow();
    assert!(has_settled(&story, "lamp", sequence));
    assert!(!has_settled(&story, "lamp", changed));
    assert!(is_woken(&lamp).await && is_woken(&desk).await);
    assert!(has_settled(&story, "lamp", changed));
    story.set("desk", "price", "2");
    assert!(is_woken(&desk).await && !is_woken(&lamp).await);
    drop(waiters);
    story.set("desk", "price", "3");
    story.quiet().await;
    assert!(!is_woken(&desk).await, "nobody waits any more");
    story.end().await;
}

// A new shape, a resync and a resend are no changes, but the target may not have what it should.
#[tokio::test(start_paused = true)]
async fn what_must_be_sent_again_is_not_settled_until_it_is() {
    let story = Story::begin(Knobs::default(), fine).await;
    story.set("lamp", "price", "1");
    story.quiet().await;
    let sequence = *story.store.watermark().borrow();
    assert!(has_settled(&story, "lamp", sequence));
    story.channel.pause().await.expect("it runs");
    story.channel.resync().await.expect("it runs");
    assert!(!has_settled(&story, "lamp", sequence));
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert!(has_settled(&story, "lamp", sequence));
    story.channel.pause().await.expect("it runs");
    let resent = story.channel.resend(vec![story.ordinal("lamp")]).await;
    assert_eq!(resent.expect("it runs"), 1);
    assert!(!has_settled(&story, "lamp", sequence));
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert!(has_settled(&story, "lamp", sequence));
    story.end().await;
}
