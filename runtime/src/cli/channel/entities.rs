//! `weir channel entities`: the entities of a channel that are in one state, and why.

use axum::http::Method;
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::super::CommandResult;
use super::super::client::{Client, Remote, path, pretty, with_query};
use super::super::entity::{Page, next_page};
use super::super::moment::ago_or_dash;
use super::super::table::{plain, table};
use crate::server::STATES;
use crate::server::views::{ChannelEntitiesView, ChannelEntityView, List, ReasonView, ReasonsView};

/// Arguments of `weir channel entities`.
#[derive(Debug, Args)]
pub(in crate::cli) struct EntitiesArgs {
    /// The channel, for example storefront.de
    channel: String,
    /// The state
    #[arg(long, value_parser = PossibleValuesParser::new(STATES))]
    state: String,
    /// Only keys that begin with this
    #[arg(long)]
    prefix: Option<String>,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    remote: Remote,
}

pub(in crate::cli) async fn run(args: EntitiesArgs, out: &mut String) -> CommandResult {
    let client = Client::new(&args.remote)?;
    let filters = [
        ("state", Some(args.state.as_str())),
        ("prefix", args.prefix.as_deref()),
    ];
    let path = path(&["v1", "channels", &args.channel, "entities"]);
    let counting = [
        &filters[..],
        &[("reasons", Some("true")), ("limit", Some("1"))],
    ]
    .concat();
    let counted = client
        .get_ok(Method::GET, &with_query(&path, &counting))
        .await?;
    let counted: ChannelEntitiesView = counted.read()?;
    let reasons = counted.reasons.unwrap_or_default();
    let (after, limit) = (args.page.after.as_deref(), args.page.limit);
    let List { items, next } = client.list_after(&path, &filters, after, limit).await?;
    let found = ChannelEntitiesView {
        items,
        next,
        reasons: Some(reasons.clone()),
    };
    out.push_str(&match args.remote.json {
        true => pretty(&found),
        false => shown(&args, &found, &reasons),
    });
    Ok(true)
}

fn shown(args: &EntitiesArgs, found: &ChannelEntitiesView, reasons: &ReasonsView) -> String {
    let (channel, state) = (plain(&args.channel), &args.state);
    let count = match reasons.total {
        0 => return format!("{channel}: no entity is {state}\n"),
        1 => "1 entity is".to_owned(),
        count => format!("{count} entities are"),
    };
    let mut text = format!("{channel}: {count} {state}\n");
    if reasons.counts.iter().any(|it| it.reason.is_some()) {
        let row = |it: &ReasonView| {
            let reason = it.reason.clone();
            vec![
                it.count.to_string(),
                reason.unwrap_or_else(|| "not known any more".to_owned()),
            ]
        };
        let mut rows: Vec<_> = reasons.counts.iter().map(row).collect();
        let others = vec![reasons.others.to_string(), "other reasons".to_owned()];
        rows.extend((reasons.others > 0).then_some(others));
        text.push('\n');
        text.push_str(&table(&["ENTITIES", "REASON"], &rows));
    }
    if !found.items.is_empty() {
        text.push('\n');
        text.push_str(&entities(&found.items));
    }
    text + &next_page(found.next.as_ref())
}

/// A row for each entity; attempts only where there are some.
fn entities(items: &[ChannelEntityView]) -> String {
    let tried = items.iter().any(|it| it.attempts.is_some());
    let row = |it: &ChannelEntityView| {
        let mut row = vec![
            format!("{}/{}", it.entity_type, it.key),
            ago_or_dash(it.since),
        ];
        if tried {
            row.push(it.attempts.unwrap_or(0).to_string());
            row.push(ago_or_dash(it.next_attempt));
        }
        row.push(it.reason.clone().unwrap_or_default());
        row
    };
    let mut header = vec!["ENTITY", "SINCE"];
    header.extend(tried.then_some(["ATTEMPTS", "NEXT"]).into_iter().flatten());
    header.push("REASON");
    table(&header, &items.iter().map(row).collect::<Vec<_>>())
}
