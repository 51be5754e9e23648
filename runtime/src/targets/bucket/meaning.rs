//! The meaning of an answer of an object store, as a pure function of what was asked and what was said.
//!
//! The code of an error decides, not its status: a 403 may be the clock, a 400 an expired token, a 404 the
//! bucket, and a 200 a failure. The object is refused only for what the store says of the object; what it
//! says of the bucket, the credentials or the clock trips the target.

use std::time::{Duration, SystemTime};

use super::carrier::{Answered, Seen};
use crate::targets::Outcome;

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// An object, or the end of one that was sent in parts.
    Put,
    /// A part of an object, or the beginning of one in parts: nothing is to be seen of it.
    Part,
    Delete,
    /// What is there, which changes nothing.
    Look,
}

/// A look differs by this much from the clock of the store: deliveries will soon be refused.
pub(super) const SKEW_WARN: Duration = Duration::from_secs(120);

/// Whether the answer says that the credentials have expired.
pub(super) fn has_expired(seen: Option<&Seen>) -> bool {
    const CODES: [&str; 5] = [
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "RequestExpired",
        "InvalidToken",
    ];
    // The answer to a HEAD has no code, and S3 says 400 then.
    matches!(seen, Some(Seen::Answered(answer)) if !answer.credentials && (CODES.contains(&&*answer.code)
        || (matches!(answer.status, 400 | 401) && answer.code.is_empty())))
}

/// Whether the answer says that there is no such object.
pub(super) fn is_missing(seen: Option<&Seen>) -> bool {
    let Some(Seen::Answered(answer)) = seen else {
        return false;
    };
    !answer.credentials
        && match &*answer.code {
            "NoSuchKey" | "BlobNotFound" | "NoSuchVersion" => true,
            // A HEAD has no body. A body without a code is not a store's, but that of a proxy.
            "" => answer.status == 404 && answer.message.is_empty(),
            _ => false,
        }
}

/// Whether the answer says that the object is not the one that the request was for.
pub(super) fn is_overtaken(seen: Option<&Seen>) -> bool {
    const CODES: [&str; 4] = [
        "PreconditionFailed",
        "ConditionalRequestConflict",
        "ConditionNotMet",
        "BlobAlreadyExists",
    ];
    matches!(seen, Some(Seen::Answered(answer)) if CODES.contains(&&*answer.code) || answer.status == 412)
}

/// Whether the answer says that the credentials are good and do not allow this.
pub(super) fn may_not(seen: Option<&Seen>) -> bool {
    const CODES: [&str; 4] = [
        "AccessDenied",
        "AuthorizationPermissionMismatch",
        "AllAccessDisabled",
        "",
    ];
    matches!(seen, Some(Seen::Answered(answer)) if !answer.credentials && answer.status == 403
        && CODES.contains(&&*answer.code))
}

