//! Rollouts of plugin versions: the checks that each one passed, how long each step took, and how
//! it ended.
//!
//! A rollout is recorded for each plugin whose component or settings differ from the ones in use.
//! It ends swapped in or refused; the last of each kind is kept and shown, so that authors see why
//! their version is not in use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::trial::Tally;
use crate::model::Timestamp;
use crate::plan::Complaint;
use crate::plugin::{Chain, Compiled, version};
use crate::server::views::{StepsView, SwapView};

/// The rollouts of one configuration change, by plugin.
#[derive(Default)]
pub(super) struct Rollouts(BTreeMap<Arc<str>, Rollout>);

/// One plugin version on its way into use.
pub(super) struct Rollout {
    sha256: String,
    time: Timestamp,
    began: Instant,
    read: Duration,
    compiled: Option<Compiled>,
    uses: usize,
    configure: Duration,
    /// Its own cases that it passed.
    cases: usize,
    check_cases: Duration,
    events: Tally,
    entities: Tally,
    trials: Duration,
    /// How it maps less than the version before it, a sentence for each source.
    maps_less: Vec<String>,
    refused: Option<String>,
}

/// How long the last steps of a change took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TakenOver {
    /// Until all sources used the new plan.
    pub(super) exchange: Duration,
    /// From then until the last channel had finished its flights with the old one.
    pub(super) drain: Duration,
}

impl Rollouts {
    /// The rollouts of plugins whose configuration is rejected before they are loaded.
    pub(super) fn refused<'a>(
        known: impl Iterator<Item = &'a Arc<str>>,
        complaints: &[Complaint],
        now: Timestamp,
    ) -> Rollouts {
        let mut rollouts = Rollouts::default();
        for plugin in known {
            let table = format!("plugins.{plugin}");
            let about = |complaint: &&Complaint| {
                complaint
                    .path
                    .strip_prefix(&table)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            if let Some(complaint) = complaints.iter().find(about) {
                let help = complaint
                    .help
                    .iter()
                    .map(|help| format!("; {help}"))
                    .collect::<String>();
                rollouts
                    .entry(plugin, "", now)
                    .refuse(&format!("{}{help}", complaint.what));
            }
        }
        rollouts
    }

    /// The rollout of a plugin, started now if there is none.
    pub(super) fn entry(
        &mut self,
        plugin: &Arc<str>,
        sha256: &str,
        now: Timestamp,
    ) -> &mut Rollout {
        self.0.entry(plugin.clone()).or_insert_with(|| Rollout {
            sha256: sha256.to_owned(),
            time: now,
            began: Instant::now(),
            read: Duration::ZERO,
            compiled: None,
            uses: 0,
            configure: Duration::ZERO,
            cases: 0,
            check_cases: Duration::ZERO,
            events: Tally::default(),
            entities: Tally::default(),
            trials: Duration::ZERO,
            maps_less: Vec::new(),
            refused: None,
        })
    }

    /// Whether a plugin is on its way to another version than this.
    pub(super) fn is_of_another(&self, plugin: &str, sha256: &str) -> bool {
        let rollout = self.0.get(plugin);
        rollout.is_some_and(|rollout| rollout.sha256 != sha256)
    }

    /// Forgets the uses and trials of an attempt that failed.
    pub(super) fn start_again(&mut self) {
        let open = |rollout: &&mut Rollout| rollout.refused.is_none();
        for rollout in self.0.values_mut().filter(open) {
            rollout.uses = 0;
            (rollout.events, rollout.entities) = Default::default();
            rollout.maps_less.clear();
        }
    }

    /// The rollouts of these plugins, and the others.
    pub(super) fn split(self, of: impl Fn(&Arc<str>) -> bool) -> (Rollouts, Rollouts) {
        let (these, others) = self.0.into_iter().partition(|(plugin, _)| of(plugin));
        (Rollouts(these), Rollouts(others))
    }

    /// Updates the rollout of each plugin of a chain that was not refused, once however often the
    /// chain has it.
    pub(super) fn update(&mut self, chain: &Chain, mut update: impl FnMut(&mut Rollout)) {
        let name = |at: usize| chain.bindings()[at].component().name();
        for at in 0..chain.bindings().len() {
            let seen = (0..at).any(|before| name(before) == name(at));
            let open = |rollout: &&mut Rollout| rollout.refused.is_none() && !seen;
            if let Some(rollout) = self.find(name(at)).filter(open) {
                update(rollout);
            }
        }
    }

    /// The rollout of a plugin, if there is one.
    pub(super) fn find(&mut self, plugin: &str) -> Option<&mut Rollout> {
        self.0.get_mut(plugin)
    }
}

impl Rollout {
    /// The digest of the version.
    pub(super) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Work on it began at this moment.
    pub(super) fn began(&mut self, moment: Instant) {
        self.began = self.began.min(moment);
    }

