//! Stories of a channel: changes go in, deliveries come out. The store is the one in memory, the
//! target follows a script, and time is paused: it advances when all tasks wait for it. Only the
//! stories in `sockets` and `kinds` use a real socket.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::index::value_hash;
use crate::model::{Entity, Facet, Lane, Payload, Rendering, Sequence, Timestamp, View};
use crate::plugin::{EntityVerdict, Priority, Room};
use crate::store::memory::Memory;
use crate::store::{Commit, Effect, FacetChange, State as Standing};
use crate::targets::scripted::{self, Reply, Script, Seen};
use crate::targets::{self, Form, Kind, Nature, Opening, Outcome};

mod batches;
mod currency;
mod drift;
mod feeds;
mod forgotten;
mod growing;
mod guard;
mod histories;
mod kinds;
mod life;
mod limits;
mod pace;
mod quiet;
mod refused;
mod seen;
mod sockets;
mod tapped;
mod trouble;
mod waiting;

/// Longer than any story needs; it elapses only when a story fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time at which stories start.
const START: Timestamp = Timestamp(1_795_000_000_000);

pub(super) fn options() -> Options {
    Options {
        name: "storefront".into(),
        entity_type: "product".into(),
        facets: vec!["content".into(), "price".into()],
        needs: Vec::new(),
        target: "shop".into(),
        batch: 1,
        batch_bytes: 1024 * 1024,
        deliver: true,
        suppress: true,
        freshness: None,
        debounce: None,
        hours: None,
        retry: retry::Options {
            first: Duration::from_millis(10),
            factor: 2.0,
            cap: Duration::from_millis(200),
            attempts: 6,
            refused: Duration::from_secs(3600),
        },
        withdraw_max: WithdrawMax {
            share: 0.02,
            per: Duration::from_secs(3600),
            min: 100,
        },
        was: None,
    }
}

/// The settings that a story may change.
struct Knobs {
    options: Options,
    nature: Nature,
    place: u64,
    concurrency: usize,
    rate: Option<f64>,
    cost: targets::Cost,
    breaker: breaker::Options,
    chain: Option<Arc<dyn Render>>,
    parked_max: usize,
}

impl Default for Knobs {
    fn default() -> Knobs {
        let (first, cap) = (Duration::from_millis(40), Duration::from_millis(80));
        Knobs {
            options: options(),
            nature: Nature {
                keyed: false,
                batch_max: usize::MAX,
                deletes_alone: false,
                compares: false,
            },
            place: 1,
            concurrency: 4,
            rate: None,
            cost: targets::Cost::Requests,
            breaker: breaker::Options {
                first,
                cap,
                ..breaker::Options::default()
            },
            chain: None,
            parked_max: PARKED_MAX,
        }
    }
}

/// A target in which each entity has its own URL.
const KEYED: Nature = Nature {
    keyed: true,
    batch_max: 1,
    deletes_alone: false,
    compares: false,
};

struct Story {
    store: Arc<Memory>,
    script: Script,
    channel: Channel,
}

fn setup(script: &Script, knobs: Knobs) -> Setup {
    let kind = Kind::Scripted(scripted::Options {
        nature: knobs.nature,
        place: knobs.place,
        script: script.clone(),
    });
    setup_of(kind, Clock::starting_at(START), knobs)
}

/// What a target finds that has never been opened.
fn opening() -> Opening {
    Opening::empty(std::env::temp_dir().join("weir-targets-of-tests"))
}

fn setup_of(kind: Kind, clock: Clock, knobs: Knobs) -> Setup {
    setup_with(opening(), kind, clock, knobs)
}

/// For a target that keeps files in this folder.
fn setup_in(folder: &std::path::Path, kind: Kind, clock: Clock, knobs: Knobs) -> Setup {
    setup_with(Opening::empty(folder.to_owned()), kind, clock, knobs)
}

