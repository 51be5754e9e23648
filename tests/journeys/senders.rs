//! Senders over HTTP: what they sign is verified as it arrives, and their challenges are answered where that is
//! configured, and nowhere else.

use serde_json::Value;

use crate::support::stage::CATALOG;
use crate::support::{Stage, change};

/// The first request of this kind that the vendor's library signed, and that a predicate wants.
fn vector(kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let vectors = include_str!("../senders/vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).expect("JSON");
    let found = vectors
        .into_iter()
        .find(|vector| vector["kind"] == kind && wanted(vector));
    found.expect("a vector")
}

#[test]
fn a_request_is_verified_as_it_arrives_and_a_challenge_is_answered_where_it_is_expected() {
    let adyen = vector("adyen", |_| true);
    let key = adyen["secret"].as_str().expect("a key");
    let stage = Stage::with(&format!(
        r#"{CATALOG}
[sources.shop]
owner = "pim"
verify = {{ kind = "twilio", secret = "12345", url = "https://weir.example/v1/sources/shop/events" }}
[sources.payments]
owner = "pim"
verify = {{ kind = "adyen", secret = "{key}" }}
[sources.graph]
owner = "pim"
verify = {{ kind = "token", query = "token", token = "a-token-of-some-length" }}
handshake = "graph"
[sources.meta]
owner = "pim"
verify = {{ kind = "meta", secret = "one" }}
handshake = {{ kind = "meta", token = "another-token-of-length" }}
[sources.sns]
owner = "pim"
verify = {{ kind = "sns", user = "weir", password = "pass" }}
"#
    ));
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        stage.weir().ask("POST", path, headers, body.as_bytes())
    };
    let events = |source: &str, query: &str| format!("/v1/sources/{source}/events{query}");

    // What they send is no change, so it is kept: it was verified, and read.
    for vector in [
        adyen.clone(),
        vector("twilio", |it| {
            it["headers"]["content-type"] == "application/json"
        }),
    ] {
        let is_adyen = vector["kind"] == "adyen";
        let headers = vector["headers"].as_object().expect("headers");
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a text")))
            .chain(is_adyen.then_some(("content-type", "application/json")))
            .collect();
        let target = match is_adyen {
            true => events("payments", ""),
            false => vector["target"].as_str().expect("a path").to_owned(),
        };
        let body = vector["body"].as_str().expect("a body");
        let taken = post(&target, &headers, body);
        assert_eq!(taken.status, 202, "{}", taken.text());
        assert_eq!(taken.json()["events"]["quarantined"], 1);
        let changed = post(
            &target,
            &headers,
            &body.replace("1130", "9").replace("evt", "e"),
        );
        assert_eq!(changed.status, 401, "{}", changed.text());
    }

    let json = ("content-type", "application/json");
    let lamp = change("lamp", "content", 1.into()).to_string();
    let token = "?token=a-token-of-some-length";
    let taken = post(&events("graph", token), &[json], &lamp);
    assert_eq!(taken.status, 202, "{}", taken.text());
    for (source, query, status) in [
        ("graph", "", 401),
        ("graph", "?token=another", 401),
        ("graph", "?token=a-token-of-some-length&other=1", 400),
        ("pim", token, 400),
        ("pim", "?validationToken=a", 400),
    ] {
        let refused = post(&events(source, query), &[json], &lamp);
        assert_eq!(
            refused.status,
            status,
            "{source}{query}: {}",
            refused.text()
        );
    }
    let asked = format!("{token}&validationToken=Validation%3A+%3Cb%3E");
    let answered = post(&events("graph", &asked), &[], "");
    assert_eq!(
        (answered.status, &*answered.text()),
        (200, "Validation: <b>")
    );
    assert_eq!(
        answered.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answered.header("x-content-type-options"), Some("nosniff"));

    let subscribe = "?hub.mode=subscribe&hub.challenge=1158&hub.verify_token=";
    let get = |source: &str, query: &str| stage.weir().get(&events(source, query));
    let answered = get("meta", &format!("{subscribe}another-token-of-length"));
    assert_eq!((answered.status, &*answered.text()), (200, "1158"));
    for (source, status) in [("meta", 405), ("pim", 405), ("nobody", 404)] {
        let refused = get(source, &format!("{subscribe}wrong"));
        assert_eq!(refused.status, status, "{}", refused.text());
        let allow = (status == 405).then_some("POST,OPTIONS");
        assert_eq!(refused.header("allow"), allow);
    }

    // SNS sends its login when it is asked for it.
    let confirm = [("x-amz-sns-message-type", "SubscriptionConfirmation")];
    let asked = post(&events("sns", ""), &confirm, "{}");
    assert_eq!(
        asked.header("www-authenticate"),
        Some("Basic realm=\"weir\"")
    );
    let login = [confirm[0], ("authorization", "Basic d2VpcjpwYXNz")];
    let kept = post(
        &events("sns", ""),
        &login,
        r#"{"SubscribeURL":"https://x"}"#,
    );
    assert_eq!(kept.status, 202, "{}", kept.text());
    assert_eq!(stage.quarantine("sns")[0]["code"], "confirm-by-hand");
}
