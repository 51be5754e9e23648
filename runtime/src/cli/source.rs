//! `weir source`: the sources and their events.

use axum::http::Method;
use clap::Subcommand;

use super::CommandResult;
use super::client::{Client, Remote, path, pretty};
use super::moment::ago_or_dash;
use super::table::{or_dash, plain, table};
use crate::server::views::{List, SourceView};

/// The operations on sources.
#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// List sources: last event, events accepted, filtered and in quarantine, changes (and how many for each
    /// event), and silence
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Forget the versions of all facets that the source's owner wrote, so that lower ones are
    /// accepted: after the source was restored from a copy, or counts from the start
    ResetVersions {
        /// The source
        source: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) async fn run(command: SourceCommand, out: &mut String) -> CommandResult {
    match command {
        SourceCommand::List { remote } => list(&remote, out).await,
        SourceCommand::ResetVersions { source, remote } => {
            reset_versions(&source, &remote, out).await
        }
    }
}

async fn reset_versions(source: &str, remote: &Remote, out: &mut String) -> CommandResult {
    let path = path(&["v1", "sources", source, "reset-versions"]);
    let answer = Client::new(remote)?.json(Method::POST, &path).await?;
    let count = answer.get("reset").and_then(serde_json::Value::as_u64);
    out.push_str(&if remote.json {
        pretty(&answer)
    } else {
        format!(
            "{}: the versions of {} facets are forgotten; each takes the next change that comes\n",
            plain(source),
            count.unwrap_or(0)
        )
    });
    Ok(true)
}

async fn list(remote: &Remote, out: &mut String) -> CommandResult {
    let sources: List<SourceView> = Client::new(remote)?
        .list("/v1/sources", &[], usize::MAX)
        .await?;
    if remote.json {
        out.push_str(&pretty(&sources));
        return Ok(true);
    }
    let row = |source: &SourceView| {
        let state = if source.silent { "silent" } else { "" };
        vec![
            source.name.clone(),
            source.owner.clone(),
            ago_or_dash(source.last_event),
            or_dash(source.events_per_second.map(|rate| format!("{rate:.1}"))),
            source.events.accepted.to_string(),
            source.events.filtered.to_string(),
            source.changes.unchanged.to_string(),
            source.changes.committed.to_string(),
            or_dash(source.factor.map(|factor| format!("{factor:.2}"))),
            source.quarantined.to_string(),
            state.to_owned(),
        ]
    };
    let header = [
        "SOURCE",
        "OWNER",
        "LAST EVENT",
        "PER S",
        "ACCEPTED",
        "FILTERED",
        "UNCHANGED",
        "CHANGES",
        "FACTOR",
        "QUARANTINED",
        "STATE",
    ];
    out.push_str(&table(
        &header,
        &sources.items.iter().map(row).collect::<Vec<_>>(),
    ));
    Ok(true)
}
