;; Grows a table by a billion elements.
(table $wide 0 funcref)
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (drop (table.grow $wide (ref.null func) (i32.const 1000000000))) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
