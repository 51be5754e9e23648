//! The pace of a target: when the next request to it may start. Pure: time is an argument.
//!
//! All channels of a target share its pace. An urgent request starts before others that wait, but
//! after [`URGENT_IN_A_ROW`] urgent ones it is another's turn.

use std::time::Duration;

/// Idle time that is made up for, so that a small burst does not wait.
const BURST: Duration = Duration::from_millis(100);
/// How long a request that has to let another class go first waits before it asks again.
const AFTER_YOU: Duration = Duration::from_millis(1);
/// Urgent requests that may start while others wait.
const URGENT_IN_A_ROW: u32 = 4;

/// Hands out evenly spaced times at which requests may start.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Requests per second; `None` means unlimited.
    rate: Option<f64>,
    /// The time at which the next request may start, as time since any fixed moment.
    next: Duration,
    /// Whether an urgent request waits, and whether another one does.
    urgent_waits: bool,
    others_wait: bool,
    /// Urgent requests that started since the last other one.
    urgent_in_a_row: u32,
}

impl Pace {
    /// A pace of at most `rate` requests per second.
    pub(crate) fn new(rate: Option<f64>) -> Pace {
        Pace {
            rate: rate.map(|rate| rate.clamp(0.001, 1e6)),
            next: Duration::ZERO,
            urgent_waits: false,
            others_wait: false,
            urgent_in_a_row: 0,
        }
    }

    /// Starts a request at `now`, the time since any fixed moment.
    ///
    /// # Errors
    /// How long to wait before asking again, if none may start now.
    pub(crate) fn start(&mut self, now: Duration, urgent: bool) -> Result<(), Duration> {
        let Some(interval) = self.interval() else {
            return Ok(());
        };
        let moment = self.next.max(now.saturating_sub(BURST));
        let wait = moment.saturating_sub(now);
        let others_turn = self.urgent_in_a_row >= URGENT_IN_A_ROW;
        let after_another = if urgent {
            self.others_wait && others_turn
        } else {
            self.urgent_waits && !others_turn
        };
        if !wait.is_zero() || after_another {
            *self.waits(urgent) = true;
            return Err(wait.max(AFTER_YOU));
        }
        *self.waits(urgent) = false;
        self.urgent_in_a_row = if urgent { self.urgent_in_a_row + 1 } else { 0 };
        self.next = moment + interval;
        Ok(())
    }

    /// The request that has just been permitted is not made.
    pub(crate) fn give_back(&mut self) {
        self.next = self
            .next
            .saturating_sub(self.interval().unwrap_or_default());
    }

    /// Nobody waits any more for a request of this class.
    pub(crate) fn leave(&mut self, urgent: bool) {
        *self.waits(urgent) = false;
    }

    /// How many requests may start within a time; `None` if any number may.
    pub(crate) fn within(&self, time: Duration) -> Option<usize> {
        self.rate.map(|rate| (rate * time.as_secs_f64()) as usize)
    }

    fn interval(&self) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate))
    }

    fn waits(&mut self, urgent: bool) -> &mut bool {
        if urgent {
            &mut self.urgent_waits
        } else {
            &mut self.others_wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a request as soon as it may, and returns the time.
    fn start(pace: &mut Pace, mut now: Duration, urgent: bool) -> Duration {
        while let Err(wait) = pace.start(now, urgent) {
            now += wait;
        }
        now
    }

    #[test]
    fn a_rate_is_kept_and_a_quiet_time_saves_up_little() {
        let mut pace = Pace::new(Some(100.0));
        let began = Duration::from_secs(5);
        let burst = (0..)
            .take_while(|_| pace.start(began, false).is_ok())
            .count();
        assert_eq!(
            burst, 11,
            "a tenth of a second's worth, and the one that is due"
        );
        let end = (0..100).fold(began, |now, _| start(&mut pace, now, false));
        let took = (end - began).as_millis();
        assert!(
            (990..=1_020).contains(&took),
            "100 requests at 100/s took {took} ms"
        );
        pace.give_back();
        assert_eq!(pace.start(end, false), Ok(()), "what was not used is there");
    }

    #[test]
    fn an_urgent_request_goes_first_and_others_do_not_starve() {
        let mut pace = Pace::new(Some(10.0));
        let mut now = Duration::from_secs(5);
        while pace.start(now, false).is_ok() {}
        let mut order = String::new();
        for _ in 0..20_000 {
            now += Duration::from_micros(500);
            for (urgent, word) in [(false, '-'), (true, 'u')] {
                if pace.start(now, urgent).is_ok() {
                    order.push(word);
                }
            }
        }
        assert!((99..=100).contains(&order.len()), "{order}");
        assert!(order.starts_with("uuuu-uuuu-uuuu-"), "{order}");
    }
}
