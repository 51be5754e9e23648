//! Requests as their senders sign them: the vectors that vendors document, and those that
//! `tests/senders/make.mjs` makes with their libraries.

use serde_json::Value;

use super::*;
use crate::signature::{KeyForm, SigningKey, VerifyingKey, sign};

const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const TIME: u64 = 1_649_367_553;
const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
const SIGNATURE: &str = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

fn published() -> Secret {
    Secret::from_webhook_secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().copied().collect()
}

fn shared(secrets: Vec<Secret>) -> Vec<VerifyingKey> {
    secrets.into_iter().map(VerifyingKey::Shared).collect()
}

/// What a preset verifies with these keys, as a configuration writes them.
fn by(preset: &str, secrets: &[&str]) -> Options {
    let preset = presets::named(preset).expect("a preset");
    let keys = secrets
        .iter()
        .map(|secret| preset.key.verifying(secret).expect("a key"));
    let keys = keys.collect();
    preset.with(keys)
}

/// A request that was signed elsewhere.
#[derive(Clone)]
struct Vector {
    kind: String,
    secret: String,
    url: Option<String>,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    now: Timestamp,
}

impl Vector {
    fn with_secrets(&self, secrets: &[&str]) -> Options {
        let mut options = by(&self.kind, secrets);
        if let Options::Signed(scheme) = &mut options {
            scheme.url.clone_from(&self.url);
        }
        options
    }

    fn check(&self, options: &Options) -> Result<(), NotVerified> {
        let headers: Headers = self.headers.iter().map(|(n, v)| (n, v)).collect();
        verify(options, &headers.at(&self.target), &self.body, self.now)
    }

    /// Whether it is accepted with the right secret.
    fn passes(&self) -> bool {
        self.check(&self.with_secrets(&[&self.secret])).is_ok()
    }

    /// The same with another body.
    fn saying(&self, body: Vec<u8>) -> Vector {
        Vector {
            body,
            ..self.clone()
        }
    }
}

/// A key of the same form that signed nothing.
fn another(kind: &str) -> &'static str {
    match presets::named(kind).expect("a preset").key {
        KeyForm::Text => "another-secret",
        KeyForm::Hex => "00ff00ff00ff00ff00ff00ff00ff00ff",
        KeyForm::Base64 | KeyForm::Webhook => "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    }
}

fn made_by_vendors() -> Vec<Vector> {
    let vectors = include_str!("../../../../tests/senders/vectors.json");
    let vectors: Vec<Value> = serde_json::from_str(vectors).expect("JSON");
    let read = |vector: &Value| {
        let text = |name: &str| vector[name].as_str().expect("a text").to_owned();
        let headers = vector["headers"].as_object().expect("headers");
        let headers = headers.iter().map(|(name, value)| {
            let value = value.as_str().expect("a text");
            (name.clone(), value.to_owned())
        });
        Vector {
            kind: text("kind"),
            secret: text("secret"),
            url: vector["url"].as_str().map(str::to_owned),
            target: text("target"),
            headers: headers.collect(),
            body: text("body").into_bytes(),
            now: Timestamp(vector["time_ms"].as_u64().expect("a time")),
        }
    };
    vectors.iter().map(read).collect()
}

