//! The interface of the routes, implemented on what is running now.

use std::sync::Arc;

use super::intake::{HttpIntake, redrive_ended, redriven};
use super::memories::note_of_latencies;
use super::sweeps::counts;
use super::{BACKUP, BACKUPS, Inner, blocking, figures, retired, standing, trial, views, way};
use crate::dispatch::{self, Channel};
use crate::happenings::Hash;
use crate::metrics::Snapshot;
use crate::model::{EntityId, Ordinal, Sequence};
use crate::plan::{self, Front, Token};
use crate::server::views::{
    BackupView, ChannelEntitiesView, ChannelView, ConfigView, EntityRow, EntityView, FacetView,
    JobView, List, PluginView, PreviewView, QuarantineView, ReceiptView, RefusedView, ReloadView,
    RenderingView, RequestPreviewView, SourceView, SwapView,
};
use crate::server::{
    self, Backend, DriftRequest, EntityQuery, IngestRequest, Intake, Look, Operate, Operation,
    Page, Problem, QuarantineFilter, ReceiptQuery, RedriveRequest, RefusedFilter, Reply, Settle,
    Settled, Setup, StateQuery,
};
use crate::store::{self, ListQuery, QuarantinedEvent, Queue, Refused, Shelf};
use crate::sync::lock;
use crate::tap::{Point, Side};
use crate::targets::feed;

/// Entities or events read at once while a filter is applied.
const PIECE: usize = 500;
/// The most bytes of events on a page of the quarantine; a single larger one is a page of its own.
const PAGE_BYTES_MAX: u64 = 8 << 20;

impl Backend for Inner {
    fn tokens(&self) -> Arc<[Token]> {
        self.live.load().plan.tokens.as_slice().into()
    }

    fn front(&self) -> Arc<Front> {
        self.live.load().plan.server.front.clone()
    }

    fn intake(&self, source: &str) -> Option<Arc<dyn Intake>> {
        let intake = self.live.load().sources.get(source)?.clone();
        Some(intake)
    }
}

/// When to ask again for a feed that has no generation yet, and to confirm one that could not be.
const FIRST_GENERATION_AFTER: std::time::Duration = std::time::Duration::from_secs(60);

impl Look for Inner {
    fn sources(&self) -> Vec<SourceView> {
        let live = self.live.load();
        live.sources
            .iter()
            .map(|(name, intake)| views::source(&live, name, intake))
            .collect()
    }

    fn source(&self, name: &str) -> Result<SourceView, Problem> {
        Ok(views::source(
            &self.live.load(),
            name,
            &*self.known_source(name)?,
        ))
    }

    fn entity<'a>(&'a self, id: &'a EntityId) -> Reply<'a, EntityView> {
        Box::pin(async move {
            self.known_type(&id.entity_type)?;
            let ordinal = self.known_entity(id)?;
            let entity = self
                .store
                .read(&[ordinal])
                .map_err(failed)?
                .pop()
                .flatten()
                .filter(|entity| entity.id == *id)
                .ok_or_else(|| no_entity(id))?;
            let live = self.live.load();
            let channels = live
                .channels
                .values()
                .map(|channel| {
                    let standing = channel.queue().standing(ordinal);
                    standing::of(&live, channel, ordinal, &entity, standing)
                })
                .chain(retired::standings(self.store.as_ref(), ordinal));
            Ok(EntityView {
                entity_type: id.entity_type.to_string(),
                key: id.key.to_string(),
                facets: entity.facets.iter().map(FacetView::of).collect(),
                channels: channels.collect(),
                way: way::of(&self.happenings, id),
            })
        })
    }

    fn receipt<'a>(&'a self, id: &'a EntityId, query: ReceiptQuery) -> Reply<'a, ReceiptView> {
        Box::pin(self.receipt_of(id, query))
    }

