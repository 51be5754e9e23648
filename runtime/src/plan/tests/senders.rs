//! How a configuration says who sends.

use super::*;
use crate::ingest::handshake::Handshake;
use crate::ingest::verify::{Content, Piece, Place, Unit};

/// A source with these settings, and what it understands.
fn source(settings: &str) -> ingest::Options {
    let text = format!("config_version = 1\n[sources.shop]\n{settings}\n");
    let plan = plan_of(&[("weir.toml", &text)], &["weir.toml"]);
    plan.sources["shop"].options.clone()
}

#[test]
fn a_sender_is_named_by_its_kind() {
    for name in presets::NAMES {
        let secret = match name {
            "adyen" => "44782DEF",
            "standard-webhooks" | "svix" => WHSEC,
            _ => "one",
        };
        let url = match name {
            "twilio" => ", url = \"https://weir.example/v1/sources/shop/events\"",
            _ => "",
        };
        let kind = format!("kind = {name:?}, secrets = [{secret:?}, {secret:?}]{url}");
        let options = source(&format!("verify = {{ {kind} }}"));
        let preset = presets::named(name).expect("a preset");
        assert_eq!(options.verify.kind(), name);
        assert_eq!(
            (&options.naming, &options.handshake),
            (&preset.naming, &preset.handshake)
        );
        let Verify::Signed(scheme) = &options.verify else {
            panic!("{name} is a signature");
        };
        assert_eq!(scheme.keys.len(), 2);
        // The older way to name two of them is another way to name all.
        let kind = kind.replacen("kind", "kind = \"hmac\", preset", 1);
        assert_eq!(source(&format!("verify = {{ {kind} }}")), options);
    }
}

#[test]
fn a_signature_that_no_preset_knows_is_described() {
    let options = source(
        r#"verify = { kind = "hmac", algorithm = "sha512", key = "base64", headers = ["X-One", "X-Two"], prefix = "s=", separator = ",", encoding = "base64", template = "{header.X-Id}:{timestamp}:{url}:{body}", timestamp = { header = "X-One", prefix = "t=", unit = "ms", tolerance = "1m" }, url = "https://weir.example/in", secret = "Cv8=" }
id = { header = "X-Id" }"#,
    );
    let Verify::Signed(scheme) = &options.verify else {
        panic!("it is a signature");
    };
    assert_eq!(scheme.kind, "hmac");
    assert_eq!(scheme.algorithm, crate::signature::Algorithm::Sha512);
    assert_eq!(scheme.headers, ["x-one", "x-two"]);
    assert_eq!(
        (scheme.prefix.as_str(), scheme.separator),
        ("s=", Some(','))
    );
    assert_eq!(scheme.encoding, Encoding::Base64);
    let Content::Template(pieces) = &scheme.content else {
        panic!("it is a template");
    };
    assert_eq!(pieces[0], Piece::Header("x-id".into()));
    let stamp = scheme.timestamp.as_ref().expect("a timestamp");
    assert_eq!(
        (stamp.header.as_str(), stamp.prefix.as_str()),
        ("x-one", "t=")
    );
    assert_eq!(
        (stamp.unit, stamp.tolerance),
        (Unit::Milliseconds, Duration::from_secs(60))
    );
    assert_eq!(scheme.keys, keys(&[&[10, 255]]));
    // What is known of a sender can be set differently.
    let options = source(
        r#"verify = { kind = "slack", timestamp = { tolerance = "1h" }, secret = "one" }
handshake = "none""#,
    );
    let Verify::Signed(scheme) = &options.verify else {
        panic!("it is a signature");
    };
    let stamp = scheme.timestamp.as_ref().expect("a timestamp");
    assert_eq!(stamp.header, "x-slack-request-timestamp");
    assert_eq!(
        (stamp.tolerance, options.handshake),
        (Duration::from_secs(3600), None)
    );
}

