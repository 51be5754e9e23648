//! Files in, a plan or complaints out.

use std::path::PathBuf;
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dispatch::{WithdrawMax, retry};
use crate::ingest::split::Split;
use crate::ingest::verify::{Encoding, Options as Verify, Secret};
use crate::model::Lane;
use crate::target::{Kind, webhook};

/// 32 bytes of `k`.
const WHSEC: &str = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

fn environment(name: &str) -> Option<String> {
    match name {
        "WEIR_OPS_TOKEN" => Some("operator-token-of-some-length".to_owned()),
        "ERP_SECRET" | "SHOP_SECRET" | "SHOP_SECRET_de" | "SHOP_SECRET_fr" => Some(WHSEC.to_owned()),
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

    /// Reads the files of these names, as `-c` would be given.
    fn read(&self, names: &[&str], secrets: bool) -> Result<(Plan, Vec<Complaint>), Vec<Complaint>> {
        let files: Vec<PathBuf> = names.iter().map(|name| self.path(name)).collect();
        read(&files, &environment, ReadOptions { secrets })
    }

    fn shown(&self, complaints: &[Complaint]) -> String {
        let lines: String = complaints.iter().map(|complaint| format!("{complaint}\n")).collect();
        lines.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The complaints about a single file.
fn check(text: &str, expected: Expect) {
    check_files(&[("weir.toml", text)], &["weir.toml"], expected);
}

/// The complaints about several files; with none, the warnings.
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

/// What most files of these tests begin with.
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

/// The example of the contract, with what it leaves open filled in.
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
    let Kind::Webhook(webhook) = &plan.targets[name].kind;
    webhook
}

#[test]
fn the_example_of_the_contract_is_understood() {
    let (folder, plan, warnings) = example();
    assert_eq!(folder.shown(&warnings), "");
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    assert_eq!(plan.server, Server { listen: address("127.0.0.1:7700"), admin_listen: Some(address("127.0.0.1:7701")), watch: true });
    assert_eq!((&*plan.tokens[0].name, plan.tokens[0].role), ("ops", Role::Operate));
    assert_eq!((plan.store_path.clone(), plan.forget), (folder.path("data"), Duration::from_secs(30 * 86_400)));
    assert_eq!(plan.shares, [16, 4, 1]);
    let product = &plan.entities["product"];
    let rules: Vec<_> = product.facets.iter().map(|rule| (&*rule.pattern, &*rule.owner, rule.lane)).collect();
    assert_eq!(rules, [("content", "pim", Lane::Normal), ("price.*", "erp", Lane::Urgent), ("stock.*", "oms", Lane::Urgent)]);
    assert_eq!((product.facet_bytes_max, product.entities_max), (256 * 1024, 5_000_000));
    let erp = &plan.plugins["erp"];
    assert_eq!(erp.path, folder.path("plugins/erp-product/dist/erp_product.wasm"));
    assert_eq!((erp.limits.time, erp.limits.memory_bytes, erp.limits.output_bytes), (Duration::from_secs(1), 64 << 20, 16 << 20));
    assert_eq!(erp.limits, plan.plugins["erp-noise"].limits);
}

#[test]
fn the_sources_of_the_example_are_understood() {
    let (_folder, plan, _) = example();
    let source = &plan.sources["erp-conditions"];
    assert_eq!((&*source.options.name, &*source.options.owner), ("erp-conditions", "erp"));
    assert_eq!(source.options.split, Split::Xml("IDOC".into()));
    assert_eq!(source.options.headers, ["x-sap-*"]);
    assert_eq!(source.options.verify, Verify::StandardWebhooks { secrets: vec![Secret(vec![b'k'; 32])] });
    assert_eq!((source.options.quiet, source.options.body_bytes_max), (Some(Duration::from_secs(900)), 8 << 20));
    let uses: Vec<_> = source.plugins.iter().map(|one| (&*one.plugin, json!(one.settings), &*one.place)).collect();
    assert_eq!(
        uses,
        [
            ("erp-noise", json!({}), "sources.erp-conditions.plugins[0]"),
            ("erp", json!({"currency": "EUR", "kind": "COND_A"}), "sources.erp-conditions.plugins[1]"),
        ]
    );
    let pim = &plan.sources["pim"].options;
    assert_eq!((&*pim.owner, &pim.split, &pim.verify, pim.quiet), ("pim", &Split::Whole, &Verify::None, None));
}

#[test]
fn the_channels_of_the_example_are_understood() {
    let (_folder, plan, _) = example();
    assert_eq!(plan.targets.keys().map(|name| &**name).collect::<Vec<_>>(), ["shop.de", "shop.fr"]);
    let shop = &plan.targets["shop.fr"];
    assert_eq!((&*shop.name, shop.concurrency, shop.rate), ("shop.fr", 8, Some(500.0)));
    let webhook = webhook_of(&plan, "shop.fr");
    assert_eq!((&*webhook.url, webhook.timeout), ("http://shop-fr:8080/weir", Duration::from_secs(15)));
    assert_eq!(webhook.sign, [Secret(vec![b'k'; 32])]);
    assert_eq!(plan.channels.keys().map(|name| &**name).collect::<Vec<_>>(), ["storefront.de", "storefront.fr"]);
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
            deliver: true,
            suppress: true,
            freshness: Some(Duration::from_secs(60)),
            retry: retry::Options { first: Duration::from_secs(1), factor: 2.0, cap: Duration::from_secs(600), attempts: 12 },
            withdraw_max: WithdrawMax { share: 0.02, per: Duration::from_secs(3600), min: 100 },
            was: Some("web.de".into()),
        }
    );
    let page = json!({
        "currency": "EUR", "layout": {"columns": 3, "theme": "bold"}, "locale": "de_DE", "url": "http://shop-de:8080",
    });
    assert_eq!(json!(channel.plugins[1].settings), page);
}

