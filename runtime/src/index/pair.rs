//! A channel's knowledge of an entity in 16 bytes: 18 channels with 1.5 million entities take 432
//! MB.

use super::{Holds, State};
use crate::model::Lane;

const REVISION_BITS: u32 = 48; // 89 years at 100,000 changes a second
const SHAPE_BITS: u32 = 16;
const DIGEST_BITS: u32 = 52;
const STATE_BITS: u32 = 4;

/// In the detail of a pair that waits, beside the number of its lane.
const WAS_ABSENT: u8 = 4;

const NOTHING: u64 = 0;
const UNKNOWN: u64 = 1;

/// A pair of channel and entity. All bits 0: never met, and the target certainly holds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair(pub u128);

impl Pair {
    /// The head of the sequence before the entity was read for its last settling: all changes up to
    /// it are settled.
    pub fn revision(self) -> u64 {
        self.bits(0, REVISION_BITS)
    }

    /// The channel's shape at that time.
    pub fn shape(self) -> u16 {
        self.bits(REVISION_BITS, SHAPE_BITS) as u16
    }

    /// The content of the target, as far as it is known.
    pub fn holds(self) -> Holds {
        match self.bits(REVISION_BITS + SHAPE_BITS, DIGEST_BITS) {
            NOTHING => Holds::Nothing,
            UNKNOWN => Holds::Unknown,
            digest => Holds::Rendering(digest),
        }
    }

    /// How the last flight ended.
    pub fn state(self) -> State {
        let detail = self.bits(120, 8) as u8;
        match self.bits(REVISION_BITS + SHAPE_BITS + DIGEST_BITS, STATE_BITS) {
            1 => State::Delivered,
            2 => State::Suppressed,
            3 => State::Withheld(detail),
            4 => State::Withdrawn,
            5 => State::Parked(detail),
            6 => State::Held,
            7 => State::Refused,
            8 => State::Counted,
            9 => State::Waiting {
                lane: Lane::ALL[usize::from(detail & 3).min(2)],
                was_absent: detail & WAS_ABSENT != 0,
            },
            _ => State::New,
        }
    }

    /// A copy with another revision and shape.
    #[must_use]
    pub fn settled(self, revision: u64, shape: u16) -> Pair {
        self.with(0, REVISION_BITS, revision)
            .with(REVISION_BITS, SHAPE_BITS, u64::from(shape))
    }

    /// A copy that has settled everything up to a revision, without another rendering.
    #[must_use]
    pub fn passed(self, revision: u64) -> Pair {
        self.with(0, REVISION_BITS, revision.max(self.revision()))
    }

    /// A copy in which the target holds something else.
    #[must_use]
    pub fn holding(self, holds: Holds) -> Pair {
        let digest = match holds {
            Holds::Nothing => NOTHING,
            Holds::Unknown => UNKNOWN,
            Holds::Rendering(digest) => digest,
        };
        self.with(REVISION_BITS + SHAPE_BITS, DIGEST_BITS, digest)
    }

    /// A copy after an attempt that may or may not have been applied.
    #[must_use]
    pub fn attempted(self) -> Pair {
        let pair = self.holding(Holds::Unknown);
        match self.state() {
            State::Waiting { lane, .. } => pair.in_state(State::Waiting {
                lane,
                was_absent: false,
            }),
            state if state.is_absent() => pair.in_state(State::New),
            _ => pair,
        }
    }

    /// A copy in another state.
    #[must_use]
    pub fn in_state(self, state: State) -> Pair {
        let (number, detail) = match state {
            State::New => (0, 0),
            State::Delivered => (1, 0),
            State::Suppressed => (2, 0),
            State::Withheld(by) => (3, by),
            State::Withdrawn => (4, 0),
            State::Parked(attempts) => (5, attempts),
            State::Held => (6, 0),
            State::Refused => (7, 0),
            State::Counted => (8, 0),
            State::Waiting { lane, was_absent } => {
                let absent = if was_absent { WAS_ABSENT } else { 0 };
                (9, lane.index() as u8 | absent)
            }
        };
        self.with(REVISION_BITS + SHAPE_BITS + DIGEST_BITS, STATE_BITS, number)
            .with(120, 8, u64::from(detail))
    }

    fn bits(self, from: u32, count: u32) -> u64 {
        ((self.0 >> from) & ((1 << count) - 1)) as u64
    }

    fn with(self, from: u32, count: u32, value: u64) -> Pair {
        let mask = (1u128 << count) - 1;
        debug_assert!(
            u128::from(value) <= mask,
            "{value} does not fit in {count} bits"
        );
        Pair((self.0 & !(mask << from)) | ((u128::from(value) & mask) << from))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_runs_into_its_neighbour(revision in 0..1u64 << 48, shape: u16, digest in 2..1u64 << 52, attempts: u8) {
            let pair = Pair::default().settled(revision, shape).holding(Holds::Rendering(digest)).in_state(State::Parked(attempts));
            prop_assert_eq!((pair.revision(), pair.shape()), (revision, shape));
            prop_assert_eq!((pair.holds(), pair.state()), (Holds::Rendering(digest), State::Parked(attempts)));
            let changed = pair.holding(Holds::Unknown).in_state(State::Held);
            prop_assert_eq!((changed.revision(), changed.shape(), changed.holds(), changed.state()), (revision, shape, Holds::Unknown, State::Held));
            for (lane, was_absent) in Lane::ALL.into_iter().zip([true, false, true]) {
                let waiting = pair.in_state(State::Waiting { lane, was_absent });
                prop_assert_eq!((waiting.revision(), waiting.holds(), waiting.state()), (revision, Holds::Rendering(digest), State::Waiting { lane, was_absent }));
            }
        }
    }
}
