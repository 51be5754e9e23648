//! A plugin's test suite: all its cases on one component, run and judged.
//!
//! A case runs twice, each time in an instance of its own, and twice more in one instance with all
//! the others. A plugin must be the same function in every run, because replay, suppression and the
//! reuse of instances depend on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::author::cases::written::to_json;
use crate::author::cases::{Case, Difference, Output, spread};
use crate::author::harness::{CaseRun, Harness};
use crate::plugin::{self, Binary, Fault, Limits, Role};

/// The results of all cases of one component.
pub struct Results {
    /// `name@version` of the component.
    pub plugin: String,
    /// SHA-256 of the component, 64 hex digits.
    pub sha256: String,
    /// All roles of the component.
    pub roles: Vec<Role>,
    /// In the order in which the cases were given.
    pub cases: Vec<Judged>,
}

/// A case, its first run, and the verdict on all its runs.
pub struct Judged {
    /// The case.
    pub case: Case,
    /// Its first run.
    pub run: CaseRun,
    /// The verdict.
    pub verdict: Verdict,
}

/// The verdict on a case.
pub enum Verdict {
    /// Every run returned the expected output.
    Passes,
    /// The output differs from the expected one.
    Differs(Difference),
    /// No output is expected yet.
    Open,
    /// The runs of the case differ from one another.
    NotDeterministic(Variance),
}

/// How the runs of one case differ.
pub enum Variance {
    /// A second fresh instance returned this output.
    Output(Output),
    /// Two fresh instances used different amounts of fuel.
    Fuel(u64, u64),
    /// After other cases in the same instance, it returned this output: state leaks between calls.
    Leak(Output),
}

/// Runs cases on a component and judges them. Blocking.
///
/// # Errors
/// When the component cannot be used, or does not take such input.
pub fn run(name: &str, binary: &Binary, cases: Vec<Case>) -> Result<Results, Fault> {
    let harness = Harness::load(name, binary, Limits::default())?;
    let mut judged = Vec::with_capacity(cases.len());
    for case in cases {
        let (run, again) = (harness.run_case(&case)?, harness.run_case(&case)?);
        let verdict = match (case.judge(&run.output), variance(&run, &again)) {
            (_, Some(variance)) => Verdict::NotDeterministic(variance),
            (Err(difference), None) => Verdict::Differs(difference),
            (Ok(()), None) if case.expected.is_none() => Verdict::Open,
            (Ok(()), None) => Verdict::Passes,
        };
        judged.push(Judged { case, run, verdict });
    }
    // Cases with the same settings share an instance, and each runs twice in it.
    let settings = |at: &usize| &judged[*at].case.settings;
    let mut order: Vec<usize> = (0..judged.len()).collect();
    order.sort_by(|a, b| settings(a).cmp(settings(b)));
    let round: Vec<usize> = order
        .chunk_by(|a, b| settings(a) == settings(b))
        .flat_map(|same| [same, same].concat())
        .collect();
    let outputs = harness.run_in_turn(round.iter().map(|&at| &judged[at].case))?;
    for (at, output) in round.into_iter().zip(outputs) {
        let judged = &mut judged[at];
        if output != judged.run.output && !matches!(judged.verdict, Verdict::NotDeterministic(_)) {
            judged.verdict = Verdict::NotDeterministic(Variance::Leak(output));
        }
    }
    Ok(Results {
        plugin: harness.label().to_owned(),
        sha256: harness.sha256().to_owned(),
        roles: harness.roles().to_vec(),
        cases: judged,
    })
}

/// The difference between two runs in fresh instances, if any.
fn variance(first: &CaseRun, second: &CaseRun) -> Option<Variance> {
    if first.output != second.output {
        return Some(Variance::Output(second.output.clone()));
    }
    // After a fault, fuel may differ: how far a call gets within a time limit depends on the
    // machine.
    (first.fuel != second.fuel && !first.fault).then_some(Variance::Fuel(first.fuel, second.fuel))
}

impl Results {
    /// Whether every case passes.
    pub fn all_pass(&self) -> bool {
        self.count(|verdict| matches!(verdict, Verdict::Passes)) == self.cases.len()
    }

    /// The number of cases with such a verdict.
    pub fn count(&self, matches: fn(&Verdict) -> bool) -> usize {
        self.cases
            .iter()
            .filter(|judged| matches(&judged.verdict))
            .count()
    }

    /// Writes the output of each case that differs or is open as the expected one. A mistake of the
    /// plugin is never written: who wants to expect one writes it by hand.
    ///
    /// # Errors
    /// The file that cannot be written, and why.
    pub fn bless(&self, folder: &Path) -> Result<Blessing, (PathBuf, io::Error)> {
        let mut blessing = Blessing::default();
        for Judged { case, run, verdict } in &self.cases {
            if !matches!(verdict, Verdict::Differs(_) | Verdict::Open) {
                continue;
            }
            if let Some(code) = mistake(run) {
                blessing.mistakes.push((case.name.clone(), code.to_owned()));
                continue;
            }
            let path = folder.join(&case.name).join("expected.json");
            let text = format!("{}\n", spread(&to_json(&run.output)));
            fs::write(&path, text).map_err(|error| (path, error))?;
            blessing.written.push(case.name.clone());
        }
        Ok(blessing)
    }
}

/// What [`Results::bless`] did.
#[derive(Default)]
pub struct Blessing {
    /// The cases whose output is expected from now on.
    pub written: Vec<String>,
    /// The cases whose output is a mistake of the plugin, each with its code.
    pub mistakes: Vec<(String, String)>,
}

/// The code of an output that no author means: the host's report of a fault, or the kit's of an
/// exception.
fn mistake(run: &CaseRun) -> Option<&str> {
    match &run.output {
        Output::Failed(failure) if run.fault || plugin::is_mistake(&failure.code) => {
            Some(&failure.code)
        }
        _ => None,
    }
}
