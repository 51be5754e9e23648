//! Compares what a changed chain of a source maps with what the chain in use maps, on the events of
//! a trial.
//!
//! An event that is not mapped any more is lost without a word: its sender gets 202. A new version
//! that maps clearly fewer events therefore waits until an operator confirms it, and one that no
//! longer maps some of them is reported when it takes over.

use super::trial::Judgement;

/// From this number of mapped events on, a version that maps fewer than half of them must be
/// confirmed. Of fewer events the share says little; then only a version that maps none must be.
const MAPPED_MIN: usize = 4;

/// The number of events that each of two chains maps, and what became of those that only the chain
/// in use maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    events: usize,
    before: usize,
    now: usize,
    dropped: usize,
    declined: usize,
}

impl Comparison {
    /// Compares the judgements of both chains, event by event. The new chain may have judged fewer, the
    /// first ones. An event that one of them was not tried on does not count.
    pub(super) fn of(before: &[Judgement], now: &[Judgement]) -> Comparison {
        let made = |judgement: &Judgement| *judgement == Judgement::Made;
        let untried = |judgement: &Judgement| *judgement == Judgement::Untried;
        let both = |(before, now): &(&Judgement, &Judgement)| !untried(before) && !untried(now);
        let pairs = || before.iter().zip(now).filter(both);
        let lost = |to: Judgement| pairs().filter(|(a, b)| made(a) && **b == to).count();
        Comparison {
            events: pairs().count(),
            before: pairs().filter(|(before, _)| made(before)).count(),
            now: pairs().filter(|(_, now)| made(now)).count(),
            dropped: lost(Judgement::Dropped),
            declined: lost(Judgement::Declined),
        }
    }

    /// Whether the new chain maps so much less that it is more likely a mistake than intended.
    pub(super) fn must_be_confirmed(&self) -> bool {
        let (before, now) = (self.before, self.now);
        (before > 0 && now == 0) || (before >= MAPPED_MIN && 2 * now < before)
    }

    /// How many events both chains map: `maps 4 of the last 16 events, of which …`.
    pub(super) fn counts(&self) -> String {
        let now = match self.now {
            0 => "none".to_owned(),
            now => now.to_string(),
        };
        format!(
            "maps {now} of the last {} events, of which the version in use maps {}",
            self.events, self.before
        )
    }

    /// What becomes of the events that the new chain no longer maps; `None` if it maps all that the
    /// chain in use maps.
    pub(super) fn loss(&self) -> Option<String> {
        let parts = [(self.dropped, "dropped"), (self.declined, "declined")];
        let parts: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!parts.is_empty()).then(|| {
            format!(
                "maps {} of the last {} events, of which the version before it maps {}; of these it maps {} no longer: {}",
                self.now,
                self.events,
                self.before,
                self.dropped + self.declined,
                parts.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `m` is mapped, `d` is dropped, `x` is declined, `u` was not tried.
    fn compare(before: &str, now: &str) -> Comparison {
        let judge = |text: &str| -> Vec<Judgement> {
            let letters = text.chars();
            letters
                .map(|letter| match letter {
                    'm' => Judgement::Made,
                    'd' => Judgement::Dropped,
                    'u' => Judgement::Untried,
                    _ => Judgement::Declined,
                })
                .collect()
        };
        Comparison::of(&judge(before), &judge(now))
    }

    // A version that mapped 4 of 16 events where all 16 were mapped before took over with a line at
    // INFO, and three quarters of the events were gone behind a 202.
    #[test]
    fn a_version_that_maps_fewer_than_half_must_be_confirmed() {
        for (before, now, must) in [
            ("mmmmmmmmmmmmmmmm", "mmmmdddddddddddd", true),
            ("mmmm", "mddd", true),
            ("mmmm", "mmdd", false),
            // Of three events the share says little, but nothing is nothing.
            ("mmm", "mdd", false),
            ("mmm", "ddd", true),
            ("m", "x", true),
            ("d", "d", false),
            ("", "", false),
            // It maps others instead.
            ("mmmmdddd", "ddddmmmm", false),
            // The trial ended early: only what both have judged counts.
            ("dddmmmm", "ddd", false),
            ("mmmm", "muuu", false),
            ("uuuummmm", "mmmmmddd", true),
        ] {
            let comparison = compare(before, now);
            assert_eq!(comparison.must_be_confirmed(), must, "{before} {now}");
        }
        assert_eq!(
            compare("mmmmmmmmmmmmmmmm", "mmmmdddddddddddd").counts(),
            "maps 4 of the last 16 events, of which the version in use maps 16"
        );
    }

    #[test]
    fn events_that_are_no_longer_mapped_are_counted_though_others_are_mapped_instead() {
        assert_eq!(compare("mmdx", "mmdx").loss(), None);
        assert_eq!(compare("dx", "mm").loss(), None);
        assert_eq!(
            compare("mmmmd", "mdxmm").loss().as_deref(),
            Some(
                "maps 3 of the last 5 events, of which the version before it maps 4; of these it maps 2 no longer: 1 dropped, 1 declined"
            )
        );
    }
}
