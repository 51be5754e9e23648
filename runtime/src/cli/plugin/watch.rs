//! `weir plugin watch`: on every save, builds, tests, and writes a component that passes to the
//! file that a running Weir watches.
//!
//! A component is written in one step after its cases have passed, so that nothing half written or
//! wrong in the folder reaches Weir. With `--into`, the running Weir is polled until it uses that
//! very component, or reports why it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use axum::http::Method;
use clap::Args;
use notify::RecursiveMode;
use notify_debouncer_full::{DebounceEventResult, new_debouncer};
use serde_json::Value;

use super::super::client::{Client, DEFAULT_URL};
use super::super::table::plain;
use super::super::{CommandResult, Failure, block_on};
use super::test_command::{summary, to_text};
use super::{build_failure, fault_failure, name};
use crate::author::cases;
use crate::author::suite::{self, Blessing};
use crate::author::toolchain::{self, Made};
use crate::plugin::version;
use crate::{files, plain, sync};

/// Quiet time before a build: editors write a file in several steps.
const SETTLE: Duration = Duration::from_millis(50);
/// Interval of asking Weir whether it uses the new version.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Time that Weir has for taking a new version, including compiling it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time before a refusal of the configuration counts: it may be about to be read again, because two
/// files changed.
const SECOND_THOUGHT: Duration = Duration::from_millis(500);
/// Folders and files that builds and tests write, and that are not source.
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
    /// Stop after N rounds of building and testing; default: until Ctrl-C
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// The address of Weir
    #[arg(long, env = "WEIR_URL", default_value = DEFAULT_URL, value_name = "URL")]
    url: String,
    /// A token with the role `read`; prefer the environment, where other users cannot read it
    #[arg(long, env = "WEIR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

/// Watches until it is stopped: one round at once and one for each save. Returns the result of the
/// last round.
pub(super) fn run(args: &WatchArgs) -> CommandResult {
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
    let links = Arc::new(Mutex::new(Links::default()));
    let (inside, known) = (folder.clone(), links.clone());
    let on_event = move |events: DebounceEventResult| {
        let Ok(events) = events else { return };
        let touched =
            |path: &PathBuf| is_source(&inside, path) || sync::lock(&known).entries.contains(path);
        let source_events = events
            .iter()
            .filter(|event| !event.kind.is_access() && event.paths.iter().any(touched));
        if let Some(first) = source_events.map(|event| event.time).min() {
            // The receiver is gone: the command is stopping.
            let _ = saved.send(first);
        }
    };
    let unwatched = |error: notify::Error| {
        Failure::Unreachable(format!("cannot watch {}: {error}", folder.display()))
    };
    let mut debouncer = new_debouncer(SETTLE, None, on_event).map_err(unwatched)?;
    debouncer
        .watch(&folder, RecursiveMode::Recursive)
        .map_err(unwatched)?;
    let mut sources = Sources::read(&folder);
    // The first round builds files that were saved long ago, so it reports no time since the save.
    let (mut saved_at, mut round) = (None::<Instant>, 0);
    loop {
        for outside in sync::lock(&links).follow(&folder, &sources) {
            // A folder that is gone is noticed by the next build.
            let _ = debouncer.watch(outside, RecursiveMode::NonRecursive);
        }
        let succeeded = match self::round(&folder, weir.as_ref()) {
            Ok(sentence) => {
                let after = saved_at.map(|saved| {
                    format!(", {:.1} s after the save", saved.elapsed().as_secs_f64())
                });
                print_round(true, &format!("{sentence}{}", after.unwrap_or_default()))
            }
            Err(failure) => print_round(false, &failure.to_string()),
        };
        round += 1;
        if args.rounds.is_some_and(|rounds| round >= rounds) {
            return Ok(succeeded);
        }
        // For a save during the build, the time counts from that save.
        saved_at = loop {
            let Ok(first) = saves.recv() else {
                return Ok(succeeded);
            };
            let first = saves.try_iter().fold(first, Ord::min);
            let now = Sources::read(&folder);
            if now != sources {
                sources = now;
                break Some(first);
            }
        };
    }
}

