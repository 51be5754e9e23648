//! Digests of several texts that cannot run into each other: `("ab", "c")` and `("a", "bc")` differ.

use xxhash_rust::xxh3::Xxh3;

/// XXH3 over parts, each after its length as eight little-endian bytes. Parts are added in place: the
/// state is 576 bytes, and there is a digest for each rendering.
///
/// Some of these digests are stored, so the bytes that are hashed must stay as they are.
#[derive(Clone, Default)]
pub struct PartsDigest(Xxh3);

impl PartsDigest {
    /// A digest of nothing so far.
    pub fn new() -> PartsDigest {
        PartsDigest(Xxh3::new())
    }

    /// Adds a part.
    pub fn part(&mut self, part: impl AsRef<[u8]>) -> &mut PartsDigest {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// Adds a part that may be absent; absent differs from empty.
    pub fn optional(&mut self, part: Option<&[u8]>) -> &mut PartsDigest {
        match part {
            Some(part) => self.part(part),
            None => {
                self.0.update(&u64::MAX.to_le_bytes());
                self
            }
        }
    }

    /// Adds a number; it needs no length.
    pub fn number(&mut self, number: u64) -> &mut PartsDigest {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// The digest in 64 bits.
    pub fn digest64(&self) -> u64 {
        self.0.digest()
    }

    /// The digest in 128 bits.
    pub fn digest128(&self) -> u128 {
        self.0.digest128()
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
        let plain = [&2_u64.to_le_bytes()[..], b"ab", &7_u64.to_le_bytes()].concat();
        let mut digest = PartsDigest::new();
        digest.part("ab").number(7);
        assert_eq!(digest.digest64(), xxhash_rust::xxh3::xxh3_64(&plain));
        assert_eq!(digest.digest128(), xxhash_rust::xxh3::xxh3_128(&plain));
    }
}
