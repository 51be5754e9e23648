//! The built program as a process: started in a folder, sent requests, stopped, killed, started
//! again.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::http::{self, Reply};
use super::{PATIENCE, within};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_weir");

/// A running Weir. It is killed when it is dropped, and if the test has failed, the end of its log
/// is printed.
pub struct Weir {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Weir {
    /// Starts it with `weir.toml` in this folder and waits until it listens.
    pub fn start(folder: &Path) -> Weir {
        Weir::start_by(Command::new(PROGRAM), folder, &[], &[])
    }

    /// Starts it with a command that ends with the program (`strace … weir`), with environment
    /// variables and more options.
    pub fn start_by(
        mut command: Command,
        folder: &Path,
        environment: &[(&str, &str)],
        options: &[&str],
    ) -> Weir {
        let number = (0..)
            .find(|number| !folder.join(format!("log.{number}")).exists())
            .unwrap_or_default();
        let log = folder.join(format!("log.{number}"));
        let file = File::create(&log).expect("a log file");
        command
            .args(["run", "-c", "weir.toml"])
            .args(options)
            .current_dir(folder)
            .envs(environment.iter().copied());
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file);
        let child = command.spawn().expect("the program starts");
        let mut weir = Weir {
            child,
            address: ([127, 0, 0, 1], 0).into(),
            log,
        };
        weir.address = within(PATIENCE, "Weir listens", || {
            let ended = weir.child.try_wait().expect("a child");
            assert!(
                ended.is_none(),
                "Weir ended at once ({ended:?}):\n{}",
                weir.log()
            );
            let log = weir.log();
            let (_, rest) = log.split_once("listening on http://")?;
            // In JSON a quote ends the address.
            let line = rest.split_once('\n')?.0;
            line.split('"').next()?.trim().parse().ok()
        });
        weir
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has started: its compilers.
    pub fn children(&self) -> Vec<Pid> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let tasks = tasks.into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| {
            let line = std::fs::read_to_string(task.path().join("children")).ok()?;
            let pids = line.split_whitespace().filter_map(|pid| pid.parse().ok());
            Some(pids.filter_map(Pid::from_raw).collect::<Vec<_>>())
        });
        children.flatten().collect()
    }

    /// Stops its compiler once there is one, so that compiling takes as long as the story does, and
    /// returns the process.
    #[track_caller]
    pub fn freezes_its_compiler(&self) -> Pid {
        // A process that has just begun has no bounds yet, and would outlive Weir.
        let is_bounded = |compiler: &Pid| {
            let path = format!("/proc/{}/limits", compiler.as_raw_nonzero());
            let limits = std::fs::read_to_string(path).unwrap_or_default();
            let mut files = limits.lines().filter(|it| it.starts_with("Max file size"));
            files.any(|line| line.split_whitespace().nth(3) == Some("0"))
        };
        let compiler = within(PATIENCE, "a compiler runs", || {
            self.children().into_iter().find(is_bounded)
        });
        kill_process(compiler, Signal::STOP).expect("signalled");
        compiler
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that it has had resident so far, in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the process runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.expect("a line with a number")
            .parse::<u64>()
            .expect("a number")
            / 1024
    }

    /// Waits until the log has these words.
    #[track_caller]
    pub fn says(&self, words: &str) {
        within(PATIENCE, &format!("the log has {words:?}"), || {
            self.log().contains(words).then_some(())
        });
    }

    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        http::request(self.address, method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str) -> Reply {
        self.ask("POST", path, &[], b"")
    }

    /// Sends SIGTERM. Returns how long it took to end, and the exit status.
    #[track_caller]
    pub fn stop(mut self) -> (Duration, ExitStatus) {
        let start = std::time::Instant::now();
        self.signal(Signal::TERM);
        let status = within(PATIENCE, "Weir stops", || {
            self.child.try_wait().expect("a child")
        });
        (start.elapsed(), status)
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Sends SIGKILL, whatever it is doing.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("signalled");
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // If it has ended already, there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "the end of its log:\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

/// Runs another command of the program to its end.
pub fn command(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}
