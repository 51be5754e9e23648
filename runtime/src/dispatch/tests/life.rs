//! The behaviour of a channel when all goes well.

use super::*;
use crate::model::{Failure, Payload, Rendering};
use crate::plugin::Failed;

#[tokio::test(start_paused = true)]
async fn what_changes_arrives_as_it_is_now_and_what_does_not_is_suppressed() {
    let story = Story::begin(Knobs::default(), fine).await;
    story.set("a", "price", "1");
    story.quiet().await;
    story.set("a", "price", "2");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1", "a=2"]);
    assert_eq!(story.standing("a"), Standing::Delivered);

    story.channel.rerender().await.expect("it runs");
    story.quiet().await;
    assert_eq!(
        story.seen(),
        ["a=1", "a=2"],
        "a rerender sends what differs"
    );
    assert_eq!(story.standing("a"), Standing::Suppressed);

    story.channel.resync().await.expect("it runs");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1", "a=2", "a=2"], "a resync sends all");
    let seen = story.script.seen();
    let sequences: Vec<Sequence> = seen.iter().map(|seen| seen.items[0].sequence).collect();
    assert!(
        sequences.is_sorted_by(|one, next| one < next),
        "{sequences:?} rises"
    );
    let ids: std::collections::HashSet<_> = seen.iter().map(|seen| seen.items[0].id).collect();
    assert_eq!(ids.len(), 3);
    story.end().await;
}

