//! `weir plugin watch`: on save, build, test, and only what passes is put where a running Weir
//! looks for it.
//!
//! A component is written in one step after its cases have passed, so that whatever is half written
//! or wrong in the folder never reaches Weir. With `--into` the running Weir is asked until it
//! serves that very component, or says why it does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use axum::http::Method;
use clap::Args;
use notify::RecursiveMode;
use notify_debouncer_full::{DebounceEventResult, new_debouncer};
use serde_json::Value;

use super::super::client::{Client, DEFAULT_URL};
use super::super::table::plain;
use super::super::{Failure, Outcome, block_on};
use super::trial::tried;
use super::{name, not_built};
use crate::plugin::cases;
use crate::plugin::toolchain::{self, Made};

/// Editors write a file in several steps; this long it must be quiet.
const SETTLE: Duration = Duration::from_millis(50);
/// How often Weir is asked whether it serves the new version.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// How long Weir has to take a new version, compiling it included.
const PATIENCE: Duration = Duration::from_secs(60);
/// A configuration that Weir refused may be about to be read again, because two files changed.
const SECOND_THOUGHT: Duration = Duration::from_millis(500);
/// What builds and tests write themselves, and what is not the plugin's source.
const NOT_SOURCE: [&str; 6] = [
    "dist",
    "target",
    "node_modules",
    "__pycache__",
    "build",
    "Cargo.lock",
];

