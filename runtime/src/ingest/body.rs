//! The body of a request: unpacked within its bound, and paid for out of one budget that all
//! requests share.
//!
//! Overload is answered before memory grows: a request whose bytes do not fit into the budget at
//! once is turned away.

use std::io::Read;
use std::sync::Arc;

use axum::http::HeaderMap;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Rejection;
use super::media::{self, Coding};
use crate::model::Failure;

/// What all requests of all sources together may hold, in bytes of body: 256 MiB. An event costs a
/// few times its body on its way through, so this keeps ingest under about 1 GiB whatever arrives.
pub const BUDGET_BYTES: usize = 256 * 1024 * 1024;

/// The memory that requests share. Cloning gives another handle to the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    total: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new(BUDGET_BYTES)
    }
}

impl Budget {
    /// A budget of so many bytes, at most 4 GiB.
    pub fn new(total: usize) -> Budget {
        let total = total.min(u32::MAX as usize);
        Budget {
            bytes: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Takes so many bytes out of it until the answer is dropped. More than the whole budget counts
    /// as the whole budget: such a request is served when it is alone.
    ///
    /// # Errors
    /// `Overloaded` if they are not there now.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, Rejection> {
        let mut reservation = Reservation {
            permit: None,
            budget: self.clone(),
        };
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }

    /// Bytes that are free now.
    pub fn free(&self) -> usize {
        self.bytes.available_permits()
    }
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: Option<OwnedSemaphorePermit>,
    budget: Budget,
}

impl Reservation {
    /// Bytes held now.
    pub(super) fn held(&self) -> usize {
        self.permit
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Makes it that large: gives back what was reserved for a longer body than came.
    ///
    /// # Errors
    /// As [`Reservation::grow_to`].
    pub(super) fn resize(&mut self, bytes: u64) -> Result<(), Rejection> {
        let surplus = self
            .held()
            .saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX));
        drop(
            self.permit
                .as_mut()
                .and_then(|permit| permit.split(surplus)),
        );
        self.grow_to(bytes)
    }

    /// Makes it at least that large.
    ///
    /// # Errors
    /// `Overloaded` if the rest is not there now; what was reserved stays reserved.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Rejection> {
        let wanted = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(self.budget.total);
        let missing = wanted.saturating_sub(self.held());
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.budget.bytes)
            .try_acquire_many_owned(missing)
            .map_err(|_| Rejection::Overloaded)?;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            held => *held = Some(permit),
        }
        Ok(())
    }
}

/// The body as the sender meant it: unpacked if it is gzip, never larger than `limit`. What it
/// grows to is reserved first.
///
/// # Errors
/// `TooLarge` without reading on beyond the limit, `Malformed` for broken gzip,
/// `UnsupportedMediaType` for other codings, `Overloaded` when there is no room for what comes out
/// of it.
pub(super) fn unpack(
    headers: &HeaderMap,
    body: Bytes,
    limit: u64,
    reservation: &mut Reservation,
) -> Result<Bytes, Rejection> {
    match media::coding(headers) {
        Coding::Identity => Ok(body),
        Coding::Gzip => gunzip(&body, limit, reservation),
        Coding::Other(coding) => Err(Rejection::UnsupportedMediaType {
            detail: format!("`Content-Encoding: {coding}` is not understood; send gzip or nothing"),
        }),
    }
}