    fn entities<'a>(
        &'a self,
        query: &'a EntityQuery,
        page: &'a Page,
    ) -> Reply<'a, List<EntityRow>> {
        Box::pin(async move {
            self.known_type(&query.entity_type)?;
            if let Some(channel) = &query.owed {
                self.known_channel(channel)?;
            }
            let (store, query, wanted) = (self.store.clone(), query.clone(), page.clone());
            let found = blocking(move || {
                store.list(&ListQuery {
                    entity_type: &query.entity_type,
                    prefix: &query.prefix,
                    after: wanted.after.as_deref(),
                    owed: query.owed.as_deref(),
                    limit: wanted.limit,
                })
            })
            .await;
            let next = found
                .last()
                .filter(|_| found.len() == page.limit)
                .map(|(_, id)| id.key.to_string());
            let row = |(_, id): (Ordinal, EntityId)| EntityRow {
                entity_type: id.entity_type.to_string(),
                key: id.key.to_string(),
            };
            Ok(List {
                items: found.into_iter().map(row).collect(),
                next,
            })
        })
    }

    fn channels(&self) -> Vec<ChannelView> {
        let live = self.live.load();
        let mut all: Vec<_> = live
            .channels
            .values()
            .map(|channel| views::channel(&live, channel, &self.sweeps, &self.jobs))
            .collect();
        let retired = self
            .store
            .remembered()
            .into_iter()
            .filter(|channel| !live.channels.contains_key(channel.name.as_str()));
        all.extend(retired.map(|channel| views::retired(&channel)));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn channel(&self, name: &str) -> Result<ChannelView, Problem> {
        let live = self.live.load();
        if let Some(channel) = live.channels.get(name) {
            return Ok(ChannelView {
                oldest: views::oldest(&live, channel, &*self.store),
                ..views::channel(&live, channel, &self.sweeps, &self.jobs)
            });
        }
        let mut remembered = self.store.remembered().into_iter();
        remembered
            .find(|channel| channel.name == name)
            .map(|channel| views::retired(&channel))
            .ok_or_else(|| Problem::unknown("channel", name))
    }

    fn channel_entities<'a>(
        &'a self,
        channel: &'a str,
        query: &'a StateQuery,
        page: &'a Page,
    ) -> Reply<'a, ChannelEntitiesView> {
        Box::pin(async move {
            let channel = self.known_channel(channel)?;
            let (live, store) = (self.live.load_full(), self.store.clone());
            let (query, page) = (query.clone(), page.clone());
            Ok(blocking(move || standing::in_state(&live, &channel, &*store, &query, &page)).await)
        })
    }

    fn preview<'a>(&'a self, channel: &'a str, key: &'a str) -> Reply<'a, PreviewView> {
        Box::pin(async move {
            let channel = self.known_channel(channel)?;
            let id = EntityId {
                entity_type: channel.setup().options.entity_type.clone(),
                key: key.into(),
            };
            let preview = channel
                .preview(&id)
                .await
                .map_err(failed)?
                .ok_or_else(|| no_entity(&id))?;
            let holds = self.store.find(&id).and_then(|ordinal| {
                let standing = channel.queue().standing(ordinal)?;
                Some(standing.holds)
            });
            let same = match (&preview.verdict, holds) {
                (dispatch::PreviewVerdict::Rendering(now), Some(store::Holds::Rendering(held))) => {
                    Some(store::digest(now) == held)
                }
                (_, None | Some(store::Holds::Unknown)) => None,
                (dispatch::PreviewVerdict::Withheld(_), Some(store::Holds::Nothing)) => Some(true),
                _ => Some(false),
            };
            let setup = channel.setup();
            let kept = setup.recorder.as_ref();
            let kept = kept.and_then(|kept| kept.body(Hash::of(&id))).flatten();
            Ok(PreviewView {
                same,
                delivered: kept.map(|kept| RenderingView::of(&kept, &id.key)),
                ..views::preview(&self.live.load(), &channel, &id, preview)
            })
        })
    }

    fn point(&self, side: Side, name: &str) -> Result<Arc<Point>, Problem> {
        let live = self.live.load();
        let (kind, known) = match side {
            Side::Source => (
                "source",
                live.sources.get_key_value(name).map(|(name, _)| name),
            ),
            Side::Channel => (
                "channel",
                live.channels.get_key_value(name).map(|(name, _)| name),
            ),
        };
        let name = known.ok_or_else(|| Problem::unknown(kind, name))?;
        Ok(self.happenings.point(side, name))
    }

    fn preview_events<'a>(
        &'a self,
        source: &'a str,
        request: IngestRequest,
    ) -> Reply<'a, RequestPreviewView> {
        Box::pin(self.preview_of(source, request))
    }

    fn feed(&self, name: &str) -> Result<server::Feed, Problem> {
        let channel = self.live.load().channels.get(name).cloned();
        let setup = channel.map(|channel| channel.setup());
        let feed = setup.as_ref().and_then(|setup| setup.target.feed());
        let feed = feed.ok_or_else(|| Problem::unknown("feed", name))?;
        let form = |form: &feed::Form| server::FeedForm {
            file: form.file.clone(),
            length: form.length,
            etag: format!("\"{}\"", form.digest),
        };
        let generation = feed.published().map(|published| server::Generation {
            plain: form(&published.plain),
            gzip: form(&published.gzip),
            modified: published.modified(),
            content_type: published.content_type.clone(),
        });
        Ok(server::Feed {
            access: match feed.serve() {
                None => server::FeedAccess::Local,
                Some(feed::Serve::Open) => server::FeedAccess::Open,
                Some(feed::Serve::Basic { user, password }) => server::FeedAccess::Basic {
                    user: user.clone(),
                    password: password.0.clone(),
                },
            },
            generation,
            retry_after: FIRST_GENERATION_AFTER,
        })
    }

    fn ready(&self) -> Result<(), Vec<String>> {
        self.store.ready().map_err(|error| vec![error.to_string()])
    }

    fn warnings(&self) -> Vec<String> {
        lock(&self.held_back).values().cloned().collect()
    }

    fn snapshot(&self) -> Snapshot {
        figures::snapshot(self)
    }
}

