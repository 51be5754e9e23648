//! The configuration changes while events flow. A correct one takes over at one point; a wrong one
//! leaves the current one active, and its mistakes are reported with their places.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::stage::CATALOG;
use crate::support::weir::command;
use crate::support::{Act, Receiver, Stage, becomes, change, eventually, guests};

fn lamp(value: u32) -> [Value; 1] {
    [change("lamp", "content", json!(value))]
}

fn page(content: Value) -> Value {
    json!({"type": "product", "key": "lamp", "facets": {"content": content}})
}

#[test]
fn twelve_mistakes_are_reported_at_once_with_line_and_column() {
    let stage = Stage::closed("");
    let config = r#"config_version = 1
[server]
listen = "localhost:7700"
reload = "wach"
[entities.product]
facets.content = { owner = "pim" }
facet_max = "64KB"
[sources.pim]
verfy = { kind = "none" }
plugins = ["pim-product"]
quiet = 15
[targets.shop]
kind = "webhook"
url = "ftp://shop"
rate = "500"
[channels.storefront]
entity = "produkt"
facets = ["content"]
needs = ["stock.*"]
target = "shp"
freshness = "1 minute"
"#;
    stage.place("weir.toml", config.as_bytes());
    let output = command(stage.folder(), &["check", "-c", "weir.toml"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let places = [
        "3:10", "4:10", "7:13", "9:1", "10:12", "11:9", "14:7", "15:8", "17:10", "19:10", "20:10",
        "21:13",
    ];
    for place in places {
        assert!(
            printed.contains(&format!("weir.toml:{place}: ")),
            "{place} is not in: {printed}"
        );
    }
    assert!(
        printed.contains("did you mean \"watch\"?") && printed.contains("12 complaints."),
        "{printed}"
    );

    // A start reports the same, and does not start.
    let output = command(stage.folder(), &["run", "-c", "weir.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&output.stderr);
    places.iter().for_each(|place| {
        assert!(
            printed.contains(&format!("weir.toml:{place}: ")),
            "{printed}"
        )
    });

    let machines = command(stage.folder(), &["check", "--json", "-c", "weir.toml"]);
    let report: Value = serde_json::from_slice(&machines.stdout).expect("JSON");
    assert_eq!(report["complaints"].as_array().map(Vec::len), Some(12));

    // A file that does not exist has another exit code.
    assert_eq!(
        command(stage.folder(), &["check", "-c", "nowhere.toml"])
            .status
            .code(),
        Some(3)
    );
    stage.configure(CATALOG);
    assert_eq!(
        command(stage.folder(), &["check", "-c", "weir.toml"])
            .status
            .code(),
        Some(0)
    );
}

/// The reload failed with these words. The current configuration stays active, and both the log and
/// the API say so.
#[track_caller]
fn check_refused(stage: &Stage, view: &Value, words: &str) {
    assert_eq!(view["status"], 422, "{view:#}");
    assert!(
        view["complaints"].to_string().contains(words),
        "{words:?} is not in {view:#}"
    );
    let shown = stage.weir().get("/v1/config").json()["last_reload"].clone();
    assert_eq!(
        (&shown["success"], &shown["complaints"]),
        (&json!(false), &view["complaints"]),
        "{shown:#}"
    );
    stage
        .weir()
        .says("the new configuration was rejected; the current one stays active");
    let value = fastrand::u32(..);
    stage.takes("pim", &lamp(value));
    eventually("the old configuration is still active", || {
        (stage.shop.holds().get("lamp")? == &page(json!(value))).then_some(())
    });
}

#[test]
fn a_wrong_file_leaves_the_old_configuration_active_and_reports_why() {
    let stage = Stage::catalog();
    stage.takes("pim", &lamp(1));
    let view = stage.reload("this is not TOML");
    check_refused(&stage, &view, "\"this is not TOML: key with no value");
    assert_eq!(
        view["detail"],
        "the configuration has 1 mistake; the previous one stays in use"
    );
    let view = stage.reload(&CATALOG.replace("entity = \"product\"", "entity = \"produkt\""));
    assert_eq!(
        (
            &view["complaints"][0]["line"],
            &view["complaints"][0]["column"]
        ),
        (&json!(18), &json!(10)),
        "{view:#}"
    );
    check_refused(&stage, &view, "did you mean");
    std::fs::remove_file(stage.folder().join("weir.toml")).expect("removed");
    let view = stage.reload_files();
    check_refused(&stage, &view, "weir.toml");
    // Once corrected, it is accepted.
    stage.reloads(&CATALOG.replace("timeout = \"30s\"", "timeout = \"20s\""));
    assert_eq!(
        stage.weir().get("/v1/config").json()["last_reload"]["success"],
        true
    );
}

#[test]
fn a_changed_file_is_noticed_and_so_is_a_changed_component() {
    // The usual head turns watching off, so this file is written as a whole.
    let mut stage = Stage::closed("");
    let shop = stage.shop.url();
    let write = |stage: &Stage, more: &str| {
        let config = format!(
            "config_version = 1\n[server]\nlisten = \"127.0.0.1:0\"\n[store]\npath = \"data\"\n{}{more}",
            CATALOG.replace("{shop}", &shop).replace(
                "target = \"shop\"\n",
                "target = \"shop\"\nplugins = [\"page\"]\n"
            )
        );
        stage.place(
            "weir.toml",
            format!("{config}\n[plugins.page]\npath = \"page.wasm\"\n").as_bytes(),
        );
    };
    write(&stage, "");
    stage.place("page.wasm", &guests::versioned::renderer(1));
    stage.start();
    stage.takes("pim", &lamp(1));
    stage.shop_holds(json!({"lamp": {"version": 1}}));

    stage.place("page.wasm", &guests::versioned::renderer(2));
    stage.shop_holds(json!({"lamp": {"version": 2}}));
    stage.place("page.wasm", b"no component");
    stage.weir().says("the file is not Wasm");
    let last = stage.weir().get("/v1/config").json()["last_reload"].clone();
    assert_eq!(last["success"], false, "{last:#}");
    stage.place("page.wasm", &guests::versioned::renderer(3));
    stage.shop_holds(json!({"lamp": {"version": 3}}));

    write(&stage, "[sources.another]\n");
    eventually("the new source is there", || {
        (stage.weir().get("/v1/sources/another").status == 200).then_some(())
    });
}

#[test]
fn changed_settings_take_over_and_rejected_ones_do_not() {
    let page_plugin = guests::plugin("storefront-page");
    let config = |settings: &str| {
        let channel =
            format!("target = \"shop\"\nplugins = [{{ use = \"page\", settings = {settings} }}]\n");
        let config = CATALOG
            .replace("target = \"shop\"\n", &channel)
            .replace("content", "content.de");
        format!("{config}[plugins.page]\npath = {page_plugin:?}\n")
    };
    let stage = Stage::with(
        &config(r#"{ locale = "de", site = "de" }"#)
            .replace("facets.content.de", "facets.\"content.*\""),
    );
    let config =
        |settings: &str| config(settings).replace("facets.content.de", "facets.\"content.*\"");
    stage.takes(
        "pim",
        &[change("lamp", "content.de", json!({"name": "Lampe"}))],
    );
    eventually("the page is there", || {
        (stage.shop.holds().get("lamp")?["url"] == "/p/lamp").then_some(())
    });
    stage.reloads(&config(
        r#"{ locale = "de", site = "de", path = "/artikel/{key}" }"#,
    ));
    eventually("all is rendered again", || {
        (stage.shop.holds().get("lamp")?["url"] == "/artikel/lamp").then_some(())
    });
    let view = stage.reload(&config(r#"{ site = "de" }"#));
    assert_eq!(view["status"], 422, "{view:#}");
    assert!(
        view["complaints"][0]["what"]
            .as_str()
            .is_some_and(|what| what.contains("locale")),
        "{view:#}"
    );
    stage.takes(
        "pim",
        &[change("lamp", "content.de", json!({"name": "Leuchte"}))],
    );
    eventually("the old settings are still active", || {
        let page = stage.shop.holds().get("lamp").cloned()?;
        (page["url"] == "/artikel/lamp" && page["name"] == "Leuchte").then_some(())
    });
}

#[test]
fn a_component_that_fails_on_existing_entities_is_rejected() {
    let with = |plugin: &str| {
        CATALOG.replace(
            "target = \"shop\"\n",
            &format!("target = \"shop\"\nplugins = [\"{plugin}\"]\n"),
        )
    };
    let plugins =
        "[plugins.first]\npath = \"first.wasm\"\n[plugins.second]\npath = \"second.wasm\"\n";
    let mut stage = Stage::closed(&(with("first") + plugins));
    stage.place("first.wasm", &guests::versioned::renderer(1));
    stage.place("second.wasm", &guests::hostile::channel());
    stage.start();
    // The second version traps on keys that start with `t`.
    stage.takes("pim", &[change("table", "content", json!(1))]);
    stage.shop_holds(json!({"table": {"version": 1}}));
    let view = stage.reload(&(with("second") + plugins));
    assert_eq!(view["status"], 422, "{view:#}");
    assert!(
        view["complaints"][0]["what"]
            .as_str()
            .is_some_and(|what| what.contains("faults when tried on a recent entity")),
        "{view:#}"
    );
    stage.takes("pim", &[change("lamp", "content", json!(1))]);
    stage.shop_holds(json!({"table": {"version": 1}, "lamp": {"version": 1}}));
}

/// A shop got bare renderings. Then somebody wrote `batch = 20` into another channel of the same
/// target, and the shop's channel sent arrays.
#[test]
fn a_batch_of_one_channel_changes_nothing_for_another_on_its_target() {
    let both = |batch: &str| {
        format!(
            "{CATALOG}[channels.list]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"shop\"\n{batch}\n"
        )
    };
    let stage = Stage::with(&both(""));
    let arrays = || {
        let mut arrays: Vec<bool> = stage
            .shop
            .deliveries()
            .iter()
            .map(|delivery| delivery.json().is_array())
            .collect();
        arrays.sort_unstable();
        arrays
    };
    stage.takes("pim", &lamp(1));
    becomes("both send it bare", vec![false, false], arrays);
    stage.reloads(&both("batch = 20"));
    stage.settles("shop");
    stage.settles("list");
    stage.shop.forget();
    stage.takes("pim", &lamp(2));
    becomes("one sends an array", vec![false, true], arrays);
}

#[test]
fn adding_removing_and_renaming_channels_and_sources_causes_no_extra_delivery() {
    let second = Receiver::start();
    let more = format!(
        "[sources.late]\nowner = \"pim\"\n[targets.second]\nkind = \"webhook\"\nurl = {:?}\n[channels.second]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = \"second\"\n",
        second.url()
    );
    let stage = Stage::catalog();
    stage.takes("pim", &lamp(1));
    stage.stands("lamp", "shop", "delivered");
    assert_eq!(
        stage
            .send("late", &[], lamp(2)[0].to_string().as_bytes())
            .status,
        404
    );

    // A new channel sweeps over the existing entities; the old channel is not disturbed.
    stage.reloads(&format!("{CATALOG}{more}"));
    becomes(
        "the new channel has all",
        json!({"lamp": page(json!(1))}),
        || json!(second.holds()),
    );
    stage.takes("late", &lamp(2));
    stage.shop_holds(json!({"lamp": page(json!(2))}));
    becomes(
        "both channels have it",
        json!({"lamp": page(json!(2))}),
        || json!(second.holds()),
    );
    stage.settles("shop");
    stage.settles("second");
    assert_eq!((stage.shop.count(), second.count()), (2, 2));

    // After a rename, a channel still knows what it has delivered.
    let renamed = format!("{CATALOG}{more}").replace(
        "[channels.second]\n",
        "[channels.other]\nwas = \"second\"\n",
    );
    stage.reloads(&renamed);
    stage.settles("other");
    assert_eq!(stage.weir().get("/v1/channels/second").status, 404);
    stage.takes("pim", &lamp(3));
    becomes(
        "the renamed channel delivers the next change",
        json!({"lamp": page(json!(3))}),
        || json!(second.holds()),
    );
    stage.settles("other");
    assert_eq!(second.count(), 3, "something was sent again");

    // A removed channel is retired. When it returns, it sends what it missed and withdraws what was
    // deleted meanwhile.
    stage.reloads(CATALOG);
    assert_eq!(stage.channel("other")["state"], "retired");
    assert_eq!(stage.send("late", &[], b"{}").status, 404);
    stage.takes(
        "pim",
        &[
            change("chair", "content", json!(1)),
            crate::support::deletion("lamp", "content"),
        ],
    );
    eventually("the shop has followed", || {
        (stage.shop.holds().keys().collect::<Vec<_>>() == ["chair"]).then_some(())
    });
    assert_eq!(second.count(), 3);
    stage.reloads(&renamed);
    eventually("the returned channel has followed", || {
        (second.holds().keys().collect::<Vec<_>>() == ["chair"]).then_some(())
    });
}

/// A row of sites was renamed: the pages of the old shop stayed for ever, and nothing said so before. A
/// single row could not be renamed at all.
#[test]
fn a_renamed_row_keeps_its_channel_and_without_its_former_name_a_check_says_what_stays_behind() {
    let config = |rows: &str| {
        format!(
            "[entities.product]\nfacets.content = {{ owner = \"pim\" }}\n[sources.pim]\n{rows}\n[channels.shop]\nfor_each = \"site\"\n\
             entity = \"product\"\nfacets = [\"content\"]\ntarget = {{ kind = \"webhook\", url = \"{{site.url}}\" }}\n"
        )
    };
    let french = "[each.site.fr]\nurl = \"{shop}/fr\"\n";
    let german = |name: &str| format!("{french}[each.site.{name}]\nurl = \"{{shop}}/de\"\n");
    let mut stage = Stage::with(&config(&german("de")));
    stage.takes("pim", &lamp(1));
    stage.stands("lamp", "shop.de", "delivered");
    stage.stands("lamp", "shop.fr", "delivered");
    let sent = stage.shop.count();

    let listens = |address: &str| format!("[server]\nlisten = \"{address}\"\n");
    let address = stage.weir().address().to_string();
    stage.place("address.toml", listens(&address).as_bytes());
    let check = |stage: &Stage, more: &[&str]| {
        let arguments = [&["check", "-c", "weir.toml"], more].concat();
        let output = command(stage.folder(), &arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let here = ["-c", "address.toml"];
    let fine = "The configuration is valid: 1 source, 0 plugins, 2 channels, 2 targets.\n";
    assert_eq!(check(&stage, &here), fine);

    stage.configure(&config(&german("germany")));
    let url = format!("http://{address}");
    for how in [&here[..], &["--url", &url]] {
        let told = check(&stage, how);
        for words in [
            "channels.shop.de: the running Weir knows a channel \"shop.de\"",
            "what was delivered of 1 entity",
            "as `was` in the channel or in its row of [each]",
            "weir channel forget shop.de",
        ] {
            assert!(told.contains(words), "{words:?} is not in {told}");
        }
        assert!(!told.contains("shop.fr") && told.ends_with(fine), "{told}");
    }
    let renamed = config(&(german("germany") + "was = \"de\"\n"));
    stage.configure(&renamed);
    assert_eq!(check(&stage, &here), fine);

    // Another Weir at that address knows nothing about this store.
    std::fs::create_dir(stage.folder().join("elsewhere")).expect("a folder");
    stage.place(
        "other.toml",
        format!("{}[store]\npath = \"elsewhere\"\n", listens(&address)).as_bytes(),
    );
    let told = check(&stage, &["-c", "other.toml"]);
    assert!(
        told.starts_with("The configuration is valid: ")
            && told.contains("Not checked: ")
            && told.contains("another store"),
        "{told}"
    );

    stage.reloads(&renamed);
    stage.settles("shop.germany");
    stage.settles("shop.fr");
    assert_eq!(stage.weir().get("/v1/channels/shop.de").status, 404);
    assert_eq!(stage.shop.count(), sent, "something was sent again");

    // After the fact it is said too.
    stage.reloads(&config(&german("allemagne")));
    stage.weir().says("the channel has left the configuration");
    let retired = stage.channel("shop.germany");
    assert_eq!(
        (&retired["state"], &retired["holding"]),
        (&json!("retired"), &json!(1))
    );
    let told = check(&stage, &here);
    assert!(
        told.contains("\"shop.germany\"") && told.contains("go back to the former one"),
        "{told}"
    );

    stage.stop();
    let told = check(&stage, &here);
    assert!(
        told.starts_with(fine)
            && told.contains("Not checked: ")
            && told.contains("Weir does not run"),
        "{told}"
    );
}

#[test]
fn a_shape_that_changed_while_stopped_is_swept_and_only_what_differs_is_sent() {
    let mut stage = Stage::catalog();
    stage.takes(
        "pim",
        &[
            change("lamp", "content", json!(1)),
            change("chair", "content", json!(1)),
        ],
    );
    stage.takes("erp", &[change("lamp", "price.de", json!(9))]);
    eventually("both are there", || {
        (stage.shop.holds().len() == 2).then_some(())
    });
    stage.settles("shop");
    stage.stop();
    stage.shop.forget();
    // Without the prices, the rendering of the lamp differs, and that of the chair does not.
    stage.configure(&CATALOG.replace(
        "facets = [\"content\", \"price.*\"]",
        "facets = [\"content\"]",
    ));
    stage.start();
    stage.shop_holds(json!({"lamp": page(json!(1))}));
    stage.settles("shop");
    assert_eq!(stage.shop.count(), 1, "the chair was sent again");
    // A restart without a change of the configuration sends nothing.
    stage.stop();
    stage.shop.forget();
    stage.start();
    stage.settles("shop");
    assert_eq!(stage.shop.count(), 0);
}

// An authorisation server replaces the refresh token with each answer, and the old one ends. After the
// first restart the configured one was sent again, and somebody had to log in anew.
#[test]
fn a_refresh_token_that_was_replaced_is_used_after_a_reload_and_a_restart_and_shown_nowhere() {
    let authorisation = Receiver::start();
    let given = AtomicUsize::new(0);
    authorisation.does(move |asked| {
        let now = given.load(Ordering::SeqCst);
        let asked = String::from_utf8_lossy(&asked.body).into_owned();
        if !asked.contains(&format!("refresh_token=refreshing-{now}&")) {
            return Act::Say(400, json!({"error": "invalid_grant"}).to_string());
        }
        let next = given.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = json!({
            "access_token": format!("access-{next}"),
            "refresh_token": format!("refreshing-{next}"),
            "expires_in": 3600,
        });
        Act::Say(200, answer.to_string())
    });
    let config = CATALOG.replace(
        "timeout = \"30s\"",
        &format!(
            "timeout = \"30s\"\nauth = {{ oauth2 = {{ token_url = {:?}, grant = \"refresh_token\", client_id = \"weir\", client_secret = \"client-secret\", refresh_token = \"refreshing-0\", client_auth = \"body\" }} }}",
            authorisation.url()
        ),
    );
    let mut stage = Stage::with(&config);
    stage.takes("pim", &lamp(1));
    stage.shop_holds(json!({"lamp": page(json!(1))}));
    // Another timeout opens the target again.
    stage.reloads(&config.replace("timeout = \"30s\"", "timeout = \"20s\""));
    stage.takes("pim", &lamp(2));
    stage.shop_holds(json!({"lamp": page(json!(2))}));
    stage.stop();
    stage.start();
    stage.takes("pim", &lamp(3));
    stage.shop_holds(json!({"lamp": page(json!(3))}));
    let tokens: Vec<String> = stage
        .shop
        .deliveries()
        .iter()
        .filter_map(|delivery| delivery.header("authorization").map(str::to_owned))
        .collect();
    assert_eq!(
        tokens,
        ["Bearer access-1", "Bearer access-2", "Bearer access-3"]
    );
    let shown = [
        "/v1/config",
        "/v1/channels/shop",
        "/v1/entities/product/lamp",
    ]
    .map(|path| stage.weir().get(path).text())
    .concat();
    let seen = shown + &stage.weir().log();
    for secret in ["refreshing-", "access-", "client-secret"] {
        assert!(!seen.contains(secret), "{secret}: {seen}");
    }
}
