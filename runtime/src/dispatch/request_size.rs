//! The longest request that a target takes, as its 413s have taught. Pure.
//!
//! It halves the distance between the longest batch that was accepted and the shortest that was
//! refused, until they are close: then hardly any request is refused, and few are much too short.
//! After [`FULL_MAX`] full batches one is tried that is longer than the shortest that was refused,
//! since the target may take more by now.

/// Full batches after which a longer one is tried.
const FULL_MAX: u32 = 1_000;

/// Bytes of batches that were accepted and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestSize {
    /// The longest that was accepted.
    accepted: usize,
    /// The shortest that was refused as too long.
    refused: Option<usize>,
    /// Full batches that were accepted since one was refused; not kept over a restart.
    full: u32,
}

impl RequestSize {
    /// The most bytes that a batch should have.
    pub(crate) fn most(&self) -> usize {
        match self.refused {
            None => usize::MAX,
            Some(refused) if self.full >= FULL_MAX => refused.saturating_add(refused / 8),
            Some(refused) if refused - self.accepted <= refused / 8 => self.accepted,
            Some(refused) => self.accepted.midpoint(refused),
        }
    }

    /// A batch was accepted.
    pub(crate) fn accepted(&mut self, bytes: usize) {
        // Half of the length counts as full: the next entity may have been a large one.
        if self.refused.is_some() && bytes >= self.most() / 2 {
            self.full = self.full.saturating_add(1);
        }
        self.accepted = self.accepted.max(bytes);
        // The target takes more than it did.
        self.refused = self.refused.filter(|refused| *refused > bytes);
    }

    /// A batch was refused as too long.
    pub(crate) fn refused(&mut self, bytes: usize) {
        self.refused = Some(self.refused.map_or(bytes, |refused| refused.min(bytes)));
        self.full = 0;
        // The target takes less than it did.
        if self.accepted >= bytes {
            self.accepted = bytes / 2;
        }
    }

    /// Its bytes for the store.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let (accepted, refused) = (self.accepted as u64, self.refused.unwrap_or(0) as u64);
        let bytes = [accepted.to_le_bytes(), refused.to_le_bytes()].concat();
        bytes.try_into().expect("two numbers")
    }

    /// Reads its bytes.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> RequestSize {
        let number = |bytes: &[u8]| {
            let bytes = bytes.try_into().expect("eight bytes");
            usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (accepted, refused) = (number(&bytes[..8]), number(&bytes[8..]));
        RequestSize {
            accepted: if refused > 0 {
                accepted.min(refused - 1)
            } else {
                0
            },
            refused: (refused > 0).then_some(refused),
            full: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_request_is_found_and_remembered() {
        let mut size = RequestSize::default();
        assert_eq!(size.most(), usize::MAX);
        let (mut refused, takes) = (0, 100_000);
        for _ in 0..20 {
            let bytes = size.most().min(1_000_000);
            if bytes > takes {
                size.refused(bytes);
                refused += 1;
            } else {
                size.accepted(bytes);
            }
        }
        assert!(refused <= 6, "{refused} refused");
        assert!((85_000..=takes).contains(&size.most()), "{}", size.most());
        let kept = RequestSize::from_bytes(size.to_bytes());
        assert_eq!(kept.most(), size.most());
        size.refused(10_000);
        assert!(size.most() < 10_000, "it takes less than before");
        size.accepted(500_000);
        assert_eq!(size.most(), usize::MAX, "it takes more than before");
    }

    // A shop that once took 100 kB got batches of 100 kB for ever, whatever its operator allowed
    // later: only a restart with another URL made Weir try a longer one.
    #[test]
    fn a_longer_batch_is_tried_now_and_then() {
        let (mut size, mut takes, mut refused) = (RequestSize::default(), 100_000, 0);
        let mut send = |count: u32, takes: usize| {
            for _ in 0..count {
                let bytes = size.most().min(1_000_000);
                if bytes > takes {
                    size.refused(bytes);
                    refused += 1;
                } else {
                    size.accepted(bytes);
                }
            }
            (size.most(), std::mem::take(&mut refused))
        };
        send(20, takes);
        let (most, refused) = send(10_000, takes);
        assert!((85_000..=takes).contains(&most), "{most}");
        assert!(refused <= 10, "{refused} refused: one in a thousand");
        takes = 400_000;
        let (most, refused) = send(1_100, takes);
        assert!((340_000..=takes).contains(&most), "{most}");
        assert!(refused <= 6, "{refused} refused");
    }
}
