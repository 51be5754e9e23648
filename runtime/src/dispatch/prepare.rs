//! From an entity that was taken to what is to be delivered of it: read as it is now, viewed, filtered, rendered.
//!
//! A preparation waits until what it has read is durable: nothing leaves Weir that a power cut could take back.

use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::{Options, Setup};
use crate::model::{Entity, EntityId, Failure, Payload, Rendering, Sequence, Track, View, facet_matches};
use crate::plugin::{Class, EntityVerdict, Failed};
use crate::store::{Store, Taken, digest};

/// The most entities handed over to a chain at once, and
pub(crate) const RENDER_MAX: usize = 64;
/// the most bytes of values, whichever comes first.
const RENDER_BYTES_MAX: usize = 1024 * 1024;

/// Why an entity is not for a channel, as the store numbers it: deleted, or without any facet that the channel subscribes to;
pub const DELETED: u8 = 0;
/// something that the channel needs is not there;
pub const NEEDS: u8 = 1;
/// the renderer said no;
pub const NOT_RENDERED: u8 = 2;
/// the first filter said no; the n-th is so many further on.
pub const FILTERED: u8 = 3;

/// A future that can be made behind a `dyn` trait.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A channel's chain of filters and renderer, as one thing: whoever holds it is served by one version from the first filter
/// to the last retry.
pub trait Render: Send + Sync + 'static {
    /// One verdict a view, in order. At most 64 views of at most 1 MiB together are given, or a single larger one.
    fn render(&self, views: Arc<Vec<View>>, class: Class) -> BoxFuture<'_, Vec<EntityVerdict>>;

    /// Name and digest of the plugin that renders, `weir-plugin`; empty if there is only filters.
    fn label(&self) -> Arc<str>;
}

/// An entity with what is to become of it.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) taken: Taken,
    /// All changes up to it are in the content.
    pub(crate) revision: Sequence,
    /// Newest change of a facet that the channel subscribes to.
    pub(crate) newest: Sequence,
    /// None: the entity has been forgotten, so it is certainly nowhere.
    pub(crate) id: Option<EntityId>,
    pub(crate) content: Content,
}

/// What is to be at the target.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Nothing, and why.
    Absent(u8),
    /// This, under that key.
    There { rendering: Arc<Rendering>, digest: u64, key: Arc<str>, plugin: Arc<str> },
    /// A plugin failed on it.
    Failed(Failure),
    /// It could not be read, or the store has stopped: try again later.
    Unread(String),
}

/// What a preview shows: the entity as the channel sees it now, and what would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The facets the channel subscribes to.
    pub view: View,
    /// What would be delivered, or why nothing.
    pub verdict: PreviewVerdict,
}

/// What would become of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewVerdict {
    /// This would be delivered (or suppressed, if it is there already).
    Rendering(Arc<Rendering>),
    /// It is not for this channel; the reason as in [`crate::store::Outcome::Withheld`].
    Withheld(u8),
    /// A plugin fails on it.
    Failed(Failure),
}

/// Prepares entities that were taken from one track.
pub(crate) async fn prepare(
    setup: Arc<Setup>,
    store: Arc<dyn Store>,
    watermark: watch::Receiver<Sequence>,
    taken: Vec<Taken>,
) -> Vec<Prepared> {
    let ordinals: Vec<_> = taken.iter().map(|taken| taken.ordinal).collect();
    let entities = match store.read(&ordinals) {
        Ok(entities) => entities,
        Err(error) => return taken.into_iter().map(|taken| unread(taken, error.to_string())).collect(),
    };
    let newest = entities.iter().flatten().map(|entity| entity.newest()).max().unwrap_or_default();
    if durable(watermark, newest).await.is_err() {
        return taken.into_iter().map(|taken| unread(taken, "the store has stopped".into())).collect();
    }
    let class = match taken.first().map(|taken| taken.track) {
        Some(Track::Lane(crate::model::Lane::Bulk) | Track::Sweep) => Class::Bulk,
        _ => Class::Urgent,
    };
    let views: Vec<Option<View>> = entities.iter().map(|entity| Some(View::of(entity.as_deref()?, &setup.options.facets))).collect();
    let contents = contents(&setup.options, setup.chain.as_deref(), views, class).await;
    let whole = taken.into_iter().zip(entities).zip(contents);
    whole.map(|((taken, entity), content)| prepared(taken, entity.as_deref(), content, &setup.options)).collect()
}

