;; Returns no result.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (call $filtered (i32.const 0)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32) (call $reset (i32.const 0)))
