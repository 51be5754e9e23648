//! The engine: how guest code is compiled and run, and the ticker that makes time pass for it.
//!
//! Three kinds: one that serves, with instances from a pool; one that only compiles, for the
//! process that does so apart; and one for `author` that counts fuel. In all of them a
//! guest is deterministic: no threads, one bit pattern for NaN, no relaxed SIMD.

use std::thread;

use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::plugin::limits::{
    CORE_INSTANCES_MAX, EPOCH, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX,
};
use crate::plugin::pool::HELD_MAX;
use crate::plugin::words::Error;

/// How deep guest calls may go, in bytes of native stack. Worker threads have several times that.
const STACK_BYTES_MAX: usize = 512 << 10;
/// Instances outside the workers at one time: components being loaded and configured.
const SPARE_INSTANCES: usize = 32;

/// What a plugin may be made of: the second edition of Wasm, which every compiler to it writes,
/// with what the engines of other languages need beyond it (QuickJS two memories, CPython computed
/// constants). Whatever else there is or comes is refused by name: each feature is code of the host
/// that hostile bytes can reach, and the interface needs none of them.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);

/// How much address space is set aside for each memory of a guest; compiled code depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// 4 GiB, so that accesses need no check by code.
    Wide,
    /// As much as is used: for machines on which address space is short.
    Narrow,
}

/// The engine that serves with so many workers. Where the address space for a pool is missing (a
/// tight `ulimit -v`, strict overcommit), instances are made on demand: correct, only slower.
pub(super) fn serving(workers: usize) -> Result<(Engine, Layout), Error> {
    let mut config = config(Layout::Wide);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(workers)));
    let engine = Engine::new(&config)
        .map(|engine| (engine, Layout::Wide))
        .or_else(|error| {
            tracing::warn!("plugins run without a memory pool, some 20 % slower: {error:#}");
            Engine::new(&self::config(Layout::Narrow)).map(|engine| (engine, Layout::Narrow))
        });
    let (engine, layout) =
        engine.map_err(|error| Error::new("the Wasm engine cannot start", error))?;
    tick(&engine)?;
    Ok((engine, layout))
}

/// An engine that makes code for a serving one and runs none, in a process that does nothing else.
pub(super) fn compiling(layout: Layout) -> wasmtime::Result<Engine> {
    let mut config = config(layout);
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .parallel_compilation(true);
    Engine::new(&config)
}

/// The engine of `author`, which counts fuel.
pub(super) fn measuring() -> Result<Engine, Error> {
    let mut config = config(Layout::Wide);
    // The author waits, and a whole Python takes some 20 s of one core.
    config.consume_fuel(true).parallel_compilation(true);
    let engine =
        Engine::new(&config).map_err(|error| Error::new("the Wasm engine cannot start", error))?;
    tick(&engine)?;
    Ok(engine)
}

fn config(layout: Layout) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // In the process that serves, compiling must leave the other cores to what does.
        .parallel_compilation(false)
        .max_wasm_stack(STACK_BYTES_MAX)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_features(FEATURES.complement(), false);
    if layout == Layout::Narrow {
        config
            .memory_reservation(0)
            .memory_guard_size(0)
            .memory_reservation_for_growth(1 << 20);
    }
    config
}

/// Room for what every worker may hold, with the default reservation of 4 GiB of address space for
/// each memory: with a smaller one every access of guest memory would be checked by code, some 18 %
/// of a call.
fn pool(workers: usize) -> PoolingAllocationConfig {
    let instances = u32::try_from(workers * (HELD_MAX + 2) + SPARE_INSTANCES).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(16))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .max_component_instance_size(16 << 20)
        .max_core_instance_size(16 << 20)
        .max_core_instances_per_component(CORE_INSTANCES_MAX as u32)
        .max_memories_per_component(MEMORIES_MAX as u32)
        .max_tables_per_component(TABLES_MAX as u32)
        .max_tables_per_module(TABLES_MAX as u32)
        .max_memories_per_module(MEMORIES_MAX as u32)
        .table_elements(TABLE_ELEMENTS_MAX);
    pool
}

/// Starts the thread that counts epochs; it ends with the engine.
fn tick(engine: &Engine) -> Result<(), Error> {
    let engine = engine.weak();
    let ticker = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH);
        }
    };
    thread::Builder::new()
        .name("plugin-ticker".into())
        .spawn(ticker)
        .map_err(|error| Error::new("no thread for the clock of plugins", error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_room_for_a_pool_still_gets_an_engine() {
        let engine = Engine::new(&config(Layout::Narrow)).expect("an engine on demand");
        let module = wat::parse_str("(component (core module $m (memory (export \"m\") 1)) (core instance (instantiate $m)))").unwrap();
        let component = wasmtime::component::Component::new(&engine, module).expect("compiles");
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(100);
        wasmtime::component::Linker::new(&engine)
            .instantiate(&mut store, &component)
            .expect("runs");
    }
}
