//! Tries a request out at a source: what each stage would make of its events, down to the channels that would
//! owe something. Nothing is kept: plugins run in instances of their own, and the store is only read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::apply::Live;
use super::intake::rejected;
use super::{Inner, aside, now};
use crate::dispatch::Channel;
use crate::ingest::{Incoming, Looked, Prospect, Source, http, verify};
use crate::model::{Change, Event, Lane, patterns_meet};
use crate::plugin::{ChainPreview, EventVerdict, SourceChain, StagePreview, StageResult};
use crate::server::views::{
    ChangePreviewView, Cutter, EventPreviewView, EventView, LogLineView, RequestPreviewView,
    SenderView, StageView,
};
use crate::server::{IngestRequest, Problem};
use crate::store::{FacetChange, Foreseen, Foresight};

/// The most events of a request that are looked at.
const EVENTS_MAX: usize = 20;
/// The most changes of all events that are shown.
const CHANGES_MAX: usize = 2_000;
/// How long the plugins may take; a call that has begun by then is completed.
const TIME_MAX: Duration = Duration::from_secs(10);
/// When to ask again if somebody else's request is being looked at.
const TURN_WAIT: Duration = Duration::from_secs(1);

impl Inner {
    /// What a source would make of a request.
    pub(super) async fn preview_of(
        &self,
        name: &str,
        request: IngestRequest,
    ) -> Result<RequestPreviewView, Problem> {
        let busy = || {
            let detail = "another request is being looked at; try again in a moment";
            Problem::busy(detail, TURN_WAIT)
        };
        let _turn = self.previewing.try_lock().map_err(|_| busy())?;
        let live = self.live.load_full();
        let unknown = || Problem::unknown("source", name);
        let intake = live.sources.get(name).cloned().ok_or_else(unknown)?;
        let IngestRequest {
            target,
            headers,
            body,
            lane,
            memory,
            ..
        } = request;
        let incoming: Incoming = http::incoming(&target, &headers, body, lane, now(), memory);
        let looked = intake.source.look_at(incoming).await;
        let looked = looked.map_err(|rejection| rejected(&rejection))?;
        let (store, name) = (self.store.clone(), name.to_owned());
        aside(move || {
            let chain = live.loaded.sources.get(&*name);
            Previewing {
                live: &live,
                source: &intake.source,
                lane,
                foresight: Foresight::new(&*store),
                cutter: Cutter::default(),
                changes_left: CHANGES_MAX,
            }
            .request(looked, chain)
        })
        .await
    }
}

/// A request that is being looked at.
struct Previewing<'a> {
    live: &'a Live,
    source: &'a Source,
    lane: Option<Lane>,
    foresight: Foresight<'a>,
    cutter: Cutter,
    changes_left: usize,
}

