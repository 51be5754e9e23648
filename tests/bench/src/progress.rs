//! The progress of a measurement on standard error: a bar on a terminal, otherwise one line per
//! phase.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The template of a bar; the count and the rate are at its end.
const TEMPLATE: &str = "{msg:<28} [{bar:32}] {human_pos}/{human_len} {per_sec} {elapsed}";

/// One phase. It ends when this is dropped.
pub(super) struct Progress {
    what: String,
    mark: Mark,
    began: Instant,
}

/// A handle for updating the progress of a phase.
#[derive(Clone)]
pub(super) struct Mark(Option<ProgressBar>);

impl Progress {
    /// Starts a phase with this many steps.
    pub(super) fn begin(what: &str, total: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_message(what.to_owned());
            bar.set_style(
                ProgressStyle::with_template(TEMPLATE)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        if bar.is_none() {
            eprintln!("{what}: {total}");
        }
        Progress {
            what: what.to_owned(),
            mark: Mark(bar),
            began: Instant::now(),
        }
    }

    /// A handle for another thread.
    pub(super) fn mark(&self) -> Mark {
        self.mark.clone()
    }
}

impl Mark {
    /// Sets the number of steps done.
    pub(super) fn at(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// Adds to the number of steps done.
    pub(super) fn add(&self, more: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(more);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &self.mark.0 {
            Some(bar) => bar.finish(),
            None => eprintln!(
                "{}: over after {:.1} s",
                self.what,
                self.began.elapsed().as_secs_f64()
            ),
        }
    }
}
