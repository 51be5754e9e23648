//! Being told, from outside: who is told what, when a target trips, a channel holds back, a source falls silent
//! or a channel is late; that the end is told too; and that nobody waits for a receiver.

use std::time::Duration;

use serde_json::{Value, json};
use weir::inside::signature::{Secret, sign};

use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Act, Receiver, Stage, change, deletion, eventually, within};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A configuration, and below it a receiver of notices with these keys.
fn notify(config: &str, receiver: &Receiver, keys: &str) -> String {
    let url = receiver.url();
    format!("{config}[[notify]]\nurl = \"{url}\"\n{keys}\n")
}

/// What a receiver was told and took: the type, and what it is about.
fn told(receiver: &Receiver) -> Vec<String> {
    let taken = receiver.deliveries().into_iter().filter(|it| it.applied);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = |notice: Value| {
        let (kind, data) = (word(&notice["type"]), &notice["data"]);
        format!("{kind} {} {}", word(&data["subject"]), word(&data["name"]))
    };
    taken.map(|delivery| about(delivery.json())).collect()
}

/// Waits until a receiver was told exactly this.
#[track_caller]
fn is_told(receiver: &Receiver, expected: &[&str]) {
    eventually(&format!("it is told {expected:?}"), || {
        let told = told(receiver);
        assert!(told.len() <= expected.len(), "{told:?}");
        (told == expected).then_some(())
    });
}

/// The last notice.
fn last(receiver: &Receiver) -> Value {
    let mut taken = receiver.deliveries().into_iter().filter(|it| it.applied);
    taken.next_back().expect("a notice").json()
}

fn lamp(value: u32) -> [Value; 1] {
    [change("lamp", "content", json!(value))]
}

