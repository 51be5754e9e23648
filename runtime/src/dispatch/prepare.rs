//! Turns leased entities into what must be delivered: reads each as it is now, selects its facets,
//! filters and renders it.
//!
//! A preparation waits until the data it read is durable, so that nothing leaves Weir that a power
//! cut could undo.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Options, Setup, default_renderer};
use crate::happenings::Recorder;
use crate::model::{
    Entity, EntityId, Failure, Lane, Ordinal, Rendering, Sequence, Timestamp, Track, View,
    facet_matches, satisfied,
};
use crate::plugin::{EntityVerdict, Failed, Priority, Role, Room};
use crate::store::{Lease, Store, digest};

/// The maximum number of entities passed to a chain in one call.
pub(crate) const RENDER_MAX: usize = 64;
/// The maximum number of bytes of values passed to a chain in one call; the limit that is reached
/// first applies.
const RENDER_BYTES_MAX: usize = 1024 * 1024;
/// The longest content type of a rendering, in bytes. It becomes a header of the request, and servers
/// take 8 KiB of all headers, or less.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// Reason number, as the store keeps it, why an entity is not for a channel: the entity is deleted,
/// or has no facet that the channel subscribes to.
pub const DELETED: u8 = 0;
/// Reason number: a facet that the channel needs is missing.
pub const NEEDS: u8 = 1;
/// Reason number: the renderer returned no rendering.
pub const NOT_RENDERED: u8 = 2;
/// Reason number: the first filter dropped the entity. The following filters have the following
/// numbers.
pub const FILTERED: u8 = 3;

/// A future that a method of a `dyn` trait can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A channel's chain of filters and renderer as one value, so that its holder gets the same version
/// from the first filter to the last retry.
pub trait Render: Send + Sync + 'static {
    /// Returns one verdict for each view, in order; fewer if `room` has no place for more renderings.
    /// The caller passes at most 64 views of at most 1 MiB in total, or a single larger one.
    fn render<'a>(
        &'a self,
        views: Arc<Vec<View>>,
        priority: Priority,
        room: &'a Arc<Room>,
    ) -> BoxFuture<'a, Vec<EntityVerdict>>;

    /// Name and digest of the renderer, for the header `weir-plugin`; empty if there are only
    /// filters.
    fn label(&self) -> Arc<str>;

    /// What each entity passes, in order: the labels of plugins, each with its role.
    fn stages(&self) -> Vec<(Arc<str>, Role)> {
        Vec::new()
    }
}

/// A leased entity with its content for the target.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) taken: Lease,
    /// The content includes all changes up to this sequence.
    pub(crate) revision: Sequence,
    /// Newest change of a facet that the channel subscribes to.
    pub(crate) newest: Sequence,
    /// When the oldest change that is owed was committed. If a newer change covers it, to about a second.
    pub(crate) owed_at: Timestamp,
    /// `None` if the store has forgotten the entity; then no target holds it.
    pub(crate) id: Option<EntityId>,
    /// Bytes of the entity that was read.
    pub(crate) bytes: usize,
    pub(crate) content: Content,
    /// Has what its plugins have logged, if somebody looks.
    pub(crate) room: Option<Arc<Room>>,
}

/// The result of a preparation.
pub(crate) struct Preparation {
    pub(crate) prepared: Vec<Prepared>,
    /// Entities for which there was no memory; some may have been read, none is rendered.
    pub(crate) rest: Vec<Lease>,
    /// The bytes that the first of them needs, if that is known; if it was not even read because of its
    /// size, more than there were.
    pub(crate) needs: Option<usize>,
}

/// The memory for a preparation: for the entities that it reads, their renderings, and the copies of
/// these in the bodies of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// In bytes.
    pub(crate) bytes: usize,
    /// The channel has nothing else in memory. Then one entity may take any number of bytes,
    /// because there will never be more room for it.
    pub(crate) alone: bool,
}

impl Memory {
    /// The most bytes that are read. Without plugins a rendering is about as large as its entity, and
    /// takes that twice.
    fn reading(self) -> usize {
        self.bytes / 3
    }

    /// Room for renderings beside what was read.
    fn rendering(self, read: usize) -> Arc<Room> {
        let bytes = self.bytes.saturating_sub(read) / 2;
        Room::apart(bytes as u64, self.alone)
    }
}

/// What the target should hold for an entity.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Nothing; the number is the reason.
    Absent(u8),
    /// This rendering, under this key.
    There {
        rendering: Arc<Rendering>,
        digest: u64,
        key: Arc<str>,
        plugin: Option<Arc<str>>,
    },
    /// A plugin failed on it.
    Failed(Failure),
    /// The entity could not be read, or the store has stopped; the text says why. Try again later.
    Unread(String),
}

