//! A bucket as a place for objects: put, put a file, look, delete, list.
//!
//! Each call is one request, and nothing is tried twice, except that credentials which have expired are
//! renewed once where the cloud gives them. A large object goes in parts (`upload`). Targets that write
//! whole files use [`Store`] too.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};

use super::carrier::{Carrier, Seen, watched};
use super::meaning::{Verb, has_expired, is_missing, is_overtaken, may_not, meaning, skew};
use super::place::{Client, Place};
use super::upload::{Content, PART_BYTES, Uploads};
use crate::sync::lock;
use crate::targets::http::{self, Address};
use crate::targets::{BoxFuture, Memory, Outcome, Unusable};

/// A larger object goes in parts.
pub(super) const WHOLE_BYTES_MAX: u64 = 2 * PART_BYTES;

/// A bucket that is ready.
pub(crate) struct Store {
    pub(super) place: Place,
    pub(super) carrier: Carrier,
    address: Address,
    client: Mutex<Arc<dyn Client>>,
    pub(super) uploads: Arc<Uploads>,
}

/// An object to put, without its content.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    /// Its name, of segments that are not empty.
    pub(crate) name: String,
    /// The media type of its content.
    pub(crate) content_type: String,
    /// Further metadata. Names are in lower case; values are ASCII without control characters.
    pub(crate) metadata: Vec<(&'static str, String)>,
    /// What must be there for it to be put.
    pub(crate) condition: Condition,
}

/// What must be there for an object to be put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Anything.
    #[default]
    Any,
    /// Nothing.
    Nothing,
    /// The object with this ETag and, of Google Cloud Storage, this version.
    Is {
        /// The ETag.
        etag: String,
        /// The version, where the store has one.
        version: Option<String>,
    },
}

/// What is in a bucket under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its ETag.
    pub(crate) etag: Option<String>,
    /// Its version, where the store names one.
    pub(crate) version: Option<String>,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// Its metadata, by names in lower case.
    pub(crate) metadata: Vec<(String, String)>,
}

impl Stored {
    /// That it is still there, unchanged. `None` if the store does not say what that is.
    pub(crate) fn condition(&self) -> Option<Condition> {
        let etag = self.etag.clone()?;
        Some(Condition::Is {
            etag,
            version: self.version.clone(),
        })
    }

    /// A value of its metadata.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let found = self.metadata.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The names.
    pub(crate) names: Vec<String>,
    /// Where the next page begins.
    pub(crate) next: Option<String>,
}

/// What a look at a bucket has found.
pub(crate) struct Checked {
    /// A warning, if the clocks differ.
    pub(crate) skew: Option<String>,
    /// Whether the credentials may list it.
    pub(crate) may_list: bool,
}

impl Store {
    /// Prepares a bucket without opening a connection. What an earlier one had begun to put and did not
    /// finish, as `memory` says, is removed.
    ///
    /// # Errors
    /// Credentials or certificates that cannot be used.
    pub(crate) fn open(place: &Place, memory: Arc<dyn Memory>) -> Result<Store, Unusable> {
        let address = place.address()?;
        let carrier = Carrier::open(place, &address)?;
        let client = place.client(&carrier)?;
        let uploads = Arc::new(Uploads::recall(place, memory)?);
        uploads.clone().sweep(client.clone());
        Ok(Store {
            place: place.clone(),
            carrier,
            address,
            client: Mutex::new(client),
            uploads,
        })
    }

