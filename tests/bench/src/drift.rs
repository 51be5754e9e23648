//! `weir-bench drift`: a table of PostgreSQL holds 1.5 million entities, and somebody has deleted, changed and
//! added some rows. How long does it take to find exactly these, and how much memory?
//!
//! Weir renders each entity and the server compares it with its row, so both compete for the processor. Nothing
//! else goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clock::{Memory, Phase, round};
use crate::documents;
use crate::postgres::{SETTINGS, sql, table};
use crate::postgres_server::Postgres;
use crate::progress::Progress;
use crate::report::Report;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Entities at full size.
const ENTITIES: f64 = 1_500_000.0;
/// One row of so many is deleted, and one is changed; as many are added.
const ONE_OF: usize = 10_000;
/// The longest that filling the table may take.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let mut report = Report::new("drift", args.scale);
    let entities = args.scaled(ENTITIES);
    report.figure("entities", entities);
    let server = Postgres::start(&SETTINGS, "the speed of a drift check")
        .ok_or_else(|| unreachable("no PostgreSQL", "it is not installed"))?;
    sql(
        &server,
        "SET ROLE weir; CREATE TABLE products (key text PRIMARY KEY, sequence bigint NOT NULL, content jsonb)",
    )?;
    let stage = documents::owing(args, &table(&server), entities)?;
    let progress = Progress::begin("filling the table", entities as u64);
    let began = Instant::now();
    stage.api().operate("resume")?;
    loop {
        let delivered = stage.api().counted("delivered")?;
        progress.mark().at(delivered);
        if delivered >= entities as u64 {
            break;
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::Failed("filling the table takes too long".into()));
        }
        sleep(Duration::from_millis(100));
    }
    drop(progress);
    stage.api().wait_until_idle()?;
    let each = (entities / ONE_OF).max(1);
    for statement in [
        format!(
            "DELETE FROM products WHERE key IN (SELECT key FROM products ORDER BY key LIMIT {each})"
        ),
        format!(
            "UPDATE products SET content = '{{\"changed\": true}}' WHERE key IN (SELECT key FROM products ORDER BY key DESC LIMIT {each})"
        ),
        format!(
            "INSERT INTO products SELECT 'theirs-' || n, 1, '{{}}' FROM generate_series(1, {each}) n"
        ),
        "VACUUM ANALYZE products".to_owned(),
    ] {
        sql(&server, &statement)?;
    }
    let before = Memory::of("self");
    let (phase, progress) = (Phase::start(), Progress::begin("checking", entities as u64));
    let began = Instant::now();
    let found = stage
        .api()
        .drift(documents::OWING, |done| progress.mark().at(done))?;
    let seconds = began.elapsed().as_secs_f64();
    drop(progress);
    let usage = phase.end(Duration::ZERO);
    report.at_most("seconds", seconds, 60.0);
    report.figure("entities_per_second", round(entities as f64 / seconds, 0));
    report.at_most(
        "memory_mib",
        usage.rss_peak_mib - before.resident_mib,
        128.0,
    );
    report.exactly("compared", found.compared, entities as u64);
    report.exactly("missing", found.missing, each as u64);
    report.exactly(
        "different_or_older",
        found.different + found.older,
        each as u64,
    );
    report.exactly("extra", found.extra, each as u64);
    report.usage("checking", &usage);
    stage.stop();
    report.end(args.common.json, out)
}