impl Operate for Inner {
    fn operate<'a>(&'a self, channel: &'a str, operation: Operation) -> Reply<'a, ()> {
        Box::pin(async move {
            if operation == Operation::Forget {
                return self.forget_channel(channel).await;
            }
            if operation == Operation::Overwrite {
                return self.overwrite(channel).await;
            }
            let running = self.known_channel(channel)?;
            let before = counts(&running);
            let done = match operation {
                Operation::Pause => running.pause().await,
                Operation::Resume => running.resume().await,
                Operation::Resync => running.resync().await,
                Operation::Rerender => running.rerender().await,
                Operation::Confirm => {
                    let setup = running.setup();
                    if let Some(feed) = setup.target.feed() {
                        feed.confirm().await.map_err(|why| {
                            let detail = format!("the feed cannot keep the confirmation: {why}");
                            Problem::busy(detail, FIRST_GENERATION_AFTER)
                        })?;
                    }
                    running.confirm().await.map(|_| ())
                }
                Operation::Forget | Operation::Overwrite => Ok(()),
            };
            done.map_err(stopped)?;
            if matches!(operation, Operation::Resync | Operation::Rerender) {
                let name = running.setup().options.name.clone();
                self.sweeps.begin(&name, &running, before, &self.stopping);
            }
            Ok(())
        })
    }

