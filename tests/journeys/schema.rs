//! The schema of the configuration with Taplo, which editors use for TOML: right files have no mistake, wrong
//! ones are marked at their place.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::parts::part;
use crate::support::weir::command;

/// Taplo, with the schema that Weir prints.
struct Taplo {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Taplo {
    fn new() -> Option<Taplo> {
        let program = part("taplo", "the schema of the configuration in editors")?;
        let folder = tempfile::tempdir().expect("a folder");
        let schema = command(folder.path(), &["config", "schema"]);
        assert!(schema.status.success());
        std::fs::write(folder.path().join("weir.schema.json"), schema.stdout).expect("written");
        Some(Taplo { program, folder })
    }

    /// What it says of a file, and whether that is nothing.
    fn reads(&self, file: &Path) -> (bool, String) {
        let output = Command::new(&self.program)
            .arg("check")
            .arg(file)
            .current_dir(self.folder.path())
            .output()
            .expect("Taplo runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }

    /// The same of a text that names the schema as a file of a user does.
    fn reads_text(&self, text: &str) -> (bool, String) {
        let file = self.folder.path().join("weir.toml");
        std::fs::write(&file, format!("#:schema ./weir.schema.json\n\n{text}")).expect("written");
        self.reads(&file)
    }
}

/// The lines of a reference file, with those that are commented out because they show a default.
fn with_defaults(text: &str) -> String {
    // These would be twice in a table, or exclude another key.
    let twice = ["# verify", "# tls", "# builtin"];
    let line = |line: &str| {
        let key = line.strip_prefix("# ").filter(|rest| {
            let is_key = rest.contains(" = ") && rest.starts_with(char::is_lowercase);
            is_key && !twice.iter().any(|other| line.starts_with(other))
        });
        format!("{}\n", key.unwrap_or(line))
    };
    text.lines().map(line).collect()
}

#[test]
fn the_reference_and_all_examples_are_right() {
    let Some(taplo) = Taplo::new() else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let text = |name: &str| {
        let path = examples.join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let reference = text("reference.toml");
    let full = with_defaults(&reference);
    assert!(full.contains("\nretry = ") && full.contains("\nlisten = "));
    let mut files = vec![
        ("reference.toml".to_owned(), reference),
        ("all keys".to_owned(), full),
    ];
    for example in std::fs::read_dir(&examples)
        .expect("the examples")
        .flatten()
    {
        if example.path().join("weir.toml").is_file() {
            let name = format!("{}/weir.toml", example.file_name().display());
            files.push((name.clone(), text(&name)));
        }
    }
    assert!(files.len() > 5, "{files:?}");
    for (name, text) in files {
        let (fine, said) = taplo.reads_text(&text);
        assert!(fine, "{name}: {said}");
    }
}

#[test]
fn what_is_wrong_is_marked_at_its_place() {
    let Some(taplo) = Taplo::new() else { return };
    let right = r#"config_version = 1
[entities.product]
facets.content = { owner = "pim" }
[each.site.de]
pause = "5s"
[sources.pim]
verify = { kind = "hmac", preset = "github", secrets = [{ env = "SECRET" }] }
[targets.shop]
for_each = "site"
kind = "webhook"
url = "http://127.0.0.1:1/"
timeout = "{site.pause}"
rate = { env = "RATE", default = "5/s" }
[channels.shop]
entity = "product"
facets = ["content"]
target = { kind = "webhook", url = "http://127.0.0.1:1/" }
"#;
    let (fine, said) = taplo.reads_text(right);
    assert!(fine, "{said}");
    for (from, to, marked, words) in [
        (
            "config_version = 1",
            "config_version = 2",
            "3:18",
            "1 was expected",
        ),
        (
            "[each.site.de]",
            "[eech.site.de]",
            "6:2",
            "'eech' was unexpected",
        ),
        (
            "facets.content",
            "facet.content",
            "5:1",
            "'facet' was unexpected",
        ),
        ("owner = \"pim\"", "owner = 7", "5:28", "7 is not valid"),
        ("\"hmac\"", "\"hmak\"", "9:19", "\"hmak\" is not valid"),
        ("preset", "presset", "9:10", "'presset' was unexpected"),
        (
            "\"github\"",
            "\"gitbub\"",
            "9:36",
            "\"gitbub\" is not valid",
        ),
        (
            "[{ env = \"SECRET\" }]",
            "[{ envv = \"SECRET\" }]",
            "9:57",
            "is not valid",
        ),
        (
            "\"{site.pause}\"",
            "\"5 s\"",
            "14:11",
            "\"5 s\" is not valid",
        ),
        (
            "default = \"5/s\"",
            "defualt = \"5/s\"",
            "15:8",
            "is not valid",
        ),
        (
            "[targets.shop]\nfor_each = \"site\"\nkind = \"webhook\"\nurl",
            "[targets.shop]\nfor_each = \"site\"\nkind = \"webhook\"\npath",
            "13:1",
            "'path' was unexpected",
        ),
        (
            "kind = \"webhook\"\n",
            "kind = \"webhok\"\n",
            "12:8",
            "\"webhok\" is not valid",
        ),
        (
            "entity = \"product\"\n",
            "",
            "16:1",
            "\"entity\" is a required property",
        ),
        (
            "facets = [\"content\"]",
            "facets = \"content\"",
            "18:10",
            "is not of type \"array\"",
        ),
        (
            "{ kind = \"webhook\", url",
            "{ kind = \"webhook\", ulr",
            "19:10",
            "'ulr' was unexpected",
        ),
    ] {
        assert!(right.contains(from), "{from}");
        let (fine, said) = taplo.reads_text(&right.replacen(from, to, 1));
        assert!(!fine, "{to} is taken");
        let mut lines = said.lines();
        let found = std::iter::from_fn(|| lines.by_ref().find(|line| line.contains(words)));
        let found = found.count();
        assert!(found > 0, "{to}: {said}");
        assert!(
            said.contains(&format!("weir.toml:{marked}\n")),
            "{to}: {said}"
        );
    }
}
