;; Fills more memory than it has.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (memory.fill (i32.const 0) (i32.const 255) (i32.const -1)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
