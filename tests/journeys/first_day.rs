//! The first day: a configuration out of nothing, the first delivery, and whether all is well.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::parts::part;
use crate::support::stage::CATALOG;
use crate::support::weir::{PROGRAM, Weir, command};
use crate::support::{Act, PATIENCE, Receiver, Stage, change, eventually, within};

/// How long the first delivery may take with the program at hand, reading not counted.
const FIRST_DELIVERY_MAX: Duration = Duration::from_secs(60);

/// Runs a command that must succeed, and returns what it prints.
#[track_caller]
fn prints(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments);
    let said = [&output.stdout[..], &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[test]
fn the_first_delivery_comes_within_a_minute_of_init() {
    let (folder, shop) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let began = Instant::now();
    let words = prints(folder.path(), &["init", "--from", "first-webhook"]);
    // Any free port, and this receiver in place of the example's.
    let file = folder.path().join("weir.toml");
    let config = std::fs::read_to_string(&file).expect("a configuration");
    let config = config
        .replace("127.0.0.1:7700", "127.0.0.1:0")
        .replace("http://127.0.0.1:8080/", &shop.url());
    std::fs::write(&file, config).expect("written");
    let check = prints(folder.path(), &["check"]);
    assert!(
        check.contains("is valid: 2 sources, 0 plugins, 1 channel"),
        "{check}"
    );
    let weir = Weir::start(folder.path());
    let url = format!("http://{}", weir.address());
    let sends = words
        .lines()
        .filter_map(|line| line.trim().strip_prefix("weir send "));
    let sends: Vec<&str> = sends.collect();
    assert_eq!(sends.len(), 2, "{words}");
    for send in sends {
        let words: Vec<&str> = send.split(' ').collect();
        prints(
            folder.path(),
            &[&["send"], &words[..], &["--url", &url]].concat(),
        );
    }
    let lamp = json!({"type": "product", "key": "4711", "facets": {
        "content": {"name": "Desk lamp Fjord"}, "price": {"amount": "9.90", "currency": "EUR"}}});
    eventually("the shop has the lamp", || {
        (shop.holds().get("4711") == Some(&lamp)).then_some(())
    });
    let took = began.elapsed();
    eprintln!("weir init to the first delivery: {took:?}");
    assert!(took < FIRST_DELIVERY_MAX, "{took:?}");
    let status = prints(folder.path(), &["status", "--url", &url]);
    assert!(status.contains("\nAll is well.\n"), "{status}");
}

/// What a shell command shows in a terminal of 100 columns, in which somebody types this; and whether it succeeds.
fn in_terminal(folder: &Path, shell: &str, typed: &str) -> Option<(bool, String)> {
    let script = part("script", "commands in a terminal")?;
    let mut child = Command::new(script)
        .args([
            "-qec",
            &format!("stty rows 24 cols 100 -echo; {shell}"),
            "/dev/null",
        ])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a terminal");
    let mut keys = child.stdin.take().expect("piped");
    keys.write_all(typed.as_bytes()).expect("typed");
    // It stays open: its end would be that of the terminal.
    let output = child.wait_with_output().expect("it ends");
    drop(keys);
    let shown = String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n");
    Some((output.status.success(), shown))
}

#[test]
fn at_a_terminal_somebody_is_asked_for_the_example_and_tables_fit_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let init = format!("{PROGRAM} init shop");
    let Some((fine, shown)) = in_terminal(folder.path(), &init, "7\nfirst-webhook\n") else {
        return;
    };
    assert!(fine, "{shown}");
    for words in [
        "  1  first-webhook",
        "there is no example \"7\"",
        "Written in shop: weir.toml",
    ] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    assert!(folder.path().join("shop/events/prices.ndjson").is_file());
    let (fine, shown) = in_terminal(folder.path(), &init, "\n").expect("there is a terminal");
    assert!(
        !fine && shown.contains("nothing is written, because there is already"),
        "{shown}"
    );

    let stage = Stage::catalog();
    stage
        .shop
        .does(|_| Act::Say(401, "a token is needed that is valid for this shop".into()));
    stage.takes(
        "pim",
        &[change("lamp", "content", json!({"name": "a lamp"}))],
    );
    eventually("the target trips", || {
        ["tripped", "probing"]
            .contains(&stage.channel("shop")["state"].as_str()?)
            .then_some(())
    });
    let url = format!("http://{}", stage.weir().address());
    for command in [
        "channel list",
        "source list",
        "channel show shop",
        "show product/lamp",
        "status",
    ] {
        let shell = format!("{PROGRAM} {command} --url {url}");
        let (_, shown) = in_terminal(folder.path(), &shell, "").expect("there is a terminal");
        assert!(shown.lines().count() > 1, "{command}: {shown}");
        let long = shown.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{command}: {shown}");
    }
}

/// `weir status --watch --json` on this Weir.
struct Watch {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watch {
    fn on(url: &str) -> Watch {
        let mut child = Command::new(PROGRAM)
            .args(["status", "--watch", "--json", "--url", url])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Watch { child, lines }
    }

    /// The first look from now on of which this holds.
    fn sees(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let line = self.lines.next().expect("it goes on").expect("a line");
            let look: Value = serde_json::from_str(&line).expect("JSON");
            if is(&look) {
                return look;
            }
            assert!(began.elapsed() < PATIENCE, "not seen; the last: {look:#}");
        }
    }