    fn refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        page: &'a Page,
    ) -> Reply<'a, List<RefusedView>> {
        Box::pin(async move {
            let queue = self.known_channel(channel)?.queue();
            let after = page
                .after
                .as_deref()
                .map(parse_after)
                .transpose()?
                .map(Ordinal);
            let (found, more) = find_refused(&*queue, filter, after, page.limit)?;
            let next = found
                .last()
                .filter(|_| more)
                .map(|refused| refused.ordinal.0.to_string());
            Ok(List {
                items: found.into_iter().map(views::refused).collect(),
                next,
            })
        })
    }

    fn settle_refused<'a>(
        &'a self,
        channel: &'a str,
        filter: &'a RefusedFilter,
        settle: Settle,
    ) -> Reply<'a, u64> {
        Box::pin(async move {
            let channel = self.known_channel(channel)?;
            let queue = channel.queue();
            let (found, _) = find_refused(&*queue, filter, None, usize::MAX)?;
            let ordinals: Vec<Ordinal> = found.into_iter().map(|refused| refused.ordinal).collect();
            let count = match settle {
                Settle::Redrive => channel
                    .redrive(ordinals)
                    .await
                    .map_err(|error| Problem::internal(error.to_string()))?,
                Settle::Drop => queue.drop_refused(&ordinals).await.map_err(failed)?,
            };
            Ok(count as u64)
        })
    }

    fn quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        page: &'a Page,
    ) -> Reply<'a, List<QuarantineView>> {
        Box::pin(async move {
            let running = self.known_source(source)?;
            let encoding = running.source.options().encoding;
            let after = page
                .after
                .as_deref()
                .map(parse_after)
                .transpose()?
                .map(Sequence);
            let weighed = |event: QuarantinedEvent| {
                let bytes = event.event.event.data.as_bytes().len() as u64;
                (event, bytes)
            };
            let shelf = self.store.shelf(source);
            let found = find_quarantined(shelf, filter, after, page.limit, weighed);
            let (found, more) = found.await?;
            let next = found
                .last()
                .filter(|_| more)
                .map(|event| event.sequence.to_string());
            Ok(List {
                items: found
                    .iter()
                    .map(|event| views::quarantined(event, encoding))
                    .collect(),
                next,
            })
        })
    }

    fn settle_quarantine<'a>(
        &'a self,
        source: &'a str,
        filter: &'a QuarantineFilter,
        settle: Settle,
    ) -> Reply<'a, Settled> {
        Box::pin(async move {
            let running = self.known_source(source)?;
            // Their numbers only: a hundred thousand events need not be in memory at once.
            let number = |event: QuarantinedEvent| (event.sequence, 0);
            let shelf = self.store.shelf(source);
            let (sequences, _) = find_quarantined(shelf, filter, None, usize::MAX, number).await?;
            match settle {
                Settle::Redrive => {
                    let done = running.source.redrive(sequences).await;
                    let done = done.map_err(|rejection| redrive_ended(&rejection))?;
                    Ok(redriven(done.events))
                }
                Settle::Drop => {
                    let removed = self.store.shelf(source).discard(&sequences);
                    let count = removed.await.map_err(failed)?;
                    Ok(Settled {
                        settled: count as u64,
                        kept: 0,
                    })
                }
            }
        })
    }

    fn resend<'a>(&'a self, channel: &'a str, id: &'a EntityId) -> Reply<'a, ()> {
        Box::pin(async move {
            let channel = self.known_channel(channel)?;
            let ordinal = self.known_entity(id)?;
            let wanted = channel.setup().options.entity_type.clone();
            if wanted != id.entity_type {
                let detail = format!("the channel takes entities of type `{wanted}`");
                return Err(Problem::conflict("other-type", detail));
            }
            let resent = channel.resend(vec![ordinal]).await;
            resent.map_err(stopped)?;
            channel.queue().save().await.map_err(failed)
        })
    }

    fn begin_drift(&self, channel: &str, request: DriftRequest) -> Result<JobView, Problem> {
        let channel = self.known_channel(channel)?;
        if !channel.setup().options.deliver {
            let detail = "the channel has deliver = false: its target holds nothing of it";
            return Err(Problem::conflict("counts-only", detail));
        }
        self.begin_check(channel, request)
    }

    fn begin_redrive(&self, request: RedriveRequest) -> Result<JobView, Problem> {
        Inner::begin_redrive(self, request)
    }

    fn jobs(&self) -> Vec<JobView> {
        self.jobs.all()
    }

    fn job(&self, id: &str) -> Result<JobView, Problem> {
        self.jobs.one(id)
    }

    fn cancel_job(&self, id: &str) -> Result<JobView, Problem> {
        self.jobs.cancel(id)
    }

    fn reset_versions<'a>(&'a self, source: &'a str) -> Reply<'a, u64> {
        Box::pin(async move {
            let running = self.known_source(source)?;
            let owner = &running.source.options().owner;
            self.store.reset_versions(owner).await.map_err(failed)
        })
    }
}

impl Setup for Inner {
    fn plugins(&self) -> Vec<PluginView> {
        let (live, history) = (self.live.load(), self.history());
        let figures = self.host.figures();
        live.loaded
            .components
            .values()
            .map(|component| views::plugin(&live, component, &history, &figures))
            .collect()
    }

