//! What a page goes through that is left open: other pages, restarts and upgrades under it, proxies that answer for
//! Weir, connections that die without a word, a clock that is wrong, and a long day.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::proxy::{Proxy, Way};
use crate::support::stage::CATALOG;
use crate::support::{Stage, change, eventually, within};

/// A stream, read event by event.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Asks for a stream; returns it with the status.
    fn ask(address: SocketAddr) -> (u16, Stream) {
        let mut connection = TcpStream::connect(address).expect("a connection");
        let patience = Some(Duration::from_secs(60));
        connection.set_read_timeout(patience).expect("a time");
        let request = format!("GET /v1/stream HTTP/1.1\r\nhost: {address}\r\n\r\n");
        connection.write_all(request.as_bytes()).expect("sent");
        let mut stream = Stream(BufReader::new(connection));
        let first = stream.line();
        let status = first.split(' ').nth(1).and_then(|it| it.parse().ok());
        (status.expect("a status line"), stream)
    }

    fn open(stage: &Stage) -> Stream {
        let (status, stream) = Stream::ask(stage.weir().address());
        assert_eq!(status, 200);
        stream
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).expect("a line");
        assert!(read > 0, "the stream has ended");
        line
    }

    /// The name and the data of the next event. The lengths of chunks are between them.
    fn event(&mut self) -> (String, Value) {
        loop {
            let line = self.line();
            if let Some(name) = line.strip_prefix("event: ") {
                let data = self.line();
                let data = data.strip_prefix("data: ").expect("a line of data");
                let data = serde_json::from_str(data).expect("JSON");
                return (name.trim().to_owned(), data);
            }
        }
    }
}

fn console(address: SocketAddr) -> String {
    format!("http://{address}/")
}

#[test]
fn two_hundred_consoles_do_not_keep_the_operator_and_the_scraper_out() {
    let stage = Stage::catalog();
    let address = stage.weir().address();
    let mut streams: Vec<(u16, Stream)> = (0..200).map(|_| Stream::ask(address)).collect();
    let statuses: Vec<u16> = streams.iter().map(|(status, _)| *status).collect();
    let open = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(open, 64, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)));
    assert_eq!(stage.weir().get("/metrics").status, 200);
    stage.operate("shop", "pause");
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    for (_, stream) in streams.iter_mut().filter(|(status, _)| *status == 200) {
        while stream.event().1["channels"]["shop"]["state"] != "paused" {}
    }
}

// The rate of a source that had become quiet was said anew each second, for a minute.
#[test]
fn a_stream_of_a_weir_at_rest_says_nothing_but_that_it_lives() {
    let stage = Stage::catalog();
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    stage.settles("shop");
    stage.swept("shop");
    let mut stream = Stream::open(&stage);
    let mut said = Vec::new();
    loop {
        let (name, data) = stream.event();
        if name == "beat" {
            break;
        }
        said.push(data);
        // The snapshot, and what the delivery above was still to change.
        assert!(said.len() <= 4, "{said:#?}");
    }
}

#[test]
fn a_reload_under_an_open_page_changes_its_rows() {
    let stage = Stage::catalog();
    let mut stream = Stream::open(&stage);
    let (name, snapshot) = stream.event();
    assert_eq!(name, "snapshot");
    assert_eq!(snapshot["channels"]["shop"]["state"], "flowing");
    let search =
        "[channels.search]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n";
    stage.reloads(&format!("{CATALOG}{search}"));
    let row = |stream: &mut Stream| loop {
        let (_, changes) = stream.event();
        if let Some(row) = changes["channels"].get("search") {
            return row.clone();
        }
    };
    assert_eq!(row(&mut stream)["entity"], "product");
    stage.reloads(CATALOG);
    // It is retired, or gone if it had delivered nothing.
    loop {
        let row = row(&mut stream);
        if row.is_null() || row["state"] == "retired" {
            break;
        }
    }
}

/// A page of Weir behind an address that stays, and a browser that shows it.
fn opened(proves: &str) -> Option<(Browser, Stage, SocketAddr)> {
    let browser = Browser::start(proves)?;
    let (mut stage, port) = Stage::closed(CATALOG).keeps_its_port();
    stage.start();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    browser.goes_to(&console(address));
    browser.shows("Nothing is wrong.");
    Some((browser, stage, address))
}

const WELL: &str = "document.getElementById('banner').hidden";

