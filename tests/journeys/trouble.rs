//! A target in trouble: nothing is lost, no entity suffers for another, an attempt without a
//! complete response never counts as certain, and the newest state arrives in the end.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::support::stage::{CATALOG, impatient};
use crate::support::weir::command;
use crate::support::{Act, Receiver, Stage, becomes, change, deletion, eventually};

fn lamp(value: u32) -> [Value; 1] {
    [change("lamp", "content", json!(value))]
}

/// The rendering of an entity with this content, as the shop receives it.
fn page(key: &str, content: Value) -> Value {
    json!({"type": "product", "key": key, "facets": {"content": content}})
}

/// The target misbehaves in one way for a while. Meanwhile the channel reports the problem with
/// these words, and the entity changes. When the target has recovered, the newest state arrives,
/// and so does the next good change.
fn check(stage: &Stage, act: Act, words: &str) {
    let scripted = act.clone();
    stage.shop.does(move |_| scripted.clone());
    stage.takes("pim", &lamp(1));
    let problem = eventually(&format!("{act:?} is reported with {words:?}"), || {
        let channel = stage.channel("shop");
        let problem = format!(
            "{} {} {}",
            channel["state"],
            channel["reason"],
            stage.standing("lamp", "shop")
        );
        problem.contains(words).then_some(problem)
    });
    stage.takes("pim", &lamp(2));
    stage.shop.does(|_| Act::Answer(200));
    stage.shop_holds(json!({"lamp": page("lamp", json!(2))}));
    stage.settles("shop");
    stage.takes("pim", &lamp(3));
    stage.shop_holds(json!({"lamp": page("lamp", json!(3))}));
    assert!(!stage.shop.deliveries().is_empty(), "{problem}");
}

#[test]
fn a_bad_response_of_a_target_is_reported_and_its_recovery_is_noticed() {
    let stage = Stage::catalog();
    check(&stage, Act::Answer(500), "answered 500");
    check(
        &stage,
        Act::Say(302, String::new()),
        "redirects are never followed",
    );
    check(
        &stage,
        Act::Say(401, "no such token".into()),
        "answered 401: no such token",
    );
    check(&stage, Act::Answer(404), "answered 404");
}