    fn config(&self) -> ConfigView {
        let live = self.live.load();
        let last = lock(&self.last_reload).clone();
        ConfigView {
            config: plan::redacted(&live.plan),
            files: live
                .plan
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            // A changed `store.path` waits for the next start.
            store: std::path::absolute(&self.folder)
                .unwrap_or_else(|_| self.folder.clone())
                .display()
                .to_string(),
            since: live.since.into(),
            last_reload: Some(last).filter(|last| *last != ReloadView::default()),
        }
    }

    fn confirm_plugin<'a>(&'a self, name: &'a str) -> Reply<'a, ReloadView> {
        Box::pin(async move {
            let refused = self.history().last_refused(name).cloned();
            // A plugin that is new in a refused configuration is not in use yet.
            if refused.is_none() && !self.live.load().loaded.components.contains_key(name) {
                return Err(Problem::unknown("plugin", name));
            }
            let asks = |refused: &SwapView| {
                let detail = refused.detail.as_deref().unwrap_or_default();
                detail.contains(trial::CONFIRM)
            };
            let Some(refused) = refused.filter(asks) else {
                let detail = format!(
                    "no version of plugin `{name}` was refused because it maps less than the one in use"
                );
                return Err(Problem::conflict("nothing-to-confirm", detail));
            };
            lock(&self.confirmed).insert(name.into(), refused.sha256);
            Ok(Inner::reload(self).await)
        })
    }

    fn backup(&self) -> Reply<'_, BackupView> {
        Box::pin(async move {
            // A changed `store.path` waits for the next start.
            let folder = self.folder.join(BACKUPS);
            let name = jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%S%.3fZ");
            let file = folder.join(format!("{name}.{BACKUP}"));
            let made = blocking(move || std::fs::create_dir_all(&folder)).await;
            made.map_err(|error| {
                Problem::internal(format!("the folder of backups cannot be created: {error}"))
            })?;
            let done = self.store.backup(&file).await.map_err(failed)?;
            Ok(BackupView {
                file: file.display().to_string(),
                rows: done.rows,
                bytes: done.bytes,
            })
        })
    }

    fn reload(&self) -> Reply<'_, ReloadView> {
        Box::pin(async move { Ok(Inner::reload(self).await) })
    }
}

impl Inner {
    pub(super) fn known_source(&self, name: &str) -> Result<Arc<HttpIntake>, Problem> {
        self.live
            .load()
            .sources
            .get(name)
            .cloned()
            .ok_or_else(|| Problem::unknown("source", name))
    }

    pub(super) fn known_channel(&self, name: &str) -> Result<Arc<Channel>, Problem> {
        if let Some(channel) = self.live.load().channels.get(name) {
            return Ok(channel.clone());
        }
        if self.remembers(name) {
            let detail = format!(
                "channel `{name}` is retired: it has left the configuration and can only be forgotten or return"
            );
            return Err(Problem::conflict("channel-retired", detail));
        }
        Err(Problem::unknown("channel", name))
    }

    /// Whether the store knows the channel, live or retired.
    fn remembers(&self, name: &str) -> bool {
        let channels = self.store.remembered();
        channels.iter().any(|channel| channel.name == name)
    }

    pub(super) fn known_type(&self, name: &str) -> Result<(), Problem> {
        if self.live.load().plan.entities.contains_key(name) {
            Ok(())
        } else {
            Err(Problem::unknown("entity-type", name))
        }
    }

    pub(super) fn known_entity(&self, id: &EntityId) -> Result<Ordinal, Problem> {
        self.store.find(id).ok_or_else(|| no_entity(id))
    }

    async fn forget_channel(&self, name: &str) -> Result<(), Problem> {
        if !self.remembers(name) {
            return Err(Problem::unknown("channel", name));
        }
        match self.store.forget(name).await.map_err(failed)? {
            true => {
                let latencies = note_of_latencies(name);
                let forgotten = self.store.set_note(&latencies, None).await;
                forgotten.map_err(failed)?;
                self.forget_target(name).await.map_err(failed)
            }
            false => Err(Problem::conflict(
                "channel-live",
                format!("channel `{name}` is in the configuration; take it out first"),
            )),
        }
    }
}

