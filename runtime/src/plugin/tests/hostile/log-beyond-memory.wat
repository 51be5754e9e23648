;; Logs a message beyond the end of memory.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (call $log (i32.const 3) (i32.const 131070) (i32.const 70000)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
