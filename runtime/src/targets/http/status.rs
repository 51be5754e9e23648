//! The meaning of an HTTP response for a delivery, as a pure function. The table is part of the
//! outer contract.
//!
//! Some statuses refuse the entity. Most others (no access, no such address) mean that the target
//! is in trouble; then deliveries to it must stop, or every entity would be refused in turn.

use std::collections::HashMap;
use std::time::Duration;

use memchr::memmem;
use serde_json::Value;

use super::Redactor;
use crate::targets::{DeliveryId, Outcome};

/// Maximum number of bytes of the response that are quoted in a reason.
const QUOTE_BYTES_MAX: usize = 200;

/// The properties of the request that the meaning of the response depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Whether the URL names the entity (`{key}`).
    pub(crate) by_key: bool,
    /// Whether it is a DELETE of the entity's own URL.
    pub(crate) delete: bool,
    /// Number of entities in the request.
    pub(crate) items: usize,
}

/// A complete response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The status code, which may be above 599.
    pub(crate) status: u16,
    /// How long the target asks Weir to wait, by `hints`.
    pub(crate) retry_after: Option<Duration>,
    /// The body or its beginning, redacted, so that it may be quoted.
    pub(crate) body: &'a [u8],
}

/// Returns the outcome of a complete response for the request as a whole.
pub(crate) fn meaning(asked: Asked, answer: Answer<'_>) -> Outcome {
    let status = answer.status;
    let reason = || describe(status, answer.body);
    let refused = |after_tries| match asked.items {
        0 | 1 => Outcome::Refused {
            reason: reason(),
            after_tries,
        },
        _ => Outcome::Split {
            reason: reason(),
            too_long: status == 413,
        },
    };
    match status {
        200..=299 => Outcome::Delivered,
        404 | 410 if asked.delete => Outcome::Delivered,
        300..=399 => Outcome::Retry {
            reason: format!("{} (redirects are never followed)", reason()),
            maybe_applied: false,
        },
        401 | 403 | 405 | 407 => Outcome::Trip { reason: reason() },
        404 if !asked.by_key => Outcome::Trip { reason: reason() },
        410 if !asked.by_key => Outcome::Pause { reason: reason() },
        400 | 410 | 413 | 415 => refused(false),
        409 | 422 => refused(true),
        429 | 503 => Outcome::Throttled {
            reason: reason(),
            after: answer.retry_after,
        },
        // The target, or a proxy in front of it, failed halfway, so the request may have been
        // applied.
        500 | 502 | 504 => Outcome::Retry {
            reason: reason(),
            maybe_applied: true,
        },
        _ => Outcome::Retry {
            reason: reason(),
            maybe_applied: false,
        },
    }
}

/// The outcome of each item of a batch that was answered with a 2xx, if the body says something about
/// items: `{"items": [{"id", "status", "error"}]}`. `None` for any other body: then the status of the
/// response holds for all of them.
///
/// An entry that cannot be understood is never a success. It makes its own item uncertain, and if its
/// id is unreadable too, every item that the body does not name; so does a body that starts like one
/// with items and is not JSON. Otherwise an item that is not named is delivered.
pub(crate) fn item_by_item(
    ids: impl Iterator<Item = DeliveryId>,
    body: &[u8],
    redactor: &Redactor,
) -> Option<Vec<Outcome>> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        let reason = "the response says something about items and is not valid JSON";
        return looks_like_items(body).then(|| ids.map(|_| uncertain(reason.into())).collect());
    };
    let entries = body.get("items")?.as_array()?;
    let mut named: HashMap<&str, Outcome> = HashMap::with_capacity(entries.len());
    let mut unnamed = Outcome::Delivered;
    for entry in entries {
        let Some(id) = entry.get("id").and_then(Value::as_str) else {
            unnamed = uncertain("the response has an entry without an id".into());
            continue;
        };
        let outcome = entry_meaning(entry, redactor);
        // Of two entries for an item the one that is no success counts.
        if named
            .get(id)
            .is_none_or(|known| *known == Outcome::Delivered)
        {
            named.insert(id, outcome);
        }
    }
    let outcome = |id: DeliveryId| named.get(&*id.to_string()).unwrap_or(&unnamed).clone();
    Some(ids.map(outcome).collect())
}

