//! Adyen's standard webhooks: each notification of the body has a signature of eight of its members, in
//! the body itself. The other members, and the order of notifications, are not signed.
//!
//! What is verified must be what the plugins read later, so a member that is read here and written
//! twice is no notification of Adyen.

use base64::Engine;
use serde_json::value::RawValue;

use super::super::json;
use super::{MISMATCH, NotVerified, Scheme};
use crate::signature::BASE64;

/// The most notifications of a request; Adyen sends one, and a few at most.
const NOTIFICATIONS_MAX: usize = 100;

const EXPECTED: &str = "each of its `notificationItems` must have `additionalData.hmacSignature`; HMAC signatures are switched on in the Customer Area";

/// Verifies each notification of a body.
pub(super) fn verify(scheme: &Scheme, body: &[u8]) -> Result<(), NotVerified> {
    let unreadable = || NotVerified::InBody(EXPECTED);
    let notifications = notifications(body).ok_or_else(unreadable)?;
    for notification in &notifications {
        let (signature, signed) = signed(notification).ok_or_else(unreadable)?;
        if !scheme.is_by_secret(&[signature], &[signed.as_bytes()]) {
            return Err(NotVerified::Mismatch(MISMATCH));
        }
    }
    Ok(())
}

/// The notifications, if there is at least one and every one can be found.
fn notifications(body: &[u8]) -> Option<Vec<&RawValue>> {
    let text = json::text(body).ok()?;
    json::check(text).ok()?;
    let items = only(text, "notificationItems")??;
    let items = json::items(items.get(), NOTIFICATIONS_MAX + 1).ok()?;
    let notifications = items
        .into_iter()
        .map(|item| only(item.get(), "NotificationRequestItem").flatten())
        .collect::<Option<Vec<_>>>()?;
    (1..=NOTIFICATIONS_MAX)
        .contains(&notifications.len())
        .then_some(notifications)
}

/// The signature of a notification, and what it signs: values separated by colons, which are not
/// escaped; what is missing is empty.
fn signed(notification: &RawValue) -> Option<(Vec<u8>, String)> {
    let text = notification.get();
    let amount = only(text, "amount")?;
    let in_amount = |name| match amount {
        Some(amount) => written(only(amount.get(), name)?),
        None => Some(String::new()),
    };
    let of = |name| written(only(text, name)?);
    let values = [
        of("pspReference")?,
        of("originalReference")?,
        of("merchantAccountCode")?,
        of("merchantReference")?,
        in_amount("value")?,
        in_amount("currency")?,
        of("eventCode")?,
        of("success")?,
    ];
    let more = only(text, "additionalData")??;
    let signature = json::string(only(more.get(), "hmacSignature")??)?;
    Some((BASE64.decode(signature).ok()?, values.join(":")))
}

/// A scalar without quotes; `None` if it is something else.
fn written(value: Option<&RawValue>) -> Option<String> {
    let Some(value) = value else {
        return Some(String::new());
    };
    match value.get().trim() {
        "null" => Some(String::new()),
        text if text.starts_with('"') => json::string(value),
        text if text.starts_with(['{', '[']) => None,
        text => Some(text.to_owned()),
    }
}

/// The member of an object with this name; `None` if this is no object, or has it twice.
fn only<'a>(text: &'a str, name: &str) -> Option<Option<&'a RawValue>> {
    let members = json::members(text).ok()?;
    let mut named = members.into_iter().filter(|(there, _)| there == name);
    match (named.next(), named.next()) {
        (_, Some(_)) => None,
        (found, None) => Some(found.map(|(_, value)| value)),
    }
}
