//! `weir plugin`: the commands for plugin authors, from a folder of source to a component, and from
//! a sample to the component's output. The module `author` does the work.
//!
//! The cost of a run is reported in fuel, which is the same in every run, and as a share of the
//! limits that a serving Weir enforces.

mod confirm;
mod list;
mod new;
mod report;
mod samples;
mod test_command;
mod watch;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{CommandResult, Failure};
use crate::author::cases::{CASES_BYTES_MAX, Embedded, Output};
use crate::author::harness::{Harness, Report};
use crate::author::toolchain::{self, Built};
use crate::plugin::{Binary, Breach, Fault, Limits};
use samples::Sample;

/// The commands for plugin authors.
#[derive(Clone, Debug, Subcommand)]
pub enum PluginCommand {
    /// Create a plugin: a folder that builds and passes its cases at once
    New(new::NewArgs),
    /// Build a plugin: from its folder to a component
    Build(BuildArgs),
    /// Run a component on sample events or entities and print its output
    Run(RunArgs),
    /// List the plugins of a running Weir: version in use, last swap, last rejection
    List(list::ListArgs),
    /// Let a version take over on a running Weir that was refused because it maps less than the one
    /// in use
    Confirm(confirm::ConfirmArgs),
    /// Build a plugin, run its cases, and compare the output with expected.json
    Test(test_command::TestArgs),
    /// Build and test on every save, and give a running Weir each version that passes
    Watch(watch::WatchArgs),
}

/// Arguments of `weir plugin build`.
#[derive(Clone, Debug, Args)]
pub struct BuildArgs {
    /// The folder of the plugin, with its Cargo.toml, plugin.ts or plugin.py
    #[arg(default_value = ".", value_name = "FOLDER")]
    folder: PathBuf,
    /// Copy the component to this file as well; it is always written to dist/NAME.wasm in the
    /// folder
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Arguments of `weir plugin run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The component
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// Sample files. For filters and mappers of a source: a body as the system sends it, or a
    /// CloudEvent as JSON. For those of a channel: an entity,
    /// {"type": …, "key": …, "facets": {NAME: VALUE}}
    #[arg(value_name = "SAMPLE", required = true)]
    samples: Vec<PathBuf>,
    /// Settings: a JSON object, or @FILE with one in it
    #[arg(long, value_name = "JSON", default_value = "{}")]
    settings: String,
    /// Media type of the samples; default: by the file extension. JSON with `specversion` is a
    /// CloudEvent
    #[arg(long = "type", value_name = "MEDIA_TYPE")]
    content_type: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command; prints a line to standard error before each long step.
pub(super) fn run(command: PluginCommand, out: &mut String) -> CommandResult {
    match command {
        PluginCommand::New(args) => new::run(&args, out),
        PluginCommand::Build(args) => build(&args, out),
        PluginCommand::Run(args) => run_once(&args, out),
        PluginCommand::List(args) => super::block_on(list::run(&args, out)),
        PluginCommand::Confirm(args) => super::block_on(confirm::run(&args, out)),
        PluginCommand::Test(args) => test_command::run(&args, out),
        PluginCommand::Watch(args) => watch::run(&args),
    }
}

fn build(args: &BuildArgs, out: &mut String) -> CommandResult {
    let built =
        toolchain::build(&args.folder, &mut |step| eprintln!("{step}")).map_err(build_failure)?;
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
        describe_cases(cases)
    ));
    Ok(true)
}

/// The cases that a component carries, in a phrase.
fn describe_cases(cases: &Embedded) -> String {
    let inside = match cases.inside {
        0 => "no cases inside: Weir cannot check it before it takes over".to_owned(),
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

/// An error of the author is a failure; one of the machine, that something is missing.
fn build_failure(error: toolchain::Error) -> Failure {
    match error {
        toolchain::Error::NotSource { .. }
        | toolchain::Error::Refused { .. }
        | toolchain::Error::NotPlugin(_) => Failure::Failed(error.to_string()),
        toolchain::Error::NoToolChain(_) | toolchain::Error::Io { .. } => {
            Failure::Unreachable(error.to_string())
        }
    }
}

/// Writes in one step, because a running Weir may be watching the file.
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

fn run_once(args: &RunArgs, out: &mut String) -> CommandResult {
    let settings = settings(&args.settings)?;
    let binary = Binary::new(read(&args.component)?);
    let limits = Limits::default();
    let harness = Harness::load(&name(&args.component), &binary, limits).map_err(fault_failure)?;
    let samples = samples::read(&args.samples, args.content_type.as_deref(), harness.roles())?;
    let report = harness
        .run(&settings, samples.input)
        .map_err(fault_failure)?;
    out.push_str(&match args.json {
        true => report::to_json(&report, &samples.items, &limits),
        false => report::to_text(&report, &samples.items, &limits),
    });
    Ok(succeeded(&report))
}

/// Whether no item failed and no call faulted.
fn succeeded(report: &Report) -> bool {
    let failed = |output: &Output| matches!(output, Output::Failed(_));
    report.calls.iter().all(|call| {
        call.outputs
            .as_ref()
            .is_ok_and(|outputs| !outputs.iter().any(failed))
    })
}

fn fault_failure(fault: Fault) -> Failure {
    match fault {
        Fault::Breach {
            breach: Breach::Host,
            ..
        } => Failure::Unreachable(fault.to_string()),
        _ => Failure::Failed(fault.to_string()),
    }
}

/// The name of a component in messages: the name of its file.
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
            "settings are a JSON object, and this is not JSON: {error}"
        ))),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(file)
        .map_err(|error| Failure::Unreachable(format!("cannot read {}: {error}", file.display())))
}

/// The title of an item: its file, and its number if the file has several.
fn title(sample: &Sample) -> String {
    let file = sample.file.display();
    if sample.alone {
        file.to_string()
    } else {
        format!("{file}, item {}", sample.index)
    }
}
