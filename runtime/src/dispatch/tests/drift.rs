//! Drift checks: what a target holds is compared with what it should hold.

use super::*;
use crate::dispatch::drift::{Check, Difference, Drift, Extras, Progress};
use crate::targets::{Held, Item};

const ALL: Check = Check {
    sample: None,
    repair: false,
};

/// A channel whose target has taken these keys.
async fn taken(keys: &[&str]) -> Story {
    let story = Story::begin(Knobs::default(), fine).await;
    for key in keys {
        story.set(key, "price", "1");
    }
    story.quiet().await;
    story
}

async fn checked(story: &Story, check: Check) -> Drift {
    let drift = story.channel.drift(check, &Progress::default()).await;
    drift.expect("the target can be asked")
}

fn counted(drift: &Drift) -> Vec<(Difference, u64)> {
    drift.differences.clone().into_iter().collect()
}

// A cache of a shop was restored, somebody deleted a product by hand, and a script had written prices into
// the index. Weir had delivered everything, and all counts were right.
#[tokio::test(start_paused = true)]
async fn what_a_target_lost_or_changed_is_found_and_only_that_is_sent_again() {
    let story = taken(&["a", "b", "c", "d", "e"]).await;
    story.delete("e");
    story.quiet().await;
    let held = |item: &Item| match (&*item.key, &item.rendering) {
        ("a", Some(_)) => Held::Missing,
        ("b", Some(_)) => Held::Different(vec!["/facets/price".into()]),
        ("c", Some(_)) => Held::Older(Sequence(1)),
        ("d", Some(_)) => Held::Same,
        ("e", None) => Held::Extra,
        other => panic!("{other:?} is not as it should be"),
    };
    let keys = ["a", "b", "d", "e", "theirs"].map(str::to_owned);
    story.script.holds(held, Some(keys.to_vec()));
    let before = story.seen().len();
    let drift = checked(&story, ALL).await;
    let each = Difference::ALL.map(|difference| match difference {
        // One was deleted here, and one was never of Weir.
        Difference::Extra => (difference, 2),
        _ => (difference, 1),
    });
    assert_eq!(counted(&drift), each);
    assert_eq!((drift.compared, drift.owed, drift.repaired), (5, 0, 0));
    assert_eq!(drift.extras, Extras::LookedFor);
    let of_b = drift.examples.iter().find(|example| example.key == "b");
    assert_eq!(of_b.expect("an example").at, ["/facets/price"]);
    assert_eq!(story.seen().len(), before, "a look changes nothing");
    story.quiet().await;

    let repair = Check {
        repair: true,
        ..ALL
    };
    let drift = checked(&story, repair).await;
    assert_eq!(drift.repaired, 4);
    story.quiet().await;
    let mut again = story.seen().split_off(before);
    again.sort();
    assert_eq!(again, ["a=1", "b=1", "c=1", "e gone"]);
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_right_at_the_second_look_and_what_is_owed_are_no_differences() {
    let story = taken(&["a", "b"]).await;
    let looks = AtomicUsize::new(0);
    let late = move |item: &Item| match &*item.key {
        "a" if looks.fetch_add(1, Ordering::SeqCst) == 0 => Held::Missing,
        _ => Held::Same,
    };
    story.script.holds(late, Some(Vec::new()));
    let drift = checked(&story, ALL).await;
    assert_eq!((counted(&drift), drift.compared), (Vec::new(), 2));

    story.channel.pause().await.expect("it pauses");
    story.set("b", "price", "2");
    tokio::time::sleep(Duration::from_millis(100)).await;
    story.script.holds(|_| Held::Missing, None);
    let drift = checked(&story, ALL).await;
    assert_eq!(counted(&drift), [(Difference::Missing, 1)], "only a");
    assert_eq!((drift.compared, drift.owed), (1, 1));
    assert_eq!(
        drift.extras,
        Extras::CannotTell("this target cannot list what it holds".into())
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_sample_is_about_as_large_as_it_was_asked_for_and_another_each_time() {
    let keys: Vec<String> = (0..400).map(|number| format!("e{number}")).collect();
    let story = taken(&keys.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let seen: Arc<Mutex<std::collections::HashSet<String>>> = Arc::default();
    let noted = seen.clone();
    let held = move |item: &Item| {
        lock(&noted).insert(item.key.to_string());
        Held::Same
    };
    story.script.holds(held, None);
    for _ in 0..30 {
        let check = Check {
            sample: Some(100),
            repair: false,
        };
        let drift = checked(&story, check).await;
        // Six standard deviations of a binomial distribution.
        assert!((48..=152).contains(&drift.compared), "{}", drift.compared);
        assert_eq!(drift.extras, Extras::NotLookedFor);
    }
    assert!(lock(&seen).len() > 390, "{}", lock(&seen).len());
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_check_that_cannot_be_made_says_why_and_one_that_is_cancelled_ends() {
    let story = taken(&["a"]).await;
    let progress = Progress::default();
    let failed = story.channel.drift(ALL, &progress).await;
    assert_eq!(
        failed,
        Err("this target cannot tell what it holds".to_owned())
    );
    story.script.holds(|_| Held::Missing, None);
    let cancel = progress.cancelled.clone();
    let ended = tokio::join!(story.channel.drift(ALL, &progress), async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel();
    });
    assert_eq!(ended.0, Err("cancelled".to_owned()));
    let target = story.channel.setup().target.clone();
    target.trip("the certificate has expired");
    let failed = story.channel.drift(ALL, &Progress::default()).await;
    assert_eq!(
        failed,
        Err("the target is in trouble: the certificate has expired".to_owned())
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_entity_is_sent_once_more_whatever_its_state_is() {
    let story = Story::begin(Knobs::default(), |seen: &Seen| {
        Reply::Status(if seen.items[0].key.starts_with('r') {
            422
        } else {
            200
        })
    })
    .await;
    story.set("a", "price", "1");
    story.set("refused", "price", "1");
    story
        .until("refused", |story| {
            story.standing("refused") == Standing::Refused
        })
        .await;
    story.set("gone", "price", "1");
    story.quiet().await;
    story.delete("gone");
    story.quiet().await;
    let before = story.seen().len();
    for key in ["a", "refused", "gone"] {
        let resent = story.channel.resend(vec![story.ordinal(key)]).await;
        assert_eq!(resent.expect("it runs"), 1, "{key}");
    }
    story.quiet().await;
    let mut again = story.seen().split_off(before);
    again.sort();
    again.dedup();
    assert_eq!(again, ["a=1", "gone gone", "refused=1"]);
    story.end().await;
}
