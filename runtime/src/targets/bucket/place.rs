//! Where a bucket is and with which credentials: as configured, and as a client of `object_store`.
//!
//! Everything is configured in words. Nothing is read from the environment or from files of other programs,
//! and the metadata service is asked only where the configuration says so.

use std::sync::Arc;
use std::time::Duration;

use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, RetryConfig};

use super::carrier::Carrier;
use crate::signature::Secret;
use crate::targets::Unusable;
use crate::targets::http::{Address, Connections};

/// A bucket as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Whose protocol it speaks.
    pub cloud: Cloud,
    /// Its name; of Azure, that of the container.
    pub bucket: String,
    /// Its region, for S3 only.
    pub region: Option<String>,
    /// Where the store is reached, if it is not the cloud's own.
    pub endpoint: Option<Address>,
    /// The credentials.
    pub auth: Auth,
    /// A checksum that is sent with each object, for S3 only; none by default, because many stores that are
    /// like S3 refuse it.
    pub checksum: Option<Checksum>,
    /// How long a request may wait while no byte moves. Default 30 s.
    pub timeout: Duration,
    /// How connections are made.
    pub connections: Connections,
}

/// Whose protocol a bucket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Amazon S3, and all that is like it.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Cloud {
    /// All of them, with the scheme of their URLs.
    pub const ALL: [(&'static str, Cloud); 3] =
        [("s3", Cloud::S3), ("gs", Cloud::Gcs), ("az", Cloud::Azure)];

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        let [(s3, _), (gs, _), (az, _)] = Cloud::ALL;
        match self {
            Cloud::S3 => s3,
            Cloud::Gcs => gs,
            Cloud::Azure => az,
        }
    }

    /// The longest name of an object, in bytes. Azure counts characters, of which the name of an entity's
    /// object has no others than ASCII.
    pub const NAME_BYTES_MAX: usize = 1024;

    /// The names under which an object has its sequence, its digest and its key. Azure allows no hyphen.
    pub(crate) fn metadata_names(self) -> [&'static str; 3] {
        match self {
            Cloud::S3 | Cloud::Gcs => ["weir-sequence", "weir-digest", "weir-key"],
            Cloud::Azure => ["weir_sequence", "weir_digest", "weir_key"],
        }
    }
}

/// Credentials of a bucket.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// An access key and its secret, perhaps for a while only; of Google Cloud Storage, an HMAC key.
    Key {
        /// The id of the key.
        key: String,
        /// Its secret.
        secret: Secret,
        /// The token of temporary credentials.
        token: Option<Secret>,
    },
    /// An account of Azure, with its key or a shared access signature.
    Account {
        /// Its name.
        account: String,
        /// How it is proven.
        proof: AccountProof,
    },
    /// The key file of a service account of Google, as JSON.
    ServiceAccount(Secret),
    /// What the cloud gives the machine. Azure needs the name of the account.
    Instance {
        /// The account of Azure.
        account: Option<String>,
    },
    /// None: the bucket is open, or a proxy signs.
    Anonymous {
        /// The account of Azure.
        account: Option<String>,
    },
}

/// What proves that one may use an account of Azure.
#[derive(Clone, Debug, PartialEq)]
pub enum AccountProof {
    /// The key of the account, in Base64.
    Key(Secret),
    /// A shared access signature: the query of a URL.
    Sas(Secret),
}

impl Auth {
    /// Whether tokens are asked for at another service, by TLS.
    pub(super) fn has_tokens(&self) -> bool {
        matches!(self, Auth::ServiceAccount(_))
    }

    /// Whether the metadata service is asked.
    pub(super) fn is_instance(&self) -> bool {
        matches!(self, Auth::Instance { .. })
    }

    /// What must not be shown.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        match self {
            Auth::Key { secret, token, .. } => {
                token.iter().chain([secret]).cloned().collect::<Vec<_>>()
            }
            Auth::Account { proof, .. } => match proof {
                AccountProof::Key(secret) => vec![secret.clone()],
                // Its parts are in the URL of each request, in whatever order.
                AccountProof::Sas(secret) => {
                    let pairs = url::form_urlencoded::parse(&secret.0);
                    let signature = pairs.filter(|(name, _)| name == "sig");
                    let signature = signature.map(|(_, it)| Secret(it.as_bytes().to_vec()));
                    signature.chain([secret.clone()]).collect()
                }
            },
            Auth::ServiceAccount(_) | Auth::Instance { .. } | Auth::Anonymous { .. } => Vec::new(),
        }
    }

    /// The account of Azure.
    fn account(&self) -> Option<&str> {
        match self {
            Auth::Account { account, .. } => Some(account),
            Auth::Instance { account } | Auth::Anonymous { account } => account.as_deref(),
            Auth::Key { .. } | Auth::ServiceAccount(_) => None,
        }
    }
}

