//! A channel with a debounce gets an entity when it is quiet: how long it waits, what does not wait, and
//! what a crash leaves of a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir::inside::index::value_hash;
use weir::inside::model::{EntityId, Lane, Timestamp, Track};
use weir::inside::store::memory::Memory;
use weir::inside::store::{
    Commit, Debounce, Effect, Ending, FacetChange, Lease, Queue, Settlement, State, Subscription,
    embedded,
};

use crate::world::{Subject, commit_all, folder, join, walk};

/// The time of the embedded stores of these stories, one story at a time.
static NOW: AtomicU64 = AtomicU64::new(0);
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

struct Story<'s> {
    subject: &'s Subject,
    queue: Arc<dyn Queue>,
    now: u64,
}

/// Plays a story on each store. A channel waits for a second of quiet, and three seconds at most.
fn check(story: impl Fn(&mut Story<'_>)) {
    let _alone = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = folder();
    let mut options = embedded::Options::new(folder.path());
    options.cache_bytes = 16 << 20;
    options.now = || Timestamp(NOW.load(Ordering::SeqCst));
    NOW.store(0, Ordering::SeqCst);
    let embedded = embedded::Embedded::open(options).expect("it opens");
    for subject in [
        Subject::Memory(Box::<Memory>::default()),
        Subject::Embedded(Arc::new(embedded)),
    ] {
        NOW.store(0, Ordering::SeqCst);
        let queue = joins(&subject, Some(debounce()));
        let mut told = Story {
            subject: &subject,
            queue,
            now: 0,
        };
        told.at(0);
        story(&mut told);
    }
}

fn debounce() -> Debounce {
    Debounce {
        quiet: Duration::from_millis(1_000),
        max: Duration::from_millis(3_000),
    }
}

fn joins(subject: &Subject, debounce: Option<Debounce>) -> Arc<dyn Queue> {
    let subscription = Subscription {
        entity_type: "product".into(),
        facets: vec!["price".into(), "stock".into()],
        shape: 1,
        shape_label: "page".into(),
        target: 1,
        debounce,
    };
    join(subject.store(), "shop", &subscription).0
}

impl Story<'_> {
    /// Time goes on to this moment, in milliseconds.
    fn at(&mut self, now: u64) {
        self.now = now;
        NOW.store(now, Ordering::SeqCst);
        if let Subject::Memory(store) = self.subject {
            store.set_time(Timestamp(now));
        }
    }

    fn sets_in(&self, lane: Lane, value: Option<&str>) {
        self.changes("price", lane, value);
    }

    fn changes(&self, facet: &str, lane: Lane, value: Option<&str>) {
        let change = FacetChange {
            id: EntityId {
                entity_type: "product".into(),
                key: "lamp".into(),
            },
            facet: facet.into(),
            owner: "erp".into(),
            lane,
            version: None,
            hash: value.map_or(0, value_hash),
            value: value.map(Arc::from),
        };
        let event = Commit {
            source: "erp".into(),
            identity: None,
            arrival: None,
            effect: Effect::Changes(vec![change]),
        };
        commit_all(self.subject.store(), vec![event]);
    }

    fn sets(&self, value: &str) {
        self.sets_in(Lane::Normal, Some(value));
    }

    fn meets(&self) -> Option<Lease> {
        let mut taken = Vec::new();
        for track in Track::ALL {
            while walk(&*self.queue, track, 10, &mut taken) {}
        }
        assert!(taken.len() < 2, "there is one entity");
        taken.pop()
    }

    fn ends(&self, lease: &Lease, ending: Ending) -> Vec<Lease> {
        let end = Settlement {
            ordinal: lease.ordinal,
            revision: lease.revision,
            ending,
        };
        let mut again = Vec::new();
        self.queue.settle(&[end], &mut again);
        again
    }

    fn delivers(&self) -> Vec<Lease> {
        let lease = self.meets().expect("it is quiet");
        self.ends(&lease, delivered())
    }

    fn crashes(&mut self) {
        self.subject.crash();
        self.queue = joins(self.subject, Some(debounce()));
    }
}

fn delivered() -> Ending {
    Ending::Delivered {
        digest: 7,
        target_key: None,
    }
}

/// An import wrote each product eleven times, and a shop was sent eleven states of each.
#[test]
fn an_entity_is_met_when_it_has_been_quiet() {
    check(|story| {
        for (time, value) in [(0, "1"), (700, "2"), (1_400, "3")] {
            story.at(time);
            story.sets(value);
            assert!(story.meets().is_none(), "at {time} it has just changed");
            assert_eq!(story.queue.owed().waiting, 1);
        }
        story.at(2_300);
        // An unchanged value is no change.
        story.sets("3");
        assert!(story.meets().is_none());
        let standing = |story: &Story<'_>| {
            let lamp = EntityId {
                entity_type: "product".into(),
                key: "lamp".into(),
            };
            let ordinal = story.subject.store().find(&lamp).expect("it is there");
            story.queue.standing(ordinal).expect("it subscribes")
        };
        let waiting = standing(story);
        assert!(matches!(waiting.state, State::Waiting { .. }) && waiting.owed);
        assert_eq!(waiting.waits_until, Some(Timestamp(2_400)));
        assert_eq!(waiting.since, Some(Timestamp(0)), "since its first change");
        story.at(2_400);
        assert!(story.delivers().is_empty());
        assert_eq!(standing(story).state, State::Delivered);
        let owed = story.queue.owed();
        assert_eq!((owed.waiting, owed.total(), owed.oldest), (0, 0, None));
    });
}

