//! Authorization: the admin routes require roles, and without tokens Weir does not listen to other
//! machines.

use serde_json::Value;

use crate::support::Stage;
use crate::support::stage::{CATALOG, TOKENS};
use crate::support::weir::command;

// Each action stood in the log twice, in two wordings, once without the one who did it.
#[test]
fn an_operator_s_action_is_logged_once_with_who_did_what_to_what() {
    let stage = Stage::with(&format!("{CATALOG}{TOKENS}"));
    let bearer = [("authorization", "Bearer operator-secret-of-some-length")];
    for path in [
        "/v1/channels/shop/pause",
        "/v1/channels/nowhere/resume",
        "/v1/sources/pim/quarantine/redrive?all=true",
    ] {
        stage.weir().ask("POST", path, &bearer, b"");
    }
    stage.weir().says("quarantine of source pim");
    let log = stage.weir().log();
    let actions: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("operator"))
        .collect();
    assert_eq!(actions.len(), 3, "{log}");
    for (line, words) in actions.iter().zip([
        ["pause", "channel shop", "done"],
        ["resume", "channel nowhere", "unknown-channel"],
        ["redrive", "quarantine of source pim", "done"],
    ]) {
        let all = ["INFO", "operator action"].into_iter().chain(words);
        all.for_each(|word| assert!(line.contains(word), "{word} is not in {line}"));
    }
}

#[test]
fn each_admin_route_requires_its_role_and_names_it() {
    let stage = Stage::with(&format!("{CATALOG}{TOKENS}"));
    let ask = |who: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {who}-secret-of-some-length");
        let headers = [("authorization", &*bearer)];
        stage.weir().ask(
            method,
            path,
            if who.is_empty() { &[] } else { &headers },
            b"",
        )
    };
    for (method, path, needs) in [
        ("GET", "/v1/channels", 0),
        ("GET", "/v1/sources/pim/quarantine", 0),
        ("GET", "/v1/config", 0),
        ("GET", "/metrics", 0),
        ("POST", "/v1/channels/shop/pause", 1),
        ("POST", "/v1/channels/shop/resume", 1),
        ("DELETE", "/v1/channels/shop/refused?all=true", 1),
        ("POST", "/v1/reload", 2),
    ] {
        let nobody = ask("", method, path);
        assert_eq!(nobody.status, 401, "{path}: {}", nobody.text());
        assert!(
            nobody
                .header("www-authenticate")
                .is_some_and(|challenge| challenge.starts_with("Bearer")),
            "{path}"
        );
        assert_eq!(ask("stranger", method, path).status, 401, "{path}");
        for (rank, who) in ["reader", "operator", "chief"].into_iter().enumerate() {
            let reply = ask(who, method, path);
            let allowed = rank >= needs;
            assert_eq!(
                (200..300).contains(&reply.status),
                allowed,
                "{who} {path}: {} {}",
                reply.status,
                reply.text()
            );
            if !allowed {
                let problem = reply.json();
                assert_eq!(
                    (reply.status, &problem["type"]),
                    (403, &Value::from("urn:weir:problem:role-needed")),
                    "{problem:#}"
                );
                assert!(
                    problem["detail"]
                        .as_str()
                        .is_some_and(|detail| detail.contains(who)),
                    "{problem:#}"
                );
            }
        }
    }
    // Probes and senders do not need a role; secrets are shown to nobody.
    assert_eq!(ask("", "GET", "/healthz").status, 200);
    assert_eq!(ask("", "GET", "/readyz").status, 200);
    assert_eq!(stage.takes("pim", &[])["events"]["accepted"], 0);
    assert!(
        !ask("chief", "GET", "/v1/config")
            .text()
            .contains("secret-of-some-length")
    );
    assert!(!stage.weir().log().contains("secret-of-some-length"));
}

#[test]
fn a_page_in_a_browser_on_this_machine_may_not_operate() {
    let stage = Stage::catalog();
    let foreign = stage.weir().ask(
        "POST",
        "/v1/channels/shop/pause",
        &[("origin", "https://evil.example")],
        b"",
    );
    assert_eq!(foreign.status, 403, "{}", foreign.text());
    assert_eq!(stage.channel("shop")["state"], "flowing");
}

#[test]
fn a_configuration_that_listens_to_other_machines_without_tokens_is_rejected() {
    let stage = Stage::closed("");
    let check = |config: &str, words: &[&str]| {
        stage.place("weir.toml", config.as_bytes());
        let output = command(stage.folder(), &["check", "-c", "weir.toml"]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            output.status.code(),
            Some(if words.is_empty() { 0 } else { 1 }),
            "{printed}"
        );
        words
            .iter()
            .for_each(|words| assert!(printed.contains(words), "{words:?} is not in: {printed}"));
    };
    let entities = "[entities.product]\nfacets.content = { owner = \"pim\" }\n";
    let open = format!(
        "config_version = 1\n[server]\nlisten = \"0.0.0.0:7700\"\n{entities}[sources.pim]\n"
    );
    check(&open, &["sources.pim", "verify", "[tokens.NAME]"]);
    check(
        &format!("{open}verify = {{ kind = \"none\" }}\n{TOKENS}"),
        &["sources.pim"],
    );
    check(
        &format!(
            "{open}verify = {{ kind = \"bearer\", tokens = [\"a-token-of-the-pim\"] }}\n{TOKENS}"
        ),
        &[],
    );
    let admin = format!(
        "config_version = 1\n[server]\nlisten = \"127.0.0.1:7700\"\nadmin_listen = \"0.0.0.0:7701\"\n{entities}[sources.pim]\n"
    );
    check(&admin, &["[tokens.NAME]"]);
    check(&format!("{admin}{TOKENS}"), &[]);
}
