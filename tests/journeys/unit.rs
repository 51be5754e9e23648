//! Weir as a unit of systemd, without systemd: what the service manager hears, signals at any moment of a start,
//! a reload that is waited for, and a sandbox that takes away what plugins need.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::parts::part;
use crate::support::stage::CATALOG;
use crate::support::weir::{PROGRAM, command};
use crate::support::{PATIENCE, Stage, change, eventually, guests};

/// The catalogue with a renderer.
fn with_a_plugin() -> String {
    let head = "[plugins.page]\npath = \"page.wasm\"\n";
    let renders = "target = \"shop\"\nplugins = [\"page\"]\n";
    CATALOG
        .replacen("[targets", &format!("{head}[targets"), 1)
        .replacen("target = \"shop\"\n", renders, 1)
}

/// The end of the socket at which a service manager listens.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listens(folder: &Path) -> Manager {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        Manager { socket, path }
    }

    fn address(&self) -> &str {
        self.path.to_str().expect("a plain path")
    }

    /// The next message; `None` if there is none for so long.
    fn hears_within(&self, patience: Duration) -> Option<String> {
        self.socket
            .set_read_timeout(Some(patience))
            .expect("it can be set");
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Waits for a message with these words, and returns all messages up to it.
    #[track_caller]
    fn hears(&self, words: &str) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let message = self.hears_within(PATIENCE);
            heard.push(message.unwrap_or_else(|| panic!("no {words:?} after {heard:?}")));
            if heard.last().is_some_and(|last| last.contains(words)) {
                return heard;
            }
        }
    }
}

/// Starts Weir by a command that ends with the program, and does not wait until it listens.
fn begins(mut command: Command, stage: &Stage, manager: &Manager, log: &Path) -> Child {
    let log = File::create(log).expect("a log file");
    command
        .args(["run", "-c", "weir.toml"])
        .current_dir(stage.folder())
        .env("NOTIFY_SOCKET", manager.address())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log);
    command.spawn().expect("the program starts")
}

#[test]
fn the_service_manager_hears_of_the_start_what_runs_and_the_stop() {
    let mut stage = Stage::closed(&with_a_plugin());
    stage.place("page.wasm", &guests::versioned::renderer(1));
    let manager = Manager::listens(stage.folder());
    stage.start_with(&[("NOTIFY_SOCKET", manager.address())]);
    let heard = manager.hears("READY=1");
    let (ready, starting) = heard.split_last().expect("messages");
    assert!(
        !starting.is_empty()
            && starting.iter().all(|message| {
                message.starts_with("STATUS=Starting: ")
                    && message.ends_with("\nEXTEND_TIMEOUT_USEC=30000000")
            }),
        "{starting:?}"
    );
    assert_eq!(
        ready,
        "READY=1\nSTATUS=Serving 2 sources, 1 plugin, 1 channel"
    );
    // No sign of life where none is asked for.
    let refused = stage.reload("nonsense = 1\n");
    assert_eq!(refused["status"], 422, "{refused:#}");
    let heard = manager.hears("was refused");
    assert!(
        !heard.concat().contains("WATCHDOG"),
        "nobody watches: {heard:?}"
    );
    stage.stop();
    manager.hears("STOPPING=1");
}

/// SIGTERM at a start killed Weir, and as the first process of a container it did nothing; SIGHUP killed it too.
#[test]
fn a_signal_during_a_start_is_obeyed_also_by_the_first_process_of_a_container() {
    let stage = Stage::closed(&with_a_plugin().replace(
        "[sources.erp]",
        "[plugins.mapper]\npath = \"mapper.wasm\"\n[sources.erp]\nplugins = [\"mapper\"]",
    ));
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.place("mapper.wasm", &guests::versioned::slow_to_compile());
    let manager = Manager::listens(stage.folder());
    for is_first in [false, true] {
        let mut command = Command::new(PROGRAM);
        if is_first {
            let may = Command::new("unshare")
                .args(["--pid", "--fork", "true"])
                .output();
            if !may.is_ok_and(|done| done.status.success()) {
                return eprintln!(
                    "NOT RUN: no new namespace of processes here; Weir as a first process was not tested"
                );
            }
            command = Command::new("unshare");
            command.args(["--pid", "--fork", "--kill-child", PROGRAM]);
        }
        let log = stage.folder().join(format!("first-{is_first}.log"));
        let mut child = begins(command, &stage, &manager, &log);
        manager.hears("STATUS=Starting: loading plugin mapper");
        let weir = if is_first {
            let children = format!("/proc/{0}/task/{0}/children", child.id());
            let children = std::fs::read_to_string(children).expect("it runs");
            children.trim().parse().expect("one process")
        } else {
            child.id() as i32
        };
        let weir = Pid::from_raw(weir).expect("a process id");
        kill_process(weir, Signal::HUP).expect("signalled");
        kill_process(weir, Signal::TERM).expect("signalled");
        manager.hears("STOPPING=1");
        let status = eventually("Weir ends", || child.try_wait().expect("a child"));
        let said = std::fs::read_to_string(&log).expect("a log");
        assert!(status.success(), "first {is_first}: {status}: {said}");
        assert!(
            said.contains("stopped before the start was complete"),
            "{said}"
        );
    }
}