    /// Its file was read within this time; `compiled` says how its code was obtained, if it was.
    pub(super) fn loaded(&mut self, read: Duration, compiled: Option<Compiled>) {
        (self.read, self.compiled) = (read, compiled);
    }

    /// It has one more use.
    pub(super) fn used(&mut self) {
        self.uses += 1;
    }

    /// It was configured once more.
    pub(super) fn configured(&mut self, took: Duration) {
        self.configure += took;
    }

    /// It passed `count` cases of its own.
    pub(super) fn passed_cases(&mut self, count: usize, took: Duration) {
        (self.cases, self.check_cases) = (count, took);
    }

    /// Its chain was run on recent events.
    pub(super) fn ran_on_events(&mut self, tally: &Tally, took: Duration) {
        self.events.add(tally);
        self.trials += took;
    }

    /// Its chain was run on recent entities.
    pub(super) fn ran_on_entities(&mut self, tally: &Tally, took: Duration) {
        self.entities.add(tally);
        self.trials += took;
    }

    /// It maps less than the version before it, and takes over all the same.
    pub(super) fn maps_less(&mut self, how: &str) {
        self.maps_less.push(how.to_owned());
    }

    /// It will not be used; the first reason counts.
    pub(super) fn refuse(&mut self, why: &str) {
        self.refused.get_or_insert_with(|| why.to_owned());
    }

    fn view(&self, result: &str, detail: Option<String>, end: TakenOver) -> SwapView {
        let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
        SwapView {
            time: self.time.into(),
            sha256: self.sha256.clone(),
            result: result.to_owned(),
            detail,
            tried: self.checks(),
            steps: StepsView {
                read_ms: ms(self.read),
                compile_ms: self.compiled.map_or(0.0, |compiled| ms(compiled.time)),
                from_cache: self.compiled.is_some_and(|compiled| compiled.from_cache),
                configure_ms: ms(self.configure),
                cases_ms: ms(self.check_cases),
                try_ms: ms(self.trials),
                exchange_ms: ms(end.exchange),
                drain_ms: ms(end.drain),
                total_ms: ms(self.began.elapsed()),
            },
        }
    }

    /// The steps that were done and their results, as one phrase.
    fn checks(&self) -> String {
        let mut done = Vec::new();
        match self.compiled {
            Some(Compiled {
                from_cache: true, ..
            }) => done.push("compiled code read from the cache".to_owned()),
            Some(Compiled {
                from_cache: false, ..
            }) => done.push("compiled".to_owned()),
            None => {}
        }
        if self.uses > 0 {
            done.push(format!(
                "configured for {}",
                counted(self.uses, "use", "uses")
            ));
        }
        if self.cases > 0 {
            done.push(format!(
                "passed {} of its own",
                counted(self.cases, "case", "cases")
            ));
        }
        done.extend(sampled(&self.events, ["event", "events"], "mapped"));
        done.extend(sampled(&self.entities, ["entity", "entities"], "rendered"));
        if self.uses > 0 && self.events.samples() + self.entities.samples() == 0 {
            done.push("no recent samples to try it on".to_owned());
        }
        if done.is_empty() {
            "nothing".to_owned()
        } else {
            done.join(", ")
        }
    }
}

fn counted(count: usize, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}