/// The outcome of a request that failed: of its answer, or of the reason why there was none. `error` is
/// what `object_store` makes of it, `now` the own time.
pub(super) fn meaning(verb: Verb, seen: Option<&Seen>, error: &str, now: SystemTime) -> Outcome {
    let changes = verb == Verb::Put || verb == Verb::Delete;
    let answer = match seen {
        None => {
            return Outcome::Trip {
                reason: format!("no request could be made: {error}"),
            };
        }
        // A look or a part that may have been carried out has changed nothing that is to be seen.
        Some(Seen::Broken(Outcome::Retry { reason, .. })) => {
            return Outcome::Retry {
                reason: reason.clone(),
                maybe_applied: changes,
            };
        }
        Some(Seen::Broken(outcome)) => return outcome.clone(),
        Some(Seen::Answered(answer)) => answer,
    };
    let reason = described(answer, error);
    let trip = |why: &str| Outcome::Trip {
        reason: format!("{why}: {reason}"),
    };
    let retry = |maybe_applied| Outcome::Retry {
        reason: reason.clone(),
        maybe_applied: maybe_applied && changes,
    };
    let refused = |after_tries| Outcome::Refused {
        reason: reason.clone(),
        after_tries,
    };
    if answer.credentials {
        return trip("the credentials cannot be renewed");
    }
    if is_missing(seen) && verb == Verb::Delete {
        return Outcome::Delivered;
    }
    match &*answer.code {
        "RequestTimeTooSkewed" => Outcome::Trip {
            reason: format!(
                "the store refuses requests because its clock and the one of this machine differ by more than 15 minutes: {}; correct the clock of this machine",
                times(answer, now)
            ),
        },
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired"
        | "InvalidToken" => trip("the credentials have expired: configure new ones"),
        "NoSuchBucket" | "ContainerNotFound" | "NoSuchContainer" | "ResourceNotFound" => {
            trip("there is no such bucket: create it")
        }
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException"
        | "IncorrectEndpoint" => elsewhere(answer, &reason),
        "SlowDown"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ServerBusy"
        | "BandwidthLimitExceeded"
        | "ServiceUnavailable"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "rateLimitExceeded" => Outcome::Throttled {
            reason,
            after: answer.wait,
        },
        "InternalError" | "OperationTimedOut" => retry(true),
        // The store did not get the whole body, or the body that was signed.
        "RequestTimeout"
        | "IncompleteBody"
        | "BadDigest"
        | "Md5Mismatch"
        | "OperationAborted"
        // To a write that depends on an object which is gone meanwhile.
        | "NoSuchKey"
        | "ConditionalRequestConflict"
        | "PreconditionFailed"
        | "ConditionNotMet"
        | "NoSuchUpload" => retry(false),
        "KeyTooLongError"
        | "KeyTooLong"
        | "InvalidResourceName"
        | "InvalidUri"
        | "InvalidURI"
        | "InvalidObjectName"
        | "XMinioInvalidObjectName"
        | "EntityTooLarge"
        | "RequestBodyTooLarge"
        | "MaxMessageLengthExceeded"
        | "MetadataTooLarge"
        | "RequestHeaderSectionTooLarge"
        | "UnsupportedMetadata" => refused(false),
        // A lease, a retention or an archived object: it may end.
        "LeaseIdMissing"
        | "InvalidObjectState"
        | "BlobArchived"
        | "BlobImmutableDueToPolicy"
        | "SnapshotsPresent"
        | "InvalidBlobType"
        | "ObjectLocked" => refused(true),
        "XAmzContentSHA256Mismatch" => {
            trip("the store does not take this form of signature or checksum")
        }
        "InvalidRequest"
            if answer.message.contains("checksum") || answer.message.contains("MD5") =>
        {
            trip("the bucket takes objects with a checksum only: write checksum = \"sha256\"")
        }
        // Said of each request: of the bucket, its encryption, the account, the form of requests.
        "InvalidRequest"
        | "InvalidBucketName"
        | "InvalidSecurity"
        | "InvalidEncryptionAlgorithmError"
        | "InvalidStorageClass"
        | "MissingSecurityHeader"
        | "MissingAuthenticationToken"
        | "MissingRequiredHeader"
        | "InvalidAuthenticationInfo"
        | "AccountRequiresHttps"
        | "UserProjectMissing"
        | "UserProjectInvalid" => trip("the store takes no such request for this bucket"),
        code if code.starts_with("KMS.") => {
            trip("the store cannot use the key with which the bucket is encrypted")
        }
        "QuotaExceeded"
        | "StorageFull"
        | "XMinioStorageFull"
        | "InsufficientStorage"
        | "AccountProblem"
        | "AccountIsDisabled"
        | "NotSignedUp" => trip("the store takes nothing"),
        _ => match answer.status {
            // An error without a code in an answer that says success: nothing is certain.
            200..=299 => match answer.code.is_empty() {
                true => Outcome::Retry {
                    reason: format!("the answer cannot be read: {error}"),
                    maybe_applied: changes,
                },
                false => retry(true),
            },
            300..=399 => elsewhere(answer, &reason),
            401 | 403 | 405 | 407 => {
                trip("the store allows no such request with these credentials")
            }
            404 => trip("the store has no such place"),
            409 | 412 => retry(false),
            413 | 414 => refused(false),
            429 | 503 => Outcome::Throttled {
                reason,
                after: answer.wait,
            },
            501 => trip("the store cannot do this"),
            507 => trip("the store is full"),
            500 | 502 | 504 => retry(true),
            // The answer to a look has no code. Most often the credentials have expired.
            400 if verb == Verb::Look && answer.code.is_empty() => {
                trip("the store does not say why it refuses to be asked; see credentials and region")
            }
            400 => refused(false),
            _ => retry(false),
        },
    }
}

