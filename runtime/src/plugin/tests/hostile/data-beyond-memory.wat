;; Has a data segment that does not fit into its memory.
(data (i32.const 131070) "too far out")
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (param $count i32) (result i32) (call $filtered (local.get $count)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
