//! Tests from files to a plan or complaints.

mod bodies;
mod changes;
mod complaints;
mod files;
mod listeners;
mod notify;
mod senders;

use std::path::PathBuf;
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dispatch::{WithdrawMax, retry};
use crate::ingest::naming::IdFrom;
use crate::ingest::split::Split;
use crate::ingest::verify::{Encoding, Options as Verify, presets};
use crate::model::Lane;
use crate::signature::{Secret, SigningKey, VerifyingKey};
use crate::targets::{Kind, webhook};

fn keys(secrets: &[&[u8]]) -> Vec<VerifyingKey> {
    let secrets = secrets.iter().map(|secret| Secret(secret.to_vec()));
    secrets.map(VerifyingKey::Shared).collect()
}

/// What a preset verifies with these keys.
fn by(preset: &str, secrets: &[&[u8]]) -> Verify {
    presets::named(preset)
        .expect("a preset")
        .with(keys(secrets))
}

/// 32 bytes of `k`.
const WHSEC: &str = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

fn environment(name: &str) -> Option<String> {
    match name {
        "WEIR_OPS_TOKEN" => Some("operator-token-of-some-length".to_owned()),
        "SHOP_TOKEN" | "API_SECRET" | "LAKE_SECRET" | "BUS_PASSWORD" | "FEED_PASSWORD" => {
            Some("a-token-of-the-shop".to_owned())
        }
        "ERP_SECRET" | "NOTIFY_SECRET" | "SHOP_SECRET" | "SHOP_SECRET_de" | "SHOP_SECRET_fr" => {
            Some(WHSEC.to_owned())
        }
        "BATCH" => Some("64".to_owned()),
        "EMPTY" => Some(String::new()),
        "CURRENCY" => Some("CHF-from-outside".to_owned()),
        _ => None,
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn of(files: &[(&str, &str)]) -> Folder {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Reads the files with these names, as if given with `-c`.
    fn read(
        &self,
        names: &[&str],
        secrets: bool,
    ) -> Result<(Plan, Vec<Complaint>), Vec<Complaint>> {
        let files: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        read(&files, &environment, ReadOptions { secrets })
    }

    fn shown(&self, complaints: &[Complaint]) -> String {
        let lines: String = complaints
            .iter()
            .map(|complaint| format!("{complaint}\n"))
            .collect();
        lines.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The complaints about a single file.
fn check(text: &str, expected: Expect) {
    check_files(&[("weir.toml", text)], &["weir.toml"], expected);
}

/// The complaints about several files or, if there are none, the warnings.
fn check_files(files: &[(&str, &str)], given: &[&str], expected: Expect) {
    let folder = Folder::of(files);
    let shown = match folder.read(given, true) {
        Ok((_, warnings)) => format!("fine\n{}", folder.shown(&warnings)),
        Err(complaints) => folder.shown(&complaints),
    };
    expected.assert_eq(&shown);
}

fn plan_of(files: &[(&str, &str)], given: &[&str]) -> Plan {
    let folder = Folder::of(files);
    match folder.read(given, true) {
        Ok((plan, _)) => plan,
        Err(complaints) => panic!("{}", folder.shown(&complaints)),
    }
}

/// The beginning of most files in these tests.
const CATALOG: &str = r#"
config_version = 1
[entities.product]
facets.content = { owner = "pim" }
facets."price.*" = { owner = "erp" }
[sources.pim]
[sources.erp]
"#;

fn catalog(rest: &str) -> String {
    format!("{CATALOG}{rest}")
}

/// The example of the contract, with its omissions filled in.
const EXAMPLE: &str = r#"config_version = 1

[server]
listen       = "127.0.0.1:7700"
admin_listen = "127.0.0.1:7701"
reload       = "watch"

[tokens.ops]
secret = { env = "WEIR_OPS_TOKEN" }
roles  = ["operate"]

[store]
path = "data"

[lanes]
urgent = 16
normal = 4
bulk   = 1

[entities.product]
facets.content     = { owner = "pim" }
facets."price.*"   = { owner = "erp", lane = "urgent" }
facets."stock.*"   = { owner = "oms", lane = "urgent" }
facet_max          = "256KiB"
entities_max       = 5000000

[plugins.erp]
path     = "plugins/erp-product/dist/erp_product.wasm"
sha256   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
settings = { currency = "EUR" }
limits   = { time = "1s", memory = "64MiB", output = "16MiB", log = "64KiB" }
[plugins.erp-noise]
path = "plugins/noise.wasm"
[plugins.in-stock]
path = "plugins/in-stock.wasm"
[plugins.storefront-page]
path = "plugins/page.wasm"
settings = { currency = "USD", layout = { columns = 3, theme = "plain" } }

[sources.erp-conditions]
owner   = "erp"
plugins = ["erp-noise", { use = "erp", settings = { kind = "COND_A" } }]
split   = "xml:IDOC"
headers = ["X-Sap-*"]
verify  = { kind = "standard-webhooks", secrets = [{ env = "ERP_SECRET" }] }
quiet   = "15m"
[sources.pim]
[sources.oms]

[each.site.de]
locale = "de_DE"
url    = "http://shop-de:8080"
[each.site.fr]
locale = "fr_FR"
url    = "http://shop-fr:8080"

[targets.shop]
for_each = "site"
kind = "webhook"
url  = "{site.url}/weir"
sign = { env = "SHOP_SECRET" }
concurrency = 8
rate    = "500/s"
timeout = "15s"

[channels.storefront]
for_each = "site"
entity   = "product"
facets   = ["content", "price.{site}-*", "stock.*"]
needs    = ["content", "price.{site}-*"]
plugins  = ["in-stock", "storefront-page"]
settings = { currency = "EUR", layout = { theme = "bold" } }
target   = "shop.{site}"
batch    = 1
deliver  = true
suppress = true
freshness    = "60s"
retry        = { first = "1s", factor = 2, cap = "10m", attempts = 12 }
withdraw_max = { share = "2%", per = "1h", min = 100 }
was          = "web"
"#;

const COMPONENTS: [(&str, &str); 4] = [
    ("plugins/erp-product/dist/erp_product.wasm", ""),
    ("plugins/noise.wasm", ""),
    ("plugins/in-stock.wasm", ""),
    ("plugins/page.wasm", ""),
];

fn example() -> (Folder, Plan, Vec<Complaint>) {
    let folder = Folder::of(&[&[("weir.toml", EXAMPLE)], &COMPONENTS[..]].concat());
    match folder.read(&["weir.toml"], true) {
        Ok((plan, warnings)) => (folder, plan, warnings),
        Err(complaints) => panic!("{}", folder.shown(&complaints)),
    }
}

fn webhook_of<'p>(plan: &'p Plan, name: &str) -> &'p webhook::Options {
    match &plan.targets[name].kind {
        Kind::Webhook(webhook) => webhook,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_the_contract_is_understood() {
    let (folder, plan, warnings) = example();
    assert_eq!(folder.shown(&warnings), "");
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    assert_eq!(
        plan.server,
        Server {
            listen: address("127.0.0.1:7700"),
            admin_listen: Some(address("127.0.0.1:7701")),
            watch: true,
            bodies_bytes: 32 << 20,
            front: Arc::default(),
        }
    );
    assert_eq!(
        (&*plan.tokens[0].name, plan.tokens[0].role),
        ("ops", Role::Operate)
    );
    assert_eq!(
        (plan.store_path.clone(), plan.forget, plan.sequence_min),
        (folder.path("data"), Duration::from_secs(30 * 86_400), 0)
    );
    assert_eq!(plan.shares, [16, 4, 1]);
    let product = &plan.entities["product"];
    let rules: Vec<_> = product
        .facets
        .iter()
        .map(|rule| (&*rule.pattern, &*rule.owner, rule.lane))
        .collect();
    assert_eq!(
        rules,
        [
            ("content", "pim", Lane::Normal),
            ("price.*", "erp", Lane::Urgent),
            ("stock.*", "oms", Lane::Urgent)
        ]
    );
    assert_eq!(
        (product.facet_bytes_max, product.entities_max),
        (256 * 1024, 5_000_000)
    );
    let erp = &plan.plugins["erp"];
    assert_eq!(
        erp.path,
        folder.path("plugins/erp-product/dist/erp_product.wasm")
    );
    assert_eq!(
        (
            erp.limits.time,
            erp.limits.memory_bytes,
            erp.limits.output_bytes
        ),
        (Duration::from_secs(1), 64 << 20, 16 << 20)
    );
    assert_eq!(erp.limits, plan.plugins["erp-noise"].limits);
}

#[test]
fn the_sources_of_the_example_are_understood() {
    let (_folder, plan, _) = example();
    let source = &plan.sources["erp-conditions"];
    assert_eq!(
        (&*source.options.name, &*source.options.owner),
        ("erp-conditions", "erp")
    );
    assert_eq!(source.options.split, Split::Xml("IDOC".into()));
    assert_eq!(source.options.headers, ["x-sap-*"]);
    assert_eq!(
        source.options.verify,
        by("standard-webhooks", &[&[b'k'; 32]])
    );
    assert_eq!(
        (source.options.quiet, source.options.body_bytes_max),
        (Some(Duration::from_secs(900)), 8 << 20)
    );
    let uses: Vec<_> = source
        .plugins
        .iter()
        .map(|one| (&*one.plugin, json!(one.settings), &*one.place))
        .collect();
    assert_eq!(
        uses,
        [
            ("erp-noise", json!({}), "sources.erp-conditions.plugins[0]"),
            (
                "erp",
                json!({"currency": "EUR", "kind": "COND_A"}),
                "sources.erp-conditions.plugins[1]"
            ),
        ]
    );
    let pim = &plan.sources["pim"].options;
    assert_eq!(
        (&*pim.owner, &pim.split, &pim.verify, pim.quiet),
        ("pim", &Split::Whole, &Verify::None, None)
    );
}

#[test]
fn the_channels_of_the_example_are_understood() {
    let (_folder, plan, _) = example();
    assert_eq!(
        plan.targets.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["shop.de", "shop.fr"]
    );
    let shop = &plan.targets["shop.fr"];
    assert_eq!(
        (&*shop.name, shop.concurrency, shop.rate),
        ("shop.fr", 8, Some(500.0))
    );
    let webhook = webhook_of(&plan, "shop.fr");
    assert_eq!(
        (webhook.url.as_str(), webhook.http.timeout),
        ("http://shop-fr:8080/weir", Duration::from_secs(15))
    );
    assert_eq!(webhook.sign, [SigningKey::Shared(Secret(vec![b'k'; 32]))]);
    assert_eq!(
        plan.channels.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["storefront.de", "storefront.fr"]
    );
    let channel = &plan.channels["storefront.de"];
    assert_eq!(
        channel.options,
        dispatch::Options {
            name: "storefront.de".into(),
            entity_type: "product".into(),
            facets: vec!["content".into(), "price.de-*".into(), "stock.*".into()],
            needs: vec!["content".into(), "price.de-*".into()],
            target: "shop.de".into(),
            batch: 1,
            batch_bytes: 1024 * 1024,
            deliver: true,
            suppress: true,
            freshness: Some(Duration::from_secs(60)),
            debounce: None,
            hours: None,
            retry: retry::Options {
                first: Duration::from_secs(1),
                factor: 2.0,
                cap: Duration::from_secs(600),
                attempts: 12,
                refused: Duration::from_secs(3600),
            },
            withdraw_max: WithdrawMax {
                share: 0.02,
                per: Duration::from_secs(3600),
                min: 100
            },
            was: Some("web.de".into()),
        }
    );
    let page = json!({
        "currency": "EUR", "layout": {"columns": 3, "theme": "bold"}, "locale": "de_DE", "site": "de", "url": "http://shop-de:8080",
    });
    assert_eq!(json!(channel.plugins[1].settings), page);
}

#[test]
fn what_is_not_written_has_the_defaults_of_the_example() {
    let text = catalog(
        "[channels.web]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = { kind = \"webhook\", url = \"http://shop\" }\n",
    );
    let plan = plan_of(&[("weir.toml", &text)], &["weir.toml"]);
    let (_folder, example, _) = example();
    let (ours, theirs) = (
        &plan.channels["web"].options,
        &example.channels["storefront.de"].options,
    );
    assert_eq!(
        (&ours.retry, &ours.withdraw_max, ours.deliver, ours.suppress),
        (&theirs.retry, &theirs.withdraw_max, true, true)
    );
    assert_eq!(
        (ours.batch, &ours.needs, ours.freshness),
        (1, &Vec::new(), None)
    );
    assert_eq!(
        (plan.shares, plan.server.admin_listen, plan.server.watch),
        (example.shares, None, true)
    );
    assert_eq!(
        plan.entities["product"].facet_bytes_max,
        example.entities["product"].facet_bytes_max
    );
    let (ours, theirs) = (&plan.targets["web"], &example.targets["shop.de"]);
    assert_eq!((ours.concurrency, ours.rate), (theirs.concurrency, None));
    assert_eq!(
        webhook_of(&plan, "web").http.timeout,
        webhook_of(&example, "shop.de").http.timeout
    );
}

// Whoever recorded a request that is signed with its body alone can send it again, also with another
// delivery id, and an old price is back. Only an id that is signed too protects.
#[test]
fn a_signature_that_does_not_cover_an_id_is_warned_of() {
    check(
        r#"config_version = 1
[entities.product]
facets.content = { owner = "shop" }
[sources.shop]
verify = { kind = "hmac", preset = "shopify", secret = "one" }
[sources.other]
owner = "shop"
id = { pointer = "/meta/id" }
verify = { kind = "hmac", header = "X-Signature", secret = "one" }
"#,
        expect![[r#"
            fine
            weir.toml:5:1: sources.shop.verify: the signature covers the body alone, so whoever has recorded a request can send it again, and an old value returns; send versions with the changes, or events with an id in the body (structured CloudEvents, or id = { pointer = "/id" })
        "#]],
    );
    check(
        r#"config_version = 1
[sources.a]
id = { pointer = "id" }
[sources.b]
id = { header = "X-Id", pointer = "/id" }
[sources.c]
id = {}
[sources.d]
id = { headr = "X-Id" }
"#,
        expect![[r#"
            weir.toml:3:18: sources.a.id.pointer: "id" is not a JSON pointer; write id = { header = "X-Event-Id" } or { pointer = "/id" }
            weir.toml:5:35: sources.b.id.pointer: header is set as well; write id = { header = "X-Event-Id" } or { pointer = "/id" }
            weir.toml:7:1: sources.c.id: it says neither header nor pointer; write id = { header = "X-Event-Id" } or { pointer = "/id" }
            weir.toml:9:1: sources.d.id: it says neither header nor pointer; write id = { header = "X-Event-Id" } or { pointer = "/id" }
            weir.toml:9:8: sources.d.id.headr: there is no such key; did you mean "header"?
        "#]],
    );
}

// The shop of `de` got the prices of `de-at` too, which are longer names of the same beginning.
#[test]
fn a_row_that_gets_the_facets_of_another_is_warned_of() {
    let channels = |facets: &str| {
        format!(
            r#"config_version = 1
[entities.product]
facets."price.*" = {{ owner = "erp" }}
facets.content = {{ owner = "erp" }}
[sources.erp]
[each.site.de]
[each.site.de-at]
[each.site.fr]
[targets.shop]
kind = "webhook"
url = "http://127.0.0.1:1/"
[channels.page]
for_each = "site"
entity = "product"
facets = {facets}
target = "shop"
"#
        )
    };
    check(
        &channels(r#"["content", "price.*", "price.{site}-*"]"#),
        expect![[r#"
            fine
            weir.toml:12:11: channels.page: the row "de" also gets the facets of the row "de-at": "price.de-*" covers "price.de-at-*"; end the row's name in the pattern with a character that no row's name has, such as "price.{site}/*", or rename a row
        "#]],
    );
    check(
        &channels(r#"["price.{site}/*"]"#),
        expect![[r#"
        fine
    "#]],
    );
    check(
        &channels(r#"["price.{site}"]"#),
        expect![[r#"
        fine
    "#]],
    );
}

// Some systems count every answer but 200 as failed and send again.
#[test]
fn a_source_may_answer_200_to_202() {
    let text = "config_version = 1\n[sources.a]\n[sources.b]\naccept_status = 200\n";
    let plan = plan_of(&[("weir.toml", text)], &["weir.toml"]);
    let status = |name: &str| plan.sources[name].reply.status;
    assert_eq!((status("a"), status("b")), (202, 200));
    check(
        "config_version = 1\n[sources.a]\naccept_status = 204\n",
        expect![[r#"
            weir.toml:3:17: sources.a.accept_status: 204 is out of bounds; write a whole number from 200 to 202
        "#]],
    );
}

#[test]
fn every_way_to_verify_is_understood() {
    let text = format!(
        r#"config_version = 1
[entities.product]
facets.content = {{ owner = "a" }}
[sources.a]
verify = {{ kind = "hmac", preset = "shopify", secrets = ["one", "two"] }}
[sources.b]
verify = {{ kind = "hmac", preset = "github", secret = {{ file = "github.secret" }} }}
[sources.c]
verify = {{ kind = "hmac", header = "X-Signature", prefix = "v1=", encoding = "base64", secret = "one" }}
[sources.d]
verify = {{ kind = "bearer", tokens = ["one", "two"] }}
[sources.e]
verify = {{ kind = "standard-webhooks", secret = "{WHSEC}" }}
"#
    );
    let plan = plan_of(
        &[("weir.toml", &text), ("github.secret", "three\n")],
        &["weir.toml"],
    );
    let verify = |name: &str| plan.sources[name].options.verify.clone();
    assert_eq!(verify("a"), by("shopify", &[b"one", b"two"]));
    assert_eq!(verify("b"), by("github", &[b"three"]));
    let mut own = presets::hmac("hmac", &["x-signature"]);
    own.scheme.prefix = "v1=".to_owned();
    own.scheme.encoding = Encoding::Base64;
    assert_eq!(verify("c"), own.with(keys(&[b"one"])));
    assert_eq!(
        verify("d"),
        Verify::Bearer {
            tokens: vec![Secret(b"one".to_vec()), Secret(b"two".to_vec())]
        }
    );
    assert_eq!(verify("e"), by("standard-webhooks", &[&[b'k'; 32]]));
    let id = |name: &str| match plan.sources[name].options.naming.id.clone() {
        Some(IdFrom::Header(headers)) => headers[0].clone(),
        other => format!("{other:?}"),
    };
    assert_eq!(
        ["a", "b", "c", "d", "e"].map(id),
        [
            "x-shopify-webhook-id",
            "x-github-delivery",
            "None",
            "None",
            "webhook-id"
        ]
    );
    check(
        r#"config_version = 1
[sources.a]
verify = { kind = "hmac", secret = "one" }
[sources.b]
verify = { kind = "bearr", token = "one" }
[sources.c]
verify = { kind = "standard-webhooks", secrets = ["whsec_c2hvcnQ=", "plain", "whsec_!", { env = "NOT_SET" }] }
[sources.d]
verify = { kind = "bearer", tokens = [] }
[sources.e]
verify = { kind = "bearer", tokens = ["a"], token = "b" }
[sources.f]
verify = { kind = "bearer", token = { file = "nowhere" } }
"#,
        expect![[r#"
            weir.toml:3:1: sources.a.verify: header is missing; write the header that holds the signature, or name the sender: preset = "github"
            weir.toml:5:19: sources.b.verify.kind: there is no verification kind "bearr"; did you mean "bearer"?
            weir.toml:7:51: sources.c.verify.secrets[0]: a Standard Webhooks secret has 24 to 64 bytes once decoded, but this one has 5; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:7:69: sources.c.verify.secrets[1]: this is not a Standard Webhooks secret: write `whsec_` followed by 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:7:78: sources.c.verify.secrets[2]: this is not a Standard Webhooks secret: write `whsec_` followed by 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:7:89: sources.c.verify.secrets[3]: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
            weir.toml:9:38: sources.d.verify.tokens: there is no secret, so no sender can be verified; write tokens = [{ env = "NAME" }]
            weir.toml:11:38: sources.e.verify.tokens: token is set as well; write all of them into tokens
            weir.toml:13:37: sources.f.verify.token: nowhere cannot be read: No such file or directory (os error 2)
        "#]],
    );
}

/// The reference file names every key. What it comments out is the default, so uncommenting it
/// changes nothing.
#[test]
fn the_reference_is_right_with_and_without_its_defaults() {
    let reference = include_str!("../../../examples/reference.toml");
    let components = [("plugins/erp.wasm", ""), ("plugins/page.wasm", "")];
    let plan = |text: &str| {
        let folder = Folder::of(&[&[("weir.toml", text)], &components[..]].concat());
        let (plan, warnings) = folder
            .read(&["weir.toml"], true)
            .unwrap_or_else(|wrong| panic!("{}", folder.shown(&wrong)));
        assert_eq!(folder.shown(&warnings), "");
        redacted(&plan)
            .to_string()
            .replace(&folder.0.path().display().to_string(), "")
    };
    // These have no default, or exclude another key.
    let apart = [
        "# verify",
        "# handshake",
        "# csv",
        "# encoding",
        "# accept_status",
        "# sha256",
        "# builtin",
        "# admin_listen",
        "# rate",
        "# id",
        "# tls",
        "# proxy",
        "# trusted_proxies",
        "# public_url",
        "# endpoint",
        "# credentials",
        "# checksum",
        "# stream",
        "# core",
    ];
    let key = |line: &str| {
        line.strip_prefix("# ")
            .filter(|rest| rest.contains(" = ") && rest.starts_with(char::is_lowercase))
            .is_some()
    };
    let written = |line: &str| match key(line) && !apart.iter().any(|other| line.starts_with(other))
    {
        true => format!("{}\n", &line[2..]),
        false => format!("{line}\n"),
    };
    let full: String = reference.lines().map(written).collect();
    assert!(
        full.contains("\nretry = ") && full.contains("\nlisten = "),
        "the defaults are written out"
    );
    assert_eq!(plan(reference), plan(&full));
}
