;; Returns a key that is not UTF-8.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (param $count i32) (result i32)
  (local $change i32)
  (local.set $change (call $alloc (i32.const 72)))
  (call $change (local.get $change))
  (i32.store (i32.const 192) (i32.const 0xfffefdfc))
  (i32.store offset=8 (local.get $change) (i32.const 192)) (i32.store offset=12 (local.get $change) (i32.const 4))
  (call $answer (local.get $change) (i32.const 1) (local.get $count)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
