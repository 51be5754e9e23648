//! Tests of several files, the environment, and secrets.

use super::*;

#[test]
fn scalars_come_from_the_environment_and_from_files() {
    let text = catalog(
        r#"
[plugins.page]
path = "page.wasm"
settings = { currency = { env = "CURRENCY" }, size = { env = "BATCH", default = 1 }, other = { env = "NOT_SET", default = true } }
[each.site.de]
[channels.web]
for_each = "site"
entity = { env = "NOT_SET", default = "product" }
facets = ["content"]
plugins = ["page"]
batch = { env = "BATCH" }
deliver = { file = "deliver" }
target = { kind = "webhook", url = { file = "url" }, sign = { env = "SHOP_SECRET_{site}" } }
"#,
    );
    let files = [
        ("weir.toml", &*text),
        ("page.wasm", ""),
        ("deliver", "false\n"),
        ("url", "https://hooks.example/a-secret-path\r\n"),
    ];
    let plan = plan_of(&files, &["weir.toml"]);
    let channel = &plan.channels["web.de"];
    assert_eq!(
        (channel.options.batch, channel.options.deliver),
        (64, false)
    );
    assert_eq!(
        json!(channel.plugins[0].settings),
        json!({"currency": "CHF-from-outside", "site": "de", "size": 64, "other": true})
    );
    assert_eq!(
        webhook_of(&plan, "web.de").url.as_str(),
        "https://hooks.example/a-secret-path"
    );
    let watched: Vec<_> = plan
        .files
        .iter()
        .filter_map(|file| file.file_name())
        .collect();
    assert_eq!(watched, ["weir.toml", "deliver", "url"]);
    let shown = redacted(&plan);
    assert_eq!(
        shown["plugins"]["page"]["settings"]["currency"],
        json!("[secret]")
    );
    assert_eq!(
        shown["targets"]["web.de"]["url"],
        json!("https://hooks.example/[secret]")
    );
    assert!(!shown.to_string().contains("a2tra2"), "{shown}");
}

// A mistake in an included file, and a component that was missing, were mended without anybody noticing:
// only the files of an accepted configuration were watched.
#[test]
fn the_files_of_a_configuration_with_mistakes_are_named_too() {
    let main = "config_version = 1\ninclude = [\"conf.d/*.toml\"]\n[plugins.page]\npath = \"page.wasm\"\n[tokens.ops]\nsecret = { file = \"token\" }\nroles = [\"reed\"]\n";
    let folder = Folder::of(&[("weir.toml", main), ("conf.d/a.toml", "oops")]);
    let options = ReadOptions { secrets: true };
    let (named, understood) = read_named(&[folder.path("weir.toml")], &environment, options);
    understood.expect_err("complaints");
    let inside = |path: &PathBuf| {
        let inside = path.strip_prefix(folder.path("")).expect("inside");
        inside.display().to_string()
    };
    let files: Vec<String> = named.files.iter().map(inside).collect();
    assert_eq!(files, ["conf.d/a.toml", "page.wasm", "token", "weir.toml"]);
    let folders: Vec<String> = named.folders.iter().map(inside).collect();
    assert_eq!(folders, ["conf.d"]);
}

