//! How Weir authenticates to an HTTP target: the headers that every request carries.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use super::OAuth2;
use crate::signature::Secret;
use crate::targets::Unusable;

/// How Weir authenticates.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Auth {
    /// No credentials.
    #[default]
    None,
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// User name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// Arbitrary headers.
    Headers(Vec<(String, Secret)>),
    /// A token that is fetched and renewed. It is put on each request by itself.
    OAuth2(Box<OAuth2>),
}

/// The headers of every request: `User-Agent`, the credentials, and further ones. The values from the
/// configuration are marked as sensitive, which keeps them out of debug output.
///
/// # Errors
/// A name or a value that cannot be used in a header.
pub(super) fn headers(auth: &Auth, further: &[(String, Secret)]) -> Result<HeaderMap, Unusable> {
    let mut headers = HeaderMap::new();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION"))),
    );
    let mut put = |name: &str, value: &[u8]| {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Unusable(format!("{name:?} is not a header name")))?;
        let mut value = HeaderValue::from_bytes(value).map_err(|_| {
            Unusable(format!(
                "the value of header {name} has characters that cannot be sent"
            ))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(())
    };
    for (name, value) in further {
        put(name, &value.0)?;
    }
    match auth {
        Auth::None | Auth::OAuth2(_) => {}
        Auth::Bearer(token) => put(
            AUTHORIZATION.as_str(),
            &[b"Bearer ", token.0.as_slice()].concat(),
        )?,
        Auth::Basic { user, password } => {
            let pair = [user.as_bytes(), b":", &password.0].concat();
            put(
                AUTHORIZATION.as_str(),
                format!("Basic {}", STANDARD.encode(pair)).as_bytes(),
            )?;
        }
        Auth::Headers(list) => {
            for (name, value) in list {
                put(name, &value.0)?;
            }
        }
    }
    Ok(headers)
}
