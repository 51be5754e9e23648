//! A product catalogue for eighteen shops: products of three systems as changes in Weir's own form,
//! with the configuration.
//!
//! A product has seven facets, together about 700 bytes: content in three languages, prices in
//! three lists, and the stock of one location. A shop shows one language, one list, and the stock.
//! Thus six shops share each list, and all share the stock.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::events::FIRST_KEY;
use crate::post::Request;
use crate::recorder::Recorder;

/// Shops, each with its channel and its target.
pub(super) const SITES: usize = 18;
/// Languages and price lists.
const LOCALES: [&str; 3] = ["de_DE", "fr_FR", "it_IT"];
const LISTS: [&str; 3] = ["de-retail", "fr-retail", "it-retail"];
/// The text before the mark in a page. The mark is the stock, which equals the number of times that
/// the facet was written.
pub(super) const MARK: &str = "\"available\":";
/// Systems that write a product, each as a source of its own.
const SOURCES: [&str; 3] = ["pim", "erp", "oms"];

/// Writes the next request of the first load: each system's part of a number of products, in turn.
/// Returns false when all are written.
pub(super) fn first(turn: usize, products: usize, batch: usize, request: &mut Request) -> bool {
    let first = turn / SOURCES.len() * batch;
    let last = products.min(first + batch);
    if first >= last {
        return false;
    }
    (request.source, request.lane, request.events) = (
        SOURCES[turn % SOURCES.len()],
        Some("bulk"),
        (last - first) as u64,
    );
    for product in first..last {
        match turn % SOURCES.len() {
            0 => facets(&mut request.body, product, content),
            1 => facets(&mut request.body, product, |number, product, body| {
                price(number, product, 1 + product as u32 % 900, 1, body)
            }),
            _ => stock(&mut request.body, product, 1),
        }
    }
    true
}

/// One line: an event with one change for each language or list.
fn facets(body: &mut Vec<u8>, product: usize, change: impl Fn(usize, usize, &mut Vec<u8>)) {
    for number in 0..LOCALES.len() {
        body.push(if number == 0 { b'[' } else { b',' });
        change(number, product, body);
    }
    body.extend_from_slice(b"]\n");
}

fn content(number: usize, product: usize, body: &mut Vec<u8>) {
    let (locale, name, material) = [
        (
            "de_DE",
            "Tischleuchte Fjord",
            "Esche und Messing, handgemacht, mit Schalter am Kabel und Stecker",
        ),
        (
            "fr_FR",
            "Lampe de table Fjord",
            "frêne et laiton, fait à la main, interrupteur sur le câble",
        ),
        (
            "it_IT",
            "Lampada da tavolo Fjord",
            "frassino e ottone, fatta a mano, interruttore sul cavo",
        ),
    ][number];
    let key = FIRST_KEY + product as u64;
    put(
        body,
        format_args!(
            r#"{{"type":"product","key":"{key}","facet":"content.{locale}","version":1,"value":{{"name":"{name} {key}","description":"<p>{material}; {key}.</p>","enabled":true}}}}"#
        ),
    );
}

/// A price in the list with this index.
pub(super) fn price(list: usize, product: usize, amount: u32, version: u32, body: &mut Vec<u8>) {
    let (key, list) = (FIRST_KEY + product as u64, LISTS[list]);
    put(
        body,
        format_args!(
            r#"{{"type":"product","key":"{key}","facet":"price.{list}","version":{version},"value":{{"amount":"{amount}.90","currency":"EUR"}}}}"#
        ),
    );
}

/// One line: the stock is written for the `mark`-th time.
pub(super) fn stock(body: &mut Vec<u8>, product: usize, mark: u32) {
    let key = FIRST_KEY + product as u64;
    put(
        body,
        format_args!(
            r#"{{"type":"product","key":"{key}","facet":"stock.central","version":{mark},"value":{{"available":{mark}}}}}"#
        ),
    );
    body.push(b'\n');
}

fn put(body: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    struct Bytes<'b>(&'b mut Vec<u8>);
    impl std::fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing to memory does not fail.
    let _ = Bytes(body).write_fmt(text);
}

/// Number of price lists.
pub(super) fn lists() -> usize {
    LISTS.len()
}

/// The targets that show a price list, as a bit set.
pub(super) fn shows(list: usize) -> u64 {
    (0..SITES)
        .filter(|site| site % LISTS.len() == list)
        .map(|site| 1 << site)
        .sum()
}

/// The configuration: eighteen sites, each a row with its own settings, rendered by the component
/// and delivered in batches of 500.
pub(super) fn configuration(component: &Path, recorder: &Recorder) -> Value {
    let row = |site: usize| {
        let (locale, list) = (LOCALES[site % LOCALES.len()], LISTS[site % LISTS.len()]);
        let url = format!("https://shop-{site:02}.example");
        (
            format!("s{site:02}"),
            json!({ "number": site, "locale": locale, "price_list": list, "currency": "EUR", "url": url }),
        )
    };
    let sources: Map<String, Value> = SOURCES
        .iter()
        .map(|source| ((*source).to_owned(), json!({})))
        .collect();
    json!({
        "config_version": 1,
        "server": { "listen": "127.0.0.1:0", "reload": "signal" },
        "store": { "path": "data" },
        "entities": { "product": { "facets": {
            "content.*": { "owner": "pim" },
            "price.*": { "owner": "erp", "lane": "urgent" },
            "stock.*": { "owner": "oms", "lane": "bulk" },
        } } },
        "plugins": { "storefront-page": { "path": component } },
        "sources": sources,
        "each": { "site": (0..SITES).map(row).collect::<Map<String, Value>>() },
        "targets": { "shop": { "for_each": "site", "kind": "webhook", "url": format!("http://{}/{{site.number}}", recorder.address) } },
        "channels": { "page": {
            "for_each": "site",
            "entity": "product",
            "facets": ["content.{site.locale}", "price.{site.price_list}", "stock.*"],
            "needs": ["content.{site.locale}", "price.{site.price_list}", "stock.*"],
            "plugins": ["storefront-page"],
            "target": "shop.{site}",
            "batch": 500,
        } },
    })
}
