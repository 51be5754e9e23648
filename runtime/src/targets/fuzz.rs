//! The entry point of `tests/fuzz` to the parsing of responses. Compiled only with the feature
//! `fuzz`, and for the test here, which plays the seeds and random changes of them.

use std::time::{Duration, SystemTime};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::http::answers::Response;
use super::http::hints::{Hinting, read, retry_after};
use super::http::status::{Answer, Asked, item_by_item, meaning};
use super::http::{PRESETS, Redactor, preset};
use super::search::{self, Dialect};
use super::{DeliveryId, Item, Outcome};
use crate::model::{EntityId, Payload, Rendering, Sequence};

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

/// Asserts that any answer, read with the rules of any API, gives one outcome for each item.
pub fn rules(api: u8, status: u16, body: &[u8]) {
    let api = PRESETS[usize::from(api) % PRESETS.len()];
    let answers = preset(api).expect("it is in the list");
    for items in [1, 3] {
        let items: Vec<Item> = (0..items).map(item).collect();
        for batch in [false, true] {
            let asked = Asked {
                by_key: false,
                delete: false,
                items: items.len(),
            };
            let response = Response {
                status,
                body,
                wait: None,
            };
            let outcomes = answers.read(asked, &items, batch, &response, &Redactor::default());
            assert_eq!(outcomes.len(), items.len(), "{api}");
            outcomes.iter().for_each(check);
        }
    }
}

/// Asserts that nothing that an answer says about the pace is more than Weir takes from anybody: a wait of
/// an hour at most, and numbers that can be reckoned with. `head` has a header a line.
pub fn hints(status: u16, head: &str, body: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in head.lines().take(100) {
        let field = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value.trim()).ok()?))
        });
        headers.extend(field.map(|(name, value)| (Some(name), value)));
    }
    let told = read(&Hinting {
        status,
        headers: &headers,
        body,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000),
    });
    let most = Duration::from_secs(3600);
    assert!(told.wait.is_none_or(|wait| wait <= most), "{told:?}");
    let usable = |number: f64| number.is_finite() && number > 0.0;
    assert!(told.rate.is_none_or(usable), "{told:?}");
    assert!(
        told.points.is_none_or(|points| usable(points.per_second)
            && [points.needed, points.used, points.left, points.most]
                .into_iter()
                .all(|number| number.is_finite() && number >= 0.0)),
        "{told:?}"
    );
}

/// Asserts that any answer of a search engine gives one outcome for each document.
pub fn engine(dialect: u8, status: u16, body: &[u8]) {
    let dialects = [
        Dialect::Elasticsearch,
        Dialect::Meilisearch,
        Dialect::Typesense,
        Dialect::Algolia,
    ];
    let dialect = dialects[usize::from(dialect) % dialects.len()];
    for items in [1, 3] {
        let items: Vec<Item> = (0..items).map(item).collect();
        for outcomes in search::fuzz::judged(dialect, &items, status, body) {
            assert_eq!(outcomes.len(), items.len(), "{dialect:?}");
            outcomes.iter().for_each(check);
        }
    }
}

fn item(number: u64) -> Item {
    let key: std::sync::Arc<str> = format!("k{number}").into();
    Item {
        id: DeliveryId(u128::from(number) + 1),
        entity: EntityId {
            entity_type: "product".into(),
            key: key.clone(),
        },
        state: 0,
        sequence: Sequence(7),
        key,
        rendering: Some(std::sync::Arc::new(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text("{}".into()),
        })),
        plugin: None,
    }
}

