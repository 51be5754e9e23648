;; Returns two thousand changes that share one value of 64 KiB: 128 MiB for the host.
(func (export "weir:plugin/mapper@0.1.0#transform") (param $events i32) (param $count i32) (result i32)
  (local $changes i32) (local $n i32) (local $shared i32) (local $at i32)
  (local.set $changes (call $alloc (i32.const 144000)))
  (local.set $shared (call $alloc (i32.const 65536)))
  (block $filled
    (loop $more
      (br_if $filled (i32.eq (local.get $n) (i32.const 2000)))
      (local.set $at (i32.add (local.get $changes) (i32.mul (local.get $n) (i32.const 72))))
      (call $change (local.get $at))
      (i32.store offset=28 (local.get $at) (local.get $shared)) (i32.store offset=32 (local.get $at) (i32.const 65536))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br $more)))
  (call $answer (local.get $changes) (i32.const 2000) (local.get $count)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
