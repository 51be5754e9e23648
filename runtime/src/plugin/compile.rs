//! Compiling: from a file of Wasm to code, in this process or in a separate one.
//!
//! [`Apart`] is a process of its own that lives for one component: its memory and processor time are
//! bounded, it yields to the serving threads, it sees neither environment nor files, and whatever
//! hostile bytes do to a compiler ends with it. It returns code for this very program, the same as
//! this program would have made itself.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wasmtime::Engine;
use wasmtime::component::Component as Code;

use crate::plugin::engine::{self, Layout};
use crate::plugin::limits::{Length, Size};
use crate::plugin::sizes;

/// The niceness of the process: it gets a tenth of the processor share of a thread that accepts
/// events.
const NICENESS: i32 = 10;
/// Threads of the compiler: the second one halves the wait, more would only compete with the
/// serving threads.
const THREADS: (&str, &str) = ("RAYON_NUM_THREADS", "2");
/// Wall-clock limit, as a multiple of the processor limit: on a busy machine the wall clock runs
/// ahead.
const PATIENCE: u32 = 4;
/// The first byte of the response: code follows, or a sentence.
const CODE: u8 = 0;
const SENTENCE: u8 = 1;
/// Bytes kept of what the process prints.
const SAID_BYTES_MAX: u64 = 4096;

/// How to compile in a separate process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The program, which answers as [`serve_request`] does.
    pub program: PathBuf,
    /// Its arguments; `--layout`, `--memory-bytes` and `--seconds` are added.
    pub arguments: Vec<OsString>,
    /// Processor time for one component; 120 s. A whole Python takes 16.
    pub time: Duration,
    /// Memory for one component, in bytes; 2 GiB. A whole Python takes a quarter of it.
    pub memory_bytes: u64,
}

impl Apart {
    /// By this program with these arguments, within the usual bounds.
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Apart {
        Apart {
            program,
            arguments,
            time: Duration::from_secs(120),
            memory_bytes: 2 << 30,
        }
    }

    /// The code of a file, as [`revive`] takes it. Blocking.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    pub(super) fn compile(&self, wasm: &[u8], layout: Layout) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .args(["--layout", layout.name()]);
        command.args([
            "--memory-bytes",
            &self.memory_bytes.to_string(),
            "--seconds",
            &self.time.as_secs().max(1).to_string(),
        ]);
        // Without the environment there is no RUST_BACKTRACE either: a process that has no memory
        // left to tell of its panic at length waits for itself forever.
        command
            .env_clear()
            .env(THREADS.0, THREADS.1)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|error| format!("the compiler cannot be started: {error}"))?;
        let (answer, said) = converse(&mut child, wasm, self.time * PATIENCE);
        let status = child
            .wait()
            .map_err(|error| format!("the compiler is lost: {error}"))?;
        match answer.as_deref().map(<[u8]>::split_first) {
            Some(Some((&CODE, code))) if status.success() => Ok(code.to_vec()),
            Some(Some((&SENTENCE, why))) => Err(self.named(&String::from_utf8_lossy(why), &said)),
            None => Err(self.too_long()),
            Some(_) => Err(self.died(status, &said)),
        }
    }

    fn too_long(&self) -> String {
        format!(
            "compiling it takes longer than {} of a processor",
            Length(self.time)
        )
    }

    fn too_large(&self) -> String {
        format!(
            "compiling it takes more than {} of memory",
            Size(self.memory_bytes as usize)
        )
    }

    /// A compiler that was refused memory may still say so in its own words, or has panicked for
    /// it.
    fn named(&self, why: &str, said: &str) -> String {
        let lacks = |text: &str| {
            [
                "Cannot allocate memory",
                "out of memory",
                "Resource temporarily unavailable",
            ]
            .iter()
            .any(|words| text.contains(words))
        };
        if lacks(why) || lacks(said) {
            self.too_large()
        } else {
            why.to_owned()
        }
    }

    fn died(&self, status: ExitStatus, said: &str) -> String {
        #[cfg(unix)]
        if std::os::unix::process::ExitStatusExt::signal(&status)
            == Some(rustix::process::Signal::XCPU.as_raw())
        {
            return self.too_long();
        }
        if said.contains("memory allocation of") {
            return self.too_large();
        }
        let last = said
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        format!("the compiler gave up on it ({status}): {last}")
    }
}

