//! `weir-bench fanout`: the cost of a committed change with 1, 18 and 108 channels that do not
//! deliver it.
//!
//! Six Weirs run side by side, each in its own process: with 1, 18 and 108 channels that are idle
//! (they subscribe to a facet that does not change), and as many that are paused (they subscribe to
//! the one that does). In turns each gets the same changes, and its processor time is read before
//! and after. Thus other load on the machine affects all of them alike.

use std::fs;
use std::time::{Duration, Instant};

use crate::clock::{Memory, round};
use crate::documents;
use crate::post::{CONNECTIONS, post};
use crate::progress::Progress;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::stage::Child;
use crate::{FullArgs, unreachable};
use weir::inside::cli::{CommandResult, Failure};

/// Channels of each kind.
const CHANNELS: [usize; 3] = [1, 18, 108];
/// Products at full size; each changes once in a turn.
const PRODUCTS: f64 = 50_000.0;
/// Turns of each that are counted, after a first turn that creates the products.
const TURNS: usize = 10;
/// Delay between the last response and reading the processor time, so that the work after a commit
/// is included.
const AFTER: Duration = Duration::from_millis(50);
/// A Weir is idle when it has used no processor time for this long; then each channel has walked
/// past the new products.
const REST: Duration = Duration::from_millis(500);
const REST_WAIT: Duration = Duration::from_secs(60);

/// The number of ticks per second in `/proc`, which is the same on every Linux machine.
const TICKS_A_SECOND: f64 = 100.0;

/// One of the six.
struct Side {
    name: String,
    child: Child,
    /// Processor time for creating a product, in microseconds.
    making: f64,
    /// Processor time of each turn, in microseconds per change.
    turns: Vec<f64>,
}

pub(super) fn run(args: &FullArgs, out: &mut String) -> CommandResult {
    let products = args.scaled(PRODUCTS);
    let recorder = Recorder::start(CHANNELS[2], 0, None)
        .map_err(|error| unreachable("no target in this process", error))?;
    let mut sides = Vec::new();
    for (state, facets) in [("idle", "other"), ("paused", "content")] {
        for channels in CHANNELS {
            let child = Child::start(
                args.folder.as_deref(),
                &documents::configuration(&recorder, channels, facets, 500),
            )?;
            if state == "paused" {
                child.api().operate("pause")?;
            }
            sides.push(Side {
                name: format!("{state}_{channels}"),
                child,
                making: 0.0,
                turns: Vec::new(),
            });
        }
    }
    let progress = Progress::begin(
        "changes beside channels",
        (sides.len() * products * (1 + TURNS)) as u64,
    );
    for turn in 0..=TURNS {
        for side in &mut sides {
            side.turn(products, turn as u32 + 1)?;
            progress.mark().add(products as u64);
        }
    }
    drop(progress);

    let mut report = Report::new("fanout", args.scale);
    report.figure("products", products);
    report.figure("changes_of_each", products * TURNS);
    let costs: Vec<f64> = sides
        .iter()
        .map(|side| side.turns.iter().sum::<f64>() / side.turns.len() as f64)
        .collect();
    for (side, cost) in sides.iter().zip(&costs) {
        let Side {
            name,
            child,
            making,
            turns,
        } = side;
        report.figure(&format!("cpu_us_a_change_{name}"), round(*cost, 2));
        report.figure(&format!("cpu_us_a_new_product_{name}"), round(*making, 2));
        let spread = (
            turns.iter().copied().fold(f64::MAX, f64::min),
            turns.iter().copied().fold(0.0, f64::max),
        );
        report.figure(
            &format!("of_turns_{name}"),
            format!("{:.2} to {:.2}", spread.0, spread.1),
        );
        report.figure(
            &format!("rss_mib_{name}"),
            child
                .process()
                .map(|process| Memory::of(&process).resident_mib)
                .unwrap_or_default(),
        );
    }
    let (least, most) = (
        costs.iter().copied().fold(f64::MAX, f64::min),
        costs.iter().copied().fold(0.0, f64::max),
    );
    report.at_most("most_by_least", most / least.max(1e-9), 1.05);
    report.exactly("deliveries", recorder.held().delivered(), 0);
    report.end(args.common.json, out)
}

impl Side {
    /// Changes each product for the `number`-th time and records the processor time. The first turn
    /// creates the products and ends when the channels have walked past them.
    fn turn(&mut self, products: usize, number: u32) -> Result<(), Failure> {
        let before = cpu_seconds(&self.child)?;
        let posted = post(
            self.child.address(),
            CONNECTIONS,
            move |turn, _, request| documents::fill(request, products, turn, number),
        );
        let posted = posted.map_err(Failure::Failed)?;
        match number {
            1 => self.wait_until_idle()?,
            _ => std::thread::sleep(AFTER),
        }
        let used = cpu_seconds(&self.child)? - before;
        if posted.committed == 0 {
            return Err(Failure::Failed("nothing was committed".to_owned()));
        }
        let each = used * 1e6 / posted.committed as f64;
        match number {
            1 => self.making = each,
            _ => self.turns.push(each),
        }
        Ok(())
    }

    /// Waits until it uses no processor time.
    fn wait_until_idle(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let before = cpu_seconds(&self.child)?;
            std::thread::sleep(REST);
            // Its timers take a tick or two.
            if cpu_seconds(&self.child)? - before < 0.03 {
                return Ok(());
            }
            if begun.elapsed() > REST_WAIT {
                return Err(Failure::Failed(format!(
                    "{} does not become idle",
                    self.name
                )));
            }
        }
    }
}

/// Processor time of a child in seconds, to about a hundredth: user and system time, fields 14 and
/// 15 of proc_pid_stat(5).
fn cpu_seconds(child: &Child) -> Result<f64, Failure> {
    let stat = child
        .process()
        .and_then(|process| fs::read_to_string(format!("/proc/{process}/stat")).ok());
    let fields = stat
        .as_deref()
        .and_then(|stat| Some(stat.rsplit_once(')')?.1.split_whitespace()));
    let ticks: Option<u64> = fields.and_then(|fields| {
        fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().ok())
            .sum()
    });
    let ticks = ticks.ok_or_else(|| {
        Failure::Unreachable(
            "this system does not report the processor time of a process".to_owned(),
        )
    })?;
    Ok(ticks as f64 / TICKS_A_SECOND)
}
