//! Looking on from a terminal: `weir tap` and `weir top` as a person or a script runs them.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::parts::part;
use crate::support::stage::CATALOG;
use crate::support::weir::PROGRAM;
use crate::support::{Act, PATIENCE, Stage, change, within};

/// A command that runs beside Weir, and what it has printed so far. It is killed when it is dropped.
struct Beside {
    child: Child,
    out: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Beside {
    fn start(mut command: Command, stage: &Stage) -> Beside {
        let url = format!("http://{}", stage.weir().address());
        command.env("WEIR_URL", url).current_dir(stage.folder());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let out: Arc<Mutex<String>> = Arc::default();
        let said = child.stdout.take().expect("its output");
        let complaints = child.stderr.take().expect("its complaints");
        let readers = vec![gather(said, out.clone()), gather(complaints, out.clone())];
        Beside {
            child,
            out,
            readers,
        }
    }

    fn weir(stage: &Stage, arguments: &[&str]) -> Beside {
        let mut command = Command::new(PROGRAM);
        command.args(arguments);
        Beside::start(command, stage)
    }

    fn out(&self) -> String {
        self.out.lock().expect("no panic").clone()
    }

    /// Waits until it has printed this, and returns all that it has printed.
    #[track_caller]
    fn prints(&self, words: &str) -> String {
        within(PATIENCE, &format!("it prints {words:?}"), || {
            let out = self.out();
            out.contains(words).then_some(out)
        })
    }

    fn signal(&self, pid: u32, signal: Signal) {
        let pid = Pid::from_raw(pid as i32).expect("a process id");
        kill_process(pid, signal).expect("signalled");
    }

    /// Waits for its end; returns its exit code and all that it has printed.
    #[track_caller]
    fn ends(mut self) -> (Option<i32>, String) {
        let status = within(PATIENCE, "it ends", || {
            self.child.try_wait().expect("a child")
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        (status.code(), self.out())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // If it has ended already, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(mut from: impl Read + Send + 'static, to: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut piece = [0; 4 << 10];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            let text = String::from_utf8_lossy(&piece[..length]).into_owned();
            to.lock().expect("no panic").push_str(&text);
        }
    })
}

#[test]
fn a_tap_on_a_source_shows_an_event_and_ends_by_a_signal() {
    let stage = Stage::catalog();
    let tap = Beside::weir(&stage, &["tap", "pim"]);
    tap.prints("tapping source pim");
    stage.takes(
        "pim",
        &[change(
            "lamp",
            "content",
            json!({ "title": "Lämp\u{1b}[2J" }),
        )],
    );
    let out = tap.prints("committed");
    assert!(out.contains("  changed      product/lamp\n"), "{out}");
    assert!(
        out.contains("change  product/lamp content (normal)"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "{out:?}");
    // What another owner writes is set aside.
    let foreign = change("lamp", "price.de", json!(1)).to_string();
    let json = [("content-type", "application/json")];
    stage.send("pim", &json, foreign.as_bytes());
    let out = tap.prints("foreign: facet");
    assert!(out.contains("why       foreign: facet `price.de`"), "{out}");
    tap.signal(tap.child.id(), Signal::INT);
    let (code, out) = tap.ends();
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("2 shown; left out: 0"), "{out}");
}

#[test]
fn a_tap_on_a_channel_shows_what_was_sent_and_answered() {
    let stage = Stage::catalog();
    stage.shop.does(|delivery| match delivery.key() {
        "lamp" => Act::Say(400, "no such category: lamps".to_owned()),
        _ => Act::Answer(200),
    });
    let tap = Beside::weir(
        &stage,
        &["tap", "shop", "--key", "lamp", "--full", "--json"],
    );
    tap.prints("tapping channel shop");
    let desk = change("desk", "content", json!(1));
    stage.takes("pim", &[desk, change("lamp", "content", json!(1))]);
    tap.prints("no such category: lamps");
    tap.signal(tap.child.id(), Signal::TERM);
    let (code, out) = tap.ends();
    assert_eq!(code, Some(0), "{out}");
    let stories = out.lines().filter(|line| line.starts_with('{'));
    let stories: Vec<Value> = stories
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [story] = &stories[..] else {
        panic!("{out}")
    };
    assert_eq!(
        (&story["key"], &story["outcome"]),
        (&json!("lamp"), &json!("refused"))
    );
    let request = &story["requests"][0];
    assert_eq!(request["sent"]["method"], "POST");
    assert_eq!(request["answer"]["status"], 400);
    assert_eq!(request["answer"]["body"]["text"], "no such category: lamps");
}

/// `weir top` in a terminal of its own, between two questions for the modes of the terminal.
fn top(stage: &Stage) -> Option<Beside> {
    let script = part("script", "weir top in a terminal")?;
    let in_terminal = format!(
        "stty rows 24 cols 80; echo before=$(stty -g); sh -c 'echo pid=$$; exec {PROGRAM} top'; echo code=$?; echo after=$(stty -g)"
    );
    let mut command = Command::new(script);
    command.args(["-qefc", &in_terminal, "/dev/null"]);
    command
        .env("TERM", "xterm-256color")
        .env("SHELL", "/bin/sh");
    Some(Beside::start(command, stage))
}

#[track_caller]
fn field<'a>(out: &'a str, name: &str) -> &'a str {
    let from = out
        .rfind(name)
        .unwrap_or_else(|| panic!("{name} in {out:?}"));
    let rest = &out[from + name.len()..];
    rest.split(['\r', '\n', '\u{1b}'])
        .next()
        .unwrap_or_default()
}