/// A checksum that is sent with each object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256.
    Sha256,
    /// CRC-64/NVME.
    Crc64,
}

impl Checksum {
    /// All of them, with their words in a configuration.
    pub const WORDS: [(&'static str, Checksum); 2] =
        [("sha256", Checksum::Sha256), ("crc64nvme", Checksum::Crc64)];
}

/// All that is asked of a store.
pub(super) trait Client: ObjectStore + MultipartStore + PaginatedListStore {}

impl<T: ObjectStore + MultipartStore + PaginatedListStore> Client for T {}

impl Place {
    /// Splits a URL such as `s3://bucket/folder/{key}.json` into cloud, bucket and the rest. `None` if it is
    /// no such URL.
    pub fn split(url: &str) -> Option<(Cloud, &str, &str)> {
        let (scheme, rest) = url.split_once("://")?;
        let (_, cloud) = Cloud::ALL.into_iter().find(|(word, _)| *word == scheme)?;
        let (bucket, name) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fine = !bucket.is_empty() && bucket.len() <= 222 && bucket.bytes().all(plain);
        fine.then_some((cloud, bucket, name))
    }

    /// As it would be written: what two targets of the same bucket have in common.
    pub fn shown(&self) -> String {
        let endpoint = self.endpoint.as_ref().map_or("", Address::as_str);
        let account = self.auth.account().unwrap_or_default();
        format!(
            "{}://{} {account} {}",
            self.cloud.scheme(),
            self.bucket,
            endpoint.trim_end_matches('/')
        )
    }

    /// The cargo feature without which this build of Weir cannot use it.
    pub fn missing_feature(&self) -> Option<&'static str> {
        let (has, feature) = match (self.cloud, &self.auth) {
            (Cloud::S3, _) | (Cloud::Gcs, Auth::Key { .. }) => (cfg!(feature = "aws"), "aws"),
            (Cloud::Gcs, _) => (cfg!(feature = "gcp"), "gcp"),
            (Cloud::Azure, _) => (cfg!(feature = "azure"), "azure"),
        };
        (!has).then_some(feature)
    }

    /// How long after a request without an answer the store may still carry it out. A store that has the
    /// whole request answers well within the timeout.
    pub(crate) fn late(&self) -> Duration {
        self.timeout * 2
    }

    /// Whether the store takes one write a second of each object, and no more.
    pub fn is_slow_for_one_object(&self) -> bool {
        let r2 = |endpoint: &Address| {
            endpoint
                .host_and_port()
                .0
                .ends_with(".r2.cloudflarestorage.com")
        };
        self.cloud == Cloud::Gcs || self.endpoint.as_ref().is_some_and(r2)
    }

    fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("us-east-1")
    }