fn documented() -> Vec<Vector> {
    let vector =
        |kind: &str, secret: &str, headers: &[(&str, &str)], body: &str, now: u64| Vector {
            kind: kind.to_owned(),
            secret: secret.to_owned(),
            url: None,
            target: "/v1/sources/shop/events".to_owned(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.as_bytes().to_vec(),
            now: Timestamp(now * 1000),
        };
    vec![
        vector(
            "github",
            "It's a Secret to Everybody",
            &[(
                "x-hub-signature-256",
                "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            )],
            "Hello, World!",
            0,
        ),
        vector(
            "svix",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            &[
                ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("svix-timestamp", "1614265330"),
                (
                    "svix-signature",
                    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
                ),
            ],
            r#"{"test": 2432232314}"#,
            1_614_265_330,
        ),
        vector(
            "slack",
            "8f742231b10e8888abcd99yyyzzz85a5",
            &[
                ("x-slack-request-timestamp", "1531420618"),
                (
                    "x-slack-signature",
                    "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
                ),
            ],
            "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
            1_531_420_618,
        ),
        Vector {
            url: Some("https://mycompany.com/myapp.php".to_owned()),
            target: "/myapp.php?foo=1&bar=2".to_owned(),
            ..vector(
                "twilio",
                "12345",
                &[("x-twilio-signature", "RSOYDt4T1cUTdK1PDd93/VVr8B8=")],
                "To=%2B18005551212&From=%2B14158675309&Digits=1234&Caller=%2B14158675309&CallSid=CA1234567890ABCDE",
                0,
            )
        },
        vector(
            "adyen",
            "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
            &[],
            r#"{"live":"false","notificationItems":[{"NotificationRequestItem":{"additionalData":{"hmacSignature":"coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="},"amount":{"currency":"EUR","value":1130},"eventCode":"AUTHORISATION","merchantAccountCode":"TestMerchant","merchantReference":"TestPayment-1407325143704","originalReference":null,"pspReference":"7914073381342284","success":"true"}}]}"#,
            0,
        ),
    ]
}

#[test]
fn requests_that_others_signed_are_accepted_and_with_another_secret_they_are_not() {
    let vectors = [documented(), made_by_vendors()].concat();
    let kinds: std::collections::BTreeSet<&str> =
        vectors.iter().map(|vector| &*vector.kind).collect();
    // Meta signs as GitHub does, and its documents have no vector.
    let without = presets::NAMES
        .into_iter()
        .filter(|name| !kinds.contains(name));
    assert_eq!(without.collect::<Vec<_>>(), ["meta"]);
    for vector in &vectors {
        let (kind, right) = (&*vector.kind, &*vector.secret);
        let check = |secrets: &[&str]| vector.check(&vector.with_secrets(secrets));
        assert_eq!(check(&[right]), Ok(()), "{kind}");
        assert_eq!(check(&[another(kind), right]), Ok(()), "{kind}, rotated");
        assert_eq!(check(&[right, another(kind)]), Ok(()), "{kind}, rotated");
        assert_eq!(
            check(&[another(kind)]),
            Err(NotVerified::Mismatch(MISMATCH)),
            "{kind}"
        );
    }
}

#[test]
fn no_byte_of_a_signed_body_can_be_changed() {
    for vector in [documented(), made_by_vendors()].concat() {
        if vector.kind == "adyen" {
            continue;
        }
        for at in 0..vector.body.len() {
            let mut body = vector.body.clone();
            body[at] ^= 1;
            assert!(!vector.saying(body).passes(), "{}, byte {at}", vector.kind);
        }
        for body in [
            Vec::new(),
            [&vector.body[..], b" "].concat(),
            vector.body[1..].to_vec(),
        ] {
            assert!(!vector.saying(body).passes(), "{}", vector.kind);
        }
    }
}

#[test]
fn no_byte_of_a_signature_can_be_changed() {
    for vector in [documented(), made_by_vendors()].concat() {
        let is_signature = |name: &str| name.contains("signature") || name.contains("hmac");
        let only = |name: &str| is_signature(name) && !name.contains("headers");
        for header in 0..vector.headers.len() {
            let (name, value) = &vector.headers[header];
            // Akeneo's other header is right as well.
            if !only(name) || name.ends_with("algorithm") || vector.kind == "akeneo" {
                continue;
            }
            // The last character of base64 may have bits that mean nothing.
            for at in 0..value.trim_end_matches('=').len() - 1 {
                let mut bytes = value.clone().into_bytes();
                bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
                let mut changed = vector.clone();
                changed.headers[header].1 = String::from_utf8(bytes).expect("a text");
                assert!(!changed.passes(), "{}, {name}, {at}", vector.kind);
            }
            let mut missing = vector.clone();
            missing.headers.remove(header);
            assert!(!missing.passes(), "{} without {name}", vector.kind);
        }
    }
}

#[test]
fn a_recorded_request_is_refused_when_its_time_has_passed() {
    let mut dated = Vec::new();
    for vector in [documented(), made_by_vendors()].concat() {
        let Options::Signed(scheme) = by(&vector.kind, &[&vector.secret]) else {
            continue;
        };
        let Some(stamp) = &scheme.timestamp else {
            continue;
        };
        let tolerance = u64::try_from(stamp.tolerance.as_millis()).expect("a tolerance");
        let at = |now: u64| {
            let later = Vector {
                now: Timestamp(now),
                ..vector.clone()
            };
            later.check(&later.with_secrets(&[&later.secret]))
        };
        let now = vector.now.0;
        assert_eq!((at(now + tolerance), at(now - tolerance)), (Ok(()), Ok(())));
        for stale in [now + tolerance + 1, now - tolerance - 1, 0, u64::MAX] {
            let refused = at(stale);
            assert!(
                matches!(refused, Err(NotVerified::Stale { .. })),
                "{}: {refused:?}",
                vector.kind
            );
        }
        dated.push(vector.kind);
    }
    dated.sort();
    dated.dedup();
    assert_eq!(
        dated,
        [
            "akeneo-events",
            "bigcommerce",
            "contentful",
            "slack",
            "standard-webhooks",
            "stripe",
            "svix"
        ]
    );
}

// A timestamp that is not the one that was signed is no way around its age.
#[test]
fn a_timestamp_cannot_be_replaced() {
    for vector in made_by_vendors() {
        for header in 0..vector.headers.len() {
            let (name, value) = &vector.headers[header];
            let time = vector.now.0 / 1000;
            if !value.contains(&time.to_string()) {
                continue;
            }
            let mut later = vector.clone();
            later.headers[header].1 = value.replace(&time.to_string(), &(time + 3600).to_string());
            later.now = Timestamp(later.now.0 + 3_600_000);
            assert!(!later.passes(), "{}, {name}", vector.kind);
        }
    }
}

#[test]
fn what_adyen_signs_cannot_be_changed_and_what_is_written_twice_is_no_notification() {
    let vectors = [documented(), made_by_vendors()].concat();
    let vectors = vectors.iter().filter(|vector| vector.kind == "adyen");
    for vector in vectors {
        let text = String::from_utf8(vector.body.clone()).expect("a text");
        let with = |from: &str, to: &str| {
            assert!(text.contains(from), "{from} in {text}");
            vector.saying(text.replacen(from, to, 1).into_bytes())
        };
        for (from, to) in [
            ("7914073381342284", "7914073381342285"),
            ("TestMerchant", "TestMerchand"),
            ("1407325143704", "1407325143705"),
            ("1130", "113"),
            ("1130", "1130.0"),
            ("EUR", "USD"),
            ("AUTHORISATION", "CANCELLATION"),
            ("\"true\"", "\"false\""),
            ("\"success\":\"true\"", "\"succes\":\"true\""),
            // The same again, with another meaning for whoever takes the last one.
            ("\"eventCode\":", "\"success\":\"true\",\"eventCode\":"),
            (
                "\"notificationItems\":",
                "\"notificationItems\":[],\"notificationItems\":",
            ),
            ("\"value\":1130", "\"value\":1130,\"valu\\u0065\":1"),
            ("[{\"Not", "[{\"NotificationRequestItem\":{}},{\"Not"),
        ] {
            assert!(!with(from, to).passes(), "{from} became {to}");
        }
        let still = with("\"success\":\"true\"", "\"success\":true");
        assert!(still.passes(), "a truth is signed as its word");
        for body in [
            "{}",
            "[]",
            r#"{"notificationItems":[]}"#,
            "not JSON",
            "\u{feff}",
        ] {
            let refused = vector.saying(body.as_bytes().to_vec());
            let refused = refused.check(&refused.with_secrets(&[&vector.secret]));
            assert!(matches!(refused, Err(NotVerified::InBody(_))), "{body}");
        }
    }
}

#[test]
fn a_header_that_contentful_signs_cannot_be_changed() {
    let vectors = made_by_vendors().into_iter();
    for vector in vectors.filter(|vector| vector.kind == "contentful") {
        let with = |change: fn(&mut Vec<(String, String)>)| {
            let mut changed = vector.clone();
            change(&mut changed.headers);
            changed.passes()
        };
        assert!(!with(|headers| {
            let topic = headers
                .iter_mut()
                .find(|(name, _)| name == "x-contentful-topic");
            topic.expect("the topic").1 += "ed";
        }));
        assert!(!with(
            |headers| headers.retain(|(name, _)| name != "x-contentful-topic")
        ));
        assert!(with(
            |headers| headers.push(("x-forwarded-for".into(), "192.0.2.1".into()))
        ));
        let elsewhere = Vector {
            target: vector.target.replace("shop", "shop2"),
            ..vector.clone()
        };
        assert!(!elsewhere.passes());
        let behind_a_proxy = Vector {
            target: format!("/weir{}", vector.target),
            url: Some("https://weir.example/v1/sources/shop/events".into()),
            ..vector.clone()
        };
        assert!(
            behind_a_proxy.passes(),
            "the path of the public URL is signed"
        );
    }
}

#[test]
fn twilio_signs_the_public_url_with_its_query() {
    for vector in made_by_vendors() {
        if vector.kind != "twilio" {
            continue;
        }
        for (url, target) in [
            (
                Some("https://weir.example:443/v1/sources/shop/events"),
                None,
            ),
            (Some("http://weir.example/v1/sources/shop/events"), None),
            (None, Some("/v1/sources/shop/events?lane=urgent")),
            (None, Some("/v1/sources/shop/events")),
        ] {
            let mut changed = vector.clone();
            changed.url = url.map(str::to_owned).or(changed.url);
            changed.target = target.map_or(changed.target, str::to_owned);
            assert!(!changed.passes(), "{url:?} {target:?}");
        }
    }
    let many = documented().into_iter().find(|it| it.kind == "twilio");
    let many = many.expect("a vector").saying("a&".repeat(1001).into());
    let refused = many.check(&many.with_secrets(&[&many.secret]));
    assert!(matches!(refused, Err(NotVerified::InBody(_))));
}

/// Verifies a signed request of that age, with that list of signatures, against those secrets.
fn check_webhook(
    secrets: Vec<Secret>,
    signatures: &str,
    clock: u64,
    body: &[u8],
) -> Result<(), NotVerified> {
    let headers = headers(&[
        ("webhook-id", ID),
        ("webhook-timestamp", &TIME.to_string()),
        ("webhook-signature", signatures),
    ]);
    let standard = presets::named("standard-webhooks").expect("a preset");
    let options = standard.with(shared(secrets));
    verify(&options, &headers, body, Timestamp(clock * 1000))
}

#[test]
fn the_published_vector_is_made_and_taken() {
    assert_eq!(sign(&published(), ID, TIME, BODY), SIGNATURE);
    assert_eq!(
        check_webhook(vec![published()], SIGNATURE, TIME, BODY),
        Ok(())
    );
}

#[test]
fn a_secret_is_rotated_from_either_side() {
    let other = Secret(vec![7; 32]);
    let both = format!(
        "v1a,AAAA {} {SIGNATURE}",
        sign(&other, "another", TIME, BODY)
    );
    assert_eq!(
        check_webhook(vec![other.clone(), published()], SIGNATURE, TIME, BODY),
        Ok(()),
        "two secrets here"
    );
    assert_eq!(
        check_webhook(vec![published()], &both, TIME, BODY),
        Ok(()),
        "several signatures sent"
    );
    assert!(matches!(
        check_webhook(vec![other], SIGNATURE, TIME, BODY),
        Err(NotVerified::Mismatch(_))
    ));
}

// A sender keeps its private key for itself, and changes from a shared secret to it.
#[test]
fn a_sender_is_known_by_its_public_key() {
    let private = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
    let private = SigningKey::parse(private).expect("a key");
    let another = SigningKey::Private(Secret(vec![7; 32]));
    let public = VerifyingKey::parse("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=");
    let keys = vec![public.expect("a key"), VerifyingKey::Shared(published())];
    let signed = |key: &SigningKey| key.sign(ID, TIME, BODY);
    let check = |signatures: &str, body: &[u8]| {
        let time = TIME.to_string();
        let headers = headers(&[
            ("webhook-id", ID),
            ("webhook-timestamp", &time),
            ("webhook-signature", signatures),
        ]);
        let standard = presets::named("standard-webhooks").expect("a preset");
        let options = standard.with(keys.clone());
        verify(&options, &headers, body, Timestamp(TIME * 1000)).is_ok()
    };
    assert!(check(&signed(&private), BODY));
    let rotating = format!("v1,AAAA {} {}", signed(&another), signed(&private));
    assert!(check(&rotating, BODY), "one of several");
    assert!(check(SIGNATURE, BODY), "the secret is still accepted");
    assert!(!check(&signed(&another), BODY), "an unknown key");
    assert!(!check(&signed(&private), b"{}"), "another body");
    let guesses = format!("{}{}", "v1a,AAAA ".repeat(4), signed(&private));
    assert!(!check(&guesses, BODY), "a header full of guesses");
}

#[test]
fn five_minutes_are_tolerated_either_way_and_no_more() {
    for clock in [TIME - 300, TIME + 300] {
        assert_eq!(
            check_webhook(vec![published()], SIGNATURE, clock, BODY),
            Ok(())
        );
    }
    for (clock, direction) in [(TIME - 301, "in the future"), (TIME + 301, "in the past")] {
        let stale = check_webhook(vec![published()], SIGNATURE, clock, BODY);
        let expected = format!(
            "the timestamp in `webhook-timestamp` is 301 s {direction}; at most 300 s are tolerated, check the clocks and sign each attempt again"
        );
        assert_eq!(stale.map_err(|why| why.to_string()), Err(expected));
    }
}

#[test]
fn an_empty_secret_lets_nobody_in() {
    let empty = Secret(Vec::new());
    let forged = sign(&empty, ID, TIME, BODY);
    assert!(check_webhook(vec![empty.clone()], &forged, TIME, BODY).is_err());
    for open in [
        Options::Bearer {
            tokens: vec![empty.clone()],
        },
        Options::Token {
            place: Place::Header("authorization".into()),
            tokens: vec![empty.clone()],
        },
        Options::Token {
            place: Place::Query("token".into()),
            tokens: vec![empty.clone()],
        },
        Options::Basic {
            logins: vec![empty],
        },
    ] {
        for header in ["Bearer ", "Basic ", ""] {
            let headers = headers(&[("authorization", header)]).at("/events?token=");
            assert!(verify(&open, &headers, b"", Timestamp(0)).is_err());
        }
    }
}

#[test]
fn a_proof_that_is_missing_or_doubled_is_asked_for_by_name() {
    let asked = |options: &Options, headers: &Headers| {
        let refused = verify(options, headers, BODY, Timestamp(TIME * 1000));
        refused.expect_err("no proof").to_string()
    };
    let none = Headers::default();
    for (preset, expected) in [
        ("standard-webhooks", "header `webhook-id`"),
        ("stripe", "header `stripe-signature`"),
        (
            "shopify",
            "header `x-shopify-hmac-sha256` or `shopify-hmac-sha256`",
        ),
    ] {
        let secret = another(preset);
        assert_eq!(
            asked(&by(preset, &[secret]), &none),
            format!("the request needs exactly one {expected}")
        );
    }
    let mut doubled = headers(&[("authorization", "Bearer a")]);
    doubled.push("authorization", b"Bearer b");
    let tokens = || vec![Secret(b"a".to_vec())];
    let bearer = Options::Bearer { tokens: tokens() };
    assert_eq!(
        verify(&bearer, &doubled, b"", Timestamp(0)),
        Err(NotVerified::Missing("authorization".into()))
    );
    let in_query = Options::Token {
        place: Place::Query("token".into()),
        tokens: tokens(),
    };
    for target in ["/events", "/events?token=a&token=a", "/events?tokens=a"] {
        let none = Headers::default().at(target);
        assert_eq!(
            asked(&in_query, &none),
            "the URL needs exactly one parameter `token`"
        );
    }
    for (value, expected) in [
        (
            "t=1649367553",
            "`stripe-signature` cannot be read: a signature must follow `v1=`",
        ),
        (
            "t=1649367553,v1=xy",
            "`stripe-signature` cannot be read: the signature must be hex",
        ),
        (
            "v1=ab",
            "`stripe-signature` cannot be read: it must have one timestamp",
        ),
        (
            "t=1649367553,t=1649367553,v1=ab",
            "`stripe-signature` cannot be read: it must have one timestamp",
        ),
        (
            "t=now,v1=ab",
            "`stripe-signature` cannot be read: seconds since 1970 as a whole number",
        ),
    ] {
        let headers = headers(&[("stripe-signature", value)]);
        assert_eq!(
            asked(&by("stripe", &["one"]), &headers),
            format!("the header {expected}")
        );
    }
}

#[test]
fn a_token_or_a_login_is_taken_where_it_belongs() {
    let secrets = || vec![Secret(b"one".to_vec()), Secret(b"two".to_vec())];
    let bearer = Options::Bearer { tokens: secrets() };
    let header = Options::Token {
        place: Place::Header("x-token".into()),
        tokens: secrets(),
    };
    let query = Options::Token {
        place: Place::Query("code".into()),
        tokens: secrets(),
    };
    let basic = Options::Basic {
        logins: vec![
            Secret(b"weir:pass:word".to_vec()),
            Secret(b"weir:new".to_vec()),
        ],
    };
    let check = |options: &Options, name: &str, value: &str, target: &str| {
        let headers = headers(&[(name, value)]).at(target);
        let head = verify_head(options, &headers);
        assert_eq!(verify(options, &headers, b"", Timestamp(0)), head);
        head.is_ok()
    };
    for value in ["Bearer two", "bearer one"] {
        assert!(check(&bearer, "authorization", value, ""));
    }
    for value in ["Bearer three", "Bearer tw", "Basic one", "one", "Bearer"] {
        assert!(!check(&bearer, "authorization", value, ""), "{value}");
    }
    assert!(check(&header, "x-token", "two", ""));
    assert!(!check(&header, "x-token", "tw", "") && !check(&header, "x-other", "two", ""));
    assert!(check(&query, "x", "", "/events?lane=bulk&code=t%77o"));
    assert!(!check(&query, "code", "two", "/events?code=twoo"));
    assert!(!check(&query, "code", "two", "/events?Code=two"));
    // weir:pass:word, weir:new, weir:old
    for (value, expected) in [
        ("Basic d2VpcjpwYXNzOndvcmQ=", true),
        ("basic d2VpcjpuZXc=", true),
        ("Basic d2VpcjpvbGQ=", false),
        ("Basic weir:new", false),
        ("Bearer d2VpcjpuZXc=", false),
    ] {
        assert_eq!(
            check(&basic, "authorization", value, ""),
            expected,
            "{value}"
        );
    }
}

// RFC 4231, test case 2, written as each vendor writes it.
#[test]
fn a_signature_is_read_as_its_sender_writes_it() {
    let body = b"what do ya want for nothing?";
    let hex = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let base64 = "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=";
    let check = |preset: &str, name: &str, value: &str| {
        let headers = headers(&[(name, value)]);
        verify(&by(preset, &["Jefe"]), &headers, body, Timestamp(0)).is_ok()
    };
    let github = "x-hub-signature-256";
    assert!(check("github", github, &format!("sha256={hex}")));
    let upper = hex.to_uppercase();
    assert!(check("github", github, &format!("sha256={upper}")));
    assert!(check("meta", github, &format!("sha256={hex}")));
    for name in ["x-shopify-hmac-sha256", "shopify-hmac-sha256"] {
        assert!(check("shopify", name, base64));
        let unpadded = base64.trim_end_matches('=');
        assert!(check("shopify", name, unpadded));
        assert!(
            !check("shopify", name, hex),
            "hex is not base64 of 32 bytes"
        );
    }
    assert!(!check("github", github, hex), "the prefix belongs to it");
}

#[test]
fn a_template_says_what_is_signed() {
    let mut preset = presets::hmac("hmac", &["x-signature"]);
    let text = "{method} {path}#{url}#{header.X-Id}#{timestamp}#{body}}{body}";
    let pieces = template(text).expect("a template");
    assert_eq!(in_template(&pieces), text.replace("X-Id", "x-id"));
    preset.scheme.content = Content::Template(pieces);
    preset.scheme.url = Some("https://weir.example/in".into());
    preset.scheme.timestamp = Some(presets::stamp("x-time"));
    let secret = Secret(b"one".to_vec());
    let signed = b"POST /in?a=1#https://weir.example/in?a=1#7#0010#{}}{}";
    let signature = crate::signature::hmac(preset.scheme.algorithm, &secret, &[signed]);
    let headers = headers(&[
        ("x-id", "7"),
        ("x-time", "0010"),
        ("x-signature", &hex::encode(signature)),
    ]);
    let options = preset.with(shared(vec![secret]));
    let asked = headers.at("/weir/in?a=1");
    assert_eq!(verify(&options, &asked, b"{}", Timestamp(10_000)), Ok(()));
    for (wrong, why) in [
        ("{timestamp}", "it does not contain {body}"),
        ("{body", "a { is not closed"),
        ("{body}{id}", "there is no {id}"),
        ("{body}{header.}", "there is no {header.}"),
    ] {
        let refused = template(wrong).expect_err(wrong);
        assert!(refused.starts_with(why), "{refused}");
    }
}

#[test]
fn what_a_scheme_signs_it_accepts() {
    let now = Timestamp(1_795_000_000_123);
    let mut signing = Vec::new();
    for name in presets::NAMES {
        let preset = presets::named(name).expect("a preset");
        let key = preset.key.signing(another(name)).expect("a key");
        let Some(sent) = preset.scheme.sign(&key, "msg_1", now, BODY) else {
            continue;
        };
        let headers: Headers = sent.iter().map(|(n, v)| (n, v)).collect();
        let options = by(name, &[another(name)]);
        assert_eq!(verify(&options, &headers, BODY, now), Ok(()), "{name}");
        signing.push(name);
    }
    let not = |name: &&str| !["adyen", "contentful", "twilio"].contains(name);
    let expected: Vec<&str> = presets::NAMES.into_iter().filter(not).collect();
    assert_eq!(signing, expected);
}

#[test]
fn a_webhook_secret_says_what_is_wrong_with_it() {
    use crate::signature::SecretError;
    let length = |text: &str| Secret::from_webhook_secret(text).map(|secret| secret.0.len());
    assert_eq!(length("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), Ok(24));
    assert_eq!(length("C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), Ok(24));
    assert_eq!(length("hunter-2!"), Err(SecretError::NotBase64));
    assert_eq!(length("whsec_AAAA"), Err(SecretError::Length(3)));
    assert_eq!(format!("{:?}", published()), "[secret]");
}
