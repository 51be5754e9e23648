//! What most stories need: a folder, a configuration, a Weir on it, and a receiver; and the only
//! place that knows the routes.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::weir::Weir;
use super::{Receiver, Reply, becomes, eventually};

/// The beginning of every configuration: any port, reloads when asked only.
const HEAD: &str = r#"config_version = 1
[server]
listen = "127.0.0.1:0"
reload = "signal"
[store]
path = "data"
"#;

/// Two systems that know products, and one shop that is told quickly again after a failure.
/// `{shop}` is the receiver's URL.
pub const CATALOG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
facets."price.*" = { owner = "erp", lane = "urgent" }
[sources.pim]
[sources.erp]
[targets.shop]
kind = "webhook"
url = "{shop}"
timeout = "1s"
[channels.shop]
entity = "product"
facets = ["content", "price.*"]
target = "shop"
retry = { first = "20ms", cap = "100ms" }
"#;

/// A Weir with one receiver.
pub struct Stage {
    // In this order they go: the log is read before its folder is gone.
    weir: Option<Weir>,
    pub shop: Receiver,
    folder: tempfile::TempDir,
}

impl Stage {
    /// The catalogue of two systems and one shop.
    pub fn catalog() -> Stage {
        Stage::with(CATALOG)
    }

    /// Any configuration below the head.
    pub fn with(config: &str) -> Stage {
        let mut stage = Stage::closed(config);
        stage.start();
        stage
    }

    /// Written, not started.
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

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.weir.as_mut().is_none_or(|weir| weir.ended().is_some())
    }

    pub fn weir(&self) -> &Weir {
        self.weir.as_ref().expect("it runs")
    }

    /// Writes the configuration; nobody is told.
    pub fn configure(&self, config: &str) {
        let config = format!("{HEAD}{}", config.replace("{shop}", &self.shop.url()));
        std::fs::write(self.folder().join("weir.toml"), config).expect("written");
    }

    /// Puts a file beside the configuration.
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

    /// Starts it with environment variables.
    pub fn start_with(&mut self, environment: &[(&str, &str)]) {
        let command = std::process::Command::new(super::weir::PROGRAM);
        self.weir = Some(Weir::start_by(command, self.folder.path(), environment));
    }

    pub fn start_by(&mut self, command: std::process::Command) {
        self.weir = Some(Weir::start_by(command, self.folder.path(), &[]));
    }

    /// SIGTERM; it must end well.
    #[track_caller]
    pub fn stop(&mut self) -> std::time::Duration {
        let (time, status) = self.weir.take().expect("it runs").stop();
        assert!(status.success(), "it ended with {status}");
        time
    }

    pub fn kill(&mut self) {
        self.weir.take().expect("it runs").kill();
    }

    /// A new configuration, put in force on request; what was answered: the reload, or the problem
    /// (422).
    #[track_caller]
    pub fn reload(&self, config: &str) -> Value {
        self.configure(config);
        self.reload_files()
    }

    /// The files as they are now.
    #[track_caller]
    pub fn reload_files(&self) -> Value {
        self.weir().post("/v1/reload").json()
    }

    /// A new configuration that must be taken.
    #[track_caller]
    pub fn reloads(&self, config: &str) {
        let view = self.reload(config);
        assert_eq!(view["success"], true, "{view:#}");
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

    /// Sends changes as lines; they must be taken without a word. Gives the answer.
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

    /// The shop holds this, soon. Keys are percent-encoded.
    #[track_caller]
    pub fn shop_holds(&self, expected: Value) {
        let expected = expected
            .as_object()
            .expect("an object")
            .clone()
            .into_iter()
            .collect();
        becomes("what the shop holds", expected, || self.shop.holds());
    }

    pub fn channel(&self, name: &str) -> Value {
        self.weir().get(&format!("/v1/channels/{name}")).json()
    }

    /// A channel comes into this state.
    #[track_caller]
    pub fn channel_is(&self, name: &str, state: &str) {
        becomes(
            &format!("the state of channel {name}"),
            json!(state),
            || self.channel(name)["state"].clone(),
        );
    }

    /// The channel owes nothing, has nothing under way and nothing parked.
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

    /// An operator's word: `pause`, `resume`, `resync`, `rerender`, `confirm`.
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

    /// An entity as shown.
    pub fn entity(&self, key: &str) -> Value {
        self.weir()
            .get(&format!("/v1/entities/product/{key}"))
            .json()
    }

    /// Where an entity stands on a channel.
    pub fn standing(&self, key: &str, channel: &str) -> Value {
        let entity = self.entity(key);
        let standing = entity["channels"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|standing| standing["channel"] == channel);
        standing.cloned().unwrap_or(Value::Null)
    }

    /// It comes to stand there.
    #[track_caller]
    pub fn stands(&self, key: &str, channel: &str, state: &str) -> Value {
        eventually(&format!("{key} is {state} on {channel}"), || {
            let standing = self.standing(key, channel);
            (standing["state"] == state).then_some(standing)
        })
    }

    /// What is in quarantine of a source.
    pub fn quarantine(&self, source: &str) -> Vec<Value> {
        let list = self
            .weir()
            .get(&format!("/v1/sources/{source}/quarantine"))
            .json();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// What a channel's target has refused.
    pub fn refused(&self, channel: &str) -> Vec<Value> {
        let list = self
            .weir()
            .get(&format!("/v1/channels/{channel}/refused"))
            .json();
        list["items"].as_array().cloned().unwrap_or_default()
    }
}

/// A change of a product.
pub fn change(key: &str, facet: &str, value: Value) -> Value {
    json!({"type": "product", "key": key, "facet": facet, "value": value})
}

/// A facet of a product is gone.
pub fn deletion(key: &str, facet: &str) -> Value {
    json!({"type": "product", "key": key, "facet": facet, "deleted": true})
}
