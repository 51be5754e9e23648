//! The stage of most stories: a folder, a configuration, a Weir that runs on it, and a receiver.
//! Only this file knows the routes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::weir::Weir;
use super::{Receiver, Reply, becomes, eventually};

/// The start of every configuration: any free port, and reloads only on request.
const HEAD: &str = r#"config_version = 1
[server]
listen = "127.0.0.1:0"
reload = "signal"
[store]
path = "data"
"#;

/// Two systems that own facets of products, and one shop, to which failed deliveries are retried
/// quickly. `{shop}` is replaced with the receiver's URL. No attempt times out on a busy machine, so that
/// each delivery is made once; stories of targets that are silent use [`impatient`].
pub const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
facets."price.*" = { owner = "erp", lane = "urgent" }
[sources.pim]
[sources.erp]
[targets.shop]
kind = "webhook"
url = "{shop}"
timeout = "30s"
[channels.shop]
entity = "product"
facets = ["content", "price.*"]
target = "shop"
retry = { first = "20ms", cap = "100ms" }
"#;

/// The catalogue with a target that is given a second to respond.
pub fn impatient() -> String {
    CATALOG.replace("timeout = \"30s\"", "timeout = \"1s\"")
}

/// A token for each role, to follow a configuration. The secret is the name and `-secret-of-some-length`.
pub const TOKENS: &str = r#"
[tokens.reader]
secret = "reader-secret-of-some-length"
roles = ["read"]
[tokens.operator]
secret = "operator-secret-of-some-length"
roles = ["operate"]
[tokens.chief]
secret = "chief-secret-of-some-length"
roles = ["admin"]
"#;

/// A Weir with one receiver.
pub struct Stage {
    // Fields are dropped in this order: the log is read before its folder is removed.
    weir: Option<Weir>,
    pub shop: Receiver,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Weir with [`CATALOG`], running.
    pub fn catalog() -> Stage {
        Stage::with(CATALOG)
    }

    /// Weir with this configuration below the head, running.
    pub fn with(config: &str) -> Stage {
        let mut stage = Stage::closed(config);
        stage.start();
        stage
    }