/// Arguments of `weir plugin watch`.
#[derive(Clone, Debug, Args)]
pub struct WatchArgs {
    /// The plugin's folder
    #[arg(default_value = ".", value_name = "FOLDER")]
    folder: PathBuf,
    /// The plugin's name in the configuration of a running Weir, whose `path` is the component in
    /// this folder's dist
    #[arg(long, value_name = "NAME")]
    into: Option<String>,
    /// Stop after so many rounds of building and testing; without it, Ctrl-C does
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Where Weir listens
    #[arg(long, env = "WEIR_URL", default_value = DEFAULT_URL, value_name = "URL")]
    url: String,
    /// A token with the role read; better given in the environment, where other users cannot read
    /// it
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

/// Watches until it is stopped, one round at once and one for each save. The answer is that of the
/// last round.
pub(super) fn run(args: &WatchArgs) -> Outcome {
    let folder = args.folder.canonicalize();
    let folder = folder.map_err(|error| {
        Failure::Unreachable(format!("cannot watch {}: {error}", args.folder.display()))
    })?;
    let weir = args
        .into
        .as_deref()
        .map(|plugin| Weir::new(plugin, args))
        .transpose()?;
    let (saved, saves) = mpsc::channel();
    let inside = folder.clone();
    let heard = move |events: DebounceEventResult| {
        let Ok(events) = events else { return };
        let of_source = events.iter().filter(|event| {
            !event.kind.is_access() && event.paths.iter().any(|path| is_source(&inside, path))
        });
        if let Some(first) = of_source.map(|event| event.time).min() {
            // Nobody listens any more: it is being stopped.
            let _ = saved.send(first);
        }
    };
    let unwatched = |error: notify::Error| {
        Failure::Unreachable(format!("cannot watch {}: {error}", folder.display()))
    };
    let mut debouncer = new_debouncer(SETTLE, None, heard).map_err(unwatched)?;
    debouncer
        .watch(&folder, RecursiveMode::Recursive)
        .map_err(unwatched)?;
    let mut seen = fingerprint(&folder);
    // The first round is about what was saved long ago.
    let (mut saved_at, mut round) = (None::<Instant>, 0);
    loop {
        let fine = match self::round(&folder, weir.as_ref()) {
            Ok(sentence) => {
                let after = saved_at.map(|saved| {
                    format!(
                        ", {:.1} s after it was saved",
                        saved.elapsed().as_secs_f64()
                    )
                });
                told(true, &format!("{sentence}{}", after.unwrap_or_default()))
            }
            Err(failure) => told(false, &failure.to_string()),
        };
        round += 1;
        if args.rounds.is_some_and(|rounds| round >= rounds) {
            return Ok(fine);
        }
        // What was saved while it was building counts from then.
        saved_at = loop {
            let Ok(first) = saves.recv() else {
                return Ok(fine);
            };
            let first = saves.try_iter().fold(first, Ord::min);
            let now = fingerprint(&folder);
            if now != seen {
                seen = now;
                break Some(first);
            }
        };
    }
}

/// Lines go out as they come: this command has no end of its own.
fn told(fine: bool, sentence: &str) -> bool {
    use std::io::Write;
    let mark = if fine { "ok   " } else { "WRONG" };
    // A reader that has gone is not an error.
    let _ = writeln!(std::io::stdout().lock(), "{mark} {sentence}");
    fine
}

/// Whether a path is something that a build is made of.
fn is_source(folder: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(folder) else {
        return false;
    };
    let mut parts = inside
        .components()
        .map(|part| part.as_os_str().to_string_lossy())
        .peekable();
    parts.peek().is_some()
        && parts.all(|part| {
            !part.starts_with('.') && !part.ends_with('~') && !NOT_SOURCE.contains(&&*part)
        })
}

/// Size and time of each source: builds touch folders, and some editors write a file that is as
/// before.
fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    fn collect(
        root: &Path,
        folder: &Path,
        found: &mut BTreeMap<PathBuf, (u64, Option<SystemTime>)>,
    ) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            match is_source(root, &path) {
                true if metadata.is_dir() => collect(root, &path, found),
                true => drop(found.insert(path, (metadata.len(), metadata.modified().ok()))),
                false => {}
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    found
}

/// Builds, tests, places, and waits for Weir. What has become true, a sentence.
fn round(folder: &Path, weir: Option<&Weir>) -> Result<String, Failure> {
    let made = toolchain::make(folder, &mut |_| {}).map_err(not_built)?;
    let tested = passes(folder, &made)?;
    let before = weir.map(Weir::last_reload).transpose()?;
    let built = made.place(&mut |_| {}).map_err(not_built)?;
    let placed = format!(
        "{tested}; {} is {}",
        built.component.display(),
        &built.sha256[..12]
    );
    match weir {
        None => Ok(placed),
        Some(weir) => {
            weir.serves(&built.sha256, before.unwrap_or_default())?;
            Ok(format!(
                "{placed}; Weir serves it as {}",
                plain(&weir.plugin)
            ))
        }
    }
}

/// Runs the cases of a component that is not placed yet.
fn passes(folder: &Path, made: &Made) -> Result<String, Failure> {
    let cases =
        cases::read(&folder.join("cases")).map_err(|error| Failure::No(error.to_string()))?;
    let tested = tried(&name(&made.path), &made.component, cases)?;
    if tested.all_pass() {
        return Ok(tested.summary());
    }
    Err(Failure::No(format!(
        "it is not put in force:\n{}",
        tested.to_people(&[]).trim_end()
    )))
}

/// A running Weir, and the plugin's name there.
struct Weir {
    plugin: String,
    client: Client,
}

impl Weir {
    fn new(plugin: &str, args: &WatchArgs) -> Result<Weir, Failure> {
        Ok(Weir {
            plugin: plugin.to_owned(),
            client: Client::at(&args.url, args.token.as_deref())?,
        })
    }

    /// How Weir's last attempt to load its configuration ended.
    fn last_reload(&self) -> Result<Value, Failure> {
        let mut last = Value::Null;
        block_on(async {
            last = self.client.json(Method::GET, "/v1/config").await?["last_reload"].take();
            Ok(true)
        })?;
        Ok(last)
    }

