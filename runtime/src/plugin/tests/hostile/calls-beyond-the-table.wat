;; Calls a table element that does not exist.
(type $any (func))
(table 1 funcref)
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (call_indirect (type $any) (i32.const 4711)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
