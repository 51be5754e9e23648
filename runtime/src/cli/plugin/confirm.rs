//! `weir plugin confirm`: lets a version take over that was refused because it maps less than the one
//! in use.

use clap::Args;
use hyper::Method;

use super::super::CommandResult;
use super::super::client::{Client, Remote, path, pretty};
use super::super::table::plain;

/// Arguments of `weir plugin confirm`.
#[derive(Clone, Debug, Args)]
pub struct ConfirmArgs {
    /// The plugin
    #[arg(value_name = "PLUGIN")]
    plugin: String,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: &ConfirmArgs, out: &mut String) -> CommandResult {
    let answer = Client::new(&args.remote)?
        .json(
            Method::POST,
            &path(&["v1", "plugins", &args.plugin, "confirm"]),
        )
        .await?;
    out.push_str(&if args.remote.json {
        pretty(&answer)
    } else {
        format!("{}: the new version is in use\n", plain(&args.plugin))
    });
    Ok(true)
}
