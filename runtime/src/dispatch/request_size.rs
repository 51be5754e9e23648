//! The longest request that a target takes, as its 413s have taught. Pure.
//!
//! It halves the distance between the longest batch that was accepted and the shortest that was
//! refused, until they are close: then hardly any request is refused, and few are much too short.

/// Bytes of batches that were accepted and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestSize {
    /// The longest that was accepted.
    accepted: usize,
    /// The shortest that was refused as too long.
    refused: Option<usize>,
}

impl RequestSize {
    /// The most bytes that a batch should have.
    pub(crate) fn most(&self) -> usize {
        match self.refused {
            None => usize::MAX,
            Some(refused) if refused - self.accepted <= refused / 8 => self.accepted,
            Some(refused) => self.accepted.midpoint(refused),
        }
    }

    /// A batch was accepted.
    pub(crate) fn accepted(&mut self, bytes: usize) {
        self.accepted = self.accepted.max(bytes);
        // The target takes more than it did.
        self.refused = self.refused.filter(|refused| *refused > bytes);
    }

    /// A batch was refused as too long.
    pub(crate) fn refused(&mut self, bytes: usize) {
        self.refused = Some(self.refused.map_or(bytes, |refused| refused.min(bytes)));
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
        assert_eq!(RequestSize::from_bytes(size.to_bytes()), size);
        size.refused(10_000);
        assert!(size.most() < 10_000, "it takes less than before");
        size.accepted(500_000);
        assert_eq!(size.most(), usize::MAX, "it takes more than before");
    }
}
