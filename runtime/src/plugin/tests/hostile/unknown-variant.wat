;; Returns a result that is neither a success nor a failure.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (param $count i32) (result i32)
  (local $at i32)
  (local.set $at (call $filtered (local.get $count)))
  (i32.store8 (i32.load (local.get $at)) (i32.const 7))
  (local.get $at))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
