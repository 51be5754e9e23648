//! Tests against a server on loopback: the requests that are sent, and the outcome of each kind of
//! response.

mod trouble;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::Trace;
use crate::model::{Payload, Rendering, Sequence};
use crate::signature::Secret;
use crate::targets::fixture::{self, Fixture, Reply};
use crate::targets::http::Auth;
use crate::targets::{DeliveryId, Item, sample};

const NOW: u64 = 1_700_000_000;
const TRACE: Trace = Trace {
    trace: 0xabc,
    span: 0xdef,
    sampled: true,
};

fn options(url: String) -> Options {
    let url = Address::parse(&url).expect("a URL");
    Options {
        sign: vec![
            SigningKey::Shared(Secret(b"a secret of some length".to_vec())),
            SigningKey::Shared(Secret(b"the next secret".to_vec())),
        ],
        http: http::Options {
            auth: Auth::Bearer(Secret(b"token".to_vec())),
            timeout: Duration::from_secs(30),
            ..http::Options::default()
        },
        ..Options::new(url)
    }
}

fn id(key: &str) -> DeliveryId {
    DeliveryId(xxhash_rust::xxh3::xxh3_128(key.as_bytes()))
}

fn item(key: &str, body: Option<&str>) -> Item {
    Item {
        id: id(key),
        state: 0,
        plugin: Some("page@3fa9c1b2d0e4".into()),
        ..sample::item(key, 42, body)
    }
}

fn attempt(items: &[Item], form: Form) -> Attempt<'_> {
    Attempt {
        items,
        form,
        trace: TRACE,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        head: Sequence(42),
        foreign: None,
    }
}

async fn deliver(options: &Options, items: &[Item], form: Form) -> Vec<Outcome> {
    let webhook = Webhook::open(options).expect("a webhook");
    webhook.deliver(attempt(items, form)).await.outcomes
}

