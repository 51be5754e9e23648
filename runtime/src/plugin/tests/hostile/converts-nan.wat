;; Converts NaN to an integer.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (i32.trunc_f64_s (f64.const nan)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
