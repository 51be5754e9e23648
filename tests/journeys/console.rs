//! The console in a real browser: what people see, do with the keyboard alone, and cannot be tricked into.

use serde_json::{Value, json};

use crate::support::browser::{Browser, ENTER, ESCAPE};
use crate::support::parts::script;
use crate::support::stage::{CATALOG, TOKENS};
use crate::support::{Act, Stage, change, eventually};

/// Text that a page, a terminal or a reader from right to left would obey.
const HOSTILE: &str = "<script>document.title='owned'</script>\u{202e}\u{1b}[31m\u{0}\u{200b}\u{85}\u{7f}\u{ad}\u{61c}\u{2028}\u{2066}\u{feff}";

/// A shop that takes everything but `lamp-7`, which it does not know where to put.
fn sick() -> Stage {
    let stage = Stage::catalog();
    stage.shop.does(|delivery| match delivery.key() {
        "lamp-7" => Act::Say(400, "no such category: lamps".to_owned()),
        _ => Act::Answer(200),
    });
    let products = ["lamp-7", "chair-1", "desk-2"];
    let changes = products.map(|key| change(key, "content", json!({ "title": key })));
    stage.takes("pim", &changes);
    stage.stands("lamp-7", "shop", "refused");
    stage.settles("shop");
    stage
}

fn console(stage: &Stage, query: &str) -> String {
    format!("http://{}/{query}", stage.weir().address())
}

