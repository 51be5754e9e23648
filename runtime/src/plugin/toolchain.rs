//! A folder of Rust source becomes a component.
//!
//! [`build`] finds a compiler for WebAssembly or fetches one, saying so first; compiles the plugin apart from any build
//! around it; makes a component of the result and refuses what Weir could not run, in words that say how to build it
//! instead. The component lands in `dist` whole or not at all, and only if it differs from what is there. What the
//! compiler has to say goes to standard error, untouched.
//!
//! The environment variable `WEIR_TOOLCHAIN` settles which compiler is used: `rustup` (the one that `rustc` names, with a
//! target added through rustup if need be) or `debian` (the distribution's packages). Without it, the first that works.

use std::borrow::Cow;
use std::env;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::plugin::cases::{self, Embedded};
use crate::plugin::sizes::FILE_BYTES_MAX;

/// A plugin that has been built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Where the component is.
    pub component: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 hex digits.
    pub sha256: String,
    /// The compiler that built it, by its own words.
    pub tool_chain: String,
    /// How many of its cases it carries.
    pub cases: Embedded,
}

/// Why there is no component. The variants differ in who has to act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller: the folder is not a plugin's source.
    #[error("{folder} is not the source of a plugin: {reason}")]
    NotSource {
        /// The folder as given.
        folder: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// Whoever looks after the machine: nothing here compiles for WebAssembly.
    #[error("{0}")]
    NoToolChain(String),
    /// The author: the compiler refuses the source, and has said why on standard error.
    #[error("{package} does not compile; what the compiler says about it is above")]
    Refused {
        /// The crate.
        package: String,
    },
    /// The author: the source compiles, to something that Weir cannot run.
    #[error("{0}")]
    NotPlugin(String),
    /// Nobody yet: a file or a program could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

const TARGET: &str = "wasm32-unknown-unknown";
/// Enough for edition 2021 and the guest bindings; Debian's packages for browsers have it.
const RUSTC_MINOR_MIN: u32 = 85;
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const ENVIRONMENT: &str = "WEIR_TOOLCHAIN";

/// A component that is made and lies nowhere yet. Until it is placed or dropped no other process makes the same plugin: it may be compiling
/// a newer source into the same file.
#[derive(Debug)]
pub struct Made {
    /// The component, its cases inside.
    pub component: Vec<u8>,
    /// Where it belongs: `<folder>/dist/<name>.wasm`.
    pub path: PathBuf,
    /// The compiler that built it, by its own words.
    pub tool_chain: String,
    /// How many of its cases it carries.
    pub cases: Embedded,
    _lock: File,
}

impl Made {
    /// Puts the component where it belongs, in one step, if it is not there already.
    pub fn place(self, say: &mut dyn FnMut(&str)) -> Result<Built, Error> {
        place(&self.path, &self.component, say)?;
        Ok(Built {
            bytes: self.component.len() as u64,
            sha256: hex::encode(Sha256::digest(&self.component)),
            component: self.path,
            tool_chain: self.tool_chain,
            cases: self.cases,
        })
    }
}

/// Builds the plugin crate in `folder`; the component lands in `<folder>/dist/<name>.wasm`. `say` is told each step before it
/// happens. Any number of processes may build the same plugin at once.
pub fn build(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Built, Error> {
    make(folder, say)?.place(say)
}

/// Builds the plugin crate in `folder` as [`build`] does, and leaves what is in `dist` alone.
pub fn make(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Made, Error> {
    let manifest = folder.join("Cargo.toml");
    let manifest =
        manifest.canonicalize().map_err(|_| Error::NotSource { folder: folder.into(), reason: "it has no Cargo.toml".into() })?;
    let folder = manifest.parent().unwrap_or(folder);
    let tools = ToolChain::find(folder, say)?;
    let package = Package::read(&tools, folder, &manifest)?;
    fs::create_dir_all(&package.target_directory).map_err(|error| io_error("creating", &package.target_directory, error))?;
    let lock = package.target_directory.join(format!("{}.lock", package.library));
    let lock = File::create(&lock).and_then(|file| file.lock().map(|()| file)).map_err(|error| io_error("locking", &lock, error))?;
    say(&tools.announcement(&package));
    let module = tools.compile(&package, folder, &manifest)?;
    let module = fs::read(&module).map_err(|error| io_error("reading", &module, error))?;
    let component = componentize(&module)?;
    check(&component)?;
    let (component, cases) = with_cases(folder, &component)?;
    let path = folder.join("dist").join(format!("{}.wasm", package.library));
    Ok(Made { component, path, tool_chain: tools.to_string(), cases, _lock: lock })
}

/// The component with the cases of its folder inside, so that they travel with it.
fn with_cases(folder: &Path, component: &[u8]) -> Result<(Vec<u8>, Embedded), Error> {
    let cases = cases::read(&folder.join("cases"));
    cases.and_then(|cases| cases::embed(component, &cases)).map_err(|error| Error::NotPlugin(error.to_string()))
}

/// A core module that carries its WIT type becomes a component; a component is passed through unchanged.
pub fn componentize(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    // After the magic number and a version of 16 bits each layer of the format has its number: 0 modules, 1 components.
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Cow::Borrowed(bytes)),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => {
            if wit_component::metadata::decode(bytes).map_err(no_component)?.0.is_none() {
                return Err(Error::NotPlugin(
                    "the module does not say which interface it implements: does its source generate bindings (wit_bindgen::generate!) \
                     and export them (export!), for Wasm and in the library?"
                        .into(),
                ));
            }
            let mut encoder = ComponentEncoder::default().validate(true).module(bytes).map_err(no_component)?;
            encoder.encode().map(Cow::Owned).map_err(no_component)
        }
        _ => Err(Error::NotPlugin("the file is neither a WebAssembly component nor a module".into())),
    }
}

fn no_component(error: impl Display) -> Error {
    let text = format!("{error:#}");
    let hint = foreign_import(&text).map(|hint| format!("; {hint}")).unwrap_or_default();
    Error::NotPlugin(format!("no component can be made of the module: {text}{hint}"))
}

/// Refuses a component that asks for more than Weir gives or that gives nothing Weir asks for.
fn check(component: &[u8]) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::NotPlugin(why));
    if component.len() > FILE_BYTES_MAX {
        let (bytes, most) = (component.len(), FILE_BYTES_MAX);
        return refuse(format!(
            "the component has {bytes} bytes; Weir takes at most {most}: leave out what is not needed to map (data, large libraries)"
        ));
    }
    let (resolve, world) = match wit_component::decode(component) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => return refuse("the component holds an interface and no code".into()),
        Err(error) => return refuse(format!("the component cannot be read: {error:#}")),
    };
    let world = &resolve.worlds[world];
    for import in world.imports.keys().map(|key| resolve.name_world_key(key)) {
        if !matches!(import.as_str(), "weir:plugin/log@0.1.0" | "weir:plugin/types@0.1.0") {
            let hint = foreign_import(&import).unwrap_or("a plugin is given `weir:plugin/log@0.1.0` and nothing else");
            return refuse(format!("the component imports `{import}`, which Weir does not give: {hint}"));
        }
    }
    let roles = ["event-filter", "mapper", "entity-filter", "renderer"].map(|role| format!("weir:plugin/{role}@0.1.0"));
    match world.exports.keys().map(|key| resolve.name_world_key(key)).any(|export| roles.contains(&export)) {
        true => Ok(()),
        false => refuse(format!("the component exports none of {}, so that there is nothing to call", roles.join(", "))),
    }
}

