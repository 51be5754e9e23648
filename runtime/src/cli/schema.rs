//! `weir config`: what a configuration may have, for editors and other programs.

use clap::Subcommand;

use super::CommandResult;
use super::client::pretty;
use crate::plan;

/// What there is to say of configurations.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print a JSON Schema of the configuration, with which an editor completes keys and marks mistakes; in TOML
    /// files name it in the first line: `#:schema ./weir.schema.json`
    Schema,
}

pub(super) fn run(command: &ConfigCommand, out: &mut String) -> CommandResult {
    match command {
        ConfigCommand::Schema => out.push_str(&pretty(&plan::schema())),
    }
    Ok(true)
}
