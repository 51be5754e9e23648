//! `weir tap`: shows what passes a source or a channel, one block an item, until Ctrl-C.

mod block;

use std::io::Write;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, Events, Remote, path, with_query};
use super::table::plain;
use super::{CommandResult, Failure, complain, ended};
use crate::tap::story::{DeliveryStory, EventStory};

/// The first and the longest wait before a lost connection is tried again.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Arguments of `weir tap`.
#[derive(Debug, Args)]
pub(super) struct TapArgs {
    /// The source or the channel
    name: String,
    /// It is a source; needed only if a channel has the same name
    #[arg(long, conflicts_with = "channel")]
    source: bool,
    /// It is a channel; needed only if a source has the same name
    #[arg(long)]
    channel: bool,
    /// Only what concerns the entity with this key; for a source also events whose subject or id it is
    #[arg(long)]
    key: Option<String>,
    /// Only entities of this type; for a source also events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only this outcome. Of a source: changed, unchanged, stale, filtered, quarantined, repeated, rejected.
    /// Of a channel: delivered, withdrawn, suppressed, withheld, counted, parked, held, refused
    #[arg(long)]
    outcome: Option<String>,
    /// At most so many items a second, up to 100; what is left out is counted
    #[arg(long, value_name = "N", default_value_t = 10)]
    sample: u32,
    /// Show bodies up to 64 KiB, and the headers of requests
    #[arg(long)]
    full: bool,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Channel,
}

impl Side {
    /// The word, and its segment in paths.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Side::Source => ("source", "sources"),
            Side::Channel => ("channel", "channels"),
        }
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    /// Whether the tap was opened.
    began: bool,
    shown: u64,
    figures: Value,
}

pub(super) async fn run(args: TapArgs, out: &mut impl Write) -> CommandResult {
    let client = Client::new(&args.remote)?;
    let side = match (args.source, args.channel) {
        (true, _) => Side::Source,
        (_, true) => Side::Channel,
        (false, false) => which(&client, &args.name).await?,
    };
    let mut seen = Seen::default();
    let result = tokio::select! {
        result = follow(&client, side, &args, out, &mut seen) => result,
        () = ended() => Ok(true),
    };
    if seen.began {
        seen.report();
    }
    result
}

/// Whether it is a source or a channel.
async fn which(client: &Client, name: &str) -> Result<Side, Failure> {
    let mut found = Vec::new();
    for side in [Side::Source, Side::Channel] {
        let (word, segment) = side.words();
        let answer = client
            .ask(Method::GET, &path(&["v1", segment, name]))
            .await?;
        if answer.status.is_success() {
            found.push(side);
        } else if !answer.is_unknown(word) {
            return Err(Failure::Failed(answer.problem()));
        }
    }
    match found[..] {
        [side] => Ok(side),
        [] => Err(Failure::Failed(format!(
            "there is no source and no channel `{}`; see `weir source list` and `weir channel list`",
            plain(name)
        ))),
        _ => Err(Failure::Usage(format!(
            "`{}` is a source and a channel; add --source or --channel",
            plain(name)
        ))),
    }
}

/// Shows items until the tap ends. A connection that is lost after it was made is made again, as long as
/// it takes: a tap outlives the restart that one wants to watch.
async fn follow(
    client: &Client,
    side: Side,
    args: &TapArgs,
    out: &mut impl Write,
    seen: &mut Seen,
) -> CommandResult {
    let (word, segment) = side.words();
    let sample = args.sample.to_string();
    let route = with_query(
        &path(&["v1", "tap", segment, &args.name]),
        &[
            ("key", args.key.as_deref()),
            ("type", args.kind.as_deref()),
            ("outcome", args.outcome.as_deref()),
            ("sample", Some(&sample)),
            ("full", args.full.then_some("true")),
        ],
    );
    let mut events = client.events(&route).await?;
    seen.began = true;
    complain(&format!(
        "tapping {word} {}, at most {sample} a second; Ctrl-C ends",
        plain(&args.name)
    ));
    loop {
        let lost = match show(&mut events, side, args, out, seen).await {
            Err(Failure::Unreachable(why)) => why,
            ended => return ended,
        };
        complain(&format!("weir: {lost}; trying again"));
        let mut wait = WAITS[0];
        events = loop {
            // Those who lost it together do not come back together.
            tokio::time::sleep(wait.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
            match client.events(&route).await {
                Err(Failure::Unreachable(_)) => wait = (wait * 2).min(WAITS[1]),
                begun => break begun?,
            }
        };
        complain("weir: connected again; what passed meanwhile is not shown");
    }
}

/// Shows the items of one connection until it ends.
async fn show(
    events: &mut Events<'_>,
    side: Side,
    args: &TapArgs,
    out: &mut impl Write,
    seen: &mut Seen,
) -> CommandResult {
    loop {
        let event = events.next().await?;
        let data: Value = read(&event.data)?;
        let text = match (event.name.as_str(), args.remote.json) {
            ("item", true) => format!("{}\n", event.data),
            ("item", false) => match side {
                Side::Source => block::event(&read::<EventStory>(&event.data)?, args.full),
                Side::Channel => block::delivery(&read::<DeliveryStory>(&event.data)?, args.full),
            },
            ("gap", true) => format!("{}\n", json!({ "gap": data["gap"] })),
            ("gap", false) => format!("… {} more\n", data["gap"]),
            _ => String::new(),
        };
        seen.shown += u64::from(event.name == "item");
        if data["seen"].is_string() {
            seen.figures = data.clone();
        }
        let written = out
            .write_all(crate::plain::lines(&text).as_bytes())
            .and_then(|()| out.flush());
        // A reader that has gone (`weir tap … | head`) is not an error.
        if written.is_err() {
            return Ok(true);
        }
        if event.name == "bye" {
            return match data["why"].as_str() {
                Some("time") => {
                    complain("weir: the time of this tap is over; start it again to see more");
                    Ok(true)
                }
                why => Err(Failure::Failed(format!(
                    "Weir ended the tap: {}",
                    plain(why.unwrap_or("no reason was given"))
                ))),
            };
        }
    }
}

impl Seen {
    /// Says how much was shown, and how much was not.
    fn report(&self) {
        let number = |name: &str| plain(self.figures[name].as_str().unwrap_or("0"));
        complain(&format!(
            "{} shown; left out: {} because of --sample, {} because they were read slowly",
            self.shown,
            number("skipped"),
            number("dropped")
        ));
    }
}

fn read<T: serde::de::DeserializeOwned>(data: &str) -> Result<T, Failure> {
    serde_json::from_str(data).map_err(|error| {
        Failure::Failed(format!(
            "the server is not Weir, or another version of it: {error}"
        ))
    })
}

#[cfg(test)]
mod tests;