/// `tried on the last 16 events: 12 mapped, 3 dropped, 1 declined`
fn sampled(tally: &Tally, [singular, plural]: [&str; 2], made: &str) -> Option<String> {
    let samples = tally.samples();
    let parts = [
        (tally.made, made),
        (tally.dropped, "dropped"),
        (tally.declined, "declined"),
        (tally.faulted, "faulted"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (samples > 0).then(|| {
        format!(
            "tried on the last {}: {}",
            counted(samples, singular, plural),
            parts.join(", ")
        )
    })
}

/// The last rollout of each plugin, and the last refusal since.
#[derive(Default)]
pub(super) struct History {
    in_force: BTreeMap<Arc<str>, SwapView>,
    refused: BTreeMap<Arc<str>, SwapView>,
}

impl History {
    /// The rollout of the version in use.
    pub(super) fn last_swap(&self, plugin: &str) -> Option<&SwapView> {
        self.in_force.get(plugin)
    }

    /// The last rollout that was refused since.
    pub(super) fn last_refused(&self, plugin: &str) -> Option<&SwapView> {
        self.refused.get(plugin)
    }

    /// Records these rollouts as swapped in, with their configuration.
    pub(super) fn taken_over(&mut self, rollouts: Rollouts, end: TakenOver) {
        self.refused.clear();
        for (plugin, rollout) in rollouts.0 {
            let maps_less = rollout.maps_less.join("; ");
            let detail = Some(maps_less).filter(|how| !how.is_empty());
            let view = rollout.view("swapped", detail, end);
            let StepsView {
                read_ms,
                compile_ms,
                configure_ms,
                cases_ms,
                try_ms,
                exchange_ms,
                drain_ms,
                total_ms,
                ..
            } = view.steps;
            tracing::info!(
                plugin = &*plugin,
                version = version(&view.sha256),
                read_ms,
                compile_ms,
                configure_ms,
                cases_ms,
                try_ms,
                exchange_ms,
                drain_ms,
                total_ms,
                "new plugin version in use: {}",
                view.tried
            );
            if let Some(how) = &view.detail {
                tracing::warn!(
                    plugin = &*plugin,
                    version = version(&view.sha256),
                    "the new version maps less than the one before it: {how}"
                );
            }
            self.in_force.insert(plugin, view);
        }
    }

    /// Records these rollouts as refused, with their configuration. `first` is the first complaint.
    pub(super) fn refused(&mut self, rollouts: Rollouts, first: &str) {
        for (plugin, rollout) in rollouts.0 {
            let why = rollout
                .refused
                .clone()
                .unwrap_or_else(|| format!("another change was rejected: {first}"));
            let view = rollout.view("refused", Some(why.clone()), TakenOver::default());
            tracing::warn!(
                plugin = &*plugin,
                version = version(&view.sha256),
                "new plugin version refused: {why}; checks until then: {}",
                view.tried
            );
            self.refused.insert(plugin, view);
        }
    }

    /// Forgets the plugins that have left the configuration.
    pub(super) fn keep(&mut self, mut known: impl FnMut(&Arc<str>) -> bool) {
        self.in_force.retain(|plugin, _| known(plugin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(rollouts: &mut Rollouts) -> &mut Rollout {
        rollouts.entry(&"erp".into(), &"ab".repeat(32), Timestamp(5))
    }

    #[test]
    fn the_checks_of_a_rollout_are_shown_with_their_counts() {
        let mut rollouts = Rollouts::default();
        let erp = rollout(&mut rollouts);
        assert_eq!(erp.checks(), "nothing");
        erp.loaded(
            Duration::from_millis(2),
            Some(Compiled {
                time: Duration::from_millis(170),
                from_cache: false,
            }),
        );
        erp.used();
        erp.configured(Duration::from_millis(1));
        assert_eq!(
            erp.checks(),
            "compiled, configured for 1 use, no recent samples to try it on"
        );
        erp.used();
        erp.configured(Duration::from_millis(1));
        erp.passed_cases(4, Duration::from_millis(3));
        erp.ran_on_events(
            &Tally {
                made: 12,
                dropped: 3,
                declined: 1,
                ..Tally::default()
            },
            Duration::from_millis(4),
        );
        let checks = "compiled, configured for 2 uses, passed 4 cases of its own, tried on the last 16 events: 12 mapped, 3 dropped, 1 declined";
        assert_eq!(erp.checks(), checks);
        let mut history = History::default();
        history.taken_over(
            rollouts,
            TakenOver {
                exchange: Duration::from_micros(500),
                drain: Duration::from_millis(20),
            },
        );
        let swap = history.last_swap("erp").expect("it serves");
        assert_eq!(
            (
                swap.result.as_str(),
                swap.tried.as_str(),
                swap.detail.as_ref()
            ),
            ("swapped", checks, None)
        );
        assert_eq!(
            (
                swap.steps.compile_ms,
                swap.steps.configure_ms,
                swap.steps.exchange_ms
            ),
            (170.0, 2.0, 0.5)
        );
    }

    #[test]
    fn a_refusal_is_kept_until_a_configuration_takes_over() {
        let mut history = History::default();
        let mut first = Rollouts::default();
        rollout(&mut first);
        history.taken_over(first, TakenOver::default());
        let mut second = Rollouts::default();
        rollout(&mut second).refuse("the file is not Wasm");
        rollout(&mut second).refuse("and more");
        second.entry(&"pim".into(), "cd", Timestamp(6));
        history.refused(second, "plugin erp: the file is not Wasm");
        let why = |history: &History, plugin: &str| {
            history
                .last_refused(plugin)
                .and_then(|swap| swap.detail.clone())
        };
        assert_eq!(
            why(&history, "erp").as_deref(),
            Some("the file is not Wasm")
        );
        let together = "another change was rejected: plugin erp: the file is not Wasm";
        assert_eq!(why(&history, "pim").as_deref(), Some(together));
        assert!(history.last_swap("erp").is_some(), "the old one serves on");
        let mut third = Rollouts::default();
        rollout(&mut third).maps_less("on source erp it maps 3 of 4");
        history.taken_over(third, TakenOver::default());
        let swap = history.last_swap("erp").expect("it serves");
        assert_eq!(swap.detail.as_deref(), Some("on source erp it maps 3 of 4"));
        history.taken_over(Rollouts::default(), TakenOver::default());
        assert_eq!(why(&history, "erp"), None);
        history.keep(|_| false);
        assert!(history.last_swap("erp").is_none());
    }
}
