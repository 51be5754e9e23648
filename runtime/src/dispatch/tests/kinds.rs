//! Stories that every kind of target passes: whatever happens on the way, the target holds the newest
//! state of everything in the end, no entity is refused for the target's fault, and no older state is
//! sent after a newer one that was acknowledged.
//!
//! A kind is played by an [`Engine`] on a socket, which answers as the real one does. A new kind of target,
//! dialect or form is one more of them (`engines`), and needs no story of its own for any of this.
//! `WEIR_ENTITIES=100000 cargo test --lib kinds::` plays the story of many entities at full size.

mod engines;
mod table;

use std::collections::VecDeque;

use serde_json::{Value, json};

use self::engines::Engine;
use super::*;
use crate::store::embedded;
use crate::targets::fixture::{Asked, Fixture, Reply as Answer, strange_keys};

/// Entities in the story of many, unless `WEIR_ENTITIES` says otherwise.
const MANY: usize = 5_000;
/// How long a story may take at most; it elapses only when a story fails.
const LONG: Duration = Duration::from_secs(30);

/// What happens to a write.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Throttled,
    /// The connection ends before anything is applied.
    Away,
    /// It is applied, and its answer is lost.
    Lost,
}

/// What a target holds, and what happens to it.
#[derive(Default)]
struct Shop {
    /// By the id that the kind gives it.
    held: BTreeMap<String, Value>,
    /// What happens to the next writes.
    troubles: VecDeque<Trouble>,
    /// More items than this are too many for one request.
    items_max: Option<usize>,
    /// The credentials are not accepted.
    locked: bool,
    /// Writes, and those that put an older price over a newer one. Prices only rise.
    writes: usize,
    fell: usize,
    /// The tasks of engines that have them: the client's mark, and whether it failed.
    tasks: Vec<(String, bool)>,
}

/// What an entity shows a target: the number under which the stories sort its states.
fn price_of(document: &Value) -> Option<u64> {
    document["facets"]["price"].as_u64()
}

fn is_bad(document: &Option<Value>) -> bool {
    let price = document
        .as_ref()
        .map(|document| &document["facets"]["price"]);
    price.is_some_and(|price| price == "bad")
}

impl Shop {
    /// Plays a request.
    fn play(&mut self, engine: &dyn Engine, asked: &Asked) -> Answer {
        if self.locked {
            return engine.unauthorized();
        }
        if let Some(answer) = engine.look(asked, self) {
            return answer;
        }
        let items = engine.read(asked);
        assert!(!items.is_empty(), "a request without an item: {asked:?}");
        self.writes += 1;
        let trouble = self.troubles.pop_front();
        match trouble {
            Some(Trouble::Throttled) => return engine.throttled(),
            Some(Trouble::Away) => return Answer::Close,
            Some(Trouble::Lost) | None => {}
        }
        if self.items_max.is_some_and(|most| items.len() > most) {
            return engine.too_long();
        }
        let bad: Vec<bool> = items.iter().map(|(_, document)| is_bad(document)).collect();
        if !(engine.all_or_nothing() && bad.contains(&true)) {
            let good = items.into_iter().zip(&bad).filter(|(_, bad)| !**bad);
            good.for_each(|((id, document), _)| self.apply(id, document));
        }
        match (engine.answer(asked, self, &bad), trouble) {
            (_, Some(Trouble::Lost)) => Answer::Close,
            (answer, _) => answer,
        }
    }

    fn apply(&mut self, id: String, document: Option<Value>) {
        let Some(document) = document else {
            self.held.remove(&id);
            return;
        };
        let before = self.held.get(&id).and_then(price_of);
        self.fell += usize::from(before > price_of(&document));
        self.held.insert(id, document);
    }
}

/// Starts a target of some kind.
async fn serve(engine: &Arc<dyn Engine>) -> (Arc<Mutex<Shop>>, Fixture) {
    let shop: Arc<Mutex<Shop>> = Arc::default();
    let (playing, player) = (shop.clone(), engine.clone());
    let target = Fixture::start(move |asked| lock(&playing).play(&*player, asked)).await;
    (shop, target)
}

