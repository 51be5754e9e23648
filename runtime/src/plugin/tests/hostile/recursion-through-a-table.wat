;; Two functions call each other through a table, with frames of 256 values.
(type $deep (func (param i64) (result i64)))
(table 2 funcref)
(elem (i32.const 0) $ping $pong)
(func $ping (type $deep) (i64.add (call_indirect (type $deep) (local.get 0) (i32.const 1)) (local.get 0)))
(func $pong (type $deep) (i64.mul (call_indirect (type $deep) (local.get 0) (i32.const 0)) (local.get 0)))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (i32.wrap_i64 (call $ping (i64.const 3))))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
