//! A real NATS server with JetStream, on a free port of loopback and in a folder of its own. It ends with its
//! owner.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::parts::part;

/// A server.
pub struct Bus {
    program: PathBuf,
    folder: tempfile::TempDir,
    process: Child,
    port: u16,
}

impl Bus {
    /// Starts one; `None` if there is no program for it, after a line that says what was not tested.
    pub fn start(proves: &str) -> Option<Bus> {
        Bus::with("", proves)
    }

    /// Starts one with more configuration.
    pub fn with(configuration: &str, proves: &str) -> Option<Bus> {
        let program = part("nats-server", proves)?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("server.conf"), configuration).expect("a file");
        let process = run(&program, folder.path(), "-1");
        let mut bus = Bus {
            program,
            folder,
            process,
            port: 0,
        };
        bus.port = bus.written_port();
        Some(bus)
    }

    /// The port that the server has written down, once it listens.
    fn written_port(&mut self) -> u16 {
        let file = format!("nats-server_{}.ports", self.process.id());
        let file = self.folder.path().join(file);
        self.waits(|| {
            let text = std::fs::read_to_string(&file).ok()?;
            let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
            let url = ports["nats"][0].as_str()?.to_owned();
            url.rsplit_once(':')?.1.parse().ok()
        })
    }

    fn waits<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if let Ok(Some(ended)) = self.process.try_wait() {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!("nats-server ended ({ended}): {}", log.unwrap_or_default());
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "nats-server does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the server as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts the server again, at the same port and with what it has stored.
    pub fn restart(&mut self) {
        self.process = run(&self.program, self.folder.path(), &self.port.to_string());
        let port = self.port;
        self.waits(|| std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(program: &Path, folder: &Path, port: &str) -> Child {
    Command::new(program)
        .args(["-a", "127.0.0.1", "-p", port, "-js"])
        .arg("-c")
        .arg(folder.join("server.conf"))
        .arg("-sd")
        .arg(folder.join("store"))
        .arg("--ports_file_dir")
        .arg(folder)
        .arg("-l")
        .arg(folder.join("log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server runs")
}
