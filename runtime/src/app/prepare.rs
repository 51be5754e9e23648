//! Components that are compiled and checked before a plan can use them.
//!
//! Compiling may take minutes, and a component's own cases seconds. Blocking; run it off the serving
//! threads, and not within the turn of a reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::author::cases;
use crate::plugin::{Binary, Component, Host, Limits};

/// Time that a component may spend on its own cases: each is a call within its limits, and there
/// may be hundreds.
const CASES_TIME_MAX: Duration = Duration::from_secs(10);

/// A component that has to be compiled and checked before the plan can use it.
pub(super) struct Unprepared {
    pub(super) name: Arc<str>,
    pub(super) binary: Binary,
    pub(super) limits: Limits,
    /// When its file began to be read, and how long that took.
    pub(super) began: Instant,
    pub(super) read: Duration,
}

/// A component that was compiled and has passed its own cases, or the reason why it cannot be used.
pub(super) struct Prepared {
    sha256: String,
    limits: Limits,
    pub(super) began: Instant,
    pub(super) read: Duration,
    pub(super) result: Result<Checked, String>,
}

/// A component that can be used.
pub(super) struct Checked {
    pub(super) component: Arc<Component>,
    binary: Binary,
    /// The number of its own cases, and how long they took.
    pub(super) cases: usize,
    pub(super) took: Duration,
}

/// The prepared components of a plan, by plugin.
#[derive(Default)]
pub(super) struct AllPrepared(BTreeMap<Arc<str>, Prepared>);

impl AllPrepared {
    /// Compiles and checks these components too.
    pub(super) fn add(&mut self, host: &Host, unprepared: Vec<Unprepared>) {
        for one in unprepared {
            self.0.insert(one.name.clone(), one.prepare(host));
        }
    }

    /// The component of a plugin, if it has these bytes and limits.
    pub(super) fn get(&self, name: &str, sha256: &str, limits: Limits) -> Option<&Prepared> {
        let fits = |prepared: &&Prepared| prepared.sha256 == sha256 && prepared.limits == limits;
        self.0.get(name).filter(fits)
    }

    /// The digest of a plugin's file.
    pub(super) fn sha256(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|prepared| &*prepared.sha256)
    }

    /// The files of the usable components of these plugins.
    pub(super) fn into_binaries(
        self,
        wanted: impl Fn(&Arc<str>) -> bool,
    ) -> BTreeMap<Arc<str>, Binary> {
        let usable = self.0.into_iter().filter(|(name, _)| wanted(name));
        usable
            .filter_map(|(name, prepared)| Some((name, prepared.result.ok()?.binary)))
            .collect()
    }
}

impl Unprepared {
    fn prepare(self, host: &Host) -> Prepared {
        let Unprepared {
            name,
            binary,
            limits,
            began,
            read,
        } = self;
        let sha256 = binary.sha256().to_owned();
        let loaded = host.load(&name, &binary, limits);
        let check = |component: Arc<Component>| {
            let started = Instant::now();
            let cases = own_cases(&component, binary.bytes())
                .map_err(|why| format!("plugin {name}: {why}"))?;
            Ok(Checked {
                component,
                binary,
                cases,
                took: started.elapsed(),
            })
        };
        Prepared {
            sha256,
            limits,
            began,
            read,
            result: loaded.map_err(|fault| fault.to_string()).and_then(check),
        }
    }
}

/// Runs the cases that a component carries and returns their number.
///
/// # Errors
/// The first case that fails.
fn own_cases(component: &Component, bytes: &[u8]) -> Result<usize, String> {
    let started = Instant::now();
    let cases = cases::embedded(bytes).map_err(|error| error.to_string())?;
    for case in &cases {
        case.check(component)
            .map_err(|fault| format!("its own case {}: {fault}", case.name))?
            .map_err(|difference| format!("its own {difference}"))?;
        if started.elapsed() > CASES_TIME_MAX {
            return Err(format!(
                "its own cases take longer than {} s",
                CASES_TIME_MAX.as_secs()
            ));
        }
    }
    Ok(cases.len())
}
