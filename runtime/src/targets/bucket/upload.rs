//! Objects that go in parts: equal parts, a few at a time, each with its own deadline, and nothing is to be
//! seen before the store has confirmed the whole.
//!
//! Parts that are not completed stay in a bucket, are not listed, and are paid for. So an upload is
//! remembered durably before its first part, is aborted when it fails or is given up, and what a crash
//! has left is aborted at the next start.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{PutMultipartOptions, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::carrier::watched;
use super::meaning::Verb;
use super::place::{Client, Cloud, Place};
use super::store::{Condition, Object, Store, attributes, judge};
use crate::targets::{BoxFuture, Memory, Outcome, Unusable};

/// Bytes of a part, unless there would be too many parts. All stores take it, and R2 wants parts of equal
/// size.
pub(super) const PART_BYTES: u64 = 8 * 1024 * 1024;
/// The most parts of an object; S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;
/// Parts in flight of one object.
const PARTS_IN_FLIGHT: usize = 3;
/// Unfinished uploads that are remembered; more are not begun.
const UPLOADS_MAX: usize = 1_000;
/// The name of the memory.
const MEMORY: &str = "uploads";

/// The content of an object.
pub(super) enum Content {
    Bytes(Bytes),
    /// A file of this length.
    File(Arc<File>, u64),
}

impl Content {
    /// Its length.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, bytes) => *bytes,
        }
    }

    /// A piece of it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) async fn piece(&self, from: u64, bytes: u64) -> Result<Bytes, String> {
        match self {
            Content::Bytes(all) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX).min(all.len());
                let to = from + usize::try_from(bytes).unwrap_or(0).min(all.len() - from);
                Ok(all.slice(from..to))
            }
            Content::File(file, _) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; usize::try_from(bytes).unwrap_or(0)];
                    file.read_exact_at(&mut piece, from)?;
                    Ok::<_, std::io::Error>(Bytes::from(piece))
                });
                match read.await {
                    Ok(Ok(piece)) => Ok(piece),
                    Ok(Err(error)) => Err(format!("the file cannot be read: {error}")),
                    Err(error) => Err(format!("the file cannot be read: {error}")),
                }
            }
        }
    }
}

/// An upload that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Upload {
    /// The bucket, because a target may be given another one.
    place: String,
    name: String,
    id: String,
}

/// The uploads that have begun and not ended.
pub(super) struct Uploads {
    place: String,
    memory: Arc<dyn Memory>,
    open: Mutex<Vec<Upload>>,
    /// What an earlier one has left, or could not be aborted yet.
    left: std::sync::Mutex<Vec<Upload>>,
}

impl Uploads {
    /// Those that an earlier one has left.
    ///
    /// # Errors
    /// The memory cannot be read.
    pub(super) fn recall(place: &Place, memory: Arc<dyn Memory>) -> Result<Uploads, Unusable> {
        let kept = memory.recall(MEMORY).map_err(Unusable)?;
        // What cannot be read is forgotten: then a lifecycle rule of the bucket has to remove the parts.
        let kept: Vec<Upload> = kept
            .and_then(|kept| serde_json::from_slice(&kept).ok())
            .unwrap_or_default();
        let place = place.shown();
        let left: Vec<Upload> = kept
            .into_iter()
            .filter(|upload| upload.place == place)
            .collect();
        Ok(Uploads {
            place,
            memory,
            open: Mutex::new(left.clone()),
            left: std::sync::Mutex::new(left),
        })
    }

    /// Aborts what an earlier one has left, and what could not be aborted yet.
    pub(super) fn sweep(self: Arc<Uploads>, client: Arc<dyn Client>) {
        let left = std::mem::take(&mut *crate::sync::lock(&self.left));
        if left.is_empty() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            for upload in left {
                self.abort(&client, &upload).await;
            }
        });
    }

    async fn begins(&self, upload: &Upload) -> Result<(), String> {
        let mut open = self.open.lock().await;
        if open.len() >= UPLOADS_MAX {
            return Err(format!(
                "{UPLOADS_MAX} uploads have begun and could not be removed"
            ));
        }
        open.push(upload.clone());
        self.save(&open).await
    }

    async fn ends(&self, upload: &Upload) {
        let mut open = self.open.lock().await;
        open.retain(|known| known != upload);
        if let Err(why) = self.save(&open).await {
            tracing::warn!(
                name = upload.name,
                why,
                "the end of an upload cannot be remembered; it is aborted once more at the next start"
            );
        }
    }

    async fn save(&self, open: &[Upload]) -> Result<(), String> {
        let value = (!open.is_empty()).then(|| serde_json::to_vec(open).unwrap_or_default());
        self.memory.remember(MEMORY, value).await
    }

    /// Aborts an upload, and forgets it when the store says that it is gone.
    async fn abort(&self, client: &Arc<dyn Client>, upload: &Upload) {
        let Ok(path) = Path::parse(&upload.name) else {
            return;
        };
        let aborted = watched(client.abort_multipart(&path, &upload.id)).await;
        let (result, seen) = aborted;
        // One that is not there any more was completed or aborted.
        match judge(Verb::Delete, result, seen.as_ref()) {
            Ok(()) => self.ends(upload).await,
            Err(outcome) => {
                let reason = crate::targets::http::reason(outcome);
                if reason.contains("NoSuchUpload") {
                    return self.ends(upload).await;
                }
                tracing::warn!(
                    name = upload.name,
                    reason,
                    "the parts of an unfinished upload cannot be removed now; it is tried again with the next large object and at the next start"
                );
                crate::sync::lock(&self.left).push(upload.clone());
            }
        }
    }
}

