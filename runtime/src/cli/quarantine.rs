//! `weir quarantine`: events set aside, because a plugin or a check failed on them (dead letters of
//! a source).

mod show;

use clap::{Args, Subcommand};

use super::client::{Client, Remote, path, pretty, with_query};
use super::moment::ago;
use super::table::table;
use super::{CommandResult, job};
use crate::server::views::{List, QuarantineView, RedriveView};

/// The operations on quarantined events.
#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// List the quarantined events of a source, oldest first; --json includes their data
    List {
        /// The source
        source: String,
        /// Only those quarantined for this reason
        #[arg(long)]
        code: Option<String>,
        /// Only those that this plugin failed on: its name, or NAME@VERSION
        #[arg(long)]
        plugin: Option<String>,
        /// Only those with this CloudEvents type
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// Only those received at this time or later: 2026-11-18T11:06:40Z
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Only those received earlier
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// At most N
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one event: why it is kept, and its data as text
    Show {
        /// The source
        source: String,
        /// Its sequence, as `weir quarantine list` shows it
        sequence: u64,
        #[command(flatten)]
        remote: Remote,
    },
    /// Run the source's plugins on events again; facets changed since then are not overwritten
    Redrive {
        #[command(flatten)]
        which: Which,
        /// At most N, the oldest first
        #[arg(long, value_name = "N", conflicts_with = "sequence", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Drop events for good
    Drop(Which),
}

/// A selection of events.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["sequence", "code", "plugin", "event_type", "since", "before", "all"]))]
pub(super) struct Which {
    /// The source
    source: String,
    /// The one with this sequence
    #[arg(long)]
    sequence: Option<u64>,
    /// Those quarantined for this reason
    #[arg(long)]
    code: Option<String>,
    /// Those that this plugin failed on: its name, or NAME@VERSION
    #[arg(long)]
    plugin: Option<String>,
    /// Those with this CloudEvents type
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Those received at this time or later: 2026-11-18T11:06:40Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Those received earlier
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["sequence", "code", "plugin", "event_type", "since", "before"])]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(command: QuarantineCommand, out: &mut String) -> CommandResult {
    match command {
        QuarantineCommand::List {
            source,
            code,
            plugin,
            event_type,
            since,
            before,
            limit,
            remote,
        } => {
            let filters = [
                ("code", code.as_deref()),
                ("plugin", plugin.as_deref()),
                ("type", event_type.as_deref()),
                ("since", since.as_deref()),
                ("before", before.as_deref()),
            ];
            let path = path(&["v1", "sources", &source, "quarantine"]);
            let events: List<QuarantineView> =
                Client::new(&remote)?.list(&path, &filters, limit).await?;
            if remote.json {
                out.push_str(&pretty(&events));
                return Ok(true);
            }
            let row = |kept: &QuarantineView| {
                let plugin = kept.plugin.clone().unwrap_or_default();
                let event = [kept.event.event_type.as_str(), kept.event.id.as_str()]
                    .join(" ")
                    .trim()
                    .to_owned();
                vec![
                    kept.sequence.to_string(),
                    ago(kept.time),
                    kept.count.to_string(),
                    event,
                    plugin,
                    kept.code.clone(),
                    kept.detail.clone(),
                ]
            };
            let rows: Vec<_> = events.items.iter().map(row).collect();
            out.push_str(&table(
                &[
                    "SEQUENCE", "TIME", "COUNT", "EVENT", "PLUGIN", "CODE", "DETAIL",
                ],
                &rows,
            ));
            if events.next.is_some() {
                out.push_str("there are more; raise --limit to see them\n");
            }
            Ok(true)
        }
        QuarantineCommand::Show {
            source,
            sequence,
            remote,
        } => show::run(&source, sequence, &remote, out).await,
        QuarantineCommand::Redrive { which, limit } => redrive(&which, limit, out).await,
        QuarantineCommand::Drop(which) => {
            job::dropped(&which.remote, &which.path("", &[]), which.all, out).await
        }
    }
}

impl Which {
    /// A route of these events, with further parameters.
    fn path(&self, route: &str, more: &[(&str, Option<&str>)]) -> String {
        let sequence = self.sequence.map(|sequence| sequence.to_string());
        let filters = [
            ("sequence", sequence.as_deref()),
            ("code", self.code.as_deref()),
            ("plugin", self.plugin.as_deref()),
            ("type", self.event_type.as_deref()),
            ("since", self.since.as_deref()),
            ("before", self.before.as_deref()),
            ("all", self.all.then_some("true")),
        ];
        let path = path(&["v1", "sources", &self.source, "quarantine"]) + route;
        with_query(&path, &[&filters[..], more].concat())
    }
}

/// Redrives as a job, and waits for its end.
async fn redrive(which: &Which, limit: Option<u64>, out: &mut String) -> CommandResult {
    let (client, json) = (Client::new(&which.remote)?, which.remote.json);
    let limit = limit.map(|limit| limit.to_string());
    let as_job = [("job", Some("true")), ("limit", limit.as_deref())];
    let begun = job::begin(&client, &which.path("/redrive", &as_job)).await?;
    let redrive = job::redriven(&client, begun, json).await?;
    let RedriveView {
        redriven, failed, ..
    } = redrive;
    out.push_str(&match json {
        true => pretty(&redrive),
        false => outcome(redriven, failed) + &job::failures(&redrive),
    });
    // A selection that matches nothing is a failure.
    Ok(redriven > 0 || which.all)
}

/// What became of redriven events: `failed` are those that failed again.
fn outcome(redriven: u64, failed: u64) -> String {
    let stay = "in quarantine with the new reason";
    match (redriven, failed) {
        (_, 0) => format!("{redriven} redriven\n"),
        (0, 1) => format!("none redriven: the event failed again and stays {stay}\n"),
        (0, _) => format!("none redriven: all {failed} events failed again and stay {stay}\n"),
        (_, 1) => format!("{redriven} redriven; 1 failed again and stays {stay}\n"),
        _ => format!("{redriven} redriven; {failed} failed again and stay {stay}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_failed_again_are_not_called_redriven() {
        let stays = "in quarantine with the new reason\n";
        for (count, kept, begin) in [
            (3, 0, "3 redriven\n"),
            (0, 96, "none redriven: all 96 events failed again and stay "),
            (2, 1, "2 redriven; 1 failed again and stays "),
        ] {
            let said = outcome(count, kept);
            let end = if kept > 0 { stays } else { "" };
            assert_eq!(said, format!("{begin}{end}"));
        }
    }
}