fn setup_for(engine: &dyn Engine, target: &Fixture) -> Setup {
    let knobs = Knobs {
        options: Options {
            batch: engine.batch(),
            ..options()
        },
        ..Knobs::default()
    };
    setup_of(engine.kind(&target.url("")), Clock::system(), knobs)
}

/// A channel that delivers to a target of some kind.
struct Play {
    story: Story,
    shop: Arc<Mutex<Shop>>,
    engine: Arc<dyn Engine>,
    target: Fixture,
}

impl Play {
    async fn begin(engine: Arc<dyn Engine>, store: Arc<Memory>) -> Play {
        let (shop, target) = serve(&engine).await;
        Play::on(engine, shop, target, store).await
    }

    async fn on(
        engine: Arc<dyn Engine>,
        shop: Arc<Mutex<Shop>>,
        target: Fixture,
        store: Arc<Memory>,
    ) -> Play {
        let setup = setup_for(&*engine, &target);
        let nobody = Script::new(|_| Reply::Hang);
        let story = Story::with(store, nobody, setup).await;
        Play {
            story,
            shop,
            engine,
            target,
        }
    }

    /// A restart after a crash: what was saved is known, and nothing else.
    async fn restarts(self) -> Play {
        let store = self.story.store.clone();
        self.story.channel.stop(Duration::from_millis(100)).await;
        store.save(Timestamp(0)).await.expect("it saves");
        store.crash();
        Play::on(self.engine, self.shop, self.target, store).await
    }

    fn shop(&self) -> MutexGuard<'_, Shop> {
        lock(&self.shop)
    }

    fn sets(&self, key: &str, price: u64) {
        self.story.set(key, "price", &price.to_string());
    }

    /// What the target holds, by the key that is in each document.
    fn held(&self) -> BTreeMap<String, Value> {
        let shop = self.shop();
        let key = |document: &Value| document["key"].as_str().unwrap_or_default().to_owned();
        let held: BTreeMap<_, _> = shop
            .held
            .values()
            .map(|document| (key(document), document["facets"]["price"].clone()))
            .collect();
        assert_eq!(
            held.len(),
            shop.held.len(),
            "each entity has an id of its own"
        );
        assert_eq!(shop.fell, 0, "no older state comes after a newer one");
        held
    }

    /// Waits until nothing is owed, and compares what the target holds.
    async fn settles(&self, expected: impl IntoIterator<Item = (String, u64)>, refused: u64) {
        self.story.quiet_within(LONG).await;
        let expected = expected
            .into_iter()
            .map(|(key, price)| (key, json!(price)))
            .collect();
        let held: BTreeMap<String, Value> = self.held();
        // A difference in a thousand lines cannot be read.
        let differs = held.iter().find(|(key, price)| {
            BTreeMap::get(&expected, *key).is_none_or(|right| right != *price)
        });
        assert_eq!(differs, None, "{} expected", expected.len());
        assert_eq!(held.len(), expected.len(), "entities are missing");
        assert_eq!(self.story.channel.status().owed.refused, refused);
    }
}

fn key(number: usize) -> String {
    format!("e{number}")
}

/// Plays a story with every kind of target, all at the same time.
async fn every_kind<F>(story: fn(Play) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut plays = tokio::task::JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for engine in engines::all() {
        let name = engine.name();
        let play =
            plays.spawn(async move { story(Play::begin(engine, Arc::default()).await).await });
        names.insert(play.id(), name);
    }
    while let Some(ended) = plays.join_next_with_id().await {
        if let Err(error) = ended {
            panic!("{}: {error}", names[&error.id()]);
        }
    }
}