/// Aborts an upload when it is given up, also because the target is closed.
struct Guard {
    uploads: Arc<Uploads>,
    client: Arc<dyn Client>,
    upload: Option<Upload>,
}

impl Guard {
    async fn abort(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.uploads.abort(&self.client, &upload).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else {
            return;
        };
        // If the program ends before that, it is remembered.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (uploads, client) = (self.uploads.clone(), self.client.clone());
            runtime.spawn(async move { uploads.abort(&client, &upload).await });
        }
    }
}

impl Store {
    /// Puts an object in parts.
    pub(super) async fn put_parts(&self, object: Object, content: Content) -> Outcome {
        if object.condition != Condition::Any {
            // Not all stores can complete parts conditionally; the caller has looked before.
            tracing::debug!(
                name = object.name,
                "an object in parts is put unconditionally"
            );
        }
        let put = match self.place.cloud {
            // Parts that are not completed go by themselves after a week, and there is nothing to abort.
            Cloud::Azure => self.put_blocks(&object, &content).await,
            Cloud::S3 | Cloud::Gcs => self.put_multipart(&object, &content).await,
        };
        match put {
            Ok(()) => Outcome::Delivered,
            // The answer to the completion was lost, or may have been: what is there decides.
            Err(Outcome::Retry {
                reason,
                maybe_applied: true,
            }) => match self.look(&object.name).await {
                Ok(Some(stored)) if is_it(&stored, &object, content.bytes()) => Outcome::Delivered,
                _ => Outcome::Retry {
                    reason,
                    maybe_applied: true,
                },
            },
            Err(outcome) => outcome,
        }
    }

