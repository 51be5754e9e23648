//! Refresh tokens that an endpoint has given in place of the configured one.
//!
//! The old one ends with that, so everybody who was configured with it must use the new one: all targets
//! of this process with the same token, and after a restart too. Of them one renews at a time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use xxhash_rust::xxh3::Xxh3;

use super::{Grant, OAuth2};
use crate::signature::Secret;
use crate::sync::lock;

/// The refresh token in place of a configured one.
pub(super) struct Replaced {
    /// A digest of the configured one, and of where and for whom it is valid. It is stored, so it must be
    /// the same after each start.
    of: u64,
    current: Mutex<Option<Replacement>>,
    /// Held by the one who renews.
    pub(super) renewing: tokio::sync::Mutex<()>,
}

/// A refresh token in place of the configured one.
struct Replacement {
    token: Secret,
    /// How many there have been, with this one. Each target keeps the newest while it is configured, so one
    /// that comes back after a while has kept an older one than the others.
    number: u64,
    /// Whether this process got it. Then it is newer than any that was kept.
    ours: bool,
}

/// Those in use, by what they replace.
static IN_USE: Mutex<BTreeMap<u64, Weak<Replaced>>> = Mutex::new(BTreeMap::new());

impl Replaced {
    /// What replaces the refresh token of these options; `None` if they have none.
    pub(super) fn of(options: &OAuth2) -> Option<Arc<Replaced>> {
        let Grant::RefreshToken(token) = &options.grant else {
            return None;
        };
        let mut hasher = Xxh3::new();
        for part in [
            options.token_url.as_str().as_bytes(),
            options.client_id.as_bytes(),
            &token.0,
        ] {
            hasher.update(&part.len().to_le_bytes());
            hasher.update(part);
        }
        let of = hasher.digest();
        let mut in_use = lock(&IN_USE);
        in_use.retain(|_, replaced| replaced.strong_count() > 0);
        if let Some(replaced) = in_use.get(&of).and_then(Weak::upgrade) {
            return Some(replaced);
        }
        let replaced = Arc::new(Replaced {
            of,
            current: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
        });
        in_use.insert(of, Arc::downgrade(&replaced));
        Some(replaced)
    }

    /// The token to use in place of the configured one, if there is one.
    pub(super) fn token(&self) -> Option<Secret> {
        let current = lock(&self.current);
        current.as_ref().map(|current| current.token.clone())
    }

    pub(super) fn replace(&self, token: &str) {
        let token = Secret(token.as_bytes().to_vec());
        let mut current = lock(&self.current);
        let number = match &*current {
            // Many endpoints give the same one each time, which is not worth a write.
            Some(before) if before.token == token => before.number,
            Some(before) => before.number.saturating_add(1),
            None => 1,
        };
        *current = Some(Replacement {
            token,
            number,
            ours: true,
        });
    }

    /// It, for a later process; `None` if nothing was replaced.
    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let current = lock(&self.current);
        let current = current.as_ref()?;
        let (of, number) = (self.of.to_le_bytes(), current.number.to_le_bytes());
        Some([&of[..], &number[..], &current.token.0[..]].concat())
    }

    /// Takes what an earlier process has kept, if it replaces the same token and is newer than the one that
    /// is known.
    pub(super) fn take(&self, kept: &[u8]) {
        let Some((of, kept)) = kept.split_first_chunk::<8>() else {
            return;
        };
        let Some((number, token)) = kept.split_first_chunk::<8>() else {
            return;
        };
        let number = u64::from_le_bytes(*number);
        let mut current = lock(&self.current);
        let is_newer = current
            .as_ref()
            .is_none_or(|current| !current.ours && current.number < number);
        if u64::from_le_bytes(*of) == self.of && is_newer {
            *current = Some(Replacement {
                token: Secret(token.to_vec()),
                number,
                ours: false,
            });
        }
    }
}