#[test]
fn what_is_not_written_has_the_defaults_of_the_example() {
    let text =
        catalog("[channels.web]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = { kind = \"webhook\", url = \"http://shop\" }\n");
    let plan = plan_of(&[("weir.toml", &text)], &["weir.toml"]);
    let (_folder, example, _) = example();
    let (ours, theirs) = (&plan.channels["web"].options, &example.channels["storefront.de"].options);
    assert_eq!((&ours.retry, &ours.withdraw_max, ours.deliver, ours.suppress), (&theirs.retry, &theirs.withdraw_max, true, true));
    assert_eq!((ours.batch, &ours.needs, ours.freshness), (1, &Vec::new(), None));
    assert_eq!((plan.shares, plan.server.admin_listen, plan.server.watch), (example.shares, None, true));
    assert_eq!(plan.entities["product"].facet_bytes_max, example.entities["product"].facet_bytes_max);
    let (ours, theirs) = (&plan.targets["web"], &example.targets["shop.de"]);
    assert_eq!((ours.concurrency, ours.rate), (theirs.concurrency, None));
    assert_eq!(webhook_of(&plan, "web").timeout, webhook_of(&example, "shop.de").timeout);
}

#[test]
fn a_configuration_of_many_mistakes_is_answered_at_once() {
    check(
        r#"config_version = 1
[server]
listen = "localhost:7700"
reload = "wach"
[tokens.ops]
secret = { env = "NOT_SET" }
roles = ["operator"]
[entities.product]
facets.content = { owner = "pim" }
facets.price.de = { owner = "erp" }
facet_max = "64KB"
[entities.order]
kind = "log"
facets.all = { owner = "oms" }
[plugins.page]
path = "page.wasm"
sha256 = "abc"
[sources.pim]
verfy = { kind = "none" }
plugins = ["pim-product"]
quiet = 15
[sources.erp]
split = "xml"
[targets.shop]
kind = "webhook"
url = "ftp://shop"
rate = "500"
[channels.storefront]
entity = "produkt"
facets = ["content"]
needs = ["content", "stock.*"]
target = "shp"
freshness = "1 minute"
withdraw_max = { share = 0.02 }
[channels.Search]
entity = "product"
"#,
        expect![[r#"
            weir.toml:3:10: server.listen: "localhost:7700" is not an address to listen on; write an address and a port, such as "127.0.0.1:7700", "0.0.0.0:7700" or "[::1]:7700"
            weir.toml:4:10: server.reload: "wach" is not known here; did you mean "watch"?
            weir.toml:6:10: tokens.ops.secret: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
            weir.toml:7:10: tokens.ops.roles[0]: "operator" is not known here; did you mean "operate"?
            weir.toml:10:8: entities.product.facets.price: a name with a dot in it needs quotes; quote the name: facets."price.de"
            weir.toml:11:13: entities.product.facet_max: "64KB" is not a size; write a whole number and a unit, such as "500B", "64KiB", "16MiB" or "1GiB"
            weir.toml:13:8: entities.order.kind: log entities are not there yet; leave kind out, or write "state"
            weir.toml:16:8: plugins.page.path: page.wasm cannot be read: No such file or directory (os error 2); build it (`weir plugin build`), or correct the path
            weir.toml:17:10: plugins.page.sha256: "abc" is not a SHA-256; write its 64 hexadecimal digits, as `sha256sum` prints them
            weir.toml:19:1: sources.pim.verfy: there is no such key; did you mean "verify"?
            weir.toml:20:12: sources.pim.plugins[0]: there is no plugin "pim-product"; there is page
            weir.toml:21:9: sources.pim.quiet: 15 is not a duration; write a whole number and a unit, such as "250ms", "30s", "5m", "1h" or "30d"
            weir.toml:23:9: sources.erp.split: "xml" is not a way to split; write "xml:ELEMENT", "json:/pointer", "csv" or "lines"
            weir.toml:26:7: targets.shop.url: "ftp" is not spoken here; write such as "https://shop.example/weir" or "https://shop.example/products/{key}"
            weir.toml:27:8: targets.shop.rate: "500" is not a rate; write a whole number for each second, minute or hour, such as "500/s", "30/m" or "10/h"
            weir.toml:29:10: channels.storefront.entity: there is no entity type "produkt"; did you mean "product"?
            weir.toml:31:21: channels.storefront.needs[1]: the channel needs "stock.*" and does not get it; add "stock.*" to facets; there is content
            weir.toml:32:10: channels.storefront.target: there is no target "shp"; did you mean "shop"?
            weir.toml:33:13: channels.storefront.freshness: "1 minute" is not a duration; write a whole number and a unit, such as "250ms", "30s", "5m", "1h" or "30d"
            weir.toml:34:26: channels.storefront.withdraw_max.share: a share is expected here, not a number; write a percentage from 0% to 100%, such as "2%"
            weir.toml:35:11: channels.Search: "Search" cannot be a name; names are lower-case letters, digits, ".", "_" and "-", begin with a letter or digit, and are at most 128 long
            weir.toml:35:11: channels.Search: facets is missing; write which facets it gets, such as facets = ["content", "price.*"]; nothing new leaks by default
            weir.toml:35:11: channels.Search: target is missing; write the name of a target, or inline: target = { kind = "webhook", url = "…" }
        "#]],
    );
}

#[test]
fn syntax_errors_come_together_with_the_rest() {
    check(
        "config_version = 1\n[server]\nlisten = 127.0.0.1:7700\nreload = \"sometimes\"\n[channels.a\nentity = \"x\"\nentity = \"y\"\n",
        expect![[r#"
            weir.toml:3:15: this is not TOML: invalid float, expected nothing
            weir.toml:4:10: server.reload: "sometimes" is not known here; it is "watch" or "signal"
            weir.toml:5:12: this is not TOML: unclosed table, expected `]`
        "#]],
    );
}

#[test]
fn rows_that_cannot_be_filled_are_said() {
    check(
        &catalog(
            r#"
[each.site.de]
url = "http://shop-de"
[each.site.fr]
uri = "http://shop-fr"
[targets.shop]
for_each = "site"
kind = "webhook"
url = "{site.url}/{key}"
[targets.other]
kind = "webhook"
url = "http://{site}"
[targets.third]
for_each = "sites"
kind = "webhook"
url = "http://{site}"
[channels.web]
for_each = "site"
entity = "product"
facets = ["price.{sit}-*"]
target = "shop"
"#,
        ),
        expect![[r#"
            weir.toml:16:7: targets.shop.url: each.site.fr has no column "url" for {site.url}; did you mean "uri"?
            weir.toml:19:7: targets.other.url: {site} has nothing to be filled from; a table with for_each = "site" has it
            weir.toml:21:12: targets.third.for_each: there is no table of rows [each.sites]; did you mean "site"?
            weir.toml:27:11: channels.web.facets[0]: {sit} has nothing to be filled from; did you mean {site}?
            weir.toml:28:10: channels.web.target: there is no target "shop"; there is one for each site: write "shop.{site}"
        "#]],
    );
}

#[test]
fn targets_that_cannot_be_reached_are_said() {
    check(
        &catalog(
            r#"
[targets.a]
kind = "webhook"
url = "shop.example/weir"
[targets.b]
kind = "webhook"
url = "https://user:password@shop.example"
[targets.c]
kind = "webhook"
url = "https://{key}.example"
[targets.d]
kind = "search"
url = "https://shop.example#here"
timeout = "1h"
concurrency = 0
[targets.e]
kind = "webhook"
url = "https://shop.example"
sign = "shared"
auth = { bearer = { env = "EMPTY" }, basic = { user = "a", password = "b" } }
[targets.f]
kind = "webhook"
url = "https://shop.example/{key}"
auth = { headers = { Weir-Entity = "x", X-Api-Key = { env = "EMPTY" } } }
[channels.f]
entity = "product"
facets = ["content"]
target = "f"
batch = 10
"#,
        ),
        expect![[r#"
            weir.toml:11:7: targets.a.url: the URL does not begin with http:// or https://; write such as "https://shop.example/weir" or "https://shop.example/products/{key}"
            weir.toml:14:7: targets.b.url: the URL holds a user; write auth = { basic = { user = "…", password = { env = "NAME" } } }
            weir.toml:17:7: targets.c.url: {key} stands in the host; it stands in the path or the query
            weir.toml:19:8: targets.d.kind: there is no kind "search" of target; write "webhook", the only one so far
            weir.toml:20:7: targets.d.url: the URL has a fragment, which is never sent; leave out the # and what follows
            weir.toml:21:11: targets.d.timeout: 1h is out of bounds; write 10ms to 10m
            weir.toml:22:15: targets.d.concurrency: 0 is out of bounds; write a whole number from 1 to 1024
            weir.toml:26:8: targets.e.sign: the secret does not begin with whsec_; a Standard Webhooks secret is "whsec_" and 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:27:1: targets.e.auth: there must be one of bearer, basic and headers; write one of bearer = { env = "NAME" }, basic = { user = "…", password = { env = "NAME" } }, headers = { X-Api-Key = … }
            weir.toml:31:22: targets.f.auth.headers.Weir-Entity: "Weir-Entity" cannot be a header here; write the name of a header that Weir does not send itself
            weir.toml:31:53: targets.f.auth.headers.X-Api-Key: the secret is empty; what is set and empty is no secret
            weir.toml:36:9: channels.f.batch: each entity has its own URL there, so there are no batches; leave batch out, or send to a URL without {key}
        "#]],
    );
}

#[test]
fn beyond_loopback_everybody_shows_who_they_are() {
    check(
        r#"config_version = 1
server.listen = "0.0.0.0:7700"
[entities.product]
facets.content = { owner = "pim" }
facets.base = { owner = "erp" }
[sources.pim]
[sources.erp]
verify = { kind = "none" }
[sources.oms]
owner = "pim"
verify = { kind = "bearer", token = "a-token-of-some-length" }
"#,
        expect![[r#"
            weir.toml:2:17: server.listen: 0.0.0.0:7700 can be reached from other machines, and there is no token for the admin routes; write [tokens.NAME] with secret = { env = "NAME" } and roles, or keep the admin routes on loopback
            weir.toml:6:10: sources.pim: the source takes events from everybody, and 0.0.0.0:7700 can be reached from other machines; write verify = { kind = "bearer", tokens = [{ env = "NAME" }] }, or hmac, or standard-webhooks
            weir.toml:8:1: sources.erp.verify: the source takes events from everybody, and 0.0.0.0:7700 can be reached from other machines; write verify = { kind = "bearer", tokens = [{ env = "NAME" }] }, or hmac, or standard-webhooks
        "#]],
    );
    check(
        r#"config_version = 1
[server]
listen = "127.0.0.1:7700"
admin_listen = "[::]:7701"
"#,
        expect![[r#"
            weir.toml:4:16: server.admin_listen: [::]:7701 can be reached from other machines, and there is no token for the admin routes; write [tokens.NAME] with secret = { env = "NAME" } and roles, or keep the admin routes on loopback
        "#]],
    );
}

#[test]
fn names_that_meet_are_said() {
    check(
        &catalog(
            r#"
[each.site.de]
[channels.web]
for_each = "site"
entity = "product"
facets = ["content"]
target = { kind = "webhook", url = "http://shop" }
was = "storefront"
[channels."web.de"]
entity = "product"
facets = ["content"]
target = { kind = "webhook", url = "http://shop" }
[channels.search]
entity = "product"
facets = ["content"]
target = { kind = "webhook", url = "http://shop" }
was = "web.de"
[channels.feed]
entity = "product"
facets = ["content"]
target = { kind = "webhook", url = "http://shop" }
was = "storefront.de"
"#,
        ),
        expect![[r#"
            weir.toml:16:11: channels."web.de": there are two channels of the name "web.de"; rename one of them
            weir.toml:19:1: channels."web.de".target: this target takes the name of its channel, and there is a target "web.de" already; name one of them otherwise
            weir.toml:24:7: channels.search.was: there is a channel "web.de" still; was names a channel that is here no more; leave it out
            weir.toml:29:7: channels.feed.was: "web.de" was "storefront.de" as well; only one channel can go on where it stopped
        "#]],
    );
}

#[test]
fn what_is_odd_is_a_warning() {
    check(
        r#"config_version = 1
[tokens.ops]
secret = "short"
roles = ["read"]
[entities.product]
facets.content = { owner = "pin" }
[sources.pim]
[each.site]
[targets.shop]
kind = "webhook"
url = "http://shop"
"#,
        expect![[r#"
            fine
            weir.toml:3:10: tokens.ops.secret: the token is short enough to be guessed; take one such as `openssl rand -hex 24` prints
            weir.toml:6:8: entities.product.facets.content: no source writes as "pin", so this facet never gets a value; did you mean "pim"?
            weir.toml:7:10: sources.pim: no facet is owned by "pim", so every change of this source is foreign; did you mean "pin"?
            weir.toml:8:7: each.site: the table has no rows; write a row: [each.site.NAME]
            weir.toml:9:10: targets.shop: no channel delivers to this target
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
    let plan = plan_of(&[("weir.toml", &text), ("github.secret", "three\n")], &["weir.toml"]);
    let verify = |name: &str| plan.sources[name].options.verify.clone();
    let secrets = |texts: &[&str]| texts.iter().map(|text| Secret(text.as_bytes().to_vec())).collect::<Vec<_>>();
    let hmac = |header: &str, prefix: &str, encoding, texts: &[&str]| Verify::Hmac {
        header: header.to_owned(),
        prefix: prefix.to_owned(),
        encoding,
        secrets: secrets(texts),
    };
    assert_eq!(verify("a"), hmac("x-shopify-hmac-sha256", "", Encoding::Base64, &["one", "two"]));
    assert_eq!(verify("b"), hmac("x-hub-signature-256", "sha256=", Encoding::Hex, &["three"]));
    assert_eq!(verify("c"), hmac("x-signature", "v1=", Encoding::Base64, &["one"]));
    assert_eq!(verify("d"), Verify::Bearer { tokens: secrets(&["one", "two"]) });
    assert_eq!(verify("e"), Verify::StandardWebhooks { secrets: vec![Secret(vec![b'k'; 32])] });
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
            weir.toml:3:1: sources.a.verify: header is missing; write the header that holds the signature, or preset = "shopify" or "github"
            weir.toml:5:19: sources.b.verify.kind: there is no kind "bearr" of verification; did you mean "bearer"?
            weir.toml:7:51: sources.c.verify.secrets[0]: the secret has 5 bytes; a Standard Webhooks secret is "whsec_" and 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:7:69: sources.c.verify.secrets[1]: the secret does not begin with whsec_; a Standard Webhooks secret is "whsec_" and 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:7:78: sources.c.verify.secrets[2]: the secret is not base64 behind its whsec_; a Standard Webhooks secret is "whsec_" and 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:7:89: sources.c.verify.secrets[3]: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
            weir.toml:9:38: sources.d.verify.tokens: there is no secret, so nobody could be verified; write tokens = [{ env = "NAME" }]
            weir.toml:11:38: sources.e.verify.tokens: there is token as well; write all of them into tokens
            weir.toml:13:37: sources.f.verify.token: nowhere cannot be read: No such file or directory (os error 2)
        "#]],
    );
}

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
    let files = [("weir.toml", &*text), ("page.wasm", ""), ("deliver", "false\n"), ("url", "https://hooks.example/a-secret-path\r\n")];
    let plan = plan_of(&files, &["weir.toml"]);
    let channel = &plan.channels["web.de"];
    assert_eq!((channel.options.batch, channel.options.deliver), (64, false));
    assert_eq!(json!(channel.plugins[0].settings), json!({"currency": "CHF-from-outside", "size": 64, "other": true}));
    assert_eq!(webhook_of(&plan, "web.de").url, "https://hooks.example/a-secret-path");
    assert_eq!(webhook_of(&plan, "web.de").batch, 64);
    let watched: Vec<_> = plan.files.iter().filter_map(|file| file.file_name()).collect();
    assert_eq!(watched, ["weir.toml", "deliver", "url"]);
    let shown = redacted(&plan);
    assert_eq!(shown["plugins"]["page"]["settings"]["currency"], json!("[secret]"));
    assert_eq!(shown["targets"]["web.de"]["url"], json!("https://hooks.example/[secret]"));
    assert!(!shown.to_string().contains("a2tra2"), "{shown}");
}

#[test]
fn secrets_may_be_missing_where_none_are_wanted() {
    let text = catalog("[tokens.ops]\nsecret = { env = \"NOT_SET\" }\nroles = [\"read\"]\n[store]\npath = { env = \"NOT_SET\" }\n");
    let folder = Folder::of(&[("weir.toml", &text)]);
    let complaints = |secrets| folder.shown(&folder.read(&["weir.toml"], secrets).expect_err("complaints"));
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
    assert_eq!(plan.entities["product"].facets.iter().map(|rule| &*rule.pattern).collect::<Vec<_>>(), ["base", "content"]);
    assert!(plan.plugins["pim"].path.ends_with("conf.d/pim.wasm"), "{:?}", plan.plugins["pim"].path);
    assert_eq!((plan.files.len(), plan.folders.len()), (4, 1));
    let again = "include = []\n[sources.erp]\nverify = { kind = \"none\" }\n";
    check_files(
        &[("weir.toml", main), ("conf.d/erp.toml", erp), ("more.toml", again)],
        &["weir.toml"],
        expect![[r#"
            more.toml:1:1: include: an included file includes no others; include stands in files given with -c only
            more.toml:3:12: sources.erp.verify.kind: this is set already, at conf.d/erp.toml:4:12; included files stand beside each other; only a file given with a later -c overrides
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
    let stage =
        "[server]\nlisten = \"127.0.0.1:8800\"\n[sources.erp]\nverify = { kind = \"bearer\", token = \"stage\" }\n[lanes]\nbulk = 2\n";
    let base = catalog("[server]\nlisten = \"127.0.0.1:7700\"\nreload = \"signal\"\n").replace(
        "[sources.erp]",
        "[sources.erp]\nverify = { kind = \"hmac\", preset = \"github\", secret = { env = \"ERP_SECRET\" } }\nquiet = \"1h\"",
    );
    let plan = plan_of(&[("weir.toml", &base), ("envs/stage.toml", stage)], &["weir.toml", "envs/stage.toml"]);
    assert_eq!((plan.server.listen.port(), plan.server.watch, plan.shares), (8800, false, [16, 4, 2]));
    assert_eq!(plan.sources["erp"].options.verify, Verify::Bearer { tokens: vec![Secret(b"stage".to_vec())] });
    assert_eq!(plan.sources["erp"].options.quiet, Some(Duration::from_secs(3600)));
    check_files(
        &[("weir.toml", &base)],
        &["weir.toml", "weir.toml", "prod.toml"],
        expect![[r#"
        weir.toml: this file is read already
        prod.toml: this file cannot be read: No such file or directory (os error 2)
    "#]],
    );
}

#[test]
fn a_difference_says_what_to_do_and_no_more() {
    let (_folder, old, _) = example();
    assert!(difference(&old, &old.clone()).is_empty());
    let mut new = old.clone();
    new.places.clear();
    assert!(difference(&old, &new).is_empty(), "a line that moved is no difference");
    new.server.listen.set_port(1);
    new.store_path = "elsewhere".into();
    new.plugins.get_mut("in-stock").expect("there").limits.log_bytes = 1;
    new.targets.get_mut("shop.fr").expect("there").concurrency = 1;
    let mut moved = new.channels.remove("storefront.de").expect("there");
    moved.options.was = Some("storefront.de".into());
    new.channels.insert("web.de".into(), moved.clone());
    moved.options.was = None;
    new.channels.insert("more".into(), moved);
    new.sources.remove("oms");
    let found = difference(&old, &new);
    let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<Vec<Arc<str>>>();
    assert_eq!(found.channels, Names { added: names(&["more"]), changed: names(&["storefront.fr"]), removed: vec![] });
    assert_eq!(found.renamed, [Renamed { from: "storefront.de".into(), to: "web.de".into() }]);
    assert_eq!(found.sources, Names { removed: names(&["oms"]), ..Names::default() });
    assert_eq!((&found.plugins.changed, &found.targets.changed), (&names(&["in-stock"]), &names(&["shop.fr"])));
    assert_eq!(found.needs_restart.len(), 2, "{:?}", found.needs_restart);
}

#[test]
fn a_start_is_a_difference_from_the_empty_plan() {
    let (_folder, plan, _) = example();
    let found = difference(&plan.emptied(), &plan);
    assert_eq!((found.sources.added.len(), found.targets.added.len(), found.plugins.added.len()), (3, 2, 4));
    assert_eq!((found.channels.added.len(), found.renamed.len()), (0, 2), "both channels were another before");
    assert!(found.needs_restart.is_empty());
}

#[test]
fn a_plan_is_shown_as_it_would_be_written() {
    let (folder, plan, _) = example();
    let shown = format!("{:#}\n", redacted(&plan)).replace(&format!("{}/", folder.0.path().display()), "");
    expect![[r#"
        {
          "channels": {
            "storefront.de": {
              "batch": 1,
              "deliver": true,
              "entity": "product",
              "facets": [
                "content",
                "price.de-*",
                "stock.*"
              ],
              "freshness": "1m",
              "needs": [
                "content",
                "price.de-*"
              ],
              "plugins": [
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "theme": "bold"
                    },
                    "locale": "de_DE",
                    "url": "http://shop-de:8080"
                  },
                  "use": "in-stock"
                },
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "columns": 3,
                      "theme": "bold"
                    },
                    "locale": "de_DE",
                    "url": "http://shop-de:8080"
                  },
                  "use": "storefront-page"
                }
              ],
              "retry": {
                "attempts": 12,
                "cap": "10m",
                "factor": 2.0,
                "first": "1s"
              },
              "suppress": true,
              "target": "shop.de",
              "was": "web.de",
              "withdraw_max": {
                "min": 100,
                "per": "1h",
                "share": "2%"
              }
            },
            "storefront.fr": {
              "batch": 1,
              "deliver": true,
              "entity": "product",
              "facets": [
                "content",
                "price.fr-*",
                "stock.*"
              ],
              "freshness": "1m",
              "needs": [
                "content",
                "price.fr-*"
              ],
              "plugins": [
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "theme": "bold"
                    },
                    "locale": "fr_FR",
                    "url": "http://shop-fr:8080"
                  },
                  "use": "in-stock"
                },
                {
                  "settings": {
                    "currency": "EUR",
                    "layout": {
                      "columns": 3,
                      "theme": "bold"
                    },
                    "locale": "fr_FR",
                    "url": "http://shop-fr:8080"
                  },
                  "use": "storefront-page"
                }
              ],
              "retry": {
                "attempts": 12,
                "cap": "10m",
                "factor": 2.0,
                "first": "1s"
              },
              "suppress": true,
              "target": "shop.fr",
              "was": "web.fr",
              "withdraw_max": {
                "min": 100,
                "per": "1h",
                "share": "2%"
              }
            }
          },
          "config_version": 1,
          "entities": {
            "product": {
              "entities_max": 5000000,
              "facet_max": "256KiB",
              "facets": {
                "content": {
                  "lane": "normal",
                  "owner": "pim"
                },
                "price.*": {
                  "lane": "urgent",
                  "owner": "erp"
                },
                "stock.*": {
                  "lane": "urgent",
                  "owner": "oms"
                }
              },
              "kind": "state"
            }
          },
          "files": [
            "weir.toml"
          ],
          "lanes": {
            "bulk": 1,
            "normal": 4,
            "urgent": 16
          },
          "plugins": {
            "erp": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/erp-product/dist/erp_product.wasm",
              "settings": {
                "currency": "EUR"
              },
              "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            },
            "erp-noise": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/noise.wasm",
              "settings": {},
              "sha256": null
            },
            "in-stock": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/in-stock.wasm",
              "settings": {},
              "sha256": null
            },
            "storefront-page": {
              "limits": {
                "log": "64KiB",
                "memory": "64MiB",
                "output": "16MiB",
                "time": "1s"
              },
              "path": "plugins/page.wasm",
              "settings": {
                "currency": "USD",
                "layout": {
                  "columns": 3,
                  "theme": "plain"
                }
              },
              "sha256": null
            }
          },
          "server": {
            "admin_listen": "127.0.0.1:7701",
            "listen": "127.0.0.1:7700",
            "reload": "watch"
          },
          "sources": {
            "erp-conditions": {
              "body_max": "8MiB",
              "headers": [
                "x-sap-*"
              ],
              "owner": "erp",
              "plugins": [
                {
                  "settings": {},
                  "use": "erp-noise"
                },
                {
                  "settings": {
                    "currency": "EUR",
                    "kind": "COND_A"
                  },
                  "use": "erp"
                }
              ],
              "quiet": "15m",
              "split": "xml:IDOC",
              "verify": {
                "kind": "standard-webhooks",
                "secrets": [
                  "[secret]"
                ]
              }
            },
            "oms": {
              "body_max": "8MiB",
              "headers": [],
              "owner": "oms",
              "plugins": [],
              "quiet": null,
              "split": null,
              "verify": {
                "kind": "none"
              }
            },
            "pim": {
              "body_max": "8MiB",
              "headers": [],
              "owner": "pim",
              "plugins": [],
              "quiet": null,
              "split": null,
              "verify": {
                "kind": "none"
              }
            }
          },
          "store": {
            "forget": "30d",
            "path": "data"
          },
          "targets": {
            "shop.de": {
              "auth": null,
              "concurrency": 8,
              "egress": "private",
              "format": "array",
              "kind": "webhook",
              "rate": "500/s",
              "sign": [
                "[secret]"
              ],
              "timeout": "15s",
              "url": "http://shop-de:8080/weir"
            },
            "shop.fr": {
              "auth": null,
              "concurrency": 8,
              "egress": "private",
              "format": "array",
              "kind": "webhook",
              "rate": "500/s",
              "sign": [
                "[secret]"
              ],
              "timeout": "15s",
              "url": "http://shop-fr:8080/weir"
            }
          },
          "tokens": {
            "ops": {
              "role": "operate",
              "secret": "[secret]"
            }
          }
        }
    "#]]
    .assert_eq(&shown);
    for secret in ["operator-token", "a2tra2", "kkkk"] {
        assert!(!shown.contains(secret) && !format!("{plan:?}").contains(secret), "{secret}");
    }
}

#[test]
fn a_tower_of_keys_or_brackets_is_refused() {
    let deep = [format!("a = {}", "[".repeat(100_000)), format!("{}a = 1", "a.".repeat(100_000)), format!("[{}a]", "a.".repeat(100_000))];
    for text in deep {
        let folder = Folder::of(&[("weir.toml", &text)]);
        assert!(folder.read(&["weir.toml"], true).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A piece of the example is cut out, doubled or replaced by noise: there is an answer, and complaints have a place.
    #[test]
    fn no_file_brings_the_reader_down(start in 0..EXAMPLE.len(), length in 0..60_usize, noise in "[\\PC\n]{0,12}", keep: bool) {
        let end = (start + length).min(EXAMPLE.len());
        let text = format!("{}{noise}{}", &EXAMPLE[..start], &EXAMPLE[if keep { start } else { end }..]);
        let folder = Folder::of(&[("weir.toml", &text)]);
        if let Err(complaints) = folder.read(&["weir.toml"], true) {
            prop_assert!(!complaints.is_empty());
            for complaint in complaints {
                prop_assert!(complaint.line >= 1 && complaint.line <= text.matches('\n').count() + 1, "{complaint}");
                prop_assert!(complaint.column >= 1 && !complaint.what.is_empty(), "{complaint}");
            }
        }
    }
}
