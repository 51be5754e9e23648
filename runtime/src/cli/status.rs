//! `weir status`: whether all is well, on one screen: what is wrong first, each with the command that helps,
//! then the channels and the sources, those that are in trouble first.
//!
//! The exit code is 0 if all is well, 1 if something is wrong, and 3 if no Weir answers.

mod trouble;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::trouble::{Grave, Trouble, seconds, troubles};
use super::client::{Client, Remote, pretty};
use super::moment::{ago, ago_or_dash};
use super::table::{fitted, or_dash, plain, screen_width, wrapped};
use super::{CommandResult, Failure, ended};
use crate::server::views::{ChannelView, ReloadView, SourceView, Time};

/// How often `--watch` looks.
const LOOK: Duration = Duration::from_secs(2);
/// The width of a screen that is none.
const WIDTH: usize = 100;
/// What is shown at most, so that it is one screen; other commands show all of them.
const TROUBLES_SHOWN: usize = 8;
const CHANNELS_SHOWN: usize = 20;
const SOURCES_SHOWN: usize = 10;
/// Clears a terminal from its first line on.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// Arguments of `weir status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Look again every two seconds until Ctrl-C; the exit code is that of the last look
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What Weir says of itself.
#[derive(Serialize)]
struct Look {
    /// Why it takes no events.
    not_ready: Vec<String>,
    /// What works, but not as its operator wants it.
    warnings: Vec<String>,
    configuration: Configuration,
    channels: Vec<ChannelView>,
    sources: Vec<SourceView>,
}

/// The configuration in use, without its values.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Configuration {
    files: Vec<String>,
    since: Time,
    last_reload: Option<ReloadView>,
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Status<'a> {
    well: bool,
    troubles: &'a [Trouble],
    #[serde(flatten)]
    look: &'a Look,
}

