//! Redriving many: it is a job with a limit that says how far it is and what failed again, and it can be
//! cancelled.

use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER};
use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Act, Stage, change, eventually};

/// Begins a job, and returns its view.
#[track_caller]
fn begins(stage: &Stage, path: &str) -> Value {
    let begun = stage.weir().post(path);
    assert_eq!(begun.status, 202, "{}", begun.text());
    let job = begun.json();
    let at = format!("/v1/jobs/{}", job["id"].as_str().expect("an id"));
    assert_eq!(begun.header("location"), Some(at.as_str()));
    job
}

fn job(stage: &Stage, begun: &Value) -> Value {
    let id = begun["id"].as_str().expect("an id");
    stage.weir().get(&format!("/v1/jobs/{id}")).json()
}

#[track_caller]
fn ends(stage: &Stage, begun: &Value) -> Value {
    eventually("the job ends", || {
        let job = job(stage, begun);
        (job["state"] != "running").then_some(job)
    })
}

/// A stage with 300 events in the quarantine of `pim`, because it does not own their facet.
fn quarantined() -> Stage {
    let stage = Stage::catalog();
    let head = [("content-type", "application/x-ndjson")];
    let lines = (0..300).map(|number| change(&format!("lamp-{number}"), "price.de", json!(1)));
    let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
    let reply = stage.send("pim", &head, lines.join("\n").as_bytes());
    assert_eq!(
        reply.json()["events"]["quarantined"],
        300,
        "{}",
        reply.text()
    );
    stage
}

/// The catalogue in which `pim` owns the prices.
fn mended() -> String {
    CATALOG.replace("owner = \"erp\"", "owner = \"pim\"")
}

