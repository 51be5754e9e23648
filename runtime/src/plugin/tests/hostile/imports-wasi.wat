;; Imports a function that writes to a file.
(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (param $count i32) (result i32) (call $filtered (local.get $count)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
