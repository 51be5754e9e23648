//! `weir channel drift` and `weir channel resend`: whether a target holds what it should, and sending a
//! single entity once more.

use std::fmt::Write;

use axum::http::Method;
use clap::Args;

use super::super::client::{Client, Remote, path, pretty, with_query};
use super::super::table::{plain, table};
use super::super::{CommandResult, Failure, job};
use crate::server::views::{DriftExample, DriftView, JobView};

/// Arguments of `weir channel drift`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DriftArgs {
    /// The channel, for example storefront.de
    channel: String,
    /// Compare about this many entities, chosen at random, instead of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Send again what differs
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Arguments of `weir channel resend`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResendArgs {
    /// The channel, for example storefront.de
    channel: String,
    /// The entity, as TYPE/KEY, for example product/4711
    entity: String,
    #[command(flatten)]
    remote: Remote,
}

/// Begins a drift check, waits for its end, and shows what it has found.
pub(in crate::cli) async fn check(args: DriftArgs, out: &mut String) -> CommandResult {
    let client = Client::new(&args.remote)?;
    let sample = args.sample.map(|sample| sample.to_string());
    let begin = with_query(
        &path(&["v1", "channels", &args.channel, "drift"]),
        &[
            ("sample", sample.as_deref()),
            ("repair", args.repair.then_some("true")),
        ],
    );
    let told = |job: &JobView| {
        let total = job.total.max(job.done);
        format!("{} of about {total} compared", job.done)
    };
    let begun = job::begin(&client, &begin).await?;
    let job = job::end(&client, begun, args.remote.json, told).await?;
    let Some(drift) = &job.drift else {
        let why = match &job.error {
            Some(why) => format!("the drift check failed: {}", plain(why)),
            None => "the drift check was cancelled".to_owned(),
        };
        let channel = plain(&args.channel);
        return Err(Failure::Failed(format!("channel {channel}: {why}")));
    };
    out.push_str(&match args.remote.json {
        true => pretty(&job),
        false => found(&args.channel, drift, args.repair),
    });
    Ok(drift.differences() == 0 && drift.unknown == 0)
}

/// What a drift check has found, for people.
fn found(channel: &str, drift: &DriftView, repair: bool) -> String {
    let (mut text, channel, compared) = (String::new(), plain(channel), drift.compared);
    let known = compared.saturating_sub(drift.unknown);
    let number = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let entities = number(known, "entity", "entities");
    // Writing into a string cannot fail.
    let _ = match drift.differences() {
        0 if known == 0 => writeln!(text, "{channel}: nothing could be compared"),
        0 => writeln!(text, "{channel}: no difference in {entities}"),
        count => writeln!(
            text,
            "{channel}: {} in {entities}: {} missing, {} extra, {} older, {} different",
            number(count, "difference", "differences"),
            drift.missing,
            drift.extra,
            drift.older,
            drift.different
        ),
    };
    if drift.owed > 0 {
        let _ = writeln!(
            text,
            "{} not compared, because they are still owed, or refused",
            drift.owed
        );
    }
    if drift.unknown > 0 {
        let why = drift.unknown_because.as_deref().unwrap_or("not stated");
        let _ = writeln!(
            text,
            "{} of which it could not be found out what the target holds; the reason of the last: {}",
            drift.unknown,
            plain(why)
        );
    }
    if drift.sample.is_none() && drift.extras != "looked for" {
        let _ = writeln!(
            text,
            "keys that no entity has were not looked for: {}",
            plain(&drift.extras)
        );
    }
    let row = |example: &DriftExample| {
        let mut at: Vec<String> = example.at.iter().map(|at| plain(at)).collect();
        at.extend(
            example
                .sequence
                .map(|sequence| format!("sequence {sequence}")),
        );
        vec![example.kind.clone(), plain(&example.key), at.join(", ")]
    };
    if !drift.examples.is_empty() {
        let rows: Vec<_> = drift.examples.iter().map(row).collect();
        text.push_str(&table(&["DIFFERENCE", "KEY", "WHERE"], &rows));
    }
    if drift.repaired > 0 {
        let _ = writeln!(text, "{} are sent again", drift.repaired);
    } else if drift.differences() > 0 && !repair {
        let _ = writeln!(
            text,
            "to send what differs again: weir channel drift {channel} --repair"
        );
    }
    if drift.extra > 0 {
        text.push_str(
            "a repair deletes no key that Weir has never known; delete it at the target\n",
        );
    }
    text
}

/// Sends an entity once more.
pub(in crate::cli) async fn resend(args: ResendArgs, out: &mut String) -> CommandResult {
    let entity = args.entity.split_once('/');
    let named = entity.filter(|(entity_type, key)| !entity_type.is_empty() && !key.is_empty());
    let Some((entity_type, key)) = named else {
        return Err(Failure::Usage(format!(
            "`{}` is not TYPE/KEY, for example product/4711",
            plain(&args.entity)
        )));
    };
    let resend = with_query(
        &path(&["v1", "channels", &args.channel, "resend"]),
        &[("type", Some(entity_type)), ("key", Some(key))],
    );
    let answer = Client::new(&args.remote)?
        .json(Method::POST, &resend)
        .await?;
    out.push_str(&match args.remote.json {
        true => pretty(&answer),
        false => format!(
            "{}: {} is sent again\n",
            plain(&args.channel),
            plain(&args.entity)
        ),
    });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn what_a_check_has_found_says_what_to_do() {
        let example = |kind: &str, key: &str| DriftExample {
            kind: kind.into(),
            key: key.into(),
            ..DriftExample::default()
        };
        let drift = DriftView {
            compared: 1000,
            owed: 3,
            missing: 1,
            extra: 1,
            older: 1,
            extras: "looked for".into(),
            examples: vec![
                example("missing", "4711"),
                DriftExample {
                    at: vec!["/price".into()],
                    sequence: Some(7),
                    ..example("older", "4712")
                },
            ],
            ..DriftView::default()
        };
        expect![[r#"
            shop: 3 differences in 1000 entities: 1 missing, 1 extra, 1 older, 0 different
            3 not compared, because they are still owed, or refused
            DIFFERENCE  KEY   WHERE
            missing     4711
            older       4712  /price, sequence 7
            to send what differs again: weir channel drift shop --repair
            a repair deletes no key that Weir has never known; delete it at the target
        "#]]
        .assert_eq(&found("shop", &drift, false));
        let fine = DriftView {
            compared: 1,
            sample: Some(10),
            ..DriftView::default()
        };
        assert_eq!(
            found("shop", &fine, false),
            "shop: no difference in 1 entity\n"
        );
    }
}