/// The meaning of one entry; its status may be a number or a text of digits.
fn entry_meaning(entry: &Value, redactor: &Redactor) -> Outcome {
    let status = match entry.get("status") {
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    match status.and_then(|status| u16::try_from(status).ok()) {
        Some(status) => {
            let error = entry
                .get("error")
                .map(ToString::to_string)
                .unwrap_or_default();
            item_meaning(status, &redactor.redact(error.as_bytes()))
        }
        None => uncertain("the response names this item without a readable status".into()),
    }
}

/// Not known to be a success, and perhaps applied.
pub(crate) fn uncertain(reason: String) -> Outcome {
    Outcome::Retry {
        reason,
        maybe_applied: true,
    }
}

/// Whether a body that is not JSON was meant to name items.
fn looks_like_items(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && memmem::find(body, b"\"items\"").is_some()
}

/// Returns the outcome of one item's status. The target has accepted the request, so the status
/// concerns only the entity.
pub(super) fn item_meaning(status: u16, error: &[u8]) -> Outcome {
    let reason = format!("{} for this item", describe(status, error));
    match status {
        200..=299 => Outcome::Delivered,
        400 | 410 | 413 | 415 => Outcome::Refused {
            reason,
            after_tries: false,
        },
        409 | 422 => Outcome::Refused {
            reason,
            after_tries: true,
        },
        429 => Outcome::Throttled {
            reason,
            after: None,
        },
        _ => Outcome::Retry {
            reason,
            maybe_applied: false,
        },
    }
}

/// The status and the beginning of the body, without control characters, for users.
pub(crate) fn describe(status: u16, body: &[u8]) -> String {
    let quoted: String = String::from_utf8_lossy(&body[..body.len().min(QUOTE_BYTES_MAX)])
        .chars()
        .map(|c| {
            if c.is_control() || c == '\u{fffd}' {
                ' '
            } else {
                c
            }
        })
        .collect();
    match quoted.trim() {
        "" => format!("answered {status}"),
        text => format!("answered {status}: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Delivered => "delivered",
            Outcome::Repeat { .. } => "repeat",
            Outcome::Throttled { .. } => "wait",
            Outcome::Retry {
                maybe_applied: true,
                ..
            } => "uncertain",
            Outcome::Retry { .. } => "retry",
            Outcome::Refused {
                after_tries: true, ..
            } => "refused later",
            Outcome::Refused { .. } => "refused",
            Outcome::Trip { .. } => "trip",
            Outcome::Forgot { .. } => "forgot",
            Outcome::Ahead { .. } => "ahead",
            Outcome::Pause { .. } => "pause",
            Outcome::Split { .. } => "split",
        }
    }

    #[test]
    fn each_answer_means_what_the_contract_says() {
        let post = Asked {
            by_key: false,
            delete: false,
            items: 1,
        };
        let batch = Asked { items: 10, ..post };
        let put = Asked {
            by_key: true,
            ..post
        };
        let delete = Asked {
            delete: true,
            ..put
        };
        for (statuses, in_post, in_batch, in_put, in_delete) in [
            (
                &[200, 201, 202, 204, 299][..],
                "delivered",
                "delivered",
                "delivered",
                "delivered",
            ),
            (
                &[301, 302, 303, 304, 307, 308],
                "retry",
                "retry",
                "retry",
                "retry",
            ),
            (&[401, 403, 405, 407], "trip", "trip", "trip", "trip"),
            (&[404], "trip", "trip", "retry", "delivered"),
            (&[410], "pause", "pause", "refused", "delivered"),
            (&[400, 413, 415], "refused", "split", "refused", "refused"),
            (
                &[409, 422],
                "refused later",
                "split",
                "refused later",
                "refused later",
            ),
            (&[429, 503], "wait", "wait", "wait", "wait"),
            (
                &[500, 502, 504],
                "uncertain",
                "uncertain",
                "uncertain",
                "uncertain",
            ),
            (
                &[402, 406, 408, 418, 425, 451, 501, 505, 599, 999],
                "retry",
                "retry",
                "retry",
                "retry",
            ),
        ] {
            for &status in statuses {
                let answer = Answer {
                    status,
                    retry_after: Some(Duration::from_secs(1)),
                    body: b"",
                };
                for (asked, expected) in [
                    (post, in_post),
                    (batch, in_batch),
                    (put, in_put),
                    (delete, in_delete),
                ] {
                    assert_eq!(
                        word(&meaning(asked, answer)),
                        expected,
                        "{status} to {asked:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_batch_is_read_item_by_item_where_the_target_says_so() {
        let ids = || (10..13).map(DeliveryId);
        let id = |number| DeliveryId(number).to_string();
        let body = format!(
            r#"{{"items":[{{"id":"{}","status":400,"error":"no price"}},{{"id":"{}","status":503}},{{"id":"x","status":400}}]}}"#,
            id(11),
            id(12)
        );
        let outcomes = item_by_item(ids(), body.as_bytes(), &Redactor::default()).expect("items");
        assert_eq!(
            outcomes.iter().map(word).collect::<Vec<_>>(),
            ["delivered", "refused", "retry"]
        );
        for other in [&b"ok"[..], b"{}", b"[]", br#"{"items": 3}"#, b""] {
            assert_eq!(item_by_item(ids(), other, &Redactor::default()), None);
        }
    }

    // A shop answered a batch with one entry for each item. One entry lacked its status, another had it
    // as a text, and five refusals in the same answer were counted as delivered.
    #[test]
    fn an_entry_that_cannot_be_understood_is_no_success_and_costs_only_its_item() {
        let entry =
            |number: u128, rest: &str| format!(r#"{{"id":"{}"{rest}}}"#, DeliveryId(number));
        let refused = entry(10, r#","status":422"#);
        for (entries, expected) in [
            (
                vec![refused.clone(), entry(11, "")],
                ["refused later", "uncertain", "delivered"],
            ),
            (
                vec![
                    refused.clone(),
                    entry(11, r#","status":"200""#),
                    entry(12, r#","status":"400""#),
                ],
                ["refused later", "delivered", "refused"],
            ),
            (
                vec![
                    refused.clone(),
                    entry(11, r#","status":null"#),
                    entry(12, r#","status":99999"#),
                ],
                ["refused later", "uncertain", "uncertain"],
            ),
            (
                vec![refused.clone(), r#"{"status":400}"#.into(), "7".into()],
                ["refused later", "uncertain", "uncertain"],
            ),
            (
                vec![refused.clone(), entry(10, r#","status":200"#)],
                ["refused later", "delivered", "delivered"],
            ),
        ] {
            let body = format!(r#"{{"items":[{}]}}"#, entries.join(","));
            let ids = (10..13).map(DeliveryId);
            let outcomes = item_by_item(ids, body.as_bytes(), &Redactor::default()).expect("items");
            assert_eq!(
                outcomes.iter().map(word).collect::<Vec<_>>(),
                expected,
                "{body}"
            );
        }
        let broken = br#"{"took":3,"items":[{"id":"#;
        let outcomes = item_by_item((10..12).map(DeliveryId), broken, &Redactor::default());
        let outcomes = outcomes.expect("it speaks of items");
        assert_eq!(
            outcomes.iter().map(word).collect::<Vec<_>>(),
            ["uncertain"; 2]
        );
    }

    #[test]
    fn a_reason_quotes_little_and_nothing_that_moves_the_cursor() {
        let body = "\u{1b}[2Jno such\r\nprice ".repeat(100);
        let Outcome::Refused { reason, .. } = meaning(
            Asked {
                by_key: false,
                delete: false,
                items: 1,
            },
            Answer {
                status: 400,
                retry_after: None,
                body: body.as_bytes(),
            },
        ) else {
            panic!("refused")
        };
        assert!(
            reason.starts_with("answered 400: [2Jno such")
                && reason.len() < 250
                && !reason.contains(char::is_control),
            "{reason}"
        );
    }
}
