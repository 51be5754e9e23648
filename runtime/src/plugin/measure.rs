//! Loads a component for its author, on an engine that counts fuel, unlike the serving one.

use std::path::Path;

use crate::plugin::binary::Binary;
use crate::plugin::cache::Cache;
use crate::plugin::compiling::Compiling;
use crate::plugin::component::{Component, Loader};
use crate::plugin::engine::{self, Layout};
use crate::plugin::figures::Figures;
use crate::plugin::refusals::Refusals;
use crate::plugin::words::{Breach, Fault, Limits};

/// Checks and compiles a component on an engine of its own that counts fuel. Compiled code is kept
/// in `cache`; a folder that cannot be used is ignored. Blocking.
///
/// # Errors
/// When the component cannot be used, or the engine cannot start on this machine.
pub(crate) fn load(
    name: &str,
    binary: &Binary,
    limits: Limits,
    cache: Option<&Path>,
) -> Result<Component, Fault> {
    let engine = engine::measuring().map_err(|error| Fault::Breach {
        breach: Breach::Host,
        what: error.to_string(),
    })?;
    let figures = Figures::default();
    let cache = cache.and_then(|folder| Cache::open(folder, &engine).ok());
    let loader = Loader {
        engine: &engine,
        layout: Layout::Wide,
        apart: None,
        cache: cache.as_ref(),
        refusals: &Refusals::default(),
        compiling: &Compiling::default(),
        figures: &figures,
    };
    loader.load(name, binary, limits)
}
