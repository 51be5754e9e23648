//! Proofs that are sent as they are: tokens and logins. Whoever reads a request can use them again, so
//! they need TLS.

use base64::Engine;

use super::super::Headers;
use super::{NotVerified, Place, any, equal, is_one_of, one, parameter};
use crate::signature::{BASE64, Secret};

pub(super) fn bearer(tokens: &[Secret], headers: &Headers) -> Result<(), NotVerified> {
    let expected = "write `Authorization: Bearer TOKEN`";
    let token = authorization(headers, "bearer", expected)?;
    if is_one_of(tokens, token) {
        return Ok(());
    }
    Err(NotVerified::Mismatch(
        "the bearer token is none of this source's tokens",
    ))
}

pub(super) fn basic(logins: &[Secret], headers: &Headers) -> Result<(), NotVerified> {
    let expected = "write `Authorization: Basic` and user:password in base64";
    let login = authorization(headers, "basic", expected)?;
    let login = BASE64
        .decode(login)
        .map_err(|_| unreadable("authorization", expected))?;
    if any(logins, |secret| equal(&secret.0, &login)) {
        return Ok(());
    }
    Err(NotVerified::Mismatch(
        "the user and password are none of this source's",
    ))
}

pub(super) fn token(
    place: &Place,
    tokens: &[Secret],
    headers: &Headers,
) -> Result<(), NotVerified> {
    let given = match place {
        Place::Header(name) => one(headers, name)?.trim().to_owned(),
        Place::Query(name) => parameter(headers.target(), name)?
            .ok_or_else(|| NotVerified::MissingParameter(name.clone()))?,
    };
    if is_one_of(tokens, &given) {
        return Ok(());
    }
    Err(NotVerified::Mismatch(
        "the token is none of this source's tokens",
    ))
}

/// What follows the name of a scheme, in whatever case that is written.
fn authorization<'a>(
    headers: &'a Headers,
    scheme: &str,
    expected: &str,
) -> Result<&'a str, NotVerified> {
    let value = one(headers, "authorization")?;
    match value.split_once(' ') {
        Some((given, proof)) if given.eq_ignore_ascii_case(scheme) => Ok(proof.trim()),
        _ => Err(unreadable("authorization", expected)),
    }
}

fn unreadable(header: &str, expected: &str) -> NotVerified {
    NotVerified::Unreadable {
        header: header.to_owned(),
        expected: expected.to_owned(),
    }
}
