//! The trial of changed chains on recent events and entities, before they take over.
//!
//! A plugin that declines a sample is not at fault; one that traps, breaks a limit, throws, or returns
//! a change that its source may not write is. The first such bug ends the trial. Samples on which the
//! chain in use fails as well are left out, so that an event that no version can map does not keep the
//! next one away. A chain that maps clearly fewer events than the one in use is refused until its
//! operator confirms it. For channels the withdrawal guard stands in the way of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::apply::Live;
use super::comparison::Comparison;
use super::intake::HttpIntake;
use super::load::{Loaded, Loading, Objection};
use super::rollouts::Rollouts;
use super::samples::Samples;
use super::{Inner, blocking};
use crate::dispatch::{self, Channel};
use crate::ingest;
use crate::model::{EntityType, Event, Failure, Ordinal, View};
use crate::plan::Plan;
use crate::plugin::{
    Chain, ChannelChain, EntityVerdict, EventVerdict, Failed, Host, Priority, SourceChain,
};
use crate::store::{ListQuery, State, Store};

/// The command that lets a version take over though it maps less.
pub(super) const CONFIRM: &str = "weir plugin confirm";
/// The most samples of a trial.
const SAMPLES: usize = 16;
/// The most entities that are looked through for those that a channel has delivered.
const LOOKED_THROUGH_MAX: usize = 2_000;
/// How long the trial of one chain may take, and those of a whole reload. What could not be tried by
/// then takes over untried: a trial is a net, and other teams' changes wait meanwhile.
const TRIAL_MAX: Duration = Duration::from_secs(10);
const TRIALS_MAX: Duration = Duration::from_secs(30);

/// The results of a chain on samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Samples that became changes or a rendering, or passed a chain of filters.
    pub(super) made: usize,
    /// Samples that were dropped: filtered, mapped to nothing, or not for this channel.
    pub(super) dropped: usize,
    /// Samples that a plugin declined by its own rules.
    pub(super) declined: usize,
    /// Samples on which a plugin showed a bug.
    pub(super) faulted: usize,
}

impl Tally {
    /// The number of samples.
    pub(super) fn samples(&self) -> usize {
        self.made + self.dropped + self.declined + self.faulted
    }

    /// Adds the results of another chain.
    pub(super) fn add(&mut self, other: &Tally) {
        self.made += other.made;
        self.dropped += other.dropped;
        self.declined += other.declined;
        self.faulted += other.faulted;
    }
}

/// The result of a chain for one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Made,
    Dropped,
    Declined,
    Bug(Failed),
    /// The host could not run it: it is stopping, or has too many instances at the moment.
    Untried,
}

impl Judgement {
    fn of_failed(failed: Failed) -> Judgement {
        if failed.is_of_host() {
            Judgement::Untried
        } else if failed.fault {
            Judgement::Bug(failed)
        } else {
            Judgement::Declined
        }
    }

    fn is_bug(&self) -> bool {
        matches!(self, Judgement::Bug(_))
    }
}

fn tally(judgements: &[Judgement]) -> Tally {
    let mut tally = Tally::default();
    for judgement in judgements {
        *match judgement {
            Judgement::Made => &mut tally.made,
            Judgement::Dropped => &mut tally.dropped,
            Judgement::Declined => &mut tally.declined,
            Judgement::Bug(_) => &mut tally.faulted,
            Judgement::Untried => continue,
        } += 1;
    }
    tally
}

/// The judgement of a chain on a sample.
type Judging = dispatch::BoxFuture<'static, Judgement>;

/// Judges a source's chain by single events.
fn on_events(
    host: &Arc<Host>,
    chain: &SourceChain,
    options: &Arc<ingest::Options>,
    types: &Arc<BTreeMap<Arc<str>, EntityType>>,
) -> impl Fn(Event) -> Judging + Send + use<> {
    let (host, chain) = (host.clone(), chain.clone());
    let (options, types) = (options.clone(), types.clone());
    move |event| {
        let (host, chain) = (host.clone(), chain.clone());
        let (options, types) = (options.clone(), types.clone());
        Box::pin(async move {
            let mapped = host.map(&chain, Arc::new(vec![event]), Priority::Urgent);
            judge_event(mapped.await.pop(), &chain, &options, &types)
        })
    }
}