/// How to do without an import, for those that compilers and common dependencies bring along.
fn foreign_import(import: &str) -> Option<&'static str> {
    if import.contains("wasi:") || import.contains("wasi_snapshot") {
        Some(
            "build for wasm32-unknown-unknown, not wasm32-wasip2 or wasip1, and without what needs files, clocks, randomness or standard output",
        )
    } else if import.contains("__wbindgen") || import.contains("wbg") {
        Some("a dependency expects a browser; switch off its feature for JavaScript (often called js, wasm_js or wasm-bindgen)")
    } else {
        None
    }
}

/// Writes a component in one step, if it is not there yet. The caller holds the plugin's lock.
fn place(path: &Path, component: &[u8], say: &mut dyn FnMut(&str)) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|there| there == component) {
        return Ok(());
    }
    say(&format!("writing {}", path.display()));
    let part = path.with_extension("wasm.part");
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = File::create(&part)?;
        file.write_all(component)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|error| io_error("writing", path, error))
}

/// A compiler for WebAssembly and what it needs to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ToolChain {
    /// The compiler that `rustc` names, which has the target's standard library.
    Ready { version: String },
    /// Debian's compiler; the standard library is built from its source, along with the plugin.
    Debian { version: String },
}

impl ToolChain {
    fn find(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let forced = env::var(ENVIRONMENT).ok().filter(|name| !name.is_empty());
        let tries: &[Attempt] = match forced.as_deref() {
            None => &[Self::ready, Self::with_rustup, Self::debian, Self::with_apt],
            Some("rustup") => &[Self::ready, Self::with_rustup],
            Some("debian") => &[Self::debian, Self::with_apt],
            Some(other) => return Err(Error::NoToolChain(format!("{ENVIRONMENT} is `{other}`, and can be `rustup` or `debian`"))),
        };
        let mut failed = None;
        for attempt in tries {
            match attempt(folder, say) {
                Ok(Some(tools)) => return Ok(tools),
                Ok(None) => {}
                Err(why) => failed = Some(why),
            }
        }
        let why = failed.map(|why| format!(" ({why})")).unwrap_or_default();
        Err(Error::NoToolChain(format!(
            "nothing here compiles Rust for {TARGET}{why}; install rustup and run `rustup target add {TARGET}`, \
             or on Debian, as root, run `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        )))
    }

    /// The target's library lies in the compiler's folder, whoever put it there.
    fn ready(folder: &Path, _: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        let Some(sysroot) = answer(Command::new("rustc").args(["--print", "sysroot"]).current_dir(folder)) else { return Ok(None) };
        if !Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Ok(None);
        }
        let version = answer(Command::new("rustc").arg("--version").current_dir(folder));
        Ok(version.filter(|version| is_recent(version)).map(|version| ToolChain::Ready { version }))
    }

    fn with_rustup(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        if answer(Command::new("rustup").arg("--version").current_dir(folder)).is_none() {
            return Ok(None);
        }
        say(&format!("adding the target with `rustup target add {TARGET}`, once (20 MB)"));
        perform(Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder))?;
        Self::ready(folder, say)
    }

    fn debian(_: &Path, _: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        let Some(sysroot) = answer(Command::new("/usr/bin/rustc").args(["--print", "sysroot"])) else { return Ok(None) };
        let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml");
        let there = source.is_file() && Path::new("/usr/bin/cargo").is_file() && answer(Command::new("wasm-ld").arg("--version")).is_some();
        let version = answer(Command::new("/usr/bin/rustc").arg("--version"));
        Ok(version.filter(|version| there && is_recent(version)).map(|version| ToolChain::Debian { version }))
    }

    fn with_apt(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        if !Path::new("/usr/bin/apt-get").is_file() || !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let known = || answer(Command::new("apt-cache").arg("show").args(DEBIAN_PACKAGES)).is_some();
        if !known() {
            say("refreshing the lists of packages with `apt-get update`");
            perform(Command::new("apt-get").args(["update", "-q"]))?;
            if !known() {
                return Err(format!("this distribution does not have all of {}", DEBIAN_PACKAGES.join(", ")));
            }
        }
        say(&format!("installing {} with apt-get, once (150 MB)", DEBIAN_PACKAGES.join(", ")));
        let install = ["install", "-q", "-y", "--no-install-recommends"];
        perform(Command::new("apt-get").args(install).args(DEBIAN_PACKAGES).env("DEBIAN_FRONTEND", "noninteractive"))?;
        Self::debian(folder, say)
    }

    /// Cargo, without what a build around this one has put into the environment for itself.
    fn cargo(&self, folder: &Path) -> Command {
        let mut cargo = Command::new(match self {
            ToolChain::Ready { .. } => "cargo",
            ToolChain::Debian { .. } => "/usr/bin/cargo",
        });
        cargo.current_dir(folder).stdin(Stdio::null());
        for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_another_build(name)) {
            cargo.env_remove(name);
        }
        if let ToolChain::Debian { .. } = self {
            // The packaged compiler is a stable one, and building the standard library is not a stable feature.
            cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
        }
        cargo
    }

