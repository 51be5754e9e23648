//! Serves plugins: loads, configures and calls components, each call within its limits.
//!
//! Only this room uses wasmtime and the types of the plugin interface. It promises that a plugin
//! gets nothing but its input and `log`, that a call ends within its limits, that a fault affects
//! only the item that caused it, and that one chain handles a batch from its first filter to its
//! last retry. The room `author` builds plugins.
//!
//! `words` is the vocabulary and `host` the entry point. A component (`component`, compiled by
//! `compile`, kept by `cache`, or remembered in `refusals`) is configured and put into a `chain`; `workers` take a `batch` of
//! items from the `queue` and run it through the chain, in an `instance` from the `pool`, whose calls
//! cross `bindings` within `limits`. A plugin's `standing` decides which workers it gets; `room` bounds
//! what the results of many batches take. Whether the system lets plugins run is `allowed`.

mod allowed;
mod batch;
mod binary;
mod bindings;
mod builtin;
mod cache;
mod chain;
pub(crate) mod compile;
mod compiling;
mod component;
mod engine;
pub(crate) mod figures;
mod host;
mod instance;
mod kept;
mod limits;
pub(crate) mod log;
mod measure;
mod pool;
mod preview;
mod queue;
mod quota;
mod refusals;
mod room;
mod seal;
mod sizes;
mod standing;
#[cfg(test)]
pub(crate) mod tests;
mod words;
mod workers;

pub use self::binary::{Binary, version};
pub use self::builtin::{BUILTINS, builtin};
pub use self::chain::{Binding, Chain, ChannelChain, SourceChain};
pub use self::compile::Apart;
pub use self::component::{Compiled, Component};
pub use self::host::{Host, Options};
pub use self::kept::Kept;
pub use self::preview::{ChainPreview, StagePreview, StageResult};
pub use self::room::Room;
pub use self::words::{Breach, EntityVerdict, EventVerdict, Failed, Fault, Limits, Priority, Role};

pub(crate) use self::bindings::{Answer, Declined};
pub(crate) use self::chain::Items;
pub(crate) use self::instance::Instance;
pub(crate) use self::measure::load as load_measured;
pub(crate) use self::sizes::FILE_BYTES_MAX;
pub(crate) use self::words::is_mistake;