// A change that came before the first turn of a new channel, or while the sweep still passed earlier new
// entities, was delivered by the sweep: at the share of bulk, and it was missing among the latencies.
#[tokio::test(start_paused = true)]
async fn new_entities_are_delivered_by_their_lane_also_while_the_sweep_passes_others() {
    let story = Story::begin(Knobs::default(), fine).await;
    for (round, sets) in (1..).zip([300, 1, 300]) {
        (0..sets).for_each(|number| story.set(&format!("e{round}-{number}"), "price", "1"));
        if sets > 1 {
            story.quiet().await;
        }
    }
    let deliveries = story.seen().len() as u64;
    let [minute, ..] = story.channel.latency(Lane::Normal);
    assert_eq!((deliveries, minute.count), (601, 601));
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_delivered_and_what_never_was_there_is_not_deleted() {
    let story = Story::begin(
        Knobs {
            options: Options {
                needs: vec!["price".into()],
                ..options()
            },
            ..Knobs::default()
        },
        fine,
    )
    .await;
    story.set("a", "price", "1");
    story.set("b", "content", "{}");
    story.quiet().await;
    assert_eq!(story.standing("b"), Standing::Withheld(prepare::NEEDS));
    story.delete("a");
    story.delete("b");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=1", "a gone"]);
    assert_eq!(
        (story.standing("a"), story.standing("b")),
        (Standing::Withdrawn, Standing::Withheld(prepare::DELETED))
    );
    story.end().await;
}

fn failed(plugin: &str, code: &str, message: &str, fault: bool) -> Failed {
    Failed {
        plugin: plugin.into(),
        failure: Failure::new(code, message),
        fault,
    }
}

#[tokio::test(start_paused = true)]
async fn a_plugin_host_without_room_refuses_nothing() {
    let calls = AtomicUsize::new(0);
    let chain = Chain("busy", move |_: &View| {
        match calls.fetch_add(1, Ordering::SeqCst) {
            0 => EntityVerdict::Failed(failed(
                "host",
                "host",
                "the host has no room for another instance",
                true,
            )),
            _ => EntityVerdict::Passed,
        }
    });
    let story = Story::begin(
        Knobs {
            chain: Some(Arc::new(chain)),
            ..Knobs::default()
        },
        fine,
    )
    .await;
    story.set("a", "price", "1");
    story.quiet().await;
    assert_eq!(
        (story.seen(), story.standing("a")),
        (vec!["a=1".to_owned()], Standing::Delivered)
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn filters_and_renderer_decide_and_their_reasons_are_kept() {
    let chain = Chain("page@0123456789ab", |view: &View| match price(view) {
        "0" => EntityVerdict::Filtered(1),
        "1" => EntityVerdict::NotRendered,
        "2" => EntityVerdict::Failed(failed(
            "page@0123456789ab",
            "no-title",
            "there is no title",
            false,
        )),
        price => EntityVerdict::Rendering(Rendering {
            key: None,
            content_type: Some("text/plain".into()),
            body: Payload::Text(format!(
                "{{\"key\":\"{}\",\"facets\":{{\"price\":{price}}}}}",
                view.id.key
            )),
        }),
    });
    let story = Story::begin(
        Knobs {
            chain: Some(Arc::new(chain)),
            ..Knobs::default()
        },
        fine,
    )
    .await;
    for (key, price) in [("f", "0"), ("n", "1"), ("x", "2"), ("a", "3")] {
        story.set(key, "price", price);
    }
    story.quiet().await;
    assert_eq!(story.seen(), ["a=3"]);
    let item = &story.script.seen()[0].items[0];
    assert_eq!(
        (
            item.rendering
                .as_ref()
                .and_then(|rendering| rendering.content_type.as_deref()),
            item.plugin.as_deref()
        ),
        (Some("text/plain"), Some("page@0123456789ab"))
    );
    assert_eq!(
        story.standing("f"),
        Standing::Withheld(prepare::FILTERED + 1)
    );
    assert_eq!(
        story.standing("n"),
        Standing::Withheld(prepare::NOT_RENDERED)
    );
    let refused = story.channel.queue().refused(None, 10).remove(0);
    assert_eq!(
        refused.failure,
        Failure::new("plugin", "page@0123456789ab: no-title: there is no title")
    );

    story.set("a", "price", "2");
    story.quiet().await;
    assert_eq!(story.seen(), ["a=3"], "a failing plugin withdraws nothing");
    story.set("a", "price", "0");
    story.quiet().await;
    assert_eq!(story.seen()[1..], ["a gone"], "a filter that says no does");

    let preview = story
        .channel
        .preview(&id("x"))
        .await
        .expect("read")
        .expect("there");
    assert!(matches!(preview.verdict, PreviewVerdict::Failed(_)) && preview.view.facets.len() == 1);
    let preview = story
        .channel
        .preview(&id("f"))
        .await
        .expect("read")
        .expect("there");
    assert_eq!(
        preview.verdict,
        PreviewVerdict::Withheld(prepare::FILTERED + 1)
    );
    assert_eq!(
        story.channel.preview(&id("nobody")).await.expect("read"),
        None
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_only_counts_sends_nothing() {
    let story = Story::begin(
        Knobs {
            options: Options {
                deliver: false,
                ..options()
            },
            ..Knobs::default()
        },
        fine,
    )
    .await;
    story.set("a", "price", "1");
    story.quiet().await;
    assert_eq!(
        (story.seen(), story.standing("a")),
        (Vec::<String>::new(), Standing::Counted)
    );
    assert_eq!(
        story
            .channel
            .counters()
            .count(status::DeliveryResult::Counted),
        1
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn under_a_new_key_the_old_one_is_deleted_first() {
    let chain = Chain("keys", |view: &View| {
        let body = Payload::Text(format!("{{\"facets\":{{\"price\":{}}}}}", price(view)));
        EntityVerdict::Rendering(Rendering {
            key: Some(format!("k{}", price(view))),
            content_type: None,
            body,
        })
    });
    let story = Story::begin(
        Knobs {
            chain: Some(Arc::new(chain)),
            nature: KEYED,
            ..Knobs::default()
        },
        fine,
    )
    .await;
    for price in ["1", "2"] {
        story.set("a", "price", price);
        story.quiet().await;
    }
    story.delete("a");
    story.quiet().await;
    assert_eq!(story.seen(), ["k1=1", "k1 gone", "k2=2", "k2 gone"]);
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_entities_go_in_one_request_and_each_arrives_once() {
    let story = Story::begin(
        Knobs {
            options: Options {
                batch: 10,
                ..options()
            },
            ..Knobs::default()
        },
        fine,
    )
    .await;
    story.channel.pause().await.expect("it runs");
    for number in 0..200 {
        story.set(&format!("e{number}"), "price", "1");
    }
    assert_eq!(story.channel.status().state, status::State::Paused);
    assert_eq!(story.seen().len(), 0, "a paused channel sends nothing");
    story.channel.resume().await.expect("it runs");
    story.quiet().await;
    let (requests, mut seen) = (story.script.seen().len(), story.seen());
    seen.sort();
    seen.dedup();
    assert!(
        seen.len() == 200 && story.seen().len() == 200 && requests <= 40,
        "{} in {requests} requests",
        story.seen().len()
    );
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn urgent_work_goes_first_and_nobody_starves() {
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let script = move |_: &Seen| match open.load(Ordering::Relaxed) {
        true => Reply::Status(200),
        false => Reply::After(Duration::from_millis(1), Box::new(Reply::Status(200))),
    };
    let story = Story::begin(
        Knobs {
            concurrency: 1,
            ..Knobs::default()
        },
        script,
    )
    .await;
    story.channel.pause().await.expect("it runs");
    for number in 0..90 {
        story.set_in(Lane::Bulk, &format!("bulk{number}"), "price", "1");
        story.set_in(Lane::Normal, &format!("normal{number}"), "price", "1");
        story.set_in(Lane::Urgent, &format!("urgent{number}"), "price", "1");
    }
    story.channel.resume().await.expect("it runs");
    story
        .until("half sent", |story| story.script.seen().len() >= 84)
        .await;
    gate.store(true, Ordering::Relaxed);
    let first: Vec<String> = story.seen().into_iter().take(84).collect();
    let count = |lane: &str| first.iter().filter(|line| line.starts_with(lane)).count();
    // 16 : 4 : 1 for the lanes, and 1 for the sweep, which meets entities of all lanes.
    assert!(
        (50..=72).contains(&count("urgent")),
        "{} urgent, {} normal, {} bulk",
        count("urgent"),
        count("normal"),
        count("bulk")
    );
    assert!(
        (10..=28).contains(&count("normal")) && (2..=14).contains(&count("bulk")),
        "{} and {}",
        count("normal"),
        count("bulk")
    );
    story.quiet().await;
    assert_eq!(story.seen().len(), 270, "each arrives once");
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_urgent_change_overtakes_a_sweep() {
    let slow = |seen: &Seen| match &*seen.items[0].key {
        "hot" => Reply::Status(200),
        _ => Reply::After(Duration::from_millis(2), Box::new(Reply::Status(200))),
    };
    let story = Story::begin(
        Knobs {
            concurrency: 2,
            ..Knobs::default()
        },
        slow,
    )
    .await;
    for number in 0..300 {
        story.set_in(Lane::Bulk, &format!("e{number}"), "price", "1");
    }
    story.quiet().await;
    story.channel.resync().await.expect("it runs");
    story
        .until("the sweep runs", |story| story.seen().len() > 320)
        .await;
    let before = story.seen().len();
    story.set_in(Lane::Urgent, "hot", "price", "1");
    story
        .until("it has arrived", |story| {
            story.seen().contains(&"hot=1".to_owned())
        })
        .await;
    let waited = story
        .seen()
        .iter()
        .position(|line| line == "hot=1")
        .expect("there")
        .saturating_sub(before);
    assert!(
        waited < 30 && story.seen().len() < 600,
        "{waited} others went before it"
    );
    story.quiet().await;
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_renderer_sends_what_differs_and_a_changed_target_sends_all() {
    let page = |label: &'static str, suffix: &'static str| -> Option<Arc<dyn Render>> {
        Some(Arc::new(Chain(label, move |view: &View| {
            let price = if price(view) == "1" {
                format!("\"1{suffix}\"")
            } else {
                price(view).to_owned()
            };
            let body = format!(
                "{{\"key\":\"{}\",\"facets\":{{\"price\":{price}}}}}",
                view.id.key
            );
            EntityVerdict::Rendering(Rendering {
                key: None,
                content_type: None,
                body: Payload::Text(body),
            })
        })))
    };
    let story = Story::begin(
        Knobs {
            chain: page("one", ""),
            ..Knobs::default()
        },
        fine,
    )
    .await;
    story.set("a", "price", "1");
    story.set("b", "price", "2");
    story.quiet().await;
    let next = setup(
        &story.script,
        Knobs {
            chain: page("two", "!"),
            ..Knobs::default()
        },
    );
    assert!(story.channel.replace(next).await.expect("it runs").swept);
    story.quiet().await;
    assert_eq!(story.seen()[2..], ["a=\"1!\""]);
    let elsewhere = setup(
        &story.script,
        Knobs {
            chain: page("two", "!"),
            place: 2,
            ..Knobs::default()
        },
    );
    assert!(
        story
            .channel
            .replace(elsewhere)
            .await
            .expect("it runs")
            .swept
    );
    story.quiet().await;
    let mut rest = story.seen()[3..].to_vec();
    rest.sort();
    assert_eq!(rest, ["a=\"1!\"", "b=2"]);
    story.end().await;
}

#[tokio::test(start_paused = true)]
async fn channels_of_one_target_share_its_slots() {
    let script = |_: &Seen| Reply::After(Duration::from_millis(1), Box::new(Reply::Status(200)));
    let story = Story::begin(
        Knobs {
            concurrency: 1,
            ..Knobs::default()
        },
        script,
    )
    .await;
    let mut second = setup(
        &story.script,
        Knobs {
            options: Options {
                name: "search".into(),
                ..options()
            },
            ..Knobs::default()
        },
    );
    second.target = story.channel.setup().target.clone();
    let (search, _) = Channel::start(second, story.store.clone(), CancellationToken::new())
        .await
        .expect("it joins");
    for number in 0..50 {
        story.set(&format!("e{number}"), "price", "1");
    }
    story
        .until("both have all", |story| story.seen().len() == 100)
        .await;
    assert_eq!(story.script.most_at_once(), 1);
    search.stop(Duration::from_millis(500)).await;
    story.end().await;
}
