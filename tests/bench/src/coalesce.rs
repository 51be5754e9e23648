//! `weir-bench coalesce`: waves of updates of the same products accumulate while a channel is
//! paused, and add nothing to what it must deliver later.
//!
//! There are ten million updates in twenty waves; each wave changes each of half a million products
//! once. Then the channel is resumed and must deliver each product exactly once, in its newest
//! state. Live data is the minimum that the store must keep: type and key of each entity, name,
//! owner and value of its facets with 32 bytes for each (version, sequence, time, hash), and 16
//! bytes for each entity's pair with the channel.

use std::sync::Arc;

use crate::clock::{Phase, round};
use crate::documents::{self, MARK};
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Stage;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};
use weir::inside::model::{Entity, Ordinal};
use weir::inside::store::Store;

/// Products at full size.
const PRODUCTS: f64 = 500_000.0;
/// Changes of each product.
const WAVES: u32 = 20;
/// Bytes that the store keeps for a facet in addition to its texts, and for a pair.
const FACET_BYTES: u64 = 32;
const PAIR_BYTES: u64 = 16;
/// Entities per read.
const READ: u32 = 1_000;

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let products = args.scaled(PRODUCTS);
    let recorder = Recorder::start(1, products, Some(MARK))
        .map_err(|error| unreachable("no target in this process", error))?;
    let recorder = Arc::new(recorder);
    let stage = Stage::start(
        args.folder.as_deref(),
        &documents::configuration(&recorder, 1, "content", 500),
    )?;
    recorder.held().expect(|_| WAVES);
    stage.api().operate("pause")?;

    let updates = u64::from(WAVES) * products as u64;
    let (phase, progress) = (
        Phase::start(),
        Progress::begin("updating while paused", updates),
    );
    let (mut posted, mut seconds, mut cpu, mut disk) =
        (0, 0.0, std::time::Duration::ZERO, Vec::new());
    for wave in 1..=WAVES {
        let mark = progress.mark();
        let tally = post(stage.address(), CONNECTIONS, move |turn, _, request| {
            let more = documents::fill(request, products, turn, wave);
            mark.add(request.events);
            more
        });
        let tally = tally.map_err(Failure::Failed)?;
        posted += tally.committed;
        seconds += tally.wall.as_secs_f64();
        cpu += tally.cpu;
        disk.push(stage.disk_bytes());
    }
    drop(progress);
    let usage = phase.end(cpu);
    let before = recorder.held().delivered();

    let (phase, progress) = (
        Phase::start(),
        Progress::begin("delivering once resumed", products as u64),
    );
    let began = std::time::Instant::now();
    stage.api().operate("resume")?;
    stage.api().converge(&recorder, &progress)?;
    let delivering = recorder
        .held()
        .reached_at()
        .duration_since(began)
        .as_secs_f64();
    drop(progress);
    let resumed = phase.end(std::time::Duration::ZERO);
    stage.api().settled(&recorder)?;
    let live = live_bytes(&*stage.store(), products as u64)?;

    let most = disk.iter().copied().max().unwrap_or_default();
    let mut report = Report::new("coalesce", args.scale);
    report.figure("products", products);
    report.figure("waves", WAVES);
    report.exactly("updates_committed", posted, updates);
    report.figure("updates_per_second", round(updates as f64 / seconds, 0));
    report.figure(
        "weir_cpu_us_an_update",
        round(usage.weir_cpu_seconds() * 1e6 / updates as f64, 2),
    );
    report.exactly("deliveries_while_paused", before, 0);
    report.exactly("deliveries", recorder.held().delivered(), products as u64);
    report.figure(
        "deliveries_per_second",
        round(products as f64 / delivering, 0),
    );
    report.figure("live_bytes", live);
    report.figure(
        "disk_bytes_after_each_wave",
        disk.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    );
    report.at_most("most_disk_by_live", most as f64 / live as f64, 4.0);
    report.figure("disk_bytes_at_the_end", stage.disk_bytes());
    report.figure("folder", stage.parent());
    report.usage("updates", &usage);
    report.usage("deliveries", &resumed);
    stage.stop();
    report.end(args.common.json, out)
}

/// The live data of the store, read from it.
fn live_bytes(store: &dyn Store, entities: u64) -> Result<u64, Failure> {
    let (mut found, mut bytes, mut next) = (0, 0, 0);
    while found < entities && next < u32::MAX - READ {
        let ordinals: Vec<Ordinal> = (next..next + READ).map(Ordinal).collect();
        let read = store
            .read(&ordinals)
            .map_err(|error| Failure::Failed(error.to_string()))?;
        let some: Vec<&Arc<Entity>> = read.iter().flatten().collect();
        if some.is_empty() {
            break;
        }
        found += some.len() as u64;
        bytes += some.iter().map(|entity| live(entity)).sum::<u64>();
        next += READ;
    }
    if found == entities {
        Ok(bytes)
    } else {
        Err(Failure::Failed(format!(
            "the store has {found} of {entities} entities"
        )))
    }
}

fn live(entity: &Entity) -> u64 {
    let of = |facet: &weir::inside::model::Facet| {
        (facet.name.len() + facet.owner.len() + facet.value.as_ref().map_or(0, |value| value.len()))
            as u64
            + FACET_BYTES
    };
    let id = (entity.id.entity_type.len() + entity.id.key.len()) as u64;
    id + PAIR_BYTES + entity.facets.iter().map(of).sum::<u64>()
}
