//! `weir refused`: entities that a target refused (dead letters).

use clap::{Args, Subcommand};

use super::client::{Client, Remote, path, pretty, with_query};
use super::moment::ago;
use super::table::{plain, table};
use super::{CommandResult, Failure, job};
use crate::server::views::{List, RedriveView, RefusedView};

/// The operations on refused entities.
#[derive(Debug, Subcommand)]
pub(super) enum RefusedCommand {
    /// List the refused entities of a channel
    List {
        /// The channel
        channel: String,
        /// Only those refused for this reason
        #[arg(long)]
        code: Option<String>,
        /// At most N
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show why one entity was refused
    Show {
        /// The channel
        channel: String,
        /// The entity, as the list shows it (product/4711), or its key
        key: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Retry refused entities
    Redrive {
        #[command(flatten)]
        which: Which,
        /// At most N
        #[arg(long, value_name = "N", conflicts_with = "key", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
        /// Wait until the channel has tried them, and list those that are refused again
        #[arg(long)]
        wait: bool,
    },
    /// Drop refused entities: they count as delivered until they change
    Drop(Which),
}

/// A selection of refused entities.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["key", "code", "all"]))]
pub(super) struct Which {
    /// The channel
    channel: String,
    /// This one, as the list shows it (product/4711), or by its key
    #[arg(long)]
    key: Option<String>,
    /// Those refused for this reason
    #[arg(long)]
    code: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["key", "code"])]
    all: bool,
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(command: RefusedCommand, out: &mut String) -> CommandResult {
    match command {
        RefusedCommand::List {
            channel,
            code,
            limit,
            remote,
        } => {
            let refused = fetch(&remote, &channel, &[("code", code.as_deref())], limit).await?;
            if remote.json {
                out.push_str(&pretty(&refused));
                return Ok(true);
            }
            let row = |refused: &RefusedView| {
                let entity = format!("{}/{}", refused.entity_type, refused.key);
                vec![
                    entity,
                    ago(refused.time),
                    refused.sequence.to_string(),
                    refused.code.clone(),
                    refused.detail.clone(),
                ]
            };
            let rows: Vec<_> = refused.items.iter().map(row).collect();
            out.push_str(&table(
                &["ENTITY", "SINCE", "SEQUENCE", "CODE", "DETAIL"],
                &rows,
            ));
            if refused.next.is_some() {
                out.push_str("there are more; raise --limit to see them\n");
            }
            Ok(true)
        }
        RefusedCommand::Show {
            channel,
            key,
            remote,
        } => {
            let Some(refused) = find(&remote, &channel, &key).await? else {
                return Err(Failure::Failed(plain(&format!(
                    "`{key}` is not refused on `{channel}`"
                ))));
            };
            out.push_str(&if remote.json {
                pretty(&refused)
            } else {
                described(&refused)
            });
            Ok(true)
        }
        RefusedCommand::Redrive { which, limit, wait } => redrive(&which, limit, wait, out).await,
        RefusedCommand::Drop(which) => {
            let path = which.path("", &[]).await?;
            job::dropped(&which.remote, &path, which.all, out).await
        }
    }
}

impl Which {
    /// A route of these entities, with further parameters.
    async fn path(&self, route: &str, more: &[(&str, Option<&str>)]) -> Result<String, Failure> {
        let key = match &self.key {
            Some(name) => {
                let found = find(&self.remote, &self.channel, name).await?;
                Some(found.map_or_else(|| name.clone(), |refused| refused.key))
            }
            None => None,
        };
        let filters = [
            ("key", key.as_deref()),
            ("code", self.code.as_deref()),
            ("all", self.all.then_some("true")),
        ];
        let path = path(&["v1", "channels", &self.channel, "refused"]) + route;
        Ok(with_query(&path, &[&filters[..], more].concat()))
    }
}

/// Redrives as a job, which goes on by itself.
async fn redrive(which: &Which, limit: Option<u64>, wait: bool, out: &mut String) -> CommandResult {
    let (client, json) = (Client::new(&which.remote)?, which.remote.json);
    let limit = limit.map(|limit| limit.to_string());
    let as_job = [("job", Some("true")), ("limit", limit.as_deref())];
    let begun = job::begin(&client, &which.path("/redrive", &as_job).await?).await?;
    let total = begun.total;
    if !wait {
        out.push_str(&match json {
            true => pretty(&begun),
            false => format!("{total} queued for a retry\n"),
        });
        return Ok(total > 0 || which.all);
    }
    let redrive = job::redriven(&client, begun, json).await?;
    let RedriveView {
        redriven, failed, ..
    } = redrive;
    out.push_str(&match json {
        true => pretty(&redrive),
        false if failed == 0 => format!("{redriven} redriven\n"),
        false => {
            let again = format!("{redriven} redriven; {failed} refused again\n");
            again + &job::failures(&redrive)
        }
    });
    Ok(failed == 0 && (redriven > 0 || which.all))
}

async fn fetch(
    remote: &Remote,
    channel: &str,
    filters: &[(&str, Option<&str>)],
    limit: usize,
) -> Result<List<RefusedView>, Failure> {
    Client::new(remote)?
        .list(
            &path(&["v1", "channels", channel, "refused"]),
            filters,
            limit,
        )
        .await
}

/// The refused entity of this name: a key, or a type and a key. A key may have slashes in it, so the
/// name is first looked up as a whole.
async fn find(remote: &Remote, channel: &str, name: &str) -> Result<Option<RefusedView>, Failure> {
    let whole = fetch(remote, channel, &[("key", Some(name))], 1).await?;
    if let Some(refused) = whole.items.into_iter().next() {
        return Ok(Some(refused));
    }
    let Some((entity_type, key)) = name.split_once('/') else {
        return Ok(None);
    };
    let found = fetch(remote, channel, &[("key", Some(key))], 1).await?;
    let mut found = found.items.into_iter();
    Ok(found.find(|refused| refused.entity_type == entity_type))
}

fn described(refused: &RefusedView) -> String {
    let line = |name: &str, value: &str| format!("{name:<9} {}\n", plain(value));
    line(
        "entity",
        &format!("{}/{}", refused.entity_type, refused.key),
    ) + &line(
        "since",
        &format!("{} ({})", refused.time, ago(refused.time)),
    ) + &line("sequence", &refused.sequence.to_string())
        + &line("code", &refused.code)
        + &line("detail", &refused.detail)
}
