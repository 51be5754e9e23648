;; Logs in an endless loop.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (loop $again (call $log (i32.const 3) (i32.const 512) (i32.const 7)) (br $again)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
