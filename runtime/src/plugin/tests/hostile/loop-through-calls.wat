;; Never ends, without a loop: a huge number of calls, each of which ends.
(func $nothing (param i32))
(func $twice (param $depth i32)
  (if (i32.eqz (local.get $depth)) (then (return)))
  (call $twice (i32.sub (local.get $depth) (i32.const 1)))
  (call $twice (i32.sub (local.get $depth) (i32.const 1))))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (call $twice (i32.const 62)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
