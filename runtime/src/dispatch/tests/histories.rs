//! Random histories: changes, deletions, restarts and resyncs against a target that applies what it
//! likes and answers what it likes. When it is well again it holds the newest state of everything,
//! and nothing else.

use super::*;
use crate::model::{Payload, Rendering};

type Shop = Arc<Mutex<BTreeMap<String, String>>>;

/// Applies with the chance of a coin, and answers anything; once `well` it applies and answers as
/// it should.
fn moody(
    shop: Shop,
    well: Arc<AtomicBool>,
    dice: Arc<Mutex<fastrand::Rng>>,
) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| {
        let well = well.load(Ordering::SeqCst);
        let (applies, answer) = {
            let mut dice = lock(&dice);
            (dice.bool(), dice.u8(..12))
        };
        let applied = well || applies || (3..).contains(&answer);
        if applied {
            for line in seen(asked) {
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
            1 if !well => Reply::Close,
            2 if !well => Reply::Half(200),
            _ => Reply::Status(200),
        }
    }
}

async fn play(seed: u64, path: &'static str, batch: usize) {
    let dice = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    let (shop, well) = (Shop::default(), Arc::new(AtomicBool::new(false)));
    let store = Arc::new(Memory::default());
    // With `{key}` in the URL the key follows the price, so that each change is a move.
    let chain = || -> Option<Arc<dyn Render>> {
        let moves = |view: &View| {
            let body = format!(
                "{{\"key\":\"{}\",\"facets\":{{\"price\":{}}}}}",
                view.id.key,
                price(view)
            );
            let key = Some(format!("{}-{}", view.id.key, price(view)));
            EntityVerdict::Rendering(Rendering {
                key,
                content_type: None,
                body: Payload::Text(body),
            })
        };
        path.contains("{key}")
            .then(|| Arc::new(Chain("moves", moves)) as Arc<dyn Render>)
    };
    let knobs = || Knobs {
        options: Options {
            batch,
            withdraw_max: WithdrawMax {
                min: u64::MAX,
                ..options().withdraw_max
            },
            ..options()
        },
        path,
        chain: chain(),
        breaker: breaker::Options {
            first: Duration::from_millis(4),
            cap: Duration::from_millis(8),
            ..breaker::Options::default()
        },
        ..Knobs::default()
    };
    let mut story = Story::on(
        store.clone(),
        Fixture::start(moody(shop.clone(), well.clone(), dice.clone())).await,
        knobs(),
    )
    .await;
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
            // Which key an attempt used that came to nothing is known until the next start only.
            84 if chain().is_none() => {
                let (address, fixture) = (story.fixture.address, story.fixture);
                story.channel.stop(Duration::from_millis(20)).await;
                store.save(Timestamp(0)).await.expect("it saves");
                story = Story::on(store.clone(), fixture, knobs()).await;
                assert_eq!(story.fixture.address, address);
            }
            _ => tokio::time::sleep(Duration::from_millis(3)).await,
        }
    }
    well.store(true, Ordering::SeqCst);
    story.quiet().await;
    let key = |(key, price): (String, String)| {
        (
            if path.contains("{key}") {
                format!("{key}-{price}")
            } else {
                key
            },
            price,
        )
    };
    let expected: BTreeMap<String, String> = newest.into_iter().map(key).collect();
    assert_eq!(
        *lock(&shop),
        expected,
        "seed {seed}, {path}, batches of {batch}: {:#?}",
        story.seen()
    );
    story.end().await;
}

#[tokio::test]
async fn whatever_a_target_does_it_holds_the_newest_state_in_the_end() {
    for seed in 0..8 {
        play(seed, "/weir", 1).await;
        play(seed, "/weir", 4).await;
        play(seed, "/p/{key}", 1).await;
    }
}
