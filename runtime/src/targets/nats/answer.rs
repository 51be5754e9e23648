//! What the answers of JetStream mean: whose fault an error is, by its `err_code`.

use serde::Deserialize;

use super::connection::{away, trip};
use crate::targets::Outcome;
use crate::targets::http::status::describe;

/// The answer to a message that was published, or to a question without a result.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    /// The sequence of the message in its stream.
    #[serde(default)]
    pub(super) seq: u64,
    /// Whether a message with its id had been stored before.
    #[serde(default)]
    pub(super) duplicate: bool,
    pub(super) error: Option<Problem>,
}

/// An error.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Problem {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u32,
    #[serde(default)]
    pub(super) description: String,
}

impl Problem {
    /// Whether the stream holds another message of the subject than expected.
    pub(super) fn is_wrong_sequence(&self) -> bool {
        matches!(self.err_code, 10071 | 10164)
    }

    /// Whether there is no such message, stream or consumer.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.err_code, 10014 | 10037 | 10043 | 10059)
    }

    /// The outcome of an item whose message was answered with this. Nothing was stored.
    pub(super) fn outcome(&self) -> Outcome {
        let reason = self.to_string();
        match self.err_code {
            // The message is longer than the stream takes, or its headers are.
            10054 | 10097 => Outcome::Refused {
                reason,
                after_tries: false,
            },
            // Too many requests wait at the server.
            10167 => Outcome::Throttled {
                reason,
                after: None,
            },
            // The stream or the account is full, or the server's disk.
            10002 | 10023 | 10028 | 10047 | 10077 | 10122 => trip(reason),
            // The configuration of the stream: rollup, sealed, time to live; another stream; no JetStream.
            10039 | 10060 | 10076 | 10109 | 10111 | 10166 => trip(reason),
            _ => away(reason),
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Problem {
            code,
            err_code,
            description,
        } = self;
        let said = describe(*code, description.as_bytes());
        write!(f, "NATS {said} ({err_code})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // What a server says is kept for each entity that it refuses.
    #[test]
    fn a_description_is_one_short_line() {
        let problem = Problem {
            code: 503,
            err_code: 10077,
            description: "full\n\u{1b}[31m".repeat(10_000),
        };
        let reason = problem.to_string();
        assert!(reason.starts_with("NATS answered 503: full"), "{reason}");
        assert!(reason.len() < 1024 && !reason.contains(char::is_control));
    }

    #[test]
    fn an_error_speaks_of_the_entity_the_pace_or_the_target() {
        for (err_code, expected) in [
            (10077, "trip"),
            (10002, "trip"),
            (10023, "trip"),
            (10109, "trip"),
            (10111, "trip"),
            (10166, "trip"),
            (10060, "trip"),
            (10076, "trip"),
            (10039, "trip"),
            (10054, "refused"),
            (10097, "refused"),
            (10167, "throttled"),
            (10008, "retry"),
            (1, "retry"),
        ] {
            let text = format!(
                r#"{{"error":{{"code":503,"err_code":{err_code},"description":"x"}},"stream":"S","seq":0}}"#
            );
            let answer: Answer = serde_json::from_str(&text).expect("an answer");
            let outcome = answer.error.expect("an error").outcome();
            let found = match outcome {
                Outcome::Trip { .. } => "trip",
                Outcome::Refused { .. } => "refused",
                Outcome::Throttled { .. } => "throttled",
                Outcome::Retry {
                    maybe_applied: false,
                    ..
                } => "retry",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{err_code}");
        }
    }
}
