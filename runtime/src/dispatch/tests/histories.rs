//! Random histories: changes, deletions, restarts and resyncs against a target that applies
//! requests at random and responds at random. Once it works properly again it must hold the newest
//! state of everything, and nothing else. This also applies to targets that are keyed and take
//! batches, where every change moves the entity to another key.

use super::*;

type Shop = Arc<Mutex<BTreeMap<String, String>>>;

/// Applies requests by the toss of a coin and returns a random response. Once `well`, it applies
/// and responds as it should.
fn moody(
    shop: Shop,
    well: Arc<AtomicBool>,
    dice: Arc<Mutex<fastrand::Rng>>,
) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    move |seen| {
        let well = well.load(Ordering::SeqCst);
        let (applies, answer) = {
            let mut dice = lock(&dice);
            (dice.bool(), dice.u8(..12))
        };
        let applied = well || applies || (3..).contains(&answer);
        if applied {
            for line in lines(seen) {
                match line.strip_suffix(" gone") {
                    Some(key) => lock(&shop).remove(key),
                    None => line.split_once('=').and_then(|(key, price)| {
                        lock(&shop).insert(key.to_owned(), price.to_owned())
                    }),
                };
            }
        }
        match answer {
            0 if !well => Reply::Status(500),
            1 if !well => Reply::uncertain(),
            2 if !well => Reply::After(Duration::from_millis(100), Box::new(Reply::uncertain())),
            _ => Reply::Status(200),
        }
    }
}

async fn play(seed: u64, nature: Nature, batch: usize) {
    let dice = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    let (shop, well) = (Shop::default(), Arc::new(AtomicBool::new(false)));
    let store = Arc::new(Memory::default());
    let knobs = || Knobs {
        options: Options {
            batch,
            withdraw_max: WithdrawMax {
                min: u64::MAX,
                ..options().withdraw_max
            },
            ..options()
        },
        nature,
        // If the target is keyed, each change moves the entity to another key.
        chain: nature.keyed.then(keys_by_price),
        breaker: breaker::Options {
            first: Duration::from_millis(4),
            cap: Duration::from_millis(8),
            ..breaker::Options::default()
        },
        ..Knobs::default()
    };
    let script = Script::new(moody(shop.clone(), well.clone(), dice.clone()));
    let mut story = Story::on(store.clone(), script.clone(), knobs()).await;
    let mut newest = BTreeMap::new();
    for _ in 0..120 {
        let (key, what) = {
            let mut dice = lock(&dice);
            (format!("e{}", dice.u8(..6)), dice.u8(..100))
        };
        match what {
            0..70 => {
                story.set(&key, "price", &(what % 4).to_string());
                newest.insert(key, (what % 4).to_string());
            }
            70..80 => {
                story.delete(&key);
                newest.remove(&key);
            }
            80..82 => story.channel.resync().await.expect("it runs"),
            82..84 => story.channel.rerender().await.expect("it runs"),
            // The key of an attempt that failed is known only until the next start.
            84 if !nature.keyed => {
                story.channel.stop(Duration::from_millis(20)).await;
                store.save(Timestamp(0)).await.expect("it saves");
                story = Story::on(store.clone(), script.clone(), knobs()).await;
            }
            _ => tokio::time::sleep(Duration::from_millis(3)).await,
        }
    }
    well.store(true, Ordering::SeqCst);
    story.quiet().await;
    let key = |(key, price): (String, String)| match nature.keyed {
        true => (format!("{key}-{price}"), price),
        false => (key, price),
    };
    let expected: BTreeMap<String, String> = newest.into_iter().map(key).collect();
    assert_eq!(
        *lock(&shop),
        expected,
        "seed {seed}, {nature:?}, batches of {batch}: {:#?}",
        story.seen()
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_a_target_does_it_holds_the_newest_state_in_the_end() {
    let natures = [
        (false, usize::MAX, false),
        (true, 1, false),
        (true, 3, false),
        (true, 3, true),
    ]
    .map(|(keyed, batch_max, deletes_alone)| Nature {
        keyed,
        batch_max,
        deletes_alone,
        compares: false,
    });
    for seed in 0..24 {
        for nature in natures {
            for batch in [1, 4] {
                play(seed, nature, batch).await;
            }
        }
    }
}
