//! What `weir check --connect` says about a table.

use super::*;

/// The troubles of a table of this definition, or its warnings.
async fn checked(
    server: &Server15,
    change: impl FnOnce(&mut Options),
) -> Result<Vec<String>, String> {
    let mut options = options(&server.url(), "checked");
    change(&mut options);
    Postgres::open(&options).expect("options").check().await
}

#[tokio::test]
async fn each_table_that_cannot_work_is_said_with_the_statement_that_helps() {
    let Some(server) = Server15::start(&[], PROVES) else {
        return;
    };
    for (definition, words) in [
        (
            "",
            "there is no table \"checked\" that the role weir can see; create it, for example with: CREATE TABLE \"checked\" (\"key\" text PRIMARY KEY, \"sequence\" bigint NOT NULL, \"content\" jsonb)",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, content jsonb)",
            "ADD COLUMN \"sequence\" bigint NOT NULL DEFAULT 0",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, sequence int, content jsonb)",
            "ALTER COLUMN \"sequence\" TYPE bigint",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, sequence bigint)",
            "ADD COLUMN \"content\" jsonb",
        ),
        (
            "TABLE checked (key text, sequence bigint, content jsonb)",
            "CREATE UNIQUE INDEX ON \"public\".\"checked\" (\"key\")",
        ),
        (
            "TABLE checked (key text, sequence bigint, content jsonb, UNIQUE (key, sequence))",
            "no unique index; create",
        ),
        (
            "TABLE checked (key text UNIQUE DEFERRABLE, sequence bigint, content jsonb)",
            "is deferrable",
        ),
        (
            "TABLE checked (key text, sequence bigint, content jsonb); CREATE UNIQUE INDEX ON checked (key) WHERE sequence > 0",
            "is partial",
        ),
        (
            "TABLE checked (key text, sequence bigint, content jsonb); CREATE UNIQUE INDEX ON checked (lower(key))",
            "no unique index; create",
        ),
        (
            "TABLE checked (key text, sequence bigint, content jsonb, PRIMARY KEY (key, sequence)) PARTITION BY HASH (sequence)",
            "partitioned by [\"sequence\"]",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, sequence bigint, content jsonb GENERATED ALWAYS AS ('1') STORED)",
            "\"content\" of \"public\".\"checked\" is computed",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, sequence bigint GENERATED ALWAYS AS IDENTITY, content jsonb)",
            "\"sequence\" of \"public\".\"checked\" is computed",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, sequence bigint, content jsonb, extra int NOT NULL)",
            "ALTER COLUMN \"extra\" DROP NOT NULL",
        ),
        (
            "VIEW checked AS SELECT 'a' AS key, 1::bigint AS sequence, '1'::jsonb AS content",
            "is a view",
        ),
        (
            "TABLE checked (key text PRIMARY KEY, sequence bigint, content jsonb); REVOKE SELECT, DELETE ON checked FROM weir",
            "GRANT SELECT, DELETE ON \"public\".\"checked\" TO \"weir\"",
        ),
    ] {
        server.sql(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT ALL ON SCHEMA public TO weir",
        );
        if !definition.is_empty() {
            server.sql(&format!("SET ROLE weir; CREATE {definition}"));
        }
        let said = checked(&server, |_| {}).await.expect_err(definition);
        assert!(said.contains(words), "{definition}: {said}");
    }
}

#[tokio::test]
async fn what_works_now_and_may_surprise_later_is_warned_of() {
    let Some(server) = Server15::start(&["fsync=on"], PROVES) else {
        return;
    };
    let create = |definition: &str| {
        server.sql(&format!(
            "SET ROLE weir; DROP TABLE IF EXISTS checked; CREATE {definition}"
        ));
    };
    create(
        "TABLE checked (key text PRIMARY KEY, sequence bigint, content jsonb, deleted boolean, extra int NOT NULL DEFAULT 1)",
    );
    let flagged = |options: &mut Options| options.delete = Delete::Flag("deleted".into());
    assert_eq!(checked(&server, flagged).await, Ok(Vec::new()));
    let warnings = checked(&server, |_| {}).await.expect("it works");
    assert!(
        warnings.len() == 1 && warnings[0].contains("delete = { flag = \"deleted\" }"),
        "{warnings:?}"
    );
    let wrong = checked(&server, |options| {
        options.delete = Delete::Flag("content".into())
    })
    .await;
    assert!(
        wrong
            .expect_err("no boolean")
            .contains("a flag needs boolean")
    );

    create(
        "UNLOGGED TABLE checked (key text PRIMARY KEY, sequence bigint, at timestamp, deleted boolean)",
    );
    server.sql("ALTER TABLE checked ENABLE ROW LEVEL SECURITY; ALTER TABLE checked FORCE ROW LEVEL SECURITY; ALTER ROLE weir SET synchronous_commit = off");
    let warnings = checked(&server, |options| {
        flagged(options);
        options.columns = columns(&[("at", "/at")]);
    });
    let warnings = warnings.await.expect("it works");
    for words in [
        "timestamp without time zone",
        "row security",
        "unlogged",
        "synchronous_commit",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(words)),
            "{words} in {warnings:?}"
        );
    }
    server.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    let warnings = checked(&server, |_| {}).await.err().unwrap_or_default();
    assert!(warnings.contains("ADD COLUMN \"content\""), "{warnings}");
    create(CONTENT_TABLE_CHECKED);
    let warnings = checked(&server, |_| {}).await.expect("it works");
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("does not say who it is")),
        "{warnings:?}"
    );
}

const CONTENT_TABLE_CHECKED: &str =
    "TABLE checked (key text PRIMARY KEY, sequence bigint, content jsonb)";

#[tokio::test]
async fn a_login_that_fails_is_said_without_the_password() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let wrong = checked(server, |options| {
        options.server.password = Some(crate::signature::Secret(b"wrong-password".to_vec()));
    });
    let wrong = wrong.await.expect_err("it is wrong");
    assert!(
        wrong.contains("28P01") && !wrong.contains("wrong-password"),
        "{wrong}"
    );
    let wrong = checked(server, |options| {
        options.server.database = "elsewhere".into()
    })
    .await;
    assert!(wrong.expect_err("no database").contains("3D000"));
    let wrong = checked(server, |options| options.mode = Mode::Require).await;
    assert!(wrong.expect_err("no TLS").contains("TLS"));
    let wrong = checked(server, |options| options.egress = Egress::Public).await;
    assert!(
        wrong
            .expect_err("loopback")
            .contains("127.0.0.1 is loopback")
    );
}
