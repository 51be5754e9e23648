//! Guests that leave a trace of their version, so that a test can see from outside whether
//! something was handled by a mixture of two versions.
//!
//! A filter of an even version drops items that start with `b`, a filter of an odd version those
//! that start with `a`; mappers and renderers write their version into their output. So if each
//! item was handled by a single version, every `a` comes with an even number and every `b` with an
//! odd one.

use super::module;

/// Drops events by the first letter of their type.
pub fn event_filter(version: u32) -> Vec<u8> {
    module(
        "event-filter-plugin",
        &(prelude(version) + &filter("event-filter", 80, 16)),
    )
}

/// Drops entities by the first letter of their key.
pub fn entity_filter(version: u32) -> Vec<u8> {
    module(
        "entity-filter-plugin",
        &(prelude(version) + &filter("entity-filter", 24, 8)),
    )
}

/// Maps an event to a change of facet `base` of the product named by the event's id. The value is
/// `{"version": N}`.
pub fn mapper(version: u32) -> Vec<u8> {
    module("mapper-plugin", &(prelude(version) + MAPPER))
}

/// Renders an entity as `{"version": N}`.
pub fn renderer(version: u32) -> Vec<u8> {
    module("renderer-plugin", &(prelude(version) + RENDERER))
}

/// The same renderer; each instance writes to this many bytes of memory when it starts.
pub fn large_renderer(version: u32, bytes: u32) -> Vec<u8> {
    let state = format!(
        "(memory $state {})(func $fill (memory.fill $state (i32.const 0) (i32.const 1) (i32.const {bytes})))(start $fill)",
        bytes.div_ceil(65536)
    );
    module("renderer-plugin", &(prelude(version) + RENDERER + &state))
}

/// A renderer that never returns.
pub fn looping_renderer() -> Vec<u8> {
    let looping = RENDERER.replacen(
        "(local.set $",
        "(loop $forever (br $forever)) (local.set $",
        1,
    );
    module("renderer-plugin", &(prelude(1) + &looping))
}

/// A mapper that logs 200 lines in each call, and traps on more than one event.
pub fn talkative_mapper() -> Vec<u8> {
    let talking = MAPPER.replacen(
        "(local.set $results",
        "(loop $more (call $log (i32.const 1) (i32.const 512) (i32.const 8)) (local.set $i (i32.add (local.get $i) (i32.const 1))) \
         (br_if $more (i32.lt_u (local.get $i) (i32.const 200)))) (local.set $i (i32.const 0)) \
         (if (i32.gt_u (local.get $count) (i32.const 1)) (then unreachable)) (local.set $results",
        1,
    );
    module("mapper-plugin", &(prelude(1) + &talking))
}

/// A mapper that logs this text, of 60 KiB at most, in each call.
pub fn mapper_saying(text: &str) -> Vec<u8> {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let call = format!(
        "(call $log (i32.const 2) (i32.const 131072) (i32.const {})) (local.set $results",
        text.len()
    );
    // Behind what an event needs.
    let prelude = prelude(1).replace("(export \"memory\") 2", "(export \"memory\") 3");
    let data = format!("(data (i32.const 131072) \"{bytes}\")");
    let saying = MAPPER.replacen("(local.set $results", &call, 1);
    module("mapper-plugin", &(prelude + &saying + &data))
}

/// A mapper that returns no change for any event.
pub fn mapper_of_nothing() -> Vec<u8> {
    let nothing = MAPPER.replace(
        "(i32.store offset=8 (local.get $result) (i32.const 1))",
        "(i32.store offset=8 (local.get $result) (i32.const 0))",
    );
    module("mapper-plugin", &(prelude(1) + &nothing))
}

/// The mapper of version 1, for another facet with a name of four letters.
pub fn mapper_of_facet(facet: &str) -> Vec<u8> {
    let prelude = prelude(1).replace("520) \"base\"", &format!("520) {facet:?}"));
    module("mapper-plugin", &(prelude + MAPPER))
}

/// A mapper that takes a compiler many seconds.
pub fn slow_to_compile() -> Vec<u8> {
    let line = "(local.set $i (i32.add (i32.mul (local.get 0) (local.get $i)) (i32.const 7)))\n";
    let function = format!(
        "(func (param i32) (result i32) (local $i i32)\n{}(local.get $i))\n",
        line.repeat(200)
    );
    module(
        "mapper-plugin",
        &(prelude(3) + MAPPER + &function.repeat(16_000)),
    )
}

