//! The guard against mass withdrawal: whatever is changed by mistake, a target loses no more than
//! `withdraw_max` until an operator confirms.

use super::*;

const ENTITIES: usize = 40;
const MIN: u64 = 10;

/// A target with a document under each key.
#[derive(Default)]
struct Documents {
    keys: BTreeMap<String, String>,
    /// Deletes of documents that were there.
    lost: u64,
    /// Deletes of documents that were not there.
    repeated: u64,
}

impl Documents {
    fn takes(&mut self, seen: &Seen) {
        for line in lines(seen) {
            match line.strip_suffix(" gone") {
                Some(key) if self.keys.remove(key).is_some() => self.lost += 1,
                Some(_) => self.repeated += 1,
                None => {
                    let (key, price) = line.split_once('=').expect("a rendering");
                    self.keys.insert(key.into(), price.into());
                }
            }
        }
    }
}

/// A rendering under this key.
fn under(key: impl Fn(&View) -> String) -> impl Fn(&View) -> EntityVerdict {
    move |view| {
        EntityVerdict::Rendering(Rendering {
            key: Some(key(view)),
            content_type: None,
            body: Payload::Text(format!("{{\"facets\":{{\"price\":\"{}\"}}}}", price(view))),
        })
    }
}

fn chain(number: u8) -> Option<Arc<dyn Render>> {
    let own = |view: &View| view.id.key.to_string();
    Some(match number {
        0 => Arc::new(Chain("own key", under(own))),
        1 => Arc::new(Chain("one key for all", under(|_| "same".into()))),
        2 => Arc::new(Chain(
            "first letters",
            under(|view| view.id.key[..2].into()),
        )),
        3 => keys_by_price(),
        4 => Arc::new(Chain("filtered", |_: &View| EntityVerdict::Filtered(0))),
        5 => Arc::new(Chain("nothing", |_: &View| EntityVerdict::NotRendered)),
        6 => Arc::new(Chain("some", move |view: &View| match price(view) {
            "1" => EntityVerdict::Filtered(0),
            _ => under(own)(view),
        })),
        _ => return None,
    })
}

fn knobs(renderer: u8, facets: &[&str], needs: &[&str]) -> Knobs {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Knobs {
        options: Options {
            facets: owned(facets),
            needs: owned(needs),
            withdraw_max: WithdrawMax {
                share: 0.0,
                per: Duration::from_secs(3600),
                min: MIN,
            },
            ..options()
        },
        nature: KEYED,
        chain: chain(renderer),
        ..Knobs::default()
    }
}

/// A shop with all entities delivered.
async fn filled() -> (Arc<Mutex<Documents>>, Story) {
    let documents = Arc::new(Mutex::new(Documents::default()));
    let shop = documents.clone();
    let script = Script::new(move |seen| {
        lock(&shop).takes(seen);
        Reply::Status(200)
    });
    let story = Story::on(Arc::default(), script, knobs(0, &["content", "price"], &[])).await;
    for n in 0..ENTITIES {
        story.set(&format!("{n:02}"), "price", &(n % 4).to_string());
        story.set(&format!("{n:02}"), "content", "1");
    }
    story.quiet().await;
    assert_eq!(lock(&documents).keys.len(), ENTITIES);
    (documents, story)
}

async fn settled() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

async fn restarted(story: Story, knobs: Knobs) -> Story {
    let Story {
        store,
        script,
        channel,
    } = story;
    channel.stop(Duration::from_millis(20)).await;
    store.save(Timestamp(0)).await.expect("it saves");
    Story::on(store, script, knobs).await
}

/// A new version of a renderer gave all entities the same key. Each entity moved, the old keys were
/// deleted, and of 1,000 documents one was left, although the guard held nothing.
#[tokio::test(start_paused = true)]
async fn a_renderer_whose_keys_move_does_not_empty_a_shop() {
    let (documents, story) = filled().await;
    let moved = setup(&story.script, knobs(1, &["content", "price"], &[]));
    story.channel.replace(moved).await.expect("it runs");
    settled().await;
    assert_eq!(lock(&documents).lost, MIN);
    let owed = story.channel.status().owed;
    assert_eq!(owed.held, ENTITIES as u64 - MIN, "the others are held");
    assert_eq!(
        lock(&documents).keys.len(),
        ENTITIES - MIN as usize + 1,
        "and held as a whole: their documents are as they were"
    );
    story.channel.confirm().await.expect("it runs");
    story.quiet().await;
    assert_eq!(lock(&documents).keys.len(), 1, "it was meant");
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_release_what_is_held() {
    let (documents, mut story) = filled().await;
    for n in 0..ENTITIES {
        story.delete(&format!("{n:02}"));
    }
    settled().await;
    for _ in 0..5 {
        assert_eq!(lock(&documents).lost, MIN);
        story = restarted(story, knobs(0, &["content", "price"], &[])).await;
        for n in 0..ENTITIES {
            story.set(&format!("{n:02}"), "content", "");
        }
        settled().await;
    }
    assert_eq!(lock(&documents).lost, MIN);
    story.end().await;
}

/// A resync sends the deletes of what was withdrawn once more. They take nothing from the target
/// that it was not told to delete before, so they do not count.
#[tokio::test(start_paused = true)]
async fn the_repetition_of_an_acknowledged_delete_does_not_count() {
    let (documents, story) = filled().await;
    for n in 0..MIN {
        story.delete(&format!("{n:02}"));
    }
    story.quiet().await;
    assert_eq!(lock(&documents).lost, MIN);
    for round in 1..=2 {
        story.channel.resync().await.expect("it runs");
        story.quiet().await;
        assert_eq!(lock(&documents).repeated, MIN * round, "none is held");
    }
    story.delete("39");
    settled().await;
    assert_eq!(story.channel.status().owed.held, 1, "a new one does count");
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_changes_no_more_than_the_guard_admits_is_deleted() {
    for seed in 0..40 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (documents, mut story) = filled().await;
        let mut history = Vec::new();
        for _ in 0..12 {
            let facets = [&["content", "price"][..], &["price"], &["stock"]];
            let needs = [&[][..], &["price"], &["stock"]];
            let (what, renderer) = (dice.u8(..10), dice.u8(..8));
            let (facets, needs) = (facets[dice.usize(..3)], needs[dice.usize(..3)]);
            history.push((what, renderer, facets, needs));
            match what {
                0..4 => {
                    let changed = setup(&story.script, knobs(renderer, facets, needs));
                    drop(story.channel.replace(changed).await.expect("it runs"));
                }
                4 => story = restarted(story, knobs(renderer, facets, needs)).await,
                5 => story.channel.resync().await.expect("it runs"),
                6 => story.channel.rerender().await.expect("it runs"),
                _ => {
                    for _ in 0..dice.usize(..30) {
                        let key = format!("{:02}", dice.usize(..ENTITIES));
                        match dice.u8(..3) {
                            0 => story.delete(&key),
                            facet => story.set(
                                &key,
                                ["content", "price"][usize::from(facet) - 1],
                                &dice.u8(..4).to_string(),
                            ),
                        }
                    }
                }
            }
            settled().await;
            let lost = lock(&documents).lost;
            assert!(lost <= MIN, "{lost} deleted, seed {seed}: {history:?}");
        }
        story.end().await;
    }
}
