;; Copies sixteen megabytes in an endless loop.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (drop (memory.grow (i32.const 440)))
  (loop $again (memory.copy (i32.const 4096) (i32.const 12000000) (i32.const 16000000)) (br $again)) (i32.const 0))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