/// Gives the process the file and takes its answer, none if it is not there in time, and what it
/// said beside.
fn converse(child: &mut Child, wasm: &[u8], patience: Duration) -> (Option<Vec<u8>>, String) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A process that ended early does not read to the end, and says why by how it ended.
            let _ = stdin.map(|mut stdin| stdin.write_all(wasm));
        });
        let said = scope.spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.map(|stderr| stderr.take(SAID_BYTES_MAX).read_to_end(&mut said));
            String::from_utf8_lossy(&said).into_owned()
        });
        let (tell, told) = mpsc::channel();
        scope.spawn(move || {
            let mut answer = Vec::new();
            let _ = stdout.map(|mut stdout| stdout.read_to_end(&mut answer));
            let _ = tell.send(answer);
        });
        let answer = told.recv_timeout(patience).ok();
        if answer.is_none() {
            // It can only have ended by itself just now.
            let _ = child.kill();
        }
        (answer, said.join().unwrap_or_default())
    })
}

/// The other side: reads a file from `input`, compiles it within these bounds and writes the
/// response to `output`. For a process that does nothing else, because the bounds apply to the
/// whole process and stay.
///
/// # Errors
/// When the response cannot be written.
pub fn serve_request(
    layout: &str,
    memory_bytes: u64,
    seconds: u64,
    input: impl Read,
    mut output: impl Write,
) -> io::Result<()> {
    bound(memory_bytes, seconds);
    let mut wasm = Vec::new();
    input
        .take(sizes::FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut wasm)?;
    match layout.parse().and_then(|layout| serialized(&wasm, layout)) {
        Ok(code) => {
            output.write_all(&[CODE])?;
            output.write_all(&code)?;
        }
        Err(why) => {
            output.write_all(&[SENTENCE])?;
            output.write_all(why.as_bytes())?;
        }
    }
    output.flush()
}

fn serialized(wasm: &[u8], layout: Layout) -> Result<Vec<u8>, String> {
    let engine = engine::compiling(layout)
        .map_err(|error| format!("the compiler cannot start: {error:#}"))?;
    let code = here(&engine, wasm)?;
    code.serialize()
        .map_err(|error| format!("its code cannot be written: {error:#}"))
}

/// Limits this process. Where a limit cannot be set, the one on time, which the parent enforces,
/// remains.
fn bound(memory_bytes: u64, seconds: u64) {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    let limit = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // At the second bound on time a process is killed without a word; the first tells it, and its
    // parent, why.
    let time = Rlimit {
        current: Some(seconds),
        maximum: Some(seconds.saturating_add(5)),
    };
    let bounds = [
        (Resource::Data, limit(memory_bytes)),
        (Resource::Cpu, time),
        (Resource::Core, limit(0)),
        (Resource::Fsize, limit(0)),
    ];
    for (resource, bound) in bounds {
        let _ = setrlimit(resource, bound);
    }
    let _ = nice(NICENESS);
}

/// Compiles in this process, without bounds of time and memory.
pub(super) fn here(engine: &Engine, wasm: &[u8]) -> Result<Code, String> {
    // A compiler is large: should hostile code ever make it panic, that is a refusal too.
    let made = catch_unwind(AssertUnwindSafe(|| {
        sizes::check(wasm)?;
        let component;
        let bytes = match Kind::of(wasm)? {
            Kind::Component => wasm,
            Kind::Module => {
                component = componentize(wasm)?;
                &component
            }
        };
        Code::from_binary(engine, bytes).map_err(|error| refused(bytes, &format!("{error:#}")))
    }));
    made.unwrap_or_else(|_| Err("the compiler gave up on it".into()))
}

/// Code that was made before by this program, or by a process of it.
///
/// # Safety
/// The bytes are what [`Code::serialize`] gave, whole, and from nobody else.
pub(super) unsafe fn revive(engine: &Engine, code: &[u8]) -> wasmtime::Result<Code> {
    // SAFETY: the caller's promise. That an engine of the same version and settings made it is
    // checked by Wasmtime.
    unsafe { Code::deserialize(engine, code) }
}

/// What a file of Wasm holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Component,
}

impl Kind {
    /// By its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Result<Kind, String> {
        match bytes.split_at_checked(8) {
            Some((b"\0asm\x01\0\0\0", _)) => Ok(Kind::Module),
            Some((b"\0asm\x0d\0\x01\0", _)) => Ok(Kind::Component),
            Some(([0, b'a', b's', b'm', version @ ..], _)) => Err(format!(
                "the file is Wasm of a kind that Weir does not know ({})",
                hex::encode(version)
            )),
            _ => Err("the file is not Wasm".into()),
        }
    }
}

