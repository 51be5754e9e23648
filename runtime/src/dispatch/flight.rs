//! Pure functions that decide the next step of an entity in flight: before an attempt ([`decide`])
//! and after it ([`conclude`]).

use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::prepare::{Content, Prepared};
use super::retry::{KEYS_MAX, Tried};
use crate::model::{EntityId, Failure, PartsDigest, Rendering, Sequence, Trace};
use crate::store::{Ending, Holds};
use crate::targets::http::Exchange;
use crate::targets::{self, DeliveryId, ENVELOPE_BYTES};

/// The code of a refusal by the target, not by a plugin.
pub(crate) const REFUSED: &str = "refused";

/// An entity that must be sent.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) prepared: Prepared,
    pub(crate) id: EntityId,
    /// `None` if it must be deleted.
    pub(crate) rendering: Option<Arc<Rendering>>,
    /// The key it is sent under, and the id of this attempt.
    pub(crate) tried: Tried,
    /// Other keys under which the target holds, or may hold, an older rendering of it. They are
    /// deleted first.
    pub(crate) stale_keys: Vec<Arc<str>>,
    /// The number of its deletes that the target gets for the first time: of the entity, and of
    /// older keys. The guard against mass withdrawal counts them.
    pub(crate) first_deletes: u64,
    /// The plugin that rendered it; `None` for the default rendering and for deletions.
    pub(crate) plugin: Option<Arc<str>>,
}

impl Ready {
    /// Bytes that it takes in memory while it waits and is sent: its rendering, and the copy of it in
    /// the body of the request.
    pub(crate) fn bytes(&self) -> usize {
        let body = self
            .rendering
            .as_ref()
            .map_or(0, |it| it.body.as_bytes().len());
        2 * body + ENVELOPE_BYTES
    }

    /// See [`targets::bytes_in_batch`].
    pub(crate) fn bytes_in_batch(&self) -> usize {
        targets::bytes_in_batch(&self.id, self.rendering.as_deref())
    }
}

/// The next step for a prepared entity.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Nothing must be sent.
    End(Ending),
    /// It must be sent. If it deletes anything, it is sent only if the guard admits it.
    Send(Box<Ready>),
    /// It could not be read; the text says why. Try again later.
    Later(String),
}

/// Decides the next step from what the target holds and what it should hold. `tried` is the
/// previous attempt, if it failed. `keyed` means that the target keeps each key as a separate
/// object.
pub(crate) fn decide(
    options: &Options,
    keyed: bool,
    prepared: Prepared,
    tried: Option<&Tried>,
) -> Decision {
    let holds = prepared.taken.holds;
    let (rendering, digest, key, plugin) = match &prepared.content {
        Content::Unread(why) => return Decision::Later(why.clone()),
        Content::Failed(failure) => return Decision::End(Ending::Refused(failure.clone())),
        Content::Absent(reason) if holds == Holds::Nothing => {
            return Decision::End(Ending::Withheld(*reason));
        }
        Content::There { digest, .. } if options.suppress && holds == Holds::Rendering(*digest) => {
            return Decision::End(Ending::Suppressed);
        }
        _ if !options.deliver => return Decision::End(Ending::Counted),
        Content::Absent(_) => (None, None, None, None),
        Content::There {
            rendering,
            digest,
            key,
            plugin,
        } => (
            Some(rendering.clone()),
            Some(*digest),
            Some(key.clone()),
            plugin.clone(),
        ),
    };
    // No target holds an entity that the store has forgotten.
    let Some(id) = prepared.id.clone() else {
        return Decision::End(Ending::Withheld(super::prepare::DELETED));
    };
    let there = prepared
        .taken
        .target_key
        .clone()
        .unwrap_or_else(|| id.key.clone());
    let key = key.unwrap_or_else(|| there.clone());
    let mut older_keys: Vec<Arc<str>> = tried
        .map(|tried| {
            [
                tried.older_keys.as_slice(),
                std::slice::from_ref(&tried.key),
            ]
            .concat()
        })
        .unwrap_or_default();
    older_keys.retain(|older| keyed && *older != key);
    older_keys.drain(..older_keys.len().saturating_sub(KEYS_MAX));
    let mut stale_keys = older_keys.clone();
    stale_keys.extend((keyed && holds != Holds::Nothing && there != key).then_some(there));
    stale_keys.sort();
    stale_keys.dedup();
    let deletes = stale_keys.len() as u64 + u64::from(rendering.is_none());
    let first_deletes = if prepared.taken.was_absent {
        0
    } else {
        deletes
    };
    let same = tried.filter(|tried| tried.digest == digest && tried.newest == prepared.newest);
    let attempt = same.map_or_else(
        || delivery_id(&options.name, &id, prepared.revision, digest),
        |tried| tried.id,
    );
    let tried = Tried {
        id: attempt,
        digest,
        newest: prepared.newest,
        key,
        older_keys,
    };
    Decision::Send(Box::new(Ready {
        id,
        rendering,
        tried,
        stale_keys,
        first_deletes,
        plugin,
        prepared,
    }))
}

