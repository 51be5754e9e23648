//! Events of three systems in real formats, each with another value and a newer version.
//!
//! About 600 bytes each on average: a PIM's product in two languages, an ERP's condition record as
//! an IDoc, a shop system's inventory level. All three are about the same products, drawn from a
//! Zipf distribution: most events are about a few products.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// The exponent of the Zipf distribution of products.
const SKEW: f64 = 0.99;
/// Number of draws made in advance and read in turn, because drawing takes longer than writing an
/// event.
const DRAWS: usize = 1 << 20;
/// The key of the first product. All keys have the same number of digits.
pub(super) const FIRST_KEY: u64 = 1_000_000;
/// Products of similar popularity must not be neighbours in the store, so the n-th product by
/// popularity is n times this number, modulo the number of products.
const SCATTER: u64 = 7_919;

/// A system that sends events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Pim,
    Erp,
    Oms,
}

impl System {
    pub(super) const ALL: [System; 3] = [System::Pim, System::Erp, System::Oms];

    /// Its name as a source and an owner.
    pub(super) fn name(self) -> &'static str {
        match self {
            System::Pim => "pim",
            System::Erp => "erp",
            System::Oms => "oms",
        }
    }

    /// The plugin that maps its events.
    pub(super) fn plugin(self) -> &'static str {
        match self {
            System::Pim => "pim-product",
            System::Erp => "erp-product",
            System::Oms => "oms-stock",
        }
    }

    /// The facets that it writes.
    pub(super) fn facets(self) -> &'static str {
        match self {
            System::Pim => "content.*",
            System::Erp => "price.*",
            System::Oms => "stock.*",
        }
    }

    /// The settings of its mapper.
    pub(super) fn settings(self) -> Value {
        match self {
            System::Pim => json!({ "locales": ["de_DE", "fr_FR"], "scope": "ecommerce" }),
            System::Erp => {
                json!({ "kind": "COND_A", "price_lists": { "1000/10/01": "de-retail", "2000/10/02": "fr-retail" } })
            }
            System::Oms => json!({ "locations": { "24826418": "berlin", "74852401": "lyon" } }),
        }
    }

    /// The media type of a request with one event, or with many.
    pub(super) fn content_type(self, many: bool) -> &'static str {
        match (self, many) {
            (System::Erp, _) => "application/xml",
            (_, true) => "application/x-ndjson",
            (_, false) => "application/json",
        }
    }

    /// Writes the body of a request about these products. IDocs are in one document, other events
    /// one per line.
    pub(super) fn write(
        self,
        keys: impl Iterator<Item = u64>,
        numbers: &AtomicU64,
        body: &mut Vec<u8>,
    ) {
        if self == System::Erp {
            put(body, "<?xml version=\"1.0\" encoding=\"UTF-8\"?><COND_A04>");
        }
        for key in keys {
            self.write_one(key, numbers.fetch_add(1, Ordering::Relaxed), body);
            if self != System::Erp {
                body.push(b'\n');
            }
        }
        if self == System::Erp {
            put(body, "</COND_A04>");
        }
    }

    /// One event about the product `key`; its values and its version are derived from `number`.
    pub(super) fn write_one(self, key: u64, number: u64, body: &mut Vec<u8>) {
        match self {
            System::Pim => product(key, number, body),
            System::Erp => condition(key, number, body),
            System::Oms => level(key, number, body),
        }
    }
}