/// Prints a line at once: this command may never end.
fn print_round(succeeded: bool, sentence: &str) -> bool {
    use std::io::Write;
    let mark = if succeeded { "ok   " } else { "WRONG" };
    // A reader that has gone is not an error.
    let _ = writeln!(
        std::io::stdout().lock(),
        "{mark} {}",
        plain::lines(sentence)
    );
    succeeded
}

/// Whether a path is source of the plugin.
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

/// The sources of a plugin, with size, time and inode of each: builds touch folders, and some editors
/// write a file that is as before. Links are followed, because a plugin may share its sources.
#[derive(Default, PartialEq, Eq)]
struct Sources {
    files: BTreeMap<PathBuf, (u64, Option<SystemTime>, u64)>,
    links: BTreeSet<PathBuf>,
}

impl Sources {
    fn read(folder: &Path) -> Sources {
        let mut sources = Sources::default();
        sources.collect(folder, folder, DEPTH_MAX);
        sources
    }

    fn collect(&mut self, root: &Path, folder: &Path, depth_left: usize) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if !is_source(root, &path) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.links.insert(path.clone());
            }
            match std::fs::metadata(&path) {
                Ok(found) if found.is_dir() && depth_left > 0 => {
                    self.collect(root, &path, depth_left - 1);
                }
                Ok(found) => {
                    let known = (found.len(), found.modified().ok(), found.ino());
                    self.files.insert(path, known);
                }
                Err(_) => {}
            }
        }
    }
}

/// Maximum depth of folders; a link may lead to a folder around it.
const DEPTH_MAX: usize = 16;

/// What sources that are links lead to.
#[derive(Default)]
struct Links {
    /// The entries on which it depends what they lead to.
    entries: BTreeSet<PathBuf>,
    /// The folders of these entries that are watched.
    folders: BTreeSet<PathBuf>,
}

impl Links {
    /// Follows the links among the sources. Returns the folders outside of the plugin's that have to
    /// be watched from now on.
    fn follow(&mut self, plugin: &Path, sources: &Sources) -> Vec<PathBuf> {
        let trails = sources.links.iter().map(|link| files::trail(link));
        self.entries = trails.flatten().flatten().collect();
        let folders = self.entries.iter().filter_map(|entry| entry.parent());
        let new: BTreeSet<PathBuf> = folders
            .filter(|folder| !folder.starts_with(plugin) && !self.folders.contains(*folder))
            .map(Path::to_owned)
            .collect();
        self.folders.extend(new.iter().cloned());
        new.into_iter().collect()
    }
}

/// Builds, tests, writes the component, and waits for Weir. Returns a sentence on the result.
fn round(folder: &Path, weir: Option<&Weir>) -> Result<String, Failure> {
    let made = toolchain::make(folder, &mut |_| {}).map_err(build_failure)?;
    let tested = passes(folder, &made)?;
    let before = weir.map(Weir::last_reload).transpose()?;
    let built = made.place(&mut |_| {}).map_err(build_failure)?;
    let placed = format!(
        "{tested}; {} is {}",
        built.component.display(),
        version(&built.sha256)
    );
    match weir {
        None => Ok(placed),
        Some(weir) => {
            weir.serves(&built.sha256, before.unwrap_or_default())?;
            Ok(format!("{placed}; Weir uses it as {}", plain(&weir.plugin)))
        }
    }
}

