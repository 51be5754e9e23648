//! Tests with hostile components, one text file each in `hostile/`: the host survives each of them
//! and names the reason, and a good plugin that is served at the same time is not affected. Further
//! tests check that forbidden features are rejected, that a component leaves no data behind, and
//! that the same input gives the same output.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;

/// Helpers for the files: one change, `{"key": "product", "facet": "base", "value": 1}`; a response
/// in which the first event became these changes; a response in which no event became a change.
const HELPERS: &str = r#"
(data (i32.const 700) "1")
(func $change (param $at i32)
  (memory.fill (local.get $at) (i32.const 0) (i32.const 72))
  (i32.store (local.get $at) (i32.const 512)) (i32.store offset=4 (local.get $at) (i32.const 7))
  (i32.store offset=8 (local.get $at) (i32.const 512)) (i32.store offset=12 (local.get $at) (i32.const 7))
  (i32.store offset=16 (local.get $at) (i32.const 520)) (i32.store offset=20 (local.get $at) (i32.const 4))
  (i32.store8 offset=24 (local.get $at) (i32.const 1))
  (i32.store offset=28 (local.get $at) (i32.const 700)) (i32.store offset=32 (local.get $at) (i32.const 1)))
(func $filtered (param $count i32) (result i32)
  (local $results i32)
  (local.set $results (call $alloc (i32.mul (i32.add (local.get $count) (i32.const 1)) (i32.const 20))))
  (memory.fill (local.get $results) (i32.const 0) (i32.mul (local.get $count) (i32.const 20)))
  (i32.store (i32.const 128) (local.get $results)) (i32.store (i32.const 132) (local.get $count))
  (i32.const 128))
(func $answer (param $changes i32) (param $some i32) (param $count i32) (result i32)
  (local $at i32)
  (local.set $at (call $filtered (local.get $count)))
  (i32.store offset=4 (i32.load (local.get $at)) (local.get $changes))
  (i32.store offset=8 (i32.load (local.get $at)) (local.get $some))
  (local.get $at))
"#;

/// The most bytes of a reason, however much the component itself says.
const SAID_BYTES_MAX: usize = 2500;

/// When the host detects a hostile component.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// While it is loaded: it never serves.
    Load,
    /// While it is configured.
    Configure,
    /// While it is called: the event fails.
    Call,
}
use At::{Call, Configure, Load};

