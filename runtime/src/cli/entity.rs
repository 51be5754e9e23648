//! `weir entity`: the entities of a type, in the order of their keys.

use clap::{Args, Subcommand};

use super::CommandResult;
use super::client::{Client, Remote, path, pretty};
use super::table::plain;
use crate::server::views::{EntityRow, List};

/// The operations on entities.
#[derive(Debug, Subcommand)]
pub(super) enum EntityCommand {
    /// List the entities of a type, a line each as `weir show` takes it, in the order of their keys
    List(ListArgs),
}

/// Arguments of `weir entity list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The type, for example product
    #[arg(value_name = "TYPE")]
    entity_type: String,
    /// Only keys that begin with this
    #[arg(long)]
    prefix: Option<String>,
    /// Only those that this channel still owes
    #[arg(long, value_name = "CHANNEL")]
    owed: Option<String>,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    remote: Remote,
}

/// A part of a list in the order of keys.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// At most N
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub(super) limit: usize,
    /// Only keys after this one: the last one of the page before
    #[arg(long, value_name = "KEY")]
    pub(super) after: Option<String>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("it must be a number, at least 1".to_owned()),
    }
}

/// How to get the next page.
pub(super) fn next_page(next: Option<&String>) -> String {
    next.map_or_else(String::new, |key| {
        let key = plain(key).replace('\'', "'\\''");
        format!("there are more; the next page: --after '{key}'\n")
    })
}

pub(super) async fn run(command: EntityCommand, out: &mut String) -> CommandResult {
    let EntityCommand::List(args) = command;
    let filters = [
        ("prefix", args.prefix.as_deref()),
        ("owed", args.owed.as_deref()),
    ];
    let path = path(&["v1", "entities", &args.entity_type]);
    let (after, limit) = (args.page.after.as_deref(), args.page.limit);
    let client = Client::new(&args.remote)?;
    let entities: List<EntityRow> = client.list_after(&path, &filters, after, limit).await?;
    if args.remote.json {
        out.push_str(&pretty(&entities));
        return Ok(true);
    }
    for EntityRow { entity_type, key } in &entities.items {
        out.push_str(&plain(&format!("{entity_type}/{key}")));
        out.push('\n');
    }
    out.push_str(&next_page(entities.next.as_ref()));
    Ok(true)
}
