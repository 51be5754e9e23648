//! What is in the table after a delivery: states, deletions, keys, and values of each type.

use super::*;

#[tokio::test]
async fn states_are_written_over_older_ones_and_never_over_newer_ones() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "states", CONTENT_TABLE);
    table
        .takes(&[row("b", 2, &json!(2)), row("a", 1, &json!(1))])
        .await;
    assert_eq!(table.rows("key, sequence, content"), "a|1|1\nb|2|2");
    // The same state again, as after a lost answer, and a newer one.
    table
        .takes(&[row("a", 1, &json!(1)), row("b", 5, &json!(5))])
        .await;
    // An older one, by hand: a newer state of ours is there.
    table
        .takes(&[row("b", 3, &json!(3)), row("c", 4, &json!(4))])
        .await;
    assert_eq!(table.rows("key, sequence, content"), "a|1|1\nb|5|5\nc|4|4");
    table
        .takes(&[gone("b", 4), gone("a", 6), gone("never", 7)])
        .await;
    assert_eq!(table.rows("key, sequence"), "b|5\nc|4");
    table.takes(&[row("a", 8, &json!(8)), gone("c", 9)]).await;
    assert_eq!(table.rows("key, sequence"), "a|8\nb|5");
}

// A drift check sends the same state again: its sequence is the one that the spoiled row has.
#[tokio::test]
async fn a_state_that_was_spoiled_by_hand_is_written_again() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "spoiled", CONTENT_TABLE);
    table.takes(&[row("a", 1, &json!(1))]).await;
    server.sql("UPDATE spoiled SET content = '9'");
    table.takes(&[row("a", 1, &json!(1))]).await;
    assert_eq!(table.rows("key, sequence, content"), "a|1|1");
}

#[tokio::test]
async fn two_states_of_a_key_in_one_attempt_are_one_row_of_the_newest() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "twice", CONTENT_TABLE);
    let items = [
        row("a", 2, &json!("newer")),
        row("a", 1, &json!("older")),
        gone("b", 3),
        row("b", 4, &json!("back")),
        row("c", 5, &json!("there")),
        gone("c", 6),
    ];
    table.takes(&items).await;
    assert_eq!(table.rows("key, content"), "a|\"newer\"\nb|\"back\"");
    // What becomes of the newest state becomes of the older one.
    let items = [row("d", 7, &json!(1)), item("d", 8, Some("no JSON"))];
    let outcomes = table.put(&items).await;
    is(&outcomes[0], &["refused", "22P02"]);
    assert_eq!(outcomes[0], outcomes[1]);
}

#[tokio::test]
async fn a_row_that_is_flagged_keeps_its_sequence_so_that_nothing_old_comes_back() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(server, "flagged", FLAG_TABLE, |options| {
        options.delete = Delete::Flag("deleted".into());
    });
    table
        .takes(&[row("a", 1, &json!(1)), row("b", 2, &json!(2))])
        .await;
    table.takes(&[gone("a", 5), gone("never", 6)]).await;
    assert_eq!(table.rows("key, sequence, deleted"), "a|5|t\nb|2|f");
    // A request of an earlier time that arrives late.
    table.takes(&[row("a", 3, &json!(3))]).await;
    assert_eq!(table.rows("key, sequence, deleted"), "a|5|t\nb|2|f");
    table.takes(&[row("a", 7, &json!(7))]).await;
    assert_eq!(table.rows("key, content, deleted"), "a|7|f\nb|2|f");
}

const TYPES: &str = "\"sku\" text PRIMARY KEY, \"weirSeq\" bigint, amount numeric(10,2), exact numeric, \
    short varchar(8), code bpchar(4), wrapped short_text, whole int, tags text[], numbers int[], mood mood, \
    bytes bytea, at timestamptz, plain json, data jsonb, yes boolean, id uuid, \"Upper\" text";

const ALL: [&str; 16] = [
    "amount", "exact", "short", "code", "wrapped", "whole", "tags", "numbers", "mood", "bytes",
    "at", "plain", "data", "yes", "id", "Upper",
];

