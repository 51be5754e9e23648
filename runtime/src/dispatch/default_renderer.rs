//! The default rendering, for channels without a renderer. It is made once for all channels with
//! the same facets.
//!
//! Eighteen shops that take the same facets of a product get the same bytes. The cache is bounded
//! in bytes, and each entry belongs to one reading of an entity: after the entity has been read
//! from the store again, it is rendered again.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::prepare::FacetMatcher;
use crate::model::{Entity, Ordinal, PartsDigest, Payload, Rendering};
use crate::store::digest;

/// Maximum size of the cache in bytes: about ten thousand products, which is more than channels of
/// similar pace are apart.
const BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Weight of an entry in addition to its body, in bytes.
const ENTRY_BYTES: u64 = 200;
/// Bytes of a rendering beside its texts and values: of the whole, and of each facet.
const FRAME_BYTES: usize = r#"{"type":"","key":"","facets":{}}"#.len();
const FACET_BYTES: usize = r#","":"#.len();

/// A cache of recent default renderings. All channels of a process share one.
pub struct DefaultRenderer(Cache<Key, Made, Weight>);

/// The entity, and the digest of the facets that a channel subscribes to.
type Key = (Ordinal, u64);

#[derive(Clone)]
struct Made {
    /// The reading it was made from. It is held so that its address cannot be reused by another.
    reading: Arc<Entity>,
    rendering: Arc<Rendering>,
    digest: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Made> for Weight {
    fn weight(&self, _: &Key, made: &Made) -> u64 {
        // The reading is held too, and is about as large.
        2 * made.rendering.body.as_bytes().len() as u64 + ENTRY_BYTES
    }
}

impl Default for DefaultRenderer {
    fn default() -> DefaultRenderer {
        let expected = (BYTES_MAX / 2048) as usize;
        DefaultRenderer(Cache::with_weighter(expected, BYTES_MAX, Weight))
    }
}

impl DefaultRenderer {
    /// Returns the facets that a channel sees as JSON, and the digest of that rendering. `facets`
    /// is the [`facets_digest`] of the channel.
    pub(super) fn render(
        &self,
        ordinal: Ordinal,
        entity: &Arc<Entity>,
        facets: u64,
        matcher: &mut FacetMatcher<'_>,
    ) -> (Arc<Rendering>, u64) {
        let key = (ordinal, facets);
        if let Some(made) = self
            .0
            .get(&key)
            .filter(|made| Arc::ptr_eq(&made.reading, entity))
        {
            return (made.rendering, made.digest);
        }
        let rendering = Arc::new(as_json(entity, matcher));
        let digest = digest(&rendering);
        self.0.insert(
            key,
            Made {
                reading: entity.clone(),
                rendering: rendering.clone(),
                digest,
            },
        );
        (rendering, digest)
    }
}

/// A digest that identifies a list of facet patterns.
pub(super) fn facets_digest(facets: &[String]) -> u64 {
    let mut digest = PartsDigest::new();
    for facet in facets {
        digest.part(facet);
    }
    digest.digest64()
}

/// `{"type", "key", "facets": {name: value}}`. Stored values are valid JSON, and are sent as they were written, so
/// none is read again here.
pub(super) fn as_json(entity: &Entity, matcher: &mut FacetMatcher<'_>) -> Rendering {
    let seen: Vec<(&str, &str)> = entity
        .facets
        .iter()
        .filter(|facet| matcher.matches(&facet.name))
        .filter_map(|facet| Some((&*facet.name, facet.value.as_deref()?)))
        .collect();
    let bytes: usize = seen
        .iter()
        .map(|(name, value)| name.len() + value.len() + FACET_BYTES)
        .sum();
    // Values can have megabytes: no more is reserved than what is needed.
    let mut body =
        Vec::with_capacity(FRAME_BYTES + entity.id.entity_type.len() + entity.id.key.len() + bytes);
    body.extend_from_slice(b"{\"type\":");
    push_text(&mut body, &entity.id.entity_type);
    body.extend_from_slice(b",\"key\":");
    push_text(&mut body, &entity.id.key);
    body.extend_from_slice(b",\"facets\":");
    let mut before = b'{';
    for (name, value) in seen {
        body.push(before);
        push_text(&mut body, name);
        body.push(b':');
        body.extend_from_slice(value.as_bytes());
        before = b',';
    }
    body.extend_from_slice(if before == b'{' { b"{}}" } else { b"}}" });
    let body = String::from_utf8(body).expect("it is made of texts");
    Rendering {
        key: None,
        content_type: None,
        body: Payload::Text(body),
    }
}

/// Appends a text as JSON.
fn push_text(body: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(body, text).expect("a text can be written into memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::tests::entity;

    #[test]
    fn without_a_renderer_the_facets_are_the_rendering() {
        let facets = ["content".to_owned(), "price.*".to_owned()];
        let entity = entity(
            "a\"b",
            &[
                ("content", r#"{"title":"é"}"#),
                ("price.de", "1.50"),
                ("stock", "7"),
            ],
        );
        let rendering = as_json(&entity, &mut FacetMatcher::new(&facets));
        let text = std::str::from_utf8(rendering.body.as_bytes()).expect("text");
        assert_eq!(
            text,
            r#"{"type":"product","key":"a\"b","facets":{"content":{"title":"é"},"price.de":1.50}}"#
        );
    }

    #[test]
    fn channels_with_the_same_facets_share_what_is_made_of_one_reading() {
        let (renderer, few, all) = (
            DefaultRenderer::default(),
            ["content".to_owned()],
            ["content".to_owned(), "price".to_owned()],
        );
        let read = |price| Arc::new(entity("e", &[("content", "1"), ("price", price)]));
        let (first, again) = (read("2"), read("3"));
        let render = |entity, facets: &[String]| {
            renderer.render(
                Ordinal(1),
                entity,
                facets_digest(facets),
                &mut FacetMatcher::new(facets),
            )
        };
        let (one, digest) = render(&first, &all);
        assert!(Arc::ptr_eq(&one, &render(&first, &all).0), "made once");
        assert_ne!(digest, render(&first, &few).1, "other facets");
        assert_ne!(digest, render(&again, &all).1, "another reading");
    }
}
