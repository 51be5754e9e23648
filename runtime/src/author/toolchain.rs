//! Builds a component from a folder of source.
//!
//! [`build`] recognises the language by the folder's files; finds a compiler for WebAssembly or
//! announces and fetches one; compiles the plugin independently of any build around it; and rejects
//! a component that Weir could not run, with a sentence that says how to build it instead. The
//! component is put into `dist` whole or not at all, and only if it differs from the one there. The
//! compiler's output goes to standard error unchanged. Each language has a file: [`rust`],
//! [`typescript`], [`python`]; the last two keep their tools in [`tools`].

mod python;
mod rust;
mod source;
mod tools;
mod typescript;

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wit_component::{ComponentEncoder, DecodedWasm};

use crate::author::cases::{self, Embedded};
use crate::plugin::{Binary, FILE_BYTES_MAX};

/// The text of the interface, for plugins without a copy of it and for new ones.
pub(crate) const WIT: &str = include_str!("../../../wit/plugin.wit");

/// A plugin that has been built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The component's file.
    pub component: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, 64 hex digits.
    pub sha256: String,
    /// The tool chain that built it, as it names itself.
    pub tool_chain: String,
    /// The cases that it carries.
    pub cases: Embedded,
}

/// The reason why there is no component. The variants differ in who has to act.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller has to act: the folder is not the source of a plugin.
    #[error("{folder} is not the source of a plugin: {reason}")]
    NotSource {
        /// The folder as given.
        folder: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The administrator has to act: no compiler for WebAssembly is installed.
    #[error("{0}")]
    NoToolChain(String),
    /// The author has to act: the compiler rejects the source, and has printed why on standard
    /// error.
    #[error("{package} does not compile; the compiler's messages are above")]
    Refused {
        /// The plugin.
        package: String,
    },
    /// The author has to act: the source compiles, but not to a component that Weir can run.
    #[error("{0}")]
    NotPlugin(String),
    /// A file or a program could not be used.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// A component that is built and not yet written to its file. It holds the plugin's lock until it
/// is placed or dropped, so that no other process, perhaps with newer source, builds into the same
/// file meanwhile.
#[derive(Debug)]
pub struct Made {
    /// The component, its cases inside.
    pub component: Binary,
    /// Its file: `<folder>/dist/<name>.wasm`.
    pub path: PathBuf,
    /// The tool chain that built it, as it names itself.
    pub tool_chain: String,
    /// The cases that it carries.
    pub cases: Embedded,
    _lock: File,
}

impl Made {
    /// Writes the component to its file in one step, unless the file already has the same content.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn place(self, say: &mut dyn FnMut(&str)) -> Result<Built, Error> {
        place(&self.path, self.component.bytes(), say)?;
        Ok(Built {
            bytes: self.component.bytes().len() as u64,
            sha256: self.component.sha256().to_owned(),
            component: self.path,
            tool_chain: self.tool_chain,
            cases: self.cases,
        })
    }
}

/// Builds the plugin in `folder` into `<folder>/dist/<name>.wasm`. `say` receives a line before
/// each step. Any number of processes may build the same plugin at once.
///
/// # Errors
/// The variants say who has to act.
pub fn build(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Built, Error> {
    make(folder, say)?.place(say)
}

/// Builds the plugin in `folder` as [`build`] does, but does not write to `dist`.
///
/// # Errors
/// As [`build`].
pub fn make(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Made, Error> {
    let no_source = |reason: &str| Error::NotSource {
        folder: folder.into(),
        reason: reason.into(),
    };
    let folder = folder
        .canonicalize()
        .map_err(|_| no_source("the folder does not exist"))?;
    let compile = LANGUAGES
        .iter()
        .find(|(sign, _)| folder.join(sign).is_file());
    let (_, compile) =
        compile.ok_or_else(|| no_source("it has no Cargo.toml, plugin.ts or plugin.py"))?;
    let Compiled {
        component,
        name,
        tool_chain,
        lock,
    } = compile(&folder, say)?;
    check(&component)?;
    let (component, cases) = with_cases(&folder, &component)?;
    let path = component_of(&folder, &name);
    Ok(Made {
        component: Binary::new(component),
        path,
        tool_chain,
        cases,
        _lock: lock,
    })
}

/// The file that identifies a language, and the compiler of that language.
const LANGUAGES: [(&str, Compile); 3] = [
    ("Cargo.toml", rust::compile),
    ("plugin.ts", typescript::compile),
    ("plugin.py", python::compile),
];

type Compile = fn(&Path, &mut dyn FnMut(&str)) -> Result<Compiled, Error>;

/// The component that a language's compiler built from a folder.
struct Compiled {
    /// A component, unchecked, perhaps with cases of an earlier build.
    component: Vec<u8>,
    /// The component's name: letters, digits and underscores.
    name: String,
    /// The tool chain that compiled it, as it names itself.
    tool_chain: String,
    /// Held until the component is placed.
    lock: File,
}

/// The path of a plugin's component.
fn component_of(folder: &Path, name: &str) -> PathBuf {
    folder.join("dist").join(format!("{name}.wasm"))
}

/// Locks this file, after waiting for any other process that holds the lock.
fn lock(path: &Path) -> Result<File, Error> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(|error| io_error("creating the folder of", path, error))?;
    File::create(path)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| io_error("locking", path, error))
}