    async fn put_multipart(&self, object: &Object, content: &Content) -> Result<(), Outcome> {
        self.uploads.clone().sweep(self.client());
        let begin = |client: Arc<dyn Client>| -> BoxFuture<'static, _> {
            let object = object.clone();
            Box::pin(async move {
                let options = PutMultipartOptions {
                    attributes: attributes(&object.content_type, &object.metadata),
                    ..PutMultipartOptions::default()
                };
                let path = Path::parse(&object.name)?;
                client.create_multipart_opts(&path, options).await
            })
        };
        let id: String = self.run(Verb::Part, begin).await?;
        if id.is_empty() {
            return Err(Outcome::Retry {
                reason: "the store has given the upload no id".to_owned(),
                maybe_applied: false,
            });
        }
        let upload = Upload {
            place: self.uploads.place.clone(),
            name: object.name.clone(),
            id: id.clone(),
        };
        let mut guard = Guard {
            uploads: self.uploads.clone(),
            client: self.client(),
            upload: Some(upload.clone()),
        };
        let remembered = self.uploads.begins(&upload).await;
        let sent = match remembered {
            Ok(()) => self.send_parts(object, &id, content).await,
            Err(why) => Err(Outcome::Retry {
                reason: format!("the upload cannot be remembered, so it is not made: {why}"),
                maybe_applied: false,
            }),
        };
        let completed = match sent {
            Ok(parts) => self.complete(object, &id, parts).await,
            Err(outcome) => Err(outcome),
        };
        match completed {
            Ok(()) => {
                guard.upload = None;
                self.uploads.ends(&upload).await;
                Ok(())
            }
            Err(outcome) => {
                guard.abort().await;
                Err(outcome)
            }
        }
    }

    async fn send_parts(
        &self,
        object: &Object,
        id: &str,
        content: &Content,
    ) -> Result<Vec<PartId>, Outcome> {
        let path = parsed(&object.name)?;
        let (size, count) = parts(content.bytes());
        let mut done: Vec<Option<PartId>> = vec![None; count];
        let (mut sending, mut next) = (JoinSet::new(), 0);
        loop {
            while next < count && sending.len() < PARTS_IN_FLIGHT {
                let from = next as u64 * size;
                let piece = content.piece(from, size.min(content.bytes() - from)).await;
                let piece = piece.map_err(unread)?;
                let (client, path, id, at) = (self.client(), path.clone(), id.to_owned(), next);
                sending.spawn(async move {
                    let part = client.put_part(&path, &id, at, PutPayload::from(piece));
                    let (result, seen) = watched(part).await;
                    (at, judge(Verb::Part, result.map(Some), seen.as_ref()))
                });
                next += 1;
            }
            match sending.join_next().await {
                Some(Ok((at, part))) => done[at] = part?,
                Some(Err(error)) => return Err(unread(error.to_string())),
                None => break,
            }
        }
        let done: Option<Vec<PartId>> = done.into_iter().collect();
        done.ok_or_else(|| Outcome::Retry {
            reason: "the store has confirmed a part without naming it".to_owned(),
            maybe_applied: false,
        })
    }

    async fn complete(&self, object: &Object, id: &str, parts: Vec<PartId>) -> Result<(), Outcome> {
        let path = parsed(&object.name)?;
        let client = self.client();
        let (result, seen) = watched(client.complete_multipart(&path, &id.to_owned(), parts)).await;
        // Published is what the store confirms in words: an answer that cannot be read confirms nothing.
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(super::meaning::meaning(
                Verb::Put,
                seen.as_ref(),
                &error.to_string(),
                std::time::SystemTime::now(),
            )),
        }
    }

    /// The same for Azure, which needs no id.
    async fn put_blocks(&self, object: &Object, content: &Content) -> Result<(), Outcome> {
        let path = parsed(&object.name)?;
        let options = PutMultipartOptions {
            attributes: attributes(&object.content_type, &object.metadata),
            ..PutMultipartOptions::default()
        };
        let client = self.client();
        let (upload, seen) = watched(client.put_multipart_opts(&path, options)).await;
        let mut upload = match upload {
            Ok(upload) => upload,
            Err(error) => {
                return judge::<()>(Verb::Part, Err(error), seen.as_ref());
            }
        };
        let (size, count) = parts(content.bytes());
        let (mut sending, mut next) = (JoinSet::new(), 0);
        loop {
            while next < count && sending.len() < PARTS_IN_FLIGHT {
                let from = next as u64 * size;
                let piece = content.piece(from, size.min(content.bytes() - from)).await;
                let part = upload.put_part(PutPayload::from(piece.map_err(unread)?));
                sending.spawn(async move {
                    let (result, seen) = watched(part).await;
                    judge(Verb::Part, result, seen.as_ref())
                });
                next += 1;
            }
            match sending.join_next().await {
                Some(Ok(part)) => part?,
                Some(Err(error)) => return Err(unread(error.to_string())),
                None => break,
            }
        }
        let (result, seen) = watched(upload.complete()).await;
        judge(Verb::Put, result.map(|_| ()), seen.as_ref())
    }
}

fn parsed(name: &str) -> Result<Path, Outcome> {
    Path::parse(name).map_err(|error| Outcome::Refused {
        reason: format!("its name cannot be used: {error}"),
        after_tries: false,
    })
}

fn unread(reason: String) -> Outcome {
    Outcome::Retry {
        reason,
        maybe_applied: false,
    }
}

/// Bytes of a part, and the number of parts.
fn parts(bytes: u64) -> (u64, usize) {
    let least = bytes.div_ceil(PARTS_MAX).div_ceil(1024 * 1024) * 1024 * 1024;
    let size = least.max(PART_BYTES);
    (
        size,
        usize::try_from(bytes.div_ceil(size)).unwrap_or(usize::MAX),
    )
}

/// Whether what is there is this object: of its length, and with all its metadata.
fn is_it(stored: &super::store::Stored, object: &Object, bytes: u64) -> bool {
    let same = |(name, value): &(&'static str, String)| stored.value(name) == Some(value);
    !object.metadata.is_empty() && stored.bytes == bytes && object.metadata.iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_equal_and_never_too_many() {
        let mebibyte = 1024 * 1024;
        assert_eq!(parts(17 * mebibyte), (PART_BYTES, 3));
        assert_eq!(parts(300 * mebibyte), (PART_BYTES, 38));
        let (size, count) = parts(5 * 1024 * 1024 * mebibyte);
        assert!(
            count <= 10_000 && size <= 5 * 1024 * mebibyte,
            "{size} {count}"
        );
    }
}
