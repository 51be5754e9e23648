//! The number of entities in a request and its form: each channel decides them for itself, within
//! the limits of the target's kind.

use super::*;

/// A target that is keyed and takes batches, like a search index.
const INDEX: Nature = Nature {
    keyed: true,
    batch_max: 100,
    deletes_alone: false,
    compares: false,
};

/// The attempts so far, each as `form: line, line`.
fn attempts(script: &Script) -> Vec<String> {
    let attempt = |seen: &Seen| {
        let form = match seen.form {
            Form::Single => "single",
            Form::Batch => "batch",
        };
        let mut lines = lines(seen);
        lines.sort();
        format!("{form}: {}", lines.join(", "))
    };
    script.seen().iter().map(attempt).collect()
}

/// A shop received bare renderings from one channel for years. Then somebody set `batch = 20` on
/// another channel of the same target, and the first one sent arrays.
#[tokio::test(start_paused = true)]
async fn a_channel_without_batch_sends_bare_renderings_whatever_others_of_its_target_do() {
    let story = Story::begin(Knobs::default(), fine).await;
    let second = |batch| {
        let options = Options {
            name: "search".into(),
            facets: vec!["content".into()],
            batch,
            ..options()
        };
        let mut setup = setup(
            &story.script,
            Knobs {
                options,
                ..Knobs::default()
            },
        );
        setup.target = story.channel.setup().target.clone();
        setup
    };
    let (search, _) = Channel::start(second(1), story.store.clone(), CancellationToken::new())
        .await
        .expect("it joins");
    let handle = search.setup().target.clone();
    search.replace(second(20)).await.expect("it runs");
    story.set("a", "price", "1");
    story.quiet().await;
    story.set("b", "content", "{}");
    story.quiet().await;
    assert_eq!(
        attempts(&story.script)[..1],
        ["single: a=1"],
        "the first channel's"
    );
    let mut both = attempts(&story.script)[1..].to_vec();
    both.sort();
    assert_eq!(both, ["batch: b=null", "single: b=null"]);
    assert!(
        Arc::ptr_eq(&handle, &search.setup().target),
        "with its breaker"
    );
    search.stop(Duration::from_millis(500)).await;
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_takes_few_at_once_is_given_no_more() {
    let few = Nature {
        keyed: false,
        batch_max: 3,
        deletes_alone: false,
        compares: false,
    };
    let knobs = Knobs {
        nature: few,
        options: Options {
            batch: 10,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    for number in 0..20 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.quiet().await;
    assert_eq!(story.seen().len(), 20);
    assert!(
        story
            .script
            .seen()
            .iter()
            .all(|seen| seen.items.len() <= 3 && seen.form == Form::Batch)
    );
    story.end().await;
}

/// An API of bare contents has no place for a deletion in a batch, and names the item that it refuses:
/// the others are sent again without it, at once.
#[tokio::test(start_paused = true)]
async fn deletions_go_alone_and_the_others_of_a_batch_do_without_the_one_that_is_refused() {
    let nature = Nature {
        deletes_alone: true,
        compares: false,
        ..INDEX
    };
    let knobs = Knobs {
        nature,
        options: Options {
            batch: 10,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, |seen| {
        let bad = |item: &targets::Item| &*item.key == "bad";
        if !seen.items.iter().any(bad) {
            return Reply::Status(200);
        }
        let outcome = |item: &targets::Item| match bad(item) {
            true => Outcome::Refused {
                reason: "no price".into(),
                after_tries: false,
            },
            false => Outcome::Split {
                reason: "another item of the request was refused".into(),
                too_long: false,
            },
        };
        Reply::Each(seen.items.iter().map(outcome).collect())
    })
    .await;
    for key in ["a", "bad", "b", "old", "lost"] {
        story.set(key, "price", "1");
    }
    story.quiet().await;
    let first = attempts(&story.script);
    assert_eq!(
        first.last().map(String::as_str),
        Some("batch: a=1, b=1, lost=1, old=1"),
        "{first:?}"
    );
    story.delete("old");
    story.delete("lost");
    story.set("a", "price", "2");
    story.quiet().await;
    let mut then = attempts(&story.script)[first.len()..].to_vec();
    then.sort();
    assert_eq!(then, ["batch: a=2", "batch: lost gone", "batch: old gone"]);
    story.end().await;
}

async fn moving(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Story {
    let knobs = Knobs {
        nature: INDEX,
        options: Options {
            batch: 10,
            ..options()
        },
        chain: Some(keys_by_price()),
        ..Knobs::default()
    };
    let story = Story::begin(knobs, reply).await;
    for key in ["a", "b", "c"] {
        story.set(key, "price", "1");
    }
    story.quiet().await;
    story
}

/// Deletions of old keys were sent only for an entity that was alone in its request: a target that
/// is keyed and takes batches would have kept every renamed document for ever, without an error.
#[tokio::test(start_paused = true)]
async fn a_batch_deletes_what_its_entities_have_under_old_keys_before_it_puts_anything() {
    let story = moving(fine).await;
    story.channel.pause().await.expect("it runs");
    for (key, price) in [("a", "2"), ("b", "2"), ("d", "1")] {
        story.set(key, "price", price);
    }
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert_eq!(
        attempts(&story.script),
        [
            "batch: a-1=1, b-1=1, c-1=1",
            "batch: a-1 gone, b-1 gone",
            "batch: a-2=2, b-2=2, d-1=1",
        ]
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_entity_whose_old_key_could_not_be_deleted_waits_and_the_others_do_not() {
    let first = AtomicBool::new(true);
    let story = moving(move |seen| {
        let deletes = seen.items.iter().all(|item| item.rendering.is_none());
        if !deletes || !first.swap(false, Ordering::SeqCst) {
            return Reply::Status(200);
        }
        let outcome = |item: &targets::Item| match &*item.key {
            "a-1" => Outcome::Retry {
                reason: "busy".into(),
                maybe_applied: false,
            },
            _ => Outcome::Delivered,
        };
        Reply::Each(seen.items.iter().map(outcome).collect())
    })
    .await;
    story.channel.pause().await.expect("it runs");
    for key in ["a", "b"] {
        story.set(key, "price", "2");
    }
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert_eq!(
        attempts(&story.script)[1..],
        [
            "batch: a-1 gone, b-1 gone",
            "batch: b-2=2",
            "batch: a-1 gone",
            "batch: a-2=2",
        ]
    );
    story.end().await;
}

/// Two products swapped their numbers. If each were deleted just before it is put, or if a refused
/// batch were halved with its deletions, the second deletion would remove the first product.
#[tokio::test(start_paused = true)]
async fn entities_that_swap_keys_in_one_batch_are_both_there_afterwards() {
    let swap = Chain("swap", |view: &View| {
        EntityVerdict::Rendering(Rendering {
            key: Some(price(view).to_owned()),
            content_type: None,
            body: Payload::Text(format!("{{\"facets\":{{\"price\":{}}}}}", price(view))),
        })
    });
    let shop: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let held = shop.clone();
    let refuses = AtomicBool::new(false);
    let knobs = Knobs {
        nature: INDEX,
        options: Options {
            batch: 10,
            ..options()
        },
        chain: Some(Arc::new(swap)),
        ..Knobs::default()
    };
    let story = Story::begin(knobs, move |seen: &Seen| {
        let puts = seen.items.iter().all(|item| item.rendering.is_some());
        let both = seen.items.len() == 2;
        // When both are put for the second time, after the swap, the request is refused as a whole.
        if puts && both && refuses.swap(true, Ordering::SeqCst) {
            return Reply::Status(400);
        }
        for item in &seen.items {
            match &item.rendering {
                Some(_) => lock(&held).insert(item.key.to_string(), item.entity.key.to_string()),
                None => lock(&held).remove(&*item.key),
            };
        }
        Reply::Status(200)
    })
    .await;
    for prices in [["1", "2"], ["2", "1"]] {
        story.channel.pause().await.expect("it runs");
        for (key, price) in ["a", "b"].into_iter().zip(prices) {
            story.set(key, "price", price);
        }
        story.channel.resume().await.expect("it runs");
        story.quiet().await;
    }
    let expected =
        [("1", "b"), ("2", "a")].map(|(key, entity)| (key.to_owned(), entity.to_owned()));
    assert_eq!(*lock(&shop), BTreeMap::from(expected));
    assert_eq!(
        story.script.seen().len(),
        5,
        "put, delete, refused, and its halves"
    );
    story.end().await;
}

/// Bytes of the items of a request.
fn bytes(seen: &Seen) -> usize {
    let body = |item: &targets::Item| {
        item.rendering
            .as_ref()
            .map_or(0, |it| it.body.as_bytes().len())
    };
    seen.items.iter().map(body).sum()
}

/// A shop takes 100 kB a request. 200 products of 5 kB were sent to it at once, and refused, and
/// halved, each time anew: 10.4 MB for 2.1.
#[tokio::test(start_paused = true)]
async fn what_a_413_taught_is_remembered() {
    let knobs = || Knobs {
        options: Options {
            batch: 200,
            ..options()
        },
        ..Knobs::default()
    };
    let script = |seen: &Seen| Reply::Status(if bytes(seen) > 100_000 { 413 } else { 200 });
    let story = Story::begin(knobs(), script).await;
    let mut rounds = Vec::new();
    for round in 0..3 {
        let before = story.script.seen().len();
        story.channel.pause().await.expect("it runs");
        let text = format!("\"{}{round}\"", "x".repeat(5_000));
        for number in 0..400 {
            story.set(&format!("e{number}"), "content", &text);
        }
        story.channel.resume().await.expect("it runs");
        story.quiet().await;
        let seen = story.script.seen()[before..].to_vec();
        let refused = seen.iter().filter(|seen| bytes(seen) > 100_000).count();
        let sent: usize = seen.iter().map(bytes).sum();
        rounds.push((refused, sent / 10_000, seen.len()));
    }
    let content = 400 * 5_050 / 10_000;
    let (refused, sent, requests) = rounds[2];
    assert!(refused == 0 && sent <= content + 1, "{rounds:?}");
    assert!(requests <= 28, "nearly full: {rounds:?}");

    let memory = story.channel.setup().target.memory().expect("it learned");
    let handle = story.channel.setup().target.clone();
    let (clock, dice) = (handle.clock(), fastrand::Rng::with_seed(1));
    let later = TargetHandle::open(
        handle.options().clone(),
        knobs().breaker,
        clock,
        dice,
        Some(&memory),
        None,
        opening(),
    );
    let later = later.expect("a target").request_bytes_max();
    assert_eq!(later, handle.request_bytes_max(), "also after a restart");
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_has_no_more_bytes_than_configured_unless_one_entity_has() {
    let knobs = Knobs {
        options: Options {
            batch: 100,
            batch_bytes: 10_000,
            ..options()
        },
        ..Knobs::default()
    };
    let story = Story::begin(knobs, fine).await;
    for number in 0..50 {
        let length = if number == 7 { 50_000 } else { 900 };
        let text = format!("\"{}\"", "x".repeat(length));
        story.set(&format!("e{number}"), "content", &text);
    }
    story.quiet().await;
    let seen = story.script.seen();
    assert_eq!(story.seen().len(), 50);
    assert!(
        seen.iter()
            .all(|seen| bytes(seen) <= 10_000 || seen.items.len() == 1),
        "{:?}",
        seen.iter().map(bytes).collect::<Vec<_>>()
    );
    assert!(seen.len() <= 9, "{} requests", seen.len());
    story.end().await;
}

/// A renderer of large bodies that counts the bytes of those that are rendered and not yet sent.
#[derive(Clone)]
struct Large {
    /// The bytes that it adds to the rendering of an entity with this price.
    more: fn(&str) -> usize,
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Large {
    fn new(more: fn(&str) -> usize) -> Large {
        Large {
            more,
            held: Arc::default(),
            most: Arc::default(),
        }
    }

    /// A target that answers after 100 ms.
    fn slow_target(&self) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
        let held = self.held.clone();
        move |seen: &Seen| {
            let bodies = seen.items.iter().flat_map(|item| &item.rendering);
            let bytes = bodies.map(|it| it.body.as_bytes().len()).sum();
            held.fetch_sub(bytes, Ordering::SeqCst);
            Reply::After(Duration::from_millis(100), Box::new(Reply::Status(200)))
        }
    }
}

impl Render for Large {
    fn render<'a>(
        &'a self,
        views: Arc<Vec<View>>,
        _: Priority,
        room: &'a Arc<Room>,
    ) -> BoxFuture<'a, Vec<EntityVerdict>> {
        let rendering = |view: &View| {
            let (price, more) = (price(view), (self.more)(price(view)));
            let body = format!("{{\"facets\":{{\"price\":{price}}}}}{}", " ".repeat(more));
            let bytes = body.len();
            room.take(bytes as u64).then(|| {
                let held = self.held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                self.most.fetch_max(held, Ordering::SeqCst);
                EntityVerdict::Rendering(Rendering {
                    key: None,
                    content_type: None,
                    body: Payload::Text(body),
                })
            })
        };
        Box::pin(async move { views.iter().map_while(rendering).collect() })
    }

    fn label(&self) -> Arc<str> {
        "large".into()
    }
}

/// A renderer gave 15 MiB for each product, and the target was slow: 64 of them and their requests
/// were in memory.
#[tokio::test(start_paused = true)]
async fn large_renderings_for_a_slow_target_are_few_at_a_time() {
    let chain = Large::new(|_| 15 * 1024 * 1024);
    let (script, most) = (chain.slow_target(), chain.most.clone());
    let knobs = Knobs {
        concurrency: 16,
        chain: Some(Arc::new(chain)),
        ..Knobs::default()
    };
    let story = Story::forgetful(knobs, script).await;
    for number in 0..40 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story.quiet_within(Duration::from_secs(60)).await;
    assert_eq!(delivered(&story), 40);
    let (most, in_flight) = (most.load(Ordering::SeqCst), story.script.most_at_once());
    assert!(
        2 * most <= BYTES_MAX && in_flight <= 4,
        "{most} bytes waited, {in_flight} renderings of 15 MiB were in flight"
    );
    story.end().await;
}

/// A renderer gave a few bytes for each product and then 4 MiB. So many renderings as had fitted into
/// the channel's memory before were made before the first of them was counted.
#[tokio::test(start_paused = true)]
async fn renderings_that_become_much_larger_keep_within_the_memory_of_the_channel() {
    let chain = Large::new(|price| if price == "1" { 9 } else { 4 * 1024 * 1024 });
    let (script, most) = (chain.slow_target(), chain.most.clone());
    let knobs = Knobs {
        options: Options {
            batch: 64,
            ..options()
        },
        concurrency: 16,
        chain: Some(Arc::new(chain)),
        ..Knobs::default()
    };
    let story = Story::forgetful(knobs, script).await;
    for (rounds, price) in (1..).zip(["1", "2", "1", "2"]) {
        for number in 0..100 {
            story.set(&format!("e{number}"), "price", price);
        }
        story.quiet_within(Duration::from_secs(60)).await;
        assert_eq!(delivered(&story), rounds * 100);
    }
    let most = most.load(Ordering::SeqCst);
    assert!(2 * most <= BYTES_MAX, "{most} bytes waited");
    story.end().await;
}

fn delivered(story: &Story) -> u64 {
    let counters = story.channel.counters();
    counters.count(status::DeliveryResult::Delivered)
}

/// Entities larger than all that a channel may have in memory go one at a time.
#[tokio::test(start_paused = true)]
async fn huge_entities_make_progress_one_at_a_time() {
    let text = format!("\"{}\"", "x".repeat(BYTES_MAX / 2));
    let script = |_: &Seen| Reply::After(Duration::from_millis(100), Box::new(Reply::Status(200)));
    let story = Story::forgetful(Knobs::default(), script).await;
    story.channel.pause().await.expect("it runs");
    for number in 0..4 {
        story.set(&format!("e{number}"), "content", &text);
    }
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    assert_eq!(delivered(&story), 4);
    assert_eq!(story.script.most_at_once(), 1);
    story.end().await;
}

/// A table that keeps the sequence of each row, of deleted ones too, and leaves newer rows as they are.
#[derive(Clone, Default)]
struct Guarded(Arc<Mutex<BTreeMap<String, Row>>>);

/// The sequence of a row, and the entity that it is of; `None` if it is deleted.
type Row = (Sequence, Option<String>);

impl Guarded {
    fn write(&self, seen: &Seen) -> Reply {
        let mut rows = lock(&self.0);
        for item in &seen.items {
            let content = item.rendering.as_ref();
            let content = content.map(|_| item.entity.key.to_string());
            let row = rows.entry(item.key.to_string()).or_default();
            if row.0 <= item.sequence {
                *row = (item.sequence, content);
            }
        }
        Reply::Status(200)
    }

    /// The rows that are there, as `key: entity`.
    fn rows(&self) -> Vec<String> {
        let rows = lock(&self.0);
        let there = rows
            .iter()
            .filter_map(|(key, (_, entity))| Some((key, entity.as_ref()?)));
        there
            .map(|(key, entity)| format!("{key}: {entity}"))
            .collect()
    }
}

/// Entities are kept under the key that their price names. A request takes 100 ms.
async fn passing(table: &Guarded) -> Story {
    let chain = Chain("passes", |view: &View| {
        EntityVerdict::Rendering(Rendering {
            key: Some(format!("k{}", price(view))),
            content_type: None,
            body: Payload::Text(format!("{{\"of\":\"{}\"}}", view.id.key)),
        })
    });
    let knobs = Knobs {
        nature: Nature {
            compares: true,
            ..INDEX
        },
        concurrency: 1,
        options: Options {
            batch: 10,
            ..options()
        },
        chain: Some(Arc::new(chain)),
        ..Knobs::default()
    };
    let table = table.clone();
    let slowly =
        move |seen: &Seen| Reply::After(Duration::from_millis(100), Box::new(table.write(seen)));
    let story = Story::forgetful(knobs, slowly).await;
    for (key, price) in [("a", "1"), ("b", "2"), ("c", "3")] {
        story.set(key, "price", price);
    }
    story.quiet().await;
    story
}

/// A renderer gave the key of one product to another. The deletion of the old key had the newer sequence:
/// the row stayed deleted, because the other product counted as older, and both counted as delivered.
#[tokio::test(start_paused = true)]
async fn a_key_that_passes_to_another_entity_is_the_others_afterwards() {
    // The new owner of the key waits for its turn while the old one changes, so both are in one batch.
    let table = Guarded::default();
    let story = passing(&table).await;
    story.set("c", "price", "4");
    tokio::time::sleep(Duration::from_millis(30)).await;
    story.set("b", "price", "1");
    tokio::time::sleep(Duration::from_millis(30)).await;
    story.set("a", "price", "5");
    story.quiet().await;
    assert_eq!(table.rows(), ["k1: b", "k4: c", "k5: a"]);
    story.end().await;

    // The new owner has been delivered when the old one goes to another key, or goes.
    for price in ["5", ""] {
        let table = Guarded::default();
        let story = passing(&table).await;
        story.set("b", "price", "1");
        story.quiet().await;
        match price {
            "" => story.delete("a"),
            price => story.set("a", "price", price),
        }
        story.quiet().await;
        let expected: &[&str] = match price {
            "" => &["k1: b", "k3: c"],
            _ => &["k1: b", "k3: c", "k5: a"],
        };
        assert_eq!(table.rows(), expected, "{price:?}");
        story.end().await;
    }
}
