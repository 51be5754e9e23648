//! Channels that a running Weir knows and the checked configuration does not have: what they
//! delivered stays at their targets. A renamed row of a table with `for_each` looks like that too.
//!
//! The store is not opened: the Weir that runs on it has it locked, and opening it writes files.
//! Whoever runs on it is asked over HTTP instead.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Method;

use super::super::client::Client;
use super::super::{Failure, block_on};
use crate::app;
use crate::plan::{Complaint, Plan};
use crate::server::views::{ChannelView, ConfigView, List};

/// A Weir that is needed for a warning only is not waited for longer.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// A warning for each channel that leaves something at its target.
    pub warnings: Vec<Complaint>,
    /// Why it could not be found out, a sentence.
    pub not_checked: Option<String>,
}

/// Asks the Weir at `url`. If there is none: the one at the `usual` address or, without that, where the
/// plan says, if it uses the plan's store; without a store nothing can be left behind, and nobody is
/// asked.
pub fn look(
    plan: &Plan,
    url: Option<&str>,
    usual: Option<&str>,
    token: Option<&str>,
) -> LeftBehind {
    let usual = usual.filter(|address| !address.is_empty());
    if url.is_none() && !plan.store_path.exists() {
        return LeftBehind::default();
    }
    match block_on(known(plan, url, usual, token)) {
        Ok(channels) => LeftBehind {
            warnings: warnings(plan, &channels),
            not_checked: None,
        },
        Err(failure) => LeftBehind {
            warnings: Vec::new(),
            not_checked: Some(match failure {
                Failure::Unreachable(_) if url.is_none() && usual.is_none() => {
                    "Not checked: whether channels that have left the configuration leave something at their targets. Only a running Weir knows, and Weir does not run.".to_owned()
                }
                failure => format!(
                    "Not checked: whether channels that have left the configuration leave something at their targets: {failure}"
                ),
            }),
        },
    }
}

/// The channels that the running Weir knows.
async fn known(
    plan: &Plan,
    url: Option<&str>,
    usual: Option<&str>,
    token: Option<&str>,
) -> Result<Vec<ChannelView>, Failure> {
    let listening = listening(plan);
    let Some(address) = url.or(usual).or(listening.as_deref()) else {
        let why = "the port is chosen at the start; give the address of the running Weir with --url or WEIR_URL";
        return Err(Failure::Usage(why.to_owned()));
    };
    let client = Client::at(address, token)?.within(TIME_MAX);
    if url.is_none() {
        let config: ConfigView = client.get_ok(Method::GET, "/v1/config").await?.read()?;
        if real(Path::new(&config.store)) != real(&plan.store_path) {
            return Err(Failure::Failed(format!(
                "the Weir at {address} uses another store, {}; give the address of the right one with --url",
                config.store
            )));
        }
    }
    let channels: List<ChannelView> = client.list("/v1/channels", &[], usize::MAX).await?;
    Ok(channels.items)
}

/// The address at which a Weir with this plan answers; none if its port is not known.
fn listening(plan: &Plan) -> Option<String> {
    let address = plan.server.admin();
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let reached = SocketAddr::new(ip, address.port());
    let listen = match plan.server.admin_listen {
        Some(_) => plan.server.listen,
        None => reached,
    };
    let [_, admin] = plan.server.urls(listen, reached);
    (address.port() != 0).then_some(admin)
}

