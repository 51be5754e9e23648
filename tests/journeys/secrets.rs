//! Secrets: no response, log line, metric, complaint or stored file contains a secret, in any form
//! from which it could be recovered.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::json;

use crate::support::http::request;
use crate::support::weir::{PROGRAM, Weir};
use crate::support::{Act, Receiver, Stage, change, eventually};

/// The places of the secrets, and the secrets themselves; signing keys are listed without `whsec_`.
const SECRETS: [(&str, &str); 10] = [
    ("CHIEF", "chief+token/of~the=house"),
    ("READER", "reader token, with spaces & more"),
    ("SENDER", "sender?token#one"),
    ("HUB", "hub<secret>of two"),
    ("SIGNED", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
    ("SIGN", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
    ("PASSWORD", "pass%word:of the shop"),
    ("BEARER", "bearer/of+the~feed"),
    ("HEADER", "header's \"value\""),
    ("QUERY", "query-key-of-the-search"),
];

const CONFIG: &str = r#"config_version = 1
[server]
listen = "127.0.0.1:0"
reload = "signal"
[store]
path = "data"
[tokens.chief]
secret = { env = "CHIEF" }
roles = ["admin"]
[tokens.reader]
secret = { file = "reader.token" }
roles = ["read"]
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
verify = { kind = "bearer", tokens = [{ env = "SENDER" }] }
[sources.hub]
owner = "pim"
verify = { kind = "hmac", preset = "github", secrets = [{ env = "HUB" }] }
headers = ["*"]
[sources.signed]
owner = "pim"
verify = { kind = "standard-webhooks", secrets = [{ env = "SIGNED" }] }
[targets.basic]
kind = "webhook"
url = "{echo}"
timeout = "1s"
sign = { env = "SIGN" }
auth = { basic = { user = "weir", password = { env = "PASSWORD" } } }
[targets.bearer]
kind = "webhook"
url = "{echo}"
timeout = "1s"
auth = { bearer = { env = "BEARER" } }
[targets.headers]
kind = "webhook"
url = { env = "URL" }
timeout = "1s"
auth = { headers = { X-Api-Key = { env = "HEADER" } } }
[targets.away]
kind = "webhook"
url = { env = "AWAY" }
timeout = "1s"
[channels.basic]
entity = "product"
facets = ["content"]
target = "basic"
retry = { first = "20ms", cap = "100ms" }
[channels.bearer]
entity = "product"
facets = ["content"]
target = "bearer"
retry = { first = "20ms", cap = "100ms" }
[channels.headers]
entity = "product"
facets = ["content"]
target = "headers"
retry = { first = "20ms", cap = "100ms" }
[channels.away]
entity = "product"
facets = ["content"]
target = "away"
retry = { first = "20ms", cap = "100ms" }
[[notify]]
url = { env = "URL" }
timeout = "1s"
sign = { env = "SIGN" }
auth = { bearer = { env = "BEARER" } }
"#;

/// The forms that would reveal a secret: the text itself, and how it is written in URLs, headers,
/// JSON and dumps.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let key = secret
        .strip_prefix("whsec_")
        .and_then(|text| STANDARD.decode(text).ok());
    let mut forms = vec![
        secret.to_owned(),
        secret.trim_start_matches("whsec_").to_owned(),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
            .to_string(),
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC)
            .to_string()
            .to_lowercase(),
        format!("{secret:?}").trim_matches('"').to_owned(),
        json!(secret).to_string().trim_matches('"').to_owned(),
        STANDARD.encode(format!("weir:{secret}")),
    ];
    for bytes in [Some(secret.as_bytes().to_vec()), key]
        .into_iter()
        .flatten()
    {
        let base64 = [
            STANDARD.encode(&bytes),
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
        ];
        forms.extend(base64);
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        forms.extend([hex.to_uppercase(), hex]);
        // As a list of numbers, which is how a debug format writes bytes.
        forms.push(format!("{bytes:?}").trim_matches(['[', ']']).to_owned());
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// Fails if `printed` contains any secret.
#[track_caller]
fn holds_none(place: &str, printed: &[u8]) {
    for (name, secret) in SECRETS {
        for form in forms(secret) {
            let found = printed
                .windows(form.len())
                .position(|window| window == form);
            if let Some(at) = found {
                let around = String::from_utf8_lossy(
                    &printed[at.saturating_sub(200)..(at + form.len() + 50).min(printed.len())],
                )
                .into_owned();
                panic!(
                    "{place} gives {name} away, as {:?}:\n…{around}…",
                    String::from_utf8_lossy(&form)
                );
            }
        }
    }
}

/// The program with the secrets in its environment and the most detailed log level.
fn program(folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .current_dir(folder)
        .envs(SECRETS)
        .envs(environment.iter().copied())
        .env("WEIR_LOG", "trace")
        .env("RUST_BACKTRACE", "1");
    command
}

/// A target that responds with this status and everything it received, as frameworks in debug mode
/// do.
fn echo(status: u16) -> Receiver {
    let receiver = Receiver::start();
    receiver.does(move |delivery| {
        let headers: Vec<String> = delivery
            .headers
            .iter()
            .rev()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let secrets = headers.iter().filter(|header| {
            ["authorization", "x-api-key", "webhook-sig"]
                .iter()
                .any(|name| header.starts_with(name))
        });
        Act::Say(
            status,
            format!(
                "{} {}",
                secrets.cloned().collect::<Vec<_>>().join("; "),
                delivery.path
            ),
        )
    });
    receiver
}

#[test]
fn nothing_that_weir_shows_or_stores_contains_a_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let (refusing, denying) = (echo(422), echo(401));
    let url = format!("{}?key={}", denying.url(), SECRETS[9].1);
    let away = format!("http://127.0.0.1:9/{}", SECRETS[9].1);
    let environment = [("URL", &*url), ("AWAY", &*away)];
    std::fs::write(
        folder.path().join("weir.toml"),
        CONFIG.replace("{echo}", &refusing.url()),
    )
    .expect("written");
    std::fs::write(folder.path().join("reader.token"), SECRETS[1].1).expect("written");

    let checked = program(folder.path(), &environment)
        .args(["check", "-c", "weir.toml"])
        .output()
        .expect("it runs");
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    holds_none("weir check", &[checked.stdout, checked.stderr].concat());

    let mut weir = Weir::start_by(
        program(folder.path(), &environment),
        folder.path(),
        &[],
        &[],
    );
    let sender = format!("Bearer {}", SECRETS[2].1);
    let body = change("lamp", "content", json!({"n": 1})).to_string();
    let reply = weir.ask(
        "POST",
        "/v1/sources/pim/events",
        &[("authorization", &sender)],
        body.as_bytes(),
    );
    assert_eq!(reply.status, 202, "{}", reply.text());
    // The deliveries end in each way that reports a response: refused, tripped, unreachable.
    let chief = format!("Bearer {}", SECRETS[0].1);
    let see = |path: &str| weir.ask("GET", path, &[("authorization", &chief)], b"");
    eventually(
        "one entity is refused, one target tripped, one unreachable",
        || {
            let states = see("/v1/channels").text();
            let refused = see("/v1/channels/basic/refused").text().contains("422");
            let parked = see("/v1/channels/away").json()["parked"] == 1;
            (refused && parked && states.contains("401")).then_some(())
        },
    );
    eventually("another entity is refused", || {
        see("/v1/channels/bearer/refused")
            .text()
            .contains("422")
            .then_some(())
    });

    // Senders that make mistakes, with the right secrets in the wrong place, and a secret in an
    // event.
    let wrong = [
        ("authorization", "Bearer nearly"),
        ("x-hub-signature-256", "sha256=00"),
        ("webhook-signature", "v1,00"),
    ];
    for source in ["pim", "hub", "signed"] {
        let reply = weir.ask(
            "POST",
            &format!("/v1/sources/{source}/events"),
            &wrong,
            body.as_bytes(),
        );
        assert_eq!(reply.status, 401, "{}", reply.text());
        holds_none("401 to a sender", &reply.body);
    }
    let swapped = weir.ask("GET", "/v1/channels", &[("authorization", &sender)], b"");
    assert_eq!(swapped.status, 401);
    holds_none("401 to an operator", &swapped.body);

    for path in [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/metrics",
        "/v1/config",
        "/v1/plugins",
        "/v1/sources",
        "/v1/sources/hub",
        "/v1/sources/hub/quarantine",
        "/v1/channels",
        "/v1/channels/basic",
        "/v1/channels/headers",
        "/v1/channels/away",
        "/v1/channels/basic/refused",
        "/v1/channels/bearer/refused",
        "/v1/channels/basic/preview?key=lamp",
        "/v1/entities/product",
        "/v1/entities/product/lamp",
    ] {
        let reply = see(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        holds_none(path, &reply.body);
    }

    // A reload with mistakes next to the secrets.
    let mistaken = CONFIG
        .replace("{echo}", &refusing.url())
        .replace("roles = [\"read\"]", "roles = [\"reed\"]");
    std::fs::write(folder.path().join("weir.toml"), mistaken).expect("written");
    let reload = weir.ask("POST", "/v1/reload", &[("authorization", &chief)], b"");
    assert_eq!(reload.status, 422, "{}", reload.text());
    holds_none("a refused reload", &reload.body);

    let address = weir.address();
    let log = weir.log();
    let (_, status) = weir.stop();
    assert!(status.success());
    assert!(log.len() > 20_000, "the log is not detailed enough");
    holds_none("the log", log.as_bytes());
    for entry in std::fs::read_dir(folder.path().join("data"))
        .expect("the store")
        .flatten()
        .filter(|entry| entry.path().is_file())
    {
        holds_none("the store", &std::fs::read(entry.path()).expect("readable"));
    }
    assert!(
        request(address, "GET", "/healthz", &[], b"").is_err(),
        "the stopped Weir still answers"
    );

    // The same again, from what the store remembers.
    std::fs::write(
        folder.path().join("weir.toml"),
        CONFIG.replace("{echo}", &refusing.url()),
    )
    .expect("written");
    weir = Weir::start_by(
        program(folder.path(), &environment),
        folder.path(),
        &[],
        &[],
    );
    let refused = weir.ask(
        "GET",
        "/v1/channels/basic/refused",
        &[("authorization", &chief)],
        b"",
    );
    holds_none("what was refused before a restart", &refused.body);
    holds_none("the second log", weir.log().as_bytes());
}

/// A file with a mistake and a secret written into it, against all advice; `weir check` must report
/// the mistake without showing the secret.
#[track_caller]
fn check_hides(section: &str, words: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("weir.toml"),
        format!("config_version = 1\n{section}"),
    )
    .expect("written");
    for arguments in [
        &["check", "-c", "weir.toml"][..],
        &["check", "-c", "weir.toml", "--json"],
        &["run", "-c", "weir.toml"],
    ] {
        let output = program(
            folder.path(),
            &[("LEAKY", "http://weir:hunter2hunter2@shop.example/")],
        )
        .args(arguments)
        .output()
        .expect("it runs");
        let printed =
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{printed}");
        assert!(printed.contains(words), "{words:?} is not in: {printed}");
        assert!(!printed.contains("hunter2"), "{arguments:?}: {printed}");
    }
}

#[test]
fn a_complaint_never_quotes_a_secret() {
    check_hides(
        "[tokens.a]\nsecret = \"hunter2hunter2hunter2\"\nrolls = [\"read\"]\n",
        "rolls",
    );
    check_hides(
        "[tokens.a]\nsecret = [\"hunter2hunter2hunter2\"]\nroles = [\"read\"]\n",
        "a secret is expected",
    );
    check_hides(
        "[tokens]\na = { roles = [\"reed\"], secret = \"hunter2hunter2hunter2\" }\n",
        "reed",
    );
    check_hides(
        "[tokens.a]\nhash = \"hunter2hunter2hunter2\"\nroles = [\"read\"]\n",
        "hash",
    );
    check_hides(
        "[tokens.a]\nsecret = \"hunter2hunter2hunter2\nroles = [\"read\"]\n",
        "not TOML",
    );
    check_hides(
        "[tokens.a]\nsecret = \"\"\"\nhunter2hunter2\" \"\" x\n\"\"\" x\nroles = [\"read\"]\n",
        "not TOML",
    );
    check_hides(
        "[sources.a]\nverify = { kind = \"bearer\", tokns = [\"hunter2hunter2\"] }\n",
        "tokns",
    );
    check_hides(
        "[sources.a]\nverify = { kind = \"bearer\", tokens = \"hunter2hunter2\" }\n",
        "tokens",
    );
    check_hides(
        "[sources.a.verify]\nkind = \"bearer\"\ntokens = [\n  \"hunter2hunter2\", 5,\n]\n",
        "tokens[1]",
    );
    check_hides(
        "[sources.a.verify]\nkind = \"bearer\"\ntokens = [\n  \"hunter2hunter2\", x,\n]\n",
        "not TOML",
    );
    check_hides(
        "[sources.a.verify]\nkind = \"standard-webhooks\"\nsecrets = [\"hunter2hunter2\"]\n",
        "whsec_",
    );
    let target = |rest: &str| format!("[targets.a]\nkind = \"webhook\"\n{rest}");
    check_hides(
        &target("url = \"http://weir:hunter2hunter2@shop.example/\"\n"),
        "the URL contains a user",
    );
    check_hides(
        &target("url = { env = \"LEAKY\" }\n"),
        "the URL contains a user",
    );
    check_hides(
        &target("url = \"shop.example/hook?key=hunter2hunter2\"\n"),
        "http://",
    );
    check_hides(
        &target("url = \"http://shop.example\"\nsign = \"hunter2\"\n"),
        "sign",
    );
    check_hides(
        &target("url = \"http://shop.example\"\nauth = { bearr = \"hunter2hunter2\" }\n"),
        "bearr",
    );
    check_hides(
        &target("url = \"http://shop.example\"\nauth = \"hunter2hunter2\"\n"),
        "auth",
    );
    check_hides(
        &target(
            "url = \"http://shop.example\"\n[targets.a.auth.headers]\nx-thing = [\"hunter2hunter2\"]\n",
        ),
        "x-thing",
    );
    check_hides(
        &target(
            "url = \"http://shop.example\"\n[targets.a.auth.basic]\nuser = \"weir\"\npasswort = \"hunter2hunter2\"\n",
        ),
        "passwort",
    );
}

// Files of the store were readable by every user of the machine, and a crash would have written all
// secrets into a core dump.
#[test]
fn the_files_and_the_memory_of_weir_are_for_its_user_alone() {
    let stage = Stage::catalog();
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    let (mut folders, mut files) = (vec![stage.folder().join("data")], 0);
    while let Some(folder) = folders.pop() {
        let mode = |path: &Path| path.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).expect("the folder can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 0, "the store has files");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", stage.weir().pid()));
    let limits = limits.expect("the limits of the process");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core = core
        .expect("a limit for core dumps")
        .split_whitespace()
        .nth(4);
    assert_eq!(core, Some("0"));
}