fn product(key: u64, number: u64, body: &mut Vec<u8>) {
    put(body, r#"{"product":{"uuid":"0190fe8a-6213-76ce-8a9f-ba36a"#);
    digits(body, key, 7);
    put(body, r#"","identifier":""#);
    digits(body, key, 7);
    put(
        body,
        r#"","family":"lamps","enabled":true,"parent":null,"categories":["lighting","lighting_desk"],"values":{"#,
    );
    put(
        body,
        r#""name":[{"locale":"de_DE","scope":null,"data":"Tischleuchte Fjord "#,
    );
    digits(body, number, 10);
    put(
        body,
        r#""},{"locale":"fr_FR","scope":null,"data":"Lampe de table Fjord "#,
    );
    digits(body, number, 10);
    put(
        body,
        r#""}],"description":[{"locale":"de_DE","scope":"ecommerce","data":"<p>Esche &amp; Messing, handgemacht, mit Schalter am Kabel.</p>"},"#,
    );
    put(
        body,
        r#"{"locale":"fr_FR","scope":"ecommerce","data":"<p>Frêne et laiton, fait à la main, interrupteur sur le câble.</p>"},"#,
    );
    put(
        body,
        r#"{"locale":"de_DE","scope":"print","data":"Esche, Messing."}],"#,
    );
    put(
        body,
        r#""cord_length":[{"locale":null,"scope":null,"data":{"amount":"1.8000","unit":"METER"}}]},"#,
    );
    put(body, r#""created":"2019-03-04T10:00:00+00:00","updated":""#);
    time(body, number);
    put(body, r#""},"author":{"identifier":"julia","type":"user"}}"#);
}

fn condition(key: u64, number: u64, body: &mut Vec<u8>) {
    put(body, r#"<IDOC BEGIN="1"><EDI_DC40 SEGMENT="1"><DOCNUM>"#);
    digits(body, number, 16);
    put(
        body,
        "</DOCNUM><STATUS>30</STATUS><DIRECT>1</DIRECT><IDOCTYP>COND_A04</IDOCTYP><MESTYP>COND_A</MESTYP><SNDPRN>PRDCLNT100</SNDPRN>",
    );
    put(
        body,
        "<CREDAT>20261123</CREDAT><CRETIM>081441</CRETIM><SERIAL>",
    );
    digits(body, number, 14);
    put(
        body,
        r#"</SERIAL></EDI_DC40><E1KOMG SEGMENT="1"><KSCHL>PR00</KSCHL>"#,
    );
    put(
        body,
        match number % 2 {
            0 => "<VKORG>1000</VKORG><VTWEG>10</VTWEG><PLTYP>01</PLTYP><MATNR>",
            _ => "<VKORG>2000</VKORG><VTWEG>10</VTWEG><PLTYP>02</PLTYP><MATNR>",
        },
    );
    digits(body, key, 18);
    put(body, r#"</MATNR><E1KONH SEGMENT="1"><KNUMH>"#);
    digits(body, number, 10);
    put(
        body,
        r#"</KNUMH><DATAB>20261101</DATAB><DATBI>99991231</DATBI><E1KONP SEGMENT="1"><KSCHL>PR00</KSCHL><KBETR>"#,
    );
    digits(body, 1 + number % 9_973, 4);
    put(
        body,
        ".90</KBETR><KONWA>EUR</KONWA><KPEIN>1</KPEIN><KMEIN>PCE</KMEIN></E1KONP></E1KONH></E1KOMG></IDOC>",
    );
}

fn level(key: u64, number: u64, body: &mut Vec<u8>) {
    let location = if number.is_multiple_of(2) {
        "24826418"
    } else {
        "74852401"
    };
    put(body, r#"{"inventory_item_id":49148"#);
    digits(body, key, 7);
    put(body, r#","location_id":"#);
    put(body, location);
    put(body, r#","available":"#);
    digits(body, 1_000 + number % 9_000, 4);
    put(body, r#","updated_at":""#);
    time(body, number);
    put(body, r#"","sku":""#);
    digits(body, key, 7);
    put(
        body,
        r#"","admin_graphql_api_id":"gid://shopify/InventoryLevel/"#,
    );
    put(body, location);
    put(body, "?inventory_item_id=49148");
    digits(body, key, 7);
    put(body, r#""}"#);
}

fn put(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(text.as_bytes());
}

/// The last `count` digits of a number, with zeros before it.
fn digits(body: &mut Vec<u8>, mut number: u64, count: usize) {
    let start = body.len();
    body.resize(start + count, b'0');
    for digit in body[start..].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The time this many milliseconds after the start of the year, for up to four weeks.
fn time(body: &mut Vec<u8>, number: u64) {
    let (day, milli) = (1 + number / 86_400_000 % 28, number % 86_400_000);
    put(body, "2026-01-");
    digits(body, day, 2);
    body.push(b'T');
    digits(body, milli / 3_600_000, 2);
    body.push(b':');
    digits(body, milli / 60_000 % 60, 2);
    body.push(b':');
    digits(body, milli / 1_000 % 60, 2);
    body.push(b'.');
    digits(body, milli % 1_000, 3);
    body.push(b'Z');
}

/// The products, and the draws that determine which of them the events are about.
pub(super) struct Products {
    count: u32,
    draws: Vec<u32>,
}

impl Products {
    /// Creates this many products and makes the draws in advance.
    pub(super) fn new(count: u32) -> Products {
        let count = count.clamp(1, 9_000_000);
        let mut sum = 0.0;
        let reached: Vec<f64> = (1..=count)
            .map(|rank| {
                sum += f64::from(rank).powf(-SKEW);
                sum
            })
            .collect();
        let mut chance = fastrand::Rng::with_seed(4_711);
        let draw = |_| {
            let at = chance.f64() * sum;
            let rank = reached
                .partition_point(|reached| *reached < at)
                .min(reached.len() - 1);
            u32::try_from(rank as u64 * SCATTER % u64::from(count)).unwrap_or_default()
        };
        Products {
            count,
            draws: (0..DRAWS).map(draw).collect(),
        }
    }

    /// Number of products.
    pub(super) fn count(&self) -> usize {
        self.count as usize
    }

    /// The key of the n-th product.
    pub(super) fn key(&self, n: usize) -> u64 {
        FIRST_KEY + n as u64
    }

    /// The key of the n-th draw.
    pub(super) fn drawn(&self, n: usize) -> u64 {
        FIRST_KEY + u64::from(self.draws[n % DRAWS])
    }
}

#[cfg(test)]
mod tests {
    use weir_plugin::Event;

    use super::*;

    fn one(system: System) -> String {
        let mut body = Vec::new();
        system.write_one(1_000_042, 90_061_001, &mut body);
        String::from_utf8(body).expect("text")
    }

    #[test]
    fn each_event_is_what_its_mapper_understands_and_they_have_six_hundred_bytes() {
        let settings = System::Pim.settings().to_string();
        let changes = pim_product::changes(
            &Event::of(one(System::Pim)),
            &pim_product::Settings::parse(&settings).expect("settings"),
        )
        .expect("changes");
        let facets: Vec<&str> = changes.iter().map(|change| &*change.facet).collect();
        assert_eq!(
            (facets, &*changes[0].key),
            (vec!["content.de_DE", "content.fr_FR"], "1000042")
        );
        // The second day of the year, one minute and a second after one o'clock.
        assert_eq!(changes[0].version, Some(1_767_225_600_000 + 90_061_001));

        let settings =
            erp_product::Settings::parse(&System::Erp.settings().to_string()).expect("settings");
        let changes = erp_product::changes(&one(System::Erp), &settings).expect("changes");
        assert_eq!(
            (changes.len(), &*changes[0].key, &*changes[0].facet),
            (1, "1000042", "price.fr-retail")
        );
        assert_eq!(changes[0].version, Some(90_061_001));

        let settings =
            oms_stock::Settings::parse(&System::Oms.settings().to_string()).expect("settings");
        let changes = oms_stock::changes(&Event::of(one(System::Oms)), &settings).expect("changes");
        assert_eq!(
            (changes.len(), &*changes[0].key, &*changes[0].facet),
            (1, "1000042", "stock.lyon")
        );

        let bytes: usize = System::ALL
            .into_iter()
            .map(|system| one(system).len())
            .sum();
        assert!(
            (550..650).contains(&(bytes / 3)),
            "{} bytes on average",
            bytes / 3
        );
    }

    #[test]
    fn a_few_products_are_spoken_of_most_of_the_time_and_none_is_left_out_for_good() {
        let products = Products::new(1_000);
        let mut seen = vec![0u32; 1_000];
        (0..DRAWS).for_each(|n| seen[(products.drawn(n) - FIRST_KEY) as usize] += 1);
        let all: u32 = seen.iter().sum();
        assert!(
            seen[0] * 100 / all >= 12,
            "{} of {all} events are about the first product",
            seen[0]
        );
        assert!(seen.iter().all(|count| *count > 0));
    }
}
