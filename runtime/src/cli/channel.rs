//! `weir channel`: the state of the channels, and the operations on them.

mod drift;
mod entities;
mod show;

use axum::http::Method;
use clap::{Args, Subcommand};

use super::CommandResult;
use super::client::{Client, Remote, path, pretty};
use super::moment::ago;
use super::table::{or_dash, plain, table};
use crate::server::views::{ChannelView, FeedView, List};

/// The operations on channels.
#[derive(Debug, Subcommand)]
pub(super) enum ChannelCommand {
    /// List channels: state, entities owed, and freshness (the age of the oldest owed change)
    List {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show one channel: what became of its changes, how long they took, and what is owed for the longest time
    Show(Named),
    /// List the entities that are in a state (withheld, refused, parked, held, …), with how many there are by reason
    Entities(entities::EntitiesArgs),
    /// Pause a channel until it is resumed, also over a restart
    Pause(Named),
    /// Resume a paused channel
    Resume(Named),
    /// Send everything again, deletions included: for a target that lost its data
    Resync(Named),
    /// Render everything again and send only what differs
    Rerender(Named),
    /// Release the withdrawals that the guard holds back, and a generation of a feed that has shrunk
    Confirm(Named),
    /// For a target that is ahead of Weir: send everything again, and overwrite what is newer there
    Overwrite(Named),
    /// Compare what the target holds with what it should hold; exit code 1 if it differs
    Drift(drift::DriftArgs),
    /// Send one entity once more, whatever the target holds
    Resend(drift::ResendArgs),
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
        ChannelCommand::Show(named) => show::run(&named, out).await,
        ChannelCommand::Entities(args) => entities::run(args, out).await,
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
            operate(named, "confirm", "released what was held", out).await
        }
        ChannelCommand::Overwrite(named) => {
            let done = "sending everything again, over what is newer at the target";
            operate(named, "overwrite", done, out).await
        }
        ChannelCommand::Drift(args) => drift::check(args, out).await,
        ChannelCommand::Resend(args) => drift::resend(args, out).await,
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
    out.push_str(&listed(&channels.items));
    Ok(true)
}

/// The channels as a table; by lane is urgent/normal/bulk. A sweep, flights, and the age without the time in which
/// something waits on purpose have a column where there are any.
fn listed(channels: &[ChannelView]) -> String {
    let any = |is: fn(&ChannelView) -> bool| channels.iter().any(is);
    let (sweeps, flies, waits) = (
        any(|channel| channel.owed.sweep > 0),
        any(|channel| channel.in_flight > 0),
        any(|channel| channel.freshness_seconds - channel.overdue_seconds >= 0.1),
    );
    let row = |channel: &ChannelView| {
        let (owed, seconds) = (channel.owed, |time: f64| format!("{time:.1} s"));
        let mut row = vec![
            channel.name.clone(),
            channel.state.clone(),
            owed.total.to_string(),
            format!("{}/{}/{}", owed.urgent, owed.normal, owed.bulk),
        ];
        row.extend(sweeps.then(|| owed.sweep.to_string()));
        row.extend(flies.then(|| channel.in_flight.to_string()));
        row.extend([
            channel.parked.to_string(),
            channel.refused.to_string(),
            channel.held.to_string(),
            seconds(channel.freshness_seconds),
        ]);
        row.extend(waits.then(|| seconds(channel.overdue_seconds)));
        row.push(or_dash(
            channel
                .freshness_objective_seconds
                .map(|objective| format!("{objective} s")),
        ));
        row.push(note(channel));
        row
    };
    let mut header = vec!["CHANNEL", "STATE", "OWED", "BY LANE"];
    header.extend(sweeps.then_some("SWEEP"));
    header.extend(flies.then_some("IN FLIGHT"));
    header.extend(["PARKED", "REFUSED", "HELD", "FRESHNESS"]);
    header.extend(waits.then_some("OVERDUE"));
    header.extend(["OBJECTIVE", "NOTE"]);
    table(&header, &channels.iter().map(row).collect::<Vec<_>>())
}

/// Why a channel does not flow; otherwise its last error and what waits on purpose. The error is not shown
/// for a channel that has delivered everything since.
fn note(channel: &ChannelView) -> String {
    let failing = channel.parked + channel.refused > 0;
    let stands = channel.state != "flowing" && channel.reason.is_some();
    let error = channel.last_error.as_ref().filter(|_| failing && !stands);
    let error = error.map(|error| error.detail.as_str());
    let feed = channel.feed.as_ref().map(feed_note);
    let parts = error.into_iter().chain(channel.reason.as_deref());
    let parts = parts.chain(feed.as_deref());
    parts.collect::<Vec<_>>().join("; ")
}

/// The generation of a feed, and what is in the next one.
fn feed_note(feed: &FeedView) -> String {
    let generation = match &feed.generation {
        Some(it) => format!("generation {} with {} records", it.number, it.records),
        None => "no generation yet".to_owned(),
    };
    let next = match (feed.unpublished, feed.next) {
        (0, _) => None,
        (changes, Some(next)) => Some(format!(
            "changes in the next generation, {}: {changes}",
            ago(next)
        )),
        (changes, None) => Some(format!("changes in the next generation: {changes}")),
    };
    let bucket = feed
        .bucket
        .as_ref()
        .map(|it| match (&it.reason, it.generation) {
            (Some(why), _) => format!("the last generation is not in its bucket: {why}"),
            (None, Some(number)) => format!("generation {number} in its bucket"),
            (None, None) => "none in its bucket yet".to_owned(),
        });
    let parts = [Some(generation), next, feed.reason.clone(), bucket];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::server::views::ErrorView;

    #[test]
    fn a_channel_that_waits_on_purpose_shows_its_errors_too_and_how_late_it_is() {
        let shop = ChannelView {
            name: "shop".into(),
            state: "flowing".into(),
            freshness_seconds: 61.0,
            overdue_seconds: 61.0,
            ..ChannelView::default()
        };
        assert!(!listed(std::slice::from_ref(&shop)).contains("OVERDUE"));
        let waits = ChannelView {
            parked: 1,
            overdue_seconds: 1.0,
            reason: Some("bulk waits for its hours, 22:00-06:00".into()),
            last_error: Some(ErrorView {
                time: Timestamp(0).into(),
                detail: "status 500".into(),
            }),
            ..shop
        };
        assert!(!listed(std::slice::from_ref(&waits)).contains("IN FLIGHT"));
        let flies = ChannelView {
            in_flight: 3,
            ..waits.clone()
        };
        assert!(listed(&[waits.clone(), flies]).contains("0/0/0    3          1 "));
        let shown = listed(&[waits]);
        assert!(shown.contains("61.0 s     1.0 s    -"), "{shown}");
        assert!(
            shown.contains("status 500; bulk waits for its hours, 22:00-06:00"),
            "{shown}"
        );
    }
}