/// A writer that stands still, of which nobody but the senders would know.
#[test]
fn the_service_manager_hears_nothing_more_when_the_writer_stands_still() {
    let mut stage = Stage::closed(CATALOG);
    let manager = Manager::listens(stage.folder());
    stage.start_with(&[
        ("NOTIFY_SOCKET", manager.address()),
        ("WATCHDOG_USEC", "4000000"),
        ("WEIR_FAIL", "store.written=hang@100"),
    ]);
    manager.hears("READY=1");
    for _ in 0..2 {
        manager.hears("WATCHDOG=1");
    }
    let address = stage.weir().address();
    let sending = std::thread::spawn(move || {
        for number in 0..200 {
            let body = change("lamp", "content", json!(number)).to_string();
            let path = "/v1/sources/pim/events";
            let headers = [("content-type", "application/x-ndjson")];
            if crate::support::http::request(address, "POST", path, &headers, body.as_bytes())
                .is_err()
            {
                return;
            }
        }
    });
    stage.weir().says("fail point store.written: hang");
    // As systemd does: if nothing comes for the whole time, the process is ended.
    while manager.hears_within(Duration::from_secs(4)).is_some() {}
    stage.kill();
    sending.join().expect("no panic");
}

#[test]
fn a_reload_by_command_ends_when_the_outcome_is_known() {
    let mut stage = Stage::closed(&with_a_plugin());
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    let url = format!("http://{}", stage.weir().address());
    let reload = || {
        let done = command(stage.folder(), &["reload", "--url", &url]);
        let said = [done.stdout, done.stderr].concat();
        (
            done.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    assert_eq!(reload(), (Some(0), "nothing has changed\n".to_owned()));
    stage.configure(&with_a_plugin().replace("30s", "31s"));
    let (code, said) = reload();
    assert_eq!(code, Some(0), "{said}");
    stage.configure("[chanels]\n");
    let (code, said) = reload();
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("weir.toml:") && said.contains("chanels"),
        "{said}"
    );
    // A component that is refused is no success either, though everything else is in use.
    stage.configure(&with_a_plugin());
    stage.place("page.wasm", b"no component");
    let (code, said) = reload();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the file is not Wasm"), "{said}");
}

/// The message blamed the plugin: "build without threads".
#[test]
fn a_sandbox_that_takes_away_what_plugins_need_is_blamed_and_not_the_plugin() {
    let mut stage = Stage::closed(&with_a_plugin());
    stage.place("page.wasm", &guests::versioned::renderer(1));
    let confine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/confine.py");
    let confined = |what: &str, arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(&confine).args([what, PROGRAM]).args(arguments);
        command
    };
    for (what, setting) in [
        ("executable-memory", "MemoryDenyWriteExecute="),
        ("memfd-create", "SystemCallFilter="),
    ] {
        stage.configure(&with_a_plugin());
        let done = confined(what, &["check"])
            .current_dir(stage.folder())
            .output()
            .expect("Python is there");
        if done.status.code() == Some(77) {
            eprintln!("NOT RUN: this kernel cannot take away {what}");
            continue;
        }
        let said = String::from_utf8_lossy(&done.stdout);
        assert_eq!(done.status.code(), Some(1), "{what}: {said}");
        assert!(
            said.contains(setting) && !said.contains("build without threads"),
            "{what}: {said}"
        );
        // Without plugins it takes nothing away, and Weir runs. The first process is Python, which becomes Weir.
        stage.configure(CATALOG);
        stage.start_by(confined(what, &[]));
        stage.takes("pim", &[change("lamp", "content", json!(what))]);
        eventually("it is delivered", || {
            stage
                .shop
                .holds()
                .iter()
                .any(|(_, held)| held.to_string().contains(what))
                .then_some(())
        });
        stage.stop();
    }
}

