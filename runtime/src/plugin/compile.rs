//! Compiles a Wasm file to machine code, in this process or in a separate one.
//!
//! [`Apart`] is a separate process for one component. Its memory and processor time are bounded, it
//! yields to the serving threads, it gets neither environment nor files, and any harm that hostile
//! bytes do to the compiler ends with it. It returns the same code that this program would have
//! compiled itself.

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
use crate::plugin::refusals::Refusal;
use crate::plugin::sizes;

/// The niceness of the process, which gets a tenth of the processor share of a thread that accepts
/// events.
const NICENESS: i32 = 10;
/// Threads of the compiler. A second one halves the wait; more would only compete with the serving
/// threads.
const THREADS: (&str, &str) = ("RAYON_NUM_THREADS", "2");
/// Wall-clock limit, as a multiple of the processor limit: on a busy machine the wall clock runs
/// ahead.
const PATIENCE: u32 = 4;
/// The first byte of the response: code follows this one, a sentence the next.
const CODE: u8 = 0;
const SENTENCE: u8 = 1;
/// The most bytes kept of the process's output on standard error.
const SAID_BYTES_MAX: u64 = 4096;

/// How to compile in a separate process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The program, which must run [`serve_request`].
    pub program: PathBuf,
    /// Its arguments; `--layout`, `--memory-bytes` and `--seconds` are added.
    pub arguments: Vec<OsString>,
    /// Processor time for one component; 120 s. A whole Python takes 16.
    pub time: Duration,
    /// Memory for one component, in bytes; 2 GiB. A whole Python takes a quarter of it.
    pub memory_bytes: u64,
}

impl Apart {
    /// This program with these arguments, within the usual bounds.
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Apart {
        Apart {
            program,
            arguments,
            time: Duration::from_secs(120),
            memory_bytes: 2 << 30,
        }
    }

    /// Compiles a file to code that [`revive`] accepts. Blocking.
    ///
    /// # Errors
    /// The reason, in a sentence.
    pub(super) fn compile(&self, wasm: &[u8], layout: Layout) -> Result<Vec<u8>, Refusal> {
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
        // This also drops RUST_BACKTRACE: a process that runs out of memory while it prints a
        // backtrace deadlocks.
        command
            .env_clear()
            .env(THREADS.0, THREADS.1)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Refusal::for_now(format!("the compiler cannot be started: {error}"))
        })?;
        let (answer, said) = converse(&mut child, wasm, self.time * PATIENCE);
        let awaited = child.wait();
        let status = awaited.map_err(|error| {
            Refusal::for_now(format!("the compiler process cannot be awaited: {error}"))
        })?;
        match answer.as_deref().map(<[u8]>::split_first) {
            Some(Some((&CODE, code))) if status.success() => Ok(code.to_vec()),
            Some(Some((&SENTENCE, why))) => Err(self.named(&String::from_utf8_lossy(why), &said)),
            // On a busy machine this says little about the file.
            None => Err(Refusal::for_now(self.too_long())),
            Some(_) => Err(self.died(status, &said)),
        }
    }

    fn too_long(&self) -> String {
        format!(
            "compiling it takes longer than {} of processor time",
            Length(self.time)
        )
    }

    fn too_large(&self) -> String {
        format!(
            "compiling it takes more than {} of memory",
            Size(self.memory_bytes as usize)
        )
    }

    /// Names the memory limit if the message shows that an allocation failed; otherwise returns the
    /// message.
    fn named(&self, why: &str, said: &str) -> Refusal {
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
            // The whole machine may have lacked it.
            Refusal::for_now(self.too_large())
        } else {
            why.to_owned().into()
        }
    }

    fn died(&self, status: ExitStatus, said: &str) -> Refusal {
        #[cfg(unix)]
        if std::os::unix::process::ExitStatusExt::signal(&status)
            == Some(rustix::process::Signal::XCPU.as_raw())
        {
            return self.too_long().into();
        }
        if said.contains("memory allocation of") {
            return self.too_large().into();
        }
        let last = said
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it printed nothing");
        Refusal::for_now(format!("the compiler gave up on it ({status}): {last}"))
    }
}

/// Sends the file to the process and returns its response, `None` if it does not arrive in time,
/// and its output on standard error.
fn converse(child: &mut Child, wasm: &[u8], patience: Duration) -> (Option<Vec<u8>>, String) {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A write error means that the process ended early; its exit status gives the reason.
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
            // This fails only if the process has just ended by itself.
            let _ = child.kill();
        }
        (answer, said.join().unwrap_or_default())
    })
}

/// The other side of [`Apart`]: reads a file from `input`, compiles it within these bounds and
/// writes the response to `output`. Call it in a process that does nothing else, because the bounds
/// apply to the whole process from then on.
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