/// The output of the mapper and the renderer; always 16 bytes.
fn text(version: u32) -> String {
    format!("{:<16}", format!("{{\"version\":{version}}}"))
}

/// The memory, an allocator that is reset after each call, and a `configure` that accepts any
/// settings.
pub fn prelude(version: u32) -> String {
    let dropped = if version.is_multiple_of(2) { 'b' } else { 'a' };
    format!(
        r#"
(import "weir:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
(memory (export "memory") 2)
(global $top (mut i32) (i32.const 4096))
(global $dropped i32 (i32.const {}))
(data (i32.const 512) "product")
(data (i32.const 520) "base")
(data (i32.const 528) "{}")
(func $alloc (param $size i32) (result i32)
  (local $at i32)
  (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
  (global.set $top (i32.add (local.get $at) (local.get $size)))
  (block $fits
    (loop $more
      (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
      (br $more)))
  (local.get $at))
(func $reset (param i32) (global.set $top (i32.const 4096)))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $alloc (local.get 3)))
(func (export "weir:plugin/settings@0.1.0#configure") (param i32 i32) (result i32)
  (i32.store8 (i32.const 64) (i32.const 0))
  (i32.const 64))
(func (export "cabi_post_weir:plugin/settings@0.1.0#configure") (param i32) (call $reset (i32.const 0)))
"#,
        u32::from(dropped),
        text(version).replace('"', "\\\"")
    )
}

/// A filter over items of `size` bytes; it looks at the first letter of the text at offset `place`
/// of an item.
fn filter(interface: &str, size: u32, place: u32) -> String {
    format!(
        r#"
(func (export "weir:plugin/{interface}@0.1.0#accept") (param $items i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $item i32)
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 20))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $item (i32.add (local.get $items) (i32.mul (local.get $i) (i32.const {size}))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 20))))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store8 offset=4 (local.get $result)
        (i32.ne (i32.load8_u (i32.load offset={place} (local.get $item))) (global.get $dropped)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/{interface}@0.1.0#accept") (param i32) (call $reset (i32.const 0)))
"#
    )
}

const MAPPER: &str = r#"
(func (export "weir:plugin/mapper@0.1.0#transform") (param $events i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $event i32) (local $change i32)
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 20))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $event (i32.add (local.get $events) (i32.mul (local.get $i) (i32.const 80))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 20))))
      (local.set $change (call $alloc (i32.const 72)))
      (i32.store (local.get $change) (i32.const 512)) (i32.store offset=4 (local.get $change) (i32.const 7))
      (i32.store offset=8 (local.get $change) (i32.load (local.get $event)))
      (i32.store offset=12 (local.get $change) (i32.load offset=4 (local.get $event)))
      (i32.store offset=16 (local.get $change) (i32.const 520)) (i32.store offset=20 (local.get $change) (i32.const 4))
      (i32.store8 offset=24 (local.get $change) (i32.const 1))
      (i32.store offset=28 (local.get $change) (i32.const 528)) (i32.store offset=32 (local.get $change) (i32.const 16))
      (i32.store8 offset=40 (local.get $change) (i32.const 0))
      (i32.store8 offset=56 (local.get $change) (i32.const 0))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store offset=4 (local.get $result) (local.get $change))
      (i32.store offset=8 (local.get $result) (i32.const 1))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32) (call $reset (i32.const 0)))
"#;

const RENDERER: &str = r#"
(func (export "weir:plugin/renderer@0.1.0#render") (param $entities i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32)
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 44))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 44))))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store8 offset=4 (local.get $result) (i32.const 1))
      (i32.store8 offset=8 (local.get $result) (i32.const 0))
      (i32.store8 offset=20 (local.get $result) (i32.const 0))
      (i32.store8 offset=32 (local.get $result) (i32.const 0))
      (i32.store offset=36 (local.get $result) (i32.const 528)) (i32.store offset=40 (local.get $result) (i32.const 16))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/renderer@0.1.0#render") (param i32) (call $reset (i32.const 0)))
"#;
