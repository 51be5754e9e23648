//! Guests for the tests, in the text format of Wasm: small, compiled in milliseconds, and as
//! hostile as needed.
//!
//! The first letter of the event's type, or of the entity's key, selects what a guest does with an
//! item.

use std::fmt::Write as _;
use std::path::Path;

use wit_component::StringEncoding;

/// A source plugin, event filter and mapper, as a core module that carries its WIT type.
///
/// The filter: `x` drops, `X` traps, `F` fails by its own rules. The mapper: see [`MAPPER`]; any
/// other letter becomes one change of facet `base` with the data as its value. Settings: a key that
/// starts with `r` is rejected, one with `l` loops.
pub(crate) fn source() -> Vec<u8> {
    let body = [PRELUDE, CONFIGURE, EVENT_FILTER, MAPPER].concat();
    module("source-plugin", &body)
}

/// A channel plugin, entity filter and renderer: `x` is dropped, `n` is not rendered, `t` traps;
/// for any other letter the body is the first facet's value.
pub(crate) fn channel() -> Vec<u8> {
    let body = [PRELUDE, CONFIGURE, ENTITY_FILTER, RENDERER].concat();
    module("channel-plugin", &body)
}

/// The same mapper, without a filter.
pub(crate) fn mapper() -> Vec<u8> {
    mapper_with("")
}

/// The same mapper with one more field in its module.
pub(crate) fn mapper_with(field: &str) -> Vec<u8> {
    let body = [PRELUDE, CONFIGURE, MAPPER, field].concat();
    module("mapper-plugin", &body)
}

/// A core module of this world.
pub(crate) fn module(world: &str, body: &str) -> Vec<u8> {
    let mut text = String::from("(module\n");
    let _ = write!(text, "{body})");
    let mut module = wat::parse_str(&text).expect("the guest's text is right");
    let mut resolve = wit_parser::Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve
        .push_dir(&wit)
        .expect("the plugin interface is readable");
    let world = resolve
        .select_world(&[package], Some(world))
        .expect("there is such a world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the type fits in");
    module
}

