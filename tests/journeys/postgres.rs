//! A table of PostgreSQL, from outside: events come in, the table holds the newest state, and neither a kill of
//! Weir nor a database that has lost what it acknowledged leaves an old one behind.

mod trouble;

use serde_json::{Value, json};

use crate::support::postgres::Postgres;
use crate::support::{Stage, becomes, change, deletion, repeats};

const PROVES: &str = "a channel that delivers to PostgreSQL";

const CONFIG: &str = r#"
[entities.product]
facets.content = { owner = "pim" }
[sources.pim]
[targets.database]
kind = "postgres"
url = { env = "DATABASE_URL" }
table = "products"
key = "sku"
columns = { n = "/facets/content/n", name = "/facets/content/name" }
delete = { flag = "deleted" }
timeout = "5s"
[channels.database]
entity = "product"
facets = ["content"]
target = "database"
retry = { first = "20ms", cap = "100ms" }
withdraw_max = { share = "100%", per = "1h", min = 1000000 }
"#;

/// Each row that goes back to an earlier state is noted.
const TABLE: &str = "SET ROLE weir;
CREATE TABLE products (sku text PRIMARY KEY, sequence bigint NOT NULL, n int, name text, deleted boolean NOT NULL DEFAULT false);
CREATE TABLE fallen (sku text, before int, after int);
CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF new.n < old.n AND NOT new.deleted THEN INSERT INTO fallen VALUES (new.sku, old.n, new.n); END IF;
  RETURN new; END $$;
CREATE TRIGGER notes BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION notes()";

fn started(server: &Postgres) -> Stage {
    let mut stage = Stage::closed(CONFIG);
    stage.start_with(&[("DATABASE_URL", &server.url())]);
    stage
}

fn product(number: usize) -> String {
    format!("p{number:04}")
}

fn changes(numbers: std::ops::Range<usize>, n: usize) -> Vec<Value> {
    let changed = |number| {
        change(
            &product(number),
            "content",
            json!({"n": n, "name": "Lampe"}),
        )
    };
    numbers.map(changed).collect()
}

/// Waits until the table answers this.
#[track_caller]
fn answers(server: &Postgres, question: &str, expected: &str) {
    let expected: Result<String, String> = Ok(expected.to_owned());
    becomes(question, expected, || server.try_sql(question));
}

#[test]
fn products_are_rows_that_change_and_go() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    let mut stage = Stage::closed(CONFIG);
    let environment = [("DATABASE_URL", &*server.url())];
    let (code, text) = stage.check_connections(&environment);
    assert!(
        code == 1 && text.contains("CREATE TABLE \"products\""),
        "{code} {text}"
    );
    server.sql(TABLE);
    let (code, text) = stage.check_connections(&environment);
    assert_eq!(code, 0, "{text}");
    stage.start_with(&environment);
    stage.takes("pim", &changes(0..300, 1));
    answers(
        &server,
        "SELECT count(*), sum(n) FROM products WHERE NOT deleted",
        "300|300",
    );
    stage.takes("pim", &changes(0..10, 2));
    stage.takes(
        "pim",
        &[
            deletion(&product(11), "content"),
            change("odd", "content", json!({"n": "x"})),
        ],
    );
    answers(
        &server,
        "SELECT count(*), sum(n) FROM products WHERE NOT deleted",
        "299|309",
    );
    stage.stands("odd", "database", "refused");
    let refused = stage.refused("database");
    assert!(refused[0].to_string().contains("22P02"), "{refused:?}");
    let shown = stage.weir().get("/v1/config").text();
    assert!(
        shown.contains("postgres://127.0.0.1") && !shown.contains("weir-password"),
        "{shown}"
    );
    assert!(!stage.weir().log().contains("weir-password"));
}

