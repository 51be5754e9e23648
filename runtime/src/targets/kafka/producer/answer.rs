//! What the answers of Kafka mean: whose fault an error is, and whether a broker may have got the record.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::Producer;

use super::Sending;
use crate::targets::Outcome;

/// How long a broker is asked why something timed out.
const ASK_WHY: Duration = Duration::from_secs(2);

impl Sending {
    /// Asks why something timed out, if nothing was said of it: the library waits in silence for a topic that is
    /// not there, and for a partition without a leader. Blocks.
    pub(super) fn ask_why(&self, topic: &str) {
        if self.events.recent().is_some() {
            return;
        }
        let metadata = (self.producer.client()).fetch_metadata(Some(topic), ASK_WHY);
        let found = metadata.as_ref().map(|it| it.topics().first());
        let leaderless = |found: &MetadataTopic| {
            let mut partitions = found.partitions().iter();
            partitions.find(|it| it.leader() < 0).map(|it| it.id())
        };
        let (code, reason) = match found {
            Err(error) => (Code::MessageTimedOut, error.to_string()),
            Ok(None) => (Code::UnknownTopic, format!("there is no topic {topic:?}")),
            Ok(Some(found)) => match (found.error().map(Code::from), leaderless(found)) {
                (Some(code), _) => (code, format!("the topic {topic:?}: {code}")),
                (None, Some(partition)) => (
                    Code::LeaderNotAvailable,
                    format!("partition {partition} of the topic {topic:?} has no leader"),
                ),
                (None, None) => (
                    Code::MessageTimedOut,
                    format!("the leaders of the topic {topic:?} did not acknowledge in time"),
                ),
            },
        };
        self.events.note(code, &reason);
    }

    /// The outcome of a record of this topic with this error. `sent` says whether a broker may have got it.
    pub(super) fn outcome(&self, error: &KafkaError, topic: &str, sent: bool) -> Outcome {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let said = format!("Kafka: {code} ({})", code as i32);
        let trip = |reason: String| Outcome::Trip { reason };
        match code {
            // Its reason comes beside it. Credentials, TLS and names are the target's.
            Code::MessageTimedOut
            | Code::OperationTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown => match self.events.recent() {
                Some((
                    code @ (Code::Authentication
                    | Code::SaslAuthenticationFailed
                    | Code::SSL
                    | Code::Resolve
                    | Code::UnknownTopic
                    | Code::UnknownTopicOrPartition),
                    reason,
                )) => trip(format!("Kafka: {code} ({}): {reason}", code as i32)),
                Some((_, reason)) => Outcome::Retry {
                    reason: format!("{said}: {reason}"),
                    maybe_applied: sent,
                },
                None => Outcome::Retry {
                    reason: said,
                    maybe_applied: sent,
                },
            },
            Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL | Code::Resolve => {
                trip(said)
            }
            // The topic, or the rights to it.
            Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed => trip(format!("the topic {topic:?}: {said}")),
            // Managed brokers say the first of these when there is too much.
            Code::PolicyViolation | Code::ThrottlingQuotaExceeded => Outcome::Throttled {
                reason: said,
                after: None,
            },
            // All records of its batch have this answer, so that it is not certain which is meant.
            Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidDifferentRecord => {
                Outcome::Split {
                    reason: said,
                    too_long: false,
                }
            }
            // Also where this answer says that nothing was stored: the library tries again by itself, and an
            // earlier try may have been.
            _ => Outcome::Retry {
                reason: said,
                maybe_applied: sent,
            },
        }
    }
}
