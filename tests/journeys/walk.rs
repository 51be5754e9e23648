//! A walk through the views of the console: what holds in all of them, what they say to who listens, and what
//! they ask before something is lost.

use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER, ESCAPE};
use crate::support::stage::CATALOG;
use crate::support::{Act, Stage, change, deletion, eventually, guests};

/// A key that an address could take for its own parts.
const AWKWARD: &str = "a/b#c%d?e&f=g+h";

/// A page, a terminal or a reader from right to left would obey some of it; it is long as well.
fn hostile() -> String {
    format!(
        "<script>document.title='owned'</script>\u{1b}[31m\u{202e}{}",
        "\u{1f6cb}".repeat(1024)
    )
}

/// A source with a plugin, one without, and a shop that refuses a product.
fn stage() -> Stage {
    let config = CATALOG.replace(
        "[sources.erp]",
        "[plugins.mapper]\npath = \"mapper.wasm\"\n[sources.erp]\nplugins = [\"mapper\"]",
    );
    let config = config.replace(
        "facets.content",
        "facets.base = { owner = \"erp\" }\nfacets.content",
    );
    let mut stage = Stage::closed(&config);
    stage.place("mapper.wasm", &guests::versioned::mapper_saying(&hostile()));
    stage.start();
    stage
        .shop
        .does(|_| Act::Say(400, "no such category".to_owned()));
    stage.takes("pim", &[change(AWKWARD, "content", json!({ "n": 1 }))]);
    stage.stands_refused();
    let foreign = change("lamp", "price.de", json!(1)).to_string();
    let head = [("content-type", "application/json")];
    stage.send("pim", &head, foreign.as_bytes());
    stage
}

impl Stage {
    fn stands_refused(&self) {
        eventually("the product is refused", || {
            (self.refused("shop").len() == 1).then_some(())
        });
    }

    fn console(&self, query: &str) -> String {
        format!("http://{}/{query}", self.weir().address())
    }
}

fn main_text(browser: &Browser) -> String {
    let text = browser.run("return document.getElementById('main').innerText", &[]);
    text.as_str().expect("a text").to_owned()
}

fn press(browser: &Browser, label: &str) {
    browser.tabs_to(label);
    browser.types(ENTER);
}

