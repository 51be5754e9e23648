//! Wrong input: the sender gets the right status and a message to act on, nothing is lost, and the
//! next good event works.

use std::io::Write;

use serde_json::{Value, json};
use weir::inside::signature::{self, Secret};

use crate::support::stage::CATALOG;
use crate::support::{Reply, Stage, change, deletion, eventually};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");
const CLOUDEVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const CLOUDEVENTS: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

/// A source of XML and a source that requires signatures, in addition to those of the catalogue.
fn stage() -> Stage {
    Stage::with(&format!(
        r#"{CATALOG}
[sources.xml]
owner = "erp"
split = "xml:IDOC"
[sources.signed]
owner = "pim"
verify = {{ kind = "standard-webhooks", secrets = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] }}
"#
    ))
}

/// The request gets this status and a problem whose message has these words. Then a good event is
/// accepted and delivered.
#[track_caller]
fn check(
    stage: &Stage,
    source: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    status: u16,
    words: &str,
) -> Value {
    let reply = stage.send(source, headers, body);
    let problem = is_problem(&reply, status, words);
    works(stage);
    problem
}

#[track_caller]
fn is_problem(reply: &Reply, status: u16, words: &str) -> Value {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json"),
        "{}",
        reply.text()
    );
    let problem = reply.json();
    assert_eq!(problem["status"], status, "{problem:#}");
    assert!(
        problem["type"]
            .as_str()
            .is_some_and(|kind| kind.starts_with("urn:weir:problem:")),
        "{problem:#}"
    );
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(words), "{words:?} is not in: {detail}");
    problem
}

/// A good event is accepted and reaches the shop.
#[track_caller]
fn works(stage: &Stage) {
    let value = json!({"nth": fastrand::u64(..)});
    let answer = stage.takes("pim", &[change("canary", "content", value.clone())]);
    assert_eq!(answer["changes"]["committed"], 1, "{answer:#}");
    eventually("the next good event reaches the shop", || {
        let shop = stage.shop.holds();
        (shop.get("canary")?["facets"]["content"] == value).then_some(())
    });
}

/// The only event of this body is accepted and quarantined with this code and these words; both the
/// sender and the operator can see that.
#[track_caller]
fn check_quarantined(stage: &Stage, source: &str, body: &Value, code: &str, words: &str) {
    let before = stage.quarantine(source).len();
    let reply = stage.send(source, &[JSON], body.to_string().as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(answer["events"]["quarantined"], 1, "{answer:#}");
    assert_eq!(answer["problems"][0]["code"], code, "{answer:#}");
    let detail = answer["problems"][0]["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(words), "{words:?} is not in: {detail}");
    let kept = stage.quarantine(source);
    assert_eq!(kept.len(), before + 1);
    let last = kept
        .iter()
        .max_by_key(|event| event["sequence"].as_u64())
        .expect("one");
    assert_eq!(last["code"], code, "{last:#}");
    let data = last["event"]["data"].as_str().unwrap_or_default();
    assert_eq!(
        data.parse::<Value>().ok().as_ref(),
        Some(body),
        "the event was not kept unchanged"
    );
    works(stage);
}

fn line(key: &str, value: Value) -> Vec<u8> {
    change(key, "content", value).to_string().into_bytes()
}

fn event(id: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "pim.example", "type": "content", "data": data})
}

#[test]
fn an_unknown_source_or_lane_is_reported_to_the_sender() {
    let stage = stage();
    check(
        &stage,
        "pin",
        &[JSON],
        &line("lamp", json!(1)),
        404,
        "there is no source `pin`",
    );
    let reply = stage.weir().ask(
        "POST",
        "/v1/sources/pim/events?lane=fast",
        &[JSON],
        &line("lamp", json!(1)),
    );
    is_problem(
        &reply,
        400,
        "must be one of `urgent`, `normal`, `bulk`, not `fast`",
    );
    is_problem(
        &stage.weir().get("/v1/sources/pim/events"),
        405,
        "this route takes POST and OPTIONS only",
    );
    is_problem(
        &stage.weir().get("/v1/surces"),
        404,
        "there is no route GET /v1/surces",
    );
}

