//! A component that is checked, compiled, and ready to be instantiated.
//!
//! A component is rejected with a sentence that says what to change. An accepted one exports roles
//! of the plugin interface, imports nothing but `log`, and has been instantiated once within its
//! limits.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Engine;
use wasmtime::component::{Component as Code, InstancePre, Linker};

use crate::plugin::allowed;
use crate::plugin::binary::{self, Binary};
use crate::plugin::bindings::{self, Indices};
use crate::plugin::cache::Cache;
use crate::plugin::compile::{self, Apart, HOW_WITHOUT_WASI, Kind};
use crate::plugin::compiling::{Compiling, Turn};
use crate::plugin::engine::Layout;
use crate::plugin::figures::{Counter, Figures};
use crate::plugin::instance::{Instance, State};
use crate::plugin::quota::Quota;
use crate::plugin::refusals::{Refusal, Refusals};
use crate::plugin::sizes;
use crate::plugin::standing::{Conduct, Standing};
use crate::plugin::words::{Breach, Fault, Limits, Role};

/// The interface, and the versions of it that this host supports.
const PACKAGE: &str = "weir:plugin/";
const VERSION: &str = "0.1.";

/// A component, which any number of bindings can use.
pub struct Component {
    name: Arc<str>,
    sha256: String,
    label: String,
    bytes: usize,
    roles: Vec<Role>,
    limits: Limits,
    pre: InstancePre<State>,
    indices: Indices,
    counter: Arc<Counter>,
    conduct: Conduct,
    quota: Arc<Quota>,
    compiled: Compiled,
}

/// How a component's code was obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Time for checking it, and for compiling it or reading its code.
    pub time: Duration,
    /// Whether the code was read from the cache.
    pub from_cache: bool,
}

/// Loads components, with an engine, an optional cache of compiled code, and the counters.
pub(super) struct Loader<'a> {
    pub(super) engine: &'a Engine,
    pub(super) layout: Layout,
    /// The compiler process; without one, this process compiles, without bounds on time and memory.
    pub(super) apart: Option<&'a Apart>,
    pub(super) cache: Option<&'a Cache>,
    pub(super) compiling: &'a Compiling,
    pub(super) refusals: &'a Refusals,
    pub(super) figures: &'a Figures,
}

impl<'a> Loader<'a> {
    /// Checks and compiles a component, in 0.1 s to 10 s of one core, or reads it from the cache in
    /// a few milliseconds.
    pub(super) fn load(
        &self,
        name: &str,
        binary: &Binary,
        limits: Limits,
    ) -> Result<Component, Fault> {
        let unusable = |why: String| Fault::Unusable(format!("plugin {name}: {why}"));
        let (refusals, sha256) = (self.refusals, binary.sha256());
        // It ends when the code is in the cache, or its refusal noted: those that wait look there.
        let mut turn = None;
        // A compiler is large, and hostile code may make it panic; treat that as a refusal.
        let loaded = catch_unwind(AssertUnwindSafe(|| {
            self.checked(name, binary, limits, &mut turn)
        }));
        loaded
            .unwrap_or_else(|_| Err("the compiler gave up on it".to_owned().into()))
            .inspect_err(|refusal| refusals.note(sha256, limits, refusal))
            .map_err(|refusal| unusable(refusal.why))
    }

    fn checked(
        &self,
        name: &str,
        binary: &Binary,
        limits: Limits,
        turn: &mut Option<Turn<'a>>,
    ) -> Result<Component, Refusal> {
        let started = Instant::now();
        let kind = Kind::of(binary.bytes())?;
        allowed::to_run_code().map_err(Refusal::for_now)?;
        let (code, fresh) = self.code(binary, limits, turn)?;
        check_imports(self.engine, &code)?;
        let roles = roles(self.engine, &code, kind)?;
        let mut linker = Linker::new(self.engine);
        let linked = bindings::link(&mut linker).and_then(|()| linker.instantiate_pre(&code));
        let differs = |error: wasmtime::Error| {
            format!("its types are not those of {PACKAGE}{VERSION}x: {error:#}")
        };
        let pre = linked.map_err(differs)?;
        let indices = Indices::find(&pre, &roles).map_err(differs)?;
        let version = binary::version(binary.sha256());
        let label = format!("{name}@{version}");
        let counter = self.figures.counter(name, version);
        let quota = self.figures.quota(name);
        let compiled = Compiled {
            time: started.elapsed(),
            from_cache: fresh.is_none(),
        };
        let component = Component {
            name: name.into(),
            sha256: binary.sha256().to_owned(),
            label,
            bytes: binary.bytes().len(),
            roles,
            limits,
            pre,
            indices,
            counter,
            conduct: Conduct::default(),
            quota,
            compiled,
        };
        Instance::start(&component, false).map_err(does_not_start)?;
        if let (Some(fresh), Some(cache)) = (fresh, self.cache) {
            cache.put(&component.sha256, &fresh);
        }
        Ok(component)
    }

