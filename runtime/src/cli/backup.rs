//! `weir backup` and `weir restore`: copies of the store.

use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::client::{Client, Remote, path, pretty};
use super::table::plain;
use super::{CommandResult, Failure};
use crate::app;
use crate::server::views::BackupView;

/// How long a backup may take: that of a terabyte at the rate of a slow disk.
const TIME_MAX: Duration = Duration::from_secs(6 * 3600);

/// Arguments of `weir backup`.
#[derive(Debug, Args)]
pub(super) struct BackupArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `weir restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    file: PathBuf,
    /// The configuration file, which says where the store is; may be repeated
    #[arg(
        short,
        long = "config",
        value_name = "FILE",
        default_value = "weir.toml"
    )]
    config: Vec<PathBuf>,
}

pub(super) async fn run(args: BackupArgs, out: &mut String) -> CommandResult {
    let made = Client::new(&args.remote)?
        .within(TIME_MAX)
        .json(Method::POST, &path(&["v1", "backup"]))
        .await?;
    out.push_str(&if args.remote.json {
        pretty(&made)
    } else {
        let made: BackupView = serde_json::from_value(made)
            .map_err(|error| Failure::Failed(format!("the answer is not a backup: {error}")))?;
        let BackupView { file, rows, bytes } = made;
        format!("{}: {rows} rows, {bytes} bytes\n", plain(&file))
    });
    Ok(true)
}

pub(super) fn restore(args: &RestoreArgs, out: &mut String) -> CommandResult {
    let restored = app::restore(&args.file, &args.config).map_err(|error| match error {
        app::StartError::Configuration(_) => Failure::Failed(error.to_string()),
        app::StartError::CannotOpen(_) => Failure::Unreachable(error.to_string()),
    })?;
    out.push_str(&format!(
        "restored {} rows; at the next start each channel sends everything again, and what it would \
         delete beyond `withdraw_max` waits for `weir channel confirm`\n",
        restored.rows
    ));
    Ok(true)
}