fn setup_with(opening: Opening, kind: Kind, clock: Clock, knobs: Knobs) -> Setup {
    let target = targets::Options {
        name: "shop".into(),
        concurrency: knobs.concurrency,
        rate: knobs.rate,
        cost: knobs.cost,
        pace: None,
        kind,
    };
    let dice = fastrand::Rng::with_seed(7);
    let target = TargetHandle::open(target, knobs.breaker, clock, dice, None, None, opening)
        .expect("a target");
    let label = knobs
        .chain
        .as_ref()
        .map(|chain| chain.label().to_string())
        .unwrap_or_default();
    let subscription = Subscription {
        entity_type: knobs.options.entity_type.clone(),
        facets: knobs.options.facets.clone(),
        shape: xxh3_64(format!("{:?}{label}", knobs.options.facets).as_bytes()),
        shape_label: label,
        target: target.place(),
        debounce: knobs.options.debounce,
    };
    Setup {
        recorder: None,
        traces: Arc::default(),
        options: knobs.options,
        subscription,
        chain: knobs.chain,
        target,
        default_renderer: Arc::default(),
        shares: [16, 4, 1],
        parked_max: knobs.parked_max,
    }
}

/// An entity with these facets, as a store would read it.
pub(super) fn entity(key: &str, facets: &[(&str, &str)]) -> Entity {
    let facet = |((name, value), sequence): (&(&str, &str), u64)| Facet {
        name: (*name).into(),
        owner: "pim".into(),
        version: None,
        sequence: Sequence(sequence),
        time: Timestamp(0),
        value: Some((*value).into()),
    };
    Entity {
        id: EntityId {
            entity_type: "product".into(),
            key: key.into(),
        },
        facets: facets.iter().zip(1..).map(facet).collect(),
    }
}

