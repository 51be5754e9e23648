//! Weir with a certificate of its own: whoever knows the authority gets in, and a renewed certificate is used.

use std::process::{Command, Output};

use crate::support::stage::CATALOG;
use crate::support::weir::PROGRAM;
use crate::support::{Stage, eventually};

const CERTIFICATES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/targets/http/transport/certificates"
);

/// Puts a certificate and its key where the configuration has those of the server.
fn renew(stage: &Stage, name: &str) {
    for ending in ["key", "pem"] {
        let bytes = std::fs::read(format!("{CERTIFICATES}/{name}.{ending}")).expect("a file");
        stage.place(&format!("server.{ending}"), &bytes);
    }
}

/// Runs a command against the Weir at `https://localhost`, whose authority it trusts.
fn weir(stage: &Stage, port: u16, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env("WEIR_URL", format!("https://localhost:{port}"))
        .env("SSL_CERT_FILE", format!("{CERTIFICATES}/ca.pem"))
        .current_dir(stage.folder())
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

#[test]
fn events_and_commands_reach_weir_by_https_and_a_renewed_certificate_is_used_without_a_restart() {
    let mut stage = Stage::closed(CATALOG);
    let file = stage.folder().join("weir.toml");
    let plain = std::fs::read_to_string(&file).expect("a configuration");
    let plain = plain.replace("reload = \"signal\"\n", "");
    std::fs::write(&file, &plain).expect("written");
    renew(&stage, "server");
    stage.start();
    let port = stage.weir().address().port();
    // Without a restart from HTTP to HTTPS.
    let tls = "[server]\ntls = { cert = \"server.pem\", key = { file = \"server.key\" } }\n";
    stage.place("weir.toml", plain.replace("[server]\n", tls).as_bytes());
    let channels = || weir(&stage, port, &["channel", "list"]);
    eventually("commands by https", || {
        channels().status.success().then_some(())
    });
    let refused = stage.weir().get("/v1/channels");
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("write https://"),
        "{}",
        refused.text()
    );

    std::fs::write(
        stage.folder().join("lamp.json"),
        r#"{"type": "product", "key": "lamp", "facet": "content", "value": {"title": "Lamp"}}"#,
    )
    .expect("written");
    let sent = weir(&stage, port, &["send", "pim", "lamp.json", "--wait"]);
    assert!(sent.status.success(), "{}", said(&sent));

    // That of a client is not one for localhost.
    renew(&stage, "client");
    let refused = eventually("the other certificate", || {
        let output = channels();
        (!output.status.success()).then(|| said(&output))
    });
    assert!(refused.contains("certificate"), "{refused}");
    // Half of a renewal is refused, and the certificate before stays in use until the other half is there.
    let key = std::fs::read(format!("{CERTIFICATES}/server.key")).expect("a key");
    stage.place("server.key", &key);
    stage.weir().says("cert and key do not fit");
    renew(&stage, "server");
    eventually("the renewed certificate", || {
        channels().status.success().then_some(())
    });
}
