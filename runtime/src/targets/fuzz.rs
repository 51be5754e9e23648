//! The entry point of `tests/fuzz` to the parsing of responses. Compiled only with the feature
//! `fuzz`.

use std::time::{Duration, SystemTime};

use super::http::Redactor;
use super::http::hints::retry_after;
use super::http::status::{Answer, Asked, item_by_item, meaning};
use super::{DeliveryId, Outcome};

/// Asserts that any response gives one outcome, and one for each item of a batch, whose reason is
/// short and has no control characters.
pub fn answer(status: u16, retry: &str, body: &[u8]) {
    let retry_after = retry_after(
        retry,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000),
    );
    assert!(retry_after.is_none_or(|wait| wait <= Duration::from_secs(3600)));
    let answer = Answer {
        status,
        retry_after,
        body,
    };
    for (by_key, delete, items) in [
        (false, false, 1),
        (false, false, 9),
        (true, false, 1),
        (true, true, 1),
    ] {
        check(&meaning(
            Asked {
                by_key,
                delete,
                items,
            },
            answer,
        ));
    }
    let ids = (1..4).map(DeliveryId);
    if let Some(outcomes) = item_by_item(ids, body, &Redactor::default()) {
        assert_eq!(outcomes.len(), 3);
        outcomes.iter().for_each(check);
    }
}

fn check(outcome: &Outcome) {
    let reason = match outcome {
        Outcome::Delivered => return,
        Outcome::Retry { reason, .. }
        | Outcome::Throttled { reason, .. }
        | Outcome::Refused { reason, .. }
        | Outcome::Trip { reason }
        | Outcome::Pause { reason }
        | Outcome::Split { reason, .. } => reason,
    };
    assert!(
        reason.len() < 1024 && !reason.chars().any(char::is_control),
        "{reason:?}"
    );
}
