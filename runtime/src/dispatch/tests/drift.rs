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
    // A target that is written to meanwhile may list a key twice.
    let keys = ["a", "b", "d", "e", "theirs", "theirs"].map(str::to_owned);
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

// A channel had 20 of 620 products. A sample of 10 looked up 310, and the report said that 300 were owed.
#[tokio::test(start_paused = true)]
async fn a_sample_is_one_of_what_was_sent_and_what_was_never_met_is_not_owed() {
    let mut knobs = Knobs::default();
    knobs.options.needs = vec!["price".into()];
    let story = Story::begin(knobs, fine).await;
    for number in 0..300 {
        story.set(&format!("unpriced{number}"), "content", "1");
        story.set(&format!("other{number}"), "stock", "1");
    }
    for number in 0..20 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.quiet().await;
    story.script.holds(|_| Held::Same, Some(Vec::new()));
    for _ in 0..10 {
        let check = Check {
            sample: Some(10),
            repair: false,
        };
        let drift = checked(&story, check).await;
        assert!(drift.compared <= 20, "{}", drift.compared);
        assert_eq!(drift.owed, 0);
    }
    let drift = checked(&story, ALL).await;
    assert_eq!((drift.compared, drift.owed), (320, 0));
    story.end().await;
}

// A renderer gave a variant the key of its product, which is not sent. The check took what it found there for
// a deletion that was lost, and the repair deleted the variant.
#[tokio::test(start_paused = true)]
async fn what_another_entity_holds_under_the_key_of_one_that_is_absent_stays() {
    let chain: Arc<dyn Render> = Arc::new(Chain("variants", |view: &View| match &*view.id.key {
        "lamp" => EntityVerdict::NotRendered,
        _ => EntityVerdict::Rendering(Rendering {
            key: Some("lamp".into()),
            content_type: None,
            body: Payload::Text("{\"facets\":{\"price\":1}}".into()),
        }),
    }));
    let knobs = Knobs {
        chain: Some(chain),
        nature: KEYED,
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    story.set("lamp", "price", "1");
    story.set("lamp-red", "price", "1");
    story.quiet().await;
    let before = story.seen().len();
    let held = |item: &Item| match &item.rendering {
        Some(_) => Held::Same,
        None => Held::Extra,
    };
    story.script.holds(held, Some(vec!["lamp".to_owned()]));
    let repair = Check {
        repair: true,
        ..ALL
    };
    let drift = checked(&story, repair).await;
    assert_eq!((counted(&drift), drift.compared), (Vec::new(), 1));
    story.quiet().await;
    assert_eq!(story.seen().len(), before);
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_that_an_entity_got_during_the_check_is_not_somebody_elses() {
    let knobs = Knobs {
        chain: Some(keys_by_price()),
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    story.set("a", "price", "1");
    story.quiet().await;
    let (store, late) = (story.store.clone(), AtomicBool::new(true));
    let held = move |_: &Item| {
        // Its place in the list has been passed.
        if late.swap(false, Ordering::SeqCst) {
            commit(&store, Lane::Normal, "0", "price", Some("7"));
        }
        Held::Same
    };
    let keys = ["a-1", "0-7", "theirs"].map(str::to_owned);
    story.script.holds(held, Some(keys.to_vec()));
    let drift = checked(&story, ALL).await;
    assert_eq!(counted(&drift), [(Difference::Extra, 1)]);
    assert_eq!(drift.examples[0].key, "theirs");
    story.end().await;
}

// A file had grown to 20 GB. A drift check read all of it in the only slot of the target, and for so long
// nothing was delivered.
#[tokio::test]
async fn a_look_at_files_waits_for_no_delivery_and_no_delivery_waits_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = targets::file::Options {
        folder: folder.path().to_owned(),
        form: targets::file::Form::Lines {
            name: "all.ndjson".into(),
            rotate: targets::file::Rotate::default(),
        },
        timeout: Duration::from_secs(10),
    };
    let knobs = Knobs {
        concurrency: 1,
        ..Knobs::default()
    };
    let kind = Kind::File(Box::new(lines));
    let setup = setup_in(folder.path(), kind, Clock::system(), knobs);
    let story = Story::with(Arc::default(), Script::new(fine), setup).await;
    story.set("a", "price", "1");
    story.quiet().await;
    let target = story.channel.setup().target.clone();
    let delivering = target.permit(false).await.expect("it flows");
    let (check, progress) = (ALL, Progress::default());
    let drift = tokio::time::timeout(PATIENCE, story.channel.drift(check, &progress)).await;
    let drift = drift.expect("it needs no slot").expect("it can be read");
    assert_eq!((drift.compared, drift.extras), (1, Extras::LookedFor));
    drop(delivering);
    story.end().await;
}

// A check went on with the renderer of before a reload, found everything different, and sent it all again.
#[tokio::test(start_paused = true)]
async fn a_check_ends_when_the_channel_gets_another_configuration() {
    let story = taken(&["a"]).await;
    story.script.holds(|_| Held::Missing, None);
    let (progress, next) = (Progress::default(), setup(&story.script, Knobs::default()));
    let ended = tokio::join!(story.channel.drift(ALL, &progress), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        story.channel.replace(next).await.expect("it joins");
    });
    let why = "the configuration of the channel changed during the check; begin it again";
    assert_eq!(ended.0, Err(why.to_owned()));
    story.end().await;
}

// A paused channel sent nothing, and the repair waited for it for ever.
#[tokio::test(start_paused = true)]
async fn a_repair_that_nothing_is_sent_of_is_given_up() {
    let mut knobs = Knobs::default();
    knobs.options.batch = 500;
    let story = Story::forgetful(knobs, fine).await;
    for number in 0..7_500 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.quiet().await;
    story.channel.pause().await.expect("it pauses");
    story.script.holds(|_| Held::Missing, None);
    let repair = Check {
        repair: true,
        ..ALL
    };
    let failed = story.channel.drift(repair, &Progress::default()).await;
    let why = failed.expect_err("it is given up");
    assert!(
        why.starts_with("the repair was given up after 6144 entities"),
        "{why}"
    );
    story.end().await;
}

// Two channels of products filled one index, each with other products. The repair of one deleted what the
// other had sent.
#[tokio::test(start_paused = true)]
async fn what_is_at_the_target_for_another_channel_stays() {
    let story = taken(&["a", "b"]).await;
    story.delete("b");
    story.quiet().await;
    let held = |item: &Item| match &item.rendering {
        Some(_) => Held::Same,
        None => Held::Extra,
    };
    let keys = ["a", "b", "theirs"].map(str::to_owned);
    story.script.holds(held, Some(keys.to_vec()));
    let progress = Progress {
        others: vec!["product".into()],
        ..Progress::default()
    };
    let repair = Check {
        repair: true,
        ..ALL
    };
    let drift = story.channel.drift(repair, &progress).await;
    let drift = drift.expect("the target can be asked");
    assert_eq!(counted(&drift), [(Difference::Extra, 1)]);
    assert_eq!((&*drift.examples[0].key, drift.repaired), ("theirs", 0));
    story.end().await;
}