/// Judges a channel's chain by single entities.
fn on_entities(host: &Arc<Host>, chain: &ChannelChain) -> impl Fn(View) -> Judging + Send + use<> {
    let (host, chain) = (host.clone(), chain.clone());
    move |view| {
        let (host, chain) = (host.clone(), chain.clone());
        Box::pin(async move {
            let rendered = host.render(&chain, Arc::new(vec![view]), Priority::Urgent, None);
            judge_entity(rendered.await.pop())
        })
    }
}

/// Runs samples one by one, up to the first bug if it is `strict`, and for as long as there is time.
async fn judge<T: Clone>(
    samples: &[T],
    until: Instant,
    strict: bool,
    run: impl Fn(T) -> Judging,
) -> Vec<Judgement> {
    let mut judgements = Vec::with_capacity(samples.len());
    for sample in samples {
        let Ok(judgement) = timeout_at(until, run(sample.clone())).await else {
            break;
        };
        let ends = strict && judgement.is_bug();
        judgements.push(judgement);
        if ends {
            break;
        }
    }
    judgements
}

/// The samples that the chain in use was tried on and showed no bug, with its judgement of each.
fn fair<T>(samples: Vec<T>, judgements: Option<Vec<Judgement>>) -> (Vec<T>, Vec<Judgement>) {
    let Some(judgements) = judgements else {
        return (samples, Vec::new());
    };
    let judged = samples.into_iter().zip(judgements);
    let is_fair = |judgement: &Judgement| !judgement.is_bug() && *judgement != Judgement::Untried;
    judged.filter(|(_, judgement)| is_fair(judgement)).unzip()
}

/// The time that the trial of one chain has, within that of the whole reload.
struct Allowed {
    until: Instant,
    /// Whether it is as much as a chain has: then one that gets no sample done has a bug.
    whole: bool,
}

impl Allowed {
    fn from_now(end: Instant) -> Allowed {
        let until = Instant::now() + TRIAL_MAX;
        Allowed {
            until: until.min(end),
            whole: until <= end,
        }
    }
}

/// What a trial compares with: the chains in use, or those that served last, and their last events.
#[derive(Default)]
pub(super) struct Before {
    pub(super) loaded: Loaded,
    pub(super) samples: Samples,
}

impl Before {
    /// What is in use.
    pub(super) fn of(live: &Live) -> Before {
        let samples = |(name, intake): (&Arc<str>, &Arc<HttpIntake>)| {
            (name.clone(), intake.source.activity().samples())
        };
        Before {
            loaded: live.loaded.clone(),
            samples: live.sources.iter().map(samples).collect(),
        }
    }
}

/// When the trials of a reload must have ended that begin now. Those of a further attempt, with plugins
/// that are held back, have what is left.
pub(super) fn end() -> Instant {
    Instant::now() + TRIALS_MAX
}

impl Inner {
    /// Tries the chains of a plan that differ from the ones in use; returns what speaks against them.
    pub(super) async fn try_out(
        &self,
        loading: &mut Loading,
        loaded: &Loaded,
        before: &Before,
        end: Instant,
    ) -> Vec<Objection> {
        let live = self.live.load_full();
        let (plan, rollouts) = (&loading.plan, &mut loading.rollouts);
        let mut objections: Vec<Objection> = Vec::new();
        let objected = |objections: &[Objection], chain: &Chain| {
            let refused = |name: &Arc<str>| {
                let mut plugins = objections.iter().flat_map(|objection| &objection.plugins);
                plugins.any(|plugin| plugin == name)
            };
            chain
                .bindings()
                .iter()
                .any(|binding| refused(binding.component().name()))
        };
        for (name, chain) in &loaded.sources {
            let earlier = before.loaded.sources.get(name);
            if earlier.is_some_and(|earlier| earlier.same_as(chain)) || objected(&objections, chain)
            {
                continue;
            }
            let samples = before.samples.get(name).cloned().unwrap_or_default();
            let objection = self
                .try_source(plan, samples, name, [earlier, Some(chain)], end, rollouts)
                .await;
            objections.extend(objection);
        }
        for (name, chain) in &loaded.channels {
            let earlier = before.loaded.channels.get(name);
            if earlier.is_some_and(|earlier| earlier.same_as(chain)) || objected(&objections, chain)
            {
                continue;
            }
            let objection = self
                .try_channel(plan, &live, name, [earlier, Some(chain)], end, rollouts)
                .await;
            objections.extend(objection);
        }
        // A channel with many rows has a single place in the file.
        objections.dedup_by(|a, b| a.complaint == b.complaint);
        objections
    }