impl Previewing<'_> {
    fn request(
        mut self,
        looked: Looked,
        chain: Option<&SourceChain>,
    ) -> Result<RequestPreviewView, Problem> {
        let Looked {
            sender,
            mut events,
            indexes,
            unread,
            memory: _memory,
        } = looked;
        let total = events.len() + unread.len();
        events.truncate(EVENTS_MAX);
        let (events, until) = (Arc::new(events), Instant::now() + TIME_MAX);
        let mut chain = chain.map(|chain| ChainPreview::new(chain, events.clone()));
        let mut shown = Vec::new();
        for (at, event) in events.iter().enumerate() {
            if Instant::now() >= until || self.changes_left == 0 {
                break;
            }
            let (stages, verdict) = match &mut chain {
                Some(chain) => {
                    let preview = chain.event(at);
                    (preview.stages, preview.verdict)
                }
                None => (Vec::new(), EventVerdict::Passed),
            };
            let mut view = self.event(event, verdict)?;
            view.index = indexes[at] as u64;
            view.stages = stages.into_iter().map(stage).collect();
            shown.push(view);
        }
        for item in unread {
            if shown.len() >= EVENTS_MAX {
                break;
            }
            shown.push(EventPreviewView {
                index: item.index as u64,
                event: self.event_view(&item.item),
                result: "quarantined".to_owned(),
                code: Some(item.failure.code),
                detail: Some(item.failure.message),
                ..EventPreviewView::default()
            });
        }
        Ok(RequestPreviewView {
            sender: sender_view(&self.source.options().verify, sender),
            more_events: total.saturating_sub(shown.len()) as u64,
            events: shown,
        })
    }

    fn event(&mut self, event: &Event, verdict: EventVerdict) -> Result<EventPreviewView, Problem> {
        // What the mapper returned is shown also if the event would be quarantined because of it.
        let returned = match &verdict {
            EventVerdict::Changes(changes) => changes.clone(),
            _ => Vec::new(),
        };
        let mut view = EventPreviewView {
            event: self.event_view(event),
            ..EventPreviewView::default()
        };
        match self.source.prospect(event, verdict, self.lane) {
            Prospect::Filtered => view.result = "filtered".to_owned(),
            Prospect::Quarantined(failure, plugin) => {
                view.result = "quarantined".to_owned();
                view.detail = Some(match plugin {
                    Some(plugin) => format!("{plugin}: {}", failure.message),
                    None => failure.message,
                });
                view.code = Some(failure.code);
                let most = self.changes_left.min(returned.len());
                self.changes_left -= most;
                view.changes = returned[..most]
                    .iter()
                    .map(|it| self.returned(it))
                    .collect();
            }
            Prospect::Changes(changes) => {
                view.result = "accepted".to_owned();
                for change in &changes {
                    if self.changes_left == 0 {
                        break;
                    }
                    self.changes_left -= 1;
                    let shown = self.settled(change)?;
                    view.changes.push(shown);
                }
            }
        }
        Ok(view)
    }

    fn event_view(&mut self, event: &Event) -> EventView {
        let mut view = EventView::of(event);
        view.cut(&mut self.cutter);
        view
    }

    /// A change as the mapper returned it.
    fn returned(&mut self, change: &Change) -> ChangePreviewView {
        let mut view = ChangePreviewView {
            entity_type: change.entity_type.clone(),
            key: change.key.clone(),
            facet: change.facet.clone(),
            deleted: change.value.is_none(),
            value: raw(change.value.as_deref()),
            version: change.version,
            ..ChangePreviewView::default()
        };
        view.cut(&mut self.cutter);
        view
    }

    /// A change that may be written.
    fn settled(&mut self, change: &FacetChange) -> Result<ChangePreviewView, Problem> {
        let foreseen = self.foresight.of(change);
        let foreseen = foreseen.map_err(super::backend::failed)?;
        let channels = self.live.channels.values();
        let owing = channels.filter(|it| foreseen == Foreseen::Committed && subscribes(it, change));
        let names = owing.map(|channel| channel.setup().options.name.to_string());
        let mut view = ChangePreviewView {
            entity_type: change.id.entity_type.to_string(),
            key: change.id.key.to_string(),
            facet: change.facet.to_string(),
            deleted: change.value.is_none(),
            value: raw(change.value.as_deref()),
            version: change.version,
            lane: Some(change.lane.name().to_owned()),
            result: Some(foreseen.name().to_owned()),
            channels: names.collect(),
            cut: None,
        };
        view.cut(&mut self.cutter);
        Ok(view)
    }
}

/// Whether a channel subscribes to the facet of a change, or to any of the family that it deletes.
fn subscribes(channel: &Channel, change: &FacetChange) -> bool {
    let setup = channel.setup();
    let options = &setup.options;
    let mut patterns = options.facets.iter();
    options.entity_type == change.id.entity_type
        && patterns.any(|pattern| patterns_meet(pattern, &change.facet))
}

fn raw(value: Option<&str>) -> Option<Box<RawValue>> {
    RawValue::from_string(value?.to_owned()).ok()
}

fn stage(preview: StagePreview) -> StageView {
    let (result, detail) = match preview.result {
        StageResult::Passed => ("passed", None),
        StageResult::Filtered => ("dropped", None),
        StageResult::Changes(0) => ("nothing", None),
        StageResult::Changes(_) => ("mapped", None),
        StageResult::Failed(failed) => ("failed", Some(failed.failure.to_string())),
    };
    let line = |line: crate::plugin::log::Line| LogLineView {
        level: line.level.name().to_owned(),
        message: line.message,
    };
    StageView {
        plugin: preview.plugin,
        role: preview.role.name().to_owned(),
        result: result.to_owned(),
        detail,
        took_ms: (preview.time.as_secs_f64() * 1e6).round() / 1e3,
        log: preview.log.into_iter().map(line).collect(),
    }
}

fn sender_view(options: &verify::Options, sender: Result<(), verify::NotVerified>) -> SenderView {
    let verify = options.kind().to_owned();
    let (result, detail) = match (options, sender) {
        // The header has the token of the operator who asks.
        (verify::Options::Bearer { .. } | verify::Options::Basic { .. }, _) => {
            ("not checked", None)
        }
        (_, Ok(())) => ("verified", None),
        (_, Err(why)) => ("not verified", Some(why.to_string())),
    };
    SenderView {
        verify,
        result: result.to_owned(),
        detail,
    }
}
