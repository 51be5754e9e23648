//! `weir plugin`: a plugin author's desk, from a folder of source to a component, and from a sample
//! to what the component makes of it.
//!
//! What a run costs is told in fuel, which repeats exactly, beside what it used of the limits that
//! a serving Weir would hold it to.

mod list;
mod new;
mod samples;
mod told;
mod trial;
mod watch;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Failure, Outcome};
use crate::plugin::cases::{CASES_BYTES_MAX, Embedded};
use crate::plugin::desk::{Desk, Report};
use crate::plugin::toolchain::{self, Built};
use crate::plugin::{Fault, Limits};
use samples::Sample;

/// What can be done at a plugin author's desk.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Begin a plugin: a folder that builds and passes its cases at once
    New(new::NewArgs),
    /// Build a plugin: from its folder to a component
    Build(BuildArgs),
    /// Run a component on sample events or entities and print what it gives
    Run(RunArgs),
    /// The plugins of a running Weir: what serves since when, what was tried of it, and why what
    /// was refused does not serve
    List(list::ListArgs),
    /// Build a plugin and run its cases: is what becomes of them what is expected?
    Test(trial::TestArgs),
    /// Build and test whenever a file is saved, and have a running Weir take what passes
    Watch(watch::WatchArgs),
}

/// Arguments of `weir plugin build`.
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    /// The folder of the plugin, with its Cargo.toml
    #[arg(default_value = ".", value_name = "FOLDER")]
    folder: PathBuf,
    /// Where to put the component as well; it always lands in dist/NAME.wasm in the folder
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `weir plugin run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// Sample files. For filters and mappers of a source, what the system sends, or a CloudEvent as
    /// JSON; for those of a channel, an entity: {"type": …, "key": …, "facets": {NAME: VALUE}}
    #[arg(value_name = "SAMPLE", required = true)]
    samples: Vec<PathBuf>,
    /// Settings: a JSON object, or @FILE with one in it
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// Media type of the samples; default: by the extension, and JSON with `specversion` is a
    /// CloudEvent
    #[arg(long = "type", value_name = "MEDIA_TYPE")]
    content_type: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does the command; steps that take long are told on the standard error as they begin.
pub(super) fn run(command: PluginCommand, out: &mut String) -> Outcome {
    match command {
        PluginCommand::New(args) => new::run(&args, out),
        PluginCommand::Build(args) => build(&args, out),
        PluginCommand::Run(args) => try_out(&args, out),
        PluginCommand::List(args) => super::block_on(list::run(&args, out)),
        PluginCommand::Test(args) => trial::run(&args, out),
        PluginCommand::Watch(args) => watch::run(&args),
    }
}

fn build(args: &BuildArgs, out: &mut String) -> Outcome {
    let built =
        toolchain::build(&args.folder, &mut |step| eprintln!("{step}")).map_err(not_built)?;
    let path = match &args.out {
        None => &built.component,
        Some(path) => {
            copy(&built.component, path).map_err(|error| {
                Failure::Unreachable(format!("cannot write {}: {error}", path.display()))
            })?;
            path
        }
    };
    let Built {
        bytes,
        sha256,
        tool_chain,
        cases,
        ..
    } = &built;
    out.push_str(&format!(
        "{}\n{bytes} bytes, sha256 {sha256}\nbuilt with {tool_chain}\n{}\n",
        path.display(),
        carried(cases)
    ));
    Ok(true)
}

/// What a component carries, a sentence.
fn carried(cases: &Embedded) -> String {
    let inside = match cases.inside {
        0 => "no cases inside: nothing tells a Weir that loads it whether it is right".to_owned(),
        1 => "1 case inside".to_owned(),
        many => format!("{many} cases inside"),
    };
    match cases.left_out {
        0 => inside,
        left_out => format!(
            "{inside}, {left_out} left out: a component carries at most {} KiB of cases",
            CASES_BYTES_MAX >> 10
        ),
    }
}

/// The author and the machine have different things to do.
fn not_built(error: toolchain::Error) -> Failure {
    match error {
        toolchain::Error::NotSource { .. }
        | toolchain::Error::Refused { .. }
        | toolchain::Error::NotPlugin(_) => Failure::No(error.to_string()),
        toolchain::Error::NoToolChain(_) | toolchain::Error::Io { .. } => {
            Failure::Unreachable(error.to_string())
        }
    }
}

/// Writes in one step: a running Weir may be watching the file.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = to.with_file_name(name);
    if let Some(folder) = to.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, &part)?;
    fs::rename(&part, to)
}

fn try_out(args: &RunArgs, out: &mut String) -> Outcome {
    let settings = settings(&args.settings)?;
    let bytes = read(&args.component)?;
    let limits = Limits::default();
    let desk = Desk::load(&name(&args.component), &bytes, limits).map_err(no)?;
    let samples = samples::read(&args.samples, args.content_type.as_deref(), desk.roles())?;
    let report = desk.run(&settings, samples.input).map_err(no)?;
    out.push_str(&match args.json {
        true => told::to_machines(&report, &samples.items, &limits),
        false => told::to_people(&report, &samples.items, &limits),
    });
    Ok(fine(&report))
}

/// Whether no item failed and no call ended badly.
fn fine(report: &Report) -> bool {
    let failed = |output: &crate::plugin::desk::Output| {
        matches!(output, crate::plugin::desk::Output::Failed(_))
    };
    report.calls.iter().all(|call| {
        call.outputs
            .as_ref()
            .is_ok_and(|outputs| !outputs.iter().any(failed))
    })
}

fn no(fault: Fault) -> Failure {
    match fault {
        Fault::Breach {
            breach: crate::plugin::Breach::Host,
            ..
        } => Failure::Unreachable(fault.to_string()),
        _ => Failure::No(fault.to_string()),
    }
}

/// The name that messages call a component by: its file's.
fn name(component: &Path) -> String {
    component.file_stem().map_or_else(
        || "plugin".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

fn settings(written: &str) -> Result<String, Failure> {
    let text = match written.strip_prefix('@') {
        Some(file) => String::from_utf8_lossy(&read(Path::new(file))?).into_owned(),
        None => written.to_owned(),
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(_)) => Ok(text),
        Ok(_) => Err(Failure::Usage("settings are a JSON object".into())),
        Err(error) => Err(Failure::Usage(format!(
            "settings are a JSON object, and this is no JSON: {error}"
        ))),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file)
        .map_err(|error| Failure::Unreachable(format!("cannot read {}: {error}", file.display())))
}

/// Names an item in what is printed: its file, and its number where the file has several.
fn title(sample: &Sample) -> String {
    let file = sample.file.display();
    if sample.alone {
        file.to_string()
    } else {
        format!("{file}, item {}", sample.index)
    }
}
