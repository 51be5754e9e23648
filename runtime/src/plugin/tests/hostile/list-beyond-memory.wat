;; Returns a list that ends beyond the end of memory.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (i32.store (i32.const 128) (i32.const 131068)) (i32.store (i32.const 132) (i32.const 1)) (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
