//! `weir-bench postgres`: a table gets half a million entities. How close does Weir come to `COPY`, which is
//! the fastest way into the same table, from a file that was made beforehand?
//!
//! Both write the same rows, with as many columns and the same index, and the server waits for its disk
//! (`fsync`). `COPY` reads its file in the server's own process; Weir reads, renders and sends each entity while
//! it competes with the server for the processor. The channel is paused while the entities come in.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::clock::{Phase, round};
use crate::documents;
use crate::postgres_server::Postgres;
use crate::progress::Progress;
use crate::report::Report;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Entities at full size.
const ENTITIES: f64 = 500_000.0;
/// The longest that all of them may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a server that is made for writing has. The checkpoints of both loads are the same.
pub(super) const SETTINGS: [&str; 4] = [
    "fsync=on",
    "shared_buffers=512MB",
    "max_wal_size=8GB",
    "autovacuum=off",
];

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("postgres", args.scale);
    let entities = args.scaled(ENTITIES);
    report.figure("entities", entities);
    let server = Postgres::start(&SETTINGS, "the speed of a table")
        .ok_or_else(|| unreachable("no PostgreSQL", "it is not installed"))?;
    for table in ["products", "copied"] {
        let create = format!(
            "SET ROLE weir; CREATE TABLE {table} (key text PRIMARY KEY, sequence bigint NOT NULL, content jsonb)"
        );
        sql(&server, &create)?;
    }
    let stage = documents::owing(args, &table(&server), entities)?;
    let (phase, progress) = (Phase::start(), Progress::begin("by Weir", entities as u64));
    let began = Instant::now();
    stage.api().operate("resume")?;
    loop {
        let delivered = stage.api().counted("delivered")?;
        progress.mark().at(delivered);
        if delivered >= entities as u64 {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Failed("the deliveries take too long".into()));
        }
        // Each look costs the processor a millisecond, which is taken from both.
        sleep(Duration::from_millis(20));
    }
    let by_weir = entities as f64 / began.elapsed().as_secs_f64();
    drop(progress);
    report.usage("by_weir", &phase.end(Duration::ZERO));
    let delivered = stage.api().wait_until_idle()?;
    stage.stop();
    let statements = sql(&server, "SELECT count(DISTINCT xmin::text) FROM products")?;
    let statements: f64 = statements.parse().unwrap_or(1.0);

    let file = server.data().join("rows");
    let file = file.display();
    sql(&server, &format!("COPY products TO '{file}'; CHECKPOINT"))?;
    let (phase, began) = (Phase::start(), Instant::now());
    sql(&server, &format!("COPY copied FROM '{file}'"))?;
    let by_copy = entities as f64 / began.elapsed().as_secs_f64();
    report.usage("by_copy", &phase.end(Duration::ZERO));
    let copied = sql(&server, "SELECT count(*) FROM copied")?;

    report.figure("rows_a_statement", round(entities as f64 / statements, 1));
    report.figure("rows_per_second", round(by_weir, 0));
    report.figure("rows_per_second_of_copy", round(by_copy, 0));
    report.at_least("ratio", by_weir / by_copy, 0.7);
    report.exactly("delivered", delivered, entities as u64);
    report.exactly("copied", copied.parse().unwrap_or(0), entities as u64);
    report.end(args.common.json, out)
}

/// The table `products` as a target.
pub(super) fn table(server: &Postgres) -> Value {
    json!({ "kind": "postgres", "url": server.url(), "table": "products" })
}

pub(super) fn sql(server: &Postgres, statements: &str) -> Result<String, Failure> {
    server.try_sql(statements).map_err(Failure::Failed)
}