impl Story {
    async fn begin(knobs: Knobs, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Story {
        Story::on(Arc::default(), Script::new(reply), knobs).await
    }

    /// A story whose target does not record what it was sent.
    async fn forgetful(
        knobs: Knobs,
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Story {
        Story::on(Arc::default(), Script::forgetful(reply), knobs).await
    }

    async fn on(store: Arc<Memory>, script: Script, knobs: Knobs) -> Story {
        let setup = setup(&script, knobs);
        Story::with(store, script, setup).await
    }

    async fn with(store: Arc<Memory>, script: Script, setup: Setup) -> Story {
        store.set_time(START);
        let stop = CancellationToken::new();
        let (channel, _) = Channel::start(setup, store.clone(), stop)
            .await
            .expect("it joins");
        Story {
            store,
            script,
            channel,
        }
    }

    /// Lets the store's time go with the story's; without, it stands still.
    fn keep_time(&self) -> JoinHandle<()> {
        let (store, clock) = (self.store.clone(), self.channel.setup().target.clock());
        tokio::spawn(async move {
            loop {
                store.set_time(clock.now());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    }

    fn set(&self, key: &str, facet: &str, value: &str) {
        self.set_in(Lane::Normal, key, facet, value);
    }

    fn set_in(&self, lane: Lane, key: &str, facet: &str, value: &str) {
        commit(
            &self.store,
            lane,
            key,
            facet,
            (!value.is_empty()).then_some(value),
        );
    }

    fn delete(&self, key: &str) {
        for facet in ["content", "price"] {
            commit(&self.store, Lane::Normal, key, facet, None);
        }
    }

    fn ordinal(&self, key: &str) -> Ordinal {
        self.store.find(&id(key)).expect("the entity is there")
    }

    fn standing(&self, key: &str) -> Standing {
        self.channel
            .queue()
            .standing(self.ordinal(key))
            .expect("it subscribes")
            .state
    }

    /// The deliveries that the target received, in order, each as `key=price` or `key gone`.
    fn seen(&self) -> Vec<String> {
        self.script.seen().iter().flat_map(lines).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Story) -> bool) {
        self.until_within(PATIENCE, what, holds).await;
    }

    async fn until_within(&self, most: Duration, what: &str, holds: impl Fn(&Story) -> bool) {
        let began = tokio::time::Instant::now();
        while !holds(self) {
            let standing = (self.channel.status(), self.seen());
            assert!(began.elapsed() < most, "not {what}: {standing:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until nothing is owed, in flight, parked or held any more.
    async fn quiet(&self) {
        self.quiet_within(PATIENCE).await;
    }

    async fn quiet_within(&self, most: Duration) {
        // The channel meets a new commit in its next turn at the earliest.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.until_within(most, "quiet", |story| {
            let owed = story.channel.status().owed;
            owed.lanes == [0; 3] && owed.in_flight + owed.parked + owed.held + owed.sweep == 0
        })
        .await;
    }

    async fn end(self) {
        let (began, real) = (tokio::time::Instant::now(), std::time::Instant::now());
        self.channel.stop(Duration::from_millis(500)).await;
        // Where time is not paused, it says how busy the machine is.
        let waited = began.elapsed().saturating_sub(real.elapsed());
        assert!(waited < Duration::from_secs(2), "a stop ends in time");
        assert_eq!(
            self.channel.queue().owed().in_flight,
            0,
            "no flight is left"
        );
        assert_eq!(self.channel.status().state, status::State::Stopped);
    }
}

fn id(key: &str) -> EntityId {
    EntityId {
        entity_type: "product".into(),
        key: key.into(),
    }
}

fn commit(store: &Memory, lane: Lane, key: &str, facet: &str, value: Option<&str>) {
    let change = FacetChange {
        id: id(key),
        facet: facet.into(),
        owner: "erp".into(),
        lane,
        version: None,
        value: value.map(Arc::from),
        hash: value.map(value_hash).unwrap_or_default(),
    };
    let commit = Commit {
        source: "erp".into(),
        identity: None,
        arrival: None,
        effect: Effect::Changes(vec![change]),
    };
    drop(store.commit(vec![commit]).expect("room"));
}

/// The items of one attempt.
fn lines(seen: &Seen) -> Vec<String> {
    let line = |item: &targets::Item| match &item.rendering {
        None => format!("{} gone", item.key),
        Some(rendering) => {
            let content: serde_json::Value =
                serde_json::from_slice(rendering.body.as_bytes()).expect("JSON");
            format!("{}={}", item.key, content["facets"]["price"])
        }
    };
    seen.items.iter().map(line).collect()
}

fn fine(_: &Seen) -> Reply {
    Reply::Status(200)
}

/// What is logged on the thread of a story.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Begins; it ends with the guard.
    fn begin() -> (Log, tracing::subscriber::DefaultGuard) {
        let log = Log::default();
        let written = log.clone();
        let format = tracing_subscriber::fmt().with_ansi(false).without_time();
        let subscriber = format.with_writer(move || written.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// How many lines have this text.
    fn count(&self, text: &str) -> usize {
        let written = lock(&self.0);
        let written = String::from_utf8_lossy(&written);
        written.lines().filter(|line| line.contains(text)).count()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A chain made from a function.
struct Chain<F>(&'static str, F);

impl<F: Fn(&View) -> EntityVerdict + Send + Sync + 'static> Render for Chain<F> {
    fn render<'a>(
        &'a self,
        views: Arc<Vec<View>>,
        _: Priority,
        room: &'a Arc<Room>,
    ) -> BoxFuture<'a, Vec<EntityVerdict>> {
        let fits = |verdict: &EntityVerdict| match verdict {
            EntityVerdict::Rendering(made) => room.take(made.body.as_bytes().len() as u64),
            _ => true,
        };
        Box::pin(async move { views.iter().map(&self.1).take_while(fits).collect() })
    }

    fn label(&self) -> Arc<str> {
        self.0.into()
    }
}

fn price(view: &View) -> &str {
    view.facets
        .iter()
        .find(|(name, _)| &**name == "price")
        .map_or("", |(_, value)| value)
}

/// A renderer whose key follows the price, such as `e-7`, so that each change of the price moves
/// the entity to another key.
fn keys_by_price() -> Arc<dyn Render> {
    Arc::new(Chain("moves", |view: &View| {
        let (key, price) = (&view.id.key, price(view));
        EntityVerdict::Rendering(Rendering {
            key: Some(format!("{key}-{price}")),
            content_type: None,
            body: Payload::Text(format!(
                "{{\"key\":\"{key}\",\"facets\":{{\"price\":{price}}}}}"
            )),
        })
    }))
}