/// What a channel would do with an entity now.
pub(crate) async fn preview(options: &Options, chain: Option<&dyn Render>, entity: &Entity) -> Preview {
    let view = View::of(entity, &options.facets);
    let content = contents(options, chain, vec![Some(view.clone())], Class::Urgent).await.pop();
    let verdict = match content {
        Some(Content::There { rendering, .. }) => PreviewVerdict::Rendering(rendering),
        Some(Content::Failed(failure)) => PreviewVerdict::Failed(failure),
        Some(Content::Absent(reason)) => PreviewVerdict::Withheld(reason),
        Some(Content::Unread(_)) | None => PreviewVerdict::Withheld(DELETED),
    };
    Preview { view, verdict }
}

async fn durable(mut watermark: watch::Receiver<Sequence>, sequence: Sequence) -> Result<(), watch::error::RecvError> {
    watermark.wait_for(|durable| *durable >= sequence).await.map(drop)
}

fn unread(taken: Taken, why: String) -> Prepared {
    Prepared { revision: taken.revision, newest: Sequence(0), id: None, content: Content::Unread(why), taken }
}

fn prepared(taken: Taken, entity: Option<&Entity>, content: Content, options: &Options) -> Prepared {
    let subscribed = |name: &str| options.facets.iter().any(|pattern| facet_matches(pattern, name));
    let facets = entity.into_iter().flat_map(|entity| &entity.facets).filter(|facet| subscribed(&facet.name));
    Prepared {
        revision: taken.revision.max(entity.map(Entity::newest).unwrap_or_default()),
        newest: facets.map(|facet| facet.sequence).max().unwrap_or_default(),
        id: entity.map(|entity| entity.id.clone()),
        content,
        taken,
    }
}

