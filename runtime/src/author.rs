//! Builds and tests plugins: from a folder of source to a component, and from a case to a verdict.
//!
//! `toolchain` builds components, `template` starts new folders, `cases` are examples with their
//! expected output, `harness` runs a component once and measures it, and `suite` judges all cases
//! of a component. The room uses `plugin` and `model`; `cli` is its user, and `app` runs the cases
//! inside a component before it takes over.

pub(crate) mod cases;
pub(crate) mod harness;
pub(crate) mod suite;
pub(crate) mod template;
pub(crate) mod toolchain;