#[track_caller]
fn no_complaints(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn who_has_only_a_keyboard_finds_a_sick_channel_and_heals_it() {
    let Some(browser) = Browser::start("the console by keyboard") else {
        return;
    };
    let stage = sick();
    browser.goes_to(&console(&stage, ""));
    browser.shows("does not take 1 entity as they are");
    let press = |label: &str| {
        browser.tabs_to(label);
        browser.types(ENTER);
    };
    press("Look at 1 refused entity");
    browser.shows("no such category: lamps");
    press("lamp-7");
    browser.shows("■ refused");
    browser.shows("no such category: lamps");
    browser.shows("content");
    stage.shop.does(|_| Act::Answer(200));
    press("Redrive lamp-7 on shop");
    browser.shows("lamp-7 is tried again on shop.");
    stage.stands("lamp-7", "shop", "delivered");
    press("Look again");
    browser.shows("● in sync");
    press("Channel shop");
    press("Pause shop");
    browser.shows("‖ paused");
    stage.channel_is("shop", "paused");
    // Where it was is now the button that undoes it, and what happened was said.
    browser.sees(
        "the focus on the other button",
        "document.activeElement.innerText === 'Resume shop'",
    );
    browser.sees(
        "what was said",
        "document.querySelector('[role=status]').textContent.includes('shop is paused')",
    );
    browser.goes_to(&console(&stage, ""));
    browser.shows("Channel shop is paused");
    press("Resume shop");
    browser.shows("Nothing is wrong.");
    stage.channel_is("shop", "flowing");
    no_complaints(&browser);
}

#[test]
fn a_page_shows_what_just_happened_what_differs_and_how_long_changes_take() {
    let Some(browser) = Browser::start("the way of an entity in the console") else {
        return;
    };
    let stage = Stage::catalog();
    let titled = |title: &str| {
        let content = json!({ "title": title, "weight": 7 });
        stage.takes("pim", &[change("lamp-7", "content", content)]);
    };
    titled("Lamp");
    stage.settles("shop");
    stage.operate("shop", "pause");
    titled("Desk lamp");
    let lamp = "?view=entity&type=product&key=lamp-7";
    browser.goes_to(&console(&stage, lamp));
    browser.shows("What just happened");
    browser.shows("accepted from pim");
    browser.shows("sent to shop");
    browser.shows("delivered on shop");
    browser.tabs_to("Rendering for shop");
    browser.types(ENTER);
    browser.shows("it differs");
    let lines = "return [...document.querySelectorAll('pre del, pre ins')].map((it) => it.textContent.trim())";
    let marked = browser.run(lines, &[]).to_string();
    assert!(
        marked.contains("- ") && marked.contains("\\\"Lamp\\\"") && !marked.contains("weight"),
        "{marked}"
    );
    assert!(
        marked.contains("+ ") && marked.contains("\\\"Desk lamp\\\""),
        "{marked}"
    );
    browser.goes_to(&console(&stage, "?view=channel&name=shop"));
    browser.shows("Owed for longest");
    browser.shows("normal, last minute");
    stage.operate("shop", "resume");
    stage.settles("shop");
    browser.shows("Sent for each change");
    browser.shows("(n = 2)");
    no_complaints(&browser);
}

/// Everything serious that axe finds; a contrast that it cannot decide counts too.
fn findings(browser: &Browser, axe: &str) -> Value {
    browser.run(axe, &[]);
    browser.run_to_end(
        "const done = arguments[arguments.length - 1];
         const grave = (it) => ['serious', 'critical'].includes(it.impact);
         axe.run(document, { rules: { 'target-size': { enabled: true } } }).then((found) => {
           const all = found.violations.filter(grave).concat(found.incomplete.filter((it) => it.id === 'color-contrast'));
           done(all.map((it) => [it.id, it.nodes.map((node) => node.html)]));
         }, (error) => done(String(error)))",
    )
}

#[test]
fn axe_finds_nothing_serious_in_any_view_and_either_theme() {
    let Some(axe) = script("axe-core/axe.min.js", "the console's accessibility") else {
        return;
    };
    let Some(browser) = Browser::start("the console's accessibility") else {
        return;
    };
    let stage = sick();
    stage.operate("shop", "pause");
    stage.send("pim", &[], b"{\"type\": \"nothing\"}");
    for scheme in ["light", "dark"] {
        browser.prefers(scheme);
        for (query, shown) in [
            ("", "Channel shop is paused"),
            ("?view=channel&name=shop", "no such category"),
            ("?view=entity&type=product&key=lamp-7", "■ refused"),
            ("?view=source&name=pim", "Quarantine"),
            ("?view=plugins", "None"),
            ("?view=configuration", "Reload the configuration"),
        ] {
            browser.goes_to(&console(&stage, query));
            browser.shows(shown);
            let open = "document.querySelectorAll('details').forEach((it) => it.open = true)";
            browser.run(open, &[]);
            assert_eq!(findings(&browser, &axe), json!([]), "{scheme} {query}");
        }
    }
}

// A page that is left open behind others must not hold a connection, and must be right when it is seen again.
#[test]
fn a_hidden_page_gives_its_stream_up_and_is_right_when_it_is_seen_again() {
    let Some(browser) = Browser::start("a hidden page") else {
        return;
    };
    let stage = sick();
    browser.goes_to(&console(&stage, ""));
    browser.shows("does not take 1 entity as they are");
    let is = |link: &str| {
        let script = format!("document.documentElement.dataset.link === '{link}'");
        browser.sees(&format!("a stream that is {link}"), &script);
    };
    is("open");
    let turn = |hidden: bool| {
        let script = "Object.defineProperty(document, 'hidden', { value: arguments[0], configurable: true });
                      document.dispatchEvent(new Event('visibilitychange'))";
        browser.run(script, &[json!(hidden)]);
    };
    turn(true);
    is("resting");
    stage.operate("shop", "pause");
    turn(false);
    browser.shows("Channel shop is paused");
    is("open");
}

// What touches everything asks first, and nothing happens on the way out.
#[test]
fn an_action_on_everything_asks_first() {
    let Some(browser) = Browser::start("questions of the console") else {
        return;
    };
    let stage = sick();
    let before = stage.shop.count();
    browser.goes_to(&console(&stage, "?view=channel&name=shop"));
    browser.shows("Resync 3 entities");
    browser.tabs_to("Resync 3 entities");
    browser.types(ENTER);
    browser.shows("Everything is sent to the target of shop again");
    browser.types(ESCAPE);
    browser.sees("no question", "!document.querySelector('dialog')");
    browser.sees(
        "the focus where it was",
        "document.activeElement.innerText === 'Resync 3 entities'",
    );
    assert_eq!(stage.shop.count(), before);
    browser.types(ENTER);
    browser.shows("Everything is sent to the target of shop again");
    browser.tabs_to("Resync 3 entities");
    browser.types(ENTER);
    browser.shows("shop sends everything again.");
    eventually("everything was sent again", || {
        (stage.shop.count() >= before + 2).then_some(())
    });
    no_complaints(&browser);
}

// Lists lost their filters in links, axes kept another zone than texts, and what moves by itself could not be held.
#[test]
fn what_was_chosen_stays_and_a_page_can_be_held() {
    let Some(browser) = Browser::start("choices in the console") else {
        return;
    };
    let stage = sick();
    browser.goes_to(&console(&stage, ""));
    browser.shows("does not take 1 entity as they are");
    browser.run("const zone = document.querySelectorAll('#foot select')[1]; zone.value = 'UTC'; zone.dispatchEvent(new Event('change'))", &[]);
    browser.goes_to(&console(&stage, "?view=channel&name=shop&code=nothing"));
    browser.shows(" UTC (");
    let code = "document.getElementById('code').value";
    browser.sees("the filter of the link", &format!("{code} === 'nothing'"));
    browser.sees(
        "nothing",
        "document.getElementById('refused').innerText.includes('None.')",
    );
    let refuses =
        |what: &str| format!("document.querySelector('#refused a')?.innerText === '{what}'");
    browser.run("const code = document.getElementById('code'); code.value = 'refused'; code.dispatchEvent(new Event('change'))", &[]);
    browser.sees("what is refused", &refuses("lamp-7"));
    browser.run("location.reload()", &[]);
    browser.sees(
        "the filter after a reload",
        &format!("{code} === 'refused'"),
    );
    browser.sees("what is refused", &refuses("lamp-7"));
    browser.tabs_to("Payload of lamp-7");
    browser.types(ENTER);
    browser.shows("Would go out now");
    browser.shows("\"title\":\"lamp-7\"");
    browser.tabs_to("Pause updates");
    browser.types(ENTER);
    browser.shows("Updates are paused.");
    stage.operate("shop", "pause");
    let state = "document.querySelector('.state-line').innerText";
    browser.run_to_end("setTimeout(arguments[arguments.length - 1], 3000)");
    browser.sees(
        "the state from before",
        &format!("{state}.includes('flowing')"),
    );
    browser.types(ENTER);
    browser.sees("the state now", &format!("{state}.includes('paused')"));
    no_complaints(&browser);
}

// Waits that are cut to a maximum after they were spread meet there.
#[test]
fn pages_that_lost_their_weir_do_not_come_back_together() {
    let Some(browser) = Browser::start("the herd of consoles") else {
        return;
    };
    let stage = Stage::catalog();
    browser.goes_to(&console(&stage, ""));
    browser.shows("Nothing is wrong.");
    let waits = browser.run_to_end(
        "const done = arguments[arguments.length - 1];
         import(document.querySelector('link[href$=\"live.js\"]').href).then(({ pause }) =>
           done([0, 9].map((tries) => Array.from({ length: 50 }, () => pause(tries)))))",
    );
    let spread = |tries: usize| {
        let all = waits[tries].as_array().expect("waits").iter();
        let all: Vec<f64> = all.map(|it| it.as_f64().expect("a time")).collect();
        let (least, most) = all
            .iter()
            .fold((f64::MAX, 0.0_f64), |(a, b), it| (a.min(*it), b.max(*it)));
        assert!(least >= 750.0 && most <= 37_500.0, "{all:?}");
        most - least
    };
    assert!(spread(0) > 250.0 && spread(1) > 5_000.0, "{waits}");
}

#[test]
fn texts_of_others_are_shown_as_texts() {
    let Some(browser) = Browser::start("hostile texts in the console") else {
        return;
    };
    let stage = Stage::catalog();
    let body = HOSTILE.to_owned();
    stage.shop.does(move |_| Act::Say(400, body.clone()));
    stage.takes(
        "pim",
        &[change(
            HOSTILE,
            "content",
            json!({ HOSTILE: "9.90", "emoji": "🛋".repeat(1000), "stacked": "a\u{301}".repeat(50) }),
        )],
    );
    // As bytes: a program that reads numbers would write others.
    let price = r#"{"amount": 9.90, "id": 9007199254740993, "weight": 1e2}"#;
    let line = change(HOSTILE, "price.de", json!("PRICE")).to_string();
    let line = line.replace("\"PRICE\"", price);
    let head = [("content-type", "application/json")];
    let taken = stage.send("erp", &head, line.as_bytes());
    assert_eq!(taken.status, 202, "{}", taken.text());
    let key = "document.querySelector('#refused a')";
    browser.goes_to(&console(&stage, "?view=channel&name=shop"));
    browser.sees(
        "the refused entity",
        &format!("{key}?.textContent.includes('<script>')"),
    );
    browser.run(&format!("{key}.click()"), &[]);
    browser.shows("■ refused");
    browser.run(
        "document.querySelectorAll('details').forEach((it) => it.open = true)",
        &[],
    );
    for written in [
        "\\u202e",
        "\\u001b[31m",
        "\\u0000",
        "\\u200b\\u0085\\u007f\\u00ad\\u061c\\u2028\\u2066\\ufeff",
        "🛋🛋🛋",
        "\"amount\": 9.90",
        "\"id\": 9007199254740993",
        "\"weight\": 1e2",
    ] {
        browser.shows(written);
    }
    // It stands apart from what is around it, breaks where it must, and covers nothing.
    browser.sees(
        "texts of others that stand apart",
        "[...document.querySelectorAll('.other')].every((it) => it.localName === 'bdi' && getComputedStyle(it).overflowWrap === 'anywhere')",
    );
    browser.sees(
        "stacked marks that are clipped",
        "[...document.querySelectorAll('h1, dd, summary')].every((it) => getComputedStyle(it).overflowY === 'clip')",
    );
    // A reload, or a link that somebody is sent, shows the same.
    let address = browser.run("return location.href", &[]);
    browser.goes_to(address.as_str().unwrap());
    browser.shows("■ refused");
    assert_ne!(browser.run("return document.title", &[]), "owned");
    assert_eq!(browser.run("return document.scripts.length", &[]), 1);
    no_complaints(&browser);
}

#[test]
fn the_page_survives_a_restart_and_says_so_meanwhile() {
    let Some(browser) = Browser::start("the console over a restart") else {
        return;
    };
    let (mut stage, _) = Stage::closed(CATALOG).keeps_its_port();
    stage.start();
    browser.goes_to(&console(&stage, ""));
    browser.shows("Nothing is wrong.");
    let lamps: Vec<Value> = (0..20)
        .map(|number| change(&format!("lamp-{number}"), "content", json!(number)))
        .collect();
    stage.takes("pim", &lamps);
    stage.settles("shop");
    let rates = "[...document.querySelectorAll('.figure, .number')].map((it) => it.innerText).filter((it) => it.endsWith('/s'))";
    browser.sees("rates", &format!("{rates}.length > 0"));
    stage.stop();
    browser.shows("Weir does not answer since");
    stage.start();
    browser.sees("no banner", "document.getElementById('banner').hidden");
    stage.takes(
        "pim",
        &[change("lamp-7", "content", json!({ "title": "Lamp" }))],
    );
    stage.operate("shop", "pause");
    browser.shows("Channel shop is paused");
    // The counts of Weir begin again at 0, and no rate falls below it.
    browser.sees("rates", &format!("{rates}.length > 0"));
    let negative = format!("return {rates}.filter((it) => !/^[0-9]/.test(it))");
    assert_eq!(browser.run(&negative, &[]), json!([]));
}

#[test]
fn signing_in_takes_a_token_and_its_role_decides_what_is_offered() {
    let Some(browser) = Browser::start("signing in to the console") else {
        return;
    };
    let stage = Stage::with(&format!("{CATALOG}{TOKENS}"));
    let sign_in = |who: &str| {
        browser.goes_to(&console(&stage, "?view=channel&name=shop"));
        browser.sees("the form", "document.activeElement?.id === 'token'");
        browser.types(&format!("{who}-secret-of-some-length{ENTER}"));
    };
    sign_in("nobody");
    browser.shows("No token of the configuration is like this.");
    sign_in("reader");
    browser.shows("● flowing");
    browser.shows("reader (read)");
    let offered = "return [...document.querySelectorAll('main button')].map((it) => it.innerText).includes('Pause shop')";
    assert_eq!(browser.run(offered, &[]), false);
    assert_eq!(
        browser.run("return document.cookie", &[]),
        "",
        "no script sees it"
    );
    browser.run("document.querySelector('.who button').click()", &[]);
    sign_in("operator");
    browser.shows("Pause shop");
    // The token is removed under the page.
    stage.configure(&format!(
        "{CATALOG}{}",
        TOKENS.replace("operator", "another")
    ));
    stage.weir().signal(rustix::process::Signal::HUP);
    browser.sees("the form again", "document.getElementById('token')");
}

#[test]
fn the_first_paint_is_small_and_eight_tabs_load() {
    let Some(browser) = Browser::start("the weight of the console") else {
        return;
    };
    let stage = sick();
    browser.goes_to(&console(&stage, ""));
    browser.shows("does not take 1 entity as they are");
    let bytes = browser.run(
        "const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];
         return all.reduce((sum, it) => sum + it.transferSize, 0)",
        &[],
    );
    assert!(
        bytes.as_u64().is_some_and(|bytes| bytes < 100_000),
        "{bytes} bytes"
    );
    // For who measures: what is painted first is the page with what the first event of the stream says.
    let painted = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
    println!(
        "{bytes} bytes, first paint after {} ms",
        browser.run(painted, &[])
    );
    // A browser opens six connections to a host; with a stream in each tab the seventh got no document.
    for tab in 0..7 {
        browser.opens_tab();
        let source = "window.streams = 0;
             window.EventSource = class extends EventSource {
               constructor(...of) { super(...of); window.streams += 1; }
             };";
        let source = json!({ "source": source });
        browser.command("Page.addScriptToEvaluateOnNewDocument", &source);
        browser.goes_to(&console(&stage, ""));
        browser.shows("does not take 1 entity as they are");
        // Later on, the first one may have given its stream up, because it is hidden.
        if tab == 0 {
            assert_eq!(browser.run("return window.streams", &[]), 0);
        }
    }
    stage.operate("shop", "pause");
    browser.shows("Channel shop is paused");
    no_complaints(&browser);
}