impl Look {
    async fn at(client: &Client) -> Result<Look, Failure> {
        let ready = client.ask(Method::GET, "/readyz").await?;
        let answer: Value = ready.read()?;
        let texts = |name: &str| -> Vec<String> {
            let texts = answer.get(name).and_then(Value::as_array);
            let texts = texts.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        let not_ready = match ready.status {
            StatusCode::OK => Vec::new(),
            StatusCode::SERVICE_UNAVAILABLE if !texts("reasons").is_empty() => texts("reasons"),
            _ => return Err(Failure::Failed(ready.problem())),
        };
        let configuration = client.get_ok(Method::GET, "/v1/config").await?.read()?;
        Ok(Look {
            not_ready,
            warnings: texts("warnings"),
            configuration,
            channels: client.list("/v1/channels", &[], usize::MAX).await?.items,
            sources: client.list("/v1/sources", &[], usize::MAX).await?.items,
        })
    }

    fn as_json(&self, troubles: &[Trouble]) -> Result<Value, Failure> {
        let status = Status {
            well: troubles.is_empty(),
            troubles,
            look: self,
        };
        let wrong = |error: serde_json::Error| Failure::Failed(error.to_string());
        serde_json::to_value(status).map_err(wrong)
    }

    /// Everything on one screen of this width.
    fn as_text(&self, url: &str, troubles: &[Trouble], width: usize) -> String {
        let mut text = self.head(url, troubles.len());
        for trouble in troubles.iter().take(TROUBLES_SHOWN) {
            text.push('\n');
            for (at, part) in wrapped(&plain(&trouble.text), width.saturating_sub(2))
                .iter()
                .enumerate()
            {
                let start = if at == 0 { trouble.grave.sign() } else { " " };
                text.push_str(&format!("{start} {part}\n"));
            }
            for command in &trouble.help {
                text.push_str(&format!("    {}\n", plain(command)));
            }
        }
        let more = troubles.len().saturating_sub(TROUBLES_SHOWN);
        if more > 0 {
            text.push_str(&format!("\nand {more} more: weir status --json\n"));
        }
        let channels = self.channels(width);
        let sources = self.sources(width);
        for table in [channels, sources].into_iter().filter(|it| !it.is_empty()) {
            text.push('\n');
            text.push_str(&table);
        }
        text
    }

    /// The state in two lines.
    fn head(&self, url: &str, troubles: usize) -> String {
        let started = self.sources.iter().map(|source| source.since);
        let started = started.chain(self.channels.iter().map(|channel| channel.flow.since));
        let started = started.filter(|since| *since > Time::default()).min();
        let since = started.map(|since| format!(", started {}", ago(since)));
        let verdict = match (self.not_ready.is_empty(), troubles) {
            (true, 0) => "All is well.".to_owned(),
            (true, 1) => "It takes events. 1 thing needs somebody:".to_owned(),
            (true, count) => format!("It takes events. {count} things need somebody:"),
            (false, _) => "It takes no events:".to_owned(),
        };
        let since = since.unwrap_or_default();
        format!("Weir at {}{since}.\n{verdict}\n", plain(url))
    }

    fn channels(&self, width: usize) -> String {
        let live = self.channels.iter().filter(|it| it.state != "retired");
        let mut channels: Vec<(Option<Grave>, &ChannelView)> = live
            .map(|channel| (trouble::of_channel(channel), channel))
            .collect();
        // Those in trouble first, then those that owe most.
        channels.sort_by(|(a_grave, a), (b_grave, b)| {
            (b_grave.cmp(a_grave))
                .then(b.owed.total.cmp(&a.owed.total))
                .then(a.name.cmp(&b.name))
        });
        let row = |(_, channel): &(Option<Grave>, &ChannelView)| {
            let late = trouble::is_late(channel) && channel.state == "flowing";
            vec![
                channel.name.clone(),
                if late { "late" } else { channel.state.as_str() }.to_owned(),
                channel.owed.total.to_string(),
                seconds(channel.freshness_seconds),
                or_dash(channel.freshness_objective_seconds.map(seconds)),
                channel.parked.to_string(),
                channel.refused.to_string(),
                channel.held.to_string(),
            ]
        };
        let header = [
            "CHANNEL",
            "STATE",
            "OWED",
            "FRESHNESS",
            "OBJECTIVE",
            "PARKED",
            "REFUSED",
            "HELD",
        ];
        let rows: Vec<_> = channels.iter().take(CHANNELS_SHOWN).map(row).collect();
        shown(&header, &rows, channels.len(), "weir channel list", width)
    }

    fn sources(&self, width: usize) -> String {
        let mut sources: Vec<&SourceView> = self.sources.iter().collect();
        sources.sort_by_key(|it| (!it.silent, it.quarantined == 0, it.name.clone()));
        let row = |source: &&SourceView| {
            let state = if source.silent { "silent" } else { "-" };
            vec![
                source.name.clone(),
                state.to_owned(),
                ago_or_dash(source.last_event),
                or_dash(source.events_per_second.map(|rate| format!("{rate:.1}"))),
                source.quarantined.to_string(),
            ]
        };
        let header = ["SOURCE", "STATE", "LAST EVENT", "PER SECOND", "QUARANTINED"];
        let rows: Vec<_> = sources.iter().take(SOURCES_SHOWN).map(row).collect();
        shown(&header, &rows, sources.len(), "weir source list", width)
    }
}

/// A table of some rows, and where all of them are; nothing if there are none.
fn shown(
    header: &[&str],
    rows: &[Vec<String>],
    total: usize,
    command: &str,
    width: usize,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut text = fitted(header, rows, Some(width));
    if total > rows.len() {
        text.push_str(&format!("and {} more: {command}\n", total - rows.len()));
    }
    text
}

pub(super) async fn run(args: StatusArgs, out: &mut String) -> CommandResult {
    let (client, json) = (Client::new(&args.remote)?, args.remote.json);
    if args.watch {
        return watch(&client, json).await;
    }
    let look = Look::at(&client).await.map_err(nobody)?;
    let troubles = troubles(&look);
    out.push_str(&match json {
        true => pretty(&look.as_json(&troubles)?),
        false => look.as_text(client.base(), &troubles, screen_width().unwrap_or(WIDTH)),
    });
    Ok(troubles.is_empty())
}

/// That nobody is there is what this command has found out, so it comes first.
fn nobody(failure: Failure) -> Failure {
    match failure {
        Failure::Unreachable(why) => Failure::Unreachable(format!("no Weir answers: {why}")),
        other => other,
    }
}

/// Shows the status again and again until somebody ends it or reads no more. With `json`, a look is a line.
async fn watch(client: &Client, json: bool) -> CommandResult {
    let mut screen = std::io::stdout();
    let clears = screen.is_terminal() && !json;
    let mut ended = Box::pin(ended());
    loop {
        let look = tokio::select! {
            () = &mut ended => return Ok(true),
            look = Look::at(client) => look.map_err(nobody),
        };
        let (text, verdict) = match look {
            Ok(look) => {
                let troubles = troubles(&look);
                let text = match json {
                    true => format!("{}\n", look.as_json(&troubles)?),
                    false => {
                        let width = screen_width().unwrap_or(WIDTH);
                        look.as_text(client.base(), &troubles, width)
                    }
                };
                (text, Ok(troubles.is_empty()))
            }
            // It may be restarting.
            Err(Failure::Unreachable(why)) => {
                let text = match json {
                    true => format!("{}\n", serde_json::json!({ "well": false, "error": why })),
                    false => format!("{}\n", plain(&why)),
                };
                (text, Err(Failure::Unreachable(why)))
            }
            Err(failure) => return Err(failure),
        };
        let text = crate::plain::lines(&text);
        let start = if clears { CLEAR } else { "" };
        let after = if clears || json { "" } else { "\n" };
        let written = write!(screen, "{start}{text}{after}").and_then(|()| screen.flush());
        if written.is_err() {
            return verdict;
        }
        tokio::select! {
            () = &mut ended => return verdict,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests;
