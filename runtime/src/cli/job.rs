//! Jobs of a running Weir: beginning one, waiting for its end, and what a redrive has come to; and dropping what
//! was set aside.

use std::io::IsTerminal;
use std::time::Duration;

use axum::http::Method;
use serde_json::Value;

use super::client::{Client, Remote, path, pretty};
use super::table::plain;
use super::{CommandResult, Failure};
use crate::server::views::{JobView, RedriveView};

/// How often the job is asked how far it is.
const POLL: Duration = Duration::from_millis(200);
/// What failed again and is printed, at most; the job, and the list, have more.
const FAILURES_SHOWN: usize = 10;

/// Begins a job by a request to this path.
pub(super) async fn begin(client: &Client, path: &str) -> Result<JobView, Failure> {
    job_of(client.json(Method::POST, path).await?)
}

/// Waits for the end of a job. On a terminal it says meanwhile how far the job is, in the words of `told`.
pub(super) async fn end(
    client: &Client,
    mut job: JobView,
    json: bool,
    told: impl Fn(&JobView) -> String,
) -> Result<JobView, Failure> {
    let watched = std::io::stderr().is_terminal() && !json;
    while job.state == "running" {
        if watched {
            eprint!("\r{}", told(&job));
        }
        tokio::time::sleep(POLL).await;
        let at = path(&["v1", "jobs", &job.id]);
        job = job_of(client.json(Method::GET, &at).await?)?;
    }
    if watched {
        eprintln!();
    }
    Ok(job)
}

fn job_of(answer: Value) -> Result<JobView, Failure> {
    serde_json::from_value(answer)
        .map_err(|error| Failure::Failed(format!("the answer is not a job: {error}")))
}

/// Waits for the end of a redrive. Returns what it has come to.
pub(super) async fn redriven(
    client: &Client,
    job: JobView,
    json: bool,
) -> Result<RedriveView, Failure> {
    let told = |job: &JobView| format!("{} of {} tried again", job.done, job.total);
    let job = end(client, job, json, told).await?;
    let redrive = job.redrive.clone().unwrap_or_default();
    let why = match (&*job.state, &job.error) {
        ("done", _) => return Ok(redrive),
        (_, Some(why)) => format!("ended early: {}", plain(why)),
        _ => "was cancelled".to_owned(),
    };
    let RedriveView {
        redriven, failed, ..
    } = redrive;
    Err(Failure::Failed(format!(
        "the redrive {why} ({redriven} redriven, {failed} failed again, the others were not tried or are not done)"
    )))
}

/// Drops what was set aside by a request to this path. A selection that matches nothing is a failure, unless it is
/// all.
pub(super) async fn dropped(
    remote: &Remote,
    path: &str,
    is_all: bool,
    out: &mut String,
) -> CommandResult {
    let answer = Client::new(remote)?.json(Method::DELETE, path).await?;
    let count = answer["dropped"].as_u64().unwrap_or(0);
    out.push_str(&match remote.json {
        true => pretty(&answer),
        false => format!("{count} dropped\n"),
    });
    Ok(count > 0 || is_all)
}

/// The lines of what failed again.
pub(super) fn failures(redrive: &RedriveView) -> String {
    let mut text = String::new();
    for failure in redrive.failures.iter().take(FAILURES_SHOWN) {
        let sequence = failure.sequence.map(|sequence| sequence.to_string());
        let names = [sequence.unwrap_or_default(), plain(&failure.id)];
        let names = names.into_iter().filter(|name| !name.is_empty());
        let names: Vec<String> = names.collect();
        let (code, detail) = (plain(&failure.code), plain(&failure.detail));
        text.push_str(&format!("  {}: {code}: {detail}\n", names.join(" ")));
    }
    let left = redrive.failed.saturating_sub(FAILURES_SHOWN as u64);
    if left > 0 {
        text.push_str(&format!("  and {left} more\n"));
    }
    if redrive.more {
        text.push_str("there may be more than --limit\n");
    }
    text
}
