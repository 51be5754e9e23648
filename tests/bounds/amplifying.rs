//! Guests that make much of little: a few bytes of an event become large changes, all within the
//! limits of a call.

use crate::support::guests::{module, versioned::prelude};

/// The length of each value, just below the default of `facet_max`.
pub const VALUE_BYTES: u32 = 250_000;

/// Maps an event to this many changes of facet `base` of the product that the event's data names,
/// each with a value of [`VALUE_BYTES`].
pub fn mapper(changes: u32) -> Vec<u8> {
    mapper_that(changes, "")
}

/// The same, but traps on more than one event, so that each is mapped alone.
pub fn mapper_of_single_events(changes: u32) -> Vec<u8> {
    let trap = "(if (i32.gt_u (local.get $count) (i32.const 1)) (then unreachable))";
    mapper_that(changes, trap)
}

/// Renders an entity as 3 MiB for each unit of its first facet, a number up to five, and as 16 bytes if
/// that is 0.
pub fn renderer() -> Vec<u8> {
    let body = r#"
(func $grow (drop (memory.grow (i32.const 260))))
(start $grow)
(func (export "weir:plugin/renderer@0.1.0#render") (param $entities i32) (param $count i32) (result i32)
  (local $i i32) (local $results i32) (local $result i32) (local $facet i32) (local $units i32)
  (memory.fill (i32.const 262144) (i32.const 49) (i32.const 15728640))
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 44))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $facet (i32.load offset=16 (i32.add (local.get $entities) (i32.mul (local.get $i) (i32.const 24)))))
      (local.set $units (i32.sub (i32.load8_u (i32.load offset=8 (local.get $facet))) (i32.const 48)))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 44))))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store8 offset=4 (local.get $result) (i32.const 1))
      (i32.store8 offset=8 (local.get $result) (i32.const 0))
      (i32.store8 offset=20 (local.get $result) (i32.const 0))
      (i32.store8 offset=32 (local.get $result) (i32.const 0))
      (i32.store offset=36 (local.get $result) (i32.const 262144))
      (i32.store offset=40 (local.get $result)
        (select (i32.mul (local.get $units) (i32.const 3145728)) (i32.const 16) (local.get $units)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/renderer@0.1.0#render") (param i32) (call $reset (i32.const 0)))
"#;
    module("renderer-plugin", &(prelude(0) + body))
}

fn mapper_that(changes: u32, first: &str) -> Vec<u8> {
    let body = format!(
        r#"
(func $grow (drop (memory.grow (i32.const 20))))
(start $grow)
(func (export "weir:plugin/mapper@0.1.0#transform") (param $events i32) (param $count i32) (result i32)
  (local $i i32) (local $j i32) (local $results i32) (local $result i32) (local $event i32) (local $change i32)
  {first}
  (memory.fill (i32.const 1179648) (i32.const 49) (i32.const {VALUE_BYTES}))
  (local.set $results (call $alloc (i32.mul (local.get $count) (i32.const 20))))
  (block $done
    (loop $next
      (br_if $done (i32.eq (local.get $i) (local.get $count)))
      (local.set $event (i32.add (local.get $events) (i32.mul (local.get $i) (i32.const 80))))
      (local.set $result (i32.add (local.get $results) (i32.mul (local.get $i) (i32.const 20))))
      (local.set $change (call $alloc (i32.const {bytes})))
      (i32.store8 (local.get $result) (i32.const 0))
      (i32.store offset=4 (local.get $result) (local.get $change))
      (i32.store offset=8 (local.get $result) (i32.const {changes}))
      (local.set $j (i32.const 0))
      (loop $more
        (i32.store (local.get $change) (i32.const 512)) (i32.store offset=4 (local.get $change) (i32.const 7))
        (i32.store offset=8 (local.get $change) (i32.load offset=72 (local.get $event)))
        (i32.store offset=12 (local.get $change) (i32.load offset=76 (local.get $event)))
        (i32.store offset=16 (local.get $change) (i32.const 520)) (i32.store offset=20 (local.get $change) (i32.const 4))
        (i32.store8 offset=24 (local.get $change) (i32.const 1))
        (i32.store offset=28 (local.get $change) (i32.const 1179648))
        (i32.store offset=32 (local.get $change) (i32.const {VALUE_BYTES}))
        (i32.store8 offset=40 (local.get $change) (i32.const 0))
        (i32.store8 offset=56 (local.get $change) (i32.const 0))
        (local.set $change (i32.add (local.get $change) (i32.const 72)))
        (local.set $j (i32.add (local.get $j) (i32.const 1)))
        (br_if $more (i32.lt_u (local.get $j) (i32.const {changes}))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32) (call $reset (i32.const 0)))
"#,
        bytes = changes * 72,
    );
    module("mapper-plugin", &(prelude(0) + &body))
}