fn gunzip(packed: &[u8], limit: u64, reservation: &mut Reservation) -> Result<Bytes, Rejection> {
    let mut decoder = flate2::read::MultiGzDecoder::new(packed).take(limit.saturating_add(1));
    let mut unpacked = Vec::new();
    loop {
        let before = unpacked.len();
        let step = before.max(64 * 1024) as u64;
        reservation.grow_to((packed.len() + before) as u64 + step)?;
        let read = decoder.by_ref().take(step).read_to_end(&mut unpacked);
        if unpacked.len() as u64 > limit {
            return Err(Rejection::TooLarge {
                limit,
                unit: "bytes once it is unpacked",
            });
        }
        read.map_err(|error| {
            Failure::new(
                "invalid-gzip",
                format!("the body is not the gzip that its header says: {error}"),
            )
        })?;
        if unpacked.len() == before {
            return Ok(unpacked.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(content: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap().into()
    }

    fn headers(coding: &str) -> HeaderMap {
        HeaderMap::from_iter([(
            axum::http::header::CONTENT_ENCODING,
            coding.parse().unwrap(),
        )])
    }

    fn check(coding: &str, body: impl Into<Bytes>, limit: u64) -> Result<Bytes, Rejection> {
        unpack(
            &headers(coding),
            body.into(),
            limit,
            &mut Budget::default().reserve(0).unwrap(),
        )
    }

    #[test]
    fn gzip_is_unpacked_up_to_the_limit() {
        assert_eq!(check("gzip", gzip(b"hello"), 5).unwrap(), "hello");
        assert!(matches!(
            check("gzip", gzip(b"hello!"), 5),
            Err(Rejection::TooLarge { limit: 5, .. })
        ));
        let long = "0123456789".repeat(100_000);
        assert_eq!(
            check("gzip", gzip(long.as_bytes()), 1_000_000).unwrap(),
            long,
            "over several steps"
        );
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(
            check("gzip", two, 99).unwrap(),
            "onetwo",
            "members follow one another"
        );
    }

    // 200 MiB of zeros are 200 KB of gzip: they must be turned away after the limit and not after
    // the last byte. What is reserved is what was unpacked, so it shows how far it went.
    #[test]
    fn a_gzip_bomb_is_not_inflated() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..200).for_each(|_| encoder.write_all(&zeros).unwrap());
        let bomb: Bytes = encoder.finish().unwrap().into();
        let (budget, limit) = (Budget::new(64 << 20), 1 << 20);
        let mut reservation = budget.reserve(0).unwrap();
        assert!(matches!(
            unpack(&headers("gzip"), bomb.clone(), limit, &mut reservation),
            Err(Rejection::TooLarge { .. })
        ));
        assert!(
            budget.free() > (60 << 20),
            "{} bytes are free",
            budget.free()
        );
        let small = Budget::new(1 << 20);
        let unpacked = unpack(
            &headers("gzip"),
            bomb,
            100 << 20,
            &mut small.reserve(0).unwrap(),
        );
        assert!(
            matches!(unpacked, Err(Rejection::TooLarge { .. })),
            "alone it may have all, up to its own limit"
        );
        let _other = small.reserve(1 << 19).unwrap();
        let unpacked = unpack(
            &headers("gzip"),
            gzip(&zeros),
            100 << 20,
            &mut small.reserve(0).unwrap(),
        );
        assert!(matches!(unpacked, Err(Rejection::Overloaded)));
    }

    #[test]
    fn broken_gzip_and_other_codings_are_told_apart() {
        assert!(matches!(
            check("gzip", "plain", 99),
            Err(Rejection::Malformed { .. })
        ));
        assert!(matches!(
            check("gzip", gzip(b"hello world").slice(..12), 99),
            Err(Rejection::Malformed { .. })
        ));
        assert!(matches!(
            check("br", "x", 99),
            Err(Rejection::UnsupportedMediaType { .. })
        ));
        assert_eq!(check("identity", "x", 99).unwrap(), "x");
    }

    #[test]
    fn what_does_not_fit_into_the_budget_is_turned_away_and_what_is_done_gives_back() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(matches!(budget.reserve(41), Err(Rejection::Overloaded)));
        let second = budget.reserve(40).unwrap();
        assert!(first.grow_to(61).is_err());
        drop(second);
        first.grow_to(61).unwrap();
        first.grow_to(10).unwrap();
        assert_eq!((budget.free(), first.held()), (39, 61));
        first.resize(10).unwrap();
        assert_eq!(budget.free(), 90);
        drop(first);
        assert_eq!(
            budget.reserve(u64::MAX).unwrap().budget.free(),
            0,
            "a giant waits for nobody but needs all"
        );
        assert_eq!(budget.free(), 100);
    }
}
