//! Senders that ask whether somebody is there.

use super::*;
use crate::ingest::handshake::{Answer, Asked, Handshake};
use crate::signature::{Secret, SigningKey};

const PATH: &str = "/v1/sources/erp-conditions/events";

fn asking(verify: verify::Options, handshake: Option<Handshake>) -> Source {
    let options = Options {
        verify,
        handshake,
        ..options()
    };
    source_of(options, memory(), None)
}

fn token() -> verify::Options {
    verify::Options::Token {
        place: verify::Place::Query("token".into()),
        tokens: vec![Secret(b"one".to_vec())],
    }
}

fn ask(
    source: &Source,
    query: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Option<Answer>, Rejection> {
    let headers: Headers = headers.iter().copied().collect();
    let asked = Asked {
        headers: &headers.at(&format!("{PATH}{query}")),
        body: body.map(str::as_bytes),
    };
    source.challenged(asked, NOW)
}

fn plain(text: &str) -> Result<Option<Answer>, Rejection> {
    Ok(Some(Answer {
        content_type: "text/plain; charset=utf-8",
        body: text.to_owned(),
    }))
}

fn is_refused(answer: &Result<Option<Answer>, Rejection>) -> bool {
    matches!(answer, Err(Rejection::NotVerified(_)))
}

#[test]
fn slack_is_answered_if_it_has_signed() {
    let preset = preset_of("slack");
    let (scheme, handshake) = (preset.scheme.clone(), preset.handshake.clone());
    let key = preset.key.verifying("hush").expect("a key");
    let source = asking(preset.with(vec![key]), handshake);
    let signed_by = |secret: &str, body: &str| {
        let key = SigningKey::Shared(Secret(secret.as_bytes().to_vec()));
        let headers = scheme.sign(&key, "", NOW, body.as_bytes()).expect("signed");
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (&**n, &**v)).collect();
        ask(&source, "", &headers, Some(body))
    };
    let challenge = r#"{"token":"t","challenge":"3eZbrw1a","type":"url_verification"}"#;
    assert_eq!(signed_by("hush", challenge), plain("3eZbrw1a"));
    assert!(is_refused(&signed_by("other", challenge)));
    assert!(is_refused(&ask(&source, "", &[], Some(challenge))));
    for event in [
        r#"{"type":"event_callback","challenge":"x"}"#,
        r#"{"type":"url_verification"}"#,
        r#"{"type":"url_verification","challenge":"a\nb"}"#,
        r#"{"type":"url_verification","challenge":7}"#,
        "not JSON",
        "",
    ] {
        assert_eq!(signed_by("hush", event), Ok(None), "{event}");
    }
    let long = format!(
        r#"{{"type":"url_verification","challenge":"{}"}}"#,
        "x".repeat(2049)
    );
    assert_eq!(signed_by("hush", &long), Ok(None), "too long to repeat");
    assert_eq!(
        ask(&source, "?challenge=x&hub.challenge=x", &[], None),
        Ok(None)
    );
}

#[test]
fn event_grid_gets_its_validation_code_back() {
    let source = asking(token(), Some(Handshake::EventGrid));
    let validation = ("aeg-event-type", "SubscriptionValidation");
    let body = r#"[{"id":"2d1781af","topic":"/subscriptions/x","subject":"","data":{"validationCode":"512d38b6","validationUrl":"https://rp.example/?id=5"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}]"#;
    let answer = Answer {
        content_type: "application/json",
        body: r#"{"validationResponse":"512d38b6"}"#.into(),
    };
    assert_eq!(
        ask(&source, "?token=one", &[validation], Some(body)),
        Ok(Some(answer))
    );
    assert!(is_refused(&ask(&source, "", &[validation], Some(body))));
    let notification = ("aeg-event-type", "Notification");
    for (header, body) in [(notification, body), (validation, "[]"), (validation, "{")] {
        assert_eq!(ask(&source, "?token=one", &[header], Some(body)), Ok(None));
    }
}

