//! The READMEs of the examples as tests: runs the commands of each README in order, in a copy of
//! the example, and compares the output with the README.
//!
//! The words after a fence say what the block is. `sh`: commands that must succeed, or print the
//! `text` block that follows. `sh terminal=NAME`: a command that is started and keeps running. `sh
//! setup`: how a reader gets `weir` into the path; not run here. `text`: the whole output of the
//! commands before it; commands that only look are repeated until the output is the same. `text
//! terminal=NAME`: lines that this terminal prints from now on, in any order. `…` matches anything;
//! times, versions of plugins and the width of columns are not compared.

#[path = "../support/bus.rs"]
#[allow(dead_code)]
mod bus;
mod kubernetes;
#[path = "../support/parts.rs"]
mod parts;
#[path = "../support/postgres.rs"]
#[allow(dead_code)]
mod postgres;
mod readme;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use readme::{Block, Kind};
use serde_json::{Value, json};
use terminal::Terminals;

/// How long to wait for expected output.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

#[test]
fn the_first_webhook_runs_as_in_its_readme() {
    let story = Story::read("first-webhook");
    let terminals = story.play();
    let shop = terminals.output("shop");
    assert!(
        !shop.contains("8.90") && !shop.contains("8.50"),
        "the shop received prices that had been replaced before the delivery:\n{shop}"
    );
}

#[test]
fn the_product_catalog_runs_as_in_its_readme() {
    Story::read("product-catalog").play();
}

#[test]
fn the_commerce_api_runs_as_in_its_readme() {
    Story::read("commerce-api").play();
}

#[test]
fn the_integration_database_runs_as_in_its_readme() {
    let proves = "examples/integration-database";
    let Some(server) = postgres::Postgres::start(&["fsync=on"], proves) else {
        return;
    };
    let Some(bus) = bus::Bus::start(proves) else {
        return;
    };
    let mut story = Story::read("integration-database");
    story.environment = vec![("DATABASE_URL", server.url()), ("NATS_URL", bus.url())];
    story.play();
}

#[test]
fn the_guide_for_operators_runs_on_the_first_webhook() {
    let mut story = Story::read("first-webhook");
    story.follow("runtime/docs/operating.md");
    story.play();
}

#[test]
fn the_guide_for_senders_runs_on_the_first_webhook() {
    let mut story = Story::read("first-webhook");
    story.follow("runtime/docs/sending.md");
    story.configure("runtime/docs/sending.md");
    story.play();
}

#[test]
fn the_backups_of_the_guide_for_installing_are_made_and_restored() {
    let mut story = Story::read("first-webhook");
    story.follow("runtime/docs/install.md");
    story.play();
}

#[test]
fn the_page_of_the_configuration_runs_on_the_first_webhook() {
    let mut story = Story::read("first-webhook");
    story.follow("runtime/docs/configuration.md");
    story.play();
}

#[test]
fn the_example_without_code_runs_as_in_its_readme() {
    Story::read("no-code").play();
}

/// In one test, because a demo takes a free port before Weir listens there.
#[test]
fn the_demo_converges_and_shows_the_same_to_people_and_programs() {
    let demo = |arguments: &[&str]| {
        let demo = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .current_dir(repository())
            .output();
        let demo = demo.expect("weir starts");
        let out = String::from_utf8_lossy(&demo.stdout).into_owned();
        assert!(
            demo.status.success(),
            "{:?}\n{out}\n{}",
            demo.status,
            String::from_utf8_lossy(&demo.stderr)
        );
        out
    };
    let out = demo(&["demo", "--seconds", "5"]);
    assert!(
        out.trim_end().ends_with("All channels have converged."),
        "{out}"
    );

    let out = demo(&["demo", "--seconds", "3", "--json"]);
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|line: &Value| line["kind"] != "building")
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["kind"].as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "started", "second", "second", "second", "settling", "summary", "compared"
        ],
        "{out}"
    );
    let (seconds, summary, compared) = (&lines[1..4], &lines[5], &lines[6]);
    // On a slow machine it may be none in the first second.
    let events = seconds
        .iter()
        .filter_map(|second| second["events"].as_u64());
    assert!(events.sum::<u64>() > 0, "{out}");
    assert!(
        summary["channels"][0]["delivered"].as_u64() > Some(0),
        "{summary}"
    );
    assert_eq!(
        (&compared["converged"], &compared["differences"]),
        (&json!(true), &json!(0)),
        "{compared}"
    );
}