#[test]
fn that_a_target_trips_and_recovers_is_told_and_signed_like_a_delivery() {
    let (bell, held_only) = (Receiver::start(), Receiver::start());
    let keys = format!("sign = \"{SECRET}\"\nheaders = {{ X-Team = \"shop\" }}");
    let config = notify(CATALOG, &bell, &keys);
    let stage = Stage::with(&notify(&config, &held_only, "on = [\"held\"]"));
    // What a target answers is quoted in the reason.
    let hostile = "no \u{1b}[2J \"},\r\n\"type\":\"recovered\u{202e}\u{0}";
    stage.shop.does(move |_| Act::Say(401, hostile.to_owned()));
    stage.takes("pim", &lamp(1));
    is_told(&bell, &["tripped target shop"]);
    let delivery = bell.deliveries().remove(0);
    let header = |name: &str| delivery.header(name).expect("a header").to_owned();
    let secret = Secret::from_webhook_secret(SECRET).expect("a secret");
    let seconds = header("webhook-timestamp").parse().expect("seconds");
    let signature = sign(&secret, &header("webhook-id"), seconds, &delivery.body);
    assert_eq!(header("webhook-signature"), signature);
    assert_eq!(
        (header("content-type"), header("x-team")),
        ("application/json".to_owned(), "shop".to_owned())
    );
    let notice = delivery.json();
    let data = &notice["data"];
    assert_eq!(
        (&notice["type"], &data["channels"], &data["path"]),
        (
            &json!("tripped"),
            &json!(["shop"]),
            &json!("/v1/channels/shop")
        ),
        "{notice:#}"
    );
    for text in [&data["reason"], &notice["text"]] {
        let text = text.as_str().expect("a text");
        assert!(text.contains("answered 401: no "), "{notice:#}");
        assert!(text.contains("recovered\\u202e"), "{notice:#}");
        let obeyed = |character: char| character.is_control() || character == '\u{202e}';
        assert!(!text.chars().any(obeyed), "{notice:#}");
    }
    let view = stage.weir().get(data["path"].as_str().expect("a path"));
    assert_eq!(view.json()["name"], "shop", "{notice:#}");

    stage.shop.does(|_| Act::Answer(200));
    stage.settles("shop");
    is_told(&bell, &["tripped target shop", "recovered target shop"]);
    let notice = last(&bell);
    assert_eq!(notice["data"]["recovered_from"], "tripped", "{notice:#}");
    assert_eq!(held_only.count(), 0, "it has asked for nothing of this");
    let metrics = stage.weir().get("/metrics").text();
    for line in [
        "weir_notifications_total{result=\"sent\"} 2\n",
        "weir_notifications_total{result=\"dropped\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[test]
fn that_a_channel_holds_deletions_back_is_told_until_they_are_confirmed() {
    let bell = Receiver::start();
    let guarded = CATALOG.to_owned() + "withdraw_max = { share = \"0%\", per = \"1h\", min = 1 }\n";
    let stage = Stage::with(&notify(&guarded, &bell, ""));
    let keys = ["a", "b", "c", "d"];
    stage.takes("pim", &keys.map(|key| change(key, "content", json!(1))));
    stage.settles("shop");
    stage.takes("pim", &keys.map(|key| deletion(key, "content")));
    is_told(&bell, &["held channel shop"]);
    let notice = last(&bell);
    let text = notice["text"].as_str().expect("a text");
    assert!(
        text.contains("withdraw_max") && text.contains("weir channel confirm shop"),
        "{notice:#}"
    );
    stage.operate("shop", "confirm");
    is_told(&bell, &["held channel shop", "recovered channel shop"]);
}

#[test]
fn that_a_source_falls_silent_is_told_until_it_sends_again() {
    let bell = Receiver::start();
    let config = CATALOG.replace("[sources.erp]", "[sources.erp]\nquiet = \"1s\"");
    let stage = Stage::with(&notify(&config, &bell, "on = [\"silent\", \"recovered\"]"));
    is_told(&bell, &["silent source erp"]);
    let metrics = stage.weir().get("/metrics").text();
    assert!(
        metrics.contains("weir_source_silent{source=\"erp\"} 1\n"),
        "{metrics}"
    );
    // A second between two events may already be too long, on a machine with much to do.
    within(Duration::from_secs(60), "it is told that it sends", || {
        stage.takes("erp", &[change("lamp", "price.de", json!(1))]);
        let recovered = "recovered source erp".to_owned();
        (told(&bell).get(1) == Some(&recovered)).then_some(())
    });
}

// A source that had sent nothing yet counted from the last reload: with a reload each minute it was never
// silent.
#[test]
fn a_reload_ends_no_silence() {
    let config = CATALOG.replace("[sources.erp]", "[sources.erp]\nquiet = \"3s\"");
    let stage = Stage::with(&config);
    let silent = || stage.weir().get("/v1/sources/erp").json()["silent"] == true;
    eventually("it is silent", || silent().then_some(()));
    stage.reloads(&(config.clone() + "freshness = \"1m\"\n"));
    assert!(silent(), "it has still sent nothing");
}

#[test]
fn that_a_channel_is_late_is_told_with_what_it_fails_on() {
    let bell = Receiver::start();
    let fresh = CATALOG.to_owned() + "freshness = \"1s\"\n";
    let stage = Stage::with(&notify(&fresh, &bell, ""));
    stage.shop.does(|_| Act::Say(500, "no room".into()));
    stage.takes("pim", &lamp(1));
    is_told(&bell, &["late channel shop"]);
    let notice = last(&bell);
    let reason = notice["data"]["reason"].as_str().expect("a text");
    assert!(
        reason.contains("answered 500: no room") && reason.contains("freshness is 1s"),
        "{notice:#}"
    );
    stage.shop.does(|_| Act::Answer(200));
    is_told(&bell, &["late channel shop", "recovered channel shop"]);
}

#[test]
fn a_receiver_that_never_answers_delays_nobody() {
    let (bell, hangs) = (Receiver::start(), Receiver::start());
    hangs.does(|_| Act::Hang(false));
    let config = notify(CATALOG, &hangs, "timeout = \"10m\"");
    let mut stage = Stage::with(&notify(&config, &bell, ""));
    stage.shop.does(|_| Act::Answer(404));
    stage.takes("pim", &lamp(1));
    is_told(&bell, &["tripped target shop"]);
    eventually("the other one is asked as well", || {
        (hangs.count() == 1).then_some(())
    });
    stage.shop.does(|_| Act::Answer(200));
    stage.takes("pim", &lamp(2));
    stage.settles("shop");
    is_told(&bell, &["tripped target shop", "recovered target shop"]);
    assert_eq!(hangs.count(), 1, "one request at a time");
    stage.stop();
}

#[test]
fn a_notice_that_is_not_taken_is_tried_again_under_its_name_and_then_given_up() {
    let (bell, refuses) = (Receiver::start(), Receiver::start());
    bell.does_in_turn([Act::Answer(500), Act::Hangup]);
    refuses.does(|_| Act::Say(500, "out of order".into()));
    let stage = Stage::with(&notify(&notify(CATALOG, &bell, ""), &refuses, ""));
    stage.shop.does(|_| Act::Answer(401));
    stage.takes("pim", &lamp(1));
    is_told(&bell, &["tripped target shop"]);
    let ids: Vec<_> = bell
        .deliveries()
        .iter()
        .map(|delivery| delivery.header("webhook-id").map(str::to_owned))
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(
        ids.iter().all(|id| id.is_some() && *id == ids[0]),
        "{ids:?}"
    );
    within(
        Duration::from_secs(120),
        "the other one is given up",
        || {
            let metrics = stage.weir().get("/metrics").text();
            let dropped = "weir_notifications_total{result=\"dropped\"} 1\n";
            metrics.contains(dropped).then_some(())
        },
    );
    assert_eq!(refuses.count(), 4);
    stage
        .weir()
        .says("a notice was not accepted by its receiver");
    stage.weir().says("answered 500: out of order");
    // Its end is told only to who was told of it. By now the next probe may be half a minute away.
    stage.shop.does(|_| Act::Answer(200));
    within(Duration::from_secs(120), "the end is told", || {
        let told = told(&bell);
        (told == ["tripped target shop", "recovered target shop"]).then_some(())
    });
    assert_eq!(refuses.count(), 4);
}

#[test]
fn a_reload_keeps_what_a_receiver_was_told() {
    let (bell, leaves, comes) = (Receiver::start(), Receiver::start(), Receiver::start());
    let with_bell = notify(CATALOG, &bell, "");
    let stage = Stage::with(&notify(&with_bell, &leaves, ""));
    stage.shop.does(|_| Act::Answer(401));
    stage.takes("pim", &lamp(1));
    is_told(&bell, &["tripped target shop"]);
    is_told(&leaves, &["tripped target shop"]);
    let reload = stage.reload(&notify(&with_bell, &comes, ""));
    assert_eq!(reload["success"], true, "{reload:#}");
    let changes = reload["changes"].to_string();
    assert!(
        changes.contains("the receivers of notices have changed"),
        "{reload:#}"
    );
    is_told(&comes, &["tripped target shop"]);
    // Another target of the same name is not known to be well. While the channel is paused it is not tried.
    stage.operate("shop", "pause");
    stage
        .reloads(&notify(&with_bell, &comes, "").replace("timeout = \"30s\"", "timeout = \"29s\""));
    is_told(&bell, &["tripped target shop", "recovered target shop"]);
    let notice = last(&bell);
    let reason = notice["data"]["reason"].as_str().expect("a text");
    assert!(reason.contains("a reload has changed"), "{notice:#}");
    is_told(&comes, &["tripped target shop", "recovered target shop"]);
    assert_eq!(told(&leaves), ["tripped target shop"]);
}

#[test]
fn after_a_restart_what_still_holds_is_told_once_more() {
    let bell = Receiver::start();
    let mut stage = Stage::with(&notify(CATALOG, &bell, ""));
    stage.shop.does(|_| Act::Answer(401));
    stage.takes("pim", &lamp(1));
    is_told(&bell, &["tripped target shop"]);
    stage.kill();
    stage.start();
    is_told(&bell, &["tripped target shop", "tripped target shop"]);
    stage.shop.does(|_| Act::Answer(200));
    stage.settles("shop");
    is_told(
        &bell,
        &[
            "tripped target shop",
            "tripped target shop",
            "recovered target shop",
        ],
    );
}

#[test]
fn a_receiver_goes_where_deliveries_may_go_and_follows_no_redirect() {
    let (bell, trap) = (Receiver::start(), Receiver::start());
    let location = trap.url();
    bell.does(move |_| Act::With(302, vec![("location", location.clone())]));
    let public = notify(CATALOG, &trap, "egress = \"public\"");
    let stage = Stage::with(&notify(&public, &bell, ""));
    let check = command(stage.folder(), &["check", "--connect"]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("notify[0]: ") && check.contains("connections to it are not allowed"),
        "{check}"
    );
    assert!(check.contains("nobody would be told by it"), "{check}");
    stage.shop.does(|_| Act::Answer(401));
    stage.takes("pim", &lamp(1));
    eventually("the other one is tried again", || {
        (bell.count() >= 2).then_some(())
    });
    let connected: usize = trap.connections();
    assert_eq!(connected, 0);
}