/// The file, when it is detected, the code, and a part of the sentence.
const GUESTS: &[(&str, At, &str, &str)] = &[
    ("loop", Call, "time-limit", "time limit of 300 ms exceeded"),
    (
        "loop-through-calls",
        Call,
        "time-limit",
        "time limit of 300 ms exceeded",
    ),
    (
        "loop-after-the-answer",
        Call,
        "time-limit",
        "time limit of 300 ms exceeded",
    ),
    (
        "trap-after-the-answer",
        Call,
        "trap",
        "`unreachable` instruction executed",
    ),
    ("recursion", Call, "stack-limit", "call stack exhausted"),
    (
        "recursion-through-a-table",
        Call,
        "stack-limit",
        "call stack exhausted",
    ),
    (
        "memory-by-and-by",
        Call,
        "memory-limit",
        "memory limit of 32 MiB exceeded",
    ),
    (
        "memory-at-once",
        Call,
        "memory-limit",
        "memory limit of 32 MiB exceeded",
    ),
    (
        "table-by-and-by",
        Call,
        "memory-limit",
        "limit of 100000 elements of a table exceeded",
    ),
    (
        "table-at-once",
        Call,
        "memory-limit",
        "limit of 100000 elements of a table exceeded",
    ),
    (
        "aliased-values",
        Call,
        "output-limit",
        "output limit of 1 MiB exceeded",
    ),
    (
        "aliased-lists",
        Call,
        "output-limit",
        "output limit of 1 MiB exceeded",
    ),
    ("list-without-end", Call, "trap", "out of bounds"),
    ("list-beyond-memory", Call, "trap", "out of bounds"),
    ("answer-beyond-memory", Call, "trap", "out of bounds"),
    ("crooked-list", Call, "trap", "not aligned"),
    ("bad-utf8", Call, "trap", "utf-8"),
    ("string-beyond-memory", Call, "trap", "out of bounds"),
    (
        "too-few-answers",
        Call,
        "wrong-length",
        "mapper returned 0 results for 1 items",
    ),
    (
        "too-many-answers",
        Call,
        "wrong-length",
        "mapper returned 2 results for 1 items",
    ),
    ("unknown-variant", Call, "trap", "discriminant"),
    (
        "deep-json",
        Call,
        "invalid-json",
        "is not JSON: EOF while parsing a list",
    ),
    ("long-failure", Call, "xxxxxxxx", "xxxxxxxx"),
    (
        "log-flood",
        Call,
        "time-limit",
        "time limit of 300 ms exceeded; it said: product",
    ),
    (
        "log-of-a-megabyte",
        Call,
        "time-limit",
        "time limit of 300 ms exceeded",
    ),
    ("log-beyond-memory", Call, "trap", "out of bounds"),
    ("log-level", Call, "trap", "discriminant"),
    ("log-of-no-text", Call, "trap", "utf-8"),
    (
        "bulk-copies",
        Call,
        "time-limit",
        "time limit of 300 ms exceeded",
    ),
    (
        "bulk-beyond-memory",
        Call,
        "trap",
        "out of bounds memory access",
    ),
    (
        "reads-beyond-memory",
        Call,
        "trap",
        "out of bounds memory access",
    ),
    ("divides-by-zero", Call, "trap", "integer divide by zero"),
    ("divides-too-far", Call, "trap", "integer overflow"),
    (
        "converts-nan",
        Call,
        "trap",
        "invalid conversion to integer",
    ),
    ("calls-nothing", Call, "trap", "uninitialized element"),
    (
        "calls-another-type",
        Call,
        "trap",
        "indirect call type mismatch",
    ),
    (
        "calls-beyond-the-table",
        Call,
        "trap",
        "undefined element: out of bounds table access",
    ),
    (
        "realloc-traps",
        Configure,
        "trap",
        "while it was configured: wasm trap: wasm `unreachable` instruction executed",
    ),
    (
        "realloc-beyond-memory",
        Configure,
        "trap",
        "realloc return: beyond end of memory",
    ),
    (
        "realloc-crooked",
        Call,
        "trap",
        "realloc return: result not aligned",
    ),
    (
        "realloc-loops",
        Configure,
        "time-limit",
        "while it was configured: time limit of 300 ms exceeded",
    ),
    (
        "realloc-logs",
        Configure,
        "trap",
        "cannot leave component instance",
    ),
    (
        "settings-refused-at-length",
        Configure,
        "settings",
        "refuses its settings: xxxxxxxx",
    ),
    (
        "starts-in-a-loop",
        Load,
        "unusable",
        "it does not start: time limit of 300 ms exceeded",
    ),
    (
        "starts-with-a-trap",
        Load,
        "unusable",
        "it does not start: wasm trap: wasm `unreachable` instruction executed",
    ),
    (
        "starts-with-a-gigabyte",
        Load,
        "unusable",
        "it does not start: memory limit of 32 MiB exceeded",
    ),
    ("starts-with-a-wide-table", Load, "unusable", "1000000"),
    ("data-beyond-memory", Load, "unusable", "out of bounds"),
    (
        "elements-beyond-the-table",
        Load,
        "unusable",
        "out of bounds",
    ),
    ("imports-a-clock", Load, "unusable", "env"),
    (
        "imports-wasi",
        Load,
        "unusable",
        "a plugin has no operating system",
    ),
    ("exports-nothing-to-call", Load, "unusable", "transform"),
    ("exports-another-type", Load, "unusable", "transform"),
];

