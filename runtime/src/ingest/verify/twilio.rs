//! Twilio's signature: the URL as it was entered there, with its query, and then either the fields of a form,
//! in the order of their names, or nothing, and the hash of the body is in the URL. Names and values
//! of fields are not separated, so a signature also fits fields that are cut in other places.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::super::Headers;
use super::{MISMATCH, NotVerified, equal, parameter};

/// The parameter with the SHA-256 of a body that is no form, in hex.
pub(super) const BODY_HASH: &str = "bodySHA256";
/// The most fields of a form.
const FIELDS_MAX: usize = 1000;

/// What is signed.
pub(super) fn signed<'a>(
    url: String,
    headers: &Headers,
    body: &'a [u8],
) -> Result<Vec<Cow<'a, [u8]>>, NotVerified> {
    if let Some(hash) = parameter(headers.target(), BODY_HASH)? {
        let expected = hex::encode(Sha256::digest(body));
        return match equal(expected.as_bytes(), hash.to_ascii_lowercase().as_bytes()) {
            true => Ok(vec![Cow::Owned(url.into_bytes())]),
            false => Err(NotVerified::Mismatch(MISMATCH)),
        };
    }
    if memchr::memchr_iter(b'&', body).count() >= FIELDS_MAX {
        return Err(NotVerified::InBody("a form has at most 1000 fields"));
    }
    let mut fields: BTreeMap<Cow<'a, str>, BTreeSet<Cow<'a, str>>> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        fields.entry(name).or_default().insert(value);
    }
    let mut signed = url;
    for (name, values) in &fields {
        for value in values {
            signed.push_str(name);
            signed.push_str(value);
        }
    }
    Ok(vec![Cow::Owned(signed.into_bytes())])
}
