//! What goes wrong with a table that others use too, from outside: each trouble is named, nothing is refused that
//! is not wrong itself, nothing is lost, and another channel waits for none of it.

use super::*;
use crate::support::postgres::Holder;

/// Weir with a shop in addition, which takes everything, and all products.
fn started_with_shop(server: &Postgres) -> Stage {
    server.sql(TABLE);
    let mut stage = Stage::closed(&format!(
        "{CONFIG}[targets.shop]\nkind = \"webhook\"\nurl = \"{{shop}}\"\n\
         [channels.shop]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n"
    ));
    stage.start_with(&[("DATABASE_URL", &server.url())]);
    stage.takes("pim", &changes(0..PRODUCTS, 1));
    holds(server, 1);
    stage
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
    let stage = started_with_shop(&server);
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
        // Meanwhile Weir may have found the type that a column had then, and values that do not fit it were refused.
        // They are tried again, because the table was altered once more.
        holds(&server, n);
        stage.settles("database");
        becomes("nothing is refused", Vec::<Value>::new(), || {
            stage.refused("database")
        });
    }
    answers(&server, "SELECT count(*) FROM fallen", "0");
}

// A report held a row for an hour, and a value that PostgreSQL cannot hold came meanwhile.
#[test]
fn a_row_that_is_held_and_a_value_that_does_not_fit_cost_no_other_entity() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    let stage = started_with_shop(&server);
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

// A name was longer than its column. The column was widened, and the product stayed out of the table until somebody
// changed it.
#[test]
fn what_a_table_has_refused_is_tried_again_when_it_was_altered() {
    let Some(server) = Postgres::start(&[], PROVES) else {
        return;
    };
    server.sql(TABLE);
    server.sql("ALTER TABLE products ALTER name TYPE varchar(5), ADD CHECK (n < 100)");
    let mut stage = started(&server);
    let named =
        |key: &str, n: usize, name: &str| change(key, "content", json!({"n": n, "name": name}));
    stage.takes(
        "pim",
        &[
            named("fine", 1, "Lampe"),
            named("long", 1, "Stehlampe"),
            named("many", 100, "Lampe"),
        ],
    );
    for key in ["long", "many"] {
        stage.stands(key, "database", "refused");
    }
    stage.settles("database");
    let keys = "SELECT string_agg(sku, ' ' ORDER BY sku) FROM products";
    server.sql("ALTER TABLE products ALTER name TYPE varchar(20)");
    answers(&server, keys, "fine long");
    stage.stands("long", "database", "delivered");
    stage.stands("many", "database", "refused");
    // The same while Weir is stopped.
    stage.stop();
    server.sql("ALTER TABLE products DROP CONSTRAINT products_n_check");
    stage.start_with(&[("DATABASE_URL", &server.url())]);
    answers(&server, keys, "fine long many");
    becomes("nothing is refused", Vec::<Value>::new(), || {
        stage.refused("database")
    });
}