/// Limits for components that do not exceed the time limit, so that a busy machine does not look
/// like a plugin that hangs.
fn patient() -> Limits {
    Limits {
        time: Duration::from_secs(20),
        ..limits()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plugin/tests/hostile")
}

/// A hostile mapper as a core module.
fn mapper(name: &str) -> Vec<u8> {
    let text =
        std::fs::read_to_string(folder().join(name).with_extension("wat")).expect("its text");
    // A file that brings its own memory and allocator is marked.
    let body = if text.starts_with(";; whole:") {
        text
    } else {
        mapper_text(&text)
    };
    guests::module("mapper-plugin", &body)
}

/// The text of a mapper; in Wasm, imports must come first.
fn mapper_text(fields: &str) -> String {
    let (imports, rest): (Vec<&str>, Vec<&str>) =
        fields.lines().partition(|line| line.starts_with("(import"));
    [
        &imports.join("\n"),
        guests::PRELUDE,
        guests::CONFIGURE,
        HELPERS,
        &rest.join("\n"),
    ]
    .concat()
}

/// When the component was detected, with the code and the sentence, as a swap and a call would
/// report it.
async fn deed(host: &Arc<Host>, name: &str, limits: Limits) -> (At, String, String) {
    let component = match host.load(name, &Binary::new(mapper(name)), limits) {
        Ok(component) => component,
        Err(fault) => return (Load, fault.code().to_owned(), fault.to_string()),
    };
    let used = match Binding::configure(&component, "{}") {
        Ok(used) => used,
        Err(fault) => return (Configure, fault.code().to_owned(), fault.to_string()),
    };
    let chain = SourceChain::new(vec![used]).expect("a chain");
    match host.map(&chain, events("a"), Priority::Ingest).await.pop() {
        Some(EventVerdict::Failed(failed)) => (Call, failed.failure.code, failed.failure.message),
        other => panic!("{name} did no harm: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hostile_component_is_named_and_disturbs_nobody() {
    // The other host waits for the same processors.
    let [(host, good), (spared, elsewhere)] = [(); 2].map(|()| {
        let host = host(4);
        let good = host
            .load("good", &Binary::new(guests::source()), patient())
            .expect("loads");
        let good = SourceChain::new(vec![Binding::configure(&good, "{}").expect("configures")]);
        (host, good.expect("a chain"))
    });
    let (over, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let beside = tokio::spawn({
        let (host, over, served) = (host.clone(), over.clone(), served.clone());
        async move {
            let mut slowest = [Duration::ZERO; 2];
            while !over.load(Ordering::SeqCst) {
                let began = Instant::now();
                spared
                    .map(&elsewhere, events("axa"), Priority::Ingest)
                    .await;
                slowest[1] = slowest[1].max(began.elapsed());
                let began = Instant::now();
                let verdicts = host.map(&good, events("axa"), Priority::Ingest).await;
                slowest[0] = slowest[0].max(began.elapsed());
                let told: Vec<String> = verdicts.iter().map(describe).collect();
                assert_eq!(
                    told,
                    [
                        "[product/0 base={\"n\":0}]",
                        "filtered by good",
                        "[product/2 base={\"n\":2}]"
                    ]
                );
                served.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            slowest
        }
    });
    let mut wrong = Vec::new();
    for (name, at, code, words) in GUESTS {
        let before = served.load(Ordering::SeqCst);
        let limits = if words.contains("time limit") {
            limits()
        } else {
            patient()
        };
        let (found_at, found, said) = deed(&host, name, limits).await;
        if found_at != *at
            || !found.starts_with(code)
            || !said.contains(words)
            || said.len() > SAID_BYTES_MAX
        {
            wrong.push(format!("{name}: {found_at:?} {found}: {said}"));
        }
        while served.load(Ordering::SeqCst) == before {
            assert!(
                !beside.is_finished(),
                "{name} has disturbed the good plugin"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    over.store(true, Ordering::SeqCst);
    let [slowest, elsewhere] = beside
        .await
        .expect("the good plugin was served well all the time");
    // A hostile batch occupies a worker for 0.3 s of processor time while the other workers serve.
    assert!(
        slowest < 2 * elsewhere + Duration::from_secs(5),
        "a batch of the good plugin took {slowest:?}, elsewhere {elsewhere:?}"
    );
}

#[test]
fn each_text_is_in_the_table_and_there_are_enough() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .expect("the folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .path()
                .file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let table: BTreeSet<String> = GUESTS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(files, table);
    assert!(table.len() >= 25 && table.len() == GUESTS.len());
}

/// Features that the interface does not use are switched off, and are rejected by name with advice.
#[test]
fn what_came_after_wasm_2_is_refused_by_name() {
    let module = |fields: &str| format!("(component (core module {fields}))");
    let (host, mut wrong) = (host(1), Vec::new());
    for (what, text, words) in [
        ("shared memory", module("(memory 1 1 shared)"), "threads"),
        ("atomic instructions", module("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))"), "threads"),
        ("64-bit memory", module("(memory i64 1)"), "memory64"),
        ("tail calls", module("(func $f return_call $f)"), "tail calls"),
        ("exceptions", module("(tag)"), "exceptions"),
        ("structs", module("(type (struct))"), "gc"),
        ("arrays", module("(type (array i8))"), "gc"),
        ("typed references", module("(type $t (func)) (func (param (ref null $t)))"), "reference"),
        ("relaxed SIMD", module("(func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0))))"), "relaxed SIMD"),
        ("wide arithmetic", module("(func (result i64 i64) (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)))"), "wide arithmetic"),
        ("pages of a byte", module("(memory 1 (pagesize 1))"), "custom page sizes"),
        ("stack switching", module("(type $f (func)) (type $c (cont $f))"), "stack switching"),
        (
            "component async",
            r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m)) (func (canon lift (core func $i "f") async)))"#.to_owned(),
            "async",
        ),
        ("error contexts", "(component (core func (canon error-context.drop)))".to_owned(), "error-context"),
        ("component values", r#"(component (import "v" (value string)))"#.to_owned(), "value"),
    ] {
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{what}: {error}"));
        let said = host.load("erp", &Binary::new(bytes.to_vec()), limits()).expect_err(what).to_string();
        if !said.contains(words) || !said.contains("Weir runs Wasm 2.0") {
            wrong.push(format!("{what}: {words:?} is not in: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_too_large_is_refused_by_its_size_before_it_is_compiled() {
    let refused = |what: &str, bytes: &[u8], words: &str| {
        let began = Instant::now();
        let said = host(1)
            .load("erp", &Binary::new(bytes.to_vec()), limits())
            .expect_err(what)
            .to_string();
        assert!(said.contains(words), "{what}: {said}");
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{what} took {:?}",
            began.elapsed()
        );
    };
    let text = |text: String| wat::parse_str(text).expect("text");
    let mut sixty = b"\0asm\x0d\0\x01\0".to_vec();
    sixty.resize(60 << 20, 0);
    refused(
        "a file of 60 MiB",
        &sixty,
        "the file has 60 MiB; the limit is 48 MiB",
    );
    let functions = text(format!(
        "(component (core module {}))",
        "(func)".repeat(100_001)
    ));
    refused("functions", &functions, "it has more than 100000 functions");
    let long = text(format!(
        "(component (core module (func {})))",
        "nop ".repeat(1_100_000)
    ));
    refused(
        "one long function",
        &long,
        "function 1 has 1100002 bytes of code; the limit is 1 MiB",
    );
    let modules = text(format!("(component {})", "(core module)".repeat(201)));
    refused("modules", &modules, "it has more than 200 core modules");
    let instances = text(format!(
        "(component (core module $m) {})",
        "(core instance (instantiate $m))".repeat(250)
    ));
    refused("core instances", &instances, "250 core");
    let memories = text(format!(
        "(component (core module $m {}) (core instance (instantiate $m)))",
        "(memory 1)".repeat(20)
    ));
    refused("memories", &memories, "memories");
    let tables = text(format!(
        "(component (core module $m {}) (core instance (instantiate $m)))",
        "(table 1 funcref)".repeat(40)
    ));
    refused("tables", &tables, "tables");
}

/// A mapper that runs `$deed` when it is configured, and rejects its settings with `residue` if the
/// result is not 0.
fn configured_by(fields: &str) -> Vec<u8> {
    let rest = r#"
(import "weir:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))
(memory (export "memory") 32)
(table $table 1000 funcref)
(global $top (mut i32) (i32.const 1024))
(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
(func (export "weir:plugin/settings@0.1.0#configure") (param i32 i32) (result i32)
  (local $found i32)
  (local.set $found (call $deed))
  (i32.store8 (i32.const 64) (i32.ne (local.get $found) (i32.const 0)))
  (i32.store (i32.const 68) (i32.const 16)) (i32.store (i32.const 72) (i32.const 7))
  (i32.const 64))
(data (i32.const 16) "residue")
(func (export "cabi_post_weir:plugin/settings@0.1.0#configure") (param i32))
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32 i32) (result i32) (i32.const 128))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32))
"#;
    guests::module("mapper-plugin", &[rest, fields].concat())
}

/// Fills its memory, including new pages, and its table with a secret.
const FILLS: &str = r#"
(elem declare func $deed)
(func $deed (result i32)
  (drop (memory.grow (i32.const 100)))
  (memory.fill (i32.const 2048) (i32.const 0xa5) (i32.const 8648704))
  (table.fill $table (i32.const 0) (ref.func $deed) (i32.const 1000))
  (drop (table.grow $table (ref.func $deed) (i32.const 5000)))
  (i32.const 0))
"#;

/// Searches its memory, including new pages, and its table for data that is not its own.
const LOOKS: &str = r#"
(func $deed (result i32)
  (local $at i32)
  (call $before)
  (drop (memory.grow (i32.const 100)))
  (local.set $at (i32.const 2048))
  (loop $next
    (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (return (local.get $at))))
    (local.set $at (i32.add (local.get $at) (i32.const 8)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 8650752))))
  (drop (table.grow $table (ref.null func) (i32.const 5000)))
  (local.set $at (i32.const 0))
  (loop $next
    (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (return (i32.add (local.get $at) (i32.const 1)))))
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $at) (i32.const 6000))))
  (i32.const 0))
"#;

#[test]
fn nothing_of_a_plugin_is_left_for_the_next() {
    let host = host(1);
    let load = |name: &str, fields: &str| {
        host.load(name, &Binary::new(configured_by(fields)), patient())
            .expect("loads")
    };
    let fills = load("fills", FILLS);
    let looks = load("looks", &[LOOKS, "(func $before)"].concat());
    for _ in 0..300 {
        Binding::configure(&fills, "{}").expect("it fills");
        Binding::configure(&looks, "{}").expect("it finds none of the secret");
    }
    // Check that the searching component works: it finds a mark in its own memory.
    for mark in [
        "(memory.fill (i32.const 3000) (i32.const 1) (i32.const 1))",
        "(table.set $table (i32.const 7) (ref.func $before))",
    ] {
        let sees = load(
            "sees",
            &[
                LOOKS,
                "(elem declare func $before) (func $before ",
                mark,
                ")",
            ]
            .concat(),
        );
        let found = Binding::configure(&sees, "{}")
            .err()
            .expect("found")
            .to_string();
        assert!(found.contains("residue"), "{found}");
    }
}

/// Returns, as hexadecimal digits, NaN bit patterns from arithmetic: of 0/0, of a root, and of an
/// operation that could keep another NaN's payload; and the size of its memory.
const COMPUTES: &str = r#"
(func (export "weir:plugin/mapper@0.1.0#transform") (param i32) (param $count i32) (result i32)
  (local $change i32) (local $bits i64) (local $n i32) (local $digit i32)
  (local.set $change (call $alloc (i32.const 72)))
  (call $change (local.get $change))
  (local.set $bits
    (i64.or
      (i64.or
        (i64.reinterpret_f64 (f64.div (f64.const 0) (f64.convert_i32_u (i32.load (i32.const 3000)))))
        (i64.reinterpret_f64 (f64.sqrt (f64.const -1))))
      (i64.or
        (i64.reinterpret_f64 (f64.add (f64.reinterpret_i64 (i64.const 0xfff800000000beef)) (f64.const 1)))
        (i64.reinterpret_f64 (f64.promote_f32 (f32.mul (f32.reinterpret_i32 (i32.const 0xffc0beef)) (f32.const 2)))))))
  (i32.store8 (i32.const 300) (i32.const 34)) (i32.store8 (i32.const 317) (i32.const 34))
  (loop $next
    (local.set $digit (i32.wrap_i64 (i64.and (i64.shr_u (local.get $bits) (i64.extend_i32_u (i32.sub (i32.const 60) (i32.mul (local.get $n) (i32.const 4))))) (i64.const 15))))
    (i32.store8 offset=301 (local.get $n)
      (i32.add (local.get $digit) (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
    (local.set $n (i32.add (local.get $n) (i32.const 1)))
    (br_if $next (i32.lt_u (local.get $n) (i32.const 16))))
  (i32.store offset=28 (local.get $change) (i32.const 300)) (i32.store offset=32 (local.get $change) (i32.const 18))
  (call $answer (local.get $change) (i32.const 1) (local.get $count)))
(func (export "cabi_post_weir:plugin/mapper@0.1.0#transform") (param i32) (call $reset (i32.const 0)))
"#;

#[tokio::test]
async fn the_same_event_gives_the_same_changes_ten_thousand_times() {
    let computes = guests::module("mapper-plugin", &mapper_text(COMPUTES));
    let hosts = [host(4), host(1)];
    let (mut seen, mut runs) = (BTreeSet::new(), 0);
    // Two hosts, with four workers and with one; reused instances, and forty times new ones.
    for round in 0..40 {
        let host = &hosts[round % 2];
        let component = host
            .load("computes", &Binary::new(computes.clone()), patient())
            .expect("loads");
        let chain = SourceChain::new(vec![
            Binding::configure(&component, "{}").expect("configures"),
        ])
        .expect("a chain");
        for _ in 0..250 {
            let verdicts = host.map(&chain, events("a"), Priority::Ingest).await;
            seen.insert(describe(&verdicts[0]));
            runs += 1;
        }
    }
    assert_eq!(runs, 10_000);
    // The canonical bit pattern of NaN; without canonicalisation, 0/0 differs between machines.
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["[product/product base=\"7ff8000000000000\"]"]
    );
}
