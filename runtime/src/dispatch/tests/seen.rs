//! What is shown of a channel: since when it owes something, how long its changes took, and who waits for it.

use super::*;

/// The number of latencies that were counted, by lane.
fn counted(story: &Story) -> [u64; 3] {
    Lane::ALL.map(|lane| story.channel.latency(lane)[2].count)
}

// A drift repair made 6,000 products owed again while the target took none of them. The channel said all the
// time that it was fresh.
#[tokio::test(start_paused = true)]
async fn what_is_sent_once_more_is_owed_since_it_was_asked_for() {
    let story = Story::begin(Knobs::default(), fine).await;
    let keeps_time = story.keep_time();
    story.set("a", "price", "1");
    story.quiet().await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(story.channel.status().freshness, Duration::ZERO);

    story.channel.pause().await.expect("it pauses");
    let resent = story.channel.resend(vec![story.ordinal("a")]).await;
    assert_eq!(resent.expect("it runs"), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let status = story.channel.status();
    // Not an hour: its change was settled until somebody wanted it again.
    for age in [status.freshness, status.overdue] {
        assert!((59..=61).contains(&age.as_secs()), "{status:#?}");
    }
    let oldest = story.channel.queue().oldest(10);
    let named: Vec<_> = oldest.iter().map(|it| (&*it.id.key, it.time)).collect();
    let since = status.owed.oldest_time.expect("it is owed");
    assert_eq!(named, [("a", since)]);

    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    let status = story.channel.status();
    assert_eq!((status.freshness, status.overdue), Default::default());
    assert_eq!(counted(&story), [0, 1, 0], "it was no change");
    keeps_time.abort();
    story.end().await;
}

// The story of the latencies failed now and then: a sweep was faster than the lane, and the change that it
// delivered counted for nothing.
#[tokio::test(start_paused = true)]
async fn a_change_that_a_sweep_delivers_counts_in_its_lane_and_what_was_there_before_does_not() {
    let store = Arc::new(Memory::default());
    for key in ["old", "older"] {
        commit(&store, Lane::Normal, key, "price", Some("1"));
    }
    let story = Story::on(store.clone(), Script::new(fine), Knobs::default()).await;
    story.quiet().await;
    assert_eq!((story.seen().len(), counted(&story)), (2, [0; 3]));

    // A resync moves the positions in the lanes to the end.
    story.channel.pause().await.expect("it pauses");
    story.set("new", "price", "1");
    story.set_in(Lane::Urgent, "old", "price", "2");
    story.channel.resync().await.expect("it runs");
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert_eq!(story.seen().len(), 5);
    assert_eq!(counted(&story), [1, 1, 0]);
    story.channel.stop(Duration::from_secs(1)).await;

    // What came while it was stopped has waited as well.
    commit(&store, Lane::Normal, "older", "price", Some("2"));
    let story = Story::on(store, Script::new(fine), Knobs::default()).await;
    story.quiet().await;
    assert_eq!(counted(&story), [0, 1, 0]);
    story.end().await;
}

// Somebody waited for the receipt of a product while a reload took its channel the facet that had changed. The
// channel owed nothing any more, and the answer came with the end of the wait.
#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_when_the_channel_changes_or_stops() {
    let story = Story::begin(Knobs::default(), fine).await;
    story.channel.pause().await.expect("it pauses");
    story.set("a", "price", "1");
    let wake = Arc::new(Notify::new());
    let woken = || async {
        tokio::time::timeout(PATIENCE, wake.notified())
            .await
            .is_ok()
    };
    let _waiter = story.channel.wait_for(story.ordinal("a"), &wake);
    let knobs = Knobs {
        options: Options {
            facets: vec!["content".into()],
            ..options()
        },
        ..Knobs::default()
    };
    let replaced = story.channel.replace(setup(&story.script, knobs)).await;
    replaced.expect("it joins");
    assert!(woken().await, "it owes nothing of the price");
    story.channel.stop(Duration::from_secs(1)).await;
    assert!(woken().await, "it is no channel any more");
}
