//! TLS to a server, in each mode.

use std::path::Path;
use std::process::Command;

use super::*;
use crate::targets::parts::part;
use crate::targets::postgres_server::own;

/// Makes an authority, and a certificate of it for `localhost`; returns the certificate of the authority.
fn certificates(folder: &Path, openssl: &Path) -> Vec<u8> {
    let run = |arguments: &str| {
        let mut command = Command::new(openssl);
        command.args(arguments.split(' ')).current_dir(folder);
        let output = command.output().expect("it runs");
        assert!(output.status.success(), "{arguments}: {output:?}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"
    ));
    run(&format!(
        "req {key} -keyout server.key -out server.csr -subj /CN=localhost"
    ));
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("written");
    run(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    );
    own(&folder.join("server.key"));
    own(folder);
    std::fs::read(folder.join("ca.pem")).expect("a certificate")
}

#[tokio::test]
async fn each_mode_of_tls_checks_what_its_name_says() {
    let Some(openssl) = part("openssl", PROVES) else {
        return;
    };
    let (folder, other) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let ca = certificates(folder.path(), &openssl);
    let stranger = certificates(other.path(), &openssl);
    let file =
        |setting: &str, name: &str| format!("{setting}={}", folder.path().join(name).display());
    let settings = [
        "ssl=on".to_owned(),
        file("ssl_cert_file", "server.pem"),
        file("ssl_key_file", "server.key"),
    ];
    let settings = settings.each_ref().map(String::as_str);
    let Some(server) = Server15::start(&settings, PROVES) else {
        return;
    };
    let table = Table::create(&server, "secured", CONTENT_TABLE);
    let by_name = server.url().replace("127.0.0.1", "localhost");
    let by_address = server.url();
    let cases = [
        (&by_name, Mode::VerifyFull, Some(&ca), true),
        (&by_address, Mode::VerifyFull, Some(&ca), false),
        (&by_name, Mode::VerifyFull, Some(&stranger), false),
        (&by_address, Mode::VerifyCa, Some(&ca), true),
        (&by_address, Mode::VerifyCa, Some(&stranger), false),
        (&by_address, Mode::Require, None, true),
        (&by_address, Mode::Require, Some(&stranger), false),
        (&by_address, Mode::Disable, None, true),
    ];
    for (at, (url, mode, ca, works)) in cases.into_iter().enumerate() {
        let mut options = options(url, "secured");
        (options.mode, options.tls.ca) = (mode, ca.cloned());
        let target = Postgres::open(&options).expect("options");
        let outcome = deliver(&target, &many(at..at + 1, 1), 1_000, None)
            .await
            .remove(0);
        match works {
            true => assert_eq!(outcome, Outcome::Delivered, "{url} {mode:?}"),
            false => is(&outcome, &["trip", "TLS"]),
        }
        let ssl = "SELECT bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'weir'";
        if works {
            let expected = if mode == Mode::Disable { "f" } else { "t" };
            assert_eq!(server.sql(ssl), expected, "{mode:?}");
        }
        drop(target);
        let gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'weir'";
        while server.sql(gone) != "0" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    drop(table);
}