/// A stock that changed every half second was not sent for a whole day. A maximum that began again with
/// each start would not have helped: the machine was restarted each night.
#[test]
fn an_entity_that_is_never_quiet_is_met_after_the_longest_wait_also_over_a_crash() {
    check(|story| {
        for time in (0..3_000).step_by(500) {
            story.at(time);
            story.sets(&time.to_string());
            assert!(story.meets().is_none(), "at {time}");
            if time == 1_000 {
                story
                    .subject
                    .store()
                    .save(Timestamp(0))
                    .wait()
                    .expect("it saves");
            }
            if time == 1_500 {
                story.crashes();
            }
        }
        story.at(2_900);
        assert!(story.meets().is_none());
        // Its time comes by itself, without a change.
        story.at(3_000);
        assert!(story.delivers().is_empty());
        story.at(3_100);
        story.sets("later");
        assert!(story.meets().is_none(), "the next wait begins");
        story.at(4_100);
        assert!(story.delivers().is_empty());
    });
}

#[test]
fn a_deletion_waits_too_and_what_is_urgent_does_not() {
    check(|story| {
        story.sets("1");
        assert!(story.meets().is_none());
        story.sets_in(Lane::Urgent, Some("2"));
        let lease = story.meets().expect("it is urgent");
        assert_eq!(lease.track, Track::Lane(Lane::Urgent));
        story.ends(&lease, delivered());
        assert_eq!(story.queue.owed().total(), 0, "it took what waited with it");
        story.at(500);
        story.sets_in(Lane::Normal, None);
        assert!(story.meets().is_none());
        story.at(1_500);
        let lease = story.meets().expect("it is quiet");
        story.ends(&lease, Ending::Withdrawn);
        story.at(2_000);
        story.sets_in(Lane::Urgent, Some("3"));
        story.delivers();
        story.sets_in(Lane::Urgent, None);
        assert!(story.meets().is_some(), "an urgent deletion goes at once");
    });
}

#[test]
fn a_retry_does_not_wait_and_a_change_during_a_delivery_does() {
    check(|story| {
        story.sets("1");
        story.meets();
        story.at(1_000);
        let lease = story.meets().expect("it is quiet");
        story.at(1_100);
        story.sets("2");
        story.meets();
        story.ends(&lease, Ending::Parked { attempts: 1 });
        assert!(story.meets().is_none(), "it waits for its retry");
        let lease = story.queue.retry(lease.ordinal).expect("at any time");
        story.at(1_200);
        story.sets("3");
        story.meets();
        assert!(
            story.ends(&lease, delivered()).is_empty(),
            "the third waits"
        );
        story.at(2_100);
        assert!(story.meets().is_none());
        story.at(2_200);
        let lease = story.meets().expect("it is quiet");
        story.sets_in(Lane::Urgent, Some("4"));
        story.meets();
        let again = story.ends(&lease, delivered());
        assert_eq!(again.len(), 1, "an urgent change runs again at once");
    });
}

/// A bulk change came after a normal one while the entity was being delivered. Both waited in the bulk lane,
/// which had to wait for the night.
#[test]
fn what_changed_during_a_delivery_waits_in_the_more_urgent_of_its_lanes() {
    check(|story| {
        story.sets("1");
        assert!(story.meets().is_none());
        story.at(1_000);
        let lease = story.meets().expect("it is quiet");
        story.sets("2");
        assert!(story.meets().is_none(), "it is in flight");
        story.changes("stock", Lane::Bulk, Some("5"));
        assert!(story.meets().is_none(), "it is in flight");
        assert!(story.ends(&lease, delivered()).is_empty(), "both wait");
        story.at(2_000);
        let lease = story.meets().expect("it is quiet");
        assert_eq!(lease.track, Track::Lane(Lane::Normal));
        story.ends(&lease, delivered());
        assert_eq!(story.queue.owed().total(), 0);
    });
}

/// An operator shortened a wait of hours, removed it in the end, and nothing happened until it was over.
#[test]
fn another_debounce_holds_for_waits_that_have_begun() {
    check(|story| {
        let hours = Debounce {
            quiet: Duration::from_secs(3_600),
            max: Duration::from_secs(36_000),
        };
        story.queue = joins(story.subject, Some(hours));
        story.sets("1");
        assert!(story.meets().is_none());
        story.at(500);
        story.queue = joins(story.subject, Some(debounce()));
        assert!(story.meets().is_none());
        story.at(1_000);
        story.delivers();
        story.sets("2");
        assert!(story.meets().is_none());
        story.queue = joins(story.subject, None);
        story.delivers();
    });
}

/// The clock was an hour fast, and was set right. For an hour nothing was sent.
#[test]
fn nobody_waits_for_a_clock_that_was_set_back() {
    let only_on_disk = |story: &mut Story<'_>| {
        if let Subject::Memory(_) = story.subject {
            return;
        }
        story.at(3_600_000);
        story.sets("1");
        assert!(story.meets().is_none());
        story.at(1_000);
        story.delivers();
        story.sets("2");
        story.delivers();
    };
    check(only_on_disk);
}
