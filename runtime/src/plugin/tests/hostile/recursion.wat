;; Recurses without end.
(func $down (param i32) (result i32) (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (local.get 0)))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (call $down (i32.const 0)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
