//! The main job: real messages of three systems pass through the real plugins and become what a
//! shop and a search index receive.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::stage::CATALOG;
use crate::support::{Receiver, Stage, becomes, change, eventually, guests};

/// Three systems, a shop in German, and a search index at `{search}` that accepts batches.
fn config(search: &Receiver) -> String {
    let plugins: Vec<String> = [
        "erp-noise",
        "erp-product",
        "pim-product",
        "oms-stock",
        "in-stock",
        "storefront-page",
        "search-document",
    ]
    .iter()
    .map(|name| format!("[plugins.{name}]\npath = {:?}\n", guests::plugin(name)))
    .collect();
    let rest = r#"
[entities.product]
facets.base = { owner = "erp" }
facets."content.*" = { owner = "pim" }
facets."price.*" = { owner = "erp", lane = "urgent" }
facets."stock.*" = { owner = "oms", lane = "urgent" }

[sources.erp]
split = "xml:IDOC"
plugins = [
    { use = "erp-noise", settings = { message_types = ["COND_A", "MATMAS"] } },
    { use = "erp-product", settings = { price_lists = { "1000/10/01" = "de-retail", "1000/10" = "de-store", "2000/10/02" = "fr-retail" }, currency = "EUR" } },
]
[sources.pim]
plugins = [{ use = "pim-product", settings = { locales = ["de_DE", "fr_FR"], scope = "ecommerce" } }]
[sources.oms]
plugins = [{ use = "oms-stock", settings = { locations = { "24826418" = "berlin" }, items = { "808950810" = "4711" } } }]
headers = ["X-Shopify-Topic"]
verify = { kind = "hmac", preset = "shopify", secrets = ["oms-secret"] }

[targets.shop]
kind = "webhook"
url = "{shop}"
sign = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
[targets.search]
kind = "webhook"
url = "{search}"

[channels.shop]
entity = "product"
facets = ["content.de_DE", "price.de-*", "stock.*"]
needs = ["content.de_DE", "price.de-retail"]
plugins = ["in-stock", { use = "storefront-page", settings = { locale = "de_DE", site = "de" } }]
target = "shop"
[channels.search]
entity = "product"
facets = ["content.*", "price.*", "stock.*"]
plugins = ["search-document"]
target = "search"
batch = 10
"#;
    plugins.concat() + &rest.replace("{search}", &search.url())
}