/// One content a view. Only what is there and has what the channel needs is shown to the chain.
async fn contents(options: &Options, chain: Option<&dyn Render>, mut views: Vec<Option<View>>, class: Class) -> Vec<Content> {
    let mut contents: Vec<Option<Content>> = views.iter().map(|view| lacks(view.as_ref(), &options.needs).map(Content::Absent)).collect();
    let open: Vec<usize> = (0..contents.len()).filter(|index| contents[*index].is_none()).collect();
    let mut open = open.into_iter().filter_map(|index| Some((index, views[index].take()?))).peekable();
    while open.peek().is_some() {
        let (mut indexes, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
        let fits = |batch: &Vec<View>, bytes: usize, view: &View| {
            batch.is_empty() || (batch.len() < RENDER_MAX && bytes + size(view) <= RENDER_BYTES_MAX)
        };
        while let Some((index, view)) = open.next_if(|(_, view)| fits(&batch, bytes, view)) {
            bytes += size(&view);
            indexes.push(index);
            batch.push(view);
        }
        let batch = Arc::new(batch);
        let verdicts = match chain {
            Some(chain) => chain.render(batch.clone(), class).await,
            None => vec![EntityVerdict::Passed; batch.len()],
        };
        let label = chain.map(Render::label).unwrap_or_default();
        let mut verdicts = verdicts.into_iter();
        for (index, view) in indexes.into_iter().zip(batch.iter()) {
            contents[index] = Some(content(view, verdicts.next(), &label));
        }
    }
    contents.into_iter().map(|content| content.unwrap_or(Content::Absent(DELETED))).collect()
}

fn size(view: &View) -> usize {
    view.facets.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Why a view is not for the channel before any plugin is asked, if so.
fn lacks(view: Option<&View>, needs: &[String]) -> Option<u8> {
    let Some(view) = view.filter(|view| !view.facets.is_empty()) else { return Some(DELETED) };
    let there = |need: &String| view.facets.iter().any(|(name, _)| facet_matches(need, name));
    (!needs.iter().all(there)).then_some(NEEDS)
}

fn content(view: &View, verdict: Option<EntityVerdict>, label: &Arc<str>) -> Content {
    let there = |rendering: Rendering, plugin: Arc<str>| {
        let key = rendering.key.as_deref().map_or_else(|| view.id.key.clone(), Arc::from);
        Content::There { digest: digest(&rendering), rendering: Arc::new(rendering), key, plugin }
    };
    match verdict {
        Some(EntityVerdict::Rendering(rendering)) => there(rendering, label.clone()),
        Some(EntityVerdict::Passed) => there(as_json(view), "".into()),
        Some(EntityVerdict::NotRendered) => Content::Absent(NOT_RENDERED),
        Some(EntityVerdict::Filtered(filter)) => Content::Absent(FILTERED.saturating_add(u8::try_from(filter).unwrap_or(u8::MAX))),
        // The host had no room for it, or is stopping: that says nothing of the entity.
        Some(EntityVerdict::Failed(Failed { failure, fault: true, .. })) if failure.code == "host" => Content::Unread(failure.message),
        Some(EntityVerdict::Failed(Failed { plugin, failure, .. })) => {
            Content::Failed(Failure::new("plugin", format!("{plugin}: {failure}")))
        }
        None => Content::Failed(Failure::new("plugin", "the chain gave fewer verdicts than it was given entities")),
    }
}

/// The rendering of a channel without a renderer: `{"type", "key", "facets": {name: value}}`.
fn as_json(view: &View) -> Rendering {
    struct Facets<'a>(&'a [(Arc<str>, Arc<str>)]);
    impl Serialize for Facets<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(Some(self.0.len()))?;
            for (name, value) in self.0 {
                // Stored values are valid JSON, and go out as they were written.
                let raw: &RawValue = serde_json::from_str(value).map_err(serde::ser::Error::custom)?;
                map.serialize_entry(&**name, raw)?;
            }
            map.end()
        }
    }
    #[derive(Serialize)]
    struct Whole<'a> {
        r#type: &'a str,
        key: &'a str,
        facets: Facets<'a>,
    }
    let whole = Whole { r#type: &view.id.entity_type, key: &view.id.key, facets: Facets(&view.facets) };
    let body = serde_json::to_string(&whole).expect("stored values are valid JSON");
    Rendering { key: None, content_type: None, body: Payload::Text(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(facets: &[(&str, &str)]) -> View {
        let id = EntityId { entity_type: "product".into(), key: "a\"b".into() };
        View { id, facets: facets.iter().map(|(name, value)| (Arc::from(*name), Arc::from(*value))).collect() }
    }

    #[test]
    fn without_a_renderer_the_facets_are_the_rendering() {
        let rendering = as_json(&view(&[("content", r#"{"title":"é"}"#), ("price.de", "1.50")]));
        let text = std::str::from_utf8(rendering.body.as_bytes()).expect("text");
        assert_eq!(text, r#"{"type":"product","key":"a\"b","facets":{"content":{"title":"é"},"price.de":1.50}}"#);
    }

    #[test]
    fn an_entity_lacks_what_no_facet_matches() {
        let needs = ["content".to_owned(), "price.de-*".to_owned()];
        for (facets, expected) in [
            (&[][..], Some(DELETED)),
            (&[("content", "1")], Some(NEEDS)),
            (&[("content", "1"), ("price.fr-b2b", "1")], Some(NEEDS)),
            (&[("content", "1"), ("price.de-b2b", "1")], None),
        ] {
            assert_eq!(lacks(Some(&view(facets)), &needs), expected, "{facets:?}");
        }
        assert_eq!(lacks(None, &[]), Some(DELETED));
    }
}