/// A path without links and from the root on, as far as it can be found out.
fn real(path: &Path) -> PathBuf {
    path.canonicalize()
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

fn warnings(plan: &Plan, channels: &[ChannelView]) -> Vec<Complaint> {
    let stays = |name: &str| {
        plan.channels.contains_key(name)
            || (plan.channels.values()).any(|channel| channel.options.was.as_deref() == Some(name))
    };
    let left = channels
        .iter()
        .filter(|channel| channel.holding > 0 && !stays(&channel.name));
    left.map(|channel| {
        let ChannelView { name, holding, .. } = channel;
        let what = format!(
            "the running Weir knows a channel {name:?}, which is not in this configuration; its target still \
             holds what was delivered of {holding} {}, which nothing updates or deletes then",
            if *holding == 1 { "entity" } else { "entities" }
        );
        let help = app::remedy_of_left(name, channel.state == "retired");
        plan.complaint(&format!("channels.{name}"), what, help)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ReadOptions, read};

    fn plan(text: &str) -> Plan {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).expect("written");
        let (plan, _) = read(&[file], &|_| None, ReadOptions { secrets: false })
            .unwrap_or_else(|complaints| panic!("{complaints:?}"));
        plan
    }

    fn channel(name: &str, holding: u64) -> ChannelView {
        ChannelView {
            name: name.to_owned(),
            holding,
            ..ChannelView::default()
        }
    }

    // A row `de` was renamed to `germany`: the pages of the old shop stayed for ever, and nothing said so.
    #[test]
    fn a_channel_that_leaves_something_behind_is_named_with_its_place_and_the_remedy() {
        let text = |was: &str| {
            format!(
                "config_version = 1\n[entities.product]\nfacets.base = {{ owner = \"erp\" }}\n[each.site.germany]\nurl = \"http://127.0.0.1:1/\"\n{was}\
                 [each.site.fr]\nurl = \"http://127.0.0.1:2/\"\n[channels.shop]\nfor_each = \"site\"\nentity = \"product\"\nfacets = [\"base\"]\n\
                 target = {{ kind = \"webhook\", url = \"{{site.url}}\" }}\n"
            )
        };
        let known = [
            channel("shop.de", 1_500_000),
            channel("shop.fr", 7),
            channel("empty", 0),
        ];
        let found = warnings(&plan(&text("")), &known);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].line, &*found[0].path), (8, "channels.shop.de"));
        for words in ["\"shop.de\"", "1500000 entities"] {
            assert!(found[0].what.contains(words), "{}", found[0].what);
        }
        let help = found[0].help.clone().unwrap_or_default();
        for words in ["`was`", "weir channel forget shop.de"] {
            assert!(help.contains(words), "{help}");
        }
        let renamed = plan(&text("was = \"de\"\n"));
        assert_eq!(warnings(&renamed, &known), []);
    }

    #[test]
    fn it_is_asked_where_it_listens_for_operators() {
        for (server, expected) in [
            ("", Some("http://127.0.0.1:7700")),
            ("listen = \"0.0.0.0:80\"", Some("http://127.0.0.1:80")),
            ("listen = \"[::]:80\"", Some("http://[::1]:80")),
            ("listen = \"127.0.0.1:0\"", None),
            (
                "listen = \"0.0.0.0:80\"\nadmin_listen = \"10.0.0.1:81\"",
                Some("http://10.0.0.1:81"),
            ),
        ] {
            let plan = plan(&format!(
                "config_version = 1\n[server]\n{server}\n[tokens.a]\nhash = \"sha256:{}\"\nroles = [\"read\"]\n",
                "ab".repeat(32)
            ));
            assert_eq!(listening(&plan).as_deref(), expected, "{server}");
        }
    }

    #[test]
    fn without_a_store_nothing_is_asked_and_with_one_it_is_said_that_nobody_answers() {
        let mut plan = plan("config_version = 1\n[server]\nlisten = \"127.0.0.1:0\"\n");
        // As in a first look at an example, with WEIR_URL set.
        let usual = Some("http://127.0.0.1:9");
        assert_eq!(look(&plan, None, usual, None), LeftBehind::default());
        let folder = tempfile::tempdir().expect("a folder");
        plan.store_path = folder.path().to_owned();
        let found = look(&plan, None, None, None);
        let why = found.not_checked.unwrap_or_default();
        assert!(
            why.starts_with("Not checked: ") && why.contains("--url"),
            "{why}"
        );
    }
}
