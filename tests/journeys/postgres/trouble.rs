//! What goes wrong with a table that others use too, from outside: each trouble is named, nothing is refused that
//! is not wrong itself, nothing is lost, and another channel waits for none of it.

use super::*;
use crate::support::postgres::Holder;

/// The configuration with a shop in addition, which takes everything.
fn with_shop() -> String {
    format!(
        "{CONFIG}[targets.shop]\nkind = \"webhook\"\nurl = \"{{shop}}\"\n\
         [channels.shop]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n"
    )
}

const PRODUCTS: usize = 20;

/// Waits until the table holds this number in all products.
#[track_caller]
fn holds(server: &Postgres, n: usize) {
    let question = "SELECT count(*), min(n), max(n) FROM products WHERE sku LIKE 'p%'";
    answers(server, question, &format!("{PRODUCTS}|{n}|{n}"));
}

// The table belonged to another team, who altered it without a word.
#[test]
fn what_is_done_to_a_table_is_said_and_mended_and_delays_nobody_else() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    let mut stage = Stage::closed(&with_shop());
    stage.start_with(&[("DATABASE_URL", &server.url())]);
    stage.takes("pim", &changes(0..PRODUCTS, 1));
    holds(&server, 1);
    let troubles = [
        (
            "ALTER TABLE products RENAME n TO m",
            "ALTER TABLE products RENAME m TO n",
            "42703",
        ),
        (
            "ALTER TABLE products DROP name",
            "ALTER TABLE products ADD name text",
            "42703",
        ),
        (
            "ALTER TABLE products RENAME TO moved",
            "ALTER TABLE moved RENAME TO products",
            "42P01",
        ),
        (
            "ALTER TABLE products ALTER n TYPE date USING NULL",
            "ALTER TABLE products ALTER n TYPE int USING 0",
            "42804",
        ),
        (
            "ALTER TABLE products ADD extra int NOT NULL DEFAULT 0; ALTER TABLE products ALTER extra DROP DEFAULT",
            "ALTER TABLE products DROP extra",
            "23502",
        ),
        (
            "ALTER TABLE products ENABLE ROW LEVEL SECURITY; ALTER TABLE products FORCE ROW LEVEL SECURITY",
            "ALTER TABLE products DISABLE ROW LEVEL SECURITY; ALTER TABLE products NO FORCE ROW LEVEL SECURITY",
            "42501",
        ),
        (
            "REVOKE SELECT ON products FROM weir",
            "GRANT SELECT ON products TO weir",
            "42501",
        ),
        (
            "ALTER ROLE weir SET default_transaction_read_only = on; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir'",
            "ALTER ROLE weir RESET default_transaction_read_only",
            "cannot be written to",
        ),
    ];
    for (n, (broken, mended, said)) in (2..).zip(troubles) {
        server.sql(broken);
        stage.takes("pim", &changes(0..PRODUCTS, n));
        // The shop has all of it, while nothing reaches the table.
        stage.settles("shop");
        stage.channel_is("database", "tripped");
        becomes(broken, true, || {
            stage.channel("database")["reason"]
                .to_string()
                .contains(said)
        });
        server.sql(mended);
        if said == "42804" {
            // Weir looks at the table again before it probes the target. If it was not mended by then, the
            // values do not fit the type that it found, and those that probed are refused.
            becomes("nothing is refused any more", Vec::<Value>::new(), || {
                stage.settles("database");
                let refused = stage.refused("database");
                let redrive = "/v1/channels/database/refused/redrive?all=true";
                let redriven = stage.weir().post(redrive);
                assert_eq!(redriven.status, 200, "{}", redriven.text());
                refused
            });
        }
        holds(&server, n);
        stage.settles("database");
    }
    assert_eq!(stage.refused("database"), Vec::<Value>::new());
    answers(&server, "SELECT count(*) FROM fallen", "0");
}

// A report held a row for an hour, and a value that PostgreSQL cannot hold came meanwhile.
#[test]
fn a_row_that_is_held_and_a_value_that_does_not_fit_cost_no_other_entity() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    let mut stage = Stage::closed(&with_shop());
    stage.start_with(&[("DATABASE_URL", &server.url())]);
    stage.takes("pim", &changes(0..PRODUCTS, 1));
    holds(&server, 1);
    // No source gets half of a pair in.
    let lone = r#"{"type":"product","key":"lone","facet":"content","value":{"name":"\ud800"}}"#;
    let json = [("content-type", "application/json")];
    assert_eq!(stage.send("pim", &json, lone.as_bytes()).status, 400);
    let holder = Holder::begin(
        &server,
        "SELECT * FROM products WHERE sku = 'p0007' FOR UPDATE",
    );
    for n in 2..5 {
        let mut changed = changes(0..PRODUCTS, n);
        for (key, name) in [("nul", "a\0b"), ("fine", "Lampe")] {
            changed.push(change(key, "content", json!({"n": n, "name": name})));
        }
        stage.takes("pim", &changed);
        let others = format!("SELECT count(*) FROM products WHERE n = {n}");
        answers(&server, &others, &PRODUCTS.to_string());
        stage.settles("shop");
    }
    let standing = stage.stands("p0007", "database", "parked").to_string();
    assert!(standing.contains("55P03"), "{standing}");
    let standing = stage.stands("nul", "database", "refused").to_string();
    assert!(standing.contains("/facets/content/name"), "{standing}");
    drop(holder);
    holds(&server, 4);
    stage.settles("database");
    assert_eq!(stage.refused("database").len(), 1);
}
