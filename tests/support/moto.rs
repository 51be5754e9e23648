//! A store that speaks the protocol of S3: moto, on a free port of loopback, and boto3 as the judge of what it
//! holds. It ends with its owner.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::parts::part;

/// How long the server may take to start.
const START_MAX: Duration = Duration::from_secs(120);

/// A store without a bucket. It takes any credentials.
pub struct Moto {
    process: Child,
    port: u16,
    python: PathBuf,
}

impl Moto {
    /// Starts one; `None` if there is no program for it, after a line that says what was not tested.
    pub fn start(proves: &str) -> Option<Moto> {
        let (program, python) = (part("moto_server", proves)?, part("python3", proves)?);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto runs");
        let moto = Moto {
            process,
            port,
            python,
        };
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let waited = began.elapsed();
            assert!(waited < START_MAX, "moto does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(moto)
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the store.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a script of Python prints that finds boto3's client as `s3`.
    pub fn judge(&self, script: &str) -> String {
        let before = format!(
            "import boto3, hashlib, json\ns3 = boto3.client('s3', endpoint_url={:?}, region_name='us-east-1', aws_access_key_id='k', aws_secret_access_key='a-secret')\n",
            self.url()
        );
        let output = Command::new(&self.python)
            .args(["-c", &(before + script)])
            .output()
            .expect("python runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
