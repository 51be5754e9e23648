//! `weir reload`: asks a running Weir to read its configuration again, and waits for the outcome.

use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde_json::Value;

use super::client::{Client, Remote, path, pretty};
use super::table::plain;
use super::{CommandResult, Failure};
use crate::server::views::{ComplaintView, ReloadView};

/// How long a reload may take: a few large plugins, compiled for the first time on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Arguments of `weir reload`.
#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    remote: Remote,
}

/// Succeeds if the files are in use now, all of them.
pub(super) async fn run(args: ReloadArgs, out: &mut String) -> CommandResult {
    let client = Client::new(&args.remote)?.within(TIME_MAX);
    let answer = client.ask(Method::POST, &path(&["v1", "reload"])).await?;
    if !answer.status.is_success() && !answer.is_problem() {
        return Err(Failure::Failed(answer.problem()));
    }
    let whole: Value = answer.read()?;
    if args.remote.json {
        out.push_str(&pretty(&whole));
        return Ok(answer.status.is_success());
    }
    if answer.status.is_success() {
        let reload: ReloadView = answer.read()?;
        if reload.changes.is_empty() {
            out.push_str("nothing has changed\n");
        }
        for change in &reload.changes {
            out.push_str(&format!("{}\n", plain(change)));
        }
        return Ok(true);
    }
    let complaints = whole.get("complaints").cloned().unwrap_or_default();
    let complaints: Vec<ComplaintView> = serde_json::from_value(complaints).unwrap_or_default();
    for complaint in &complaints {
        out.push_str(&line(complaint));
    }
    Err(Failure::Failed(answer.problem()))
}

/// A complaint, in the form of `weir check`.
fn line(complaint: &ComplaintView) -> String {
    let ComplaintView {
        file,
        line,
        column,
        what,
        help,
    } = complaint;
    let place = match line {
        0 => file.clone(),
        _ => format!("{file}:{line}:{column}"),
    };
    let help = help.as_ref().map(|help| format!("; {help}"));
    plain(&format!("{place}: {what}{}", help.unwrap_or_default())) + "\n"
}
