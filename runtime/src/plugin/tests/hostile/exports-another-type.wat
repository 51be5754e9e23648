;; Exports the function of its world with another type.
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (result i64) (i64.const 0))