/// Runs the cases of a component that is not written to its file yet.
fn passes(folder: &Path, made: &Made) -> Result<String, Failure> {
    let cases =
        cases::read(&folder.join("cases")).map_err(|error| Failure::Failed(error.to_string()))?;
    let results = suite::run(&name(&made.path), &made.component, cases).map_err(fault_failure)?;
    if results.all_pass() {
        return Ok(summary(&results));
    }
    Err(Failure::Failed(format!(
        "it fails its cases and is not written:\n{}",
        to_text(&results, &Blessing::default()).trim_end()
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

    /// The result of Weir's last reload of its configuration.
    fn last_reload(&self) -> Result<Value, Failure> {
        let mut last = Value::Null;
        block_on(async {
            last = self.client.json(Method::GET, "/v1/config").await?["last_reload"].take();
            Ok(true)
        })?;
        Ok(last)
    }

    /// Waits until Weir uses that component. `before` is the last reload before the component was
    /// written.
    ///
    /// # Errors
    /// When Weir refuses it, in its own words, has no such plugin, or does not react in time.
    fn serves(&self, sha256: &str, before: Value) -> Result<(), Failure> {
        let asked = Instant::now();
        let mut refused_since = None;
        block_on(async {
            loop {
                let plugins = self.client.json(Method::GET, "/v1/plugins?limit=1000").await?;
                if self.in_use(&plugins, sha256)? {
                    return Ok(true);
                }
                // The plugin may be right, and the configuration around it wrong. A reload that was
                // already under way says nothing yet.
                let reload = self.client.json(Method::GET, "/v1/config").await?["last_reload"].take();
                if reload["success"] == false && reload["time"] != before["time"] {
                    if refused_since.get_or_insert_with(Instant::now).elapsed() > SECOND_THOUGHT {
                        return Err(Failure::Failed(format!("Weir refuses it: {}", complaints(&reload))));
                    }
                } else {
                    refused_since = None;
                }
                if asked.elapsed() > PATIENCE {
                    let (plugin, seconds) = (&self.plugin, PATIENCE.as_secs());
                    return Err(Failure::Failed(format!(
                        "Weir does not use it as {plugin} after {seconds} s; is the `path` of plugins.{plugin} the component in this folder's \
                         dist, and `reload` \"watch\"?"
                    )));
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        })
        .map(drop)
    }

    /// Whether Weir uses it, by its list of plugins.
    fn in_use(&self, plugins: &Value, sha256: &str) -> Result<bool, Failure> {
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
            return Err(Failure::Failed(format!(
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
            Some(swap) => Err(Failure::Failed(format!(
                "Weir refuses it: {}",
                plain(swap["detail"].as_str().unwrap_or("it gives no reason"))
            ))),
            None => Ok(false),
        }
    }
}

/// The complaints about a configuration, in Weir's own words.
fn complaints(reload: &Value) -> String {
    let complaints = reload["complaints"].as_array().into_iter().flatten();
    let sentences: Vec<String> = complaints
        .filter_map(|complaint| complaint["what"].as_str())
        .map(plain)
        .collect();
    if sentences.is_empty() {
        "it gives no reason".into()
    } else {
        sentences.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_of_builds_and_editors_are_not_source() {
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

    // Sources that were shared by a link were neither watched nor compared.
    #[test]
    fn sources_behind_links_are_sources() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().canonicalize().expect("it").join(name);
        for name in ["p/src", "shared/a", "shared/b"] {
            std::fs::create_dir_all(at(name)).expect("made");
        }
        std::fs::write(at("shared/a/price.py"), "1").expect("written");
        std::fs::write(at("shared/b/price.py"), "2").expect("written");
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, at(name)).expect("a link");
        };
        link("a", "shared/current");
        link("../shared/current/price.py", "p/price.py");
        link("..", "p/src/around");
        let sources = Sources::read(&at("p"));
        assert!(sources.links.contains(&at("p/price.py")));
        let mut links = Links::default();
        let watched = links.follow(&at("p"), &sources);
        assert_eq!(watched, [at("shared"), at("shared/a")]);
        assert!(links.entries.contains(&at("shared/current")));
        assert!(links.entries.contains(&at("shared/a/price.py")));
        assert!(links.follow(&at("p"), &sources).is_empty(), "once");
        link("b", "shared/next");
        std::fs::rename(at("shared/next"), at("shared/current")).expect("renamed");
        assert!(Sources::read(&at("p")) != sources);
    }

    #[test]
    fn only_the_very_component_counts() {
        let args = WatchArgs {
            folder: ".".into(),
            into: None,
            rounds: None,
            url: DEFAULT_URL.into(),
            token: None,
        };
        let weir = Weir::new("erp", &args).expect("a URL");
        let says = |plugin: Value| {
            weir.in_use(&json!({ "items": [plugin] }), "new")
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