// A table was filled while the program was killed, and nobody could say afterwards which rows were old.
#[test]
fn kills_in_the_middle_leave_the_newest_state_of_everything() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    let rounds = repeats("WEIR_KILLS", 6);
    let mut stage = started(&server);
    for round in 1..=rounds {
        for first in (0..2_000).step_by(500) {
            stage.takes("pim", &changes(first..first + 500, round));
        }
        stage.takes("pim", &[deletion(&product(2_000 + round), "content")]);
        stage.takes("pim", &changes(2_000 + round..2_001 + round, round));
        let some = format!(
            "SELECT count(*) > {} FROM products WHERE n = {round}",
            round % 3 * 300
        );
        answers(&server, &some, "t");
        stage.kill();
        stage.start_with(&[("DATABASE_URL", &server.url())]);
    }
    let newest = format!(
        "{}|{}",
        2_000 + rounds,
        2_000 * rounds + rounds * (rounds + 1) / 2
    );
    answers(
        &server,
        "SELECT count(*), sum(n) FROM products WHERE NOT deleted",
        &newest,
    );
    stage.settles("database");
    answers(&server, "SELECT count(*) FROM fallen", "0");
    assert_eq!(stage.refused("database"), Vec::<Value>::new());
}

// Last night's copy was restored in the morning, and what had been delivered since then was missing until
// somebody changed it.
#[test]
fn a_database_that_was_restored_gets_back_all_that_it_has_lost() {
    let Some(mut server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    let mut stage = started(&server);
    stage.takes("pim", &changes(0..100, 1));
    answers(&server, "SELECT count(*) FROM products", "100");
    stage.settles("database");
    server.stop("fast");
    let copy = tempfile::tempdir().expect("a folder");
    let copy = copy.path().join("data");
    server.copy_to(&copy);
    server.start_again();
    stage.takes("pim", &changes(0..50, 2));
    stage.takes("pim", &[deletion(&product(99), "content")]);
    answers(
        &server,
        "SELECT count(*), sum(n) FROM products WHERE NOT deleted",
        "99|149",
    );
    stage.settles("database");
    stage.stop();
    server.stop("fast");
    server.restore(&copy);
    server.start_again();
    answers(&server, "SELECT count(*), sum(n) FROM products", "100|100");
    stage.start_with(&[("DATABASE_URL", &server.url())]);
    // What is delivered next shows it.
    stage.takes("pim", &changes(98..99, 3));
    answers(
        &server,
        "SELECT count(*), sum(n) FROM products WHERE NOT deleted",
        "99|151",
    );
    stage.settles("database");
    stage.weir().says("has lost what it acknowledged");
}

/// The store of Weir was lost, and its sequences begin again at 1.
#[test]
fn a_table_that_is_ahead_of_weir_is_reported_and_takes_nothing_old() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    server.sql("INSERT INTO products SELECT 'p' || lpad(n::text, 4, '0'), 250000000000000, 7 FROM generate_series(0, 9) AS n");
    let stage = started(&server);
    stage.takes("pim", &changes(0..10, 1));
    becomes("it says what is ahead", true, || {
        let channel = stage.channel("database");
        let reason = channel["reason"].to_string();
        channel["state"] == "ahead" && reason.contains("250000000000000")
    });
    answers(&server, "SELECT sum(n) FROM products", "70");
    server.sql("TRUNCATE products");
    answers(&server, "SELECT sum(n) FROM products", "10");
    stage.channel_is("database", "flowing");
    assert_eq!(stage.refused("database"), Vec::<Value>::new());
}

#[test]
fn what_somebody_has_changed_by_hand_is_found_and_sent_again() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    let stage = started(&server);
    stage.takes("pim", &changes(0..50, 1));
    answers(&server, "SELECT count(*) FROM products", "50");
    stage.settles("database");
    let (code, said) = stage.tell(&["channel", "drift", "database"]);
    assert_eq!(code, 0, "{said}");
    server.sql(
        "UPDATE products SET n = 7 WHERE sku = 'p0001'; UPDATE products SET deleted = true WHERE sku = 'p0002';
         DELETE FROM products WHERE sku = 'p0003'; INSERT INTO products VALUES ('stray', 1)",
    );
    let (code, said) = stage.tell(&["channel", "drift", "database", "--repair"]);
    assert_eq!(code, 1, "{said}");
    for key in ["p0001", "p0002", "p0003", "stray"] {
        assert!(said.contains(key), "{key} in {said}");
    }
    answers(
        &server,
        "SELECT count(*), sum(n) FROM products WHERE NOT deleted AND sku <> 'stray'",
        "50|50",
    );
}
