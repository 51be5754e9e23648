//! The log lines of a plugin, bounded in bytes per batch, and per minute by its [`Quota`].
//!
//! Lines go to the host's log under the target `weir::plugin`; for an author they are kept instead.
//! The last line of level error is kept during a call, because a panic hook logs at that level, and
//! the trap itself does not contain the reason.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use crate::model::Trace;
use crate::plugin::quota::Quota;
use crate::plugin::room::Room;
use crate::sync::lock;

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the author of the plugin.
    Debug,
    /// Information for the operator.
    Info,
    /// Needs the operator's attention.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// One line that a plugin logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its text; control characters are replaced.
    pub message: String,
}

/// The log of one instance.
pub(super) struct Log {
    /// `name@digest`.
    plugin: Arc<str>,
    /// The remaining budget, in bytes.
    left: usize,
    /// Whether a line has been dropped since the budget was last refilled.
    cut: bool,
    last_error: Option<String>,
    /// The trace that the items of the call belong to.
    trace: Option<Trace>,
    quota: Arc<Quota>,
    kept: Option<Vec<Line>>,
}

/// The most characters of an error line that are repeated in a failure's message.
const SAID_MAX: usize = 500;

impl Log {
    /// An empty log with an empty budget. With `keep`, lines are kept for [`Log::take_lines`] and
    /// not logged.
    pub(super) fn new(plugin: Arc<str>, quota: Arc<Quota>, keep: bool) -> Log {
        Log {
            plugin,
            left: 0,
            cut: false,
            last_error: None,
            trace: None,
            quota,
            kept: keep.then(Vec::new),
        }
    }

    /// Starts a call, which may log up to `bytes` bytes.
    pub(super) fn begin(&mut self, bytes: usize) {
        self.left = bytes;
        self.cut = false;
        self.last_error = None;
        self.trace = None;
    }

    /// The lines of this call are about items of this trace.
    pub(super) fn belong_to(&mut self, trace: Option<Trace>) {
        self.trace = trace;
    }

    /// The last error line of the call, shortened.
    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// The lines kept so far.
    pub(super) fn take_lines(&mut self) -> Vec<Line> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Logs a line if the budget allows.
    pub(super) fn write(&mut self, level: Level, message: &str) {
        // The budget protects the operator's log. The line that explains a fault is short and needs
        // no budget.
        if level == Level::Error {
            self.last_error = Some(plain(message, SAID_MAX));
        }
        // An empty line has a cost too, or a loop could log forever.
        let cost = message.len().max(16);
        if cost > self.left {
            self.left = 0;
            if !self.cut {
                self.cut = true;
                self.put(
                    Level::Warn,
                    "log limit reached; the remaining lines of this batch are dropped",
                );
            }
            return;
        }
        self.left -= cost;
        self.put(level, message);
    }

    fn put(&mut self, level: Level, message: &str) {
        if let Some(kept) = &mut self.kept {
            let message = plain(message, usize::MAX);
            kept.push(Line { level, message });
            return;
        }
        LISTENING.with_borrow(|room| {
            if let Some(heard) = room.as_ref().and_then(|room| room.heard()) {
                heard.add(&self.plugin, level, message);
            }
        });
        let (plugin, trace) = (&*self.plugin, self.trace);
        self.quota
            .log(plugin, message.len(), || log(plugin, trace, level, message));
    }
}

thread_local! {
    /// The room of the batch that this worker runs, if somebody looks at it.
    static LISTENING: RefCell<Option<Arc<Room>>> = const { RefCell::new(None) };
}

/// While this lives, the lines that plugins log on this thread are kept in a room as well.
pub(super) struct Listening;

impl Listening {
    /// Listens if the room does.
    pub(super) fn of(room: Option<&Arc<Room>>) -> Option<Listening> {
        let room = room.filter(|room| room.heard().is_some())?;
        LISTENING.set(Some(room.clone()));
        Some(Listening)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.set(None);
    }
}

/// The most bytes of lines that are kept for whoever looks.
const HEARD_BYTES_MAX: usize = 16 << 10;

/// Lines that plugins have logged, each with its plugin, for whoever looks at the items of a call.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    bytes: usize,
    of: Vec<(Arc<str>, Line)>,
}

impl Heard {
    fn add(&self, plugin: &Arc<str>, level: Level, message: &str) {
        let mut heard = lock(&self.0);
        // An empty line takes memory too.
        heard.bytes += message.len() + 64;
        if heard.bytes <= HEARD_BYTES_MAX {
            let message = plain(message, usize::MAX);
            heard.of.push((plugin.clone(), Line { level, message }));
        }
    }

    /// The lines of a plugin, in order.
    pub(super) fn of(&self, plugin: &str) -> Vec<Line> {
        let heard = lock(&self.0);
        let lines = heard.of.iter().filter(|(by, _)| **by == *plugin);
        lines.map(|(_, line)| line.clone()).collect()
    }
}

fn log(plugin: &str, trace: Option<Trace>, level: Level, message: &str) {
    let message = plain(message, usize::MAX);
    let trace = || trace.map(Trace::trace_hex);
    match level {
        Level::Debug => {
            tracing::debug!(target: "weir::plugin", plugin, trace = trace(), "{message}")
        }
        Level::Info => tracing::info!(target: "weir::plugin", plugin, trace = trace(), "{message}"),
        Level::Warn => tracing::warn!(target: "weir::plugin", plugin, trace = trace(), "{message}"),
        Level::Error => {
            tracing::error!(target: "weir::plugin", plugin, trace = trace(), "{message}")
        }
    }
}

/// The text without control characters, so that a plugin cannot forge lines or colours on a
/// terminal.
fn plain(text: &str, chars_max: usize) -> String {
    text.trim_end()
        .chars()
        .take(chars_max)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_talkative_plugin_is_cut_off_once_and_may_speak_again_in_the_next_batch() {
        let mut log = Log::new("erp@1".into(), Arc::default(), true);
        log.begin(40);
        for _ in 0..5 {
            log.write(Level::Info, "twenty bytes of text");
        }
        assert_eq!(log.take_lines().len(), 3, "two lines and the note");
        log.begin(40);
        log.write(Level::Error, "panicked\nat line 1");
        assert_eq!(
            log.take_lines(),
            [Line {
                level: Level::Error,
                message: "panicked at line 1".into()
            }]
        );
        assert_eq!(log.last_error(), Some("panicked at line 1"));
        log.begin(40);
        assert_eq!(log.last_error(), None);
    }
    #[test]
    fn whoever_looks_at_a_batch_hears_its_lines_and_no_others() {
        let room = Room::apart(0, true);
        let mut log = Log::new("erp@1".into(), Arc::default(), false);
        log.begin(1 << 20);
        assert!(Listening::of(Some(&room)).is_none(), "nobody looks");
        room.listen();
        log.write(Level::Info, "before");
        {
            let _listening = Listening::of(Some(&room));
            log.write(Level::Warn, "two\nlines");
            for _ in 0..1_000 {
                log.write(Level::Info, &"x".repeat(100));
            }
        }
        log.write(Level::Info, "after");
        let lines = room.lines_of("erp@1");
        assert_eq!(lines[0], "warn: two lines");
        assert!(lines.len() > 1 && lines.iter().map(String::len).sum::<usize>() <= 20 << 10);
        assert!(room.lines_of("shop@1").is_empty());
    }
}