#[tokio::test]
async fn what_is_put_changed_and_deleted_is_there_as_it_is_now() {
    every_kind(|play| async move {
        (0..20).for_each(|number| play.sets(&key(number), 1));
        play.settles((0..20).map(|number| (key(number), 1)), 0)
            .await;
        (0..5).for_each(|number| play.sets(&key(number), 2));
        (5..10).for_each(|number| play.story.delete(&key(number)));
        let left = (0..20).filter(|number| !(5..10).contains(number));
        let price = |number| if number < 5 { 2 } else { 1 };
        play.settles(left.map(|number| (key(number), price(number))), 0)
            .await;
        // One that was deleted comes back.
        play.sets("e7", 3);
        play.story.quiet_within(LONG).await;
        assert_eq!(play.held()["e7"], json!(3));
        play.story.end().await;
    })
    .await;
}

#[tokio::test]
async fn one_item_that_is_refused_costs_no_other_one_and_is_taken_when_it_is_right() {
    every_kind(|play| async move {
        (0..60).for_each(|number| play.sets(&key(number), 1));
        play.story.set("e33", "price", "\"bad\"");
        let good = (0..60).filter(|number| *number != 33);
        play.settles(good.map(|number| (key(number), 1)), 1).await;
        play.sets("e33", 2);
        let price = |number| if number == 33 { 2 } else { 1 };
        play.settles((0..60).map(|number| (key(number), price(number))), 0)
            .await;
        play.story.end().await;
    })
    .await;
}