/// A preview: the entity as the channel sees it now, and what the channel would do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The facets that the channel subscribes to.
    pub view: View,
    /// What would be delivered, or why nothing would be.
    pub verdict: PreviewVerdict,
}

/// What the channel would do with an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewVerdict {
    /// This would be delivered, or suppressed if the target already holds it.
    Rendering(Arc<Rendering>),
    /// It is not for this channel; the number is the reason, as in
    /// [`crate::store::Ending::Withheld`].
    Withheld(u8),
    /// A plugin fails on it.
    Failed(Failure),
}

/// Prepares entities that were taken from one track, as many as there is memory for.
pub(crate) async fn prepare(
    setup: Arc<Setup>,
    store: Arc<dyn Store>,
    watermark: watch::Receiver<Sequence>,
    taken: Vec<Lease>,
    memory: Memory,
) -> Preparation {
    // The read must include each change that was decided when its entity was taken, because such a
    // change may have no place of its own.
    let decided = taken
        .iter()
        .map(|taken| taken.revision)
        .max()
        .unwrap_or_default();
    if durable(watermark.clone(), decided).await.is_err() {
        return stopped(taken, Vec::new());
    }
    let Read {
        taken,
        entities,
        unreadable,
        mut rest,
    } = read(store.as_ref(), taken, memory);
    let too_large = taken.is_empty() && unreadable.is_empty() && !rest.is_empty();
    let mut needs = too_large.then_some(2 * memory.bytes);
    let ordinals: Vec<_> = taken.iter().map(|taken| taken.ordinal).collect();
    let newest = entities
        .iter()
        .flatten()
        .map(|entity| entity.newest())
        .max()
        .unwrap_or_default();
    if durable(watermark, newest).await.is_err() {
        return stopped([taken, rest].concat(), unreadable);
    }
    let looks = looks(&setup.options, &entities);
    let mut heard = None;
    let contents = match &setup.chain {
        Some(chain) => {
            let priority = match taken.first().map(|taken| taken.track) {
                Some(Track::Lane(Lane::Bulk) | Track::Sweep) => Priority::Bulk,
                _ => Priority::Urgent,
            };
            let bytes = |entity: &Option<Arc<Entity>>| entity.as_ref().map_or(0, |it| it.bytes());
            let room = memory.rendering(entities.iter().map(bytes).sum());
            let taps = setup.recorder.as_ref().and_then(Recorder::taps);
            if taps.is_some_and(|taps| taps.expects(|_| true)) {
                room.listen();
                heard = Some(room.clone());
            }
            let options = &setup.options;
            let contents =
                rendered(chain.as_ref(), options, &entities, &looks, priority, &room).await;
            let first = contents.iter().position(Option::is_none);
            needs = first
                .map(|first| bytes(&entities[first]) + 2 * room.wanted() as usize)
                .or(needs);
            contents
        }
        None => as_it_is(&setup, &ordinals, &entities, &looks),
    };
    let whole = taken
        .into_iter()
        .zip(entities)
        .zip(looks.iter().zip(contents));
    let (mut done, mut not_rendered) = (unreadable, Vec::new());
    for ((taken, entity), (look, content)) in whole {
        match content {
            Some(content) => done.push(Prepared {
                room: heard.clone(),
                ..prepared(taken, entity.as_deref(), look, content)
            }),
            None => not_rendered.push(taken),
        }
    }
    rest.splice(0..0, not_rendered);
    Preparation {
        prepared: done,
        rest,
        needs,
    }
}

/// The store has stopped, so nothing can be prepared any more.
fn stopped(taken: Vec<Lease>, unreadable: Vec<Prepared>) -> Preparation {
    let stopped = |taken| unread(taken, "the store has stopped".into());
    Preparation {
        prepared: taken.into_iter().map(stopped).chain(unreadable).collect(),
        rest: Vec::new(),
        needs: None,
    }
}

/// Entities as they were read.
struct Read {
    taken: Vec<Lease>,
    entities: Vec<Option<Arc<Entity>>>,
    /// Those that cannot be read.
    unreadable: Vec<Prepared>,
    /// Those that were not read, because there was no memory for them.
    rest: Vec<Lease>,
}