#[test]
fn a_token_a_login_and_a_handshake_are_understood() {
    let secret = |text: &str| Secret(text.as_bytes().to_vec());
    let in_query = |name: &str, text: &str| Verify::Token {
        place: Place::Query(name.into()),
        tokens: vec![secret(text)],
    };
    let by = |settings: &str| {
        let options = source(settings);
        let pointer = match options.naming.id {
            Some(IdFrom::Pointer(pointer)) => pointer,
            _ => String::new(),
        };
        (options.verify, options.handshake, pointer)
    };
    assert_eq!(
        by(r#"verify = { kind = "token", header = "X-Token", tokens = ["a", "b"] }"#),
        (
            Verify::Token {
                place: Place::Header("x-token".into()),
                tokens: vec![secret("a"), secret("b")]
            },
            None,
            String::new()
        )
    );
    assert_eq!(
        by(r#"verify = { kind = "event-grid", query = "code", token = "a" }"#),
        (
            in_query("code", "a"),
            Some(Handshake::EventGrid),
            "/id".into()
        )
    );
    assert_eq!(
        by(r#"verify = { kind = "pubsub", token = "a" }"#),
        (in_query("token", "a"), None, "/message/messageId".into())
    );
    assert_eq!(
        by(r#"verify = { kind = "sns", user = "weir", passwords = ["a", "b"] }"#),
        (
            Verify::Basic {
                logins: vec![secret("weir:a"), secret("weir:b")]
            },
            Some(Handshake::Sns),
            "/MessageId".into()
        )
    );
    let handshake = |settings: &str| by(settings).1;
    assert_eq!(handshake(r#"handshake = "graph""#), Some(Handshake::Graph));
    assert_eq!(
        handshake(r#"handshake = { kind = "meta", token = "a" }"#),
        Some(Handshake::Meta {
            tokens: vec![secret("a")]
        })
    );
}

#[test]
fn a_sender_that_is_described_wrong_is_refused_with_what_would_be_right() {
    check(
        r#"config_version = 1
[sources.a]
verify = "shopify"
[sources.b]
verify = { kind = "shopfy", secret = "one" }
[sources.c]
verify = { kind = "adyen", secret = "not hex", header = "X-Signature" }
[sources.d]
verify = { kind = "twilio", secret = "one" }
[sources.e]
verify = { kind = "hmac", header = "X-Signature", template = "{timestamp}", secret = "one" }
[sources.f]
verify = { kind = "hmac", header = "X-Signature", template = "{timestamp}.{body}", secret = "one" }
[sources.g]
verify = { kind = "hmac", header = "X-Signature", timestamp = { header = "X-Time" }, secret = "one" }
[sources.h]
verify = { kind = "hmac", header = "X-Signature", headers = [], separator = "ab", key = "words", secret = "one" }
[sources.i]
verify = { kind = "token", token = "one" }
[sources.j]
verify = { kind = "basic", user = "a:b", password = "one" }
[sources.k]
verify = { kind = "sns" }
[sources.l]
verify = { kind = "twilio", url = "weir.example/events?a=1", secret = "one" }
[sources.m]
handshake = "slak"
[sources.n]
handshake = { kind = "meta" }
[sources.o]
verify = { kind = "hmac", header = "X-Signature", template = "{body}{id}", timestamp = { tolerance = "2d" }, secret = "one" }
"#,
        expect![[r#"
            weir.toml:3:10: sources.a.verify: how senders are verified is a table; write verify = { kind = "github", secret = { env = "NAME" } }, with the sender or the way to verify it as kind
            weir.toml:5:19: sources.b.verify.kind: there is no verification kind "shopfy"; did you mean "shopify"?
            weir.toml:7:37: sources.c.verify.secret: this key is not hex: two digits from 0 to f for each byte; copy it as the sender shows it, or say how it is written: key = "text", "hex" or "base64"
            weir.toml:7:48: sources.c.verify.header: there is no such key; available: kind, algorithm, key, secret and secrets
            weir.toml:9:1: sources.d.verify: url is missing; write the URL that the sender was given, without a query: url = "https://weir.example/v1/sources/NAME/events"
            weir.toml:11:62: sources.e.verify.template: this cannot be what is signed: it does not contain {body}, so anybody could change the body; write what is signed, such as "{timestamp}.{body}"; there are {body}, {timestamp}, {header.NAME}, {method}, {path} and {url}
            weir.toml:13:1: sources.f.verify: the template has a timestamp, and nothing says where requests have it; write timestamp = { header = "X-Timestamp" }
            weir.toml:15:1: sources.g.verify: the timestamp is not signed, so a recorded request could get a new one; write into template how it is signed, such as template = "{timestamp}.{body}"
            weir.toml:17:61: sources.h.verify.headers: header is set as well; write all of them into headers
            weir.toml:17:77: sources.h.verify.separator: "ab" is not a separator; write the character between two signatures, such as ","
            weir.toml:17:89: sources.h.verify.key: "words" is not allowed here; write "text" or "hex" or "base64" or "standard-webhooks"
            weir.toml:19:1: sources.i.verify: it says neither header nor query; write header = "X-Token", or query = "token" if the sender can only be given a URL
            weir.toml:21:35: sources.j.verify.user: "a:b" is not the name of a user; write user = "NAME" and password = { env = "NAME" }
            weir.toml:23:1: sources.k.verify: user is missing; write user = "NAME" and password = { env = "NAME" }
            weir.toml:23:1: sources.k.verify: passwords is missing; write passwords = [{ env = "NAME" }]
            weir.toml:25:35: sources.l.verify.url: "weir.example/events?a=1" is not the URL of this source; write the URL that the sender was given, without a query: url = "https://weir.example/v1/sources/NAME/events"
            weir.toml:27:13: sources.m.handshake: "slak" is not allowed here; did you mean "slack"?
            weir.toml:29:1: sources.n.handshake: tokens is missing; write tokens = [{ env = "NAME" }]
            weir.toml:31:62: sources.o.verify.template: this cannot be what is signed: there is no {id}; write what is signed, such as "{timestamp}.{body}"; there are {body}, {timestamp}, {header.NAME}, {method}, {path} and {url}
            weir.toml:31:76: sources.o.verify.timestamp: header is missing; write the header with the time of signing: header = "X-Timestamp"
            weir.toml:31:102: sources.o.verify.timestamp.tolerance: 2d is out of bounds; write a value from 1s to 1d
        "#]],
    );
}

// Every signature that has no time in it can be recorded, unless an id is signed or in the body.
#[test]
fn only_a_signature_without_a_time_and_an_id_is_warned_of() {
    let warned = |settings: &str| {
        let text = format!(
            "config_version = 1\n[entities.product]\nfacets.content = {{ owner = \"shop\" }}\n[sources.shop]\n{settings}\n"
        );
        let folder = Folder::of(&[("weir.toml", &text)]);
        let (_, warnings) = folder.read(&["weir.toml"], true).expect("it is right");
        !warnings.is_empty()
    };
    for (settings, expected) in [
        (r#"verify = { kind = "github", secret = "a" }"#, true),
        (r#"verify = { kind = "adyen", secret = "aa" }"#, true),
        (
            r#"verify = { kind = "twilio", secret = "a", url = "https://weir.example/" }"#,
            true,
        ),
        (r#"verify = { kind = "stripe", secret = "a" }"#, false),
        (r#"verify = { kind = "contentful", secret = "a" }"#, false),
        (r#"verify = { kind = "akeneo", secret = "a" }"#, false),
        (r#"verify = { kind = "bearer", token = "a" }"#, false),
        (
            "id = { header = \"X-Id\" }\nverify = { kind = \"hmac\", header = \"X-Sig\", template = \"{header.X-Id}.{body}\", secret = \"a\" }",
            false,
        ),
        (
            "id = { header = \"X-Id\" }\nverify = { kind = \"hmac\", header = \"X-Sig\", secret = \"a\" }",
            true,
        ),
    ] {
        assert_eq!(warned(settings), expected, "{settings}");
    }
}

/// Each snippet of the guide is a configuration, and each sender that has a name is in the guide.
#[test]
fn the_guide_to_senders_has_each_of_them_and_its_snippets_are_right() {
    let guide = include_str!("../../../docs/senders.md");
    let snippets: Vec<&str> = guide
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    let any = |name: &str| match name {
        "ADYEN_HMAC_KEY" => Some("44782DEF".to_owned()),
        name if name.starts_with("SVIX") || name.starts_with("WEBHOOKS") => Some(WHSEC.to_owned()),
        _ => Some("a-secret-of-the-sender".to_owned()),
    };
    for snippet in &snippets {
        let text = format!("config_version = 1\n{snippet}");
        let folder = Folder::of(&[("weir.toml", &text)]);
        let files = [folder.path("weir.toml")];
        if let Err(complaints) = read(&files, &any, ReadOptions { secrets: true }) {
            panic!("{snippet}\n{}", folder.shown(&complaints));
        }
    }
    for name in presets::NAMES
        .into_iter()
        .chain(["sns", "event-grid", "pubsub"])
    {
        let is_in = |snippet: &&&str| snippet.contains(&format!("kind = {name:?}"));
        assert_eq!(snippets.iter().filter(is_in).count(), 1, "{name}");
    }
    for handshake in ["graph", "adobe", "kind = \"meta\", token"] {
        let is_in = |snippet: &&&str| snippet.contains(handshake);
        assert!(snippets.iter().any(|it| is_in(&it)), "{handshake}");
    }
}