/// The unit's file, with the program under test.
fn unit(stage: &Stage) -> PathBuf {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/packaging/weir.service");
    let text = std::fs::read_to_string(unit).expect("the unit");
    assert!(text.contains("/usr/bin/weir "), "{text}");
    let text = text.replace("/usr/bin/weir ", &format!("{PROGRAM} "));
    stage.place("weir.service", text.as_bytes())
}

#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() {
    let Some(systemd) = part("systemd-analyze", "the unit") else {
        return;
    };
    let stage = Stage::closed(CATALOG);
    let unit = unit(&stage);
    let ask = |arguments: &[&str]| {
        let done = Command::new(&systemd).args(arguments).arg(&unit).output();
        let done = done.expect("it runs");
        let said = [done.stdout, done.stderr].concat();
        (done.status, String::from_utf8_lossy(&said).into_owned())
    };
    let (status, said) = ask(&["verify"]);
    assert!(status.success() && said.is_empty(), "{status}: {said}");
    // Of 100, with what plugins need left open.
    let (status, said) = ask(&["security", "--no-pager", "--offline=yes", "--threshold=20"]);
    assert!(status.success(), "{status}: {said}");
}

/// Everything that Weir does, from compiling a plugin to a stop, with the calls that the unit allows.
#[test]
fn the_unit_allows_each_system_call_that_weir_makes() {
    let proves = "whether the unit allows all system calls";
    let (Some(systemd), Some(strace)) = (part("systemd-analyze", proves), part("strace", proves))
    else {
        return;
    };
    let mut stage = Stage::closed(&with_a_plugin());
    stage.place("page.wasm", &guests::versioned::renderer(1));
    let trace = stage.folder().join("trace");
    let mut traced = Command::new(strace);
    traced.args(["--follow-forks", "--quiet=all", "--signal=none", "--output"]);
    traced.arg(&trace).arg(PROGRAM);
    stage.start_by(traced);
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    stage.shop_holds(json!({"lamp": {"version": 1}}));
    stage.place("page.wasm", &guests::versioned::renderer(2));
    assert_eq!(stage.reload_files()["success"], true);
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    // strace does not pass signals on.
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let program = text
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok());
    kill_process(
        program.and_then(Pid::from_raw).expect("a process id"),
        Signal::TERM,
    )
    .expect("signalled");
    eventually("Weir ends", || stage.has_ended().then_some(()));

    let text = std::fs::read_to_string(&trace).expect("a trace");
    let made: BTreeSet<&str> = text.lines().filter_map(call).collect();
    assert!(made.contains("memfd_create") && made.len() > 40, "{made:?}");
    let mut allowed = BTreeSet::new();
    allow(&systemd, "@system-service", &mut allowed);
    let unit = std::fs::read_to_string(unit(&stage)).expect("the unit");
    assert!(
        unit.contains("\nSystemCallFilter=@system-service\n"),
        "{unit}"
    );
    let forbidden: Vec<_> = made
        .into_iter()
        .filter(|call| !allowed.contains(*call))
        .collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
}

/// The name of the system call of a line of a trace: `1234 openat(…) = 3`.
fn call(line: &str) -> Option<&str> {
    let (_, rest) = line.trim_start().split_once(' ')?;
    let (name, _) = rest.trim_start().split_once('(')?;
    name.chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_')
        .then_some(name)
}

/// Adds the calls of one of systemd's sets, and of the sets in it.
fn allow(systemd: &Path, set: &str, allowed: &mut BTreeSet<String>) {
    let done = Command::new(systemd)
        .args(["syscall-filter", "--no-pager", set])
        .output()
        .expect("it runs");
    for line in String::from_utf8_lossy(&done.stdout).lines().skip(1) {
        match line.trim() {
            inner if inner.starts_with('@') => allow(systemd, inner, allowed),
            comment if comment.starts_with('#') => {}
            name => {
                allowed.insert(name.to_owned());
            }
        }
    }
}