    /// Waits until Weir serves that component. `before` is the last attempt to load from before the
    /// component was placed.
    ///
    /// # Errors
    /// When Weir refuses it, in its own words, knows no such plugin, or does neither in time.
    fn serves(&self, sha256: &str, before: Value) -> Result<(), Failure> {
        let asked = Instant::now();
        let mut refused_since = None;
        block_on(async {
            loop {
                let plugins = self.client.json(Method::GET, "/v1/plugins?limit=1000").await?;
                if self.judged(&plugins, sha256)? {
                    return Ok(true);
                }
                // The plugin may be right, and the configuration around it wrong. An attempt that
                // was under way already says nothing yet.
                let reload = self.client.json(Method::GET, "/v1/config").await?["last_reload"].take();
                if reload["success"] == false && reload["time"] != before["time"] {
                    if refused_since.get_or_insert_with(Instant::now).elapsed() > SECOND_THOUGHT {
                        return Err(Failure::No(format!("Weir refuses it: {}", complaints(&reload))));
                    }
                } else {
                    refused_since = None;
                }
                if asked.elapsed() > PATIENCE {
                    let (plugin, seconds) = (&self.plugin, PATIENCE.as_secs());
                    return Err(Failure::No(format!(
                        "Weir does not serve it as {plugin} after {seconds} s; is the `path` of plugins.{plugin} the component in this folder's \
                         dist, and `reload` \"watch\"?"
                    )));
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        })
        .map(drop)
    }

    /// Whether it is served, of what Weir says of its plugins.
    fn judged(&self, plugins: &Value, sha256: &str) -> Result<bool, Failure> {
        let items = || plugins["items"].as_array().into_iter().flatten();
        let Some(plugin) = items().find(|plugin| plugin["name"] == *self.plugin) else {
            let names: Vec<&str> = items()
                .filter_map(|plugin| plugin["name"].as_str())
                .collect();
            let (wanted, there) = (
                &self.plugin,
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                },
            );
            return Err(Failure::No(format!(
                "Weir has no plugin {wanted}; it has {there}"
            )));
        };
        if plugin["sha256"] == sha256 {
            return Ok(true);
        }
        let refused = ["last_refused", "last_swap"].map(|field| &plugin[field]);
        match refused
            .into_iter()
            .find(|swap| swap["sha256"] == sha256 && swap["result"] == "refused")
        {
            Some(swap) => Err(Failure::No(format!(
                "Weir refuses it: {}",
                plain(swap["detail"].as_str().unwrap_or("it does not say why"))
            ))),
            None => Ok(false),
        }
    }
}

/// What is wrong with a configuration, by Weir's own words.
fn complaints(reload: &Value) -> String {
    let complaints = reload["complaints"].as_array().into_iter().flatten();
    let told: Vec<String> = complaints
        .filter_map(|complaint| complaint["what"].as_str())
        .map(plain)
        .collect();
    if told.is_empty() {
        "it does not say why".into()
    } else {
        told.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_builds_write_and_editors_leave_is_no_source() {
        let folder = Path::new("/p");
        for path in [
            "src/lib.rs",
            "cases/a/event.json",
            "Cargo.toml",
            "plugin.ts",
            "weir-plugin/src/lib.rs",
        ] {
            assert!(is_source(folder, &folder.join(path)), "{path}");
        }
        for path in [
            "",
            "dist/p.wasm",
            "target/x",
            "node_modules/a/b.js",
            "src/.lib.rs.swp",
            "src/lib.rs~",
            "Cargo.lock",
            "../other",
        ] {
            assert!(!is_source(folder, &folder.join(path)), "{path}");
        }
    }

    #[test]
    fn weir_is_believed_only_on_the_very_component() {
        let args = WatchArgs {
            folder: ".".into(),
            into: None,
            rounds: None,
            url: DEFAULT_URL.into(),
            token: None,
        };
        let weir = Weir::new("erp", &args).expect("a URL");
        let says = |plugin: Value| {
            weir.judged(&json!({ "items": [plugin] }), "new")
                .map_err(|failure| failure.to_string())
        };
        assert_eq!(says(json!({"name": "erp", "sha256": "new"})), Ok(true));
        assert_eq!(says(json!({"name": "erp", "sha256": "old"})), Ok(false));
        let other = json!({"name": "erp", "sha256": "old", "last_refused": {"sha256": "older", "result": "refused", "detail": "no"}});
        assert_eq!(says(other), Ok(false), "that was another attempt");
        let refused = json!({"name": "erp", "sha256": "old", "last_refused": {"sha256": "new", "result": "refused", "detail": "its settings do not fit"}});
        assert_eq!(
            says(refused),
            Err("Weir refuses it: its settings do not fit".into())
        );
        assert_eq!(
            says(json!({"name": "pim", "sha256": "new"})),
            Err("Weir has no plugin erp; it has pim".into())
        );
    }
}
