//! `weir source`: the sources and their events.

use clap::Subcommand;

use super::CommandResult;
use super::client::{Client, Remote, pretty};
use super::table::{or_dash, table};
use crate::server::views::{List, SourceView};

/// The operations on sources.
#[derive(Debug, Subcommand)]
pub(super) enum SourceCommand {
    /// List sources: last event, events accepted, filtered and in quarantine, and silence
    List {
        #[command(flatten)]
        remote: Remote,
    },
}

pub(super) async fn run(command: SourceCommand, out: &mut String) -> CommandResult {
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
        "QUARANTINED",
        "STATE",
    ];
    out.push_str(&table(
        &header,
        &sources.items.iter().map(row).collect::<Vec<_>>(),
    ));
    Ok(true)
}
