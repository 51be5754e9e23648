//! Channels that wait until an entity is quiet, and what of a wait is shown.

use super::*;
use crate::store::Debounce;

fn patient() -> Knobs {
    Knobs {
        options: Options {
            freshness: Some(Duration::from_secs(1)),
            debounce: Some(Debounce {
                quiet: Duration::from_secs(2),
                max: Duration::from_secs(30),
            }),
            ..options()
        },
        ..Knobs::default()
    }
}

/// An import wrote 20 facets of a product one by one, and the shop rebuilt its page 20 times.
#[tokio::test(start_paused = true)]
async fn a_burst_of_changes_is_sent_once_when_it_is_over() {
    let story = Story::begin(patient(), fine).await;
    let time = story.keep_time();
    for value in 0..20 {
        story.set("lamp", "price", &value.to_string());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(story.seen(), [] as [&str; 0]);
    let status = story.channel.status();
    assert_eq!(
        status.reason,
        "entities that wait until they have not changed for 2s: 1"
    );
    assert!(status.freshness > Duration::from_secs(9), "{status:?}");
    assert_eq!(
        (status.waiting.debounce, status.overdue),
        (1, Duration::ZERO),
        "it waits on purpose"
    );
    tokio::time::sleep(Duration::from_millis(1_400)).await;
    assert_eq!(story.seen(), [] as [&str; 0]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(story.seen(), ["lamp=19"]);
    let status = story.channel.status();
    assert_eq!((status.reason.as_str(), status.owed.total()), ("", 0));
    let turns = story.channel.counters().turns();
    assert!(turns < 400, "{turns} turns for 20 changes and a delivery");
    time.abort();
    story.end().await;
}

/// A stock that never stood still was never sent: the longest wait was looked at only when a change came,
/// and then measured from that change.
#[tokio::test(start_paused = true)]
async fn what_changes_all_the_time_is_sent_once_in_the_longest_wait() {
    let story = Story::begin(patient(), fine).await;
    let time = story.keep_time();
    for value in 0..130 {
        story.set("lamp", "price", &value.to_string());
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    // 91 seconds are three waits of 30, each from the first change after a delivery.
    let seen = story.script.seen();
    assert_eq!(seen.len(), 3, "{:?}", story.seen());
    for pair in seen.windows(2) {
        let waited = pair[1].now.duration_since(pair[0].now).expect("later");
        assert!(
            (30..32).contains(&waited.as_secs()),
            "{waited:?} from one to the next"
        );
    }
    story.quiet().await;
    assert_eq!(story.seen().pop().as_deref(), Some("lamp=129"));
    time.abort();
    story.end().await;
}

/// A price changed for the last time while an earlier one was on its way, and nothing woke the channel when
/// it was quiet.
#[tokio::test(start_paused = true)]
async fn what_changed_during_the_last_delivery_is_sent_when_it_is_quiet() {
    let second = Duration::from_secs(1);
    let slow = move |_: &Seen| Reply::After(second, Box::new(Reply::Status(200)));
    let story = Story::begin(patient(), slow).await;
    let time = story.keep_time();
    story.set("lamp", "price", "1");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(story.seen(), ["lamp=1"]);
    story.set("lamp", "price", "2");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(story.seen(), ["lamp=1", "lamp=2"]);
    assert_eq!(story.channel.status().owed.total(), 0);
    time.abort();
    story.end().await;
}

/// A channel joined a moment after a change, and its sweep set the entity aside.
#[tokio::test(start_paused = true)]
async fn what_the_sweep_met_too_early_is_sent_when_it_is_quiet() {
    let store: Arc<Memory> = Arc::default();
    store.set_time(START);
    commit(&store, Lane::Normal, "lamp", "price", Some("1"));
    let story = Story::on(store, Script::new(fine), patient()).await;
    let time = story.keep_time();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(story.seen(), [] as [&str; 0]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(story.seen(), ["lamp=1"]);
    time.abort();
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_urgent_change_takes_the_entity_along_at_once() {
    let story = Story::begin(patient(), fine).await;
    let time = story.keep_time();
    story.set("lamp", "content", "1");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(story.seen(), [] as [&str; 0]);
    story.set_in(Lane::Urgent, "lamp", "price", "5");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(story.seen(), ["lamp=5"]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(story.seen(), ["lamp=5"], "nothing is left to wait");
    time.abort();
    story.end().await;
}

/// A shop was down for a minute. What had waited to be quiet before was late from then on, and what waited
/// on purpose was not.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_is_late_and_a_retry_does_not_wait_again() {
    let down = Arc::new(AtomicBool::new(true));
    let answers = down.clone();
    let story = Story::begin(patient(), move |_| match answers.load(Ordering::SeqCst) {
        true => Reply::Status(500),
        false => Reply::Status(200),
    })
    .await;
    let time = story.keep_time();
    story.set("lamp", "price", "1");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let status = story.channel.status();
    let (age, overdue) = (status.freshness.as_secs(), status.overdue.as_secs());
    assert!((11..=12).contains(&age), "{status:?}");
    assert!((9..=10).contains(&overdue), "without the wait: {status:?}");
    // It is parked: a change does not make it wait again.
    story.set("lamp", "price", "2");
    down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(story.seen().pop().as_deref(), Some("lamp=2"));
    time.abort();
    story.end().await;
}

/// The store waits over a restart, and the channel's next life sends what is quiet then.
#[tokio::test(start_paused = true)]
async fn a_wait_goes_on_over_a_restart() {
    let story = Story::begin(patient(), fine).await;
    let time = story.keep_time();
    story.set("lamp", "price", "1");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (store, script) = (story.store.clone(), story.script.clone());
    story.end().await;
    store.save(Timestamp(0)).await.expect("it saves");
    store.crash();
    let story = Story::on(store, script, patient()).await;
    time.abort();
    let time = story.keep_time();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(story.seen(), [] as [&str; 0]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(story.seen(), ["lamp=1"]);
    time.abort();
    story.end().await;
}

/// A nightly lane alarmed the operators every day at noon, and again every evening when it opened.
#[tokio::test(start_paused = true)]
async fn what_waits_for_its_hours_is_not_late_before_they_have_begun() {
    let down = Arc::new(AtomicBool::new(true));
    let answers = down.clone();
    let story = Story::begin(limits::bulk_waits(), move |_| {
        match answers.load(Ordering::SeqCst) {
            true => Reply::Status(500),
            false => Reply::Status(200),
        }
    })
    .await;
    let time = story.keep_time();
    story.set_in(Lane::Bulk, "lamp", "price", "1");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let status = story.channel.status();
    assert!(status.freshness.as_secs() >= 3_599, "{status:?}");
    assert_eq!(status.overdue, Duration::ZERO);
    assert_eq!(status.waiting.hours.len(), 1);
    // The hours begin after two, and the target is down.
    tokio::time::sleep(Duration::from_secs(3_700)).await;
    let status = story.channel.status();
    let overdue = status.overdue.as_secs();
    assert!((90..=110).contains(&overdue), "{status:?}");
    down.store(false, Ordering::SeqCst);
    story.quiet().await;
    assert_eq!(story.channel.status().overdue, Duration::ZERO);
    time.abort();
    story.end().await;
}