    /// Compiles, and gives the path of the core module.
    fn compile(&self, package: &Package, folder: &Path, manifest: &Path) -> Result<PathBuf, Error> {
        let mut cargo = self.cargo(folder);
        cargo.args(["build", "--release", "--lib", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
        cargo.arg("--manifest-path").arg(manifest).env("CARGO_TARGET_DIR", &package.target_directory);
        // The workspace's own release profile is for Weir; a plugin is to be small, quick, and the same from everywhere.
        for (setting, value) in [
            ("OPT_LEVEL", "3"),
            ("LTO", "fat"),
            ("CODEGEN_UNITS", "1"),
            ("PANIC", "abort"),
            ("STRIP", "symbols"),
            ("DEBUG", "false"),
            ("INCREMENTAL", "false"),
        ] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        if let ToolChain::Debian { .. } = self {
            cargo.args(["-Z", "build-std=std,panic_abort"]);
        }
        tracing::debug!(?cargo, "compiling a plugin");
        let run = |error| Error::Io { what: "running cargo".into(), source: error };
        let mut child = cargo.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(run)?;
        let mut module = None;
        for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
            module = artifact(&line.map_err(run)?, manifest).or(module);
        }
        if !child.wait().map_err(run)?.success() {
            return Err(Error::Refused { package: package.name.clone() });
        }
        module.ok_or_else(|| Error::NotSource { folder: folder.into(), reason: "cargo built it and made no WebAssembly of it".into() })
    }

    fn announcement(&self, package: &Package) -> String {
        let first = !package.target_directory.join(TARGET).exists();
        let library = match self {
            ToolChain::Debian { .. } if first => " and, this once, the standard library (some minutes)",
            _ => "",
        };
        format!("compiling {}{library} with {self}", package.name)
    }

    /// The name of this tool chain's own part of the target directory: two compilers do not share one.
    fn name(&self) -> &'static str {
        match self {
            ToolChain::Ready { .. } => "rustup",
            ToolChain::Debian { .. } => "debian",
        }
    }
}

