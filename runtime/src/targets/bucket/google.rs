//! The credentials that Google's cloud gives a machine.
//!
//! `object_store` has its own, but looks for the files of other programs first.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use object_store::CredentialProvider;
use object_store::client::{HttpRequest, HttpRequestBody, HttpService};
use object_store::gcp::GcpCredential;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::carrier::Carrier;

/// Where a machine gets a token for its service account.
const URL: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// A token is renewed when it has less than this left.
const LEFT_MIN: Duration = Duration::from_secs(240);

/// The token of the machine's service account.
pub(super) struct Machine {
    carrier: Carrier,
    token: Mutex<Option<(Instant, Arc<GcpCredential>)>>,
}

/// No credentials.
#[derive(Debug)]
pub(super) struct Nobody;

#[derive(Deserialize)]
struct Token {
    access_token: String,
    expires_in: u64,
}

impl Machine {
    /// Without a token yet.
    pub(super) fn new(carrier: Carrier) -> Machine {
        Machine {
            carrier,
            token: Mutex::default(),
        }
    }

    async fn current(&self) -> object_store::Result<Arc<GcpCredential>> {
        let mut kept = self.token.lock().await;
        if let Some((until, token)) = &*kept
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let failed = |why: String| object_store::Error::Generic {
            store: "GCS",
            source: format!("no token from the metadata service: {why}").into(),
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = URL.parse().map_err(|_| failed(URL.to_owned()))?;
        let google = object_store::HeaderValue::from_static("Google");
        request.headers_mut().insert("metadata-flavor", google);
        let response = self.carrier.call(request).await;
        let response = response.map_err(|error| failed(error.to_string()))?;
        let status = response.status();
        let body = response.into_body().bytes().await;
        let body = body.map_err(|error| failed(error.to_string()))?;
        if !status.is_success() {
            return Err(failed(format!("it answered {}", status.as_u16())));
        }
        let token: Token =
            serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
        let left = Duration::from_secs(token.expires_in).saturating_sub(LEFT_MIN);
        let credential = Arc::new(GcpCredential {
            bearer: token.access_token,
        });
        *kept = Some((Instant::now() + left, credential.clone()));
        Ok(credential)
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Machine")
    }
}

type Credential<'a> =
    Pin<Box<dyn Future<Output = object_store::Result<Arc<GcpCredential>>> + Send + 'a>>;

impl CredentialProvider for Machine {
    type Credential = GcpCredential;

    fn get_credential<'life0, 'async_trait>(&'life0 self) -> Credential<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.current())
    }
}

impl CredentialProvider for Nobody {
    type Credential = GcpCredential;

    fn get_credential<'life0, 'async_trait>(&'life0 self) -> Credential<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async {
            Ok(Arc::new(GcpCredential {
                bearer: String::new(),
            }))
        })
    }
}