fn elsewhere(answer: &Answered, reason: &str) -> Outcome {
    let where_to = match &answer.region {
        Some(region) => format!("it is in {region:?}: write region = {region:?}"),
        None => "correct region or endpoint".to_owned(),
    };
    Outcome::Trip {
        reason: format!("the bucket is in another region than configured; {where_to} ({reason})"),
    }
}

/// Both times, for users.
fn times(answer: &Answered, now: SystemTime) -> String {
    let own = httpdate::fmt_http_date(now);
    match answer.date {
        Some(there) => format!(
            "it is {} there and {own} here",
            httpdate::fmt_http_date(there)
        ),
        None => format!("it is {own} here"),
    }
}

fn described(answer: &Answered, error: &str) -> String {
    let Answered {
        status,
        code,
        message,
        ..
    } = answer;
    match (&**code, &**message) {
        ("", "") if (200..300).contains(status) => format!("answered {status}: {error}"),
        ("", "") => format!("answered {status}"),
        ("", message) => format!("answered {status}: {message}"),
        (code, "") => format!("answered {status} {code}"),
        (code, message) => format!("answered {status} {code}: {message}"),
    }
}

/// How far the clock of the store is from the own one, if that is worth a warning.
pub(super) fn skew(seen: Option<&Seen>, now: SystemTime) -> Option<String> {
    let Some(Seen::Answered(answer)) = seen else {
        return None;
    };
    let there = answer.date?;
    let apart = there
        .duration_since(now)
        .unwrap_or_else(|before| before.duration());
    (apart > SKEW_WARN).then(|| {
        format!(
            "the clocks differ: {}; from 15 minutes on the store refuses all requests",
            times(answer, now)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Delivered => "delivered".into(),
            Outcome::Retry { maybe_applied, .. } => match maybe_applied {
                true => "unknown".into(),
                false => "retry".into(),
            },
            Outcome::Throttled { after, .. } => match after {
                Some(after) => format!("throttled {}", after.as_secs()),
                None => "throttled".into(),
            },
            Outcome::Refused { after_tries, .. } => match after_tries {
                true => "refused later".into(),
                false => "refused".into(),
            },
            Outcome::Trip { .. } => "trip".into(),
            other => format!("{other:?}"),
        }
    }

    fn answer(status: u16, code: &str) -> Seen {
        Seen::Answered(Answered {
            status,
            code: code.into(),
            ..Answered::default()
        })
    }

    #[test]
    fn the_code_of_an_error_decides_and_not_its_status() {
        for (status, code, put, delete) in [
            (403, "RequestTimeTooSkewed", "trip", "trip"),
            (403, "AccessDenied", "trip", "trip"),
            (403, "SignatureDoesNotMatch", "trip", "trip"),
            (400, "ExpiredToken", "trip", "trip"),
            (400, "InvalidToken", "trip", "trip"),
            (400, "InvalidBucketName", "trip", "trip"),
            (400, "InvalidRequest", "trip", "trip"),
            (400, "KMS.DisabledException", "trip", "trip"),
            (400, "AccountRequiresHttps", "trip", "trip"),
            (409, "SnapshotsPresent", "refused later", "refused later"),
            (400, "InvalidArgument", "refused", "refused"),
            (404, "NoSuchBucket", "trip", "trip"),
            (404, "ContainerNotFound", "trip", "trip"),
            (404, "NoSuchKey", "retry", "delivered"),
            (404, "", "trip", "delivered"),
            (202, "BlobNotFound", "unknown", "delivered"),
            (301, "PermanentRedirect", "trip", "trip"),
            (301, "", "trip", "trip"),
            (307, "TemporaryRedirect", "trip", "trip"),
            (400, "AuthorizationHeaderMalformed", "trip", "trip"),
            (503, "SlowDown", "throttled", "throttled"),
            (429, "SlowDown", "throttled", "throttled"),
            (200, "SlowDown", "throttled", "throttled"),
            (503, "ServerBusy", "throttled", "throttled"),
            (429, "", "throttled", "throttled"),
            (200, "InternalError", "unknown", "unknown"),
            (200, "SomethingElse", "unknown", "unknown"),
            (200, "", "unknown", "unknown"),
            (500, "InternalError", "unknown", "unknown"),
            (500, "", "unknown", "unknown"),
            (400, "RequestTimeout", "retry", "retry"),
            (400, "IncompleteBody", "retry", "retry"),
            (400, "KeyTooLongError", "refused", "refused"),
            (400, "EntityTooLarge", "refused", "refused"),
            (413, "", "refused", "refused"),
            (412, "PreconditionFailed", "retry", "retry"),
            (412, "LeaseIdMissing", "refused later", "refused later"),
            (409, "ConditionalRequestConflict", "retry", "retry"),
            (409, "OperationAborted", "retry", "retry"),
            (400, "XAmzContentSHA256Mismatch", "trip", "trip"),
            (501, "NotImplemented", "trip", "trip"),
            (507, "", "trip", "trip"),
        ] {
            let seen = answer(status, code);
            let outcome = |verb| word(&meaning(verb, Some(&seen), "", SystemTime::now()));
            assert_eq!(outcome(Verb::Put), put, "PUT {status} {code}");
            assert_eq!(outcome(Verb::Delete), delete, "DELETE {status} {code}");
            assert_ne!(outcome(Verb::Look), "unknown", "HEAD {status} {code}");
        }
    }

    // A token had expired, and each entity that was looked at was refused: HEAD is answered without a code.
    // A proxy answered 404 with a page of its own, and deletions counted as done.
    #[test]
    fn an_answer_without_a_code_is_never_taken_for_what_a_store_says_of_an_object() {
        let now = SystemTime::now();
        let expired = answer(400, "");
        assert_eq!(word(&meaning(Verb::Look, Some(&expired), "", now)), "trip");
        assert!(has_expired(Some(&expired)));
        let page = Seen::Answered(Answered {
            status: 404,
            message: "<html>maintenance</html>".into(),
            ..Answered::default()
        });
        for verb in [Verb::Put, Verb::Delete, Verb::Look] {
            assert!(!is_missing(Some(&page)));
            assert_eq!(word(&meaning(verb, Some(&page), "", now)), "trip");
        }
    }

    #[test]
    fn a_wait_is_kept_to_and_both_times_and_the_region_are_named() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let base = Answered {
            status: 503,
            code: "SlowDown".into(),
            wait: Some(Duration::from_secs(7)),
            date: Some(at(1_000_000_000)),
            region: Some("eu-west-3".into()),
            ..Answered::default()
        };
        let say = |code: &str| {
            let answer = Answered {
                code: code.into(),
                ..base.clone()
            };
            meaning(
                Verb::Put,
                Some(&Seen::Answered(answer)),
                "",
                at(1_000_002_000),
            )
        };
        assert_eq!(word(&say("SlowDown")), "throttled 7");
        let skewed = crate::targets::http::reason(say("RequestTimeTooSkewed"));
        for expected in ["01:46:40 GMT there", "02:20:00 GMT here"] {
            assert!(skewed.contains(expected), "{skewed}");
        }
        let elsewhere = crate::targets::http::reason(say("PermanentRedirect"));
        assert!(
            elsewhere.contains("write region = \"eu-west-3\""),
            "{elsewhere}"
        );
        let seen = Seen::Answered(base);
        assert!(skew(Some(&seen), at(1_000_000_100)).is_none());
        assert!(skew(Some(&seen), at(1_000_000_200)).is_some());
    }

    #[test]
    fn an_answer_of_the_service_that_gives_credentials_never_refuses_an_entity() {
        let seen = Seen::Answered(Answered {
            status: 400,
            credentials: true,
            ..Answered::default()
        });
        assert_eq!(
            word(&meaning(Verb::Put, Some(&seen), "", SystemTime::now())),
            "trip"
        );
        assert!(!is_missing(Some(&seen)) && !has_expired(Some(&seen)));
    }
}
