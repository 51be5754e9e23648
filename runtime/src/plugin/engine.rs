//! The engine settings for compiling and running guest code, and the thread that counts its time.
//!
//! There are three kinds of engine: one serves, with instances from a pool; one only compiles, in
//! the separate compiler process; and one counts fuel, for `author`. Guests are deterministic in
//! all of them: no threads, one bit pattern for NaN, no relaxed SIMD.

use std::thread;

use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::plugin::limits::{
    CORE_INSTANCES_MAX, EPOCH, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX,
};
use crate::plugin::pool::HELD_MAX;
use crate::plugin::words::Error;
use crate::plugin::workers::total;

/// The most native stack, in bytes, for guest calls. Worker threads have several times that.
const STACK_BYTES_MAX: usize = 512 << 10;
/// The most instances outside the workers at one time: those of components being loaded and
/// configured.
const SPARE_INSTANCES: usize = 32;

/// The Wasm features that a plugin may use: Wasm 2.0, which all compilers can produce, and the
/// features that language engines need in addition (multiple memories for QuickJS, extended
/// constants for CPython). All other features are rejected by name: each one is host code that
/// hostile bytes can reach, and the interface needs none of them.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::COMPONENT_MODEL);

/// The address space reserved for each memory of a guest. Compiled code depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// 4 GiB, so that accesses need no bounds checks in code.
    Wide,
    /// Only the part in use, for machines that are short of address space.
    Narrow,
}

/// The engine that serves with this many workers. If the address space for a pool is not available
/// (a tight `ulimit -v`, strict overcommit), instances are created on demand, which is slower.
pub(super) fn serving(workers: usize) -> Result<(Engine, Layout), Error> {
    let mut config = config(Layout::Wide);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(workers)));
    let engine = Engine::new(&config)
        .map(|engine| (engine, Layout::Wide))
        .or_else(|error| {
            tracing::warn!("no address space for the plugins' memory pool; plugins run about 20 % slower: {error:#}");
            Engine::new(&self::config(Layout::Narrow)).map(|engine| (engine, Layout::Narrow))
        });
    let (engine, layout) =
        engine.map_err(|error| Error::new("the Wasm engine cannot start", error))?;
    tick(&engine)?;
    Ok((engine, layout))
}

/// An engine that compiles code for a serving one and runs none, in the compiler process.
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
    // The author waits, and a component with all of Python takes about 20 s of one core.
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
        // In the serving process, compiling must leave the other cores to the serving threads.
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

/// A pool for all instances that are idle or in use, with the default reservation of 4 GiB of
/// address space per memory. With a smaller one, code would check every access to guest memory,
/// about 18 % of the time of a call.
fn pool(workers: usize) -> PoolingAllocationConfig {
    let running = 2 * total(workers);
    let instances = u32::try_from(HELD_MAX + running + SPARE_INSTANCES).unwrap_or(u32::MAX);
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

/// Starts the thread that advances the epoch; it ends with the engine.
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
        .map_err(|error| Error::new("the clock thread for plugins cannot be started", error))?;
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