impl Display for ToolChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToolChain::Ready { version } => f.write_str(version),
            ToolChain::Debian { version } => write!(f, "{version}, Debian's"),
        }
    }
}

/// One way to come by a tool chain: none if it does not apply here, an error if it applies and fails.
type Attempt = fn(&Path, &mut dyn FnMut(&str)) -> Result<Option<ToolChain>, String>;

/// What Cargo knows of a plugin.
#[derive(Debug)]
struct Package {
    name: String,
    /// The library's name, and so the component's.
    library: String,
    /// Where it is compiled: a folder of its own, so that nothing waits for the build that is around this one.
    target_directory: PathBuf,
}

impl Package {
    fn read(tools: &ToolChain, folder: &Path, manifest: &Path) -> Result<Self, Error> {
        let mut cargo = tools.cargo(folder);
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let run = |error| Error::Io { what: "running cargo metadata".into(), source: error };
        if let Some(given) = env::var_os("CARGO_TARGET_DIR") {
            cargo.env("CARGO_TARGET_DIR", path::absolute(given).map_err(run)?);
        }
        let output = cargo.output().map_err(run)?;
        let lacks = |reason: String| Error::NotSource { folder: folder.into(), reason };
        if !output.status.success() {
            return Err(lacks(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).map_err(|error| lacks(format!("cargo metadata makes no sense: {error}")))?;
        let package = metadata.packages.into_iter().find(|package| package.manifest_path == manifest);
        let package = package.ok_or_else(|| lacks("its Cargo.toml is of a workspace and not of a crate".into()))?;
        let library = package.targets.into_iter().find(|target| target.kind.iter().any(|kind| kind == "cdylib"));
        let library = library.ok_or_else(|| lacks("its Cargo.toml has no library of crate-type \"cdylib\"".into()))?;
        Ok(Package {
            name: package.name,
            library: library.name.replace('-', "_"),
            target_directory: metadata.target_directory.join("guests").join(tools.name()),
        })
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageMetadata>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct PackageMetadata {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<TargetMetadata>,
}

#[derive(Deserialize)]
struct TargetMetadata {
    name: String,
    kind: Vec<String>,
}

/// The path of the plugin's core module, if this line of Cargo's messages tells it.
fn artifact(line: &str, manifest: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        manifest_path: PathBuf,
        filenames: Vec<PathBuf>,
    }
    // Build scripts may print what they like between the messages.
    let artifact: Artifact = serde_json::from_str(line).ok()?;
    if artifact.reason != "compiler-artifact" || artifact.manifest_path != manifest {
        return None;
    }
    artifact.filenames.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}

/// Whether a variable speaks to Cargo or the compiler about a certain build: flags, wrappers, profiles, target folders. What
/// speaks about the machine stays: where Cargo lives, how it reaches its registries, how it talks.
fn belongs_to_another_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let of_the_machine = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_TERM_"];
    let spoken_to_tools = ["CARGO_", "RUSTC", "RUSTDOC", "RUSTFLAGS"];
    spoken_to_tools.iter().any(|prefix| name.starts_with(prefix)) && !of_the_machine.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a compiler such as `rustc 1.85.0 (4d91de4e4 2025-02-17)` can compile plugins.
fn is_recent(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(1), Some(RUSTC_MINOR_MIN))
}

/// What a program prints, trimmed; none if there is no such program or it fails.
fn answer(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a program to its end; an error is the last thing that it said.
fn perform(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("failed without a word").trim()))
}

fn io_error(what: &str, path: &Path, source: io::Error) -> Error {
    Error::Io { what: format!("{what} {}", path.display()), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use wit_parser::{ManglingAndAbi, Resolve, WorldId};

    use super::*;

    const WIT: &str = include_str!("../../../wit/plugin.wit");

    #[test]
    fn a_module_that_carries_its_type_becomes_a_component() {
        for world in ["event-filter-plugin", "mapper-plugin", "source-plugin", "entity-filter-plugin", "renderer-plugin", "channel-plugin"]
        {
            let (resolve, id) = interface(WIT, world);
            let mut module = wit_component::dummy_module(&resolve, id, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
            wit_component::embed_component_metadata(&mut module, &resolve, id, wit_component::StringEncoding::UTF8).expect("metadata");
            let component = componentize(&module).expect(world);
            check(&component).expect(world);
            assert!(matches!(componentize(&component), Ok(Cow::Borrowed(same)) if same == &*component), "{world}");
        }
    }

    /// A build for wasm32-wasip2 gives a component at once, which looks better than what Weir asks for, and cannot run.
    #[test]
    fn what_asks_for_more_than_a_plugin_is_given_is_told_how_to_do_without() {
        for (component, said) in [
            (r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#, ["`wasi:cli/environment@0.2.3`", "not wasm32-wasip2"]),
            (
                r#"(component (import "weir:plugin/log@0.2.0" (instance)))"#,
                ["`weir:plugin/log@0.2.0`", "`weir:plugin/log@0.1.0` and nothing else"],
            ),
            (r#"(component (import "fetch" (func)))"#, ["`fetch`", "nothing else"]),
            ("(component)", ["exports none of", "weir:plugin/renderer@0.1.0"]),
        ] {
            let error = check(&wat::parse_str(component).expect(component)).expect_err(component).to_string();
            assert!(said.iter().all(|part| error.contains(part)), "{component}: {error}");
        }
    }

    #[test]
    fn a_module_that_cannot_become_a_component_is_refused_with_the_reason() {
        let (resolve, id) = interface(WIT, "mapper-plugin");
        let mut browser = wat::parse_str(r#"(module (import "__wbindgen_placeholder__" "now" (func)))"#).expect("a module");
        wit_component::embed_component_metadata(&mut browser, &resolve, id, wit_component::StringEncoding::UTF8).expect("metadata");
        let untyped = wat::parse_str("(module)").expect("a module");
        for (bytes, said) in [(&browser[..], "expects a browser"), (&untyped, "does not say which interface"), (b"\x7fELF", "neither")] {
            let error = componentize(bytes).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_no_plugin_is_refused_by_whoever_has_to_act() {
        let folder = tempfile::tempdir().expect("a folder");
        let build = || build(folder.path(), &mut |_| {});
        assert!(matches!(build(), Err(Error::NotSource { reason, .. }) if reason.contains("Cargo.toml")));
        let manifest = "[package]\nname = \"does-not-compile\"\nedition = \"2021\"\n[workspace]\n";
        fs::create_dir(folder.path().join("src")).expect("a folder");
        fs::write(folder.path().join("src/lib.rs"), "pub fn nothing() {}").expect("a file");
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("a file");
        assert!(matches!(build(), Err(Error::NotSource { reason, .. }) if reason.contains("cdylib")));
        fs::write(folder.path().join("Cargo.toml"), format!("{manifest}[lib]\ncrate-type = [\"cdylib\"]\n")).expect("a file");
        assert!(matches!(build(), Err(Error::NotPlugin(why)) if why.contains("which interface")));
        fs::write(folder.path().join("src/lib.rs"), "pub fn nothing() -> u8 {}").expect("a file");
        assert!(matches!(build(), Err(Error::Refused { package }) if package == "does-not-compile"));
        assert!(!folder.path().join("dist").exists());
    }

    #[test]
    fn a_component_that_is_there_already_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dist/lamp.wasm");
        let mut steps = 0;
        let mut inodes = Vec::new();
        for bytes in [b"old", b"old", b"new"] {
            place(&path, bytes, &mut |_| steps += 1).expect("a file");
            inodes.push(fs::metadata(&path).expect("a file").ino());
        }
        assert_eq!((steps, fs::read(&path).expect("a file")), (2, b"new".to_vec()));
        assert_eq!(inodes[0], inodes[1]);
        assert_eq!(fs::read_dir(folder.path().join("dist")).expect("a folder").count(), 1, "something was left behind");
    }

    /// `cargo test` runs Weir, which runs Cargo: flags for the outer build made the inner one compile everything twice, or
    /// fail with flags that WebAssembly does not have.
    #[test]
    fn the_build_around_does_not_reach_the_build_within() {
        let removed =
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "RUSTDOCFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"];
        let removed =
            removed.into_iter().chain(["CARGO_PROFILE_RELEASE_LTO", "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", "CARGO_MANIFEST_DIR"]);
        let kept =
            ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUST_BACKTRACE"];
        for name in removed {
            assert!(belongs_to_another_build(name.as_ref()), "{name}");
        }
        for name in kept {
            assert!(!belongs_to_another_build(name.as_ref()), "{name}");
        }
    }

    #[test]
    fn the_plugins_module_is_told_from_those_of_its_dependencies() {
        let manifest = Path::new("/src/plugin/Cargo.toml");
        let line = |reason: &str, manifest: &str, file: &str| {
            format!(
                r#"{{"reason":"{reason}","manifest_path":"{manifest}","target":{{"kind":["cdylib"]}},"filenames":["/t/libx.rlib","{file}"]}}"#
            )
        };
        let plugin = "/src/plugin/Cargo.toml";
        assert_eq!(artifact(&line("compiler-artifact", plugin, "/t/x.wasm"), manifest), Some("/t/x.wasm".into()));
        for other in [
            line("compiler-artifact", "/src/serde/Cargo.toml", "/t/y.wasm"),
            line("compiler-artifact", plugin, "/t/x.rmeta"),
            line("compiler-message", plugin, "/t/x.wasm"),
            r#"{"reason":"build-finished","success":true}"#.into(),
            "a build script's word".into(),
        ] {
            assert_eq!(artifact(&other, manifest), None, "{other}");
        }
    }

    #[test]
    fn a_compiler_from_before_the_bindings_is_passed_over() {
        for (version, recent) in [
            ("rustc 1.63.0", false),
            ("rustc 1.84.1 (e71f9a9a9 2025-01-27)", false),
            ("rustc 1.85.0 (4d91de4e4 2025-02-17) (built from a source tarball)", true),
            ("rustc 1.97.0-nightly (0000000 2026-11-20)", true),
            ("rustc 2.0.0", true),
            ("", false),
        ] {
            assert_eq!(is_recent(version), recent, "{version}");
        }
    }

    fn interface(wit: &str, world: &str) -> (Resolve, WorldId) {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", wit).expect("the interface");
        let world = resolve.select_world(&[package], Some(world)).expect("a world");
        (resolve, world)
    }
}
