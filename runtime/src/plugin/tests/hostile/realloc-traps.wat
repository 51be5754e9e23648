;; whole: Traps in its allocator.
(import "weir:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
(memory (export "memory") 2)
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
(func (export "weir:plugin/settings@0.1.0#configure") (param i32 i32) (result i32) (i32.const 64))
(func (export "cabi_post_weir:plugin/settings@0.1.0#configure") (param i32))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