#[test]
fn a_sender_that_cannot_be_verified_gets_the_reason() {
    let stage = stage();
    let secret =
        Secret::from_webhook_secret("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let body = line("lamp", json!(1));
    let signed = |timestamp: u64, signed_body: &[u8]| {
        let signature = signature::sign(&secret, "msg_1", timestamp, signed_body);
        [
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ]
    };
    let send = |headers: &[(&'static str, String)], status, words: &str| {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain([JSON])
            .collect();
        check(&stage, "signed", &headers, &body, status, words);
    };
    send(&[], 401, "exactly one header `webhook-id`");
    send(
        &signed(now, b"another body"),
        401,
        "the signature does not match the body",
    );
    send(
        &signed(now - 3600, &body),
        401,
        "s in the past; at most 300 s are tolerated",
    );
    send(&signed(now + 3600, &body), 401, "s in the future");
    assert_eq!(
        stage.entity("lamp")["status"],
        404,
        "a part of it was accepted"
    );

    let right = signed(now, &body);
    let headers: Vec<_> = right
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .chain([JSON])
        .collect();
    assert_eq!(
        stage.send("signed", &headers, &body).json()["events"]["accepted"],
        1
    );
}

#[test]
fn broken_json_is_rejected_with_its_place() {
    let stage = stage();
    check(
        &stage,
        "pim",
        &[JSON],
        b"{\n  \"type\": product\n}",
        400,
        "line 2 column",
    );
    check(
        &stage,
        "pim",
        &[CLOUDEVENT],
        br#"{"specversion": "1.0", "#,
        400,
        "line 1 column",
    );
    let deep = format!("[{}{}]", "[".repeat(99_999), "]".repeat(99_999));
    check(
        &stage,
        "pim",
        &[CLOUDEVENTS],
        deep.as_bytes(),
        400,
        "more than 64 brackets are open",
    );
    check(
        &stage,
        "pim",
        &[JSON],
        &[b'['; 100_000],
        400,
        "more than 64 brackets are open at line 1 column 65",
    );
    check(
        &stage,
        "pim",
        &[CLOUDEVENTS],
        &[b'['; 100_000],
        400,
        "at line 1 column 100000",
    );
    check(
        &stage,
        "pim",
        &[JSON],
        b"{\"type\": \"pro\xffduct\"}",
        400,
        "not valid UTF-8",
    );
    check(&stage, "pim", &[JSON], b"", 400, "the body is empty");
}

#[test]
fn broken_xml_is_rejected_with_its_place() {
    let stage = stage();
    let xml = ("content-type", "text/xml");
    check(
        &stage,
        "xml",
        &[xml],
        b"<ORDERS>\n<IDOC><A></B></IDOC>\n</ORDERS>",
        400,
        "line 2 column",
    );
    check(
        &stage,
        "xml",
        &[xml],
        b"<ORDERS>\n<IDOC>&bomb;</IDOC></ORDERS>",
        400,
        "the entity `&bomb;` is not defined",
    );
    let deep = "<a>".repeat(100_000);
    check(
        &stage,
        "xml",
        &[xml],
        deep.as_bytes(),
        400,
        "elements are open at line 1 column",
    );
    check(
        &stage,
        "xml",
        &[xml],
        b"<IDOC>\xff</IDOC>",
        400,
        "not valid UTF-8",
    );
}

#[test]
fn a_body_that_is_too_large_is_rejected_with_the_limit() {
    let stage = stage();
    let large = line("lamp", json!("x".repeat(10 << 20)));
    check(&stage, "pim", &[JSON], &large, 413, "8388608 bytes");

    // The same with a compressed body: 100 MiB of zeros are 100 KB.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..100).for_each(|_| packer.write_all(&vec![b'0'; 1 << 20]).expect("packed"));
    let bomb = packer.finish().expect("packed");
    assert!(bomb.len() < 1 << 20);
    check(
        &stage,
        "pim",
        &[JSON, ("content-encoding", "gzip")],
        &bomb,
        413,
        "bytes once it is unpacked",
    );
    check(
        &stage,
        "pim",
        &[JSON, ("content-encoding", "gzip")],
        b"not gzip",
        400,
        "not the gzip that its header says",
    );
    check(
        &stage,
        "pim",
        &[JSON, ("content-encoding", "br")],
        b"x",
        415,
        "send gzip or nothing",
    );
    // The head is limited too, at 64 KiB and the size of one read.
    let long = "x".repeat(300_000);
    let reply = stage.send("pim", &[JSON, ("x-long", &long)], &line("lamp", json!(1)));
    assert_eq!(reply.status, 431);
    works(&stage);
}

// No number follows the last one: a request for the page after 2^64 - 1 got a 500, or the list from
// its start.
#[test]
fn after_the_last_number_there_is_no_page() {
    let stage = stage();
    check_quarantined(
        &stage,
        "pim",
        &change("lamp", "price.de", json!(1)),
        "foreign",
        "price.de",
    );
    for path in [
        "/v1/sources/pim/quarantine?after=18446744073709551615",
        "/v1/channels/shop/refused?after=4294967295",
    ] {
        let reply = stage.weir().get(path);
        assert_eq!(
            (reply.status, &reply.json()["items"]),
            (200, &json!([])),
            "{path}: {}",
            reply.text()
        );
    }
    is_problem(
        &stage
            .weir()
            .get("/v1/sources/pim/quarantine?after=18446744073709551616"),
        400,
        "take it from the `next`",
    );
}

#[test]
fn a_cloudevent_without_a_required_attribute_is_rejected_and_the_attribute_named() {
    let stage = stage();
    let mut nameless = event("1", change("lamp", "content", json!(1)));
    nameless.as_object_mut().expect("an object").remove("id");
    check(
        &stage,
        "pim",
        &[CLOUDEVENT],
        nameless.to_string().as_bytes(),
        400,
        "`id` is missing; a CloudEvent needs it",
    );
    let head = [
        ("ce-specversion", "1.0"),
        ("ce-source", "pim"),
        ("ce-type", "content"),
        JSON,
    ];
    check(
        &stage,
        "pim",
        &head,
        &line("lamp", json!(1)),
        400,
        "`ce-id` is missing; a CloudEvent needs it",
    );
    check(
        &stage,
        "pim",
        &[("content-type", "application/cloudevents+avro")],
        b"x",
        415,
        "application/cloudevents+json",
    );
}

#[test]
fn headers_are_percent_decoded_once_and_never_overlong() {
    let stage = stage();
    let headers = |subject| {
        [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "pim"),
            ("ce-type", "content"),
            ("ce-subject", subject),
            JSON,
        ]
    };
    let refused = [
        ("lamp%C0%AF", "`ce-subject` is not valid UTF-8"),
        ("%ED%A0%80", "not valid UTF-8"),
        ("%00", "control character"),
    ];
    for (subject, words) in refused {
        check(
            &stage,
            "pim",
            &headers(subject),
            &line("lamp", json!(1)),
            400,
            words,
        );
    }
    // A quarantined event shows how its headers were understood.
    let unknown =
        json!({"type": "produkt", "key": "1", "facet": "content", "value": 1}).to_string();
    let reply = stage.send(
        "pim",
        &headers("L%C3%A4mpchen%2520%20%F0%9F%92%A1"),
        unknown.as_bytes(),
    );
    assert_eq!(reply.status, 202, "{}", reply.text());
    assert_eq!(
        stage.quarantine("pim")[0]["event"]["subject"],
        "Lämpchen%20 💡"
    );
}

#[test]
fn an_empty_batch_is_fine_and_changes_nothing() {
    let stage = stage();
    for (headers, body) in [(CLOUDEVENTS, "[]"), (NDJSON, "\n\n"), (JSON, "[]")] {
        let reply = stage.send("pim", &[headers], body.as_bytes());
        assert_eq!(reply.status, 202, "{headers:?}: {}", reply.text());
        let answer = reply.json();
        assert_eq!(
            (
                &answer["events"]["accepted"],
                &answer["events"]["quarantined"]
            ),
            (&json!(0), &json!(0)),
            "{answer:#}"
        );
    }
    works(&stage);
}

#[test]
fn one_bad_event_of_a_batch_is_kept_and_the_others_are_accepted() {
    let stage = stage();
    let good = |key: &str| event(key, change(key, "content", json!(1)));
    let mut nameless = good("b");
    nameless.as_object_mut().expect("an object").remove("id");
    let batch = json!([
        good("a"),
        nameless,
        good("c"),
        event("d", change("d", "price.de", json!(1)))
    ]);
    let reply = stage.send("pim", &[CLOUDEVENTS], batch.to_string().as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    let answer = reply.json();
    assert_eq!(
        (
            &answer["events"]["accepted"],
            &answer["events"]["quarantined"]
        ),
        (&json!(2), &json!(2)),
        "{answer:#}"
    );
    let problems: Vec<_> = answer["problems"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (&one["index"], &one["code"]))
        .collect();
    assert_eq!(
        problems,
        [
            (&json!(1), &json!("invalid-cloudevent")),
            (&json!(3), &json!("foreign"))
        ]
    );
    eventually("both reach the shop", || {
        (stage.shop.holds().keys().collect::<Vec<_>>() == ["a", "c"]).then_some(())
    });

    let lines = [
        line("e", json!(1)),
        b"{\"broken".to_vec(),
        line("f", json!(1)),
    ]
    .join(&b'\n');
    let answer = stage.send("pim", &[NDJSON], &lines).json();
    assert_eq!(
        (
            &answer["events"]["accepted"],
            &answer["problems"][0]["index"]
        ),
        (&json!(2), &json!(1)),
        "{answer:#}"
    );
    let kept = stage.quarantine("pim");
    let line = kept.last().expect("the line");
    assert_eq!(
        (kept.len(), &line["unread"], &line["event"]["data"]),
        (3, &json!(true), &json!("{\"broken")),
        "{kept:#?}"
    );
}

#[test]
fn an_event_sent_again_is_recognised_also_after_a_restart() {
    let mut stage = stage();
    let body = event("order-1", change("lamp", "content", json!(1))).to_string();
    let send =
        |stage: &Stage| stage.send("pim", &[CLOUDEVENT], body.as_bytes()).json()["events"].clone();
    assert_eq!(send(&stage)["accepted"], 1);
    assert_eq!(send(&stage)["repeated"], 1);
    stage.stop();
    stage.start();
    assert_eq!(send(&stage)["repeated"], 1);
    assert_eq!(stage.quarantine("pim").len(), 0);
}

#[test]
fn an_event_with_a_change_that_is_not_allowed_is_quarantined_with_what_would_be_right() {
    let stage = stage();
    let foreign = change("lamp", "price.de", json!(1));
    check_quarantined(
        &stage,
        "pim",
        &foreign,
        "foreign",
        "is written by `erp`; source `pim` writes for `pim`",
    );
    let unknown = json!({"type": "produkt", "key": "lamp", "facet": "content", "value": 1});
    check_quarantined(
        &stage,
        "pim",
        &unknown,
        "unknown-type",
        "there is no entity type `produkt`; configured are: `product`",
    );
    let unknown = change("lamp", "kontent", json!(1));
    check_quarantined(
        &stage,
        "pim",
        &unknown,
        "unknown-facet",
        "has no facet `kontent`; configured are: `content`, `price.*`",
    );
    let long = change(&"k".repeat(4096), "content", json!(1));
    check_quarantined(
        &stage,
        "pim",
        &long,
        "key",
        "a key has 1 to 1024 bytes, this one has 4096",
    );
    let large = change("lamp", "content", json!("x".repeat(300_000)));
    check_quarantined(
        &stage,
        "pim",
        &large,
        "too-large",
        "`facet_max` of its type is 262144",
    );
    let several = json!([
        change("lamp", "content", json!(1)),
        change("lamp", "price.de", json!(1))
    ]);
    check_quarantined(&stage, "pim", &several, "foreign", "is written by `erp`");
    assert_eq!(
        stage.entity("lamp")["status"],
        404,
        "only a part of the event's changes was accepted"
    );

    // A quarantined event can be redriven once the configuration is right, or dropped.
    let config = CATALOG.replace(
        "[entities.product]",
        "[entities.produkt]\nfacets.content = { owner = \"pim\" }\n[entities.product]",
    );
    stage.reloads(&config);
    let redriven = stage
        .weir()
        .post("/v1/sources/pim/quarantine/redrive?code=unknown-type");
    assert_eq!(redriven.status, 200, "{}", redriven.text());
    assert_eq!(
        stage.weir().get("/v1/entities/produkt/lamp").json()["facets"][0]["value"],
        1
    );
    let dropped = stage
        .weir()
        .ask("DELETE", "/v1/sources/pim/quarantine?all=true", &[], b"");
    assert_eq!(dropped.status, 200, "{}", dropped.text());
    assert_eq!(stage.quarantine("pim"), Vec::<Value>::new());
}

#[test]
fn any_key_up_to_a_kilobyte_arrives_as_it_was_sent() {
    let stage = stage();
    let long = "k".repeat(1024);
    for (key, encoded) in [
        ("shelf/lamp 7", "shelf%2Flamp%207"),
        ("nul\0nul", "nul%00nul"),
        ("💡", "%F0%9F%92%A1"),
        ("..", ".."),
        ("100%", "100%25"),
        (&long, &long),
    ] {
        stage.takes("pim", &[change(key, "content", json!({"of": key}))]);
        let delivered = eventually(&format!("{key:?} is delivered"), || {
            stage.shop.of(encoded).pop()
        });
        assert_eq!(
            delivered.json(),
            json!({"type": "product", "key": key, "facets": {"content": {"of": key}}})
        );
        if key != ".." {
            let shown = stage.entity(encoded);
            assert_eq!(
                (&shown["key"], &shown["facets"][0]["value"]["of"]),
                (&json!(key), &json!(key)),
                "{shown:#}"
            );
        }
    }
}

#[test]
fn an_older_version_never_overwrites_a_newer_one() {
    let stage = stage();
    let versioned = |mut change: Value, version: Value| {
        change["version"] = version;
        change
    };
    let send = |change: Value| {
        let counts = stage.takes("pim", &[change])["changes"].clone();
        let name = ["committed", "unchanged", "stale"]
            .into_iter()
            .find(|name| counts[name] == 1)
            .expect("one of them");
        (name, stage.entity("lamp")["facets"][0].clone())
    };
    let content = |value: u32| change("lamp", "content", json!(value));
    let (what, _) = send(versioned(content(1), json!(5)));
    assert_eq!(what, "committed");
    let (what, facet) = send(versioned(content(2), json!(4)));
    assert_eq!((what, &facet["value"]), ("stale", &json!(1)));
    let (what, facet) = send(versioned(content(1), json!("18446744073709551000")));
    assert_eq!(
        (what, &facet["version"]),
        ("unchanged", &json!(18446744073709551000_u64)),
        "an equal value stores the newer version"
    );

    // The same after a deletion: a late update does not bring the facet back.
    let (what, facet) = send(versioned(
        deletion("lamp", "content"),
        json!("18446744073709551001"),
    ));
    assert_eq!((what, &facet["deleted"]), ("committed", &json!(true)));
    let (what, facet) = send(versioned(content(3), json!("18446744073709551000")));
    assert_eq!((what, &facet["deleted"]), ("stale", &json!(true)));

    // Without a version, the order of arrival decides, and the stored version stays.
    let (what, facet) = send(content(4));
    assert_eq!(
        (what, &facet["value"], &facet["version"]),
        ("committed", &json!(4), &json!(18446744073709551001_u64))
    );
    let (what, _) = send(versioned(content(5), json!(7)));
    assert_eq!(what, "stale");
    eventually("the shop holds the newest", || {
        (stage.shop.holds().get("lamp")?["facets"]["content"] == 4).then_some(())
    });
}
