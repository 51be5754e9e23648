;; Returns a hundred thousand results that share one list of a hundred changes.
(func (export "weir:plugin/mapper@0.1.0#transform") (param $events i32) (param $count i32) (result i32)
  (local $changes i32) (local $results i32) (local $n i32) (local $at i32)
  (local.set $changes (call $alloc (i32.const 7200)))
  (local.set $results (call $alloc (i32.const 2000000)))
  (block $filled
    (loop $more
      (br_if $filled (i32.eq (local.get $n) (i32.const 100)))
      (call $change (i32.add (local.get $changes) (i32.mul (local.get $n) (i32.const 72))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $more)))
  (local.set $n (i32.const 0))
  (block $told
    (loop $more
      (br_if $told (i32.eq (local.get $n) (i32.const 100000)))
      (local.set $at (i32.add (local.get $results) (i32.mul (local.get $n) (i32.const 20))))
      (i32.store offset=4 (local.get $at) (local.get $changes)) (i32.store offset=8 (local.get $at) (i32.const 100))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $more)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (i32.const 100000))
  (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
