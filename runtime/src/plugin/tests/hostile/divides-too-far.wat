;; Divides with an overflow.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (i32.div_s (i32.const 0x80000000) (i32.const -1)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
