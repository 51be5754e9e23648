//! `weir source`: what comes in.

use clap::Subcommand;

use super::Outcome;
use super::client::{Client, Remote, pretty};
use super::table::{or_dash, table};
use crate::server::views::{List, SourceView};

/// What can be asked of sources.
#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// Sources with their last event, what became of their events, and whether they are silent
    List {
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) async fn run(command: SourceCommand, out: &mut String) -> Outcome {
    let SourceCommand::List { remote } = command;
    let sources: List<SourceView> = Client::new(&remote)?
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
            or_dash(source.last_event),
            or_dash(source.events_per_second.map(|rate| format!("{rate:.1}"))),
            source.events.accepted.to_string(),
            source.events.filtered.to_string(),
            source.quarantined.to_string(),
            state.to_owned(),
        ]
    };
    let header = [
        "SOURCE",
        "OWNER",
        "LAST EVENT",
        "PER SECOND",
        "ACCEPTED",
        "FILTERED",
        "IN QUARANTINE",
        "",
    ];
    out.push_str(&table(
        &header,
        &sources.items.iter().map(row).collect::<Vec<_>>(),
    ));
    Ok(true)
}