/// Memory, an allocator that is reset after each call, and texts.
pub(crate) const PRELUDE: &str = r#"
(import "weir:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
(memory (export "memory") 2)
(global $top (mut i32) (i32.const 4096))
(global $calls (mut i32) (i32.const 0))
(data (i32.const 512) "product")
(data (i32.const 520) "base")
(data (i32.const 528) "{oops")
(data (i32.const 536) "warp")
(data (i32.const 544) "missing-field")
(data (i32.const 560) "no price")
(data (i32.const 576) "panicked at src/lib.rs:7: no price")
(data (i32.const 640) "currency is missing")
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
(func $failure (param $at i32)
  (i32.store (local.get $at) (i32.const 544)) (i32.store offset=4 (local.get $at) (i32.const 13))
  (i32.store offset=8 (local.get $at) (i32.const 560)) (i32.store offset=12 (local.get $at) (i32.const 8)))
(func $forever (loop $again (br $again)))
(func $deeper (param i32) (result i32) (i32.add (call $deeper (i32.add (local.get 0) (i32.const 1))) (local.get 0)))
;; the first letter of the string whose pointer and length are at this address, or 0
(func $letter (param $string i32) (result i32)
  (if (i32.eqz (i32.load offset=4 (local.get $string))) (then (return (i32.const 0))))
  (i32.load8_u (i32.load (local.get $string))))
"#;

/// The letter after `{"` selects what happens.
pub(crate) const CONFIGURE: &str = r#"
(func (export "weir:plugin/settings@0.1.0#configure") (param $text i32) (param $length i32) (result i32)
  (local $letter i32)
  (i32.store8 (i32.const 64) (i32.const 0))
  (if (i32.gt_u (local.get $length) (i32.const 2)) (then (local.set $letter (i32.load8_u offset=2 (local.get $text)))))
  (if (i32.eq (local.get $letter) (i32.const 108)) (then (call $forever))) ;; l
  (if (i32.eq (local.get $letter) (i32.const 114)) ;; r
    (then
      (i32.store8 (i32.const 64) (i32.const 1))
      (i32.store (i32.const 68) (i32.const 640)) (i32.store (i32.const 72) (i32.const 19))))
  (i32.const 64))
(func (export "cabi_post_weir:plugin/settings@0.1.0#configure") (param i32) (call $reset (i32.const 0)))
"#;

const EVENT_FILTER: &str = r#"
(func (export "weir:plugin/event-filter@0.1.0#accept") (param $events i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $letter i32)
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 20))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $letter (call $letter (i32.add (local.get $events) (i32.add (i32.mul (local.get $i) (i32.const 80)) (i32.const 16)))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 20))))
      (if (i32.eq (local.get $letter) (i32.const 88)) (then unreachable)) ;; X
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store8 offset=4 (local.get $result) (i32.ne (local.get $letter) (i32.const 120))) ;; x
      (if (i32.eq (local.get $letter) (i32.const 70)) ;; F
        (then
          (i32.store8 (local.get $result) (i32.const 1))
          (call $failure (i32.add (local.get $result) (i32.const 4)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/event-filter@0.1.0#accept") (param i32) (call $reset (i32.const 0)))
"#;

/// `l` loops, `h` hoards, `r` recurses, `t` traps, `p` logs its panic and traps, `w` returns one
/// result too few, `o` returns 2000 changes that share one value of 64 KiB, `j` returns a value
/// that is not JSON, `L` asks for an unknown lane, `f` fails by its own rules, `n` returns no
/// change, `m` grows by 20 MiB, `c` returns the number of calls of this instance.
pub(crate) const MAPPER: &str = r#"
(func $change (param $at i32) (param $event i32)
  (i32.store (local.get $at) (i32.const 512)) (i32.store offset=4 (local.get $at) (i32.const 7))
  (i32.store offset=8 (local.get $at) (i32.load (local.get $event)))
  (i32.store offset=12 (local.get $at) (i32.load offset=4 (local.get $event)))
  (i32.store offset=16 (local.get $at) (i32.const 520)) (i32.store offset=20 (local.get $at) (i32.const 4))
  (i32.store8 offset=24 (local.get $at) (i32.const 1))
  (i32.store offset=28 (local.get $at) (i32.load offset=72 (local.get $event)))
  (i32.store offset=32 (local.get $at) (i32.load offset=76 (local.get $event)))
  (i32.store8 offset=40 (local.get $at) (i32.const 0))
  (i32.store8 offset=56 (local.get $at) (i32.const 0)))
(func (export "weir:plugin/mapper@0.1.0#transform") (param $events i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $letter i32) (local $event i32) (local $changes i32)
  (local $some i32) (local $n i32) (local $short i32) (local $shared i32)
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 20))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $event (i32.add (local.get $events) (i32.mul (local.get $i) (i32.const 80))))
      (local.set $letter (call $letter (i32.add (local.get $event) (i32.const 16))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 20))))
      (local.set $some (i32.const 1))
      (if (i32.eq (local.get $letter) (i32.const 108)) (then (call $forever))) ;; l
      (if (i32.eq (local.get $letter) (i32.const 104)) ;; h
        (then (loop $hoard (drop (memory.grow (i32.const 16))) (br $hoard))))
      (if (i32.eq (local.get $letter) (i32.const 114)) (then (drop (call $deeper (i32.const 0))))) ;; r
      (if (i32.eq (local.get $letter) (i32.const 116)) (then unreachable)) ;; t
      (if (i32.eq (local.get $letter) (i32.const 112)) ;; p
        (then (call $log (i32.const 3) (i32.const 576) (i32.const 34)) unreachable))
      (if (i32.eq (local.get $letter) (i32.const 119)) (then (local.set $short (i32.const 1)))) ;; w
      (if (i32.eq (local.get $letter) (i32.const 109)) (then (drop (memory.grow (i32.const 320))))) ;; m
      (if (i32.eq (local.get $letter) (i32.const 111)) (then (local.set $some (i32.const 2000)))) ;; o
      (if (i32.eq (local.get $letter) (i32.const 110)) (then (local.set $some (i32.const 0)))) ;; n
      (local.set $changes (call $alloc (i32.mul (local.get $some) (i32.const 72))))
      (local.set $n (i32.const 0))
      (block $filled
        (loop $more
          (br_if $filled (i32.eq (local.get $n) (local.get $some)))
          (call $change (i32.add (local.get $changes) (i32.mul (local.get $n) (i32.const 72))) (local.get $event))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br $more)))
      (if (i32.eq (local.get $letter) (i32.const 111)) ;; o: the same 64 KiB each time
        (then
          (local.set $n (i32.const 0))
          (local.set $shared (call $alloc (i32.const 65536)))
          (block $aliased
            (loop $alias
              (br_if $aliased (i32.eq (local.get $n) (local.get $some)))
              (i32.store offset=28 (i32.add (local.get $changes) (i32.mul (local.get $n) (i32.const 72))) (local.get $shared))
              (i32.store offset=32 (i32.add (local.get $changes) (i32.mul (local.get $n) (i32.const 72))) (i32.const 65536))
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (br $alias)))))
      (if (i32.eq (local.get $letter) (i32.const 106)) ;; j
        (then
          (i32.store offset=28 (local.get $changes) (i32.const 528)) (i32.store offset=32 (local.get $changes) (i32.const 5))))
      (if (i32.eq (local.get $letter) (i32.const 76)) ;; L
        (then
          (i32.store8 offset=56 (local.get $changes) (i32.const 1))
          (i32.store offset=60 (local.get $changes) (i32.const 536)) (i32.store offset=64 (local.get $changes) (i32.const 4))))
      (if (i32.eq (local.get $letter) (i32.const 99)) ;; c
        (then
          (i32.store8 (i32.const 200) (i32.add (global.get $calls) (i32.const 48)))
          (i32.store offset=28 (local.get $changes) (i32.const 200)) (i32.store offset=32 (local.get $changes) (i32.const 1))))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store offset=4 (local.get $result) (local.get $changes))
      (i32.store offset=8 (local.get $result) (local.get $some))
      (if (i32.eq (local.get $letter) (i32.const 102)) ;; f
        (then
          (i32.store8 (local.get $result) (i32.const 1))
          (call $failure (i32.add (local.get $result) (i32.const 4)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results))
  (i32.store (i32.const 132) (i32.sub (local.get $count) (local.get $short)))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32) (call $reset (i32.const 0)))