#[test]
fn a_challenge_in_the_address_is_repeated_as_text() {
    let graph = asking(token(), Some(Handshake::Graph));
    assert_eq!(
        ask(
            &graph,
            "?token=one&validationToken=Validation%3a+%3Cb%3E",
            &[],
            Some("")
        ),
        plain("Validation: <b>")
    );
    let without = ask(&graph, "?validationToken=a", &[], Some(""));
    assert!(is_refused(&without));
    let get = ask(&graph, "?token=one&validationToken=a", &[], None);
    assert_eq!(get, Ok(None), "Graph asks by POST");
    assert_eq!(ask(&graph, "?token=one", &[], Some("{}")), Ok(None));

    let adobe = asking(token(), Some(Handshake::Adobe));
    assert_eq!(
        ask(&adobe, "?token=one&challenge=8ec8", &[], None),
        plain("8ec8")
    );
    assert!(is_refused(&ask(&adobe, "?challenge=8ec8", &[], None)));
    assert_eq!(
        ask(&adobe, "?token=one&challenge=8ec8", &[], Some("")),
        Ok(None)
    );

    let key = preset_of("meta").key.verifying("hush").expect("a key");
    let tokens = vec![Secret(b"one".to_vec()), Secret(b"two".to_vec())];
    let meta = asking(
        preset_of("meta").with(vec![key]),
        Some(Handshake::Meta { tokens }),
    );
    let subscribe = |query: &str| {
        let query = format!("?hub.mode=subscribe&hub.challenge=1158{query}");
        ask(&meta, &query, &[], None)
    };
    assert_eq!(subscribe("&hub.verify_token=two"), plain("1158"));
    for wrong in [
        "&hub.verify_token=three",
        "&hub.verify_token=",
        "",
        "&hub.verify_token=one&hub.verify_token=two",
        "&hub.verify_token=one&hub.challenge=2",
    ] {
        assert_eq!(subscribe(wrong), Ok(None), "{wrong}");
    }
}

#[test]
fn without_a_handshake_nothing_is_repeated() {
    let source = asking(verify::Options::None, None);
    for (query, body) in [
        ("?validationToken=a", Some("")),
        ("?challenge=a", None),
        (
            "?hub.mode=subscribe&hub.verify_token=&hub.challenge=a",
            None,
        ),
        ("", Some(r#"{"type":"url_verification","challenge":"a"}"#)),
    ] {
        let headers = [("aeg-event-type", "SubscriptionValidation")];
        assert_eq!(ask(&source, query, &headers, body), Ok(None));
    }
}

// Nothing is fetched: the URL is one that the sender chose.
#[tokio::test]
async fn a_url_that_somebody_must_open_waits_in_quarantine() {
    let store = memory();
    let options = Options {
        handshake: Some(Handshake::Sns),
        ..options()
    };
    let source = source_of(options, store.clone(), None);
    let body =
        r#"{"Type":"SubscriptionConfirmation","SubscribeURL":"https://sns.example/?Token=2"}"#;
    let send = async |kind: &str, body: &str| {
        let headers = [
            ("content-type", "text/plain; charset=UTF-8"),
            ("x-amz-sns-message-type", kind),
        ];
        let incoming = Incoming {
            headers: headers.into_iter().collect(),
            ..incoming(JSON, body.to_owned())
        };
        source.accept(incoming).await.expect("it is taken")
    };
    for kind in ["SubscriptionConfirmation", "UnsubscribeConfirmation"] {
        let taken = send(kind, body).await;
        assert_eq!(taken.events.quarantined, 1, "{kind}");
        assert_eq!(taken.problems[0].code, "confirm-by-hand");
    }
    let kept = store.shelf("erp-conditions").list(None, 9).expect("a list");
    assert_eq!(kept[0].event.event.data.as_bytes(), body.as_bytes());
    let taken = send("Notification", &change("1", "stock", "1")).await;
    assert_eq!(taken.events.accepted, 1, "a message is an event");
    assert_eq!(source.activity().counts().events.quarantined, 2);
}