/// The terminal is as it was: its modes, the cursor, and the screen of the shell.
#[track_caller]
fn is_restored(top: Beside) {
    top.prints("after=");
    let (_, out) = top.ends();
    assert_eq!(field(&out, "code="), "0", "{out:?}");
    assert_eq!(field(&out, "before="), field(&out, "after="), "{out:?}");
    let (entered, left) = (out.rfind("\u{1b}[?1049h"), out.rfind("\u{1b}[?1049l"));
    assert!(entered.is_some() && entered < left, "{out:?}");
    assert!(
        out.rfind("\u{1b}[?25l") < out.rfind("\u{1b}[?25h"),
        "{out:?}"
    );
}

#[test]
fn top_shows_the_channels_in_a_terminal_and_gives_it_back() {
    let stage = Stage::catalog();
    stage.operate("shop", "pause");
    let Some(mut top) = top(&stage) else { return };
    let out = top.prints("ends");
    for words in ["CHANNEL", "shop", "paused", "SOURCE", "pim"] {
        assert!(out.contains(words), "{words} in {out:?}");
    }
    let mut keys = top.child.stdin.take().expect("its input");
    keys.write_all(b"q").expect("a key");
    is_restored(top);
}

// Weir was upgraded under it, and the figures of before looked like those of now.
#[test]
fn top_says_that_weir_has_gone_and_goes_on_when_it_is_back() {
    let (mut stage, _) = Stage::closed(CATALOG).keeps_its_port();
    stage.start();
    let Some(mut top) = top(&stage) else { return };
    top.prints("ends");
    stage.kill();
    top.prints("s old: ");
    stage.start();
    stage.operate("shop", "pause");
    top.prints("paused");
    let mut keys = top.child.stdin.take().expect("its input");
    keys.write_all(b"q").expect("a key");
    is_restored(top);
}

#[test]
fn top_gives_the_terminal_back_when_it_is_ended_by_a_signal() {
    let stage = Stage::catalog();
    for signal in [Signal::TERM, Signal::INT] {
        let Some(top) = top(&stage) else { return };
        let out = top.prints("ends");
        let pid = field(&out, "pid=").parse().expect("a process id");
        top.signal(pid, signal);
        is_restored(top);
    }
}

#[test]
fn without_a_terminal_top_prints_one_screen_and_ends() {
    let stage = Stage::catalog();
    let (code, out) = Beside::weir(&stage, &["top"]).ends();
    assert_eq!(code, Some(0), "{out}");
    let lines: Vec<String> = BufReader::new(out.as_bytes())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert!(lines[0].starts_with("1 channel · 2 sources"), "{out}");
    assert!(lines.iter().any(|line| line.starts_with("shop ")), "{out}");
    assert!(!out.contains('\u{1b}'), "{out:?}");
}
