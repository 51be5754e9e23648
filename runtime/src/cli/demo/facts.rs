//! The facts that the three systems know, and the state that each channel must therefore hold. It
//! is computed from the facts alone, without Weir's code or the plugins', so that the comparison at
//! the end is independent of both.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The sites with their languages; a site's price list is named after it.
pub(super) const SITES: [(&str, &str); 3] = [("de", "de_DE"), ("fr", "fr_FR"), ("at", "de_AT")];
/// The price lists.
pub(super) const PRICE_LISTS: [&str; 3] = ["de-retail", "fr-retail", "at-retail"];
/// The places with stock.
pub(super) const LOCATIONS: [&str; 2] = ["berlin", "lyon"];
/// All channels of the example.
pub(super) const CHANNELS: [&str; 4] =
    ["storefront.de", "storefront.fr", "storefront.at", "search"];

/// Products in the catalogue.
const PRODUCTS: usize = 300;
/// The first key; the others follow it.
const FIRST: usize = 4711;

/// The content of a product as the PIM has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) enabled: bool,
    pub(super) family: &'static str,
    pub(super) categories: [&'static str; 1],
    /// Number of the text's edition; an editor's change raises it.
    pub(super) edition: u32,
    /// Whether the French texts exist.
    pub(super) in_french: bool,
    pub(super) name_de: String,
    pub(super) name_fr: String,
}

/// A product: the facts of all three systems.
#[derive(Clone, Debug)]
struct Product {
    content: Content,
    /// Price list → cents.
    prices: BTreeMap<&'static str, u32>,
    stock: BTreeMap<&'static str, i64>,
}

/// Everything that the systems have sent.
pub(super) struct Facts {
    products: BTreeMap<String, Product>,
    /// Channel → changes of facets that it subscribes to.
    pub(super) news: BTreeMap<&'static str, u64>,
}

impl Content {
    fn new(at: usize) -> Content {
        const KINDS: [(&str, &str, &str); 6] = [
            ("Tischleuchte", "Lampe de table", "lamps"),
            ("Stehleuchte", "Lampadaire", "lamps"),
            ("Regal", "Étagère", "shelves"),
            ("Hocker", "Tabouret", "seats"),
            ("Spiegel", "Miroir", "mirrors"),
            ("Teppich", "Tapis", "rugs"),
        ];
        const SERIES: [&str; 10] = [
            "Fjord", "Alba", "Linde", "Nord", "Sol", "Kiesel", "Moor", "Falke", "Insel", "Brise",
        ];
        let ((de, fr, family), series) = (
            KINDS[at % KINDS.len()],
            SERIES[at / KINDS.len() % SERIES.len()],
        );
        let number = at / (KINDS.len() * SERIES.len()) + 1;
        let (name_de, name_fr) = (
            format!("{de} „{series} {number}“"),
            format!("{fr} «{series} {number}»"),
        );
        Content {
            enabled: true,
            family,
            categories: ["home"],
            edition: 1,
            in_french: true,
            name_de,
            name_fr,
        }
    }

    /// The ERP's short text for it.
    pub(super) fn short_text(&self) -> &str {
        &self.name_de
    }