    /// The same, but not started yet.
    pub fn closed(config: &str) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let stage = Stage {
            folder,
            shop: Receiver::start(),
            weir: None,
        };
        stage.configure(config);
        stage
    }

    /// Gives a stage that is not started yet a port that it keeps over restarts.
    pub fn keeps_its_port(self) -> (Stage, u16) {
        // Below those that the system gives to others, so that it is still free after a restart.
        let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
        let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..30_000));
        let port = ports.find(free).expect("a port");
        let file = self.folder().join("weir.toml");
        let config = std::fs::read_to_string(&file).expect("a configuration");
        let config = config.replace("127.0.0.1:0\"", &format!("127.0.0.1:{port}\""));
        std::fs::write(&file, config).expect("written");
        (self, port)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether Weir has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.weir.as_mut().is_none_or(|weir| weir.ended().is_some())
    }

    pub fn weir(&self) -> &Weir {
        self.weir.as_ref().expect("it runs")
    }

    /// Writes the configuration without a reload.
    pub fn configure(&self, config: &str) {
        let config = format!("{HEAD}{}", config.replace("{shop}", &self.shop.url()));
        std::fs::write(self.folder().join("weir.toml"), config).expect("written");
    }

    /// Puts a file next to the configuration.
    pub fn place(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder().join(name);
        // In one step, as a build or an editor does it.
        let part = self.folder().join(format!("{name}.part"));
        std::fs::write(&part, bytes).expect("written");
        std::fs::rename(&part, &path).expect("renamed");
        path
    }

    pub fn start(&mut self) {
        self.weir = Some(Weir::start(self.folder.path()));
    }

    /// Starts Weir with environment variables.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let command = std::process::Command::new(super::weir::PROGRAM);
        let folder = self.folder.path();
        self.weir = Some(Weir::start_by(command, folder, environment, &[]));
    }

    /// Starts Weir with more options of `weir run`.
    pub fn start_with_options(&mut self, options: &[&str]) {
        let command = std::process::Command::new(super::weir::PROGRAM);
        let folder = self.folder.path();
        self.weir = Some(Weir::start_by(command, folder, &[], options));
    }

    pub fn start_by(&mut self, command: std::process::Command) {
        let folder = self.folder.path();
        self.weir = Some(Weir::start_by(command, folder, &[], &[]));
    }

    /// Sends SIGTERM; Weir must exit with success. Returns how long it took.
    #[track_caller]
    pub fn stop(&mut self) -> std::time::Duration {
        let (time, status) = self.weir.take().expect("it runs").stop();
        assert!(status.success(), "it ended with {status}");
        time
    }

    pub fn kill(&mut self) {
        self.weir.take().expect("it runs").kill();
    }

    /// Writes the configuration and asks for a reload. Returns the response: the reload, or the
    /// problem (422).
    #[track_caller]
    pub fn reload(&self, config: &str) -> Value {
        self.configure(config);
        self.reload_files()
    }

    /// Asks for a reload of the files as they are.
    #[track_caller]
    pub fn reload_files(&self) -> Value {
        self.weir().post("/v1/reload").json()
    }

    /// Writes a configuration and reloads it; it must be accepted.
    #[track_caller]
    pub fn reloads(&self, config: &str) {
        let view = self.reload(config);
        assert_eq!(view["success"], true, "{view:#}");
    }

    /// Runs a command on the running Weir. Returns its exit code, and what it printed.
    #[track_caller]
    pub fn tell(&self, arguments: &[&str]) -> (i32, String) {
        let url = format!("http://{}", self.weir().address());
        let output = super::weir::command(self.folder(), &[arguments, &["--url", &url]].concat());
        let said = [&output.stdout[..], &output.stderr].concat();
        let code = output.status.code().expect("an exit code");
        (code, String::from_utf8_lossy(&said).into_owned())
    }

    /// What `weir check --connect` prints, with environment variables; and its exit code.
    #[track_caller]
    pub fn check_connections(&self, environment: &[(&str, &str)]) -> (i32, String) {
        let mut check = std::process::Command::new(super::weir::PROGRAM);
        check.args(["check", "--connect", "-c", "weir.toml"]);
        check.envs(environment.iter().copied());
        let output = check.current_dir(self.folder()).output().expect("it runs");
        let code = output.status.code().expect("an exit code");
        (code, String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sends a body to a source.
    #[track_caller]
    pub fn send(&self, source: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.weir().ask(
            "POST",
            &format!("/v1/sources/{source}/events"),
            headers,
            body,
        )
    }

    /// Sends changes as NDJSON; all of them must be accepted without a problem. Returns the
    /// response.
    #[track_caller]
    pub fn takes(&self, source: &str, changes: &[Value]) -> Value {
        let lines: Vec<String> = changes.iter().map(Value::to_string).collect();
        let reply = self.send(
            source,
            &[("content-type", "application/x-ndjson")],
            lines.join("\n").as_bytes(),
        );
        assert_eq!(reply.status, 202, "{}", reply.text());
        let answer = reply.json();
        assert_eq!(answer["problems"], json!([]), "{answer:#}");
        answer
    }

    /// Waits until the shop holds exactly this. Keys are percent-encoded.
    #[track_caller]
    pub fn shop_holds(&self, expected: Value) {
        let expected = expected
            .as_object()
            .expect("an object")
            .clone()
            .into_iter()
            .collect();
        becomes("the content of the shop", expected, || self.shop.holds());
    }

    pub fn channel(&self, name: &str) -> Value {
        self.weir().get(&format!("/v1/channels/{name}")).json()
    }

    /// Waits until a channel is in this state.
    #[track_caller]
    pub fn channel_is(&self, name: &str, state: &str) {
        becomes(
            &format!("the state of channel {name}"),
            json!(state),
            || self.channel(name)["state"].clone(),
        );
    }

    /// Waits until the channel owes nothing and has nothing in flight or parked.
    #[track_caller]
    pub fn settles(&self, channel: &str) {
        eventually(&format!("channel {channel} owes nothing"), || {
            let view = self.channel(channel);
            let owed = &view["owed"];
            let counts = [
                &owed["urgent"],
                &owed["normal"],
                &owed["bulk"],
                &owed["sweep"],
                &view["in_flight"],
                &view["parked"],
            ];
            counts.into_iter().all(|count| count == 0).then_some(())
        });
    }

    /// Waits until the last sweep of a channel, such as that of a new channel, has ended; returns its view. A
    /// change that comes meanwhile may be delivered by the sweep.
    #[track_caller]
    pub fn swept(&self, channel: &str) -> Value {
        eventually(&format!("the sweep of channel {channel} is over"), || {
            let sweep = self.channel(channel)["last_sweep"].clone();
            sweep["ended"].is_string().then_some(sweep)
        })
    }

    /// Sends an operator command to a channel: `pause`, `resume`, `resync`, `rerender` or
    /// `confirm`.
    #[track_caller]
    pub fn operate(&self, channel: &str, word: &str) {
        let reply = self.weir().post(&format!("/v1/channels/{channel}/{word}"));
        assert!(
            (200..300).contains(&reply.status),
            "{} {}",
            reply.status,
            reply.text()
        );
    }

    /// An entity as the API shows it.
    pub fn entity(&self, key: &str) -> Value {
        self.weir()
            .get(&format!("/v1/entities/product/{key}"))
            .json()
    }

    /// The standing of an entity on a channel; null if there is none.
    pub fn standing(&self, key: &str, channel: &str) -> Value {
        let entity = self.entity(key);
        let standing = entity["channels"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|standing| standing["channel"] == channel);
        standing.cloned().unwrap_or(Value::Null)
    }

    /// Waits until an entity is in this state on a channel, and returns its standing.
    #[track_caller]
    pub fn stands(&self, key: &str, channel: &str, state: &str) -> Value {
        eventually(&format!("{key} is {state} on {channel}"), || {
            let standing = self.standing(key, channel);
            (standing["state"] == state).then_some(standing)
        })
    }

    /// The quarantined events of a source.
    pub fn quarantine(&self, source: &str) -> Vec<Value> {
        let list = self
            .weir()
            .get(&format!("/v1/sources/{source}/quarantine"))
            .json();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// The entities that a channel's target has refused.
    pub fn refused(&self, channel: &str) -> Vec<Value> {
        let list = self
            .weir()
            .get(&format!("/v1/channels/{channel}/refused"))
            .json();
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

/// A change of a product's facet.
pub fn change(key: &str, facet: &str, value: Value) -> Value {
    json!({"type": "product", "key": key, "facet": facet, "value": value})
}

/// A deletion of a product's facet.
pub fn deletion(key: &str, facet: &str) -> Value {
    json!({"type": "product", "key": key, "facet": facet, "deleted": true})
}
