//! The rate that a target bears, found by trying. Pure: time is an argument.
//!
//! It falls when the target refuses a request because there are too many: a little below the rate of
//! those that it accepted. It rises while requests wait for it: back to the refused rate within
//! [`RETURN`], slowly past it, and then faster and faster, so that a target that got faster is found
//! out within a minute. (The curve is that of CUBIC, a congestion control of TCP.)

use std::time::Duration;

/// The share of the accepted rate to which the rate falls.
const FALL: f64 = 0.9;
/// The time after which the rate is back where the target refused.
const RETURN: f64 = 8.0;
/// No slower: one unit in twenty seconds.
pub(super) const MIN: f64 = 0.05;
/// Beyond this many units per second there is no limit to speak of.
const MAX: f64 = 100_000.0;

/// A rate with what it was learned from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BearableRate {
    /// Units per second that were accepted when the target last refused a request.
    peak: f64,
    /// How long the rate has risen since.
    risen: Duration,
}

impl BearableRate {
    /// The rate after a refusal, when `accepted` units per second were accepted.
    pub(crate) fn after_refusal(accepted: f64) -> BearableRate {
        BearableRate {
            peak: accepted.clamp(MIN, MAX),
            risen: Duration::ZERO,
        }
    }

    /// The rate that goes on from this one after an outage.
    pub(crate) fn after_outage(self) -> BearableRate {
        BearableRate::after_refusal(self.peak)
    }

    /// Units per second; `None` if the target bears any number.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let past = self.risen.as_secs_f64() / RETURN - 1.0;
        let rate = self.peak * (1.0 + (1.0 - FALL) * past.powi(3));
        (rate < MAX).then_some(rate.max(MIN))
    }

    /// Rises by a time during which requests waited for it.
    pub(crate) fn rise(&mut self, time: Duration) {
        self.risen += time;
    }

    /// Its bytes for the store.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let millis = self.risen.as_millis() as u64;
        [self.peak.to_le_bytes(), millis.to_le_bytes()].concat()
    }

    /// Reads its bytes; `None` if they are not those of a rate.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<BearableRate> {
        let (peak, risen) = bytes.split_first_chunk()?;
        let peak = f64::from_le_bytes(*peak);
        let risen = Duration::from_millis(u64::from_le_bytes(risen.try_into().ok()?));
        (MIN..=MAX)
            .contains(&peak)
            .then_some(BearableRate { peak, risen })
    }
}

/// Length of a slice of time in which accepted requests are counted.
const SLICE: Duration = Duration::from_millis(250);
/// Slices that are looked back on.
const SLICES: usize = 8;

/// Counts the units that a target accepted in the last two seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted {
    counts: [f64; SLICES],
    /// The slice that is being counted; its count is at its number modulo [`SLICES`].
    slice: u64,
}

impl Accepted {
    /// Counts a request of this many units.
    pub(crate) fn count(&mut self, now: Duration, units: f64) {
        self.advance(now);
        self.counts[self.slice as usize % SLICES] += units;
    }

    /// Accepted units per second. Slices without any are left out, because nothing may have been
    /// tried in them.
    pub(crate) fn per_second(&mut self, now: Duration) -> f64 {
        self.advance(now);
        let current = self.slice as usize % SLICES;
        let running = now.saturating_sub(SLICE * self.slice as u32).max(SLICE / 5);
        let (mut count, mut time) = (0.0, Duration::ZERO);
        for (slice, accepted) in self.counts.iter().enumerate() {
            if *accepted > 0.0 {
                count += accepted;
                time += if slice == current { running } else { SLICE };
            }
        }
        if count == 0.0 {
            return 0.0;
        }
        count / time.as_secs_f64()
    }

    fn advance(&mut self, now: Duration) {
        let slice = (now.as_millis() / SLICE.as_millis()) as u64;
        if slice >= self.slice + SLICES as u64 {
            self.counts = [0.0; SLICES];
        }
        for passed in (self.slice + 1..=slice).take(SLICES) {
            self.counts[passed as usize % SLICES] = 0.0;
        }
        self.slice = self.slice.max(slice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_returns_to_the_refused_one_lingers_and_then_looks_for_more() {
        let mut rate = BearableRate::after_refusal(100.0);
        let mut seen = Vec::new();
        for second in 0..=45 {
            if [0, 4, 8, 12, 16, 30, 42, 45].contains(&second) {
                seen.push(rate.per_second().map_or(0, |rate| rate.round() as u64));
            }
            rate.rise(Duration::from_secs(1));
        }
        assert_eq!(seen, [90, 99, 100, 101, 110, 308, 868, 1_089]);
        assert_eq!(
            BearableRate::from_bytes(&rate.to_bytes()),
            Some(rate),
            "it is kept over a restart"
        );
        for bytes in [&[][..], &[255; 16], &[0; 16], &[1; 15]] {
            assert_eq!(BearableRate::from_bytes(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn accepted_requests_are_counted_by_the_time_in_which_there_were_any() {
        let mut accepted = Accepted::default();
        let at = Duration::from_millis;
        assert_eq!(accepted.per_second(at(10_000)), 0.0);
        for millis in (10_000..12_000).step_by(10) {
            accepted.count(at(millis), 1.0);
        }
        assert!((95.0..=105.0).contains(&accepted.per_second(at(11_999))));
        assert!(
            (95.0..=105.0).contains(&accepted.per_second(at(13_100))),
            "a pause does not count as slowness"
        );
        assert_eq!(accepted.per_second(at(14_500)), 0.0);
        accepted.count(at(60_000), 1.0);
        assert!(accepted.per_second(at(60_001)) >= 4.0);
    }
}
