//! New versions of plugins on their way into force: what was tried of each, what it gave, how long
//! each step took, and how it ended.
//!
//! An attempt is noted for each plugin whose component or settings are not those that serve. It
//! ends in force or refused; the last of each kind is kept and shown, so that an author sees why
//! what he has written does not serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::Timestamp;
use crate::plan::Complaint;
use crate::plugin::{Compiled, Trial};
use crate::server::views::{StepsView, SwapView};

/// The attempts of one change of configuration, by plugin.
#[derive(Default)]
pub(super) struct Attempts(BTreeMap<Arc<str>, Attempt>);

/// One plugin on its way.
pub(super) struct Attempt {
    sha256: String,
    time: Timestamp,
    began: Instant,
    read: Duration,
    compiled: Option<Compiled>,
    uses: usize,
    configure: Duration,
    /// Cases of its own that it passed.
    cases: usize,
    check_cases: Duration,
    events: Trial,
    entities: Trial,
    trial: Duration,
    refused: Option<String>,
}

/// How long the end of a change took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TakenOver {
    /// Until every source was served by the new plan.
    pub(super) exchange: Duration,
    /// From then on until the last channel had ended its flights with the old one.
    pub(super) drain: Duration,
}

impl Attempts {
    /// Those of the plugins that a configuration complains of before anything of it is loaded.
    pub(super) fn refused<'a>(
        known: impl Iterator<Item = &'a Arc<str>>,
        complaints: &[Complaint],
        now: Timestamp,
    ) -> Attempts {
        let mut attempts = Attempts::default();
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
                attempts
                    .of(plugin, "", now)
                    .refuse(&format!("{}{help}", complaint.what));
            }
        }
        attempts
    }

    /// The attempt of a plugin, begun now if there is none.
    pub(super) fn of(&mut self, plugin: &Arc<str>, sha256: &str, now: Timestamp) -> &mut Attempt {
        self.0.entry(plugin.clone()).or_insert_with(|| Attempt {
            sha256: sha256.to_owned(),
            time: now,
            began: Instant::now(),
            read: Duration::ZERO,
            compiled: None,
            uses: 0,
            configure: Duration::ZERO,
            cases: 0,
            check_cases: Duration::ZERO,
            events: Trial::default(),
            entities: Trial::default(),
            trial: Duration::ZERO,
            refused: None,
        })
    }

    /// The attempt of a plugin, if there is one.
    pub(super) fn find(&mut self, plugin: &str) -> Option<&mut Attempt> {
        self.0.get_mut(plugin)
    }
}

impl Attempt {
    /// Its file was read within that time, and so it came to its code, if it did.
    pub(super) fn loaded(&mut self, read: Duration, compiled: Option<Compiled>) {
        (self.read, self.compiled) = (read, compiled);
    }

    /// It was configured for one more use.
    pub(super) fn configured(&mut self, took: Duration) {
        self.uses += 1;
        self.configure += took;
    }

    /// It passed so many cases of its own.
    pub(super) fn passed_cases(&mut self, count: usize, took: Duration) {
        (self.cases, self.check_cases) = (count, took);
    }

    /// Its chain was tried on events.
    pub(super) fn tried_on_events(&mut self, trial: &Trial, took: Duration) {
        add(&mut self.events, trial);
        self.trial += took;
    }

    /// Its chain was tried on entities.
    pub(super) fn tried_on_entities(&mut self, trial: &Trial, took: Duration) {
        add(&mut self.entities, trial);
        self.trial += took;
    }

    /// It is not put in force; the first reason counts.
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
            tried: self.tried(),
            steps: StepsView {
                read_ms: ms(self.read),
                compile_ms: self.compiled.map_or(0.0, |compiled| ms(compiled.time)),
                from_cache: self.compiled.is_some_and(|compiled| compiled.from_cache),
                configure_ms: ms(self.configure),
                cases_ms: ms(self.check_cases),
                try_ms: ms(self.trial),
                exchange_ms: ms(end.exchange),
                drain_ms: ms(end.drain),
                total_ms: ms(self.began.elapsed()),
            },
        }
    }

    /// What was tried and what it gave, in a sentence.
    fn tried(&self) -> String {
        let mut told = Vec::new();
        match self.compiled {
            Some(Compiled {
                from_cache: true, ..
            }) => told.push("taken from the compiled code of earlier".to_owned()),
            Some(Compiled {
                from_cache: false, ..
            }) => told.push("compiled".to_owned()),
            None => {}
        }
        if self.uses > 0 {
            told.push(format!(
                "configured for {}",
                counted(self.uses, "use", "uses")
            ));
        }
        if self.cases > 0 {
            told.push(format!(
                "passed {} of its own",
                counted(self.cases, "case", "cases")
            ));
        }
        told.extend(sampled(&self.events, ["event", "events"], "mapped"));
        told.extend(sampled(&self.entities, ["entity", "entities"], "rendered"));
        if self.uses > 0 && self.events.samples() + self.entities.samples() == 0 {
            told.push("nothing had been seen to try it on".to_owned());
        }
        if told.is_empty() {
            "nothing".to_owned()
        } else {
            told.join(", ")
        }
    }
}