#[test]
fn a_page_loads_itself_again_after_an_upgrade() {
    let Some((browser, mut stage, _)) = opened("an upgrade under the console") else {
        return;
    };
    // As if the page were from an earlier build.
    let older =
        "document.querySelector('meta[name=build]').content = '0.0.0-older'; window.isOld = true";
    browser.run(older, &[]);
    stage.stop();
    browser.shows("Weir does not answer since");
    stage.start();
    browser.sees("a new page", "!window.isOld");
    browser.shows("Nothing is wrong.");
    browser.sees("no banner", WELL);
}

#[test]
fn a_page_waits_while_a_proxy_answers_for_weir() {
    let Some((browser, mut stage, address)) = opened("a proxy's 502 before the console") else {
        return;
    };
    stage.stop();
    let listener = TcpListener::bind(address).expect("the port is free again");
    let ends = Arc::new(AtomicBool::new(false));
    let (ended, asked) = (ends.clone(), Arc::new(AtomicBool::new(false)));
    let counted = asked.clone();
    let proxy = std::thread::spawn(move || {
        for connection in listener.incoming() {
            if ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(mut connection) = connection else {
                continue;
            };
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut connection, &mut head);
            let body = "<html>Bad Gateway</html>";
            let head = format!(
                "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(head.as_bytes());
            counted.store(true, Ordering::SeqCst);
        }
    });
    browser.shows("Weir does not answer since");
    eventually("the page asks the proxy", || {
        asked.load(Ordering::SeqCst).then_some(())
    });
    ends.store(true, Ordering::SeqCst);
    let _ = TcpStream::connect(address);
    proxy.join().expect("it ends");
    stage.start();
    within(Duration::from_secs(120), "no banner", || {
        let well = browser.run(&format!("return {WELL}"), &[]);
        (well == true).then_some(())
    });
    stage.operate("shop", "pause");
    browser.shows("Channel shop is paused");
}

// A laptop that slept, or left its network, has connections that never end and say nothing.
#[test]
fn a_page_notices_a_connection_that_is_only_half_open() {
    let Some(browser) = Browser::start("a dead connection of the console") else {
        return;
    };
    let stage = Stage::catalog();
    let proxy = Proxy::before(stage.weir().address().port());
    browser.goes_to(&console(([127, 0, 0, 1], proxy.port()).into()));
    browser.shows("Nothing is wrong.");
    proxy.is(Way::Held);
    within(Duration::from_secs(120), "it says so", || {
        let well = browser.run(&format!("return {WELL}"), &[]);
        (well == false).then_some(())
    });
    browser.shows("Weir does not answer since");
    stage.operate("shop", "pause");
    proxy.cut();
    proxy.is(Way::Open);
    within(Duration::from_secs(120), "it goes on", || {
        let well = browser.run(&format!("return {WELL}"), &[]);
        (well == true).then_some(())
    });
    browser.shows("Channel shop is paused");
}

/// A script that runs before those of each page.
fn before_each_page(browser: &Browser, script: &str) {
    let source = json!({ "source": script });
    browser.command("Page.addScriptToEvaluateOnNewDocument", &source);
}

// Everything was three hours old on a machine whose clock was three hours ahead.
#[test]
fn times_are_right_on_a_machine_whose_clock_is_wrong() {
    let Some(browser) = Browser::start("a wrong clock before the console") else {
        return;
    };
    let stage = Stage::catalog();
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    stage.settles("shop");
    before_each_page(
        &browser,
        "const ahead = 3 * 3600 * 1000, Real = Date;
         window.Date = class extends Real {
           constructor(...parts) { if (parts.length) super(...parts); else super(Real.now() + ahead); }
           static now() { return Real.now() + ahead; }
         };",
    );
    let lamp = "?view=entity&type=product&key=lamp";
    browser.goes_to(&(console(stage.weir().address()) + lamp));
    browser.shows("accepted from pim");
    browser.run(
        "document.querySelectorAll('details').forEach((it) => it.open = true)",
        &[],
    );
    let text = browser.run("return document.getElementById('main').innerText", &[]);
    let text = text.as_str().expect("a text");
    assert!(
        !text.contains(" h ago") && !text.contains("in 2 h"),
        "{text}"
    );
    assert!(
        text.contains(" s ago)") || text.contains(" min ago)"),
        "{text}"
    );
    stage.operate("shop", "pause");
    stage.takes("pim", &[change("lamp", "content", json!(2))]);
    browser.goes_to(&console(stage.weir().address()));
    browser.shows("It owes up to 1 entity, the oldest change for");
    let text = browser.run("return document.getElementById('main').innerText", &[]);
    let text = text.as_str().expect("a text");
    assert!(!text.contains("3 h") && !text.contains("2 h"), "{text}");
}