#[tokio::test]
async fn a_rendering_is_posted_as_it_is_and_a_deletion_by_name() {
    let target = Fixture::start(|_| Reply::Status(204)).await;
    let options = options(target.url("/weir?x=1"));
    assert_eq!(
        deliver(&options, &[item("a b/ü", Some(r#"{"a":1}"#))], Form::Single).await,
        [Outcome::Delivered]
    );
    assert_eq!(
        deliver(&options, &[item("gone", None)], Form::Single).await,
        [Outcome::Delivered]
    );
    let asked = target.asked();
    assert_eq!(
        (
            asked[0].method.as_str(),
            asked[0].path.as_str(),
            asked[0].text().as_str()
        ),
        ("POST", "/weir?x=1", r#"{"a":1}"#)
    );
    assert_eq!(
        asked[1].text(),
        r#"{"type":"product","key":"gone","deleted":true}"#
    );
}

#[tokio::test]
async fn the_headers_of_a_delivery_are_those_of_the_contract() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let options = options(target.url("/weir"));
    let mut one = item("a b/ü", Some(r#"{"a":1}"#));
    one.id = DeliveryId(1);
    assert_eq!(
        deliver(&options, &[one], Form::Single).await,
        [Outcome::Delivered]
    );
    let asked = target.asked().remove(0);
    let expected_signature = signatures(
        &options.sign,
        "weir_00000000000000000000000000000001",
        NOW,
        br#"{"a":1}"#,
    );
    for (name, value) in [
        ("webhook-id", "weir_00000000000000000000000000000001"),
        ("webhook-timestamp", "1700000000"),
        ("webhook-signature", expected_signature.as_str()),
        ("weir-entity", "product/a%20b%2F%C3%BC"),
        ("weir-sequence", "42"),
        ("weir-plugin", "page@3fa9c1b2d0e4"),
        (
            "traceparent",
            "00-00000000000000000000000000000abc-0000000000000def-01",
        ),
        ("authorization", "Bearer token"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(
            asked.headers.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert_eq!(
        expected_signature.matches("v1,").count(),
        2,
        "each secret signs"
    );
}

#[tokio::test]
async fn with_a_key_in_the_url_entities_are_put_and_deleted_at_their_own_place() {
    let target =
        Fixture::start(|asked| Reply::Status(if asked.method == "DELETE" { 404 } else { 201 }))
            .await;
    let options = options(target.url("/p/{key}.json?again={key}"));
    assert_eq!(
        deliver(&options, &[item("../a?b#c", Some("{}"))], Form::Single).await,
        [Outcome::Delivered]
    );
    assert_eq!(
        deliver(&options, &[item("x", None)], Form::Single).await,
        [Outcome::Delivered]
    );
    let refused = deliver(&options, &[item("..", Some("{}"))], Form::Single).await;
    assert!(
        matches!(&refused[0], Outcome::Refused { reason, .. } if reason.contains("cannot be used in a URL")),
        "{refused:?}"
    );
    let asked = target.asked();
    let lines: Vec<_> = asked
        .iter()
        .map(|asked| format!("{} {} {}", asked.method, asked.path, asked.text()))
        .collect();
    assert_eq!(
        lines,
        [
            "PUT /p/..%2Fa%3Fb%23c.json?again=..%2Fa%3Fb%23c {}",
            "DELETE /p/x.json?again=x "
        ]
    );
}

// The first 64 KiB of a response were kept, so a longer list of results was not JSON any more, and its
// refusals counted as delivered.
#[tokio::test]
async fn the_results_of_a_large_batch_are_read_to_the_end() {
    let keys: Vec<String> = (0..2_000).map(|number| format!("p{number}")).collect();
    let entries: Vec<String> = keys
        .iter()
        .map(|key| {
            let status = if key.ends_with('7') { 400 } else { 200 };
            format!(r#"{{"id":"{}","status":{status}}}"#, id(key))
        })
        .collect();
    let body = format!(r#"{{"items":[{}]}}"#, entries.join(","));
    assert!(body.len() > 64 * 1024, "{} bytes", body.len());
    let target = Fixture::start(move |_| Reply::Body(200, body.clone())).await;
    let items: Vec<Item> = keys.iter().map(|key| item(key, Some("{}"))).collect();
    let mut options = options(target.url("/weir"));
    options.http.timeout = Duration::from_secs(20);
    let outcomes = deliver(&options, &items, Form::Batch).await;
    let refused = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Refused { .. }));
    assert_eq!((outcomes.len(), refused.count()), (2_000, 200));
}

#[tokio::test]
async fn a_batch_is_an_array_or_lines() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let mut options = options(target.url("/weir"));
    let mut text = item("t", Some("a;b"));
    text.rendering = Some(Arc::new(Rendering {
        key: None,
        content_type: Some("text/csv".into()),
        body: Payload::Text("a;b".into()),
    }));
    let items = [
        item("a", Some("{\n\"n\": 1.50}")),
        item("b", None),
        text,
        item("broken", Some("{")),
    ];
    assert_eq!(
        deliver(&options, &items, Form::Batch).await,
        vec![Outcome::Delivered; 4]
    );
    options.format = Format::Ndjson;
    assert_eq!(
        deliver(&options, &items[..1], Form::Batch).await,
        [Outcome::Delivered]
    );
    assert_eq!(
        deliver(&options, &items[..2], Form::Batch).await,
        vec![Outcome::Delivered; 2]
    );
    let asked = target.asked();
    let envelope = |key: &str, more: &str| {
        format!(
            r#"{{"id":"{}","type":"product","key":"{key}","sequence":42,"deleted":{more}}}"#,
            id(key)
        )
    };
    let array = [
        envelope("a", "false,\"content\":{\n\"n\": 1.50}"),
        envelope("b", "true"),
        envelope("t", r#"false,"content":"a;b""#),
        envelope("broken", r#"false,"content":"{""#),
    ];
    assert_eq!(asked[0].text(), format!("[{}]", array.join(",")));
    let line = array[0].replace('\n', " ");
    assert_eq!(asked[1].text(), format!("{line}\n"));
    assert_eq!(asked[2].text(), format!("{line}\n{}\n", array[1]));
    assert_eq!(asked[2].headers["content-type"], "application/x-ndjson");
}

// An API takes contents without an envelope, under a name, and deletions at another method.
#[tokio::test]
async fn a_request_has_the_form_that_the_api_takes() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let mut options = options(target.url("/records"));
    options.sign = Vec::new();
    options.form = ItemForm::Bare;
    options.wrap = Some((r#"{"records":["#.into(), "]}".into()));
    options.content_type = Some("application/vnd.api+json".into());
    options.method = Method::PATCH;
    options.delete = Some(Method::DELETE);
    options.delete_body = Some(r#"{"sku":"{key}","of":"{type}"}"#.into());
    options.http.headers = vec![("x-tenant".into(), Secret(b"eu".to_vec()))];
    assert!(options.nature().deletes_alone && options.nature().keyed);
    let two = [item("a", Some(r#"{"n":1}"#)), item("b", Some(r#"{"n":2}"#))];
    deliver(&options, &two, Form::Batch).await;
    deliver(&options, &two[..1], Form::Single).await;
    deliver(&options, &[item("a \"1\"", None)], Form::Batch).await;
    // Where deletions are told like everything else, a batch holds them.
    options.delete = Some(Method::PATCH);
    assert!(!options.nature().deletes_alone);
    deliver(&options, &[two[0].clone(), item("c", None)], Form::Batch).await;
    options.format = Format::Ndjson;
    options.wrap = None;
    options.content_type = None;
    deliver(&options, &two, Form::Batch).await;
    options.delete = None;
    deliver(&options, &[item("d", None)], Form::Single).await;
    let asked: Vec<String> = target
        .asked()
        .iter()
        .map(|asked| {
            let content_type = &asked.headers["content-type"];
            format!("{} {content_type} {}", asked.method, asked.text())
        })
        .collect();
    assert_eq!(
        asked,
        [
            r#"PATCH application/vnd.api+json {"records":[{"n":1},{"n":2}]}"#,
            r#"PATCH application/vnd.api+json {"records":[{"n":1}]}"#,
            r#"DELETE application/vnd.api+json {"sku":"a \"1\"","of":"product"}"#,
            r#"PATCH application/vnd.api+json {"records":[{"n":1},{"sku":"c","of":"product"}]}"#,
            "PATCH application/x-ndjson {\"n\":1}\n{\"n\":2}\n",
        ],
        "a target that is not told of deletions gets no request for one"
    );
    assert_eq!(target.asked()[0].headers["x-tenant"], "eu");
}

// Its answer has no list of results: it was taken for one that names no item, and each deletion was
// sent for ever.
#[tokio::test]
async fn a_deletion_with_a_request_of_its_own_needs_no_list_in_its_answer() {
    let target = Fixture::start(|_| Reply::Status(204)).await;
    let mut options = options(target.url("/records"));
    options.delete = Some(Method::DELETE);
    options.answers = http::preset("commercetools").expect("a preset");
    assert!(options.nature().deletes_alone);
    let outcomes = deliver(&options, &[item("a", None)], Form::Batch).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
}

#[tokio::test]
async fn the_answers_of_an_api_are_read_by_its_preset_and_its_points_are_passed_on() {
    let body = r#"{"errors":[{"message":"Throttled","extensions":{"code":"THROTTLED"}}],"extensions":{"cost":{"requestedQueryCost":752,"actualQueryCost":null,"throttleStatus":{"maximumAvailable":1000.0,"currentlyAvailable":652,"restoreRate":50.0}}}}"#;
    let target = Fixture::start(move |_| Reply::Body(200, body.into())).await;
    let mut options = options(target.url("/graphql.json"));
    options.answers = http::preset("shopify").expect("a preset");
    let webhook = Webhook::open(&options).expect("a webhook");
    let items = [item("a", Some("{}"))];
    let delivery = webhook.deliver(attempt(&items, Form::Single)).await;
    let left = delivery.hints.points.map(|points| points.left);
    assert_eq!(left, Some(652.0));
    assert!(
        matches!(
            &delivery.outcomes[0],
            Outcome::Throttled { after: None, .. }
        ),
        "{delivery:?}"
    );
}

/// What a receiver of the standard checks, written from its text: `v1` is an HMAC-SHA256 and `v1a` an
/// Ed25519 signature of `{id}.{timestamp}.{body}`, and the body is the bytes of the request.
fn is_signed(asked: &fixture::Asked, public: &[u8]) -> bool {
    let header = |name: &str| asked.headers[name].clone();
    let signed = format!("{}.{}.", header("webhook-id"), header("webhook-timestamp"));
    let message = [signed.as_bytes(), &asked.body].concat();
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
    header("webhook-signature")
        .split(' ')
        .filter_map(|entry| entry.strip_prefix("v1a,"))
        .filter_map(|entry| base64::Engine::decode(&crate::signature::BASE64, entry).ok())
        .any(|signature| key.verify(&message, &signature).is_ok())
}

#[tokio::test]
async fn a_receiver_verifies_with_the_public_key_while_secret_and_private_keys_rotate() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let mut options = options(target.url("/weir"));
    let seed = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=";
    options
        .sign
        .push(SigningKey::parse(seed).expect("a private key"));
    options.sign.push(SigningKey::Private(Secret(vec![7; 32])));
    deliver(&options, &[item("a", Some(r#"{"a":1}"#))], Form::Single).await;
    let asked = target.asked().remove(0);
    let versions: Vec<_> = asked.headers["webhook-signature"]
        .split(' ')
        .map(|entry| entry.split(',').next().unwrap_or_default())
        .collect();
    assert_eq!(versions, ["v1", "v1", "v1a", "v1a"]);
    for key in &options.sign[2..] {
        let public = key.public().expect("a public key");
        let crate::signature::VerifyingKey::Public(public) =
            crate::signature::VerifyingKey::parse(&public).expect("a key")
        else {
            panic!("{public}")
        };
        assert!(is_signed(&asked, &public));
        let changed = fixture::Asked {
            body: b"{}".to_vec(),
            ..asked.clone()
        };
        assert!(!is_signed(&changed, &public));
    }
}

fn unpacked(asked: &fixture::Asked) -> String {
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&asked.body[..]);
    std::io::Read::read_to_string(&mut decoder, &mut text).expect("gzip");
    text
}

fn is_packed(asked: &fixture::Asked) -> bool {
    asked.headers.get("content-encoding").map(String::as_str) == Some("gzip")
}

#[tokio::test]
async fn a_compressed_body_is_signed_as_it_is_sent_and_a_short_one_is_not_compressed() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let mut options = options(target.url("/weir"));
    options.http.gzip = true;
    let pair = SigningKey::Private(Secret(vec![7; 32]));
    options.sign.push(pair.clone());
    let long = format!(r#"{{"name":"{}"}}"#, "Fjord ".repeat(20_000));
    for body in [&long[..2000], &long, "{}"] {
        deliver(&options, &[item("a", Some(body))], Form::Single).await;
    }
    let asked = target.asked();
    assert_eq!(
        asked.iter().map(is_packed).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(unpacked(&asked[0]), long[..2000]);
    assert_eq!(unpacked(&asked[1]), long);
    assert!(asked[1].body.len() < long.len() / 20);
    assert_eq!(asked[2].text(), "{}");
    let public = pair.public().expect("a public key");
    let public = base64::Engine::decode(&crate::signature::BASE64, &public["whpk_".len()..]);
    let public = public.expect("base64");
    for asked in &asked {
        assert!(is_signed(asked, &public));
        assert_eq!(asked.headers["content-type"], "application/json");
    }
}

// A gateway passed compressed bodies on to a server that read the bytes as JSON: each entity was refused.
#[tokio::test]
async fn a_target_that_cannot_read_compressed_bodies_gets_plain_ones_from_the_first_refusal_on() {
    for status in [400, 415, 500] {
        let target = Fixture::start(move |asked| match is_packed(asked) {
            true => Reply::Body(status, "unexpected token".into()),
            false => Reply::Status(200),
        })
        .await;
        let mut options = options(target.url("/weir"));
        options.http.gzip = true;
        let webhook = Webhook::open(&options).expect("a webhook");
        let body = "x".repeat(5_000);
        for _ in 0..2 {
            let items = [item("a", Some(&body))];
            let delivery = webhook.deliver(attempt(&items, Form::Single)).await;
            assert_eq!(delivery.outcomes, [Outcome::Delivered]);
        }
        let asked = target.asked();
        let packed: Vec<_> = asked.iter().map(is_packed).collect();
        assert_eq!(packed, [true, false, false], "{status}");
        assert_ne!(
            asked[0].headers["webhook-signature"], asked[1].headers["webhook-signature"],
            "each is signed as it is sent"
        );
    }
}

#[tokio::test]
async fn a_refusal_of_a_target_that_reads_compressed_bodies_is_the_entitys() {
    let target = Fixture::start(|asked| match unpacked(asked).contains("bad") {
        true => Reply::Status(400),
        false => Reply::Status(200),
    })
    .await;
    let mut options = options(target.url("/weir"));
    options.http.gzip = true;
    let webhook = Webhook::open(&options).expect("a webhook");
    let (good, bad) = ("x".repeat(2_000), "bad".repeat(1_000));
    for (body, refused) in [(&good, false), (&bad, true), (&good, false)] {
        let items = [item("a", Some(body))];
        let delivery = webhook.deliver(attempt(&items, Form::Single)).await;
        let is_refused = matches!(delivery.outcomes[0], Outcome::Refused { .. });
        assert_eq!(is_refused, refused);
    }
    assert!(target.asked().iter().all(is_packed));
    assert_eq!(target.asked().len(), 3);
}

// Both answers are the same, so it is not the compression: the next request is compressed again.
#[tokio::test]
async fn a_refusal_with_and_without_compression_says_nothing_about_compression() {
    let target = Fixture::start(|_| Reply::Body(400, "no price".into())).await;
    let mut options = options(target.url("/weir"));
    options.http.gzip = true;
    let webhook = Webhook::open(&options).expect("a webhook");
    for _ in 0..2 {
        let items = [item("a", Some(&"x".repeat(2_000)))];
        let delivery = webhook.deliver(attempt(&items, Form::Single)).await;
        assert!(matches!(delivery.outcomes[0], Outcome::Refused { .. }));
    }
    let packed: Vec<_> = target.asked().iter().map(is_packed).collect();
    assert_eq!(packed, [true, false, true, false]);
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let target = Fixture::start(|_| Reply::Status(200)).await;
    let webhook = Webhook::open(&options(target.url("/weir"))).expect("a webhook");
    for _ in 0..20 {
        let outcomes = webhook
            .deliver(attempt(&[item("a", Some("{}"))], Form::Single))
            .await;
        assert_eq!(outcomes.outcomes, [Outcome::Delivered]);
    }
    assert_eq!(target.connections(), 1);
}

#[test]
fn a_place_is_known_by_its_url_as_it_was_before() {
    let place = |url: &str| Webhook::open(&options(url.into())).expect("opens").place();
    assert_eq!(
        place("http://shop/weir"),
        xxh3_64(b"webhook http://shop/weir"),
        "stores remember it"
    );
    assert_ne!(place("http://shop/weir"), place("http://shop/weir/"));
}

#[test]
fn a_url_of_its_own_for_each_entity_leaves_no_batches() {
    let nature = |url: &str| options(url.into()).nature();
    let (common, keyed) = (nature("http://shop/weir"), nature("http://shop/{key}"));
    assert!(!common.keyed && common.batch_max > 1);
    assert!(keyed.keyed && keyed.batch_max == 1);
}
