;; Calls a function with the wrong type.
(type $other (func (param f64 f64) (result f64)))
(table 1 funcref)
(elem (i32.const 0) $reset)
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32)
  (i32.trunc_sat_f64_u (call_indirect (type $other) (f64.const 1) (f64.const 2) (i32.const 0))))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
