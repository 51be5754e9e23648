//! Plugins in Rust: compiles a crate with a `cdylib` to a core module, which then becomes a
//! component.
//!
//! The environment variable `WEIR_TOOLCHAIN` selects the compiler: `rustup` (the `rustc` in the
//! path, with the target added through rustup if necessary) or `debian` (the distribution's
//! packages). Without the variable, the first one that works is used.

use std::env;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{Compiled, Error, componentize, io_error, lock, output_of, perform};

const TARGET: &str = "wasm32-unknown-unknown";
/// The oldest minor version of Rust for edition 2021 and the guest bindings; Debian packages it for
/// building browsers.
const RUSTC_MINOR_MIN: u32 = 85;
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const ENVIRONMENT: &str = "WEIR_TOOLCHAIN";

/// Compiles the crate in `folder`.
pub(super) fn compile(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Compiled, Error> {
    let manifest = folder.join("Cargo.toml");
    let tools = ToolChain::find(folder, say)?;
    let package = Package::read(&tools, folder, &manifest)?;
    let lock = lock(
        &package
            .target_directory
            .join(format!("{}.lock", package.library)),
    )?;
    say(&tools.announcement(&package));
    let module = tools.compile(&package, folder, &manifest)?;
    let module = fs::read(&module).map_err(|error| io_error("reading", &module, error))?;
    let component = componentize(&module)?.into_owned();
    Ok(Compiled {
        component,
        name: package.library,
        tool_chain: tools.to_string(),
        lock,
    })
}

/// A compiler for WebAssembly, by how it has to be invoked.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ToolChain {
    /// The `rustc` in the path, with the target's standard library.
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
            Some(other) => {
                return Err(Error::NoToolChain(format!(
                    "{ENVIRONMENT} is `{other}`, but must be `rustup` or `debian`"
                )));
            }
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
            "no tool chain on this machine compiles Rust for {TARGET}{why}; install rustup and run `rustup target add {TARGET}`, \
             or on Debian, as root, run `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        )))
    }

    /// The `rustc` in the path, if the target's standard library is in its folder.
    fn ready(folder: &Path, _: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        let Some(sysroot) = output_of(
            Command::new("rustc")
                .args(["--print", "sysroot"])
                .current_dir(folder),
        ) else {
            return Ok(None);
        };
        if !Path::new(&sysroot)
            .join("lib/rustlib")
            .join(TARGET)
            .join("lib")
            .is_dir()
        {
            return Ok(None);
        }
        let version = output_of(Command::new("rustc").arg("--version").current_dir(folder));
        Ok(version
            .filter(|version| is_recent(version))
            .map(|version| ToolChain::Ready { version }))
    }

    fn with_rustup(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        if output_of(Command::new("rustup").arg("--version").current_dir(folder)).is_none() {
            return Ok(None);
        }
        say(&format!(
            "adding the target with `rustup target add {TARGET}`, once (20 MB)"
        ));
        perform(
            Command::new("rustup")
                .args(["target", "add", TARGET])
                .current_dir(folder),
        )?;
        Self::ready(folder, say)
    }

    fn debian(_: &Path, _: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        let Some(sysroot) = output_of(Command::new("/usr/bin/rustc").args(["--print", "sysroot"]))
        else {
            return Ok(None);
        };
        let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml");
        let there = source.is_file()
            && Path::new("/usr/bin/cargo").is_file()
            && output_of(Command::new("wasm-ld").arg("--version")).is_some();
        let version = output_of(Command::new("/usr/bin/rustc").arg("--version"));
        Ok(version
            .filter(|version| there && is_recent(version))
            .map(|version| ToolChain::Debian { version }))
    }

    fn with_apt(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Option<Self>, String> {
        if !Path::new("/usr/bin/apt-get").is_file() || !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let known =
            || output_of(Command::new("apt-cache").arg("show").args(DEBIAN_PACKAGES)).is_some();
        if !known() {
            say("refreshing the package lists with `apt-get update`");
            perform(Command::new("apt-get").args(["update", "-q"]))?;
            if !known() {
                return Err(format!(
                    "this distribution does not have all of {}",
                    DEBIAN_PACKAGES.join(", ")
                ));
            }
        }
        say(&format!(
            "installing {} with apt-get, once (150 MB)",
            DEBIAN_PACKAGES.join(", ")
        ));
        let install = ["install", "-q", "-y", "--no-install-recommends"];
        perform(
            Command::new("apt-get")
                .args(install)
                .args(DEBIAN_PACKAGES)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )?;
        Self::debian(folder, say)
    }

    /// Cargo, without the environment variables of an outer build.
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
            // The packaged compiler is a stable one, and building the standard library is an
            // unstable feature.
            cargo
                .env("RUSTC", "/usr/bin/rustc")
                .env("RUSTC_BOOTSTRAP", "1");
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
        }
        cargo
    }

    /// Compiles the plugin; returns the path of the core module.
    fn compile(&self, package: &Package, folder: &Path, manifest: &Path) -> Result<PathBuf, Error> {
        let mut cargo = self.cargo(folder);
        cargo.args([
            "build",
            "--release",
            "--lib",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ]);
        cargo
            .arg("--manifest-path")
            .arg(manifest)
            .env("CARGO_TARGET_DIR", &package.target_directory);
        // The workspace's release profile is for Weir; a plugin should be small, fast, and the same
        // wherever it is built.
        for (setting, value) in [
            ("OPT_LEVEL", "3"),
            ("LTO", "fat"),
            ("CODEGEN_UNITS", "1"),
            ("PANIC", "abort"),
            ("STRIP", "symbols"),
            ("DEBUG", "false"),
            ("INCREMENTAL", "false"),
            // Without it `3 - 5` of unsigned numbers is 4,294,967,294 pieces in stock. The trap costs
            // one item and names the line.
            ("OVERFLOW_CHECKS", "true"),
        ] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        if let ToolChain::Debian { .. } = self {
            cargo.args(["-Z", "build-std=std,panic_abort"]);
        }
        tracing::debug!(program = %cargo.get_program().display(), "compiling a plugin");
        let run = |error| Error::Io {
            what: "running cargo".into(),
            source: error,
        };
        let mut child = cargo
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(run)?;
        let mut module = None;
        for line in child
            .stdout
            .take()
            .into_iter()
            .flat_map(|stdout| BufReader::new(stdout).lines())
        {
            module = artifact(&line.map_err(run)?, manifest).or(module);
        }
        if !child.wait().map_err(run)?.success() {
            return Err(Error::Refused {
                package: package.name.clone(),
            });
        }
        module.ok_or_else(|| Error::NotSource {
            folder: folder.into(),
            reason: "cargo built it but produced no WebAssembly".into(),
        })
    }

    fn announcement(&self, package: &Package) -> String {
        let first = !package.target_directory.join(TARGET).exists();
        let library = match self {
            ToolChain::Debian { .. } if first => {
                " and, this time only, the standard library (a few minutes)"
            }
            _ => "",
        };
        format!("compiling {}{library} with {self}", package.name)
    }

    /// The name of this tool chain's target subdirectory, which two compilers must not share.
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

