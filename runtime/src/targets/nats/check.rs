//! What `weir check --connect` says of NATS: whether deliveries could be made, and what of the stream's
//! configuration will eat what it has acknowledged.

use std::time::Duration;

use super::connection::Connection;
use super::stream::{Config, Stream};
use super::{Form, Options, permitted};
use crate::targets::http;

/// The oldest server that is known to keep what is promised here: with it came the direct answers to several
/// questions and the fixes of its consensus.
const VERSION: (u32, u32) = (2, 10);

/// Tries whether deliveries could be made, without making one.
///
/// # Errors
/// What is wrong, as a phrase.
pub(super) async fn check(options: &Options) -> Result<Vec<String>, String> {
    let look = async {
        let connection = Connection::open(options, 0).await.map_err(http::reason)?;
        let info = connection.info();
        let mut warnings = Vec::new();
        if !info.headers {
            return Err(format!("{} takes no headers", connection.server));
        }
        if version(&info.version).is_some_and(|version| version < VERSION) {
            warnings.push(format!(
                "{} is NATS {}; use 2.10 or later",
                connection.server, info.version
            ));
        }
        if options.is_core() {
            warnings.push("core NATS keeps nothing and acknowledges nothing: a subscriber that is away misses what is sent meanwhile; use kv or subject with a stream for what must arrive".to_owned());
            return Ok(warnings);
        }
        // Whether there is JetStream shows the answer: a server without it hands the question on to others of its
        // cluster.
        let stream = permitted(&connection, Stream::look(&connection, options)).await;
        let stream = stream.map_err(http::reason)?;
        warnings.extend(losses(&stream, options, connection.payload_max));
        // The guard reads what the stream holds, which may not be permitted.
        let subject = options.filter().replace('*', "weir-check");
        let reads = permitted(&connection, stream.newest(&connection, &subject)).await;
        reads.map_err(|outcome| {
            format!(
                "the messages of the stream {:?} cannot be read: {}",
                stream.name,
                http::reason(outcome)
            )
        })?;
        Ok(warnings)
    };
    tokio::time::timeout(options.timeout, look)
        .await
        .unwrap_or_else(|_| Err(format!("NATS was not ready within {:?}", options.timeout)))
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Warnings of what a stream will lose, or will not take.
fn losses(stream: &Stream, options: &Options, payload_max: usize) -> Vec<String> {
    let Stream { name, config, .. } = stream;
    let Config {
        max_age,
        max_msgs,
        max_bytes,
        max_msgs_per_subject,
        max_msg_size,
        discard,
        retention,
        num_replicas,
        storage,
        allow_direct,
        ..
    } = config;
    let limited = |limit: i64| limit > 0;
    let mut warnings = Vec::new();
    if limited(*max_age) {
        let age = Duration::from_nanos(max_age.unsigned_abs());
        warnings.push(format!(
            "the stream {name:?} drops messages after {age:?} (max_age), also the newest state of an entity: set it to 0, or sweep the channel more often (weir channel resync)"
        ));
    }
    if discard == "old" && (limited(*max_msgs) || limited(*max_bytes)) {
        warnings.push(format!(
            "the stream {name:?} drops its oldest messages when it is full (max_msgs or max_bytes with discard old), also the newest state of an entity: use discard new, so that a full stream is said"
        ));
    }
    if retention != "limits" && !retention.is_empty() {
        warnings.push(format!(
            "the stream {name:?} drops messages that were consumed (retention {retention}), so that its guard knows nothing of them: use retention limits"
        ));
    }
    if !limited(*max_msgs_per_subject) && !matches!(options.form, Form::Bucket { .. }) {
        warnings.push(format!(
            "the stream {name:?} keeps every message of a subject, also states that were replaced: use --max-msgs-per-subject 1 where only the newest matters"
        ));
    }
    if limited(*max_msg_size) && max_msg_size.unsigned_abs() < payload_max as u64 {
        warnings.push(format!(
            "the stream {name:?} takes messages of at most {max_msg_size} bytes with their headers (max_msg_size); longer ones are refused"
        ));
    }
    if !allow_direct {
        warnings.push(format!(
            "the stream {name:?} does not allow direct reads (allow_direct), so that each one goes to its leader"
        ));
    }
    if *num_replicas <= 1 && storage == "memory" {
        warnings.push(format!(
            "the stream {name:?} is in the memory of one server, and is lost when it restarts; Weir notices and sends everything again"
        ));
    }
    warnings
}
