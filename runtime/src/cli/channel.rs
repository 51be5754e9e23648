//! `weir channel`: the state of the channels, and the operations on them.

use axum::http::Method;
use clap::{Args, Subcommand};

use super::CommandResult;
use super::client::{Client, Remote, path, pretty};
use super::table::{or_dash, plain, table};
use crate::server::views::{ChannelView, List};

/// The operations on channels.
#[derive(Debug, Subcommand)]
pub(super) enum ChannelCommand {
    /// List channels: state, entities owed, and freshness (the age of the oldest owed change)
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Pause a channel until it is resumed, also over a restart
    Pause(Named),
    /// Resume a paused channel
    Resume(Named),
    /// Send everything again, deletions included: for a target that lost its data
    Resync(Named),
    /// Render everything again and send only what differs
    Rerender(Named),
    /// Release the withdrawals that the guard holds back
    Confirm(Named),
    /// Forget a channel that has left the configuration, and the record of its deliveries
    Forget(Named),
}

/// One channel.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The channel, for example storefront.de
    channel: String,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(command: ChannelCommand, out: &mut String) -> CommandResult {
    match command {
        ChannelCommand::List { remote } => list(&remote, out).await,
        ChannelCommand::Pause(named) => operate(named, "pause", "paused", out).await,
        ChannelCommand::Resume(named) => operate(named, "resume", "resumed", out).await,
        ChannelCommand::Resync(named) => {
            operate(named, "resync", "sending everything again", out).await
        }
        ChannelCommand::Rerender(named) => {
            operate(
                named,
                "rerender",
                "rendering everything, sending what differs",
                out,
            )
            .await
        }
        ChannelCommand::Confirm(named) => {
            operate(named, "confirm", "released the held withdrawals", out).await
        }
        ChannelCommand::Forget(named) => forget(named, out).await,
    }
}

async fn list(remote: &Remote, out: &mut String) -> CommandResult {
    let channels: List<ChannelView> = Client::new(remote)?
        .list("/v1/channels", &[], usize::MAX)
        .await?;
    if remote.json {
        out.push_str(&pretty(&channels));
        return Ok(true);
    }
    let row = |channel: &ChannelView| {
        let (owed, freshness) = (channel.owed, channel.freshness_seconds);
        let note = channel.reason.clone().or_else(|| {
            // The last error is not shown for a channel that has delivered everything since.
            let failing = channel.parked + channel.refused > 0;
            let error = channel.last_error.as_ref().filter(|_| failing);
            error.map(|error| error.detail.clone())
        });
        vec![
            channel.name.clone(),
            channel.state.clone(),
            owed.total.to_string(),
            format!("{}/{}/{}", owed.urgent, owed.normal, owed.bulk),
            owed.sweep.to_string(),
            channel.in_flight.to_string(),
            channel.parked.to_string(),
            channel.refused.to_string(),
            channel.held.to_string(),
            format!("{freshness:.1} s"),
            or_dash(
                channel
                    .freshness_objective_seconds
                    .map(|objective| format!("{objective} s")),
            ),
            note.unwrap_or_default(),
        ]
    };
    let header = [
        "CHANNEL",
        "STATE",
        "OWED",
        "URGENT/NORMAL/BULK",
        "SWEEP",
        "IN FLIGHT",
        "PARKED",
        "REFUSED",
        "HELD",
        "FRESHNESS",
        "OBJECTIVE",
        "NOTE",
    ];
    out.push_str(&table(
        &header,
        &channels.items.iter().map(row).collect::<Vec<_>>(),
    ));
    Ok(true)
}

async fn operate(named: Named, operation: &str, done: &str, out: &mut String) -> CommandResult {
    let answer = Client::new(&named.remote)?
        .json(
            Method::POST,
            &path(&["v1", "channels", &named.channel, operation]),
        )
        .await?;
    out.push_str(&if named.remote.json {
        pretty(&answer)
    } else {
        format!("{}: {done}\n", plain(&named.channel))
    });
    Ok(true)
}

async fn forget(named: Named, out: &mut String) -> CommandResult {
    let answer = Client::new(&named.remote)?
        .json(Method::DELETE, &path(&["v1", "channels", &named.channel]))
        .await?;
    out.push_str(&if named.remote.json {
        pretty(&answer)
    } else {
        format!("{}: forgotten\n", plain(&named.channel))
    });
    Ok(true)
}