    /// The code of a file; and its serialized form for the cache, unless it comes from there.
    fn code(
        &self,
        binary: &Binary,
        limits: Limits,
        turn: &mut Option<Turn<'a>>,
    ) -> Result<(Code, Option<Vec<u8>>), Refusal> {
        let (bytes, sha256) = (binary.bytes(), binary.sha256());
        // Again whenever somebody else had a turn with it: without a cache, or if that one was kept
        // from compiling it, there is nothing to find.
        while turn.is_none() {
            if let Some(why) = self.refusals.find(sha256, limits) {
                return Err(why.into());
            }
            if let Some(code) = self.cache.and_then(|cache| cache.get(self.engine, sha256)) {
                return Ok((code, None));
            }
            *turn = self.compiling.begin(sha256);
        }
        let Some(apart) = self.apart else {
            let code = compile::here(self.engine, bytes)?;
            let fresh = code
                .serialize()
                .map_err(|error| format!("its code cannot be written: {error:#}"))?;
            return Ok((code, Some(fresh)));
        };
        // Reject oversized files before starting a process.
        sizes::check(bytes)?;
        let fresh = apart.compile(bytes, self.layout)?;
        // SAFETY: this program's own compiler has just produced the code and sent it through a
        // private pipe.
        let code = unsafe { compile::revive(self.engine, &fresh) };
        Ok((
            code.map_err(|error| Refusal::for_now(format!("its code cannot be used: {error:#}")))?,
            Some(fresh),
        ))
    }
}

impl Component {
    /// The name under which it is configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// SHA-256 of the file, 64 hex digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The first 12 digits of the SHA-256, the short name of a version.
    pub fn version(&self) -> &str {
        binary::version(&self.sha256)
    }

    /// `name@version`, as shown to people and in `weir-plugin`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its roles, filters before mappers and renderers.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Its limits per batch.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The size of its file, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of the sampled calls of this version returned something else in a new instance.
    pub fn differing(&self) -> u64 {
        self.counter.differing()
    }

    /// How its batches are treated now.
    pub fn standing(&self) -> Standing {
        self.conduct.standing(Instant::now())
    }

    /// How its code was obtained.
    pub fn compiled(&self) -> Compiled {
        self.compiled
    }

    pub(super) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    pub(super) fn indices(&self) -> &Indices {
        &self.indices
    }

    pub(super) fn counter(&self) -> &Counter {
        &self.counter
    }

    pub(super) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    pub(super) fn conduct(&self) -> &Conduct {
        &self.conduct
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("label", &self.label)
            .field("roles", &self.roles)
            .finish_non_exhaustive()
    }
}

fn does_not_start(fault: Fault) -> Refusal {
    let why = format!("it does not start: {fault}");
    match fault {
        // Time depends on the machine, and so does room for another instance.
        Fault::Breach {
            breach: Breach::Time | Breach::Host,
            ..
        } => Refusal::for_now(why),
        _ => why.into(),
    }
}

/// This check is the whole sandbox: a component that imports anything but `log` is rejected.
fn check_imports(engine: &Engine, code: &Code) -> Result<(), String> {
    let known = |name: &str| {
        let interface = name
            .strip_prefix(PACKAGE)
            .and_then(|rest| rest.split_once('@'));
        interface.is_some_and(|(interface, version)| {
            matches!(interface, "log" | "types") && version.starts_with(VERSION)
        })
    };
    let component = code.component_type();
    let others: Vec<&str> = component
        .imports(engine)
        .map(|(name, _)| name)
        .filter(|name| !known(name))
        .collect();
    let Some(first) = others.first() else {
        return Ok(());
    };
    if first.starts_with(PACKAGE) {
        return Err(format!(
            "it imports {first}; this Weir provides {PACKAGE}log@{VERSION}x"
        ));
    }
    let mut why = format!("it imports {first}");
    if others.len() > 1 {
        let _ = write!(why, " and {} more", others.len() - 1);
    }
    let _ = write!(why, ", but a plugin can import nothing except {PACKAGE}log");
    if others.iter().any(|name| name.starts_with("wasi:")) {
        why.push_str(HOW_WITHOUT_WASI);
    }
    Err(why)
}

fn roles(engine: &Engine, code: &Code, kind: Kind) -> Result<Vec<Role>, String> {
    let component = code.component_type();
    let exports: Vec<(&str, &str)> = component
        .exports(engine)
        .filter_map(|(name, _)| name.strip_prefix(PACKAGE)?.split_once('@'))
        .collect();
    if let Some((name, version)) = exports
        .iter()
        .find(|(_, version)| !version.starts_with(VERSION))
    {
        return Err(format!(
            "it is built for {PACKAGE}{name}@{version}; this Weir supports {VERSION}x"
        ));
    }
    let has = |interface: &str| exports.iter().any(|(name, _)| *name == interface);
    let roles: Vec<Role> = Role::ALL
        .into_iter()
        .filter(|role| has(role.name()))
        .collect();
    if roles.is_empty() {
        let mut why = format!(
            "it exports none of event-filter, mapper, entity-filter and renderer of {PACKAGE}{VERSION}x"
        );
        if kind == Kind::Module {
            why.push_str("; it is a core module, which has to carry its WIT type (bindings made by wit-bindgen put it there)");
        }
        return Err(why);
    }
    if !has("settings") {
        return Err(format!(
            "it does not export {PACKAGE}settings, which every plugin must"
        ));
    }
    Ok(roles)
}