// One view broke the policy of the page, one lost its filter in a link, and one showed local times.
#[test]
fn every_view_keeps_the_policy_the_zone_and_what_was_asked_for() {
    let Some(browser) = Browser::start("a walk through the console") else {
        return;
    };
    let stage = stage();
    let event = json!({"specversion": "1.0", "id": "one", "source": "erp", "type": "x", "data": 1});
    let head = [("content-type", "application/cloudevents+json")];
    stage.send("erp", &head, event.to_string().as_bytes());
    browser.goes_to(&stage.console(""));
    browser.shows("does not take 1 entity as they are");
    browser.run("localStorage.setItem('weir-zone', 'UTC')", &[]);
    let awkward = "?view=entity&type=product&key=a%2Fb%23c%25d%3Fe%26f%3Dg%2Bh";
    for (query, shown, has_zone) in [
        ("?view=overview&only=sho", "Channel", false),
        (
            "?view=channel&name=shop&code=refused",
            "no such category",
            true,
        ),
        (awkward, AWKWARD, true),
        ("?view=source&name=pim&code=foreign", "foreign: ", true),
        ("?view=plugins", "Cost of a call", true),
        ("?view=configuration", "Reload the configuration", true),
    ] {
        browser.goes_to(&stage.console(query));
        for reloaded in [false, true] {
            browser.shows(shown);
            let open = "document.querySelectorAll('details').forEach((it) => it.open = true)";
            browser.run(open, &[]);
            let text = main_text(&browser);
            assert!(
                !text.contains("+01:00") && !text.contains("+02:00"),
                "{text}"
            );
            if has_zone {
                browser.shows("As of ");
                assert!(main_text(&browser).contains(" UTC"), "{query}: {text}");
            }
            if !reloaded {
                browser.run("location.reload()", &[]);
            }
        }
    }
    browser.goes_to(&stage.console("?view=overview&only=nothing"));
    let rows = "document.querySelectorAll('tbody tr').length === 0";
    browser.sees("no row, because of the filter in the address", rows);
    browser.goes_to(&stage.console("?view=source&name=pim&code=nothing"));
    browser.shows("None.");
    browser.goes_to(&stage.console("?view=plugins"));
    browser.shows("(n = ");
    browser.shows("Failed calls");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

// What a plugin logs comes from whoever sends the event, as often as not.
#[test]
fn what_a_plugin_logs_is_shown_as_text() {
    let Some(browser) = Browser::start("a hostile line of a plugin's log in the console") else {
        return;
    };
    let stage = stage();
    browser.goes_to(&stage.console("?view=source&name=erp"));
    press(
        &browser,
        "See what would become of an event; nothing of it is kept",
    );
    let event = json!({"specversion": "1.0", "id": "one", "source": "erp", "type": "x", "data": 1});
    let fill = "document.getElementById('try-body').value = arguments[0];
                document.getElementById('try-type').value = 'application/cloudevents+json'";
    browser.run(fill, &[json!(event.to_string())]);
    press(&browser, "Show what becomes of it");
    // The host leaves controls out already.
    browser.shows("<script>document.title='owned'</script> [31m\\u202e\u{1f6cb}");
    assert_ne!(browser.run("return document.title", &[]), "owned");
    // The page does not become wider than its window.
    let wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(browser.run(wide, &[]), false);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    let log = stage.weir().log();
    assert!(!log.contains(['\u{1b}', '\u{202e}']), "{log:?}");
}

// Somebody released what was held on the wrong channel, with one press of a key.
#[test]
fn what_a_target_would_lose_asks_for_the_name() {
    let Some(browser) = Browser::start("a name that must be typed") else {
        return;
    };
    let config = CATALOG.to_owned() + "withdraw_max = { share = \"0%\", min = 0 }\n";
    let stage = Stage::with(&config);
    stage.takes("pim", &[change("sofa", "content", json!(1))]);
    stage.stands("sofa", "shop", "delivered");
    stage.takes("pim", &[deletion("sofa", "content")]);
    stage.stands("sofa", "shop", "held");
    browser.goes_to(&stage.console("?view=channel&name=shop"));
    browser.shows("Release 1 withdrawal of shop");
    press(&browser, "Release 1 withdrawal of shop");
    browser.shows("Type shop to confirm");
    browser.types(&format!("ship{ENTER}"));
    browser.shows("Type shop to confirm");
    browser.types(ESCAPE);
    browser.sees("no question", "!document.querySelector('dialog')");
    assert_eq!(stage.standing("sofa", "shop")["state"], "held");
    browser.types(ENTER);
    browser.shows("Type shop to confirm");
    browser.types(&format!("shop{ENTER}"));
    browser.shows("shop goes on.");
    stage.stands("sofa", "shop", "withdrawn");
}

// A number that ticked inside was read out each second, and a row that moved lost the focus to the page.
#[test]
fn who_listens_is_told_of_troubles_once_and_keeps_the_place() {
    let Some(browser) = Browser::start("what a screen reader is told") else {
        return;
    };
    let second = CATALOG.split_once("[channels.shop]").expect("a channel").1;
    let stage = Stage::with(&format!("{CATALOG}[channels.app]{second}"));
    browser.goes_to(&stage.console(""));
    browser.shows("Nothing is wrong.");
    let listen = "window.told = [];
        const status = document.querySelector('[role=status]');
        new MutationObserver(() => window.told.push(status.textContent)).observe(status, { childList: true, characterData: true, subtree: true });";
    browser.run(listen, &[]);
    browser.tabs_to("shop");
    stage.operate("shop", "pause");
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    browser.shows("the oldest change for ");
    // The row has moved to the top, and has the focus.
    browser.sees(
        "the focus in the first row",
        "document.querySelector('tbody tr')?.contains(document.activeElement)",
    );
    let focus = browser.run("return document.activeElement.innerText", &[]);
    assert_eq!(focus, "shop");
    let ticks =
        "(window.texts ??= new Set()).add(document.querySelector('.wrong').innerText).size >= 4";
    browser.sees("a number that ticks", ticks);
    let told = browser.run("return window.told", &[]);
    let told: Vec<&str> = told
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("Channel shop is paused"), "{told:?}");
    stage.operate("shop", "resume");
    browser.sees(
        "that it is over",
        "window.told.at(-1) === 'Nothing is wrong any more.'",
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

// After an action, what it had done was written over the buttons at the end of the page.
#[test]
fn what_has_the_focus_is_never_behind_the_note() {
    let Some(browser) = Browser::start("the focus under a note") else {
        return;
    };
    let stage = stage();
    browser.is_sized(480, 600);
    browser.goes_to(&stage.console("?view=channel&name=shop"));
    browser.shows("no such category");
    press(&browser, "Pause shop");
    browser.sees("a note", "document.getElementById('note')");
    let covered = "const it = document.activeElement, box = it.getBoundingClientRect(), \
         note = document.getElementById('note')?.getBoundingClientRect(); \
         return [it.innerText || it.getAttribute('aria-label') || it.tagName, note && it !== document.body ? box.bottom > note.top && box.top < note.bottom \
         && box.right > note.left && box.left < note.right : null]";
    let first = browser.run(covered, &[]);
    let mut seen = 0;
    loop {
        browser.types(crate::support::browser::TAB);
        let found = browser.run(covered, &[]);
        if found[1].is_null() || found[0] == first[0] || seen > 100 {
            break;
        }
        assert_eq!(found[1], false, "{}", found[0]);
        seen += 1;
    }
    assert!(
        seen > 5,
        "{seen} stations of the tab key while the note was there"
    );
}
