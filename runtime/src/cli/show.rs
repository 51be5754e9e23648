//! `weir show`: one entity, and with a channel the payload that it would get.

use axum::http::Method;
use clap::Args;
use serde_json::json;

use super::client::{Client, Remote, path, pretty, with_query};
use super::moment::{ago, ago_or_dash, clock};
use super::table::{or_dash, plain, short, table};
use super::{CommandResult, Failure};
use crate::server::views::{EntityView, PreviewView, StandingView, StepKind, StepView};

/// Arguments of `weir show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The entity, for example product/4711; everything after the first slash is the key
    #[arg(value_name = "TYPE/KEY")]
    entity: String,
    /// Show its state on this channel only, and the payload that the channel would get now
    #[arg(long)]
    channel: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: ShowArgs, out: &mut String) -> CommandResult {
    let Some((entity_type, key)) = args
        .entity
        .split_once('/')
        .filter(|(entity_type, key)| !entity_type.is_empty() && !key.is_empty())
    else {
        return Err(Failure::Usage(format!(
            "`{}` is not TYPE/KEY, for example product/4711",
            plain(&args.entity)
        )));
    };
    let client = Client::new(&args.remote)?;
    let answer = client
        .get_ok(Method::GET, &path(&["v1", "entities", entity_type, key]))
        .await?;
    let mut entity: EntityView = answer.read()?;
    let preview: Option<PreviewView> = match &args.channel {
        None => None,
        Some(channel) => {
            entity
                .channels
                .retain(|standing| standing.channel == *channel);
            let preview = with_query(
                &path(&["v1", "channels", channel, "preview"]),
                &[("key", Some(key))],
            );
            Some(client.get_ok(Method::GET, &preview).await?.read()?)
        }
    };
    if args.remote.json {
        out.push_str(&match &preview {
            None => pretty(&entity),
            Some(preview) => pretty(&json!({ "entity": entity, "preview": preview })),
        });
        return Ok(true);
    }
    facets(&entity, out);
    standings(&entity.channels, out);
    way(&entity.way, args.channel.as_deref(), out);
    if let Some(preview) = &preview {
        previewed(preview, out);
    }
    Ok(true)
}

fn facets(entity: &EntityView, out: &mut String) {
    let rows: Vec<_> = entity
        .facets
        .iter()
        .map(|facet| {
            let value = facet
                .value
                .as_ref()
                .map_or("(deleted)", |value| value.get());
            let version = or_dash(facet.version);
            vec![
                facet.name.clone(),
                facet.owner.clone(),
                version,
                facet.sequence.to_string(),
                ago(facet.time),
                short(value),
            ]
        })
        .collect();
    out.push_str(&plain(&format!("{}/{}", entity.entity_type, entity.key)));
    out.push_str("\n\n");
    out.push_str(&table(
        &["FACET", "OWNER", "VERSION", "SEQUENCE", "TIME", "VALUE"],
        &rows,
    ));
}

fn standings(standings: &[StandingView], out: &mut String) {
    let rows: Vec<_> = standings
        .iter()
        .map(|standing| {
            let state = match &standing.by {
                Some(by) if standing.state == "waiting" => format!("waiting for {by}"),
                Some(by) => format!("{} by {by}", standing.state),
                None => standing.state.clone(),
            };
            let note = match (&standing.last_error, standing.attempts) {
                (Some(error), Some(attempts)) => format!("{error} (attempts: {attempts})"),
                (Some(error), None) => error.clone(),
                (None, _) => {
                    let parts = [standing.plugin.as_deref(), standing.detail.as_deref()];
                    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
                }
            };
            vec![
                standing.channel.clone(),
                state,
                ago_or_dash(standing.since),
                or_dash(standing.sequence),
                note,
            ]
        })
        .collect();
    out.push('\n');
    out.push_str(&table(
        &["CHANNEL", "STATE", "SINCE", "SEQUENCE", "NOTE"],
        &rows,
    ));
}

/// What has just happened to it; with a channel, on that channel only, and what sources sent. Here milliseconds
/// count, so times are those of a clock.
fn way(steps: &[StepView], channel: Option<&str>, out: &mut String) {
    let shown = |step: &&StepView| match (channel, &step.channel) {
        (Some(wanted), Some(of)) => wanted == of,
        _ => true,
    };
    let rows: Vec<_> = (steps.iter().filter(shown))
        .map(|step| {
            let what = match (step.step, &step.result) {
                (StepKind::Accepted, _) => "accepted",
                (StepKind::Sent, _) => "sent",
                (StepKind::Ended, result) => result.as_deref().unwrap_or("ended"),
            };
            let by = step.source.as_ref().or(step.channel.as_ref());
            let times = [("met", step.met), ("rendered", step.rendered)];
            let times = times
                .into_iter()
                .filter_map(|(what, time)| Some(format!("{what} {}", clock(time?))));
            vec![
                clock(step.time),
                what.to_owned(),
                or_dash(by),
                step.sequence.to_string(),
                or_dash(step.trace.as_ref()),
                times.collect::<Vec<_>>().join(", "),
            ]
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(
            &["TIME", "WHAT", "BY", "SEQUENCE", "TRACE", "NOTE"],
            &rows,
        ));
    }
}

fn previewed(preview: &PreviewView, out: &mut String) {
    out.push_str(&format!(
        "\npreview: {} on {}\n",
        plain(&preview.result),
        plain(&preview.channel)
    ));
    for pattern in &preview.missing {
        out.push_str(&format!("  needs {}: missing\n", plain(pattern)));
    }
    for filter in &preview.filters {
        out.push_str(&plain(&format!("  {} {}", filter.plugin, filter.verdict)));
        out.push('\n');
    }
    if let Some(error) = &preview.error {
        out.push_str(&format!("  {}\n", plain(error)));
    }
    let held = match (preview.same, preview.rendering.is_some()) {
        (Some(true), true) => "  the target holds just this\n",
        (Some(false), true) => "  the target holds something else\n",
        (Some(true), false) => "  the target does not hold it\n",
        (Some(false), false) => "  the target still holds it\n",
        (None, _) => "",
    };
    out.push_str(held);
    if let Some(rendering) = &preview.rendering {
        let body = rendering
            .body
            .as_deref()
            .or(rendering.body_base64.as_deref())
            .unwrap_or_default();
        out.push_str(&plain(&format!(
            "  {} as {}",
            rendering.content_type, rendering.key
        )));
        // A body may have lines; any other control character is escaped for the terminal.
        let lines: Vec<String> = body.lines().map(plain).collect();
        out.push_str(&format!("\n\n{}\n", lines.join("\n")));
    }
}
