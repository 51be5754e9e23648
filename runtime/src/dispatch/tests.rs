//! Stories of a channel: changes in, what the target sees out. The store is the one in memory, the
//! target a server on loopback that answers as its script says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::index::value_hash;
use crate::model::{Entity, Facet, Lane, Sequence, View};
use crate::plugin::{EntityVerdict, Priority};
use crate::store::memory::Memory;
use crate::store::{Commit, Effect, FacetChange, State as Standing};
use crate::target::fixture::{Asked, Fixture, Reply};
use crate::target::webhook::{Auth, Egress, Format};

mod histories;
mod life;
mod trouble;

/// Longer than any story needs; reached only when one fails.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn options() -> Options {
    Options {
        name: "storefront".into(),
        entity_type: "product".into(),
        facets: vec!["content".into(), "price".into()],
        needs: Vec::new(),
        target: "shop".into(),
        batch: 1,
        deliver: true,
        suppress: true,
        freshness: None,
        retry: retry::Options {
            first: Duration::from_millis(10),
            factor: 2.0,
            cap: Duration::from_millis(200),
            attempts: 6,
        },
        withdraw_max: WithdrawMax {
            share: 0.02,
            per: Duration::from_secs(3600),
            min: 100,
        },
        was: None,
    }
}

/// What a story may turn.
struct Knobs {
    options: Options,
    path: &'static str,
    concurrency: usize,
    timeout: Duration,
    breaker: breaker::Options,
    chain: Option<Arc<dyn Render>>,
    parked_max: usize,
}

impl Default for Knobs {
    fn default() -> Knobs {
        let (first, cap) = (Duration::from_millis(40), Duration::from_millis(80));
        Knobs {
            options: options(),
            path: "/weir",
            concurrency: 4,
            timeout: Duration::from_millis(300),
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

struct Story {
    store: Arc<Memory>,
    fixture: Fixture,
    channel: Channel,
}

fn setup(fixture: &Fixture, knobs: Knobs) -> Setup {
    let url = fixture.url(knobs.path);
    let target_digest = xxh3_64(url.as_bytes());
    let webhook = target::webhook::Options {
        url,
        sign: Vec::new(),
        auth: Auth::None,
        timeout: knobs.timeout,
        batch: 1,
        format: Format::Array,
        egress: Egress::Private,
    };
    let kind = target::Kind::Webhook(webhook);
    let target = target::Options {
        name: "shop".into(),
        concurrency: knobs.concurrency,
        rate: None,
        kind,
    };
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
        target: target_digest,
    };
    let target = TargetHandle::with_breaker(target, knobs.breaker).expect("a target");
    Setup {
        options: knobs.options,
        subscription,
        chain: knobs.chain,
        target,
        plain: Arc::default(),
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
    async fn begin(
        knobs: Knobs,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Story {
        Story::on(
            Arc::new(Memory::default()),
            Fixture::start(script).await,
            knobs,
        )
    }

    fn on(store: Arc<Memory>, fixture: Fixture, knobs: Knobs) -> Story {
        let (channel, _) = Channel::start(
            setup(&fixture, knobs),
            store.clone(),
            CancellationToken::new(),
        )
        .expect("it joins");
        Story {
            store,
            fixture,
            channel,
        }
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
        self.store
            .standing(self.channel.id(), self.ordinal(key))
            .expect("it subscribes")
            .state
    }

    /// What the target was sent, as `key=price` or `key gone`, in the order in which it came.
    fn seen(&self) -> Vec<String> {
        self.fixture.asked().iter().flat_map(seen).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Story) -> bool) {
        let began = std::time::Instant::now();
        while !holds(self) {
            let standing = (self.channel.status(), self.seen());
            assert!(began.elapsed() < PATIENCE, "not {what}: {standing:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Nothing is owed, in flight, parked or held any more.
    async fn quiet(&self) {
        // What was just committed is met in the next turn at the earliest.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.until("quiet", |story| {
            let owed = story.channel.status().owed;
            owed.lanes == [0; 3] && owed.in_flight + owed.parked + owed.held + owed.sweep == 0
        })
        .await;
    }

    async fn end(self) {
        let began = std::time::Instant::now();
        self.channel.stop(Duration::from_millis(500)).await;
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "a stop ends in time"
        );
        assert_eq!(
            self.store.owed(self.channel.id()).in_flight,
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

/// What one request says, entity by entity.
fn seen(asked: &Asked) -> Vec<String> {
    let one = |key: String, content: &serde_json::Value, deleted: bool| match deleted {
        true => format!("{key} gone"),
        false => format!("{key}={}", content["facets"]["price"]),
    };
    if asked.method != "POST" {
        let key = asked.path.trim_start_matches("/p/").to_owned();
        let content = if asked.body.is_empty() {
            serde_json::Value::Null
        } else {
            asked.json()
        };
        return vec![one(key, &content, asked.method == "DELETE")];
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    match asked.json() {
        serde_json::Value::Array(items) => items
            .iter()
            .map(|item| {
                one(
                    text(&item["key"]),
                    &item["content"],
                    item["deleted"] == true,
                )
            })
            .collect(),
        item => vec![one(text(&item["key"]), &item, item["deleted"] == true)],
    }
}

fn fine(_: &Asked) -> Reply {
    Reply::Status(200)
}

/// A chain made of a function.
struct Chain<F>(&'static str, F);

impl<F: Fn(&View) -> EntityVerdict + Send + Sync + 'static> Render for Chain<F> {
    fn render(&self, views: Arc<Vec<View>>, _: Priority) -> BoxFuture<'_, Vec<EntityVerdict>> {
        Box::pin(async move { views.iter().map(&self.1).collect() })
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