/// Limits this process. If a limit cannot be set, the time limit that the parent enforces remains.
fn bound(memory_bytes: u64, seconds: u64) {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    // A Weir that has ended needs no code; without this, the processor time would be spent.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let limit = |most: u64| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    // At the soft limit the process ends with a signal that tells the parent why; at the hard limit
    // it is killed.
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
    // The thread that started it may have a lower priority already. Added to that, a busy machine would
    // leave next to nothing for the compiler, and a start waits for it.
    if let Ok(inherited) = nice(0) {
        let _ = nice((NICENESS - inherited).max(0));
    }
}

/// Compiles in this process, without bounds on time and memory.
pub(super) fn here(engine: &Engine, wasm: &[u8]) -> Result<Code, String> {
    // A compiler is large, and hostile code may make it panic; treat that as a refusal.
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

/// Loads code that this program, or a compiler process of it, has compiled.
///
/// # Safety
/// The bytes must be complete, unchanged output of [`Code::serialize`].
pub(super) unsafe fn revive(engine: &Engine, code: &[u8]) -> wasmtime::Result<Code> {
    // SAFETY: promised by the caller. Wasmtime itself checks the version and settings of the engine
    // that compiled the code.
    unsafe { Code::deserialize(engine, code) }
}

/// The kind of a Wasm file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Component,
}

impl Kind {
    /// The kind, by the first bytes of the file.
    pub(super) fn of(bytes: &[u8]) -> Result<Kind, String> {
        match bytes.split_at_checked(8) {
            Some((b"\0asm\x01\0\0\0", _)) => Ok(Kind::Module),
            Some((b"\0asm\x0d\0\x01\0", _)) => Ok(Kind::Component),
            Some(([0, b'a', b's', b'm', version @ ..], _)) => Err(format!(
                "the file is a kind of Wasm that Weir does not support ({})",
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

/// Advice for a plugin that was built with WASI.
pub(super) const HOW_WITHOUT_WASI: &str = "; a plugin has no operating system: in Rust, build it for wasm32-unknown-unknown (not wasm32-wasip1 or -wasip2); with \
     componentize-qjs or componentize-py pass --stub-wasi";
/// Advice for a plugin that uses Wasm features that are switched off.
const HOW_PLAIN: &str = "; Weir runs Wasm 2.0 without later features: build without threads, 64-bit memory, garbage collection, \
                         exceptions, tail calls, relaxed SIMD and component async";

/// Converts a core module that carries its WIT type into a component.
fn componentize(module: &[u8]) -> Result<Vec<u8>, String> {
    let encoded = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| {
        let mut why = format!("this core module cannot be made into a component: {error:#}");
        if why.contains("wasi_snapshot_preview1") {
            why.push_str(HOW_WITHOUT_WASI);
        }
        why
    })
}

/// The compiler's reason, with advice if the only problem is a feature that is switched off.
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

    /// Runs a shell script in place of the compiler; returns the reason.
    fn refused_by(script: &str, time: Duration) -> String {
        let arguments = ["-c", script, "compiler"].map(OsString::from).to_vec();
        let apart = Apart {
            time,
            ..Apart::new("/bin/sh".into(), arguments)
        };
        apart
            .compile(b"some bytes", Layout::Wide)
            .expect_err("refused")
            .why
    }

    #[test]
    fn a_compiler_that_does_not_come_to_an_end_is_ended_and_named() {
        let (began, end) = (std::time::Instant::now(), Duration::from_secs(300));
        let why = refused_by("exec /bin/sleep 300", Duration::from_millis(100));
        assert_eq!(
            why,
            "compiling it takes longer than 100 ms of processor time"
        );
        assert!(
            began.elapsed() < end,
            "its end was awaited: {:?}",
            began.elapsed()
        );
        assert_eq!(
            refused_by("kill -XCPU $$", Duration::from_secs(60)),
            "compiling it takes longer than 60 s of processor time"
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
            .expect_err("refused")
            .why;
        assert!(why.starts_with("the compiler cannot be started"), "{why}");
    }

    #[test]
    fn what_is_answered_is_code_for_the_serving_engine_or_a_sentence() {
        // Without bounds, because they would apply to the whole test process.
        let code =
            serialized(&wat::parse_str("(component)").expect("text"), Layout::Wide).expect("code");
        let (serving, _) = engine::serving(1).expect("an engine");
        // SAFETY: compiled a few lines above.
        assert!(unsafe { revive(&serving, &code) }.is_ok());
        assert_eq!(
            serialized(b"no", Layout::Wide).expect_err("refused"),
            "the file is not Wasm"
        );
        assert!("elsewhere".parse::<Layout>().is_err());
    }
}