    /// Where the store is reached.
    ///
    /// # Errors
    /// Region or account make no URL.
    pub(super) fn address(&self) -> Result<Address, Unusable> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        let url = match self.cloud {
            Cloud::S3 => format!("https://s3.{}.amazonaws.com", self.region()),
            Cloud::Gcs => "https://storage.googleapis.com".to_owned(),
            Cloud::Azure => {
                let account = self.auth.account().unwrap_or_default();
                format!("https://{account}.blob.core.windows.net")
            }
        };
        Address::parse(&url).map_err(|_| Unusable(format!("{url} is not the URL of a store")))
    }

    /// A new client, with credentials that are not renewed yet.
    ///
    /// # Errors
    /// Credentials that cannot be used, or a cloud that this Weir was built without.
    pub(super) fn client(&self, carrier: &Carrier) -> Result<Arc<dyn Client>, Unusable> {
        let address = self.address()?;
        let built = match (self.cloud, &self.auth) {
            (Cloud::S3, _) | (Cloud::Gcs, Auth::Key { .. }) => self.s3(&address, carrier),
            (Cloud::Gcs, _) => self.gcs(carrier),
            (Cloud::Azure, _) => self.azure(&address, carrier),
        };
        built.map_err(|error| Unusable(format!("the bucket cannot be used: {error}")))
    }

    #[cfg(feature = "aws")]
    fn s3(&self, address: &Address, carrier: &Carrier) -> Built {
        use object_store::aws::{AmazonS3Builder, Checksum as Sum, S3ConditionalPut};
        let google = self.cloud == Cloud::Gcs;
        let mut builder = AmazonS3Builder::new()
            .with_http_connector(carrier.clone())
            .with_retry(never())
            .with_disable_bulk_delete(true)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_allow_http(!address.is_secure())
            .with_endpoint(address.as_str().trim_end_matches('/'))
            .with_region(if google { "auto" } else { self.region() })
            .with_bucket_name(&self.bucket);
        if let Some(checksum) = self.checksum {
            builder = builder.with_checksum_algorithm(match checksum {
                Checksum::Sha256 => Sum::SHA256,
                Checksum::Crc64 => Sum::CRC64NVME,
            });
        }
        builder = match &self.auth {
            Auth::Key { key, secret, token } => {
                let builder = builder
                    .with_access_key_id(key)
                    .with_secret_access_key(text(secret)?);
                match token {
                    Some(token) => builder.with_token(text(token)?),
                    None => builder,
                }
            }
            Auth::Anonymous { .. } => builder.with_skip_signature(true),
            // Without a key it asks the metadata service, to which `carrier` has a connection only if that
            // is configured.
            Auth::Instance { .. } | Auth::Account { .. } | Auth::ServiceAccount(_) => builder,
        };
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(not(feature = "aws"))]
    fn s3(&self, _: &Address, _: &Carrier) -> Built {
        Err(missing("aws"))
    }

    #[cfg(feature = "gcp")]
    fn gcs(&self, carrier: &Carrier) -> Built {
        use object_store::ClientOptions;
        use object_store::gcp::GoogleCloudStorageBuilder;
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_http_connector(carrier.clone())
            .with_retry(never())
            .with_bucket_name(&self.bucket);
        if let Some(endpoint) = &self.endpoint {
            let options = ClientOptions::new().with_allow_http(!endpoint.is_secure());
            builder = builder
                .with_client_options(options)
                .with_base_url(endpoint.as_str().trim_end_matches('/'));
        }
        builder = match &self.auth {
            Auth::ServiceAccount(json) => builder.with_service_account_key(text(json)?),
            Auth::Instance { .. } => {
                builder.with_credentials(Arc::new(super::google::Machine::new(carrier.clone())))
            }
            // Without credentials it would look for files of other programs.
            _ => builder
                .with_credentials(Arc::new(super::google::Nobody))
                .with_skip_signature(true),
        };
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(not(feature = "gcp"))]
    fn gcs(&self, _: &Carrier) -> Built {
        Err(missing("gcp"))
    }

    #[cfg(feature = "azure")]
    fn azure(&self, address: &Address, carrier: &Carrier) -> Built {
        use object_store::azure::{MicrosoftAzureBuilder, split_sas};
        let builder = MicrosoftAzureBuilder::new()
            .with_http_connector(carrier.clone())
            .with_retry(never())
            .with_allow_http(!address.is_secure())
            .with_endpoint(address.as_str().trim_end_matches('/').to_owned())
            .with_account(self.auth.account().unwrap_or_default())
            .with_container_name(&self.bucket);
        let builder = match &self.auth {
            Auth::Account { proof, .. } => match proof {
                AccountProof::Key(key) => builder
                    .with_access_key(text(key)?)
                    .with_credential_type("access_key"),
                AccountProof::Sas(sas) => builder
                    .with_sas_authorization(split_sas(text(sas)?.trim_start_matches('?'))?)
                    .with_credential_type("sas_token"),
            },
            Auth::Instance { .. } => builder.with_credential_type("managed_identity"),
            _ => builder
                .with_skip_signature(true)
                .with_bearer_token_authorization(""),
        };
        Ok(Arc::new(builder.build()?))
    }

    #[cfg(not(feature = "azure"))]
    fn azure(&self, _: &Address, _: &Carrier) -> Built {
        Err(missing("azure"))
    }
}

type Built = Result<Arc<dyn Client>, object_store::Error>;

/// Weir itself tries again, with the newest state.
fn never() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

fn text(secret: &Secret) -> Result<String, object_store::Error> {
    let text = str::from_utf8(&secret.0).map_err(|_| object_store::Error::NotSupported {
        source: "a secret is not text".into(),
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure")))]
fn missing(feature: &str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("this Weir was built without the feature {feature:?}").into(),
    }
}