    async fn try_source(
        &self,
        plan: &Plan,
        samples: Vec<Event>,
        name: &Arc<str>,
        [before, after]: [Option<&SourceChain>; 2],
        end: Instant,
        rollouts: &mut Rollouts,
    ) -> Option<Objection> {
        let (source, after) = (plan.sources.get(name)?, after?);
        let options = Arc::new(source.options.clone());
        let types = Arc::new(plan.entities.clone());
        let run = |chain: &SourceChain| on_events(&self.host, chain, &options, &types);
        let known = match before {
            Some(before) => {
                let until = Allowed::from_now(end).until;
                Some(judge(&samples, until, false, run(before)).await)
            }
            None => None,
        };
        let (samples, known) = fair(samples, known);
        let (began, allowed) = (Instant::now(), Allowed::from_now(end));
        let judgements = judge(&samples, allowed.until, true, run(after)).await;
        let result = tally(&judgements);
        rollouts.update(after, |rollout| {
            rollout.ran_on_events(&result, began.elapsed())
        });
        let place = format!("sources.{name}.plugins");
        if let Some(found) = bug(&judgements, &samples, &allowed) {
            return Some(objection(plan, &place, "event", found, after, rollouts));
        }
        let comparison = Comparison::of(&known, &judgements);
        if !comparison.must_be_confirmed() || self.is_confirmed(after, rollouts) {
            if let Some(loss) = comparison.loss() {
                rollouts.update(after, |rollout| {
                    rollout.maps_less(&format!("on source {name} it {loss}"));
                });
            }
            return None;
        }
        let changed = changed(after, rollouts);
        let first = changed.first()?.clone();
        let what = comparison.counts();
        let help = format!("if that is intended, run `{CONFIRM} {first}`");
        for plugin in &changed {
            if let Some(rollout) = rollouts.find(plugin) {
                rollout.refuse(&format!("{what}; {help}"));
            }
        }
        Some(Objection {
            complaint: plan.complaint(&place, format!("{first} {what}"), help),
            plugins: changed,
        })
    }

    async fn try_channel(
        &self,
        plan: &Plan,
        live: &Arc<Live>,
        name: &Arc<str>,
        [before, after]: [Option<&ChannelChain>; 2],
        end: Instant,
        rollouts: &mut Rollouts,
    ) -> Option<Objection> {
        let (channel, after) = (plan.channels.get(name)?, after?);
        let (store, live) = (self.store.clone(), live.clone());
        let options = channel.options.clone();
        let samples = blocking(move || entities(&*store, &live, &options)).await;
        let run = |chain: &ChannelChain| on_entities(&self.host, chain);
        let known = match before {
            Some(before) => {
                let until = Allowed::from_now(end).until;
                Some(judge(&samples, until, false, run(before)).await)
            }
            None => None,
        };
        let (samples, _) = fair(samples, known);
        let (began, allowed) = (Instant::now(), Allowed::from_now(end));
        let judgements = judge(&samples, allowed.until, true, run(after)).await;
        rollouts.update(after, |rollout| {
            rollout.ran_on_entities(&tally(&judgements), began.elapsed())
        });
        let found = bug(&judgements, &samples, &allowed)?;
        let place = format!("channels.{name}.plugins");
        Some(objection(plan, &place, "entity", found, after, rollouts))
    }

    /// Whether an operator has confirmed that a changed plugin of this chain maps less than before.
    fn is_confirmed(&self, chain: &Chain, rollouts: &mut Rollouts) -> bool {
        let confirmed = crate::sync::lock(&self.confirmed);
        changed(chain, rollouts).iter().any(|plugin| {
            let sha256 = rollouts.find(plugin).map(|rollout| rollout.sha256());
            sha256.is_some() && sha256 == confirmed.get(plugin).map(String::as_str)
        })
    }
}