fn stock(stage: &Stage, available: u32, at: &str) -> Value {
    let body = json!({"inventory_item_id": 808950810, "location_id": 24826418, "available": available, "updated_at": at}).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(b"oms-secret").expect("a key of any length");
    mac.update(body.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let headers = [
        ("content-type", "application/json"),
        ("x-shopify-topic", "inventory_levels/update"),
        ("x-shopify-hmac-sha256", &*signature),
    ];
    let reply = stage.send("oms", &headers, body.as_bytes());
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()
}

#[test]
fn messages_of_three_systems_become_the_page_of_a_shop_and_a_document_of_a_search_index() {
    let search = Receiver::start();
    let stage = Stage::with(&config(&search));

    // The event platform of the PIM wraps a product in a CloudEvent.
    let event = guests::case("pim-product", "product-updated/event.json");
    let reply = stage.send(
        "pim",
        &[("content-type", "application/cloudevents+json")],
        &event,
    );
    assert_eq!(
        reply.json()["changes"]["committed"],
        2,
        "one facet for each locale: {}",
        reply.text()
    );
    stage.stands("4711", "shop", "withheld");
    assert_eq!(
        stage.shop.count(),
        0,
        "a product without a price was delivered to the shop"
    );

    // The ERP sends a file with many IDocs.
    let reply = stage.send(
        "erp",
        &[("content-type", "text/xml")],
        &guests::case("erp-product", "night-run/body.xml"),
    );
    let answer = reply.json();
    assert_eq!(
        (&answer["events"]["quarantined"], &answer["problems"]),
        (&json!(0), &json!([])),
        "{answer:#}"
    );
    assert_eq!(
        answer["changes"]["committed"].as_u64(),
        Some(5),
        "{answer:#}"
    );

    // The shop system signs its messages. A product that is sold out is withheld, one in stock is
    // delivered, and when it sells out again it is withdrawn.
    stock(&stage, 0, "2026-11-23T09:00:00Z");
    stage.stands("4711", "shop", "withheld");
    stock(&stage, 12, "2026-11-23T09:01:00Z");
    let page = json!({
        "sku": "4711", "locale": "de_DE", "name": "Tischleuchte „Fjord“", "description": "<p>Esche &amp; Messing,\nhandgemacht.</p>",
        // Its price holds from a day on, so no price is shown as the one that always holds.
        "price": null, "prices": [{"amount": "9.90", "currency": "EUR", "from": "2026-12-01"}],
        "available": 12, "in_stock": true, "url": "/p/4711"
    });
    stage.shop_holds(json!({"4711": page}));
    stock(&stage, 0, "2026-11-23T09:02:00Z");
    stage.shop_holds(json!({}));
    assert_eq!(
        stock(&stage, 7, "2026-11-23T09:01:30Z")["changes"]["stale"],
        1,
        "an older stock level was not ignored"
    );
    stage.settles("shop");
    assert_eq!(stage.shop.holds().len(), 0);

    let delivery = &stage.shop.deliveries()[0];
    assert_eq!(
        (delivery.method.as_str(), delivery.header("weir-entity")),
        ("POST", Some("product/4711"))
    );
    let headers = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "weir-plugin",
        "traceparent",
    ]
    .map(|name| delivery.header(name));
    assert!(headers.iter().all(Option::is_some), "{headers:?}");
    assert!(
        headers[3].is_some_and(|plugin| plugin.starts_with("storefront-page@")),
        "{headers:?}"
    );
    let secret = weir::inside::signature::Secret::from_webhook_secret(
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
    )
    .expect("a secret");
    let timestamp = headers[1]
        .and_then(|timestamp| timestamp.parse().ok())
        .expect("seconds");
    let signature = weir::inside::signature::sign(
        &secret,
        headers[0].expect("an id"),
        timestamp,
        &delivery.body,
    );
    assert_eq!(headers[2], Some(&*signature));

    // The index receives one document for each product, with all languages and prices, in batches.
    let document = eventually("the search index has the lamp, sold out", || {
        search
            .holds()
            .get("4711")
            .filter(|document| document["available"] == 0)
            .cloned()
    });
    assert_eq!(document["id"], "product-4711");
    assert_eq!(
        (
            &document["prices"]["fr-retail"]["amount"],
            &document["prices"]["de-retail"],
            &document["dated_prices"]["de-retail"][0]["from"]
        ),
        (&json!("8.90"), &Value::Null, &json!("2026-12-01")),
        "{document:#}"
    );
}

#[test]
fn noise_is_filtered_and_an_event_that_cannot_be_mapped_is_quarantined_with_the_reason() {
    let search = Receiver::start();
    let stage = Stage::with(&config(&search));
    let send = |plugin: &str, case: &str| {
        let body = guests::case(plugin, &format!("{case}/body.xml"));
        let reply = stage.send("erp", &[("content-type", "application/xml")], &body);
        assert_eq!(reply.status, 202, "{case}: {}", reply.text());
        reply.json()
    };
    for noise in ["test", "status-report", "order"] {
        assert_eq!(send("erp-noise", noise)["events"]["filtered"], 1, "{noise}");
    }
    let answer = send("erp-product", "unknown-price-list");
    assert_eq!(answer["events"]["quarantined"], 1, "{answer:#}");
    let kept = &stage.quarantine("erp")[0];
    assert!(
        kept["plugin"]
            .as_str()
            .is_some_and(|plugin| plugin.starts_with("erp-product@")),
        "{kept:#}"
    );
    assert_eq!(
        kept["detail"],
        answer["problems"][0]["detail"]
            .as_str()
            .and_then(|detail| detail.split_once(": "))
            .expect("a sentence")
            .1
    );
    assert_eq!(
        send("erp-product", "price-of-one-list")["events"]["accepted"],
        1,
        "the next good event is accepted"
    );
}

