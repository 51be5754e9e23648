//! The pictures of the console in the README. `WEIR_PICTURES=runtime/docs/images cargo test --test journeys pictures`
//! takes them anew; without the variable they are taken and thrown away, to see that they can be.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::{Act, Receiver, Stage, change, eventually};

/// Twelve shops, one of which is away, and a search index.
const CONFIG: &str = r#"
[each.site.at]
name = "at"
[each.site.be]
name = "be"
[each.site.ch]
name = "ch"
[each.site.cz]
name = "cz"
[each.site.de]
name = "de"
[each.site.dk]
name = "dk"
[each.site.es]
name = "es"
[each.site.fr]
name = "fr"
[each.site.it]
name = "it"
[each.site.nl]
name = "nl"
[each.site.se]
name = "se"
[entities.product]
facets.content = { owner = "pim" }
facets."price.*" = { owner = "erp", lane = "urgent" }
facets."stock.*" = { owner = "oms", lane = "urgent" }
[sources.erp]
[sources.oms]
[sources.pim]
[targets.shop]
kind = "webhook"
url = "{shop}"
[targets.search]
kind = "webhook"
url = "{search}"
timeout = "1s"
[channels.search]
entity = "product"
facets = ["content", "price.*"]
target = "search"
freshness = "30s"
retry = { first = "20ms", cap = "100ms" }
[channels.shop]
for_each = "site"
entity = "product"
facets = ["content", "price.*", "stock.*"]
target = "shop"
freshness = "60s"
"#;

#[test]
fn pictures_of_the_console_can_be_taken() {
    let Some(browser) = Browser::start("the pictures of the console") else {
        return;
    };
    let search = Receiver::start();
    let stage = Stage::with(&CONFIG.replace("{search}", &search.url()));
    stage.shop.does(|delivery| match delivery.key() {
        "lamp-7" => Act::Say(400, "unknown category: lamps".to_owned()),
        _ => Act::Answer(200),
    });
    let content = |key: &str, title: &str| {
        change(key, "content", json!({ "title": title, "weight": "1.20" }))
    };
    let products = ["chair-1", "desk-2", "sofa-3", "lamp-7"].map(|key| content(key, "Lamp Fjord"));
    stage.takes("pim", &products);
    stage.takes(
        "erp",
        &[change("lamp-7", "price.de", json!({ "amount": "9.90" }))],
    );
    stage.takes("oms", &[change("lamp-7", "stock.berlin", json!(12))]);
    for site in ["at", "be", "de"] {
        stage.settles(&format!("shop.{site}"));
    }
    search.does(|_| Act::Answer(503));
    stage.operate("shop.se", "pause");
    stage.send(
        "pim",
        &[("content-type", "application/json")],
        b"{\"type\": \"nothing\"}",
    );
    let many: Vec<Value> = (0..40)
        .map(|number| content(&format!("shelf-{number}"), "Shelf"))
        .collect();
    stage.takes("pim", &many);
    stage.takes("pim", &[content("desk-2", "Desk Fjord")]);
    stage.channel_is("search", "tripped");
    eventually("the lamp is refused", || {
        (stage.refused("shop.de").len() == 1).then_some(())
    });
    let folder = std::env::var_os("WEIR_PICTURES").map(PathBuf::from);
    // The tests run in the folder of their crate.
    let folder = folder.map(|folder| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder)
    });
    let desk = "?view=entity&type=product&key=desk-2";
    for (name, query, width, height, scheme, shown) in [
        ("overview-light", "", 1200, 760, "light", "is paused"),
        ("overview-phone-dark", "", 390, 760, "dark", "is paused"),
        ("entity-dark", desk, 1200, 760, "dark", "What just happened"),
        (
            "entity-phone-light",
            desk,
            390,
            760,
            "light",
            "What just happened",
        ),
    ] {
        browser.is_sized(width, height);
        browser.prefers(scheme);
        browser.goes_to(&format!("http://{}/{query}", stage.weir().address()));
        browser.shows(shown);
        browser.sees(
            "what is live",
            "document.documentElement.dataset.link === 'open'",
        );
        let picture = browser.picture();
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() > 10_000,
            "{name}"
        );
        if let Some(folder) = &folder {
            let file = folder.join(format!("{name}.png"));
            std::fs::write(&file, &picture)
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
