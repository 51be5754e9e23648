//! Decompresses a body, within its limit and the memory that all requests share.

use std::io::Read;

use bytes::Bytes;

use super::media::{self, Coding};
use super::{Headers, Rejection};
use crate::budget::Reservation;
use crate::model::Failure;

/// Decompresses a gzip body and returns any other unchanged; the result is never larger than
/// `limit`. The memory for the result is reserved before it is written.
///
/// # Errors
/// `TooLarge` without reading beyond the limit, `Malformed` for broken gzip, `UnsupportedMediaType`
/// for other codings, `Overloaded` if there is no memory for the result.
pub(super) fn unpack(
    headers: &Headers,
    body: Bytes,
    limit: u64,
    reservation: &Reservation,
) -> Result<Bytes, Rejection> {
    match media::coding(headers) {
        Coding::Identity => Ok(body),
        Coding::Gzip => gunzip(&body, limit, reservation),
        Coding::Other(coding) => Err(Rejection::UnsupportedMediaType {
            detail: format!("`Content-Encoding: {coding}` is not understood; send gzip or nothing"),
        }),
    }
}

fn gunzip(packed: &[u8], limit: u64, reservation: &Reservation) -> Result<Bytes, Rejection> {
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
    use crate::budget::Budget;

    fn gzip(content: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap().into()
    }

    fn headers(coding: &str) -> Headers {
        Headers::from_iter([("content-encoding", coding)])
    }

    fn check(coding: &str, body: impl Into<Bytes>, limit: u64) -> Result<Bytes, Rejection> {
        unpack(
            &headers(coding),
            body.into(),
            limit,
            &Budget::new(256 << 20).reservation("erp"),
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

    // 200 MiB of zeros are 200 KB of gzip. They must be rejected at the limit, not after the last
    // byte. The reservation equals the number of decompressed bytes, so it shows how far it went.
    #[test]
    fn a_gzip_bomb_is_not_inflated() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0; 1 << 20];
        (0..200).for_each(|_| encoder.write_all(&zeros).unwrap());
        let bomb: Bytes = encoder.finish().unwrap().into();
        let (budget, limit) = (Budget::new(64 << 20), 1 << 20);
        let reservation = budget.reservation("erp");
        assert!(matches!(
            unpack(&headers("gzip"), bomb.clone(), limit, &reservation),
            Err(Rejection::TooLarge { .. })
        ));
        assert!(
            budget.free() > (60 << 20),
            "{} bytes are free",
            budget.free()
        );
        let small = Budget::new(1 << 20);
        let unpacked = unpack(&headers("gzip"), bomb, 100 << 20, &small.reservation("erp"));
        assert!(
            matches!(unpacked, Err(Rejection::TooLarge { limit, .. }) if limit == 1 << 20),
            "no request is larger than the whole budget"
        );
        let other = small.reservation("erp");
        other.grow_to(1 << 19).unwrap();
        let unpacked = unpack(
            &headers("gzip"),
            gzip(&zeros),
            100 << 20,
            &small.reservation("erp"),
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
}
