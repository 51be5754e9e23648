//! How a plugin version has behaved lately, which decides where its batches run.
//!
//! A plugin is *new* until a call of it has returned within [`TURN`]; then it is *quick*. After a call
//! that needed more it is *heavy* for a while, after one that broke its time limit *hanging* for
//! longer, and then it is new again. Only quick plugins have the quick workers to themselves: all new
//! ones together use one of them. So a plugin that loops is slowed down by itself, and any number of
//! such plugins costs the others little. Time is an argument.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sync;

/// The most processor time that a batch gets in one go on a quick worker. A batch of 64 events takes
/// a Rust plugin a tenth of a millisecond and an interpreted one a few; starting an instance with a
/// whole Python takes about 30 ms.
pub(super) const TURN: Duration = Duration::from_millis(50);
/// How long a plugin is heavy after a call that needed more than a turn.
const HEAVY_FOR: Duration = Duration::from_secs(10);
/// How long a plugin is hanging after a call that broke its time limit.
const HANGING_FOR: Duration = Duration::from_secs(60);
/// Worker time counts for one to two of these windows.
const WINDOW: Duration = Duration::from_secs(1);

/// How a plugin's next batch is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It runs on the quick workers.
    Quick,
    /// It runs on the quick workers, and all new plugins together use one of them at a time.
    New,
    /// It runs on workers of a low priority.
    Heavy,
    /// It runs on few workers of a still lower priority.
    Hanging,
}

impl Standing {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Standing::Quick => "quick",
            Standing::New => "new",
            Standing::Heavy => "heavy",
            Standing::Hanging => "hanging",
        }
    }
}

/// The recent conduct of one version of a plugin.
#[derive(Debug, Default)]
pub(super) struct Conduct(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    /// Whether a call has returned within a turn since the last one that did not.
    proven: bool,
    heavy_until: Option<Instant>,
    hanging_until: Option<Instant>,
    /// The start of the current window of worker time.
    window: Option<Instant>,
    /// Worker time in the current window and the one before.
    spent: [Duration; 2],
}

impl Conduct {
    /// How its next batch is treated.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        let recent = sync::lock(&self.0);
        let lasts = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if lasts(recent.hanging_until) {
            Standing::Hanging
        } else if lasts(recent.heavy_until) {
            Standing::Heavy
        } else if recent.proven {
            Standing::Quick
        } else {
            Standing::New
        }
    }

    /// The worker time that it used lately, by which the workers are shared.
    pub(super) fn spent(&self, now: Instant) -> Duration {
        let mut recent = sync::lock(&self.0);
        recent.turn_window(now);
        recent.spent[0] + recent.spent[1]
    }

    /// A call of it took this much worker time.
    pub(super) fn used(&self, now: Instant, time: Duration) {
        let mut recent = sync::lock(&self.0);
        recent.turn_window(now);
        recent.spent[0] += time;
    }

    /// A call of it returned within a turn.
    pub(super) fn was_quick(&self) {
        sync::lock(&self.0).proven = true;
    }

    /// A call of it needed more than a turn.
    pub(super) fn was_long(&self, now: Instant) {
        let mut recent = sync::lock(&self.0);
        recent.proven = false;
        recent.heavy_until = Some(now + HEAVY_FOR);
    }

    /// A call of it broke its time limit.
    pub(super) fn hung(&self, now: Instant) {
        let mut recent = sync::lock(&self.0);
        recent.proven = false;
        recent.hanging_until = Some(now + HANGING_FOR);
    }
}

impl Recent {
    fn turn_window(&mut self, now: Instant) {
        let start = *self.window.get_or_insert(now);
        let age = now.saturating_duration_since(start);
        if age >= 2 * WINDOW {
            (self.window, self.spent) = (Some(now), [Duration::ZERO; 2]);
        } else if age >= WINDOW {
            self.window = Some(start + WINDOW);
            self.spent = [Duration::ZERO, self.spent[0]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_was_long_or_hung_has_to_prove_itself_after_its_time() {
        let (conduct, start) = (Conduct::default(), Instant::now());
        assert_eq!(conduct.standing(start), Standing::New);
        conduct.was_quick();
        assert_eq!(conduct.standing(start), Standing::Quick);
        conduct.was_long(start);
        assert_eq!(conduct.standing(start), Standing::Heavy);
        assert_eq!(conduct.standing(start + HEAVY_FOR), Standing::New);
        conduct.hung(start);
        conduct.was_quick();
        assert_eq!(conduct.standing(start + HEAVY_FOR), Standing::Hanging);
        assert_eq!(conduct.standing(start + HANGING_FOR), Standing::Quick);
    }

    #[test]
    fn worker_time_is_forgotten_after_two_windows() {
        let (conduct, start) = (Conduct::default(), Instant::now());
        let ms = Duration::from_millis;
        conduct.used(start, ms(10));
        conduct.used(start + ms(1200), ms(5));
        assert_eq!(conduct.spent(start + ms(1900)), ms(15));
        assert_eq!(conduct.spent(start + ms(2100)), ms(5));
        assert_eq!(conduct.spent(start + ms(9000)), ms(0));
    }
}
