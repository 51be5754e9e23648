;; Reads at the highest address that a pointer can hold.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (i32.load offset=0xfffffff0 (i32.const -16)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