/// The id of a first attempt (`webhook-id`), computed from channel, entity, revision and rendering.
/// Retries of the same rendering keep it.
fn delivery_id(
    channel: &str,
    id: &EntityId,
    revision: Sequence,
    digest: Option<u64>,
) -> DeliveryId {
    let mut parts = PartsDigest::new();
    parts
        .part(channel)
        .part(&*id.entity_type)
        .part(&*id.key)
        .number(revision.0)
        .number(digest.unwrap_or_default());
    DeliveryId(parts.digest128())
}

/// The result of sending one entity.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// `None` if no attempt was made, because the breaker did not admit one.
    pub(crate) outcome: Option<targets::Outcome>,
    /// Whether the attempt was a probe, which does not count as an attempt at the entity.
    pub(crate) probe: bool,
    /// The requests that were made for it, if somebody looks.
    pub(crate) requests: Vec<MadeRequest>,
    /// The attempt, if it failed.
    pub(crate) attempt: Option<Trace>,
}

/// A request that was made for an entity.
#[derive(Clone, Debug)]
pub(crate) struct MadeRequest {
    /// The entities in it.
    pub(crate) items: usize,
    pub(crate) took: Duration,
    /// The exchange, of a target that speaks HTTP.
    pub(crate) exchange: Option<Arc<Exchange>>,
}

/// How a flight ends after sending.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Conclusion {
    /// The delivery is settled with this ending.
    Done(Ending),
    /// Park it for `wait`, with `attempts` counted so far. `reason` is the error to keep, if there
    /// was one. If `failed`, the next attempt is a retry and counts against the retry budget. If
    /// `awaits_change`, a newer state of the entity is tried at once.
    Park {
        attempts: u8,
        wait: Duration,
        reason: Option<String>,
        failed: bool,
        awaits_change: bool,
    },
    /// The target is gone for good: park the entity and pause the channel.
    Pause { attempts: u8, reason: String },
}