/// Reads leased entities, as many as there is memory for. Those that cannot be read are returned
/// separately, so that one damaged entity does not hold up the others.
fn read(store: &dyn Store, mut taken: Vec<Lease>, memory: Memory) -> Read {
    let ordinals: Vec<_> = taken.iter().map(|taken| taken.ordinal).collect();
    let found = match store.read_within(&ordinals, memory.reading()) {
        Ok(none) if none.is_empty() && memory.alone => store.read(&ordinals[..1]),
        found => found,
    };
    if let Ok(entities) = found {
        let rest = taken.split_off(entities.len());
        return Read {
            taken,
            entities,
            unreadable: Vec::new(),
            rest,
        };
    }
    let mut read = Read {
        taken: Vec::new(),
        entities: Vec::new(),
        unreadable: Vec::new(),
        rest: Vec::new(),
    };
    let (mut left, mut leased) = (memory.reading(), taken.into_iter());
    for taken in leased.by_ref() {
        let any = memory.alone && read.taken.is_empty();
        let most = if any { usize::MAX } else { left };
        match store.read_within(&[taken.ordinal], most) {
            Ok(found) => match found.into_iter().next() {
                Some(entity) => {
                    left = left.saturating_sub(entity.as_ref().map_or(0, |it| it.bytes()));
                    read.entities.push(entity);
                    read.taken.push(taken);
                }
                None => {
                    read.rest.push(taken);
                    break;
                }
            },
            Err(error) => read.unreadable.push(unread(taken, error.to_string())),
        }
    }
    read.rest.extend(leased);
    read
}

/// What a channel would do with an entity now.
pub(crate) async fn preview(
    options: &Options,
    chain: Option<&dyn Render>,
    entity: &Arc<Entity>,
) -> Preview {
    let view = View::of(entity, &options.facets);
    let entities = [Some(entity.clone())];
    let looks = looks(options, &entities);
    let verdict = match (looks[0].lacks, chain) {
        (Some(lacks), _) => PreviewVerdict::Withheld(lacks),
        (None, None) => PreviewVerdict::Rendering(Arc::new(default_renderer::as_json(
            entity,
            &mut FacetMatcher::new(&options.facets),
        ))),
        (None, Some(chain)) => {
            let (room, urgent) = (Room::apart(0, true), Priority::Urgent);
            let mut contents = rendered(chain, options, &entities, &looks, urgent, &room).await;
            match contents.pop().flatten() {
                Some(Content::There { rendering, .. }) => PreviewVerdict::Rendering(rendering),
                Some(Content::Failed(failure)) => PreviewVerdict::Failed(failure),
                Some(Content::Absent(reason)) => PreviewVerdict::Withheld(reason),
                Some(Content::Unread(_)) | None => PreviewVerdict::Withheld(DELETED),
            }
        }
    };
    Preview { view, verdict }
}

async fn durable(
    mut watermark: watch::Receiver<Sequence>,
    sequence: Sequence,
) -> Result<(), watch::error::RecvError> {
    watermark
        .wait_for(|durable| *durable >= sequence)
        .await
        .map(drop)
}

fn unread(taken: Lease, why: String) -> Prepared {
    Prepared {
        revision: taken.revision,
        newest: Sequence(0),
        owed_at: taken.owed_at,
        id: None,
        bytes: 0,
        content: Content::Unread(why),
        room: None,
        taken,
    }
}

fn prepared(
    taken: Lease,
    entity: Option<&Entity>,
    look: &Eligibility,
    content: Content,
) -> Prepared {
    Prepared {
        revision: taken
            .revision
            .max(entity.map(Entity::newest).unwrap_or_default()),
        newest: look.newest,
        owed_at: owed_at(&taken, entity),
        id: entity.map(|entity| entity.id.clone()),
        bytes: entity.map_or(0, Entity::bytes),
        content,
        room: None,
        taken,
    }
}

/// When the oldest change that a delivery owes was committed.
fn owed_at(taken: &Lease, entity: Option<&Entity>) -> Timestamp {
    let facets = entity.into_iter().flat_map(|entity| &entity.facets);
    let mut oldest = facets.filter(|facet| facet.sequence == taken.owed_since);
    oldest.next().map_or(taken.owed_at, |facet| facet.time)
}

/// Decides which facets a channel sees. Many entities have facets of the same name, and these share
/// one allocation of it, so the result for a name is cached by its address, which is valid as long
/// as the entities are held.
pub(super) struct FacetMatcher<'a> {
    facets: &'a [String],
    known: Vec<(usize, bool)>,
}