#[test]
fn secrets_may_be_missing_where_none_are_wanted() {
    let text = catalog(
        "[tokens.ops]\nsecret = { env = \"NOT_SET\" }\nroles = [\"read\"]\n[store]\npath = { env = \"NOT_SET\" }\n",
    );
    let folder = Folder::of(&[("weir.toml", &text)]);
    let complaints = |secrets| {
        folder.shown(
            &folder
                .read(&["weir.toml"], secrets)
                .expect_err("complaints"),
        )
    };
    expect![[r#"
        weir.toml:9:10: tokens.ops.secret: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
        weir.toml:12:8: store.path: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
    "#]].assert_eq(&complaints(true));
    expect![[r#"
        weir.toml:12:8: store.path: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
    "#]].assert_eq(&complaints(false));
}

#[test]
fn included_files_stand_beside_each_other() {
    let main = "config_version = 1\ninclude = [\"conf.d/*.toml\", \"more.toml\"]\n[store]\npath = \"data\"\n";
    let pim = "[entities.product]\nfacets.content = { owner = \"pim\" }\n[sources.pim]\n[plugins.pim]\npath = \"pim.wasm\"\n";
    let erp = "[entities.product]\nfacets.base = { owner = \"erp\" }\n[sources.erp]\nverify = { kind = \"none\" }\n";
    let files = [
        ("weir.toml", main),
        ("conf.d/pim.toml", pim),
        ("conf.d/erp.toml", erp),
        ("conf.d/pim.wasm", ""),
        ("conf.d/.#pim.toml", "no"),
        ("more.toml", ""),
    ];
    let plan = plan_of(&files, &["weir.toml"]);
    assert_eq!(
        plan.entities["product"]
            .facets
            .iter()
            .map(|rule| &*rule.pattern)
            .collect::<Vec<_>>(),
        ["base", "content"]
    );
    assert!(
        plan.plugins["pim"].path.ends_with("conf.d/pim.wasm"),
        "{:?}",
        plan.plugins["pim"].path
    );
    assert_eq!((plan.files.len(), plan.folders.len()), (4, 1));
    let again = "include = []\n[sources.erp]\nverify = { kind = \"none\" }\n";
    check_files(
        &[
            ("weir.toml", main),
            ("conf.d/erp.toml", erp),
            ("more.toml", again),
        ],
        &["weir.toml"],
        expect![[r#"
            more.toml:1:1: include: an included file cannot include other files; move this include to a file given with -c
            more.toml:3:12: sources.erp.verify.kind: this key is already set at conf.d/erp.toml:4:12; included files must not set the same key; only a file given with a later -c overrides
        "#]],
    );
    check_files(
        &[("weir.toml", main)],
        &["weir.toml"],
        expect![[r#"
        weir.toml:2:29: include: more.toml cannot be read: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn later_files_win() {
    let stage = "[server]\nlisten = \"127.0.0.1:8800\"\n[sources.erp]\nverify = { kind = \"bearer\", token = \"stage\" }\n[lanes]\nbulk = 2\n";
    let base = catalog("[server]\nlisten = \"127.0.0.1:7700\"\nreload = \"signal\"\n").replace(
        "[sources.erp]",
        "[sources.erp]\nverify = { kind = \"hmac\", preset = \"github\", secret = { env = \"ERP_SECRET\" } }\nquiet = \"1h\"",
    );
    let plan = plan_of(
        &[("weir.toml", &base), ("envs/stage.toml", stage)],
        &["weir.toml", "envs/stage.toml"],
    );
    assert_eq!(
        (plan.server.listen.port(), plan.server.watch, plan.shares),
        (8800, false, [16, 4, 2])
    );
    assert_eq!(
        plan.sources["erp"].options.verify,
        Verify::Bearer {
            tokens: vec![Secret(b"stage".to_vec())]
        }
    );
    assert_eq!(
        plan.sources["erp"].options.quiet,
        Some(Duration::from_secs(3600))
    );
    check_files(
        &[("weir.toml", &base)],
        &["weir.toml", "weir.toml", "prod.toml"],
        expect![[r#"
        weir.toml: this file is listed twice; name each file once
        prod.toml: this file cannot be read: No such file or directory (os error 2)
    "#]],
    );
}

// A link among the included files led to a file that only Weir could read, and its lines went into the
// log, quoted as mistakes.
#[test]
fn nothing_of_an_included_file_that_is_not_toml_is_repeated() {
    let main = "config_version = 1\ninclude = [\"other\"]\n";
    for text in [
        "root:$6$Zx81vQ$aBcDe9:19700:0:99999:7:::\nweir:$6$Pq7:19700:::\n",
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ\n-----END PRIVATE KEY-----\n",
        "HOST=\"Zx81vQ\"\nPASS=Zx81vQ\n",
        "{\"user\": \"Zx81vQ\"}\n",
        "[Zx81vQ]\nZx81vQ = 1\nZx81vQ = 2\n",
    ] {
        let folder = Folder::of(&[("weir.toml", main), ("other", text)]);
        let complaints = folder.read(&["weir.toml"], true).expect_err("not TOML");
        let shown = format!("{}{complaints:?}", render(&complaints));
        for word in text.split(|character: char| !character.is_ascii_alphanumeric()) {
            assert!(word.len() < 5 || !shown.contains(word), "{word}: {shown}");
        }
        assert_eq!(complaints.len(), 1, "{shown}");
        assert!(shown.contains("other:"), "{shown}");
    }
}

// `listen = { file = "…" }` printed the whole file as a wrong address, and so did each other key.
#[test]
fn a_text_from_outside_is_never_repeated_whatever_key_refers_to_it() {
    let text = catalog(
        r#"
[server]
listen = { file = "key" }
reload = { file = "key" }
[lanes]
urgent = { env = "SHOP_TOKEN" }
[channels.web]
entity = { file = "key" }
facets = ["content"]
batch = { file = "key" }
freshness = { file = "key" }
target = { kind = "webhook", url = { file = "key" } }
"#,
    );
    check_files(
        &[("weir.toml", &text), ("key", "Zx81vQ://\n")],
        &["weir.toml"],
        expect![[r#"
            weir.toml:10:10: server.listen: the content of key is not an address to listen on; write an address and a port, such as "127.0.0.1:7700", "0.0.0.0:7700" or "[::1]:7700"
            weir.toml:11:10: server.reload: the content of key is not allowed here; write "watch" or "signal"
            weir.toml:13:10: lanes.urgent: the value of SHOP_TOKEN is not a whole number; write a whole number from 1 to 1000
            weir.toml:15:10: channels.web.entity: there is no entity type the content of key; available: product
            weir.toml:17:9: channels.web.batch: the content of key is not a whole number; write a whole number from 1 to 10000
            weir.toml:18:13: channels.web.freshness: the content of key is not a duration; write a whole number and a unit, such as "250ms", "30s", "5m", "1h" or "30d"
            weir.toml:19:36: channels.web.target.url: the URL starts with neither http:// nor https://; write one such as "https://shop.example/weir" or "https://shop.example/products/{key}"
        "#]],
    );
}

#[test]
fn a_configuration_that_names_what_is_no_file_is_rejected_and_not_waited_for() {
    let main = "config_version = 1\ninclude = [\"conf.d/*.toml\"]\n[tokens.a]\nsecret = { file = \"fifo\" }\nroles = [\"read\"]\n";
    let folder = Folder::of(&[("weir.toml", main), ("conf.d/1.toml", "")]);
    let fifo = |name: &str| {
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path(name), 0o600.into()).expect("a FIFO")
    };
    fifo("fifo");
    fifo("conf.d/2.toml");
    let complaints = folder.read(&["weir.toml"], true).expect_err("complaints");
    expect![[r#"
        weir.toml:2:12: include: conf.d/2.toml cannot be read: it is a FIFO, not a regular file
        weir.toml:4:10: tokens.a.secret: fifo cannot be read: it is a FIFO, not a regular file
    "#]]
    .assert_eq(&folder.shown(&complaints));
}