    /// Puts an object.
    pub(crate) async fn put(&self, object: Object, body: Bytes) -> Outcome {
        if body.len() as u64 > WHOLE_BYTES_MAX {
            return self.put_parts(object, Content::Bytes(body)).await;
        }
        let work = |client: Arc<dyn Client>| -> BoxFuture<'static, _> {
            let (object, body) = (object.clone(), body.clone());
            Box::pin(async move {
                let options = PutOptions {
                    mode: match object.condition {
                        Condition::Any => PutMode::Overwrite,
                        Condition::Nothing => PutMode::Create,
                        Condition::Is { etag, version } => PutMode::Update(UpdateVersion {
                            e_tag: Some(etag),
                            version,
                        }),
                    },
                    attributes: attributes(&object.content_type, &object.metadata),
                    ..PutOptions::default()
                };
                let path = Path::parse(&object.name)?;
                client
                    .put_opts(&path, PutPayload::from(body), options)
                    .await?;
                Ok(())
            })
        };
        match self.run(Verb::Put, work).await {
            Ok(()) => Outcome::Delivered,
            Err(outcome) => outcome,
        }
    }

    /// Puts a file of this length as an object. It is read piece by piece and must not change meanwhile.
    pub(crate) async fn put_file(&self, object: Object, file: Arc<File>, bytes: u64) -> Outcome {
        let content = Content::File(file, bytes);
        if bytes <= WHOLE_BYTES_MAX {
            return match content.piece(0, bytes).await {
                Ok(body) => self.put(object, body).await,
                Err(reason) => Outcome::Retry {
                    reason,
                    maybe_applied: false,
                },
            };
        }
        self.put_parts(object, content).await
    }

    /// What is under a name; `None` if nothing is.
    ///
    /// # Errors
    /// The outcome, if that is not known.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<Stored>, Outcome> {
        let name = name.to_owned();
        let work = |client: Arc<dyn Client>| -> BoxFuture<'static, _> {
            let name = name.clone();
            Box::pin(async move {
                let options = GetOptions {
                    head: true,
                    ..GetOptions::default()
                };
                let found = client.get_opts(&Path::parse(&name)?, options).await?;
                let metadata = found
                    .attributes
                    .iter()
                    .filter_map(|(name, value)| match name {
                        Attribute::Metadata(name) => {
                            Some((name.to_ascii_lowercase(), value.as_ref().to_owned()))
                        }
                        _ => None,
                    });
                Ok(Some(Stored {
                    etag: found.meta.e_tag.clone(),
                    version: found.meta.version.clone(),
                    bytes: found.meta.size,
                    metadata: metadata.collect(),
                }))
            })
        };
        self.run(Verb::Look, work).await
    }

    /// Deletes an object; that there is none is as good.
    pub(crate) async fn delete(&self, name: &str) -> Outcome {
        let name = name.to_owned();
        let work = |client: Arc<dyn Client>| -> BoxFuture<'static, _> {
            let name = name.clone();
            Box::pin(async move { client.delete(&Path::parse(&name)?).await })
        };
        match self.run(Verb::Delete, work).await {
            Ok(()) => Outcome::Delivered,
            Err(outcome) => outcome,
        }
    }

    /// The names that begin so, a page of at most `most` at a time.
    ///
    /// # Errors
    /// The outcome, if they are not known.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Listed, Outcome> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        let work = |client: Arc<dyn Client>| -> BoxFuture<'static, _> {
            let (prefix, after) = (prefix.clone(), after.clone());
            Box::pin(async move {
                let options = PaginatedListOptions {
                    max_keys: Some(most),
                    page_token: after,
                    ..PaginatedListOptions::default()
                };
                let prefix = (!prefix.is_empty()).then_some(prefix);
                let page = client.list_paginated(prefix.as_deref(), options).await?;
                let names = page.result.objects.into_iter();
                Ok(Some(Listed {
                    names: names.map(|object| object.location.to_string()).collect(),
                    next: page.page_token,
                }))
            })
        };
        // A list always exists, also an empty one: what is missing is the bucket.
        let listed: Option<Listed> = self.run(Verb::Look, work).await?;
        listed.ok_or_else(|| Outcome::Trip {
            reason: "there is no such bucket: create it".to_owned(),
        })
    }

    /// Looks at the bucket: the connection, the rights, the clock.
    ///
    /// # Errors
    /// What is wrong, as a phrase for the operator.
    pub(crate) async fn check(&self, prefix: &str) -> Result<Checked, String> {
        self.carrier.reach(&self.address).await?;
        let client = self.client();
        let options = PaginatedListOptions {
            max_keys: Some(1),
            ..PaginatedListOptions::default()
        };
        let prefix = (!prefix.is_empty()).then_some(prefix);
        let (listed, seen) = watched(client.list_paginated(prefix, options)).await;
        let checked = Checked {
            skew: skew(seen.as_ref(), SystemTime::now()),
            may_list: !may_not(seen.as_ref()),
        };
        if !checked.may_list {
            return Ok(checked);
        }
        let listed = judge(Verb::Look, listed.map(|_| true), seen.as_ref());
        // A list of a bucket that is not there has nothing that could be missing but the bucket.
        match listed.map_err(http::reason)? {
            true => Ok(checked),
            false => Err("there is no such bucket: create it".to_owned()),
        }
    }

    pub(super) fn client(&self) -> Arc<dyn Client> {
        lock(&self.client).clone()
    }

    /// Makes a request, once more with new credentials if those of the cloud have expired.
    pub(super) async fn run<T: Default>(
        &self,
        verb: Verb,
        work: impl Fn(Arc<dyn Client>) -> BoxFuture<'static, object_store::Result<T>>,
    ) -> Result<T, Outcome> {
        let (result, seen) = watched(work(self.client())).await;
        let (result, seen) = match result {
            Err(_) if has_expired(seen.as_ref()) && self.place.auth.is_instance() => {
                let renewed = self.place.client(&self.carrier);
                let renewed = renewed.map_err(|unusable| Outcome::Trip { reason: unusable.0 })?;
                *lock(&self.client) = renewed.clone();
                watched(work(renewed)).await
            }
            _ => (result, seen),
        };
        judge(verb, result, seen.as_ref())
    }
}

/// What a result means.
pub(super) fn judge<T: Default>(
    verb: Verb,
    result: object_store::Result<T>,
    seen: Option<&Seen>,
) -> Result<T, Outcome> {
    let error = match result {
        Ok(done) => return Ok(done),
        Err(error) => error,
    };
    match (verb, seen) {
        (Verb::Look, _) if is_missing(seen) => return Ok(T::default()),
        // Some stores name no ETag, which `object_store` insists on.
        (Verb::Put, Some(Seen::Answered(answer)))
            if (200..300).contains(&answer.status)
                && answer.code.is_empty()
                && !is_overtaken(seen) =>
        {
            return Ok(T::default());
        }
        _ => {}
    }
    match meaning(verb, seen, &error.to_string(), SystemTime::now()) {
        Outcome::Delivered => Ok(T::default()),
        outcome => Err(outcome),
    }
}

/// The attributes of an object.
pub(super) fn attributes(content_type: &str, metadata: &[(&'static str, String)]) -> Attributes {
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentType, content_type.to_owned().into());
    for (name, value) in metadata {
        attributes.insert(Attribute::Metadata((*name).into()), value.clone().into());
    }
    attributes
}