    /// Locale → name, if it is translated.
    pub(super) fn names(&self) -> [(&'static str, Option<String>); 3] {
        let french = self.in_french.then(|| self.name_fr.clone());
        [
            ("de_DE", Some(self.name_de.clone())),
            ("de_AT", Some(self.name_de.clone())),
            ("fr_FR", french),
        ]
    }

    /// Locale → description, if it is translated.
    pub(super) fn descriptions(&self) -> [(&'static str, Option<String>); 3] {
        let german = format!("<p>{}, Text {}.</p>", self.name_de, self.edition);
        let french = self
            .in_french
            .then(|| format!("<p>{}, texte {}.</p>", self.name_fr, self.edition));
        [
            ("de_DE", Some(german.clone())),
            ("de_AT", Some(german)),
            ("fr_FR", french),
        ]
    }
}

impl Facts {
    /// A catalogue whose products exist but have no facts yet.
    pub(super) fn new() -> Facts {
        let product = |at: usize| Product {
            content: Content::new(at),
            prices: BTreeMap::new(),
            stock: BTreeMap::new(),
        };
        Facts {
            products: (0..PRODUCTS)
                .map(|at| ((FIRST + at).to_string(), product(at)))
                .collect(),
            news: CHANNELS.iter().map(|channel| (*channel, 0)).collect(),
        }
    }

    /// All keys.
    pub(super) fn keys(&self) -> Vec<String> {
        self.products.keys().cloned().collect()
    }

    /// The current content of a product.
    pub(super) fn content(&self, key: &str) -> Content {
        self.products
            .get(key)
            .map_or_else(|| Content::new(0), |product| product.content.clone())
    }

    /// Records that the PIM has sent all products for the first time.
    pub(super) fn introduce(&mut self) {
        for (site, _) in SITES {
            self.count(site, PRODUCTS as u64);
        }
        self.count("search", 3 * PRODUCTS as u64);
    }

    /// Records new content of a product, from the PIM.
    pub(super) fn set_content(&mut self, key: &str, content: Content) {
        let Some(product) = self.products.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut product.content, content.clone());
        let texts = |content: &Content| (content.enabled, content.names(), content.descriptions());
        let of = |content: &Content, at: usize| {
            let (enabled, names, descriptions) = texts(content);
            names[at]
                .1
                .clone()
                .map(|name| (enabled, name, descriptions[at].1.clone()))
        };
        for (at, (locale, _)) in before.names().iter().enumerate() {
            if of(&before, at) != of(&content, at) {
                let site = SITES
                    .iter()
                    .find(|(_, of)| of == locale)
                    .map_or("", |(site, _)| *site);
                self.count(site, 1);
                self.count("search", 1);
            }
        }
    }

    /// Records a new price, or the deletion of one, from the ERP.
    pub(super) fn set_price(&mut self, key: &str, list: &'static str, cents: Option<u32>) {
        let Some(product) = self.products.get_mut(key) else {
            return;
        };
        let before = match cents {
            Some(cents) => product.prices.insert(list, cents),
            None => product.prices.remove(list),
        };
        if before != cents {
            self.count(&list[..2], 1);
            self.count("search", 1);
        }
    }

    /// Records a new stock level, from the OMS.
    pub(super) fn set_stock(&mut self, key: &str, location: &'static str, available: i64) {
        let Some(product) = self.products.get_mut(key) else {
            return;
        };
        if product.stock.insert(location, available) != Some(available) {
            for (site, _) in SITES {
                self.count(site, 1);
            }
            self.count("search", 1);
        }
    }

    fn count(&mut self, of: &str, changes: u64) {
        let of = self.news.iter_mut().find(|(channel, _)| {
            **channel == of || channel.strip_prefix("storefront.") == Some(of)
        });
        if let Some((_, count)) = of {
            *count += changes;
        }
    }

    /// The rendering of a product that a channel must hold; `None` if it must not have the product.
    /// `shops` is the base URL of the shops.
    pub(super) fn expected(&self, channel: &str, key: &str, shops: &str) -> Option<Value> {
        let product = self.products.get(key)?;
        match channel.strip_prefix("storefront.") {
            Some(site) => product.page(site, key, shops),
            None => product.document(key),
        }
    }
}

impl Product {
    /// A site's page of a product, in the site's language and with its price; only while the
    /// product is in stock.
    fn page(&self, site: &str, key: &str, shops: &str) -> Option<Value> {
        let (_, locale) = *SITES.iter().find(|(name, _)| *name == site)?;
        let in_language =
            |texts: [(&str, Option<String>); 3]| texts.into_iter().find(|(of, _)| *of == locale)?.1;
        let cents = *self.prices.get(format!("{site}-retail").as_str())?;
        let available: i64 = self.stock.values().sum();
        let shown = self.content.enabled && available >= 1;
        let name = in_language(self.content.names()).filter(|_| shown)?;
        Some(json!({
            "sku": key,
            "locale": locale,
            "name": name,
            "description": in_language(self.content.descriptions()),
            "price": { "amount": amount(cents), "currency": "EUR" },
            "available": available,
            "in_stock": true,
            "url": format!("{shops}/{site}/p/{key}"),
        }))
    }