/// Embeds the cases of the folder into the component, so that they travel with it.
fn with_cases(folder: &Path, component: &[u8]) -> Result<(Vec<u8>, Embedded), Error> {
    let cases = cases::read(&folder.join("cases"));
    cases
        .and_then(|cases| cases::embed(component, &cases))
        .map_err(|error| Error::NotPlugin(error.to_string()))
}

/// The folder for compiled code of components; `None` if there is no suitable folder.
pub(super) fn compiled() -> Option<PathBuf> {
    tools::root().ok().map(|root| root.join("compiled"))
}

/// Converts a core module that carries its WIT type into a component; returns a component
/// unchanged.
pub fn componentize(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    // The magic number and a 16-bit version are followed by the layer: 0 is a module, 1 a
    // component.
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Cow::Borrowed(bytes)),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => {
            if wit_component::metadata::decode(bytes)
                .map_err(no_component)?
                .0
                .is_none()
            {
                return Err(Error::NotPlugin(
                    "the module does not say which interface it implements: does its source generate bindings (wit_bindgen::generate!) \
                     and export them (export!), for Wasm and in the library?"
                        .into(),
                ));
            }
            let mut encoder = ComponentEncoder::default()
                .validate(true)
                .module(bytes)
                .map_err(no_component)?;
            encoder.encode().map(Cow::Owned).map_err(no_component)
        }
        _ => Err(Error::NotPlugin(
            "the file is neither a WebAssembly component nor a module".into(),
        )),
    }
}

fn no_component(error: impl Display) -> Error {
    let text = format!("{error:#}");
    let hint = foreign_import(&text)
        .map(|hint| format!("; {hint}"))
        .unwrap_or_default();
    Error::NotPlugin(format!(
        "the module cannot be made into a component: {text}{hint}"
    ))
}

/// Rejects a component that imports more than Weir offers or exports no role.
fn check(component: &[u8]) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::NotPlugin(why));
    if component.len() > FILE_BYTES_MAX {
        let (bytes, most) = (component.len(), FILE_BYTES_MAX);
        return refuse(format!(
            "the component has {bytes} bytes; Weir takes at most {most}: leave out data and libraries that are not needed"
        ));
    }
    let (resolve, world) = match wit_component::decode(component) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => {
            return refuse("the component holds an interface and no code".into());
        }
        Err(error) => return refuse(format!("the component cannot be read: {error:#}")),
    };
    let world = &resolve.worlds[world];
    for import in world.imports.keys().map(|key| resolve.name_world_key(key)) {
        if !matches!(
            import.as_str(),
            "weir:plugin/log@0.1.0" | "weir:plugin/types@0.1.0"
        ) {
            let hint = foreign_import(&import)
                .unwrap_or("a plugin can import `weir:plugin/log@0.1.0` and nothing else");
            return refuse(format!(
                "the component imports `{import}`, which Weir does not provide: {hint}"
            ));
        }
    }
    let roles = ["event-filter", "mapper", "entity-filter", "renderer"]
        .map(|role| format!("weir:plugin/{role}@0.1.0"));
    match world
        .exports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .any(|export| roles.contains(&export))
    {
        true => Ok(()),
        false => refuse(format!(
            "the component exports none of {}, so there is nothing to call",
            roles.join(", ")
        )),
    }
}

/// Advice on an import that compilers or common dependencies add.
fn foreign_import(import: &str) -> Option<&'static str> {
    if import.contains("wasi:") || import.contains("wasi_snapshot") {
        Some(
            "build for wasm32-unknown-unknown, not wasm32-wasip2 or wasip1, and without code that needs files, clocks, randomness or standard \
             output; with componentize-qjs and componentize-py pass --stub-wasi",
        )
    } else if import.contains("__wbindgen") || import.contains("wbg") {
        Some(
            "a dependency expects a browser; switch off its feature for JavaScript (often called js, wasm_js or wasm-bindgen)",
        )
    } else {
        None
    }
}

/// Writes a component in one step, unless the file already has the same content. The caller holds
/// the plugin's lock.
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

/// The trimmed output of a program; `None` if the program does not exist or fails.
fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a program to its end. The error is the last line that it printed.
fn perform(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{program}: {}",
        said.lines()
            .rfind(|line| !line.trim().is_empty())
            .unwrap_or("it failed and printed nothing")
            .trim()
    ))
}