/// One way to find a tool chain: `None` if it does not apply here, an error if it applies and
/// fails.
type Attempt = fn(&Path, &mut dyn FnMut(&str)) -> Result<Option<ToolChain>, String>;

/// Cargo's metadata of a plugin.
#[derive(Debug)]
struct Package {
    name: String,
    /// The name of the library, and of the component.
    library: String,
    /// A separate target directory, so that this build does not wait for an outer one.
    target_directory: PathBuf,
}

impl Package {
    fn read(tools: &ToolChain, folder: &Path, manifest: &Path) -> Result<Self, Error> {
        let mut cargo = tools.cargo(folder);
        cargo
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(manifest);
        let run = |error| Error::Io {
            what: "running cargo metadata".into(),
            source: error,
        };
        if let Some(given) = env::var_os("CARGO_TARGET_DIR") {
            cargo.env("CARGO_TARGET_DIR", path::absolute(given).map_err(run)?);
        }
        let output = cargo.output().map_err(run)?;
        let lacks = |reason: String| Error::NotSource {
            folder: folder.into(),
            reason,
        };
        if !output.status.success() {
            return Err(lacks(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ));
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|error| {
            lacks(format!(
                "the output of cargo metadata cannot be read: {error}"
            ))
        })?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path == manifest);
        let package = package
            .ok_or_else(|| lacks("its Cargo.toml describes a workspace, not a crate".into()))?;
        let library = package
            .targets
            .into_iter()
            .find(|target| target.kind.iter().any(|kind| kind == "cdylib"));
        let library = library.ok_or_else(|| {
            lacks("its Cargo.toml has no library of crate-type \"cdylib\"".into())
        })?;
        // Plugins outside a workspace share their compiled dependencies: the first one takes a
        // minute, the next ones take seconds. A lock makes two of the same name take turns.
        let alone = metadata.target_directory == folder.join("target");
        let target = if alone {
            super::tools::root()?.join("rust")
        } else {
            metadata.target_directory.join("guests")
        };
        Ok(Package {
            name: package.name,
            library: library.name.replace('-', "_"),
            target_directory: target.join(tools.name()),
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

/// The path of the plugin's core module, if this line of Cargo's messages contains it.
fn artifact(line: &str, manifest: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Artifact {
        reason: String,
        manifest_path: PathBuf,
        filenames: Vec<PathBuf>,
    }
    // Build scripts may print anything between the messages.
    let artifact: Artifact = serde_json::from_str(line).ok()?;
    if artifact.reason != "compiler-artifact" || artifact.manifest_path != manifest {
        return None;
    }
    artifact.filenames.into_iter().find(|path| {
        path.extension()
            .is_some_and(|extension| extension == "wasm")
    })
}

/// Whether an environment variable configures a particular build: flags, wrappers, profiles, target
/// folders. Variables that configure the machine are kept: Cargo's home, its registries, its
/// output.
fn belongs_to_another_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let of_the_machine = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_TERM_",
    ];
    let spoken_to_tools = ["CARGO_", "RUSTC", "RUSTDOC", "RUSTFLAGS"];
    spoken_to_tools
        .iter()
        .any(|prefix| name.starts_with(prefix))
        && !of_the_machine.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a compiler such as `rustc 1.85.0 (4d91de4e4 2025-02-17)` can compile plugins.
fn is_recent(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next(), parts.next()) >= (Some(1), Some(RUSTC_MINOR_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo test` runs Weir, which runs Cargo: flags of the outer build made the inner one
    /// compile everything twice, or fail with flags that WebAssembly does not support.
    #[test]
    fn the_build_around_does_not_reach_the_build_within() {
        let removed = [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC",
            "RUSTC_WRAPPER",
            "RUSTDOCFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
        ];
        let removed = removed.into_iter().chain([
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
            "CARGO_MANIFEST_DIR",
        ]);
        let kept = [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "RUST_BACKTRACE",
        ];
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
        assert_eq!(
            artifact(&line("compiler-artifact", plugin, "/t/x.wasm"), manifest),
            Some("/t/x.wasm".into())
        );
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
            (
                "rustc 1.85.0 (4d91de4e4 2025-02-17) (built from a source tarball)",
                true,
            ),
            ("rustc 1.97.0-nightly (0000000 2026-11-20)", true),
            ("rustc 2.0.0", true),
            ("", false),
        ] {
            assert_eq!(is_recent(version), recent, "{version}");
        }
    }
}
