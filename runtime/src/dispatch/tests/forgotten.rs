//! The behaviour of a channel when its target has forgotten what it acknowledged, or is ahead of Weir.

use super::*;
use crate::targets::{Foreign, Mark};

/// A target that is ahead as long as this is true.
fn is_ahead(ahead: &Arc<AtomicBool>) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let ahead = ahead.clone();
    move |_: &Seen| match ahead.load(Ordering::SeqCst) {
        true => Reply::All(Outcome::Ahead {
            reason: "the table holds sequence 9000000".into(),
            sequence: Sequence(9_000_000),
        }),
        false => Reply::Status(200),
    }
}

// A standby took over without the last seconds, and the bridge of those days never noticed: what was lost
// counted as delivered, and was sent again only when somebody changed it.
#[tokio::test(start_paused = true)]
async fn a_target_that_forgot_gets_nothing_until_everything_is_owed_and_then_everything() {
    let forgets = Arc::new(AtomicBool::new(false));
    let script = {
        let forgets = forgets.clone();
        move |_: &Seen| match forgets.load(Ordering::SeqCst) {
            true => Reply::All(Outcome::Forgot {
                reason: "the database is of an earlier time".into(),
            }),
            false => Reply::Status(200),
        }
    };
    let story = Story::begin(Knobs::default(), script).await;
    for key in ["a", "b", "c"] {
        story.set(key, "price", "1");
    }
    story.delete("c");
    story.quiet().await;
    let before = story.seen().len();

    forgets.store(true, Ordering::SeqCst);
    story.set("a", "price", "2");
    story
        .until("noticed", |story| {
            story.channel.setup().target.forgot().is_some()
        })
        .await;
    let status = story.channel.status();
    assert_eq!(status.state, status::State::Tripped);
    assert_eq!(status.reason, "the database is of an earlier time");
    story.set("b", "price", "2");
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(story.seen().len(), before + 1, "and it is left alone");

    story.channel.resync().await.expect("it is durable");
    forgets.store(false, Ordering::SeqCst);
    let target = story.channel.setup().target.clone();
    target.take_mark(Mark {
        bytes: vec![7],
        exact: true,
    });
    target.start_over();
    assert_eq!(target.mark(), None, "it starts over");
    story.quiet().await;
    let mut again = story.seen().split_off(before + 1);
    again.sort();
    assert_eq!(again, ["a=2", "b=2", "c gone"]);
    assert_eq!(story.channel.status().state, status::State::Flowing);
    story.end().await;
}

// After its store was lost, a bridge counted from 1 again. The table held 9,000,000, so that each write was
// "older", counted as done, and changed nothing for ever.
#[tokio::test(start_paused = true)]
async fn a_target_that_is_ahead_is_a_state_of_its_own_and_nothing_counts_as_done() {
    let ahead = Arc::new(AtomicBool::new(true));
    let story = Story::begin(Knobs::default(), is_ahead(&ahead)).await;
    story.set("a", "price", "1");
    story
        .until("ahead", |story| {
            story.channel.status().state == status::State::Ahead
        })
        .await;
    let status = story.channel.status();
    assert_eq!(
        status.reason,
        "the table holds sequence 9000000; if Weir is right, `weir channel overwrite storefront` sends everything over it"
    );
    assert_eq!(story.standing("a"), Standing::Parked(0));
    let target = story.channel.setup().target.clone();
    assert_eq!(target.ahead(), Some(Sequence(9_000_000)));

    // An operator decides that Weir is right.
    let foreign = Foreign {
        first: Sequence(100),
        last: Sequence(9_000_000),
    };
    target.overwrite(foreign);
    ahead.store(false, Ordering::SeqCst);
    target.start_over();
    story.quiet().await;
    let last = story.script.seen().pop().expect("an attempt");
    assert_eq!(last.foreign, Some(foreign));
    assert_eq!(story.channel.status().state, status::State::Flowing);
    assert_eq!(story.standing("a"), Standing::Delivered);
    story.end().await;
}

// Somebody deleted the rows of the other writer. The target was back, as after any outage, and nobody learned
// that what had been written over earlier deliveries was still there.
#[tokio::test(start_paused = true)]
async fn the_end_of_being_ahead_is_said_with_what_is_owed_then() {
    let (log, _ends) = Log::begin();
    let ahead = Arc::new(AtomicBool::new(false));
    let story = Story::begin(Knobs::default(), is_ahead(&ahead)).await;
    story.set("a", "price", "1");
    story.quiet().await;
    let said = "counts as ahead of Weir no longer; only what its channels owe is sent";
    ahead.store(true, Ordering::SeqCst);
    story.set("b", "price", "1");
    story
        .until("ahead", |story| {
            story.channel.status().state == status::State::Ahead
        })
        .await;
    assert_eq!(log.count(said), 0);
    ahead.store(false, Ordering::SeqCst);
    story.quiet().await;
    assert_eq!(log.count(said), 1);
    assert_eq!(story.channel.setup().target.ahead(), None);
    let of_a = story.seen().iter().filter(|line| *line == "a=1").count();
    assert_eq!(of_a, 1, "it is not owed");
    story.end().await;
}