impl<'a> FacetMatcher<'a> {
    pub(super) fn new(facets: &'a [String]) -> FacetMatcher<'a> {
        FacetMatcher {
            facets,
            known: Vec::new(),
        }
    }

    pub(super) fn matches(&mut self, name: &Arc<str>) -> bool {
        let address = name.as_ptr().addr();
        if let Some((_, seen)) = self.known.iter().find(|(known, _)| *known == address) {
            return *seen;
        }
        let seen = self
            .facets
            .iter()
            .any(|pattern| facet_matches(pattern, name));
        self.known.push((address, seen));
        seen
    }
}

/// What is known of an entity before any plugin is called.
struct Eligibility {
    /// Newest change of a facet that the channel subscribes to.
    newest: Sequence,
    /// The reason if it is not for the channel.
    lacks: Option<u8>,
}

fn looks(options: &Options, entities: &[Option<Arc<Entity>>]) -> Vec<Eligibility> {
    let mut sight = FacetMatcher::new(&options.facets);
    entities
        .iter()
        .map(|entity| look(entity.as_deref(), &options.needs, &mut sight))
        .collect()
}

fn look(entity: Option<&Entity>, needs: &[String], sight: &mut FacetMatcher<'_>) -> Eligibility {
    let (mut newest, mut any) = (Sequence(0), false);
    for facet in entity
        .into_iter()
        .flat_map(|entity| &entity.facets)
        .filter(|facet| sight.matches(&facet.name))
    {
        newest = newest.max(facet.sequence);
        any |= facet.value.is_some();
    }
    let there = |need: &String, sight: &mut FacetMatcher<'_>| {
        let facets = entity.into_iter().flat_map(|entity| &entity.facets);
        let there = facets.filter(|facet| facet.is_filled());
        satisfied(need, there.map(|facet| &facet.name), |name| {
            sight.matches(name)
        })
    };
    let lacks = match any {
        false => Some(DELETED),
        true => (!needs.iter().all(|need| there(need, sight))).then_some(NEEDS),
    };
    Eligibility { newest, lacks }
}

/// The contents for a channel without a chain: the facets as JSON.
fn as_it_is(
    setup: &Setup,
    ordinals: &[Ordinal],
    entities: &[Option<Arc<Entity>>],
    looks: &[Eligibility],
) -> Vec<Option<Content>> {
    let mut sight = FacetMatcher::new(&setup.options.facets);
    let facets = default_renderer::facets_digest(&setup.options.facets);
    let content =
        |((ordinal, entity), look): ((&Ordinal, &Option<Arc<Entity>>), &Eligibility)| match (
            entity, look.lacks,
        ) {
            (Some(entity), None) => {
                let (rendering, digest) = setup
                    .default_renderer
                    .render(*ordinal, entity, facets, &mut sight);
                Content::There {
                    rendering,
                    digest,
                    key: entity.id.key.clone(),
                    plugin: None,
                }
            }
            (_, lacks) => Content::Absent(lacks.unwrap_or(DELETED)),
        };
    ordinals
        .iter()
        .zip(entities)
        .zip(looks)
        .map(content)
        .map(Some)
        .collect()
}

/// Returns one content for each entity; `None` for those for whose renderings there is no room. The
/// chain gets only entities that exist and have what the channel needs.
async fn rendered(
    chain: &dyn Render,
    options: &Options,
    entities: &[Option<Arc<Entity>>],
    looks: &[Eligibility],
    priority: Priority,
    room: &Arc<Room>,
) -> Vec<Option<Content>> {
    let mut contents: Vec<Option<Content>> = looks
        .iter()
        .map(|look| look.lacks.map(Content::Absent))
        .collect();
    let open = (0..contents.len()).filter(|index| contents[*index].is_none());
    let views: Vec<(usize, View)> = {
        let mut sight = FacetMatcher::new(&options.facets);
        open.filter_map(|index| {
            let entity = entities[index].as_deref()?;
            Some((index, View::through(entity, |name| sight.matches(name))))
        })
        .collect()
    };
    let mut open = views.into_iter().peekable();
    let label = chain.label();
    while open.peek().is_some() && !room.was_full() {
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
        let verdicts = chain.render(batch.clone(), priority, room).await;
        let mut verdicts = verdicts.into_iter();
        for (index, view) in indexes.into_iter().zip(batch.iter()) {
            let verdict = verdicts.next();
            if verdict.is_none() && room.was_full() {
                break;
            }
            let entity = entities[index].as_deref();
            let passed = || as_json_of(entity, options);
            contents[index] = Some(content(view, verdict, &label, passed));
        }
    }
    contents
}