/// Decides what an outcome means for the entity. `attempts` is the number of attempts counted
/// before; `chance` from 0 to 1 spreads the retries.
pub(crate) fn conclude(
    options: &Options,
    ready: &Ready,
    attempts: u8,
    sent: Sent,
    chance: f64,
) -> Conclusion {
    let counted = attempts.saturating_add(u8::from(!sent.probe));
    let retry = |reason: String, after: Option<Duration>| {
        let wait = options
            .retry
            .wait(counted, chance)
            .max(after.unwrap_or_default());
        Conclusion::Park {
            attempts: counted,
            wait,
            reason: Some(reason),
            failed: true,
            awaits_change: false,
        }
    };
    match sent.outcome {
        None => Conclusion::Park {
            attempts,
            wait: Duration::ZERO,
            reason: None,
            failed: false,
            awaits_change: false,
        },
        Some(targets::Outcome::Delivered) => Conclusion::Done(match ready.tried.digest {
            Some(digest) => {
                let target_key = (ready.tried.key != ready.id.key).then(|| ready.tried.key.clone());
                Ending::Delivered { digest, target_key }
            }
            None => Ending::Withdrawn,
        }),
        Some(targets::Outcome::Repeat { reason, after }) => Conclusion::Park {
            attempts,
            wait: after,
            reason: Some(reason),
            failed: false,
            awaits_change: true,
        },
        Some(targets::Outcome::Retry { reason, .. }) => retry(reason, None),
        Some(targets::Outcome::Throttled { reason, after }) => retry(reason, after),
        // What it refers to may arrive later, for example its parent.
        Some(targets::Outcome::Refused {
            reason,
            after_tries: true,
        }) if counted < options.retry.attempts => Conclusion::Park {
            attempts: counted,
            wait: options.retry.wait(counted, chance),
            reason: Some(reason),
            failed: true,
            awaits_change: true,
        },
        Some(targets::Outcome::Refused { reason, .. } | targets::Outcome::Split { reason, .. }) => {
            Conclusion::Done(Ending::Refused(Failure::new(REFUSED, reason)))
        }
        // The trouble is the target's, so this does not count as an attempt at the entity.
        Some(
            targets::Outcome::Trip { reason }
            | targets::Outcome::Forgot { reason }
            | targets::Outcome::Ahead { reason, .. },
        ) => Conclusion::Park {
            attempts,
            wait: Duration::ZERO,
            reason: Some(reason),
            failed: false,
            awaits_change: false,
        },
        Some(targets::Outcome::Pause { reason }) => Conclusion::Pause { attempts, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::tests::options;
    use crate::model::{Lane, Ordinal, Payload, Track};
    use crate::store::Lease;

    fn prepared(holds: Holds, target_key: Option<&str>, content: Content) -> Prepared {
        let track = Track::Lane(Lane::Normal);
        let target_key = target_key.map(Arc::from);
        let taken = Lease {
            ordinal: Ordinal(1),
            revision: Sequence(9),
            holds,
            was_absent: false,
            target_key,
            settled: Sequence(4),
            attempts: 0,
            track,
            owed_since: Sequence(8),
            owed_at: crate::model::Timestamp(0),
        };
        let id = Some(EntityId {
            entity_type: "product".into(),
            key: "e".into(),
        });
        Prepared {
            owed_at: crate::model::Timestamp(0),
            taken,
            revision: Sequence(9),
            newest: Sequence(8),
            id,
            bytes: 0,
            content,
            room: None,
        }
    }

    fn there(digest: u64, key: &str) -> Content {
        let rendering = Arc::new(Rendering {
            key: None,
            content_type: None,
            body: Payload::Text("{}".into()),
        });
        Content::There {
            rendering,
            digest,
            key: key.into(),
            plugin: None,
        }
    }

    fn word(decision: &Decision) -> String {
        match decision {
            Decision::End(Ending::Refused(failure)) => format!("refused {}", failure.code),
            Decision::End(outcome) => format!("{outcome:?}").to_lowercase(),
            Decision::Later(_) => "later".into(),
            Decision::Send(ready) => {
                let verb = if ready.rendering.is_some() {
                    "put"
                } else {
                    "delete"
                };
                let before: String = ready
                    .stale_keys
                    .iter()
                    .map(|key| format!("delete {key}, "))
                    .collect();
                format!("{before}{verb} {}", ready.tried.key)
            }
        }
    }

    #[test]
    fn what_the_target_holds_decides_what_is_sent() {
        let failed = || Content::Failed(Failure::new("plugin", "it broke"));
        for (holds, content, expected) in [
            (Holds::Nothing, there(7, "e"), "put e"),
            (Holds::Unknown, there(7, "e"), "put e"),
            (Holds::Rendering(7), there(7, "e"), "suppressed"),
            (Holds::Rendering(8), there(7, "e"), "put e"),
            (Holds::Nothing, Content::Absent(3), "withheld(3)"),
            (Holds::Unknown, Content::Absent(3), "delete e"),
            (Holds::Rendering(7), Content::Absent(0), "delete e"),
            (Holds::Rendering(7), failed(), "refused plugin"),
            (Holds::Rendering(7), Content::Unread("busy".into()), "later"),
        ] {
            let decision = decide(
                &options(),
                false,
                prepared(holds, None, content.clone()),
                None,
            );
            assert_eq!(word(&decision), expected, "{holds:?} {content:?}");
        }
        let counting = Options {
            deliver: false,
            ..options()
        };
        assert_eq!(
            word(&decide(
                &counting,
                false,
                prepared(Holds::Nothing, None, there(7, "e")),
                None
            )),
            "counted"
        );
        let insisting = Options {
            suppress: false,
            ..options()
        };
        assert_eq!(
            word(&decide(
                &insisting,
                false,
                prepared(Holds::Rendering(7), None, there(7, "e")),
                None
            )),
            "put e"
        );
    }

    #[test]
    fn under_another_key_the_old_one_is_deleted_first() {
        let tried = Tried {
            id: DeliveryId(1),
            digest: Some(7),
            newest: Sequence(8),
            key: "k3".into(),
            older_keys: Vec::new(),
        };
        for (keyed, holds, old, tried, new, expected) in [
            (
                true,
                Holds::Rendering(1),
                Some("k1"),
                None,
                "k2",
                "delete k1, put k2",
            ),
            (
                true,
                Holds::Rendering(1),
                None,
                None,
                "k2",
                "delete e, put k2",
            ),
            (true, Holds::Rendering(1), Some("k1"), None, "k1", "put k1"),
            (true, Holds::Nothing, None, None, "k2", "put k2"),
            (
                true,
                Holds::Unknown,
                Some("k1"),
                Some(&tried),
                "k2",
                "delete k1, delete k3, put k2",
            ),
            (false, Holds::Rendering(1), Some("k1"), None, "k2", "put k2"),
        ] {
            let decision = decide(
                &options(),
                keyed,
                prepared(holds, old, there(7, new)),
                tried,
            );
            assert_eq!(word(&decision), expected, "{old:?} → {new}");
        }
        let gone = decide(
            &options(),
            true,
            prepared(Holds::Unknown, Some("k1"), Content::Absent(0)),
            Some(&tried),
        );
        assert_eq!(
            word(&gone),
            "delete k3, delete k1",
            "a deletion goes wherever something may be"
        );
    }

    #[test]
    fn all_attempts_at_one_rendering_have_one_id_and_another_rendering_has_another() {
        let id = |content, tried: Option<&Tried>| match decide(
            &options(),
            false,
            prepared(Holds::Unknown, None, content),
            tried,
        ) {
            Decision::Send(ready) => ready.tried,
            other => panic!("{other:?}"),
        };
        let first = id(there(7, "e"), None);
        let earlier = Tried {
            id: DeliveryId(99),
            ..first.clone()
        };
        assert_eq!(id(there(7, "e"), Some(&earlier)).id, DeliveryId(99));
        assert_ne!(id(there(8, "e"), Some(&earlier)).id, DeliveryId(99));
        assert_ne!(id(there(8, "e"), None).id, first.id);
        let before_it_changed_and_came_back = Tried {
            newest: Sequence(3),
            ..earlier
        };
        assert_eq!(
            id(there(7, "e"), Some(&before_it_changed_and_came_back)).id,
            first.id
        );
    }

    #[test]
    fn an_outcome_decides_what_becomes_of_the_entity() {
        let ready = |key: &str| match decide(
            &options(),
            false,
            prepared(Holds::Nothing, None, there(7, key)),
            None,
        ) {
            Decision::Send(ready) => ready,
            other => panic!("{other:?}"),
        };
        let conclude = |attempts, outcome, probe| {
            conclude(
                &options(),
                &ready("e"),
                attempts,
                Sent {
                    outcome,
                    probe,
                    requests: Vec::new(),
                    attempt: None,
                },
                1.0,
            )
        };
        let word = |conclusion: Conclusion| match conclusion {
            Conclusion::Done(Ending::Refused(_)) => "refused".to_owned(),
            Conclusion::Done(outcome) => format!("{outcome:?}"),
            Conclusion::Park {
                attempts,
                wait,
                failed,
                ..
            } => {
                format!(
                    "parked {attempts} {}ms{}",
                    wait.as_millis(),
                    if failed { " failed" } else { "" }
                )
            }
            Conclusion::Pause { attempts, .. } => format!("pause {attempts}"),
        };
        let reason = String::new;
        let retry = || {
            Some(targets::Outcome::Retry {
                reason: reason(),
                maybe_applied: false,
            })
        };
        let throttled = |after| {
            Some(targets::Outcome::Throttled {
                reason: reason(),
                after,
            })
        };
        let refused = |after_tries| {
            Some(targets::Outcome::Refused {
                reason: reason(),
                after_tries,
            })
        };
        let repeat = Some(targets::Outcome::Repeat {
            reason: reason(),
            after: Duration::from_secs(75),
        });
        for (attempts, outcome, probe, expected) in [
            (3, None, false, "parked 3 0ms"),
            (3, repeat, false, "parked 3 75000ms"),
            (
                0,
                Some(targets::Outcome::Delivered),
                false,
                "Delivered { digest: 7, target_key: None }",
            ),
            (0, retry(), false, "parked 1 10ms failed"),
            (1, retry(), false, "parked 2 20ms failed"),
            (1, retry(), true, "parked 1 10ms failed"),
            (
                1,
                throttled(Some(Duration::from_secs(9))),
                false,
                "parked 2 9000ms failed",
            ),
            (255, retry(), false, "parked 255 200ms failed"),
            (0, refused(false), false, "refused"),
            (3, refused(true), false, "parked 4 80ms failed"),
            (4, refused(true), false, "parked 5 160ms failed"),
            (5, refused(true), false, "refused"),
            (
                4,
                Some(targets::Outcome::Trip { reason: reason() }),
                false,
                "parked 4 0ms",
            ),
            (
                4,
                Some(targets::Outcome::Pause { reason: reason() }),
                false,
                "pause 4",
            ),
        ] {
            assert_eq!(
                word(conclude(attempts, outcome.clone(), probe)),
                expected,
                "{outcome:?} after {attempts}"
            );
        }
        let other_key = super::conclude(
            &options(),
            &ready("k"),
            0,
            Sent {
                outcome: Some(targets::Outcome::Delivered),
                probe: false,
                requests: Vec::new(),
                attempt: None,
            },
            0.0,
        );
        assert_eq!(
            word(other_key),
            "Delivered { digest: 7, target_key: Some(\"k\") }"
        );
    }
}
