//! The sandbox from outside: a mapper in Rust that does what it must not do, and a compiler with
//! input that is too hard for it. The damage is limited to the event or the file that caused it,
//! and it is reported.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use wasm_encoder::{CodeSection, Function, FunctionSection, Instruction, Module, TypeSection};
use weir::inside::author::toolchain;

use crate::support::weir::PROGRAM;
use crate::support::{Stage, change, eventually};

/// A source with the rude mapper, next to one without a mapper.
const CONFIG: &str = r#"
[entities.product]
facets.base = { owner = "erp" }
facets.content = { owner = "pim" }
[plugins.rude]
path = "rude.wasm"
limits = { time = "500ms", memory = "16MiB", output = "1MiB", log = "4KiB" }
[sources.erp]
plugins = ["rude"]
[sources.pim]
[targets.shop]
kind = "webhook"
url = "{shop}"
[channels.shop]
entity = "product"
facets = ["base", "content"]
target = "shop"
"#;

/// The type of an event, and the code and the words of the fault it causes.
const DEEDS: &[(&str, &str, &str)] = &[
    ("loop", "time-limit", "time limit of 500 ms exceeded"),
    // Rust keeps large frames in memory, so its recursion ends when either that memory or the call
    // stack is exhausted.
    ("recurse", "", ""),
    ("hoard", "memory-limit", "memory limit of 16 MiB exceeded"),
    ("reserve", "memory-limit", "memory limit of 16 MiB exceeded"),
    ("panic", "", "the warehouse is on fire"),
    ("index", "", "index out of bounds"),
    ("unwrap", "", "ParseIntError"),
    ("divide", "", "attempt to divide by zero"),
    ("flood", "time-limit", "the same line again"),
    ("swell", "output-limit", "output limit of 1 MiB exceeded"),
    ("abort", "trap", "unreachable"),
    ("thread", "", "failed to spawn thread"),
    ("clock", "", "time not implemented on this platform"),
    ("file", "", "operation not supported on this platform"),
    ("network", "", "operation not supported on this platform"),
];

#[test]
fn a_rude_mapper_in_rust_fails_only_on_its_event_and_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/guests/rude");
    let built = toolchain::build(&folder, &mut |step| eprintln!("{step}")).expect("it builds");
    let mut stage = Stage::closed(CONFIG);
    stage.place(
        "rude.wasm",
        &std::fs::read(built.component).expect("it is there"),
    );
    stage.start();
    let event = |kind: &str, id: &str| json!({"specversion": "1.0", "id": id, "source": "erp", "type": kind, "data": {}});
    for (deed, code, words) in DEEDS {
        let id = |what: &str| format!("{what}-{deed}");
        let batch = [
            event("good", &id("a")),
            event(deed, &id("rude")),
            event("count", &id("b")),
        ];
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let answer = stage
            .send("erp", &headers, json!(batch).to_string().as_bytes())
            .json();
        assert_eq!(
            (
                &answer["events"]["accepted"],
                &answer["events"]["quarantined"]
            ),
            (&json!(2), &json!(1)),
            "{deed}: {answer:#}"
        );
        let kept = stage
            .quarantine("erp")
            .into_iter()
            .find(|kept| kept["event"]["id"] == json!(id("rude")))
            .expect("it is kept");
        let field = |name: &str| kept[name].as_str().unwrap_or_default().to_owned();
        assert!(
            (code.is_empty() || field("code") == *code) && field("detail").contains(words),
            "{deed}: {kept:#}"
        );
        assert!(field("plugin").starts_with("rude@"), "{kept:#}");
        stage.takes("pim", &[change(&id("c"), "content", json!(1))]);
    }
    // All good events have arrived, and nothing else.
    let wanted = DEEDS.len() * 3;
    eventually("all good events have arrived", || {
        (stage.shop.holds().len() == wanted).then_some(())
    });
}