/// The rendering when a chain has only filters and they all pass the entity: the facets as JSON.
fn as_json_of(entity: Option<&Entity>, options: &Options) -> Option<Rendering> {
    entity.map(|entity| default_renderer::as_json(entity, &mut FacetMatcher::new(&options.facets)))
}

fn size(view: &View) -> usize {
    view.facets
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

fn content(
    view: &View,
    verdict: Option<EntityVerdict>,
    label: &Arc<str>,
    passed: impl FnOnce() -> Option<Rendering>,
) -> Content {
    let there = |rendering: Rendering, plugin: Option<Arc<str>>| {
        let length = rendering.content_type.as_deref().map_or(0, str::len);
        if length > CONTENT_TYPE_BYTES_MAX {
            let detail = format!(
                "{label}: the content type of the rendering has {length} bytes, and at most \
                 {CONTENT_TYPE_BYTES_MAX} are sent"
            );
            return Content::Failed(Failure::new("content-type-too-long", detail));
        }
        let key = rendering
            .key
            .as_deref()
            .map_or_else(|| view.id.key.clone(), Arc::from);
        Content::There {
            digest: digest(&rendering),
            rendering: Arc::new(rendering),
            key,
            plugin,
        }
    };
    match verdict {
        Some(EntityVerdict::Rendering(rendering)) => there(rendering, Some(label.clone())),
        Some(EntityVerdict::Passed) => {
            passed().map_or(Content::Absent(DELETED), |rendering| there(rendering, None))
        }
        Some(EntityVerdict::NotRendered) => Content::Absent(NOT_RENDERED),
        Some(EntityVerdict::Filtered(filter)) => {
            Content::Absent(FILTERED.saturating_add(u8::try_from(filter).unwrap_or(u8::MAX)))
        }
        // The plugin host had no room for the call, or is stopping; this says nothing about the
        // entity.
        Some(EntityVerdict::Failed(Failed {
            failure,
            fault: true,
            ..
        })) if failure.code == "host" => Content::Unread(failure.message),
        Some(EntityVerdict::Failed(Failed {
            plugin, failure, ..
        })) => Content::Failed(Failure::new("plugin", format!("{plugin}: {failure}"))),
        None => Content::Failed(Failure::new(
            "plugin",
            "the chain gave fewer verdicts than it was given entities",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::tests::entity;

    #[test]
    fn an_entity_lacks_what_no_facet_that_is_seen_matches() {
        let (facets, needs) = (
            ["content".to_owned(), "price.*".to_owned()],
            ["content".to_owned(), "price.de-*".to_owned()],
        );
        let lacks =
            |entity: Option<&Entity>| look(entity, &needs, &mut FacetMatcher::new(&facets)).lacks;
        for (there, expected) in [
            (&[][..], Some(DELETED)),
            (&[("stock", "1")], Some(DELETED)),
            (&[("content", "1")], Some(NEEDS)),
            (&[("content", "1"), ("price.fr-b2b", "1")], Some(NEEDS)),
            (&[("content", "1"), ("price.de-b2b", "1")], None),
        ] {
            assert_eq!(lacks(Some(&entity("e", there))), expected, "{there:?}");
        }
        assert_eq!(lacks(None), Some(DELETED));
        let mut gone = entity("e", &[("content", "1")]);
        gone.facets[0].value = None;
        assert_eq!(
            lacks(Some(&gone)),
            Some(DELETED),
            "a facet that was deleted is not there"
        );
    }

    // A renderer gave a content type of 1 MB. It was sent, and the shop answered 431 to each attempt.
    #[test]
    fn a_rendering_whose_content_type_is_too_long_is_refused_by_name() {
        let entity = entity("e", &[("content", "1")]);
        let view = View::through(&entity, |_| true);
        let prepared = |bytes: usize| {
            let rendering = Rendering {
                key: None,
                content_type: Some("x".repeat(bytes)),
                body: crate::model::Payload::Text("{}".into()),
            };
            let verdict = Some(EntityVerdict::Rendering(rendering));
            content(&view, verdict, &"page@1".into(), || None)
        };
        let fits = prepared(CONTENT_TYPE_BYTES_MAX);
        assert!(matches!(fits, Content::There { .. }), "{fits:?}");
        match prepared(CONTENT_TYPE_BYTES_MAX + 1) {
            Content::Failed(failure) => {
                assert_eq!(failure.code, "content-type-too-long");
                assert!(failure.message.starts_with("page@1: "), "{failure}");
            }
            other => panic!("{other:?}"),
        }
    }
}
