//! A real browser: Chromium without a window, driven over the WebDriver protocol.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use super::http;
use super::parts::part;

/// Without a window, a sandbox (which root cannot have), and everything that would ask other machines.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en-US",
];

/// Keys as WebDriver names them.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";
pub const ESCAPE: &str = "\u{E00C}";

/// A browser with a profile of its own; it is closed when it is dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    // Dropped last.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// `None` if Chromium is not installed.
    pub fn start(proves: &str) -> Option<Browser> {
        let (program, chromium) = (part("chromedriver", proves)?, part("chromium", proves)?);
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new(program)
            .arg("--port=0")
            .env("TZ", "Europe/Berlin")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines.find_map(|line| {
            let line = line.expect("text");
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        // It must not be stopped by an output that nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser {
            driver,
            address: ([127, 0, 0, 1], port.expect("a port")).into(),
            session: String::new(),
            _profile: profile,
        };
        let mut arguments: Vec<String> = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!(
            "--user-data-dir={}",
            browser._profile.path().display()
        ));
        let options = json!({ "binary": chromium, "args": arguments });
        let wanted = json!({
            "capabilities": { "alwaysMatch": {
                "goog:chromeOptions": options,
                "goog:loggingPrefs": { "browser": "ALL" },
                "timeouts": { "script": super::PATIENCE.as_millis() as u64 },
            } },
        });
        let session = browser.ask("POST", "", &wanted);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let session = match &*self.session {
            "" => String::new(),
            id => format!("/{id}"),
        };
        let path = format!("/session{session}{path}");
        let json = [("content-type", "application/json")];
        let body = if method == "GET" {
            String::new()
        } else {
            body.to_string()
        };
        let reply = http::request(self.address, method, &path, &json, body.as_bytes());
        let reply = reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text());
        reply.json()["value"].clone()
    }

    /// Loads an address, and returns when it is loaded.
    #[track_caller]
    pub fn goes_to(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// Opens another tab, and goes on in it.
    #[track_caller]
    pub fn opens_tab(&self) {
        let tab = self.ask("POST", "/window/new", &json!({ "type": "tab" }));
        self.ask("POST", "/window", &json!({ "handle": tab["handle"] }));
    }

    /// Runs a script, the body of a function, in the page.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        let body = json!({ "script": script, "args": arguments });
        self.ask("POST", "/execute/sync", &body)
    }

    /// Runs a script that calls its last argument when it is done.
    #[track_caller]
    pub fn run_to_end(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.ask("POST", "/execute/async", &body)
    }

    /// Waits until an expression is true in the page; otherwise fails with what the page shows.
    #[track_caller]
    pub fn sees(&self, what: &str, condition: &str) {
        let script = format!("return !!({condition})");
        let shown = || self.run("return document.body.innerText", &[]);
        let start = std::time::Instant::now();
        while self.run(&script, &[]) != true {
            assert!(
                start.elapsed() < super::PATIENCE,
                "not there: {what}; the page shows:\n{}",
                shown().as_str().unwrap_or_default()
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Waits until the page shows a text.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        self.sees(
            text,
            &format!("document.body.innerText.includes({})", json!(text)),
        );
    }

    /// Presses keys, one after the other, in whatever has the focus.
    #[track_caller]
    pub fn types(&self, keys: &str) {
        let presses: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": presses });
        self.ask("POST", "/actions", &json!({ "actions": [keyboard] }));
    }

    /// Moves the focus with the tab key until it is on something whose text or label is this.
    #[track_caller]
    pub fn tabs_to(&self, label: &str) {
        for _ in 0..200 {
            self.types(TAB);
            let focused = self.run(
                "const it = document.activeElement; return it.getAttribute('aria-label') || it.innerText",
                &[],
            );
            if focused == label {
                return;
            }
        }
        panic!("the tab key does not reach {label:?}");
    }

    /// A command of Chromium's own protocol.
    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        let body = json!({ "cmd": name, "params": parameters });
        self.ask("POST", "/goog/cdp/execute", &body)
    }

    /// Sets the size of the page.
    pub fn is_sized(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Prefers `light` or `dark`.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.command(
            "Emulation.setEmulatedMedia",
            &json!({ "features": features }),
        );
    }

    /// What the page looks like, as PNG.
    pub fn picture(&self) -> Vec<u8> {
        let picture = self.ask("GET", "/screenshot", &Value::Null);
        let text = picture.as_str().expect("text");
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("base64")
    }

    /// What the browser has complained about since it was asked last: errors in scripts, violations of the
    /// page's policy, answers that are errors.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().cloned().unwrap_or_default();
        let grave = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        grave
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _ = http::request(self.address, "DELETE", &path, &[], b"");
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
