//! `weir plugin list`: the plugins of a running Weir, the version in use, its last swap, and the
//! last refusal.

use clap::Args;

use super::super::CommandResult;
use super::super::client::{Client, Remote, pretty};
use super::super::moment::ago;
use super::super::table::{plain, table};
use crate::plugin::version;
use crate::server::views::{List, PluginView, SwapView};

/// Users of a plugin that the table names; a plugin of a hundred channels has more.
const USERS_SHOWN: usize = 3;

/// Arguments of `weir plugin list`.
#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    remote: Remote,
}

pub(super) async fn run(args: &ListArgs, out: &mut String) -> CommandResult {
    let plugins: List<PluginView> = Client::new(&args.remote)?
        .list("/v1/plugins", &[], usize::MAX)
        .await?;
    out.push_str(&if args.remote.json {
        pretty(&plugins)
    } else {
        to_text(&plugins.items)
    });
    Ok(true)
}

/// A line for each plugin, then a paragraph for each whose last rollout was refused.
fn to_text(plugins: &[PluginView]) -> String {
    let row = |plugin: &PluginView| {
        let swap = plugin.last_swap.clone().unwrap_or_default();
        vec![
            plugin.name.clone(),
            version(&plugin.sha256).to_owned(),
            plugin.roles.join(", "),
            users(&plugin.used_by),
            ago(plugin.since),
            if plugin.last_swap.is_some() {
                format!("{:.0} ms", swap.steps.total_ms)
            } else {
                "-".to_owned()
            },
            swap.tried,
        ]
    };
    let header = [
        "PLUGIN",
        "VERSION",
        "KIND",
        "USED BY",
        "SINCE",
        "SWAP TIME",
        "CHECKS",
    ];
    let mut text = table(&header, &plugins.iter().map(row).collect::<Vec<_>>());
    for (plugin, refused) in plugins
        .iter()
        .filter_map(|plugin| Some((plugin, plugin.last_refused.as_ref()?)))
    {
        text.push('\n');
        text.push_str(&refusal(plugin, refused));
    }
    for plugin in plugins {
        let maps_less = plugin
            .last_swap
            .as_ref()
            .and_then(|swap| swap.detail.as_deref());
        text.extend(maps_less.map(|how| format!("\n{}: {}\n", plain(&plugin.name), plain(how))));
        text.extend(conduct(plugin).map(|line| format!("\n{line}\n")));
    }
    text
}

/// What a plugin does that costs it, or others, something.
fn conduct(plugin: &PluginView) -> impl Iterator<Item = String> {
    let (name, differing) = (&plugin.name, plugin.differing);
    let slow = match &*plugin.standing {
        "heavy" => Some(format!(
            "{name}: a call took more than 50 ms of processor time; it runs at a lower priority for 10 s"
        )),
        "hanging" => Some(format!(
            "{name}: a call broke its time limit; it runs at a still lower priority for a minute"
        )),
        _ => None,
    };
    let remembers = (differing > 0).then(|| {
        format!(
            "{name}: {differing} sampled calls returned something else in a new instance, so it remembers earlier calls; correct it, or write strict = true"
        )
    });
    slow.into_iter().chain(remembers)
}

fn refusal(plugin: &PluginView, refused: &SwapView) -> String {
    let refused_version = if refused.sha256.is_empty() {
        "a version".to_owned()
    } else {
        version(&refused.sha256).to_owned()
    };
    let again = if refused.sha256 == plugin.sha256 {
        " with other settings or another place"
    } else {
        ""
    };
    let SwapView {
        time,
        detail,
        tried,
        ..
    } = refused;
    let why = plain(detail.as_deref().unwrap_or("for an unknown reason"));
    format!(
        "{}: {refused_version}{again} was refused at {time}: {why}\n  checks until then: {}; {} stays in use\n",
        plain(&plugin.name),
        plain(tried),
        version(&plugin.sha256)
    )
}

fn users(used_by: &[String]) -> String {
    match used_by.len() {
        0 => "nothing".to_owned(),
        count if count <= USERS_SHOWN => used_by.join(", "),
        count => format!(
            "{} and {} more",
            used_by[..USERS_SHOWN - 1].join(", "),
            count + 1 - USERS_SHOWN
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::views::StepsView;

    #[test]
    fn an_author_sees_the_version_in_use_and_why_the_last_one_was_refused() {
        let steps = StepsView {
            total_ms: 181.4,
            ..StepsView::default()
        };
        let swap = SwapView {
            result: "swapped".into(),
            tried: "compiled, configured for 1 use".into(),
            steps,
            ..SwapView::default()
        };
        let refused = SwapView {
            sha256: "cd".repeat(32),
            result: "refused".into(),
            detail: Some("erp.wasm: the file is not\x1b[2J Wasm".into()),
            tried: "nothing".into(),
            ..SwapView::default()
        };
        let plugin = PluginView {
            name: "erp".into(),
            sha256: "ab".repeat(32),
            roles: vec!["mapper".into()],
            used_by: ["source erp", "source erp-2", "source erp-3", "source erp-4"]
                .map(str::to_owned)
                .to_vec(),
            last_swap: Some(swap),
            last_refused: Some(refused),
            ..PluginView::default()
        };
        let text = to_text(&[plugin]);
        for words in [
            "erp     abababababab  mapper  source erp, source erp-2 and 2 more",
            "181 ms     compiled, configured for 1 use\n",
            "\nerp: cdcdcdcdcdcd was refused at 1970-01-01T00:00:00.000Z: erp.wasm: the file is not\\u001b[2J Wasm\n",
            "  checks until then: nothing; abababababab stays in use\n",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
    }
}