fn typed(server: &'static Server15, name: &'static str) -> Table<'static> {
    server.sql(
        "DO $$ BEGIN CREATE TYPE mood AS ENUM ('glad', 'sad'); EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
         DO $$ BEGIN CREATE DOMAIN short_text AS varchar(8) CHECK (VALUE <> 'no'); EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$",
    );
    Table::with(server, name, TYPES, |options| {
        (options.key, options.sequence) = ("sku".into(), "weirSeq".into());
        let pointers = ALL.map(|name| (name, format!("/{name}")));
        let value =
            |(name, pointer): &(&str, String)| Value::new(name, pointer).expect("a pointer");
        options.columns = pointers.iter().map(value).collect();
    })
}

#[tokio::test]
async fn values_of_each_type_arrive_as_they_are_written_and_a_field_that_is_gone_becomes_null() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = typed(server, "typed");
    let content = r#"{"amount": 1.50, "exact": 18446744073709551616.10, "short": "äöüß", "code": "ab",
        "wrapped": "yes", "whole": -7, "tags": ["a b", "c\"d", null], "numbers": [1, 2], "mood": "sad",
        "bytes": "\\x00ff", "at": "2026-11-30T12:00:00+01:00", "plain": {"b":1, "a":1}, "data": {"b": 1e3, "a": 0.1},
        "yes": true, "id": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "Upper": "x"}"#;
    table.takes(&[item("k", 1, Some(content))]).await;
    let columns = "amount, exact, short, wrapped, whole, tags, numbers, mood, bytes, at, plain, data, yes, id, \"Upper\"";
    assert_eq!(
        table.rows(columns),
        "1.50|18446744073709551616.10|äöüß|yes|-7|{\"a b\",\"c\\\"d\",NULL}|{1,2}|sad|\\x00ff|2026-11-30 11:00:00+00|{\"b\":1, \"a\":1}|{\"a\": 0.1, \"b\": 1000}|t|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|x"
    );
    table
        .takes(&[item("k", 2, Some(r#"{"amount": null, "data": null}"#))])
        .await;
    let all: Vec<String> = ALL
        .iter()
        .map(|name| format!("\"{name}\" IS NULL"))
        .collect();
    assert_eq!(table.rows(&format!("sku, {}", all.join(" AND "))), "k|t");
}

#[tokio::test]
async fn a_value_that_its_column_does_not_take_refuses_its_row_and_is_neither_cut_nor_guessed() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = typed(server, "untyped");
    for (content, words) in [
        (
            r#"{"short": "123456789"}"#,
            ["refused, after tries false", "22001"],
        ),
        (
            r#"{"wrapped": "123456789"}"#,
            ["refused, after tries false", "22001"],
        ),
        (
            r#"{"wrapped": "no"}"#,
            ["refused, after tries false", "23514"],
        ),
        (
            r#"{"code": "12345"}"#,
            ["refused, after tries false", "22001"],
        ),
        (r#"{"whole": ""}"#, ["refused, after tries false", "22P02"]),
        (
            r#"{"whole": 12.5}"#,
            ["refused, after tries false", "22P02"],
        ),
        (
            r#"{"whole": 2147483648}"#,
            ["refused, after tries false", "22003"],
        ),
        (
            r#"{"amount": 123456789.1}"#,
            ["refused, after tries false", "22003"],
        ),
        (
            r#"{"mood": "angry"}"#,
            ["refused, after tries false", "22P02"],
        ),
        (
            r#"{"data": 1e200000}"#,
            ["refused, after tries false", "22"],
        ),
        (
            r#"{"at": "2026-11-30T12:00:00"}"#,
            ["refused, after tries false", "no time zone"],
        ),
        (
            r#"{"bytes": "aGVsbG8="}"#,
            ["refused, after tries false", "\"/bytes\""],
        ),
        (
            r#"{"data": {"a": ["\u0000"]}}"#,
            ["refused, after tries false", "\"/data/a/0\""],
        ),
        (
            r#"{"plain": "\ud800"}"#,
            ["refused, after tries false", "lone surrogate"],
        ),
        (
            r#"{"Upper": "a\u0000b"}"#,
            [
                "refused, after tries false",
                "\"/Upper\", for the column \"Upper\"",
            ],
        ),
    ] {
        is(&table.one(item("k", 1, Some(content))).await, &words);
    }
    assert_eq!(table.rows("count(*)"), "0");
    // 9.999 is rounded to the column's precision, as the database does it.
    table
        .takes(&[item("k", 1, Some(r#"{"amount": 9.999}"#))])
        .await;
    assert_eq!(table.rows("amount"), "10.00");
}

#[tokio::test]
async fn one_row_in_a_thousand_costs_no_other_one() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(
        server,
        "thousand",
        "key text PRIMARY KEY, sequence bigint, n int",
        |options| {
            options.columns = columns(&[("n", "/n")]);
        },
    );
    let mut items = many(0..1_000, 1);
    items[500] = item(&key(500), 1, Some(r#"{"n": "\u0000"}"#));
    let outcomes = table.put(&items).await;
    let delivered = outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::Delivered);
    assert_eq!(delivered.count(), 999);
    is(&outcomes[500], &["refused", "NUL"]);
    // The server does not say which row it was, so that they are sent again in halves.
    items[500] = item(&key(500), 1, Some(r#"{"n": "x"}"#));
    for outcome in table.put(&items).await {
        is(&outcome, &["split", "22P02"]);
    }
}

#[tokio::test]
async fn large_rows_and_strange_keys_arrive_in_a_table_with_a_strange_name() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    server.sql("CREATE SCHEMA IF NOT EXISTS \"the.Shop\" AUTHORIZATION weir");
    let table = Table::create(server, "\"the.Shop\".\"order\"", CONTENT_TABLE);
    let long = "x".repeat(256 * 1024);
    let keys = [
        "a/b",
        "A b",
        "'",
        "\"",
        "\\",
        "",
        "日本",
        "👩‍👩‍👧",
        "%s",
        "$1",
        "{key}",
        "e\u{301}",
        "é",
    ];
    let items: Vec<Item> = keys.iter().map(|key| row(key, 1, &json!(long))).collect();
    table.takes(&items).await;
    let expected = format!("{}|{}", keys.len(), keys.len() * (long.len() + 2));
    assert_eq!(table.rows("count(*), sum(length(content::text))"), expected);
    let items: Vec<Item> = keys.iter().map(|key| gone(key, 2)).collect();
    table.takes(&items).await;
    assert_eq!(table.rows("count(*)"), "0");
    is(
        &table.one(row("a\0b", 1, &json!(1))).await,
        &["refused", "NUL"],
    );
}

#[tokio::test]
async fn keys_that_the_column_takes_for_the_same_are_told_apart_by_halving() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(
        server,
        "numbers",
        "key int PRIMARY KEY, sequence bigint, content jsonb",
    );
    for outcome in table
        .put(&[row("7", 1, &json!(1)), row("07", 2, &json!(2))])
        .await
    {
        is(&outcome, &["split", "21000"]);
    }
    table.takes(&[row("07", 2, &json!(2))]).await;
    // Read back under the other name, a newer state is there.
    table
        .takes(&[row("7", 1, &json!(1)), row("8", 1, &json!(1))])
        .await;
    assert_eq!(table.rows("key, content"), "7|2\n8|1");
}

#[tokio::test]
async fn a_state_beyond_all_that_weir_has_given_out_is_reported_and_overwritten_only_when_it_may() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::create(server, "ahead", CONTENT_TABLE);
    server.sql("INSERT INTO ahead VALUES ('a', 9000000, '1'), ('b', 5, '1')");
    let items = [row("a", 10, &json!(2)), row("b", 10, &json!(2))];
    let outcomes = deliver(&table.target, &items, 10, None).await;
    is(
        &outcomes[0],
        &["ahead 9000000", "Weir has given out 10 at most"],
    );
    assert_eq!(outcomes[1], Outcome::Delivered);
    let outcomes = deliver(&table.target, &[gone("a", 10)], 10, None).await;
    is(&outcomes[0], &["ahead 9000000"]);
    let foreign = Some(Foreign {
        first: Sequence(11),
        last: Sequence(9_000_000),
    });
    let outcomes = deliver(&table.target, &items, 9_000_001, foreign).await;
    assert_eq!(outcomes, [Outcome::Delivered, Outcome::Delivered]);
    assert_eq!(table.rows("key, sequence, content"), "a|10|2\nb|10|2");
}

#[tokio::test]
async fn an_error_of_one_row_refuses_it_and_one_of_the_table_refuses_nothing() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    server.sql("SET ROLE weir; DROP TABLE IF EXISTS child; DROP TABLE IF EXISTS parent CASCADE; CREATE TABLE parent (id int PRIMARY KEY)");
    let table = Table::with(
        server,
        "child",
        "key text PRIMARY KEY, sequence bigint, parent int REFERENCES parent, n int CHECK (n < 10) NOT NULL, code int UNIQUE",
        |options| {
            options.columns = columns(&[("parent", "/parent"), ("n", "/n"), ("code", "/code")])
        },
    );
    table
        .takes(&[row("z", 1, &json!({"n": 1, "code": 1}))])
        .await;
    for (content, words) in [
        (
            json!({"n": 1, "parent": 7}),
            ["refused, after tries true", "23503"],
        ),
        (
            json!({"n": 1, "code": 1}),
            ["refused, after tries true", "23505"],
        ),
        (json!({"n": 11}), ["refused, after tries false", "23514"]),
        (json!({"code": 2}), ["refused, after tries false", "23502"]),
    ] {
        is(&table.one(row("k", 2, &content)).await, &words);
    }
    let fine = || row("k", 2, &json!({"n": 1}));
    for (broken, mended, words) in [
        (
            "ALTER TABLE child ADD extra int NOT NULL DEFAULT 1; ALTER TABLE child ALTER extra DROP DEFAULT",
            "ALTER TABLE child DROP extra",
            "23502",
        ),
        (
            "ALTER TABLE child RENAME n TO m",
            "ALTER TABLE child RENAME m TO n",
            "42703",
        ),
        (
            "ALTER TABLE child RENAME TO moved",
            "ALTER TABLE moved RENAME TO child",
            "42P01",
        ),
        (
            "REVOKE SELECT ON child FROM weir",
            "GRANT SELECT ON child TO weir",
            "42501",
        ),
        (
            "ALTER TABLE child DROP CONSTRAINT child_pkey",
            "ALTER TABLE child ADD PRIMARY KEY (key)",
            "42P10",
        ),
        (
            "ALTER TABLE child ENABLE ROW LEVEL SECURITY; ALTER TABLE child FORCE ROW LEVEL SECURITY",
            "ALTER TABLE child NO FORCE ROW LEVEL SECURITY",
            "42501",
        ),
        (
            "ALTER TABLE child ALTER code TYPE date USING NULL",
            "ALTER TABLE child ALTER code TYPE int USING NULL",
            "42804",
        ),
    ] {
        server.sql(&format!("SET ROLE weir; {broken}"));
        is(&table.one(fine()).await, &["trip", words]);
        server.sql(&format!("SET ROLE weir; {mended}"));
        assert_eq!(table.one(fine()).await, Outcome::Delivered, "{mended}");
    }
    server.sql(
        "CREATE OR REPLACE FUNCTION says_no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
         CREATE TRIGGER no BEFORE INSERT OR UPDATE ON child FOR EACH ROW EXECUTE FUNCTION says_no()",
    );
    is(
        &table.one(fine()).await,
        &["refused, after tries false", "not today", "P0001"],
    );
    server.sql(
        "CREATE OR REPLACE FUNCTION says_no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
    );
    is(
        &table.one(row("new", 2, &json!({"n": 1}))).await,
        &["refused, after tries true", "a trigger"],
    );
    // The older state is still there.
    is(
        &table.one(row("k", 3, &json!({"n": 2}))).await,
        &["refused, after tries true", "was not changed"],
    );
    server.sql("DROP TRIGGER no ON child; CREATE TRIGGER no BEFORE DELETE ON child FOR EACH ROW EXECUTE FUNCTION says_no()");
    is(
        &table.one(gone("k", 4)).await,
        &["refused, after tries true", "is still there"],
    );
    table.takes(&[gone("never", 4)]).await;
    server.sql("DROP TRIGGER no ON child");
    table.takes(&[gone("k", 4)]).await;
    assert_eq!(table.rows("key"), "z");
}

#[tokio::test]
async fn what_a_role_has_set_does_not_change_what_a_text_means() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(
        server,
        "styled",
        "key text PRIMARY KEY, sequence bigint, tags text[], lasts interval, day date",
        |options| {
            options.columns = columns(&[("tags", "/tags"), ("lasts", "/lasts"), ("day", "/day")]);
        },
    );
    server.sql(
        "CREATE ROLE stylish LOGIN PASSWORD 'stylish-password'; GRANT ALL ON styled TO stylish;
         ALTER ROLE stylish SET array_nulls = off; ALTER ROLE stylish SET intervalstyle = 'sql_standard';
         ALTER ROLE stylish SET datestyle = 'SQL, DMY'; ALTER ROLE stylish SET timezone = 'Asia/Tokyo'",
    );
    let url = server
        .url()
        .replace("weir:weir-password", "stylish:stylish-password");
    let mut options = table.target.options.clone();
    options.server = Server::parse(&url).expect("a URL");
    let target = Postgres::open(&options).expect("options");
    let content = json!({"tags": ["x", null], "lasts": "-1 2:03:04", "day": "26/11/30"});
    let outcomes = deliver(&target, &[row("a", 1, &content)], 9, None).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    assert_eq!(
        table.rows("tags, lasts, day"),
        "{x,NULL}|-1 days +02:03:04|2026-11-30"
    );
}

#[tokio::test]
async fn a_partition_that_is_missing_is_the_tables_fault() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    server.sql("SET ROLE weir; DROP TABLE IF EXISTS parts; CREATE TABLE parts (key int PRIMARY KEY, sequence bigint, content jsonb) PARTITION BY RANGE (key); CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (10)");
    let target = Postgres::open(&options(&server.url(), "parts")).expect("options");
    let outcomes = deliver(&target, &[row("1", 1, &json!(1))], 9, None).await;
    assert_eq!(outcomes, [Outcome::Delivered]);
    let outcomes = deliver(&target, &[row("11", 1, &json!(1))], 9, None).await;
    is(&outcomes[0], &["trip", "no partition"]);
}

// Lists in a list that are not equally long are no array of PostgreSQL, and JSON knows no difference.
#[tokio::test]
async fn lists_that_are_not_equally_long_are_refused_alone() {
    let Some(server) = Server15::shared(PROVES) else {
        return;
    };
    let table = Table::with(
        server,
        "unequal",
        "key text PRIMARY KEY, sequence bigint, tags text[], numbers int[]",
        |options| options.columns = columns(&[("tags", "/tags"), ("numbers", "/numbers")]),
    );
    let wrong = [
        json!({"numbers": [[1, 2], [3]]}),
        json!({"numbers": [[1], 2]}),
        json!({"numbers": [[1], []]}),
        json!({"tags": [["a", "b"], ["c"]]}),
        json!({"tags": ["a", ["b"]]}),
        // Versions before 17 have no list of empty lists.
        json!({"tags": [[], []]}),
    ];
    let right = json!({"numbers": [[1, 2], [3, 4]], "tags": [["a"], [null]]});
    let mut items = vec![row("a", 1, &right)];
    for (content, at) in wrong.iter().zip(2..) {
        items.push(row(&format!("wrong{at}"), at, content));
    }
    items.push(row("z", 9, &json!({"numbers": [], "tags": []})));
    // A statement fails whole, so its rows are sent again in smaller ones, in the end each alone.
    for outcome in table.put(&items).await {
        let is_split = matches!(
            outcome,
            Outcome::Split {
                too_long: false,
                ..
            }
        );
        assert!(is_split, "{outcome:?}");
    }
    for item in &items {
        let outcome = table.put(std::slice::from_ref(item)).await.remove(0);
        match item.key.starts_with("wrong") {
            true => is(&outcome, &["refused", "22P02"]),
            false => assert_eq!(outcome, Outcome::Delivered, "{}", item.key),
        }
    }
    assert_eq!(
        table.rows("key, numbers, tags"),
        "a|{{1,2},{3,4}}|{{a},{NULL}}\nz|{}|{}"
    );
}
