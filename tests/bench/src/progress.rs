//! How far a measurement is, on the standard error: a bar on a terminal, a line a phase elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How a bar looks; what is counted and how fast is at its end.
const TEMPLATE: &str = "{msg:<28} [{bar:32}] {human_pos}/{human_len} {per_sec} {elapsed}";

/// One phase. It is over when this is dropped.
pub(super) struct Progress {
    what: String,
    mark: Mark,
    began: Instant,
}

/// A handle on a phase, for whoever knows how far it is.
#[derive(Clone)]
pub(super) struct Mark(Option<ProgressBar>);

impl Progress {
    /// A phase with so many things to do begins.
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
    /// So many are done.
    pub(super) fn at(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// So many more are done.
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