    /// A product's document in the search index, with all languages and prices, whether it is in
    /// stock or not.
    fn document(&self, key: &str) -> Option<Value> {
        if !self.content.enabled {
            return None;
        }
        let texts = |texts: [(&'static str, Option<String>); 3]| -> BTreeMap<&str, String> {
            texts
                .into_iter()
                .filter_map(|(locale, text)| Some((locale, text?)))
                .collect()
        };
        let prices: BTreeMap<_, _> = self
            .prices
            .iter()
            .map(|(list, cents)| {
                (
                    *list,
                    json!({ "amount": amount(*cents), "currency": "EUR" }),
                )
            })
            .collect();
        let available: i64 = self.stock.values().sum();
        Some(json!({
            "id": format!("product-{key}"),
            "key": key,
            "names": texts(self.content.names()),
            "descriptions": texts(self.content.descriptions()),
            "categories": self.content.categories,
            "family": self.content.family,
            "prices": prices,
            "available": available,
            "in_stock": available > 0,
        }))
    }
}

/// Cents as decimal text.
pub(super) fn amount(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_there_while_it_has_a_price_a_text_and_stock() {
        let mut facts = Facts::new();
        let page = |facts: &Facts, site: &str| {
            facts.expected(&format!("storefront.{site}"), "4711", "http://shops")
        };
        assert_eq!(page(&facts, "de"), None, "no price yet");
        facts.set_price("4711", "de-retail", Some(1290));
        facts.set_price("4711", "fr-retail", Some(1190));
        assert_eq!(page(&facts, "de"), None, "no stock yet");
        facts.set_stock("4711", "lyon", 2);
        let german = page(&facts, "de").expect("a page");
        assert_eq!(
            (&german["price"]["amount"], &german["url"]),
            (&json!("12.90"), &json!("http://shops/de/p/4711"))
        );
        assert_eq!(page(&facts, "at"), None, "no price there");
        facts.set_content(
            "4711",
            Content {
                in_french: false,
                ..facts.content("4711")
            },
        );
        assert_eq!(
            (page(&facts, "fr"), page(&facts, "de").is_some()),
            (None, true)
        );
        facts.set_stock("4711", "berlin", -2);
        assert_eq!(page(&facts, "de"), None);
        assert_eq!(
            facts.expected("search", "4711", "").expect("a document")["in_stock"],
            json!(false)
        );
    }

    #[test]
    fn a_change_counts_for_those_who_subscribe_to_it_and_only_if_it_is_one() {
        let mut facts = Facts::new();
        let mut told = |change: &dyn Fn(&mut Facts)| {
            let before: Vec<u64> = CHANNELS.iter().map(|channel| facts.news[channel]).collect();
            change(&mut facts);
            CHANNELS
                .iter()
                .zip(before)
                .map(|(channel, before)| facts.news[channel] - before)
                .collect::<Vec<u64>>()
        };
        assert_eq!(
            told(&|facts| facts.set_price("4711", "at-retail", Some(1))),
            [0, 0, 1, 1]
        );
        assert_eq!(
            told(&|facts| facts.set_price("4711", "at-retail", Some(1))),
            [0, 0, 0, 0]
        );
        assert_eq!(
            told(&|facts| facts.set_stock("4711", "lyon", 1)),
            [1, 1, 1, 1]
        );
        let without_french = |facts: &mut Facts| {
            facts.set_content(
                "4711",
                Content {
                    in_french: false,
                    ..facts.content("4711")
                },
            )
        };
        assert_eq!(told(&without_french), [0, 1, 0, 1]);
        let edited = |facts: &mut Facts| {
            facts.set_content(
                "4711",
                Content {
                    edition: 2,
                    ..facts.content("4711")
                },
            )
        };
        assert_eq!(
            told(&edited),
            [1, 0, 1, 2],
            "what is not translated does not change"
        );
    }
}