impl Layout {
    fn name(self) -> &'static str {
        match self {
            Layout::Wide => "wide",
            Layout::Narrow => "narrow",
        }
    }
}

impl std::str::FromStr for Layout {
    type Err = String;

    fn from_str(name: &str) -> Result<Layout, String> {
        [Layout::Wide, Layout::Narrow]
            .into_iter()
            .find(|layout| layout.name() == name)
            .ok_or_else(|| format!("there is no layout {name}"))
    }
}

/// How to do without a system, for whoever built with one.
pub(super) const HOW_WITHOUT_WASI: &str = "; a plugin has no system beneath it: in Rust build it for wasm32-unknown-unknown (not wasm32-wasip1 or -wasip2), with \
     componentize-qjs or componentize-py pass --stub-wasi";
/// How to do without what is switched off, for whoever built with it.
const HOW_PLAIN: &str = "; Weir runs Wasm 2.0 and none of what came later: build without threads, 64-bit memory, garbage collection, \
                         exceptions, tail calls, relaxed SIMD and component async";

/// Makes a component of a core module that carries its WIT type.
fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoded = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        let mut why = format!("no component can be made of this core module: {error:#}");
        if why.contains("wasi_snapshot_preview1") {
            why.push_str(HOW_WITHOUT_WASI);
        }
        why
    })
}

/// The compiler's reason; where it is only that something is switched off, with what to do about
/// it.
fn refused(bytes: &[u8], why: &str) -> String {
    let elsewhere = wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
        .validate_all(bytes)
        .is_ok();
    let switched_off = elsewhere
        || ["not enabled", "feature"]
            .iter()
            .any(|words| why.contains(words));
    format!(
        "the file does not compile: {why}{}",
        if switched_off { HOW_PLAIN } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell in place of the compiler.
    fn refused_by(script: &str, time: Duration) -> String {
        let arguments = ["-c", script, "compiler"].map(OsString::from).to_vec();
        let apart = Apart {
            time,
            ..Apart::new("/bin/sh".into(), arguments)
        };
        apart
            .compile(b"some bytes", Layout::Wide)
            .expect_err("refused")
    }

    #[test]
    fn a_compiler_that_does_not_come_to_an_end_is_ended_and_named() {
        let began = std::time::Instant::now();
        let why = refused_by("exec /bin/sleep 60", Duration::from_millis(100));
        assert_eq!(why, "compiling it takes longer than 100 ms of a processor");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(
            refused_by("kill -XCPU $$", Duration::from_secs(60)),
            "compiling it takes longer than 60 s of a processor"
        );
    }

    #[test]
    fn a_compiler_that_dies_is_named_by_what_it_died_of() {
        let minute = Duration::from_secs(60);
        let why = refused_by(
            "echo 'memory allocation of 5 bytes failed' >&2; kill -ABRT $$",
            minute,
        );
        assert_eq!(why, "compiling it takes more than 2 GiB of memory");
        let why = refused_by(
            "echo 'Resource temporarily unavailable' >&2; printf '\\001the compiler gave up on it'",
            minute,
        );
        assert_eq!(why, "compiling it takes more than 2 GiB of memory");
        let why = refused_by("echo oops >&2; exit 3", minute);
        assert!(
            why.starts_with("the compiler gave up on it (exit status: 3): oops"),
            "{why}"
        );
        let why = Apart::new("/nowhere/weir".into(), Vec::new())
            .compile(b"", Layout::Wide)
            .expect_err("refused");
        assert!(why.starts_with("the compiler cannot be started"), "{why}");
    }

    #[test]
    fn what_is_answered_is_code_for_the_serving_engine_or_a_sentence() {
        // The bounds of a process stay with it, so this side is asked without them.
        let code =
            serialized(&wat::parse_str("(component)").expect("text"), Layout::Wide).expect("code");
        let (serving, _) = engine::serving(1).expect("an engine");
        // SAFETY: made two lines above.
        assert!(unsafe { revive(&serving, &code) }.is_ok());
        assert_eq!(
            serialized(b"no", Layout::Wide).expect_err("refused"),
            "the file is not Wasm"
        );
        assert!("elsewhere".parse::<Layout>().is_err());
    }
}
