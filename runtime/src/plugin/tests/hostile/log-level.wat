;; Logs at a level that does not exist.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (call $log (i32.const 9) (i32.const 512) (i32.const 7)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
