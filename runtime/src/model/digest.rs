//! Digests of several texts that cannot run into each other: `("ab", "c")` and `("a", "bc")` differ.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// Bytes that are collected and hashed at once. XXH3 has a faster way for inputs up to this length, and
/// most ids and keys are shorter.
const SHORT: usize = 240;

/// XXH3 over parts, each after its length as eight little-endian bytes. Parts are added in place: there
/// is a digest for each event and several for each delivery, and the state of a long one has 576 bytes.
///
/// Some of these digests are stored, so the bytes that are hashed must stay as they are.
#[derive(Clone)]
pub struct PartsDigest {
    short: [u8; SHORT],
    /// How many bytes of `short` there are, as long as there is no `long`.
    length: usize,
    /// From the first byte on that does not fit into `short`.
    long: Option<Xxh3>,
}

impl Default for PartsDigest {
    fn default() -> PartsDigest {
        PartsDigest::new()
    }
}

impl PartsDigest {
    /// A digest of nothing so far.
    #[inline]
    pub fn new() -> PartsDigest {
        PartsDigest {
            short: [0; SHORT],
            length: 0,
            long: None,
        }
    }

    /// Adds a part.
    #[inline]
    pub fn part(&mut self, part: impl AsRef<[u8]>) -> &mut PartsDigest {
        let part = part.as_ref();
        self.add(&(part.len() as u64).to_le_bytes());
        self.add(part);
        self
    }

    /// Adds a part that may be absent; absent differs from empty.
    #[inline]
    pub fn optional(&mut self, part: Option<&[u8]>) -> &mut PartsDigest {
        match part {
            Some(part) => self.part(part),
            None => self.number(u64::MAX),
        }
    }

    /// Adds a number; it needs no length.
    #[inline]
    pub fn number(&mut self, number: u64) -> &mut PartsDigest {
        self.add(&number.to_le_bytes());
        self
    }

    /// The digest in 64 bits.
    pub fn digest64(&self) -> u64 {
        match &self.long {
            Some(state) => state.digest(),
            None => xxh3_64(&self.short[..self.length]),
        }
    }

    /// The digest in 128 bits.
    pub fn digest128(&self) -> u128 {
        match &self.long {
            Some(state) => state.digest128(),
            None => xxh3_128(&self.short[..self.length]),
        }
    }

    #[inline]
    fn add(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if self.long.is_none() && end <= SHORT {
            self.short[self.length..end].copy_from_slice(bytes);
            self.length = end;
            return;
        }
        self.add_long(bytes);
    }

    fn add_long(&mut self, bytes: &[u8]) {
        let (collected, length) = (&self.short, self.length);
        let state = self.long.get_or_insert_with(|| {
            let mut state = Xxh3::new();
            state.update(&collected[..length]);
            state
        });
        state.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of_two = |one: &str, two: &str| PartsDigest::new().part(one).part(two).digest64();
        assert_ne!(of_two("ab", "c"), of_two("a", "bc"));
        assert_ne!(
            PartsDigest::new().optional(None).digest64(),
            PartsDigest::new().optional(Some(b"")).digest64()
        );
    }

    #[test]
    fn the_bytes_that_are_hashed_stay_as_they_are() {
        for length in [0, 2, SHORT - 17, SHORT - 16, SHORT - 15, SHORT + 1, 5000] {
            let part = vec![b'a'; length];
            let length = (length as u64).to_le_bytes();
            let plain = [&length[..], &part, &7_u64.to_le_bytes()].concat();
            let mut digest = PartsDigest::new();
            digest.part(&part).number(7);
            assert_eq!(digest.digest64(), xxh3_64(&plain), "{length:?}");
            assert_eq!(digest.digest128(), xxh3_128(&plain), "{length:?}");
        }
    }
}
