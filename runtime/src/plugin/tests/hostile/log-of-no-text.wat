;; Logs a message that is not UTF-8.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (i32.store (i32.const 192) (i32.const 0xfffefdfc))
  (call $log (i32.const 3) (i32.const 192) (i32.const 4)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