/// A link to a file that has moved leads nowhere.
#[test]
fn the_links_of_the_readmes_lead_somewhere() {
    for readme in [
        "README.md",
        "examples/kubernetes/README.md",
        "runtime/docs/install.md",
        "examples/first-webhook/README.md",
        "examples/product-catalog/README.md",
        "examples/commerce-api/README.md",
        "examples/integration-database/README.md",
        "examples/no-code/README.md",
        "plugins/README.md",
        "plugins/REFERENCE.md",
        "runtime/docs/configuration.md",
        "runtime/docs/jq.md",
        "runtime/docs/operating.md",
        "runtime/docs/watching.md",
        "runtime/docs/receiving.md",
        "runtime/docs/senders.md",
        "runtime/docs/sending.md",
        "runtime/docs/postgres.md",
        "runtime/docs/search.md",
        "runtime/docs/feeds.md",
        "runtime/docs/brokers.md",
        "runtime/docs/files-and-buckets.md",
    ] {
        let path = repository().join(readme);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{readme}: {error}"));
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
            .filter(|link| !link.starts_with("http"))
        {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let linked = if file.is_empty() {
                path.clone()
            } else {
                path.with_file_name("").join(file)
            };
            assert!(linked.exists(), "{readme} links to {link}");
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&linked)
                    .unwrap_or_else(|error| panic!("{readme} links to {link}: {error}"));
                assert!(
                    headings(&text).any(|there| there == heading),
                    "{readme} links to {link}, but there is no such heading"
                );
            }
        }
    }
}

/// The anchors of the headings of a text.
fn headings(text: &str) -> impl Iterator<Item = String> + '_ {
    let named = |title: &str| {
        title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .collect::<String>()
    };
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(move |line| named(line.trim_start_matches('#').trim()).replace(' ', "-"))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the repository")
}

/// An example in a folder of its own, with ports of its own.
struct Story {
    blocks: Vec<Block>,
    folder: PathBuf,
    url: String,
    /// Further variables of its commands.
    environment: Vec<(&'static str, String)>,
    _scratch: tempfile::TempDir,
}

impl Story {
    /// Copies the example next to the repository's plugins and replaces the ports in its files with
    /// free ones.
    fn read(name: &str) -> Story {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().join("examples").join(name);
        let ports = [("7700", free_port()), ("8080", free_port())];
        copy(&repository().join("examples").join(name), &folder, &ports);
        std::os::unix::fs::symlink(repository().join("plugins"), scratch.path().join("plugins"))
            .expect("a link to the plugins");
        let text = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        let url = format!("http://127.0.0.1:{}", ports[0].1);
        Story {
            blocks: readme::blocks(&text),
            folder,
            url,
            environment: Vec::new(),
            _scratch: scratch,
        }
    }

    /// Takes the commands of another document in place of the README's.
    fn follow(&mut self, document: &str) {
        let text = std::fs::read_to_string(repository().join(document)).expect("the document");
        let port = self.url.rsplit(':').next().unwrap_or_default();
        self.blocks = readme::blocks(&text.replace("7700", port));
    }

    /// Adds what another document configures to the example's configuration.
    fn configure(&self, document: &str) {
        let text = std::fs::read_to_string(repository().join(document)).expect("the document");
        let file = self.folder.join("weir.toml");
        let before = std::fs::read_to_string(&file).expect("a configuration");
        let added = readme::configuration(&text);
        std::fs::write(&file, format!("{before}\n{added}")).expect("written");
    }

    /// Does what a reader would do.
    fn play(&self) -> Terminals {
        let mut terminals = Terminals::default();
        let mut last: Option<(&Block, String)> = None;
        for (at, block) in self.blocks.iter().enumerate() {
            match &block.kind {
                Kind::Setup => {}
                Kind::Start(terminal) => terminals.start(
                    terminal,
                    self.bash(&format!("exec {} 2>&1", block.text.trim())),
                ),
                Kind::Run => {
                    let compared = self
                        .blocks
                        .get(at + 1)
                        .is_some_and(|next| next.kind == Kind::Printed);
                    let (fine, output) = self.run(block, !compared);
                    assert!(
                        fine || compared,
                        "line {}: `{}` fails:\n{output}",
                        block.line,
                        block.text.trim()
                    );
                    last = Some((block, output));
                }
                Kind::Printed => {
                    let (commands, output) = last.take().unwrap_or_else(|| {
                        panic!("line {}: no commands before this output", block.line)
                    });
                    self.compare(commands, output, block);
                }
                Kind::Seen(terminal) => terminals.expect(terminal, block),
            }
        }
        terminals
    }

    fn compare(&self, commands: &Block, mut output: String, expected: &Block) {
        let until = Instant::now() + PATIENCE;
        while let Err(difference) = readme::same(&expected.text, &output) {
            assert!(
                commands.only_looks() && Instant::now() < until,
                "line {}: {difference}\n\nprinted:\n{output}",
                expected.line
            );
            std::thread::sleep(PAUSE);
            output = self.run(commands, false).1;
        }
    }