#[test]
fn every_format_of_the_contract_carries_events() {
    let stage = Stage::catalog();
    let event = |id: &str, data: Value| json!({"specversion": "1.0", "id": id, "source": "pim", "type": "content", "data": data});
    let change = |key: &str| change(key, "content", json!(key));
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "pim"),
        ("ce-type", "content"),
        ("content-type", "application/json; charset=utf-8"),
    ];
    let lines = format!("{}\n\n{}\r\n", change("d"), change("e"));
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packer, change("g").to_string().as_bytes()).expect("packed");
    let batch = json!([event("3", change("c1")), event("4", change("c2"))]).to_string();
    let typed = |media_type| [("content-type", media_type)];
    let json = typed("application/json")[0];
    type Body<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, u32);
    let bodies: [Body<'_>; 6] = [
        (&binary, change("a").to_string().into(), 1),
        (
            &typed("application/cloudevents+json"),
            event("2", change("b")).to_string().into(),
            1,
        ),
        (
            &typed("application/cloudevents-batch+json"),
            batch.into(),
            2,
        ),
        (&typed("application/x-ndjson"), lines.into(), 2),
        (
            &[json],
            json!([change("f1"), change("f2")]).to_string().into(),
            1,
        ),
        (
            &[json, ("content-encoding", "gzip")],
            packer.finish().expect("packed"),
            1,
        ),
    ];
    for (headers, body, events) in bodies {
        let reply = stage.send("pim", headers, &body);
        assert_eq!(
            (reply.status, &reply.json()["events"]["accepted"]),
            (202, &json!(events)),
            "{headers:?}: {}",
            reply.text()
        );
    }
    let keys = ["a", "b", "c1", "c2", "d", "e", "f1", "f2", "g"];
    becomes("all of them reach the shop", json!(keys), || {
        json!(stage.shop.holds().keys().collect::<Vec<_>>())
    });
}

#[test]
fn the_lane_of_the_request_applies_to_changes_that_name_none() {
    let stage = Stage::catalog();
    stage.operate("shop", "pause");
    let send = |lane: &str, key: &str| {
        let body = change(key, "content", json!(1)).to_string();
        let path = format!("/v1/sources/pim/events{lane}");
        let reply = stage.weir().ask(
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.as_bytes(),
        );
        assert_eq!(reply.status, 202, "{}", reply.text());
    };
    send("?lane=bulk", "a");
    send("?lane=bulk", "b");
    send("", "c");
    stage.takes("erp", &[change("d", "price.de", json!(1))]);
    let owed = stage.channel("shop")["owed"].clone();
    assert_eq!(
        (&owed["urgent"], &owed["normal"], &owed["bulk"]),
        (&json!(1), &json!(1), &json!(2)),
        "{owed}"
    );
    // Urgent changes are delivered first, although they arrived last.
    stage.operate("shop", "resume");
    eventually("all are delivered", || {
        (stage.shop.count() == 4).then_some(())
    });
}

// A broken stock feed sends zeros for everything. If the shop were sent all the withdrawals, it
// would be empty within a minute.
#[test]
fn a_filter_that_would_empty_the_shop_is_held_until_an_operator_confirms() {
    let in_stock = guests::plugin("in-stock");
    let config = CATALOG.replace("\"price.*\"", "\"stock.*\"").replace(
        "target = \"shop\"",
        "target = \"shop\"\nplugins = [\"in-stock\"]\nwithdraw_max = { share = \"2%\", per = \"1h\", min = 3 }",
    );
    let stage = Stage::with(&format!(
        "{config}[plugins.in-stock]\npath = {in_stock:?}\n"
    ));
    let levels = |available: u32| {
        (0..20)
            .map(|n| {
                change(
                    &format!("p{n:02}"),
                    "stock.berlin",
                    json!({"available": available}),
                )
            })
            .collect::<Vec<_>>()
    };
    stage.takes("erp", &levels(5));
    eventually("all are in the shop", || {
        (stage.shop.holds().len() == 20).then_some(())
    });

    stage.takes("erp", &levels(0));
    becomes("all but three are held", json!(17), || {
        stage.channel("shop")["held"].clone()
    });
    becomes("three are withdrawn", 17, || stage.shop.holds().len());
    let held = stage.shop.holds().keys().next().cloned().expect("one");
    assert_eq!(stage.standing(&held, "shop")["state"], "held");

    // Others are delivered, and an entity that is in stock again is no longer held.
    stage.takes(
        "erp",
        &[
            change("new", "stock.berlin", json!({"available": 1})),
            change(&held, "stock.berlin", json!({"available": 2})),
        ],
    );
    stage.stands("new", "shop", "delivered");
    stage.stands(&held, "shop", "delivered");
    assert_eq!(
        (
            stage.channel("shop")["held"].clone(),
            stage.shop.holds().len()
        ),
        (json!(16), 18)
    );

    stage.operate("shop", "confirm");
    becomes(
        "the rest is withdrawn",
        json!([held.clone(), "new".to_owned()]),
        || {
            let mut keys: Vec<_> = stage.shop.holds().into_keys().collect();
            keys.sort_by_key(|key| *key != held);
            json!(keys)
        },
    );
    stage.settles("shop");
}