/// Entities as the channel would pass them to its plugins: those that it has delivered first, so
/// that its renderer is tried and not only its filters; the ones written last before others. Blocking: it reads
/// the store.
fn entities(store: &dyn Store, live: &Live, options: &dispatch::Options) -> Vec<View> {
    let written = live
        .sources
        .values()
        .flat_map(|intake| intake.source.activity().entities());
    let mut ordinals: Vec<Ordinal> = written
        .filter(|id| id.entity_type == options.entity_type)
        .filter_map(|id| store.find(&id))
        .collect();
    let others = store.list(&ListQuery {
        entity_type: &options.entity_type,
        prefix: "",
        after: None,
        owed: None,
        limit: LOOKED_THROUGH_MAX,
    });
    ordinals.extend(others.into_iter().map(|(ordinal, _)| ordinal));
    let channel = live.channels.get(&options.name);
    let is_delivered = |ordinal: &Ordinal| channel.is_some_and(|it| delivered(it, *ordinal));
    let (mut first, rest): (Vec<_>, Vec<_>) = ordinals.into_iter().partition(is_delivered);
    first.extend(rest);
    let mut seen = std::collections::BTreeSet::new();
    first.retain(|ordinal| seen.insert(*ordinal));
    // Some of them lack what the channel needs.
    first.truncate(4 * SAMPLES);
    let entities = store.read(&first).unwrap_or_default();
    let views = entities
        .iter()
        .flatten()
        .map(|entity| View::of(entity, &options.facets));
    let shown =
        |view: &View| !view.facets.is_empty() && view.missing(&options.needs).next().is_none();
    views.filter(shown).take(SAMPLES).collect()
}

fn delivered(channel: &Channel, ordinal: Ordinal) -> bool {
    let standing = channel.queue().standing(ordinal);
    standing.is_some_and(|standing| {
        matches!(
            standing.state,
            State::Delivered | State::Suppressed | State::Counted
        )
    })
}

fn judge_event(
    verdict: Option<EventVerdict>,
    chain: &SourceChain,
    options: &ingest::Options,
    types: &BTreeMap<Arc<str>, EntityType>,
) -> Judgement {
    match verdict {
        Some(EventVerdict::Passed) => Judgement::Made,
        Some(EventVerdict::Changes(changes)) if !changes.is_empty() => {
            match ingest::check(options, types, changes) {
                Ok(()) => Judgement::Made,
                Err(failure) => Judgement::Bug(Failed {
                    plugin: chain.labels().pop().unwrap_or_default(),
                    failure,
                    fault: true,
                }),
            }
        }
        Some(EventVerdict::Changes(_) | EventVerdict::Filtered(_)) => Judgement::Dropped,
        Some(EventVerdict::Failed(failed)) => Judgement::of_failed(failed),
        None => Judgement::Untried,
    }
}

fn judge_entity(verdict: Option<EntityVerdict>) -> Judgement {
    match verdict {
        Some(EntityVerdict::Rendering(_) | EntityVerdict::Passed) => Judgement::Made,
        Some(EntityVerdict::Filtered(_) | EntityVerdict::NotRendered) => Judgement::Dropped,
        Some(EntityVerdict::Failed(failed)) => Judgement::of_failed(failed),
        None => Judgement::Untried,
    }
}

/// The bug that ended a trial. A chain that does not even get one sample done in its time has one too.
fn bug<T>(judgements: &[Judgement], samples: &[T], allowed: &Allowed) -> Option<Failed> {
    match judgements.last() {
        Some(Judgement::Bug(failed)) => Some(failed.clone()),
        None if !samples.is_empty() && allowed.whole => Some(Failed {
            plugin: String::new(),
            failure: Failure::new(
                "time-limit",
                format!("no result within {} s", TRIAL_MAX.as_secs()),
            ),
            fault: true,
        }),
        _ => None,
    }
}

/// The plugins of a chain whose version or settings have changed.
fn changed(chain: &Chain, rollouts: &mut Rollouts) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = chain
        .bindings()
        .iter()
        .map(|binding| binding.component().name().clone())
        .collect();
    names.dedup();
    names.retain(|name| rollouts.find(name).is_some());
    names
}