/// Twelve channels, so that there is something to keep.
fn twelve() -> Stage {
    let rows: String = [
        "at", "be", "ch", "cz", "de", "dk", "es", "fr", "it", "nl", "pl", "se",
    ]
    .map(|site| format!("[each.site.{site}]\nname = \"{site}\"\n"))
    .concat();
    Stage::with(&format!(
        "{rows}{}",
        CATALOG.replace(
            "[channels.shop]\n",
            "[channels.shop]\nfor_each = \"site\"\n"
        )
    ))
}

// The page goes ten times through the hour that it keeps, and takes each event of the stream a hundred times.
#[test]
fn a_page_that_is_left_open_does_not_grow() {
    let Some(browser) = Browser::start("a long day of the console") else {
        return;
    };
    let stage = twelve();
    before_each_page(
        &browser,
        "const realNow = Date.now, begun = realNow(), every = window.setInterval;
         let hours = 0;
         window.ticks = 0;
         // A slot of ten seconds each time.
         Date.now = () => begun + hours;
         window.setInterval = (then, time) => every(() => { hours += 10000; window.ticks += 1; then(); }, time / 200);
         window.EventSource = class extends EventSource {
           addEventListener(name, then) {
             super.addEventListener(name, (event) => { for (let time = 0; time < 100; time++) then(event); });
           }
         };",
    );
    browser.goes_to(&console(stage.weir().address()));
    browser.sees(
        "twelve channels",
        "document.querySelectorAll('tbody tr').length === 12",
    );
    let measure = |ticks: u64| {
        within(
            Duration::from_secs(300),
            "the page has ticked so often",
            || {
                let turn = next();
                if turn.is_multiple_of(20) {
                    stage.takes("pim", &[change("lamp", "content", json!(turn))]);
                }
                let now = browser.run("return window.ticks", &[]).as_u64()?;
                (now >= ticks).then_some(())
            },
        );
        browser.command("HeapProfiler.collectGarbage", &json!({}));
        let heap = browser.command("Runtime.getHeapUsage", &json!({}));
        let nodes = browser.run("return document.querySelectorAll('*').length", &[]);
        let paths = "return [...document.querySelectorAll('path')].reduce((sum, it) => sum + it.getAttribute('d').length, 0)";
        let drawn = browser.run(paths, &[]);
        (
            heap["usedSize"].as_f64().expect("bytes"),
            nodes,
            drawn.as_u64().expect("a length"),
        )
    };
    let (heap, nodes, drawn) = measure(400);
    let (later_heap, later_nodes, later_drawn) = measure(4000);
    assert_eq!(nodes, later_nodes, "elements");
    assert!(
        later_drawn <= 2 * drawn.max(20_000),
        "{drawn} bytes of paths became {later_drawn}"
    );
    let grown = later_heap - heap;
    assert!(grown < 2_000_000.0, "{heap} bytes became {later_heap}");
}

/// A number that differs from call to call.
fn next() -> u64 {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn a_sweep_shows_how_far_it_is() {
    let stage = Stage::catalog();
    let changes: Vec<Value> = (0..200)
        .map(|number| change(&format!("lamp-{number}"), "content", json!(number)))
        .collect();
    stage.takes("pim", &changes);
    stage.settles("shop");
    stage.swept("shop");
    // Nothing is rendered while it is looked at.
    stage.operate("shop", "pause");
    stage.operate("shop", "resync");
    let sweep = eventually("a sweep runs", || {
        let view = stage.channel("shop");
        let sweep = view["last_sweep"].clone();
        let is_running = sweep["ended"].is_null() && view["owed"]["sweep"].as_u64() > Some(0);
        is_running.then_some(sweep)
    });
    assert!(sweep["total"].as_u64() >= Some(100), "{sweep:#}");
    let mut stream = Stream::open(&stage);
    let row = stream.event().1["channels"]["shop"].clone();
    assert!(
        row["sweep.total"].is_string() && row["sweep.left"].is_string(),
        "{row:#}"
    );
    if let Some(browser) = Browser::start("a sweep in the console") {
        browser.goes_to(&(console(stage.weir().address()) + "?view=channel&name=shop"));
        browser.sees("its progress", "!document.querySelector('progress').hidden");
        browser.shows("% of about");
    }
    stage.operate("shop", "resume");
    let ended = within(Duration::from_secs(120), "it ends", || {
        let sweep = stage.channel("shop")["last_sweep"].clone();
        sweep["ended"].is_string().then_some(sweep)
    });
    assert!(ended["delivered"].as_u64() > Some(0), "{ended:#}");
}
