;; Logs lines of a megabyte in an endless loop.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (drop (memory.grow (i32.const 16)))
  (memory.fill (i32.const 4096) (i32.const 120) (i32.const 1048576))
  (loop $again (call $log (i32.const 0) (i32.const 4096) (i32.const 1048576)) (br $again)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