/// A component with this many functions of ten thousand bytes each, in which the compiler finds
/// nothing to leave out.
fn laborious(functions: u32) -> Vec<u8> {
    let (mut types, mut declared, mut code) = (
        TypeSection::new(),
        FunctionSection::new(),
        CodeSection::new(),
    );
    types
        .ty()
        .function([wasm_encoder::ValType::I64], [wasm_encoder::ValType::I64]);
    for number in 0..functions {
        declared.function(0);
        let mut function = Function::new([]);
        function.instruction(&Instruction::LocalGet(0));
        for step in 0..1500 {
            function.instruction(&Instruction::LocalGet(0));
            function.instruction(&Instruction::I64Const(i64::from(
                number * 7919 + step * 31 + 1,
            )));
            function.instruction(&Instruction::I64Xor);
            function.instruction(&Instruction::I64Mul);
        }
        function.instruction(&Instruction::End);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    let mut component = wasm_encoder::Component::new();
    component.section(&wasm_encoder::ModuleSection(&module));
    component.finish()
}

/// Compiles with these limits. Returns the compiler's output and how long it took.
fn compiled(component: &[u8], bounds: [&str; 4]) -> (Output, Duration) {
    let began = Instant::now();
    // As Weir starts it. With RUST_BACKTRACE it would print a long backtrace after a panic and,
    // without memory for that, wait for itself forever.
    let mut child = Command::new(PROGRAM)
        .arg("compile")
        .args(bounds)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // It may end before it has read everything.
    let _ = child
        .stdin
        .take()
        .map(|mut stdin| stdin.write_all(component));
    (child.wait_with_output().expect("it ends"), began.elapsed())
}

#[test]
fn a_compiler_cannot_exceed_its_limits_of_time_and_memory() {
    let (small, large) = (laborious(2), laborious(600));
    let (output, _) = compiled(&small, ["--seconds", "60", "--memory-bytes", "2147483648"]);
    assert!(
        output.status.success() && output.stdout.first() == Some(&0),
        "{output:?}"
    );

    let (output, took) = compiled(&large, ["--seconds", "1", "--memory-bytes", "2147483648"]);
    assert_eq!(
        output.status.signal(),
        Some(Signal::XCPU.as_raw()),
        "{:?}",
        output.status
    );
    assert!(took < Duration::from_secs(30), "{took:?}");

    let (output, _) = compiled(&large, ["--seconds", "60", "--memory-bytes", "67108864"]);
    let printed = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() || output.stdout.first() == Some(&1),
        "it used memory beyond its limit: {:?}",
        output.status
    );
    // Either an allocation failed, or a thread found no room for its stack.
    let words = ["memory", "Resource temporarily unavailable"];
    assert!(
        words.iter().any(|words| printed.contains(words)),
        "{:?}: {printed}",
        output.status
    );
}

#[test]
fn events_are_accepted_while_a_large_component_is_compiled_and_rejected() {
    let mut stage = Stage::closed(
        &CONFIG
            .replace("plugins = [\"rude\"]\n", "")
            .replace("[plugins.rude]", "[plugins.other]"),
    );
    stage.place("rude.wasm", &crate::support::guests::versioned::mapper(1));
    stage.start();
    // The component has no role, which is known only after compiling it.
    stage.place("rude.wasm", &laborious(60));
    let view = std::thread::scope(|scope| {
        let reload = scope.spawn(|| stage.reload_files());
        let mut keys = (0..).map(|number| format!("lamp-{number}"));
        let mut takes = || {
            let key = keys.next().expect("without end");
            stage.takes("pim", &[change(&key, "content", json!(1))]);
        };
        // However long it takes: whoever waited for it would wait for ever.
        let compiler = stage.weir().freezes_its_compiler();
        (0..4).for_each(|_| takes());
        assert_eq!(stage.weir().children(), [compiler], "it is not ended");
        kill_process(compiler, Signal::CONT).expect("signalled");
        while !reload.is_finished() {
            takes();
        }
        reload.join().expect("it answers")
    });
    assert_eq!(view["status"], 422, "{view:#}");
    assert!(
        view["complaints"]
            .to_string()
            .contains("exports none of event-filter, mapper"),
        "{view:#}"
    );
    let plugins: Value = stage.weir().get("/v1/plugins").json();
    let refused = &plugins["items"][0]["last_refused"];
    assert_eq!(refused["result"], "refused", "{plugins:#}");
    assert!(
        refused["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("exports none of")),
        "{plugins:#}"
    );
}
