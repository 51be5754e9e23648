//! A real NATS server with JetStream, on a free port of loopback and in a folder of its own. It ends with its
//! owner.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::parts::part;

/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(120);

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
        Some(Bus::run(&program, configuration).unwrap_or_else(|why| panic!("{why}")))
    }

    /// Starts three that are a cluster; `None` as for one.
    #[allow(dead_code)]
    pub fn cluster(proves: &str) -> Option<Vec<Bus>> {
        let program = part("nats-server", proves)?;
        // They must know the ports of each other before they start. If somebody else takes one in between, they
        // are started again.
        let mut why = String::new();
        for _ in 0..5 {
            let free = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
            let ports = free.map(|it| it.local_addr().expect("an address").port());
            let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\""));
            let configuration = |port: &u16| {
                format!(
                    "server_name: \"n{port}\"\ncluster {{ name: weir, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n",
                    routes.join(", ")
                )
            };
            let started = ports
                .iter()
                .map(|port| Bus::run(&program, &configuration(port)));
            match started.collect() {
                Ok(cluster) => return Some(cluster),
                Err(error) => why = error,
            }
        }
        panic!("no cluster: {why}");
    }

    fn run(program: &Path, configuration: &str) -> Result<Bus, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("server.conf"), configuration).expect("a file");
        let process = run(program, folder.path(), "-1");
        let mut bus = Bus {
            program: program.to_owned(),
            folder,
            process,
            port: 0,
        };
        bus.port = bus.written_port()?;
        Ok(bus)
    }

    /// The port that the server has written down, once it listens.
    fn written_port(&mut self) -> Result<u16, String> {
        let file = format!("nats-server_{}.ports", self.process.id());
        let file = self.folder.path().join(file);
        self.waits(|| {
            let text = std::fs::read_to_string(&file).ok()?;
            let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
            let url = ports["nats"][0].as_str()?.to_owned();
            url.rsplit_once(':')?.1.parse().ok()
        })
    }

    fn waits<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let ended = self.process.try_wait();
            if !matches!(ended, Ok(None)) || began.elapsed() > START_MAX {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                let log = log.unwrap_or_default();
                return Err(format!("nats-server does not listen ({ended:?}): {log}"));
            }
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

    /// What it calls itself in its cluster.
    #[allow(dead_code)]
    pub fn name(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("server.conf"));
        let text = text.unwrap_or_default();
        text.split('"').nth(1).unwrap_or_default().to_owned()
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
        let listens = self.waits(|| TcpStream::connect(("127.0.0.1", port)).ok());
        listens.unwrap_or_else(|why| panic!("{why}"));
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