// Whoever redrove 100,000 events held a request open for minutes, and learned nothing if it was cut.
#[test]
fn events_are_redriven_as_a_job_that_lists_what_failed_again() {
    let stage = quarantined();
    let redrive = "/v1/sources/pim/quarantine/redrive";
    let begun = begins(&stage, &format!("{redrive}?code=foreign&job=true&limit=10"));
    assert_eq!(
        (&begun["kind"], &begun["source"], &begun["channel"]),
        (&json!("redrive"), &json!("pim"), &Value::Null),
        "{begun:#}"
    );
    let job = ends(&stage, &begun);
    assert_eq!(job["state"], "done", "{job:#}");
    assert_eq!((&job["done"], &job["total"]), (&json!(10), &json!(10)));
    let found = &job["redrive"];
    assert_eq!(
        (&found["redriven"], &found["failed"], &found["more"]),
        (&json!(0), &json!(10), &json!(true)),
        "{job:#}"
    );
    let failures = found["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 10, "{job:#}");
    let oldest = &stage.quarantine("pim")[0];
    assert_eq!(failures[0]["sequence"], oldest["sequence"], "{job:#}");
    assert_eq!(failures[0]["code"], "foreign", "{job:#}");
    stage.reloads(&mended());
    let job = ends(
        &stage,
        &begins(&stage, &format!("{redrive}?all=true&job=true")),
    );
    let found = &job["redrive"];
    assert_eq!(
        (
            &job["state"],
            &found["redriven"],
            &found["failed"],
            &found["more"]
        ),
        (&json!("done"), &json!(300), &json!(0), &json!(false)),
        "{job:#}"
    );
    assert_eq!(stage.quarantine("pim"), Vec::<Value>::new());
    stage.settles("shop");
    let none = stage
        .weir()
        .post("/v1/sources/nope/quarantine/redrive?all=true&job=true");
    assert_eq!(none.status, 404, "{}", none.text());
    let unsaid = stage.weir().post(&format!("{redrive}?job=true"));
    assert_eq!(unsaid.status, 400, "{}", unsaid.text());
}

#[test]
fn refused_entities_are_tried_again_as_a_job_that_waits_for_their_channel() {
    let stage = Stage::catalog();
    stage
        .shop
        .does(|_| Act::Say(400, "no such category".to_owned()));
    // Fewer than the 20 that would trip the target.
    let changes: Vec<Value> = (0..16)
        .map(|number| change(&format!("lamp-{number:02}"), "content", json!(number)))
        .collect();
    stage.takes("pim", &changes);
    eventually("all are refused", || {
        (stage.refused("shop").len() == 16).then_some(())
    });
    stage.operate("shop", "pause");
    let all = "/v1/channels/shop/refused/redrive?all=true&job=true";
    let begun = begins(&stage, all);
    assert_eq!(
        (&begun["total"], &begun["channel"]),
        (&json!(16), &json!("shop")),
        "{begun:#}"
    );
    // The same once more is the same job, and another one has to wait.
    assert_eq!(begins(&stage, all)["id"], begun["id"]);
    let other = stage.weir().post(&format!("{all}&limit=1"));
    assert_eq!(other.status, 409, "{}", other.text());
    assert!(other.text().contains("job-running"), "{}", other.text());
    let shown = job(&stage, &begun);
    assert_eq!(
        (&shown["state"], &shown["done"]),
        (&json!("running"), &json!(0)),
        "{shown:#}"
    );
    let odd = |key: &str| key.ends_with(['1', '3', '5', '7', '9']);
    stage.shop.does(move |delivery| match odd(delivery.key()) {
        true => Act::Say(400, "no such colour".to_owned()),
        false => Act::Answer(200),
    });
    stage.operate("shop", "resume");
    let job = ends(&stage, &begun);
    let found = &job["redrive"];
    assert_eq!(
        (
            &job["state"],
            &job["done"],
            &found["redriven"],
            &found["failed"]
        ),
        (&json!("done"), &json!(16), &json!(8), &json!(8)),
        "{job:#}"
    );
    let failure = &found["failures"][0];
    assert!(odd(failure["id"].as_str().expect("a key")), "{job:#}");
    assert!(
        failure["detail"]
            .as_str()
            .is_some_and(|it| it.contains("no such colour")),
        "{job:#}"
    );
    // A job that waits for a channel that is paused can be cancelled; what it handed over is tried all the same.
    stage.operate("shop", "pause");
    let begun = begins(&stage, all);
    let id = begun["id"].as_str().expect("an id");
    eventually("all are handed over", || {
        stage.refused("shop").is_empty().then_some(())
    });
    assert_eq!(
        stage
            .weir()
            .ask("DELETE", &format!("/v1/jobs/{id}"), &[], b"")
            .status,
        200
    );
    assert_eq!(ends(&stage, &begun)["state"], "cancelled");
    stage.shop.does(|_| Act::Answer(200));
    stage.operate("shop", "resume");
    eventually("all are delivered", || {
        (stage.refused("shop").is_empty() && stage.channel("shop")["parked"] == 0).then_some(())
    });
}

#[test]
fn the_command_line_waits_for_refused_entities_if_it_is_asked_to() {
    let stage = Stage::catalog();
    stage
        .shop
        .does(|_| Act::Say(400, "no such category".to_owned()));
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    eventually("it is refused", || {
        (stage.refused("shop").len() == 1).then_some(())
    });
    let url = format!("http://{}", stage.weir().address());
    let redrive = |options: &[&str]| {
        let arguments = [&["refused", "redrive", "shop", "--url", &url], options].concat();
        let output = command(stage.folder(), &arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = redrive(&["--all", "--wait"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with("0 redriven; 1 refused again\n  lamp: "),
        "{said}"
    );
    assert!(said.contains("no such category"), "{said}");
    stage.shop.does(|_| Act::Answer(200));
    let (code, said) = redrive(&["--key", "lamp"]);
    assert_eq!((code, said.as_str()), (Some(0), "1 queued for a retry\n"));
    stage.stands("lamp", "shop", "delivered");
}

#[test]
fn the_console_says_what_a_redrive_has_come_to() {
    let Some(browser) = Browser::start("a redrive in the console") else {
        return;
    };
    let stage = quarantined();
    browser.goes_to(&format!(
        "http://{}/?view=source&name=pim",
        stage.weir().address()
    ));
    browser.shows("Redrive 300 events");
    let press = |label: &str| {
        browser.tabs_to(label);
        browser.types(ENTER);
    };
    press("Redrive 300 events");
    browser.shows("0 redriven; 300 failed again and stay.");
    stage.reloads(&mended());
    press("Redrive 300 events");
    browser.shows("300 redriven.");
    browser.shows("None.");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
