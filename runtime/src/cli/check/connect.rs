//! `weir check --connect`: tries whether deliveries could be made to each target, notices to each receiver of
//! them, and spans exported, and sends nothing.

use super::Loaded;
use crate::app;
use crate::app::exporter::Collector;
use crate::notify::Receiver;
use crate::plan::Plan;
use crate::targets::Opening;

/// What a target that cannot be reached leads to.
const WAIT: &str = "deliveries to it would wait until this is mended";
/// What a receiver of notices that cannot be reached leads to.
const NOBODY: &str = "nobody would be told by it until this is mended";
/// What a collector of traces that cannot be reached leads to.
const LOST: &str = "spans would be lost until this is mended";

/// Returns a complaint about each target, each receiver of notices, and the collector of traces, that cannot be used now, and warnings
/// about those that can. All are tried at the same time.
pub(in crate::cli) fn targets(plan: &Plan) -> Loaded {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let what = format!("the targets cannot be tried: {error}");
            return Loaded {
                complaints: vec![plan.complaint("targets", what, String::new())],
                ..Loaded::default()
            };
        }
    };
    let found = runtime.block_on(async {
        let mut tried = tokio::task::JoinSet::new();
        let folder = plan.store_path.join(app::TARGETS);
        for (name, options) in plan.targets.clone() {
            let opening = Opening::empty(folder.join(&*name));
            tried.spawn(async move {
                let found = match options.kind.open(&opening) {
                    Ok(target) => target.check().await,
                    Err(unusable) => Err(unusable.to_string()),
                };
                (format!("targets.{name}"), WAIT, found)
            });
        }
        for (index, options) in plan.notify.iter().cloned().enumerate() {
            tried.spawn(async move {
                let found = match Receiver::open(&options) {
                    Ok(receiver) => receiver.reach().await,
                    Err(unusable) => Err(unusable.to_string()),
                };
                (format!("notify[{index}]"), NOBODY, found)
            });
        }
        if let Some(telemetry) = plan.telemetry.clone() {
            tried.spawn(async move {
                let found = match Collector::open(&telemetry) {
                    Ok(collector) => collector.reach().await,
                    Err(unusable) => Err(unusable),
                };
                ("telemetry".to_owned(), LOST, found)
            });
        }
        let mut found = tried.join_all().await;
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let mut loaded = Loaded::default();
        for (path, help, found) in found {
            match found {
                Ok(warnings) => loaded.warnings.extend(
                    warnings
                        .into_iter()
                        .map(|warning| plan.complaint(&path, warning, None)),
                ),
                Err(wrong) => {
                    let wrong = plan.complaint(&path, wrong, help.to_owned());
                    loaded.complaints.push(wrong);
                }
            }
        }
        loaded
    });
    // A name that is still being resolved would be waited for.
    runtime.shutdown_background();
    found
}

#[cfg(test)]
mod tests {
    use crate::plan::{ReadOptions, read, render};

    use super::*;

    // A typing error in a host name showed itself at the first delivery, in the night.
    #[test]
    fn each_target_that_cannot_be_reached_is_a_complaint_with_its_place() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port that is free again");
        let open = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let listening = open.local_addr().expect("an address");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("weir.toml");
        let text = format!(
            r#"config_version = 1
[entities.product]
facets.content = {{ owner = "pim" }}
[targets.dead]
kind = "webhook"
url = "http://{free}/"
[targets.fine]
kind = "webhook"
url = "http://{listening}/"
[targets.plain]
kind = "webhook"
url = "https://{listening}/"
timeout = "300ms"
[channels.a]
entity = "product"
facets = ["content"]
target = "dead"
[channels.b]
entity = "product"
facets = ["content"]
target = "fine"
[channels.c]
entity = "product"
facets = ["content"]
target = "plain"
[[notify]]
url = "http://{listening}/"
[[notify]]
url = "http://{free}/"
"#
        );
        std::fs::write(&file, text).expect("a file");
        let options = ReadOptions { secrets: true };
        let (plan, _) =
            read(&[file], &|_| None, options).unwrap_or_else(|wrong| panic!("{}", render(&wrong)));
        let found = render(&targets(&plan).complaints);
        assert_eq!(found.matches(": targets.").count(), 2, "{found}");
        assert!(
            found.contains("targets.dead") && found.contains("no connection to 127.0.0.1"),
            "{found}"
        );
        assert!(
            found.contains("targets.plain") && found.contains("no connection within 300ms"),
            "{found}"
        );
        let notice = "weir.toml:28:1: notify[1]: no connection to 127.0.0.1";
        assert!(
            found.contains(notice) && !found.contains("notify[0]"),
            "{found}"
        );
    }
}
