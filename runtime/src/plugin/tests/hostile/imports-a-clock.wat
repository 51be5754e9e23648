;; Imports a function that is not part of the interface.
(import "env" "now" (func (result i64)))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (param $count i32) (result i32) (call $filtered (local.get $count)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