// The last error of a channel and the next attempt of an entity were described and never there: an
// operator saw a channel with parked entities and no word of why, or of when.
#[test]
fn a_channel_in_trouble_shows_its_last_error_and_when_it_tries_again() {
    let slow = CATALOG.replace(
        "first = \"20ms\", cap = \"100ms\"",
        "first = \"2s\", cap = \"2s\"",
    );
    let stage = Stage::with(&slow);
    let listed = || {
        let url = format!("http://{}", stage.weir().address());
        let output = command(stage.folder(), &["channel", "list", "--url", &url]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(stage.channel("shop").get("last_error").is_none());
    stage.shop.does(|_| Act::Say(500, "out of order".into()));
    stage.takes("pim", &lamp(1));
    let error = eventually("the channel has an error", || {
        stage.channel("shop").get("last_error").cloned()
    });
    let detail = error["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("answered 500: out of order"), "{error:#}");
    let parked = eventually("the next attempt of the entity is shown", || {
        let standing = stage.standing("lamp", "shop");
        (standing["state"] == "parked" && standing.get("next_attempt").is_some())
            .then_some(standing)
    });
    // Both are RFC 3339 in UTC, so their order is the order of their texts.
    let (failed, next) = (error["time"].as_str(), parked["next_attempt"].as_str());
    assert!(failed.is_some() && next >= failed, "{parked:#} {error:#}");
    assert!(
        listed().contains("answered 500: out of order"),
        "{}",
        listed()
    );

    stage.shop.does(|_| Act::Answer(200));
    stage.takes("pim", &lamp(2));
    let delivered = stage.stands("lamp", "shop", "delivered");
    assert!(delivered.get("next_attempt").is_none(), "{delivered:#}");
    assert!(!listed().contains("answered 500"), "{}", listed());

    stage.shop.does(|_| Act::Say(422, "no such colour".into()));
    stage.takes("pim", &lamp(3));
    stage.stands("lamp", "shop", "refused");
    let detail = stage.channel("shop")["last_error"]["detail"].to_string();
    assert!(detail.contains("answered 422: no such colour"), "{detail}");
}

#[test]
fn a_target_that_does_not_respond_is_reported_with_the_timeout() {
    let stage = Stage::with(&impatient());
    check(&stage, Act::Hang(false), "no complete response within 1s");
}

#[test]
fn half_a_response_is_not_a_delivery() {
    let stage = Stage::catalog();
    check(&stage, Act::Half, "broke off");
    check(&stage, Act::Hangup, "no response");
}

#[test]
fn a_target_that_refuses_connections_is_waited_for() {
    // A socket that is bound but does not listen reserves the port and refuses connections.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .expect("a runtime");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    let stage = Stage::with(&CATALOG.replace("{shop}", &format!("http://{address}/weir")));
    // A few entities that fail do not put a target in doubt.
    let others: Vec<Value> = (0..5)
        .map(|number| change(&format!("p{number}"), "content", json!(1)))
        .collect();
    stage.takes("pim", &others);
    stage.takes("pim", &lamp(1));
    let channel = eventually("the channel is tripped", || {
        Some(stage.channel("shop")).filter(|channel| channel["state"] == "tripped")
    });
    assert!(
        channel["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(&address.to_string())),
        "{channel:#}"
    );
    stage.takes("pim", &lamp(2));
    let listener = runtime
        .block_on(async { socket.listen(64).and_then(|listener| listener.into_std()) })
        .expect("it listens");
    listener.set_nonblocking(false).expect("blocking");
    let shop = Receiver::on(listener);
    becomes("everything arrives", 6, || shop.holds().len());
    assert_eq!(json!(shop.holds()["lamp"]), page("lamp", json!(2)));
    assert_eq!(shop.count(), 6, "each is sent once");
}

#[test]
fn a_target_that_is_gone_gets_no_requests_until_an_operator_resumes_the_channel() {
    let stage = Stage::catalog();
    stage.shop.does(|_| Act::Answer(410));
    stage.takes("pim", &lamp(1));
    stage.channel_is("shop", "paused");
    let sent = stage.shop.count();
    stage.takes("pim", &lamp(2));
    stage.takes("pim", &[change("chair", "content", json!(1))]);
    assert_eq!(stage.channel("shop")["state"], "paused");
    stage.shop.does(|_| Act::Answer(200));
    stage.operate("shop", "resume");
    stage.shop_holds(json!({"lamp": page("lamp", json!(2)), "chair": page("chair", json!(1))}));
    assert_eq!(
        stage.shop.count(),
        sent + 2,
        "something was sent while the channel was paused"
    );
}

#[test]
fn a_target_that_asks_to_wait_gets_no_request_before_that_time() {
    let stage = Stage::catalog();
    stage
        .shop
        .does_in_turn([Act::With(429, vec![("retry-after", "2".into())])]);
    stage.takes("pim", &lamp(1));
    // Before Weir has read that response, another delivery may start. On a machine that stood still the
    // time may be over by now.
    eventually("the target has asked to wait", || {
        (stage.channel("shop")["parked"] == 1 || stage.shop.count() > 1).then_some(())
    });
    // Neither this entity nor another is sent before the time is over.
    stage.takes("pim", &[change("chair", "content", json!(1))]);
    stage.shop_holds(json!({"lamp": page("lamp", json!(1)), "chair": page("chair", json!(1))}));
    let deliveries = stage.shop.deliveries();
    let waited = deliveries[1].at.duration_since(deliveries[0].at);
    assert!(waited >= Duration::from_millis(1900), "{waited:?}");
}

/// What the shops of an account were taught was kept for the first of them. When that one left the
/// configuration, the others began at full speed after the next start.
#[test]
fn what_a_shared_pace_was_taught_outlives_the_target_that_was_taught_it() {
    let shop = |name: &str| {
        format!(
            r#"
[targets.{name}]
kind = "webhook"
url = "{{shop}}/{name}"
pace = "account"
[channels.{name}]
entity = "product"
facets = ["content"]
target = "{name}"
"#
        )
    };
    let head = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[paces.account]
concurrency = 4
"#;
    let both = [head, &shop("berlin"), &shop("wien")].concat();
    let mut stage = Stage::closed(&both);
    stage.shop.does_in_turn([Act::Answer(429)]);
    stage.start();
    stage.takes("pim", &lamp(1));
    let bears = |stage: &Stage, name: &str| stage.channel(name)["target_bears_per_second"].as_f64();
    eventually("both know that there is a limit", || {
        bears(&stage, "berlin").and(bears(&stage, "wien"))
    });
    stage.stop();
    stage.configure(&[head, &shop("wien")].concat());
    stage.start();
    assert!(
        bears(&stage, "wien") > Some(0.0),
        "{}",
        stage.channel("wien")
    );
}

#[test]
fn an_entity_that_is_refused_is_kept_with_the_reason_and_harms_no_other() {
    let stage = Stage::catalog();
    stage.shop.does(|delivery| {
        if delivery.key() == "lamp" {
            Act::Say(400, "no such colour".into())
        } else {
            Act::Answer(200)
        }
    });
    stage.takes(
        "pim",
        &[
            change("lamp", "content", json!("blurple")),
            change("chair", "content", json!("red")),
        ],
    );
    stage.shop_holds(json!({"chair": page("chair", json!("red"))}));
    stage.stands("lamp", "shop", "refused");
    let refused = stage.refused("shop");
    assert_eq!(
        (refused.len(), &refused[0]["key"]),
        (1, &json!("lamp")),
        "{refused:?}"
    );
    assert!(
        refused[0]["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("answered 400: no such colour")),
        "{refused:?}"
    );

    // A redrive sends the entity as it is; a change leads to a new attempt without a redrive.
    stage.shop.forget();
    let redriven = stage
        .weir()
        .post("/v1/channels/shop/refused/redrive?key=lamp");
    assert_eq!(redriven.status, 200, "{}", redriven.text());
    eventually("it is attempted again", || {
        (stage.shop.count() == 1).then_some(())
    });
    stage.stands("lamp", "shop", "refused");
    stage.shop.does(|_| Act::Answer(200));
    stage.takes("pim", &[change("lamp", "content", json!("blue"))]);
    stage.stands("lamp", "shop", "delivered");
    assert_eq!(stage.refused("shop"), Vec::<Value>::new());
}

#[test]
fn with_the_key_in_the_url_an_entity_is_put_and_deleted_at_its_own_place() {
    let stage = Stage::with(&CATALOG.replace("url = \"{shop}\"", "url = \"{shop}/{key}\""));
    let story = || {
        stage
            .shop
            .deliveries()
            .iter()
            .map(|one| format!("{} {}", one.method, one.path))
            .collect::<Vec<_>>()
    };
    stage.takes("pim", &[change("lamp/7 ä", "content", json!(1))]);
    becomes(
        "the entity is put under its key",
        vec!["PUT /weir/lamp%2F7%20%C3%A4".to_owned()],
        story,
    );
    // For a deletion, a 410 is as good as success.
    stage.shop.does(|_| Act::Answer(404));
    stage.takes("pim", &[deletion("lamp/7 ä", "content")]);
    stage.stands("lamp%2F7%20%C3%A4", "shop", "withdrawn");
    assert_eq!(
        story().last().map(String::as_str),
        Some("DELETE /weir/lamp%2F7%20%C3%A4")
    );
    // Otherwise a 410 is about the entity, and a refusal.
    stage.shop.does(|_| Act::Answer(410));
    stage.takes("pim", &[change("chair", "content", json!(1))]);
    stage.stands("chair", "shop", "refused");
    assert_eq!(stage.channel("shop")["state"], "flowing");
}

#[test]
fn the_culprit_of_a_batch_is_found_and_the_others_are_delivered() {
    let stage = Stage::with(&CATALOG.replace("target = \"shop\"", "target = \"shop\"\nbatch = 8"));
    stage.operate("shop", "pause");
    let keys: Vec<String> = (0..8).map(|number| format!("item-{number}")).collect();
    stage.takes(
        "pim",
        &keys
            .iter()
            .map(|key| change(key, "content", json!(1)))
            .collect::<Vec<_>>(),
    );
    stage.shop.does(
        |delivery| match String::from_utf8_lossy(&delivery.body).contains("item-5") {
            true => Act::Say(422, "item-5 has no parent".into()),
            false => Act::Answer(200),
        },
    );
    stage.operate("shop", "resume");
    stage.stands("item-5", "shop", "refused");
    let expected: Vec<&String> = keys.iter().filter(|key| *key != "item-5").collect();
    becomes("all others are delivered", json!(expected), || {
        json!(stage.shop.holds().keys().collect::<Vec<_>>())
    });
    let bodies: Vec<usize> = stage
        .shop
        .deliveries()
        .iter()
        .map(|delivery| delivery.json().as_array().map_or(0, Vec::len))
        .collect();
    assert!(
        bodies.contains(&8) && bodies.contains(&4) && bodies.contains(&2) && bodies.contains(&1),
        "halves of halves: {bodies:?}"
    );
}

// A page was created by a request whose response never arrived, and then the source returned to the
// value that the shop had before. The last rendering that the shop certainly held equals the new
// state, so suppressing it would leave the wrong page for good.
#[test]
fn a_request_that_timed_out_but_was_applied_is_corrected_when_the_old_value_returns() {
    let stage = Stage::with(&impatient());
    stage.takes("pim", &lamp(1));
    stage.shop_holds(json!({"lamp": page("lamp", json!(1))}));
    stage.stands("lamp", "shop", "delivered");
    stage.shop.does(|_| Act::Hang(true));
    stage.takes("pim", &lamp(2));
    stage.shop_holds(json!({"lamp": page("lamp", json!(2))}));
    stage.takes("pim", &lamp(1));
    stage.shop.does(|_| Act::Answer(200));
    stage.shop_holds(json!({"lamp": page("lamp", json!(1))}));
    stage.stands("lamp", "shop", "delivered");
    assert_eq!(stage.shop.holds()["lamp"], page("lamp", json!(1)));
}

#[test]
fn what_the_target_certainly_holds_is_not_sent_again() {
    let stage = Stage::catalog();
    stage.takes("pim", &lamp(1));
    stage.stands("lamp", "shop", "delivered");
    stage.operate("shop", "pause");
    stage.takes("pim", &lamp(2));
    stage.takes("pim", &lamp(1));
    stage.operate("shop", "resume");
    stage.stands("lamp", "shop", "suppressed");
    assert_eq!(stage.shop.count(), 1);
}

#[test]
fn many_changes_of_an_entity_are_one_delivery_to_a_channel_that_was_away() {
    let stage = Stage::catalog();
    stage.operate("shop", "pause");
    (1..=50).for_each(|value| drop(stage.takes("pim", &lamp(value))));
    stage.operate("shop", "resume");
    stage.shop_holds(json!({"lamp": page("lamp", json!(50))}));
    stage.settles("shop");
    assert_eq!(stage.shop.count(), 1);
}

#[test]
fn a_pause_is_remembered_over_a_restart() {
    let mut stage = Stage::catalog();
    stage.operate("shop", "pause");
    stage.stop();
    stage.start();
    assert_eq!(stage.channel("shop")["state"], "paused");
    stage.takes("pim", &lamp(1));
    assert_eq!(stage.shop.count(), 0);
    stage.operate("shop", "resume");
    stage.shop_holds(json!({"lamp": page("lamp", json!(1))}));
}

#[test]
fn a_resync_sends_everything_deletions_included_and_a_rerender_what_differs() {
    let stage = Stage::catalog();
    stage.takes(
        "pim",
        &[
            change("lamp", "content", json!(1)),
            change("chair", "content", json!(1)),
        ],
    );
    stage.settles("shop");
    stage.takes("pim", &[deletion("chair", "content")]);
    stage.stands("chair", "shop", "withdrawn");
    stage.settles("shop");

    stage.shop.forget();
    stage.operate("shop", "rerender");
    stage.settles("shop");
    assert_eq!(
        stage.shop.count(),
        0,
        "something was sent although nothing differs"
    );

    stage.operate("shop", "resync");
    eventually("both are sent", || (stage.shop.count() == 2).then_some(()));
    stage.settles("shop");
    let gone = stage.shop.of("chair");
    assert_eq!((gone.len(), &gone[0].json()["deleted"]), (1, &json!(true)));
    assert_eq!(stage.shop.of("lamp").len(), 1);
}

#[test]
fn a_channel_that_does_not_deliver_counts_and_sends_nothing() {
    let stage =
        Stage::with(&CATALOG.replace("target = \"shop\"", "target = \"shop\"\ndeliver = false"));
    stage.takes("pim", &lamp(1));
    becomes("it is counted", json!(1), || {
        stage.channel("shop")["deliveries"]["counted"].clone()
    });
    stage.settles("shop");
    assert_eq!(stage.shop.count(), 0);
    assert_eq!(stage.channel("shop")["deliver"], false);

    // When it is switched on, it sends what it has only counted so far.
    stage.reloads(CATALOG);
    stage.shop_holds(json!({"lamp": page("lamp", json!(1))}));
}

// A bulk interface answered 202 to each product, and its import failed at night. `weir show` said
// "delivered", so nobody looked there.
#[test]
fn an_entity_that_was_accepted_and_perhaps_not_applied_is_shown_as_such() {
    let accepts = CATALOG.replace(
        "timeout = \"30s\"",
        "timeout = \"30s\"\naccepted_only = true",
    );
    let stage = Stage::with(&accepts);
    stage.shop.does(|_| Act::Answer(202));
    stage.takes("pim", &lamp(1));
    let unknown = "accepted by the target; whether it was applied is not known";
    let standing = stage.stands("lamp", "shop", "delivered");
    assert_eq!(standing["detail"], unknown, "{standing:#}");
    let url = format!("http://{}", stage.weir().address());
    let shown = command(stage.folder(), &["show", "product/lamp", "--url", &url]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(unknown), "{shown}");

    stage.takes("pim", &[deletion("lamp", "content")]);
    let standing = stage.stands("lamp", "shop", "withdrawn");
    assert_eq!(standing["detail"], unknown, "{standing:#}");
    stage.reloads(CATALOG);
    let standing = stage.stands("lamp", "shop", "withdrawn");
    assert!(standing.get("detail").is_none(), "{standing:#}");
}