fn io_error(what: &str, path: &Path, source: io::Error) -> Error {
    Error::Io {
        what: format!("{what} {}", path.display()),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use wit_parser::{ManglingAndAbi, Resolve, WorldId};

    use super::*;

    #[test]
    fn a_module_that_carries_its_type_becomes_a_component() {
        for world in [
            "event-filter-plugin",
            "mapper-plugin",
            "source-plugin",
            "entity-filter-plugin",
            "renderer-plugin",
            "channel-plugin",
        ] {
            let (resolve, id) = interface(WIT, world);
            let mut module = wit_component::dummy_module(
                &resolve,
                id,
                ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync),
            );
            wit_component::embed_component_metadata(
                &mut module,
                &resolve,
                id,
                wit_component::StringEncoding::UTF8,
            )
            .expect("metadata");
            let component = componentize(&module).expect(world);
            check(&component).expect(world);
            assert!(
                matches!(componentize(&component), Ok(Cow::Borrowed(same)) if same == &*component),
                "{world}"
            );
        }
    }

    /// A build for wasm32-wasip2 yields a component directly, which looks simpler than the build
    /// that Weir asks for, but cannot run in Weir.
    #[test]
    fn what_asks_for_more_than_a_plugin_is_given_is_told_how_to_do_without() {
        for (component, said) in [
            (
                r#"(component (import "wasi:cli/environment@0.2.3" (instance)))"#,
                ["`wasi:cli/environment@0.2.3`", "not wasm32-wasip2"],
            ),
            (
                r#"(component (import "weir:plugin/log@0.2.0" (instance)))"#,
                [
                    "`weir:plugin/log@0.2.0`",
                    "`weir:plugin/log@0.1.0` and nothing else",
                ],
            ),
            (
                r#"(component (import "fetch" (func)))"#,
                ["`fetch`", "nothing else"],
            ),
            (
                "(component)",
                ["exports none of", "weir:plugin/renderer@0.1.0"],
            ),
        ] {
            let error = check(&wat::parse_str(component).expect(component))
                .expect_err(component)
                .to_string();
            assert!(
                said.iter().all(|part| error.contains(part)),
                "{component}: {error}"
            );
        }
    }

    #[test]
    fn a_module_that_cannot_become_a_component_is_refused_with_the_reason() {
        let (resolve, id) = interface(WIT, "mapper-plugin");
        let mut browser =
            wat::parse_str(r#"(module (import "__wbindgen_placeholder__" "now" (func)))"#)
                .expect("a module");
        wit_component::embed_component_metadata(
            &mut browser,
            &resolve,
            id,
            wit_component::StringEncoding::UTF8,
        )
        .expect("metadata");
        let untyped = wat::parse_str("(module)").expect("a module");
        for (bytes, said) in [
            (&browser[..], "expects a browser"),
            (&untyped, "does not say which interface"),
            (b"\x7fELF", "neither"),
        ] {
            let error = componentize(bytes).expect_err(said).to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn what_is_no_plugin_is_refused_by_whoever_has_to_act() {
        let folder = tempfile::tempdir().expect("a folder");
        let build = || build(folder.path(), &mut |_| {});
        assert!(
            matches!(build(), Err(Error::NotSource { reason, .. }) if reason.contains("Cargo.toml"))
        );
        let manifest = "[package]\nname = \"does-not-compile\"\nedition = \"2021\"\n[workspace]\n";
        fs::create_dir(folder.path().join("src")).expect("a folder");
        fs::write(folder.path().join("src/lib.rs"), "pub fn nothing() {}").expect("a file");
        fs::write(folder.path().join("Cargo.toml"), manifest).expect("a file");
        assert!(
            matches!(build(), Err(Error::NotSource { reason, .. }) if reason.contains("cdylib"))
        );
        fs::write(
            folder.path().join("Cargo.toml"),
            format!("{manifest}[lib]\ncrate-type = [\"cdylib\"]\n"),
        )
        .expect("a file");
        assert!(matches!(build(), Err(Error::NotPlugin(why)) if why.contains("which interface")));
        fs::write(
            folder.path().join("src/lib.rs"),
            "pub fn nothing() -> u8 {}",
        )
        .expect("a file");
        assert!(
            matches!(build(), Err(Error::Refused { package }) if package == "does-not-compile")
        );
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
        assert_eq!(
            (steps, fs::read(&path).expect("a file")),
            (2, b"new".to_vec())
        );
        assert_eq!(inodes[0], inodes[1]);
        assert_eq!(
            fs::read_dir(folder.path().join("dist"))
                .expect("a folder")
                .count(),
            1,
            "something was left behind"
        );
    }

    fn interface(wit: &str, world: &str) -> (Resolve, WorldId) {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("plugin.wit", wit).expect("the interface");
        let world = resolve
            .select_world(&[package], Some(world))
            .expect("a world");
        (resolve, world)
    }
}
