//! A change of configuration that the store keeps from finishing.

use super::*;

fn config(more: &str) -> String {
    format!(
        r#"config_version = 1
[server]
listen = "127.0.0.1:0"
reload = "signal"
[store]
path = "data"
[entities.product]
facets.content = {{ owner = "pim" }}
[sources.pim]
[targets.shop]
kind = "webhook"
url = "http://127.0.0.1:9/"
[channels.shop]
entity = "product"
facets = ["content"]
target = "shop"
{more}"#
    )
}

// The store failed after the sources had changed over, and the response said that the old
// configuration stayed active. The next reload then found no difference and reported success.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_applied_in_part_is_called_so_until_it_is_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, config("")).expect("written");
    let app = App::start(Options {
        files: vec![file.clone()],
        limits: server::Limits::default(),
        compiler: None,
        set_aside_damaged: false,
    })
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    app.store().close().await.expect("it closes");

    let another = "[sources.erp]\n[channels.site]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n";
    std::fs::write(&file, config(another)).expect("written");
    for attempt in ["the first", "another"] {
        let view = app.reload().await;
        assert!(!view.success && view.partly_applied, "{attempt}: {view:?}");
        let what = &view.complaints[0].what;
        assert!(
            what.starts_with("the configuration is applied in part")
                && what.contains("it is closed"),
            "{attempt}: {what}"
        );
        let sources = &app.inner.live.load().sources;
        assert!(sources.contains_key("erp"), "sources have changed over");
    }

    std::fs::write(&file, "config_version = 1\noops").expect("written");
    let refused = app.reload().await;
    assert!(!refused.success && !refused.partly_applied, "{refused:?}");
    app.stop().await;
}