/// The objection to a chain with a bug; the plugin that has it is refused.
fn objection(
    plan: &Plan,
    place: &str,
    sample: &str,
    found: Failed,
    chain: &Chain,
    rollouts: &mut Rollouts,
) -> Objection {
    let named = found.plugin.rsplit_once('@').map(|(name, _)| name);
    let changed = changed(chain, rollouts);
    let plugins: Vec<Arc<str>> = match named {
        Some(name) if changed.iter().any(|plugin| **plugin == *name) => vec![name.into()],
        // A filter that lets other items pass may make an unchanged mapper fail.
        _ => changed,
    };
    let what = format!(
        "faults when tried on a recent {sample}: {}: {}",
        if found.plugin.is_empty() {
            chain.labels().join(", ")
        } else {
            found.plugin.clone()
        },
        found.failure.message
    );
    for plugin in &plugins {
        if let Some(rollout) = rollouts.find(plugin) {
            rollout.refuse(&what);
        }
    }
    Objection {
        complaint: plan.complaint(place, what, None),
        plugins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, fault: bool) -> Failed {
        Failed {
            plugin: "erp@1".to_owned(),
            failure: Failure::new(code, "no price"),
            fault,
        }
    }

    /// As much time as one chain has.
    fn allowed() -> Allowed {
        Allowed::from_now(Instant::now() + TRIALS_MAX)
    }

    // A call that the host had no instance for counted as a bug of the new version.
    #[test]
    fn samples_that_the_host_could_not_run_are_not_compared() {
        let judged = |code, fault| judge_entity(Some(EntityVerdict::Failed(failed(code, fault))));
        assert!(judged("trap", true).is_bug() && !judged("missing-field", false).is_bug());
        let (made, untried) = (Judgement::Made, judged("host", true));
        assert_eq!(untried, Judgement::Untried);
        let dropped = Judgement::Dropped;
        let known = vec![made.clone(), untried.clone(), made.clone(), made];
        let (samples, known) = fair(vec![1, 2, 3, 4], Some(known));
        assert_eq!(samples, [1, 3, 4]);
        let judgements = [untried, dropped];
        assert_eq!(tally(&judgements).samples(), 1);
        assert_eq!(
            Comparison::of(&known, &judgements).counts(),
            "maps none of the last 1 events, of which the version in use maps 1",
            "the second of three"
        );
        assert_eq!(bug(&judgements[..1], &samples, &allowed()), None);
    }

    #[tokio::test]
    async fn the_first_bug_ends_a_trial() {
        let until = Instant::now() + TRIAL_MAX;
        let run = |sample: char| -> Judging {
            Box::pin(async move {
                match sample {
                    'f' => Judgement::Declined,
                    't' => Judgement::Bug(failed("trap", true)),
                    _ => Judgement::Made,
                }
            })
        };
        let samples = ['a', 'f', 't', 'a', 't'];
        let strictly = judge(&samples, until, true, run).await;
        assert_eq!(strictly.len(), 3);
        assert_eq!(
            tally(&strictly),
            Tally {
                made: 1,
                dropped: 0,
                declined: 1,
                faulted: 1
            }
        );
        assert!(bug(&strictly, &samples, &allowed()).is_some());
        let known = judge(&samples, until, false, run).await;
        assert_eq!(fair(samples.to_vec(), Some(known)).0, ['a', 'f', 'a']);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_ends_with_its_time_and_without_any_result_it_has_failed() {
        let run = |seconds: u64| -> Judging {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Judgement::Made
            })
        };
        let until = allowed().until;
        let some = judge(&[6, 6, 6], until, true, run).await;
        let found = bug(&some, &[6, 6, 6], &allowed());
        assert_eq!((some.len(), found), (1, None));
        let whole = allowed();
        let none = judge(&[60], whole.until, true, run).await;
        assert_eq!(
            bug(&none, &[60], &whole).expect("a bug").failure.message,
            "no result within 10 s"
        );
        // The trials before it have taken the time of the whole reload.
        let rest = Allowed::from_now(Instant::now() + Duration::from_secs(1));
        let none = judge(&[6], rest.until, true, run).await;
        assert_eq!(bug(&none, &[6], &rest), None, "it takes over untried");
    }
}