"#;

const ENTITY_FILTER: &str = r#"
(func (export "weir:plugin/entity-filter@0.1.0#accept") (param $entities i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $letter i32)
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 20))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $letter (call $letter (i32.add (local.get $entities) (i32.add (i32.mul (local.get $i) (i32.const 24)) (i32.const 8)))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 20))))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store8 offset=4 (local.get $result) (i32.ne (local.get $letter) (i32.const 120))) ;; x
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/entity-filter@0.1.0#accept") (param i32) (call $reset (i32.const 0)))
"#;

const RENDERER: &str = r#"
(func (export "weir:plugin/renderer@0.1.0#render") (param $entities i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $letter i32) (local $entity i32) (local $facet i32)
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 44))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $entity (i32.add (local.get $entities) (i32.mul (local.get $i) (i32.const 24))))
      (local.set $letter (call $letter (i32.add (local.get $entity) (i32.const 8))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 44))))
      (if (i32.eq (local.get $letter) (i32.const 116)) (then unreachable)) ;; t
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store8 offset=4 (local.get $result) (i32.ne (local.get $letter) (i32.const 110))) ;; n
      (i32.store8 offset=8 (local.get $result) (i32.const 0))
      (i32.store8 offset=20 (local.get $result) (i32.const 0))
      (i32.store8 offset=32 (local.get $result) (i32.const 0))
      (local.set $facet (i32.load offset=16 (local.get $entity)))
      (i32.store offset=36 (local.get $result) (i32.load offset=8 (local.get $facet)))
      (i32.store offset=40 (local.get $result) (i32.load offset=12 (local.get $facet)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/renderer@0.1.0#render") (param i32) (call $reset (i32.const 0)))
"#;
