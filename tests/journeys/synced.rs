//! 202 means synced, as seen in the system calls of a run: for each 202 that leaves, the store's
//! file was written and then synced, after the request came in and before the response went out.
//!
//! The calls are traced with strace. Without it nothing can be proven: the test installs it if it
//! may, fails in CI, and elsewhere prints loudly that it did not run.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::http::Connection;
use crate::support::stage::CATALOG;
use crate::support::{Stage, change, eventually};

const REQUESTS: usize = 40;
const CLIENTS: usize = 4;

/// A system call, with the lines of the trace on which it started and returned.
#[derive(Debug)]
struct Call {
    name: String,
    /// The text from the first bracket on, including the result.
    text: String,
    begun: usize,
    done: usize,
}

fn have_strace() -> bool {
    let there = || {
        Command::new("strace")
            .arg("-V")
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !there() && rustix::process::geteuid().is_root() {
        for arguments in [
            &["update", "-q"][..],
            &["install", "-q", "-y", "--no-install-recommends", "strace"],
        ] {
            // Whether the installation worked is checked below.
            let _ = Command::new("apt-get")
                .args(arguments)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .output();
        }
    }
    there()
}

/// The calls of all threads, in the order in which they started. A call that was interrupted by
/// others takes two lines of the trace.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: BTreeMap<&str, usize> = BTreeMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some(at) = unfinished.remove(thread) else {
                continue;
            };
            calls[at].text.push_str(resumed);
            calls[at].done = number;
        } else if let Some((name, text)) = rest.split_once('(') {
            if text.contains("<unfinished ...>") {
                unfinished.insert(thread, calls.len());
            }
            calls.push(Call {
                name: name.to_owned(),
                text: text.to_owned(),
                begun: number,
                done: number,
            });
        }
    }
    calls
}

/// The text between the angle brackets after the first descriptor: a path or a socket.
fn file(call: &Call) -> &str {
    call.text
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map_or("", |(file, _)| file)
}

#[test]
fn a_response_of_202_leaves_after_the_sync() {
    if !have_strace() {
        assert!(
            std::env::var_os("CI").is_none(),
            "strace is not installed, so nothing can be proven; install it"
        );
        eprintln!("NOT RUN: strace is not there; whether 202 means synced was not looked at");
        return;
    }
    let mut stage = Stage::closed(CATALOG);
    let trace = stage.folder().join("trace");
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "-y",
        "-s",
        "48",
        "-e",
        "trace=read,recvfrom,write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync",
    ]);
    strace
        .arg("-o")
        .arg(&trace)
        .arg(crate::support::weir::PROGRAM);
    stage.start_by(strace);

    // First one at a time, and then several at once, which share syncs.
    let address = stage.weir().address();
    let send = |name: usize, requests: usize| {
        let mut connection = Connection::open(address).expect("connected");
        for number in 0..requests {
            let body = change(
                &format!("{name}-{number}"),
                "content",
                json!("x".repeat(200)),
            )
            .to_string();
            let reply = connection.exchange(
                "POST",
                "/v1/sources/pim/events",
                &[("content-type", "application/json")],
                body.as_bytes(),
            );
            assert_eq!(reply.expect("an answer").status, 202);
        }
    };
    send(0, REQUESTS);
    std::thread::scope(|scope| {
        (1..=CLIENTS).for_each(|name| drop(scope.spawn(move || send(name, REQUESTS))))
    });

    // strace does not pass signals on, so they go to the program; the first line of the trace has
    // its process id.
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let program = text
        .split_once(' ')
        .and_then(|(pid, _)| Pid::from_raw(pid.parse().ok()?))
        .expect("a process id");
    kill_process(program, Signal::TERM).expect("signalled");
    eventually("the run is over", || {
        std::fs::read_to_string(&trace)
            .ok()
            .filter(|text| text.contains("+++ exited with 0 +++"))
    });
    let text = std::fs::read_to_string(&trace).expect("a trace");
    check(&calls(&text));
}

fn check(calls: &[Call]) {
    let of_store = |call: &&Call| file(call).ends_with("/data/store/db");
    let writes: Vec<&Call> = calls
        .iter()
        .filter(|call| call.name.starts_with("pwrite"))
        .filter(of_store)
        .collect();
    let syncs: Vec<&Call> = calls
        .iter()
        .filter(|call| call.name.ends_with("sync") && call.text.contains("= 0"))
        .filter(of_store)
        .collect();
    let requests: Vec<&Call> = calls
        .iter()
        .filter(|call| call.text.contains("\"POST /v1/sources/pim/events"))
        .collect();
    let answers: Vec<&Call> = calls
        .iter()
        .filter(|call| call.text.contains("\"HTTP/1.1 202 Accepted"))
        .collect();
    assert_eq!(
        (requests.len(), answers.len()),
        (REQUESTS * (CLIENTS + 1), REQUESTS * (CLIENTS + 1)),
        "some responses are missing in the trace"
    );
    for answer in answers {
        let request = requests
            .iter()
            .rfind(|request| request.begun < answer.begun && file(request) == file(answer))
            .expect("its request");
        let written = writes
            .iter()
            .filter(|write| write.begun > request.begun && write.done < answer.begun);
        let synced = |write: &&&Call| {
            syncs
                .iter()
                .any(|sync| sync.begun > write.done && sync.done < answer.begun)
        };
        assert!(
            written.clone().any(|write| synced(&write)),
            "between the request in line {} and its response in line {} the store was not written and then synced; written: {:?}",
            request.begun + 1,
            answer.begun + 1,
            written.collect::<Vec<_>>()
        );
    }
    println!(
        "{} responses with 202, {} writes of the store, {} syncs",
        REQUESTS * (CLIENTS + 1),
        writes.len(),
        syncs.len()
    );
}