    /// Runs the commands. Returns whether they succeed (each of them if `all`, else the last one),
    /// and what they print.
    fn run(&self, block: &Block, all: bool) -> (bool, String) {
        let strict = if all { "set -e -o pipefail\n" } else { "" };
        let done = self
            .bash(&format!("exec 2>&1\n{strict}{}", block.text))
            .output()
            .expect("bash is there");
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    }

    fn bash(&self, script: &str) -> Command {
        let weir = Path::new(env!("CARGO_BIN_EXE_weir"))
            .parent()
            .expect("a folder");
        let path = std::env::join_paths(
            std::iter::once(weir.to_owned())
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", script])
            .current_dir(&self.folder)
            .env("PATH", path.expect("a path"))
            .env("WEIR_URL", &self.url)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        bash.env_remove("WEIR_LOG")
            .env_remove("WEIR_LOG_FORMAT")
            .env_remove("WEIR_TOKEN")
            .stdin(std::process::Stdio::null());
        bash
    }
}

/// A free port, below those that the system gives to clients.
fn free_port() -> u16 {
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(20_000..30_000))
        .find(free)
        .expect("a port")
}

fn copy(from: &Path, to: &Path, ports: &[(&str, u16)]) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from)
        .expect("the example")
        .map(|entry| entry.expect("an entry"))
    {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            // Data from an earlier run is not part of the example.
            if entry.file_name() != "data" {
                copy(&from, &to, &[]);
            }
            continue;
        }
        let mut text = std::fs::read_to_string(&from)
            .unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        for (usual, port) in ports {
            text = text.replace(usual, &port.to_string());
        }
        std::fs::write(to, text).expect("a copy");
    }
}

/// What an author may call: the names that a kit declares for others, by its files.
fn names_of_kit(files: &[(&str, &[&str])]) -> Vec<String> {
    let mut names = Vec::new();
    for (file, before) in files {
        let path = repository().join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        for line in text.lines() {
            for before in *before {
                let Some(rest) = line.strip_prefix(before) else {
                    continue;
                };
                let name: String = rest
                    .chars()
                    .take_while(|character| character.is_alphanumeric() || *character == '_')
                    .collect();
                if !name.is_empty() && !name.starts_with('_') {
                    names.push(name);
                }
            }
        }
    }
    names
}

// Whoever looks for a function of a kit finds it on one page, also those of the other languages.
#[test]
fn the_reference_of_the_kits_has_every_name_that_an_author_may_use() {
    let page = std::fs::read_to_string(repository().join("plugins/REFERENCE.md")).expect("a page");
    let code: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let is_there = |name: &String| {
        let word = |character: char| character.is_alphanumeric() || character == '_';
        code.iter().any(|code| {
            code.split(|character| !word(character))
                .any(|it| it == name)
        })
    };
    let rust = "plugins/weir-plugin/src";
    let rust: Vec<String> = [
        "types",
        "change",
        "event",
        "entity",
        "rendering",
        "error",
        "log",
    ]
    .iter()
    .map(|file| format!("{rust}/{file}.rs"))
    .collect();
    let of_rust: &[&str] = &[
        "    pub fn ",
        "pub fn ",
        "pub struct ",
        "pub enum ",
        "    pub ",
    ];
    let rust: Vec<(&str, &[&str])> = rust.iter().map(|file| (&**file, of_rust)).collect();
    let python = "runtime/assets/templates/python/common/weir";
    let python: Vec<String> = ["items", "results", "roles", "settings", "log", "failure"]
        .iter()
        .map(|file| format!("{python}/{file}.py"))
        .collect();
    let of_python: &[&str] = &["    def ", "class "];
    let python: Vec<(&str, &[&str])> = python.iter().map(|file| (&**file, of_python)).collect();
    let typescript = "runtime/assets/templates/typescript/common/weir";
    let typescript: Vec<String> = ["index", "settings"]
        .iter()
        .map(|file| format!("{typescript}/{file}.ts"))
        .collect();
    let of_typescript: &[&str] = &[
        "export class ",
        "export function ",
        "export const ",
        "export type ",
        "  static ",
        "  readonly ",
    ];
    let typescript: Vec<(&str, &[&str])> = typescript
        .iter()
        .map(|file| (&**file, of_typescript))
        .collect();
    let own = [
        "toWit", "fn", "parse", "mark", "write", "default", "code", "message",
    ];
    for (kit, files) in [
        ("Rust", rust),
        ("Python", python),
        ("TypeScript", typescript),
    ] {
        let names = names_of_kit(&files);
        assert!(names.len() > 10, "{kit}: {names:?}");
        let missing: Vec<_> = names
            .iter()
            .filter(|name| !own.contains(&name.as_str()) && !is_there(name))
            .collect();
        assert!(missing.is_empty(), "{kit}: {missing:?}");
    }
}
