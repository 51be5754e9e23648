;; Grows its memory page by page.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (loop $more (drop (memory.grow (i32.const 1))) (br $more)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
