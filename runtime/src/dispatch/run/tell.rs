//! Tells taps what became of entities on the channel: which plugins they passed, what was rendered, sent and
//! answered.

use super::super::flight::{MadeRequest, Ready};
use super::super::prepare::{Content, DELETED, FILTERED, NEEDS, NOT_RENDERED, Prepared};
use super::super::status::DeliveryResult;
use super::Run;
use crate::happenings::{Recorder, now};
use crate::model::{Sequence, Track};
use crate::plugin::Role;
use crate::store::{Ending, Settlement};
use crate::tap::Open;
use crate::tap::story::{
    AnswerStory, BodyStory, DeliveryStory, PluginStory, RequestStory, SentStory, Story, WhyStory,
    body_bytes, pairs, time,
};

impl Run {
    /// The taps that are open on the channel.
    pub(super) fn taps(&self) -> Option<Open> {
        self.setup.recorder.as_ref().and_then(Recorder::taps)
    }

    /// Whether a tap may take one of these entities, so that what is sent of them is noted.
    pub(super) fn is_watched(&self, part: &[Ready]) -> bool {
        self.taps().is_some_and(|taps| {
            let mut ids = part.iter().map(|ready| &ready.id);
            ids.any(|id| taps.expects(|wanted| wanted.is_of(id)))
        })
    }

    /// An entity whose flight may end now, if a tap may take it.
    pub(super) fn worth_telling(&self, prepared: &Prepared) -> Option<(Open, Prepared)> {
        let taps = self.taps()?;
        let id = prepared.id.as_ref()?;
        let wanted = taps.expects(|wanted| wanted.is_of(id));
        wanted.then(|| (taps, prepared.clone()))
    }

    /// Tells how a flight ended.
    pub(super) fn tell(
        &self,
        taps: &Open,
        prepared: &Prepared,
        end: &Settlement,
        made: &[MadeRequest],
    ) {
        let Some(id) = &prepared.id else { return };
        let outcome = DeliveryResult::of(&end.ending).name();
        taps.offer(
            outcome,
            |wanted| wanted.is_of(id),
            |full| {
                let (rendering, target_key) = match &prepared.content {
                    Content::There { rendering, key, .. } => (
                        Some(BodyStory::new(
                            rendering
                                .content_type
                                .as_deref()
                                .or(Some("application/json")),
                            &rendering.body,
                            full,
                        )),
                        Some(key).filter(|key| **key != id.key),
                    ),
                    _ => (None, None),
                };
                let taken = &prepared.taken;
                let owes = taken.owed_since > Sequence(0);
                let age = || now().0.saturating_sub(prepared.owed_at.0);
                Story::Delivery(Box::new(DeliveryStory {
                    time: time(now()),
                    outcome: outcome.to_owned(),
                    why: self.why(prepared, end),
                    entity_type: id.entity_type.to_string(),
                    key: id.key.to_string(),
                    sequence: prepared.revision.0.to_string(),
                    lane: match taken.track {
                        Track::Lane(lane) => lane.name().to_owned(),
                        Track::Sweep => "sweep".to_owned(),
                    },
                    age_ms: owes.then(age),
                    target_key: target_key.map(|key| key.to_string()),
                    plugins: self.plugins(prepared),
                    rendering,
                    requests: made.iter().map(|made| request(made, full)).collect(),
                }))
            },
        );
    }

    fn why(&self, prepared: &Prepared, end: &Settlement) -> Option<WhyStory> {
        match &end.ending {
            Ending::Refused(failure) => Some(WhyStory::new(&failure.code, &failure.message)),
            Ending::Parked { attempts } => {
                let error = self.shared.errors().last(end.ordinal);
                let error =
                    error.map_or_else(|| "no attempt was made".to_owned(), |it| it.to_string());
                Some(WhyStory::new(
                    "parked",
                    &format!("{error}; failed attempts so far: {attempts}"),
                ))
            }
            Ending::Held => Some(WhyStory::new(
                "held",
                "the guard against mass withdrawal holds it; see `weir channel confirm`",
            )),
            Ending::Withheld(_) | Ending::Withdrawn => Some(match prepared.content {
                Content::Absent(DELETED) => {
                    WhyStory::new("deleted", "it has no facet that the channel subscribes to")
                }
                Content::Absent(NEEDS) => {
                    WhyStory::new("needs", "it does not have all facets in `needs`")
                }
                Content::Absent(NOT_RENDERED) => {
                    WhyStory::new("renderer", "the renderer returned nothing for it")
                }
                _ => WhyStory::new("filter", "a filter dropped it"),
            }),
            Ending::Suppressed => Some(WhyStory::new(
                "suppressed",
                "the target holds this rendering already",
            )),
            Ending::Counted => Some(WhyStory::new(
                "counted",
                "the channel has `deliver = false`",
            )),
            Ending::Delivered { .. } => None,
        }
    }

    /// What each plugin of the channel made of an entity.
    fn plugins(&self, prepared: &Prepared) -> Vec<PluginStory> {
        let none_was_run = match &prepared.content {
            Content::Absent(reason) => matches!(*reason, DELETED | NEEDS),
            Content::Unread(_) => true,
            Content::There { .. } | Content::Failed(_) => false,
        };
        let chain = self.setup.chain.as_ref().filter(|_| !none_was_run);
        let stages = chain.map(|chain| chain.stages()).unwrap_or_default();
        let stages = stages.iter().enumerate().map(|(at, (label, role))| {
            let renders = *role == Role::Renderer;
            let verdict = match &prepared.content {
                Content::There { .. } if renders => "rendered",
                Content::Absent(NOT_RENDERED) if renders => "nothing",
                Content::Absent(by)
                    if usize::from(by.saturating_sub(FILTERED)) == at && *by >= FILTERED =>
                {
                    "dropped"
                }
                Content::Failed(failure) if failure.message.starts_with(&**label) => "failed",
                _ => "passed",
            };
            (&**label, role.name(), verdict)
        });
        let room = prepared.room.as_ref();
        PluginStory::chain(stages, |plugin| {
            room.map(|room| room.lines_of(plugin)).unwrap_or_default()
        })
    }
}

/// A request that was made, and its answer.
fn request(made: &MadeRequest, full: bool) -> RequestStory {
    let exchange = made.exchange.as_deref();
    let answer = exchange.and_then(|it| Some((it, it.answer().ok()?)));
    let told = |headers: Vec<(String, String)>| {
        pairs(
            headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        )
    };
    RequestStory {
        items: made.items as u64,
        took_ms: made.took.as_millis() as u64,
        sent: exchange.map(|exchange| SentStory {
            method: exchange.method().to_owned(),
            url: exchange.url(),
            headers: told(exchange.headers()),
            bytes: exchange.bytes(),
        }),
        answer: answer.map(|(exchange, answer)| {
            let most = answer.beginning.len().min(body_bytes(full));
            let is_cut = answer.is_cut || most < answer.beginning.len();
            let (media, beginning) = (answer.content_type(), &answer.beginning[..most]);
            AnswerStory {
                status: answer.status(),
                headers: told(exchange.headers_of(answer)),
                body: BodyStory::beginning(media, beginning, answer.bytes, is_cut),
            }
        }),
        error: exchange
            .and_then(|exchange| exchange.answer().err())
            .map(str::to_owned),
    }
}