fn check(outcome: &Outcome) {
    let reason = match outcome {
        Outcome::Delivered => return,
        Outcome::Repeat { reason, .. }
        | Outcome::Retry { reason, .. }
        | Outcome::Throttled { reason, .. }
        | Outcome::Refused { reason, .. }
        | Outcome::Trip { reason }
        | Outcome::Forgot { reason }
        | Outcome::Ahead { reason, .. }
        | Outcome::Pause { reason }
        | Outcome::Split { reason, .. } => reason,
    };
    assert!(
        reason.len() < 1024 && !reason.chars().any(char::is_control),
        "{reason:?}"
    );
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Changed seeds in each search. `tests/fuzz/run` tries millions, guided by coverage.
    const CHANGED: usize = 3_000;

    fn seeds(folder: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fuzz/seeds")
            .join(folder);
        let files = std::fs::read_dir(folder).expect("the seeds");
        let paths = files.map(|file| file.expect("a file").path());
        let mut paths: Vec<_> = paths.collect();
        paths.sort();
        paths
            .iter()
            .map(|path| std::fs::read(path).expect("a seed"))
            .collect()
    }

    fn changed(seeds: &[Vec<u8>], dice: &mut fastrand::Rng) -> Vec<u8> {
        const WORDS: [&str; 12] = [
            "null",
            "[]",
            "{}",
            "-1",
            "1e999",
            "18446744073709551616",
            "0.5",
            "\"\"",
            "\n",
            "\u{1b}",
            "\\u0000",
            "true",
        ];
        let mut bytes = seeds[dice.usize(..seeds.len())].clone();
        for _ in 0..dice.usize(1..6) {
            let at = dice.usize(..=bytes.len());
            match dice.u8(..5) {
                0 if at < bytes.len() => bytes[at] = dice.u8(..),
                1 => bytes.truncate(at),
                2 => {
                    let end = (at + dice.usize(..20)).min(bytes.len());
                    bytes.drain(at..end);
                }
                3 => {
                    let other = &seeds[dice.usize(..seeds.len())];
                    bytes.truncate(at);
                    bytes.extend(&other[dice.usize(..other.len())..]);
                }
                _ => {
                    let word = WORDS[dice.usize(..WORDS.len())];
                    let end = (at + dice.usize(..6)).min(bytes.len());
                    bytes.splice(at..end, word.bytes());
                }
            }
        }
        bytes
    }

    fn search(folder: &str, mut read: impl FnMut(&[u8])) {
        let seeds = seeds(folder);
        assert!(seeds.len() > 1, "{folder}");
        seeds.iter().for_each(|seed| read(seed));
        let mut dice = fastrand::Rng::with_seed(11);
        for _ in 0..CHANGED {
            let bytes = changed(&seeds, &mut dice);
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(&bytes)));
            let shown = String::from_utf8_lossy(&bytes);
            assert!(played.is_ok(), "{folder} does not bear {shown:?}");
        }
    }

    fn status(bytes: &[u8]) -> Option<(u16, &[u8])> {
        let (status, rest) = bytes.split_first_chunk()?;
        Some((100 + u16::from_le_bytes(*status) % 900, rest))
    }

    #[test]
    fn no_answer_of_a_webhook_is_too_strange() {
        search("answers", |bytes| {
            if let Some((status, rest)) = status(bytes) {
                let text = String::from_utf8_lossy(rest);
                let (retry, body) = text.split_once('\n').unwrap_or((&text, ""));
                answer(status, retry, body.as_bytes());
            }
        });
    }

    #[test]
    fn no_answer_of_an_api_is_too_strange_for_its_rules() {
        search("rules", |bytes| {
            if let Some((api, rest)) = bytes.split_first()
                && let Some((status, body)) = status(rest)
            {
                rules(*api, status, body);
            }
        });
    }

    #[test]
    fn no_hint_makes_weir_wait_longer_than_it_waits_for_anybody() {
        search("hints", |bytes| {
            if let Some((status, rest)) = status(bytes) {
                let text = String::from_utf8_lossy(rest);
                let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
                hints(status, head, body.as_bytes());
            }
        });
    }

    #[test]
    fn no_answer_of_a_search_engine_is_too_strange() {
        search("engines", |bytes| {
            if let Some((dialect, rest)) = bytes.split_first()
                && let Some((status, body)) = status(rest)
            {
                engine(*dialect, status, body);
            }
        });
    }
}