/// The target throttles, goes away, and loses answers of what it has applied, while prices rise.
#[tokio::test]
async fn a_target_in_trouble_ends_with_the_newest_state_and_never_goes_back() {
    every_kind(|play| async move {
        use Trouble::{Away, Lost, Throttled};
        for round in 0..12 {
            let trouble = [Throttled, Away, Lost, Lost][round % 4];
            play.shop().troubles.push_back(trouble);
            (0..8).for_each(|number| play.sets(&key(number), 1 + round as u64));
            play.story
                .until_within(LONG, "met", |_| lock(&play.shop).troubles.is_empty())
                .await;
        }
        play.settles((0..8).map(|number| (key(number), 12)), 0)
            .await;
        play.story.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_nothing() {
    every_kind(|play| async move {
        (0..200).for_each(|number| play.sets(&key(number), 1));
        play.shop().troubles.extend([Trouble::Lost, Trouble::Away]);
        play.story
            .until("the first are there", |_| !lock(&play.shop).held.is_empty())
            .await;
        let play = play.restarts().await;
        (0..20).for_each(|number| play.sets(&key(number), 2));
        let price = |number| if number < 20 { 2 } else { 1 };
        play.settles((0..200).map(|number| (key(number), price(number))), 0)
            .await;
        play.story.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_with_too_much_in_it_is_made_in_parts() {
    every_kind(|play| async move {
        play.shop().items_max = Some(7);
        (0..100).for_each(|number| play.sets(&key(number), 1));
        play.settles((0..100).map(|number| (key(number), 1)), 0)
            .await;
        play.story.end().await;
    })
    .await;
}

/// A token was revoked in the middle of a load. Nothing was refused for it, the target was left alone, and
/// the load went on when the token was replaced. The first requests had met a wrong one too.
#[tokio::test]
async fn credentials_that_are_wrong_or_end_refuse_nothing() {
    every_kind(|play| async move {
        let tripped = |story: &Story| story.channel.status().state != status::State::Flowing;
        play.shop().locked = true;
        (0..50).for_each(|number| play.sets(&key(number), 1));
        play.story.until("tripped", tripped).await;
        play.shop().locked = false;
        play.settles((0..50).map(|number| (key(number), 1)), 0)
            .await;

        play.shop().locked = true;
        (0..50).for_each(|number| play.sets(&key(number), 2));
        play.story.until("tripped", tripped).await;
        let writes = play.shop().writes;
        (0..50).for_each(|number| play.sets(&key(number), 3));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(play.shop().writes, writes, "nothing is taken meanwhile");
        play.shop().locked = false;
        play.settles((0..50).map(|number| (key(number), 3)), 0)
            .await;
        play.story.end().await;
    })
    .await;
}

#[tokio::test]
async fn keys_and_values_in_any_script_and_of_any_length_arrive_as_they_are() {
    every_kind(|play| async move {
        let (keys, long) = (strange_keys(), "x".repeat(256 * 1024));
        let text = "Stuhl «ß» 椅子 كرسي כיסא καρέκλα 🛋️ e\u{301} \u{2028} \\ \" </script>";
        for key in &keys {
            play.sets(key, 1);
            play.story.set(key, "content", &json!(text).to_string());
        }
        play.sets("long", 1);
        play.story.set("long", "content", &json!(long).to_string());
        let all = || keys.iter().cloned().chain(["long".to_owned()]);
        let taken = all().filter(|key| play.engine.takes(key));
        let refused = all().filter(|key| !play.engine.takes(key)).count() as u64;
        play.settles(taken.map(|key| (key, 1)), refused).await;
        for document in play.shop().held.values() {
            let content = document["facets"]["content"].as_str().expect("a text");
            let expected = if document["key"] == "long" {
                &*long
            } else {
                text
            };
            assert!(content == expected, "the content of {}", document["key"]);
        }
        all().for_each(|key| play.story.delete(&key));
        // Neither can a key that the target cannot keep be deleted there.
        play.settles([], refused).await;
        play.story.end().await;
    })
    .await;
}

/// On the embedded store, because the one in memory looks through everything at each step.
#[tokio::test(flavor = "multi_thread")]
async fn many_entities_arrive_and_in_few_requests_where_there_are_batches() {
    let given = std::env::var("WEIR_ENTITIES").ok();
    let many = given.map_or(MANY, |given| given.parse().expect("a number"));
    for engine in engines::all() {
        let began = std::time::Instant::now();
        let (shop, target) = serve(&engine).await;
        let folder = tempfile::tempdir().expect("a folder");
        let store = embedded::Embedded::open(embedded::Options {
            cache_bytes: 32 << 20,
            ..embedded::Options::new(folder.path())
        });
        let store = Arc::new(store.expect("it opens"));
        let setup = setup_for(&*engine, &target);
        let (channel, _) = Channel::start(setup, store.clone(), CancellationToken::new())
            .await
            .expect("it joins");
        channel.pause().await.expect("it pauses");
        for first in (0..many).step_by(500) {
            let last = many.min(first + 500);
            let changes = (first..last).map(|number| price_change(Lane::Normal, &key(number), 1));
            let event = Commit {
                source: "erp".into(),
                identity: None,
                arrival: None,
                effect: Effect::Changes(changes.collect()),
            };
            let receipt = store.commit(vec![event]).expect("room");
            receipt.await.expect("an answer").expect("it is written");
        }
        channel.resume().await.expect("it goes on");
        let most = LONG + Duration::from_millis(many as u64 * 20);
        while channel.queue().owed().total() > 0 {
            assert!(
                began.elapsed() < most,
                "{}: {:?}",
                engine.name(),
                channel.status()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        {
            let shop = lock(&shop);
            assert_eq!(shop.held.len(), many, "{}", engine.name());
            let (writes, batch) = (shop.writes, engine.batch());
            // At most 1,024 entities of a lane are in flight, so that not every request is full.
            let most = 2 * many / batch + 10;
            assert!(writes <= most, "{}: {writes} requests", engine.name());
        }
        println!(
            "{}: {many} entities in {:?}",
            engine.name(),
            began.elapsed()
        );
        channel.stop(Duration::from_secs(1)).await;
        store.close().await.expect("it closes");
    }
}

fn price_change(lane: Lane, key: &str, price: u64) -> FacetChange {
    let value = price.to_string();
    FacetChange {
        id: id(key),
        facet: "price".into(),
        owner: "erp".into(),
        lane,
        version: None,
        hash: value_hash(&value),
        value: Some(value.into()),
    }
}