    /// Ends it with Ctrl-C, and returns its exit code.
    fn ends(mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, Signal::INT).expect("signalled");
        let status = within(PATIENCE, "it ends", || {
            self.child.try_wait().expect("a child")
        });
        status.code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_status_follows_what_happens_and_its_exit_code_is_that_of_the_last_look() {
    let (stage, _) = Stage::closed(CATALOG).keeps_its_port();
    let mut stage = stage;
    stage.start();
    let url = format!("http://{}", stage.weir().address());
    let mut watch = Watch::on(&url);
    watch.sees(|look| look["well"] == true);
    stage.operate("shop", "pause");
    let paused = watch.sees(|look| look["well"] == false);
    let trouble = &paused["troubles"][0];
    assert_eq!(
        trouble["help"],
        json!(["weir channel resume shop"]),
        "{paused:#}"
    );
    let (code, said) = stage.tell(&["status"]);
    assert_eq!(code, 1, "{said}");
    assert!(
        said.contains("! Channel shop is paused (") && said.contains("\nshop     paused "),
        "{said}"
    );
    // It waits while Weir is away.
    stage.stop();
    let gone = watch.sees(|look| !look["error"].is_null());
    let why = gone["error"].as_str().expect("a text");
    assert!(
        why.starts_with("no Weir answers: could not reach "),
        "{gone:#}"
    );
    let alone = command(stage.folder(), &["status", "--url", &url]);
    assert_eq!(alone.status.code(), Some(3));
    stage.start();
    watch.sees(|look| look["troubles"][0]["help"] == json!(["weir channel resume shop"]));
    stage.operate("shop", "resume");
    watch.sees(|look| look["well"] == true);
    assert_eq!(watch.ends(), Some(0));
}

// Who wanted to know what a shop did not have, and why, asked for each product.
#[test]
fn entities_are_listed_by_their_state_on_a_channel_with_the_reasons_counted() {
    let needs = CATALOG.replace(
        "target = \"shop\"",
        "target = \"shop\"\nneeds = [\"content\"]",
    );
    let stage = Stage::with(&needs);
    stage.shop.does(|delivery| match delivery.key() {
        "desk" => Act::Say(400, "no such category".into()),
        "sofa" => Act::Answer(500),
        _ => Act::Answer(200),
    });
    let price = |key: &str| change(key, "price.de", json!(1));
    stage.takes("erp", &[price("lamp-1"), price("lamp-2"), price("chair")]);
    let content = |key: &str| change(key, "content", json!({"name": key}));
    stage.takes("pim", &[content("desk"), content("sofa"), content("shelf")]);
    for (key, state) in [
        ("lamp-1", "withheld"),
        ("lamp-2", "withheld"),
        ("chair", "withheld"),
        ("desk", "refused"),
        ("sofa", "parked"),
        ("shelf", "delivered"),
    ] {
        stage.stands(key, "shop", state);
    }
    let told = |arguments: &[&str]| {
        let (code, said) = stage.tell(&[&["channel", "entities", "shop"], arguments].concat());
        assert_eq!(code, 0, "{said}");
        said
    };
    let withheld = told(&["--state", "withheld"]);
    let begin = "shop: 3 entities are withheld\n\nENTITIES  REASON\n3         needs\n\nENTITY";
    assert!(withheld.starts_with(begin), "{withheld}");
    let order = ["product/chair ", "product/lamp-1 ", "product/lamp-2 "];
    let at = order.map(|key| {
        withheld
            .find(key)
            .unwrap_or_else(|| panic!("{key} in {withheld}"))
    });
    assert!(at.is_sorted(), "{withheld}");
    // The counts are of all pages.
    let page = told(&["--state", "withheld", "--limit", "1", "--after", "chair"]);
    assert!(
        page.contains("3         needs") && page.contains("product/lamp-1"),
        "{page}"
    );
    assert!(page.contains("the next page: --after 'lamp-1'"), "{page}");
    assert!(
        !page.contains("product/chair") && !page.contains("lamp-2"),
        "{page}"
    );
    let lamps = told(&["--state", "withheld", "--prefix", "lamp"]);
    assert!(
        lamps.starts_with("shop: 2 entities are withheld\n"),
        "{lamps}"
    );

    let refused = told(&["--state", "refused"]);
    assert!(
        refused.contains("\n1         ") && refused.contains("no such category"),
        "{refused}"
    );
    let parked = told(&["--state", "parked"]);
    assert!(
        parked.contains("ATTEMPTS  NEXT") && parked.contains("answered 500"),
        "{parked}"
    );
    assert!(told(&["--state", "delivered"]).contains("product/shelf"));
    assert_eq!(told(&["--state", "held"]), "shop: no entity is held\n");
    let wrong = stage.weir().get("/v1/channels/shop/entities?state=lost");
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    let unknown = stage.weir().get("/v1/channels/nowhere/entities?state=held");
    assert_eq!(unknown.status, 404, "{}", unknown.text());

    let listed = |arguments: &[&str]| {
        let (code, said) = stage.tell(&[&["entity", "list", "product"], arguments].concat());
        assert_eq!(code, 0, "{said}");
        said
    };
    assert_eq!(
        listed(&["--prefix", "lamp"]),
        "product/lamp-1\nproduct/lamp-2\n"
    );
    let page = "product/desk\nproduct/lamp-1\nthere are more; the next page: --after 'lamp-1'\n";
    assert_eq!(listed(&["--after", "chair", "--limit", "2"]), page);
    assert_eq!(listed(&["--owed", "shop"]), "product/sofa\n");
}
