//! Bodies as senders write them, and the answers that they want.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::browser::Browser;
use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Ledger, Stage, change};

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The catalogue with a partner whose documents have their events at this place.
fn partner(pointer: &str) -> String {
    format!(
        r#"{CATALOG}
[sources.partner]
owner = "pim"
split = "json:{pointer}"
unreadable = "quarantine"
"#
    )
}

fn counts(stage: &Stage) -> Value {
    stage.weir().get("/v1/sources/partner").json()["events"].clone()
}

// A partner sends each document once, whatever the answer is. The source looked for its events at the wrong place;
// meanwhile Weir was killed, and one of the products was changed by somebody else.
#[test]
fn the_accounts_of_a_body_that_was_kept_add_up() {
    let mut stage = Stage::with(&partner("/products"));
    let ledger = Ledger::default();
    let mut sent = Vec::new();
    for key in ["lamp", "bowl", "lamp", "cup", "lamp"] {
        let number = ledger.sends(key, |_| false);
        sent.push((key, number));
    }
    let items: Vec<Value> = sent
        .iter()
        .map(|(key, number)| change(key, "content", json!(number)))
        .collect();
    let body = json!({ "items": items }).to_string();
    let reply = stage.send("partner", &[JSON], body.as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
    assert_eq!(reply.json()["problems"][0]["code"], "no-events");
    assert_eq!(counts(&stage)["quarantined"], 1);
    stage.kill();
    stage.start();

    let newer = ledger.sends("bowl", |_| false);
    let answer = stage.takes("pim", &[change("bowl", "content", json!(newer))]);
    let sequence = answer["sequence"].as_u64().expect("a number");
    ledger.accepted("bowl", newer, sequence);
    let kept = stage.quarantine("partner");
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (&kept[0]["unread"], &kept[0]["body"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(kept[0]["event"]["data"], json!(body));

    stage.reloads(&partner("/items"));
    let redrive = ["quarantine", "redrive", "partner", "--all"];
    let (code, said) = stage.tell(&redrive);
    assert_eq!((code, said.as_str()), (0, "5 redriven\n"));
    assert_eq!(stage.quarantine("partner"), Vec::<Value>::new());
    assert_eq!(counts(&stage)["accepted"], 5);
    // The older change of the bowl was accepted, and superseded by the newer one before.
    let sequence = stage.entity("lamp")["facets"][0]["sequence"].as_u64();
    for (key, number) in sent {
        ledger.accepted(key, number, sequence.expect("a number"));
    }
    stage.settles("shop");
    let counts = ledger.close(&stage, "shop", &stage.shop.deliveries());
    let counts = counts.unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!((counts.accepted, counts.owed), (6, 0), "{counts:?}");
    assert_eq!(ledger.stored(&stage).expect("all is stored")["lamp"], 3);
}

/// `sha256=` and the HMAC of a body, as GitHub sends it.
fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"It's a Secret to Everybody").expect("a key");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[test]
fn a_signed_form_is_verified_as_it_was_sent_and_kept_if_it_cannot_be_read() {
    let stage = Stage::with(&format!(
        r#"{CATALOG}
[sources.github]
owner = "pim"
verify = {{ kind = "hmac", preset = "github", secret = "It's a Secret to Everybody" }}
"#
    ));
    let send = |body: &[u8], signed: &[u8], delivery: &str| {
        let signature = signature(signed);
        let head = [
            FORM,
            ("x-github-event", "push"),
            ("x-github-delivery", delivery),
            ("x-hub-signature-256", signature.as_str()),
        ];
        stage.send("github", &head, body)
    };
    // `+` and `%20` are the same character, and not the same bytes.
    let body = b"a=1&payload=%7B%22type%22%3A%22product%22,%22key%22:%22lamp+1%22,%22facet%22:%22content%22,%22value%22:%22%C3%B6%22%7D";
    let other = String::from_utf8_lossy(body).replace('+', "%20");
    assert_eq!(send(body, other.as_bytes(), "1").status, 401);
    let taken = send(body, body, "1");
    assert_eq!(taken.json()["changes"]["committed"], 1, "{}", taken.text());
    let repeated = send(body, body, "1");
    assert_eq!(
        repeated.json()["events"]["repeated"],
        1,
        "{}",
        repeated.text()
    );
    // GitHub would not send it again, so it is kept.
    let broken = b"payload=%7B%22";
    assert_eq!(send(broken, body, "2").status, 401);
    let kept = send(broken, broken, "2");
    assert_eq!(
        (kept.status, &kept.json()["events"]["quarantined"]),
        (202, &json!(1))
    );
    let kept = stage.quarantine("github").remove(0);
    assert_eq!(kept["event"]["data"], json!("payload=%7B%22"), "{kept:#}");
    let names = (&kept["event"]["id"], &kept["event"]["type"]);
    assert_eq!(names, (&json!("2"), &json!("push")));
}

#[test]
fn a_sender_gets_the_answer_that_it_wants_and_a_client_the_summary() {
    let stage = Stage::with(&format!(
        r#"{CATALOG}
[sources.soap]
owner = "pim"
reply = {{ status = 200, body = "<Ack>true</Ack>", type = "text/xml; charset=utf-8" }}
[sources.silent]
owner = "pim"
reply = {{ status = 204 }}
"#
    ));
    let lamp = change("lamp", "content", json!(1)).to_string();
    let reply = stage.send("soap", &[JSON], lamp.as_bytes());
    assert_eq!(
        (reply.status, reply.text()),
        (200, "<Ack>true</Ack>".into())
    );
    assert_eq!(
        reply.header("content-type"),
        Some("text/xml; charset=utf-8")
    );
    // An error is one for every sender.
    let reply = stage.send("soap", &[JSON], b"{");
    assert_eq!(reply.status, 400, "{}", reply.text());
    let reply = stage.send("silent", &[JSON], lamp.as_bytes());
    assert_eq!((reply.status, reply.text()), (204, String::new()));
    let metrics = stage.weir().get("/metrics").text();
    let counted = r#"weir_ingest_requests_total{source="silent",status="204"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    for (source, status) in [("soap", 200), ("silent", 200)] {
        let reply = stage.send(
            source,
            &[JSON, ("prefer", "return=representation")],
            lamp.as_bytes(),
        );
        assert_eq!(reply.status, status);
        assert_eq!(reply.json()["changes"]["unchanged"], 1, "{}", reply.text());
        let file = stage.place("lamp.json", lamp.as_bytes());
        let url = format!("http://{}", stage.weir().address());
        let file = file.to_str().expect("a path");
        let output = command(stage.folder(), &["send", source, file, "--url", &url]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("1 unchanged"), "{said}");
    }
}

#[test]
fn a_body_in_an_old_encoding_is_shown_as_text() {
    let stage = Stage::with(&format!(
        r#"{CATALOG}
[sources.export]
owner = "erp"
split = "csv"
csv = {{ delimiter = ";" }}
unreadable = "quarantine"
"#
    ));
    let csv = ("content-type", "text/csv");
    let reply = stage.send("export", &[csv], b"key;W\xe4hrung\nlamp;EUR\n");
    assert_eq!(reply.json()["events"]["quarantined"], 1, "{}", reply.text());
    let kept = stage.quarantine("export").remove(0);
    let sequence = kept["sequence"].as_u64().expect("a number").to_string();
    let (code, said) = stage.tell(&["quarantine", "show", "export", &sequence]);
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("\n\nkey;Währung\nlamp;EUR\n"), "{said}");
    assert!(
        said.contains("the body of a request, which could not be read"),
        "{said}"
    );
    let (code, _) = stage.tell(&["quarantine", "show", "export", "1234567890"]);
    assert_eq!(code, 1);
    let Some(browser) = Browser::start("a kept body in the console") else {
        return;
    };
    browser.goes_to(&format!(
        "http://{}/?view=source&name=export",
        stage.weir().address()
    ));
    browser.shows("invalid-utf-8");
    browser.run(
        "document.querySelectorAll('details').forEach((it) => { it.open = true; })",
        &[],
    );
    browser.shows("the body of a request, which could not be read");
    browser.shows("key;Währung");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