/// Up to `limit` refused entities that pass the filter, and whether there may be more.
pub(super) fn find_refused(
    queue: &dyn Queue,
    filter: &RefusedFilter,
    after: Option<Ordinal>,
    limit: usize,
) -> Result<(Vec<Refused>, bool), Problem> {
    let (key, code) = (filter.key.as_ref(), filter.code.as_ref());
    let fits = |refused: &Refused| {
        key.is_none_or(|key| **key == *refused.id.key)
            && code.is_none_or(|code| *code == refused.failure.code)
    };
    gather(
        after,
        limit,
        |after| Ok(queue.refused(after, PIECE)),
        |refused| refused.ordinal,
        fits,
        |refused| (refused, 0),
    )
}

/// The same of quarantined events. They are read on a thread for blocking work: they may be many, and lie on
/// the disk.
pub(super) async fn find_quarantined<T: Send + 'static>(
    shelf: Arc<dyn Shelf>,
    filter: &QuarantineFilter,
    after: Option<Sequence>,
    limit: usize,
    take: impl Fn(QuarantinedEvent) -> (T, u64) + Send + 'static,
) -> Result<(Vec<T>, bool), Problem> {
    let filter = filter.clone();
    blocking(move || {
        gather(
            after,
            limit,
            |after| shelf.list(after, PIECE),
            |event| event.sequence,
            |event| is_wanted(&filter, event),
            take,
        )
    })
    .await
}

/// Whether a quarantined event passes the filter.
fn is_wanted(filter: &QuarantineFilter, event: &QuarantinedEvent) -> bool {
    let of_plugin = |name: &String| {
        let plugin = event.event.plugin.as_deref();
        plugin.is_some_and(|plugin| plugin == name || plugin.split('@').next() == Some(name))
    };
    let (failure, event_type) = (&event.event.failure, &event.event.event.event_type);
    (filter.sequence).is_none_or(|sequence| sequence == event.sequence.0)
        && (filter.code.as_ref()).is_none_or(|code| *code == failure.code)
        && filter.plugin.as_ref().is_none_or(of_plugin)
        && (filter.event_type.as_ref()).is_none_or(|wanted| wanted == event_type)
        && filter.since.is_none_or(|since| event.time >= since)
        && filter.before.is_none_or(|before| event.time < before)
}

/// Reads piece by piece until none is left, and takes up to `limit` items that fit and whose weights
/// add up to at most [`PAGE_BYTES_MAX`], but one at least. Returns whether there may be more.
fn gather<T, K: Copy, U>(
    mut after: Option<K>,
    limit: usize,
    read: impl Fn(Option<K>) -> Result<Vec<T>, store::Error>,
    key: impl Fn(&T) -> K,
    fits: impl Fn(&T) -> bool,
    take: impl Fn(T) -> (U, u64),
) -> Result<(Vec<U>, bool), Problem> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    loop {
        let piece = read(after).map_err(failed)?;
        let Some(last) = piece.last() else {
            return Ok((found, false));
        };
        after = Some(key(last));
        for item in piece.into_iter().filter(&fits) {
            let (item, more) = take(item);
            bytes += more;
            if bytes > PAGE_BYTES_MAX && !found.is_empty() {
                return Ok((found, true));
            }
            found.push(item);
            if found.len() == limit {
                return Ok((found, true));
            }
        }
    }
}

fn parse_after<T: std::str::FromStr>(after: &str) -> Result<T, Problem> {
    after
        .parse()
        .map_err(|_| Problem::bad_parameter("after", "take it from the `next` of the page before"))
}

pub(super) fn no_entity(id: &EntityId) -> Problem {
    Problem::unknown("entity", &id.to_string())
}

/// The problem of a command to a channel that failed.
pub(super) fn stopped(error: dispatch::Error) -> Problem {
    match error {
        dispatch::Error::Stopped => {
            Problem::busy("the channel is stopping", std::time::Duration::from_secs(5))
        }
        dispatch::Error::Store(error) => failed(error),
    }
}

pub(super) fn failed(error: store::Error) -> Problem {
    let wait = std::time::Duration::from_secs(5);
    match error {
        store::Error::Busy { .. } | store::Error::Unavailable(_) => Problem::busy(
            "the store cannot do this now; its state is at /readyz",
            wait,
        )
        .logged(error.to_string()),
        store::Error::Damaged(_) => Problem::internal(error.to_string()),
    }
}