fn add(all: &mut Trial, one: &Trial) {
    all.made += one.made;
    all.dropped += one.dropped;
    all.declined += one.declined;
    all.faulted += one.faulted;
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `tried on the last 16 events: 12 mapped, 3 dropped, 1 declined`
fn sampled(trial: &Trial, [one, many]: [&str; 2], made: &str) -> Option<String> {
    let samples = trial.samples();
    let parts = [
        (trial.made, made),
        (trial.dropped, "dropped"),
        (trial.declined, "declined"),
        (trial.faulted, "faulted"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (samples > 0).then(|| {
        format!(
            "tried on the last {}: {}",
            counted(samples, one, many),
            parts.join(", ")
        )
    })
}

/// How each plugin came to serve, and what was refused since.
#[derive(Default)]
pub(super) struct History {
    in_force: BTreeMap<Arc<str>, SwapView>,
    refused: BTreeMap<Arc<str>, SwapView>,
}

impl History {
    /// How the version in force came into force.
    pub(super) fn last_swap(&self, plugin: &str) -> Option<&SwapView> {
        self.in_force.get(plugin)
    }

    /// The last attempt that was refused since.
    pub(super) fn last_refused(&self, plugin: &str) -> Option<&SwapView> {
        self.refused.get(plugin)
    }

    /// A configuration is in force with all its plugins; these came with it.
    pub(super) fn taken_over(&mut self, attempts: Attempts, end: TakenOver) {
        self.refused.clear();
        for (plugin, attempt) in attempts.0 {
            let view = attempt.view("swapped", None, end);
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
                sha256 = &view.sha256[..12.min(view.sha256.len())],
                read_ms,
                compile_ms,
                configure_ms,
                cases_ms,
                try_ms,
                exchange_ms,
                drain_ms,
                total_ms,
                "the plugin serves: {}",
                view.tried
            );
            self.in_force.insert(plugin, view);
        }
    }

    /// A configuration was refused, with the plugins that would have come with it. `first` is the
    /// first complaint.
    pub(super) fn refused(&mut self, attempts: Attempts, first: &str) {
        for (plugin, attempt) in attempts.0 {
            let why = attempt
                .refused
                .clone()
                .unwrap_or_else(|| format!("it was changed together with what is wrong: {first}"));
            let view = attempt.view("refused", Some(why.clone()), TakenOver::default());
            let sha256 = &view.sha256[..12.min(view.sha256.len())];
            tracing::warn!(
                plugin = &*plugin,
                sha256,
                "the plugin is not put in force: {why}; until then: {}",
                view.tried
            );
            self.refused.insert(plugin, view);
        }
    }

    /// What has left the configuration is forgotten.
    pub(super) fn keep(&mut self, mut known: impl FnMut(&Arc<str>) -> bool) {
        self.in_force.retain(|plugin, _| known(plugin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(attempts: &mut Attempts) -> &mut Attempt {
        attempts.of(&"erp".into(), &"ab".repeat(32), Timestamp(5))
    }

    #[test]
    fn what_was_tried_is_told_with_its_counts() {
        let mut attempts = Attempts::default();
        let erp = attempt(&mut attempts);
        assert_eq!(erp.tried(), "nothing");
        erp.loaded(
            Duration::from_millis(2),
            Some(Compiled {
                time: Duration::from_millis(170),
                from_cache: false,
            }),
        );
        erp.configured(Duration::from_millis(1));
        assert_eq!(
            erp.tried(),
            "compiled, configured for 1 use, nothing had been seen to try it on"
        );
        erp.configured(Duration::from_millis(1));
        erp.passed_cases(4, Duration::from_millis(3));
        erp.tried_on_events(
            &Trial {
                made: 12,
                dropped: 3,
                declined: 1,
                ..Trial::default()
            },
            Duration::from_millis(4),
        );
        let told = "compiled, configured for 2 uses, passed 4 cases of its own, tried on the last 16 events: 12 mapped, 3 dropped, 1 declined";
        assert_eq!(erp.tried(), told);
        let mut history = History::default();
        history.taken_over(
            attempts,
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
            ("swapped", told, None)
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
    fn a_refusal_is_kept_beside_what_serves_until_something_is_put_in_force() {
        let mut history = History::default();
        let mut first = Attempts::default();
        attempt(&mut first);
        history.taken_over(first, TakenOver::default());
        let mut second = Attempts::default();
        attempt(&mut second).refuse("the file is not Wasm");
        attempt(&mut second).refuse("and more");
        second.of(&"pim".into(), "cd", Timestamp(6));
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
        let together =
            "it was changed together with what is wrong: plugin erp: the file is not Wasm";
        assert_eq!(why(&history, "pim").as_deref(), Some(together));
        assert!(history.last_swap("erp").is_some(), "the old one serves on");
        history.taken_over(Attempts::default(), TakenOver::default());
        assert_eq!(why(&history, "erp"), None);
        history.keep(|_| false);
        assert!(history.last_swap("erp").is_none());
    }
}
