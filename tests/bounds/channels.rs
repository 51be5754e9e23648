//! What the deliveries of a channel may cost: at most 64 MiB, or one entity.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::receiver::Delivery;
use crate::support::{Act, Stage, change, within};
use crate::{Counted, amplifying};

/// A channel with a renderer whose output has three MiB for each unit of the facet.
const RENDERED: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
[plugins.large]
path = "large.wasm"
[sources.erp]
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["base"]
plugins = ["large"]
target = "shop"
batch = 64
"#;

/// A channel whose entities have many facets, without plugins.
const PLAIN: &str = r#"
[entities.product]
facets."p.*" = { owner = "erp" }
[sources.erp]
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["p.*"]
target = "shop"
"#;

/// The memory of a channel, and two calls of its plugin that give 16 MiB each, as text and as the
/// rendering.
const CHANNEL_MIB_MAX: usize = 64 + 64;

// 200 entities of 100 facets of 250 KB took 9 GB: 1,024 entities were in flight, however large. They
// are in sled's cache and among the shared readings besides.
pub fn large_entities_go_one_at_a_time() {
    const ENTITIES: usize = 10;
    const FACETS: usize = 80;
    let value = json!("v".repeat(250_000));
    let mut weir = Counted::start(Stage::closed(PLAIN));
    weir.stage.shop.does(slowly);
    weir.stage.operate("shop", "pause");
    for entity in 0..ENTITIES {
        let key = entity.to_string();
        for part in 0..FACETS / 20 {
            let facet = |number| format!("p.{}", 20 * part + number);
            let changes = (0..20).map(|number| change(&key, &facet(number), value.clone()));
            weir.stage.takes("erp", &changes.collect::<Vec<_>>());
        }
    }
    weir.stage.stop();
    let weir = Counted::start(weir.stage);
    let (data, readings, one) = (ENTITIES * FACETS / 4, 64, 3 * FACETS / 4);
    let most = data + readings + one.max(64);
    weir.costs_at_most("ten entities of 20 MB", most, |stage| {
        stage.operate("shop", "resume");
        delivers(stage, ENTITIES);
    });
}

// A renderer gave 15 MiB for each product, and the target was slow: 64 of them and their requests were
// in memory.
pub fn large_renderings_for_a_slow_target_are_few_at_a_time() {
    let weir = rendering();
    weir.costs_at_most("20 renderings of 15 MiB", CHANNEL_MIB_MAX, |stage| {
        sets(stage, 20, 5);
        delivers(stage, 20);
    });
}

// So many renderings as had fitted into the channel's memory before were made before the first of the
// larger ones was counted.
pub fn renderings_that_become_much_larger_keep_within_the_memory_of_the_channel() {
    let weir = rendering();
    sets(&weir.stage, 64, 0);
    delivers(&weir.stage, 64);
    weir.costs_at_most(
        "64 renderings of 6 MiB after small ones",
        CHANNEL_MIB_MAX,
        |stage| {
            sets(stage, 64, 2);
            delivers(stage, 128);
        },
    );
}

// Two full requests may be in flight, so there are 20,000 entities of such a channel; each takes about a
// kilobyte besides its rendering.
pub fn small_entities_may_be_many_in_a_request() {
    const ENTITIES: usize = 40_000;
    let limits = "target = \"shop\"\nbatch = 10000\nbatch_bytes = \"16MiB\"";
    let stage = Stage::closed(&PLAIN.replace("target = \"shop\"", limits));
    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    stage.shop.does(move |delivery| {
        let entities = delivery.body.split(|byte| *byte == b'}');
        let entities = entities
            .filter(|part| part.starts_with(b",{\"id\":"))
            .count()
            + 1;
        seen.fetch_max(entities, Ordering::SeqCst);
        slowly(delivery)
    });
    let weir = Counted::start(stage);
    weir.stage.operate("shop", "pause");
    for first in (0..ENTITIES).step_by(4_000) {
        let one = |number: usize| change(&number.to_string(), "p.one", json!("small"));
        let changes: Vec<_> = (first..first + 4_000).map(one).collect();
        weir.stage.takes("erp", &changes);
    }
    weir.costs_at_most("requests of 10,000 entities", 96, |stage| {
        stage.operate("shop", "resume");
        delivers(stage, ENTITIES);
    });
    let most = most.load(Ordering::SeqCst);
    println!("the longest request held {most} entities");
    assert!(
        most > 1_024,
        "the longest request held only {most} entities"
    );
}

/// A Weir with one channel with a renderer, and a slow target.
fn rendering() -> Counted {
    let stage = Stage::closed(RENDERED);
    stage.place("large.wasm", &amplifying::renderer());
    stage.shop.does(slowly);
    Counted::start(stage)
}

fn sets(stage: &Stage, entities: usize, value: usize) {
    let one = |number: usize| change(&number.to_string(), "base", json!(value));
    stage.takes("erp", &(0..entities).map(one).collect::<Vec<_>>());
}

fn slowly(_: &Delivery) -> Act {
    std::thread::sleep(Duration::from_millis(100));
    Act::Answer(200)
}

/// Waits until the channel has delivered this many entities since Weir was started.
#[track_caller]
fn delivers(stage: &Stage, entities: usize) {
    within(Duration::from_secs(120), "everything is delivered", || {
        // The bodies are large, and nobody looks at them.
        stage.shop.forget();
        let delivered = &stage.channel("shop")["deliveries"]["delivered"];
        (*delivered == json!(entities)).then_some(())
    });
}
