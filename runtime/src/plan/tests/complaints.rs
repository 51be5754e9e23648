//! Tests of the complaints about wrong files.

use super::*;

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
            weir.toml:4:10: server.reload: "wach" is not allowed here; did you mean "watch"?
            weir.toml:6:10: tokens.ops.secret: the environment variable NOT_SET is not set; set it, or give a default: { env = "NOT_SET", default = "…" }
            weir.toml:7:10: tokens.ops.roles[0]: "operator" is not allowed here; did you mean "operate"?
            weir.toml:10:8: entities.product.facets.price: a name with a dot in it needs quotes; quote the name: facets."price.de"
            weir.toml:11:13: entities.product.facet_max: "64KB" is not a size; write a whole number and a unit, such as "500B", "64KiB", "16MiB" or "1GiB"
            weir.toml:13:8: entities.order.kind: log entities are not supported yet; leave kind out, or write "state"
            weir.toml:17:10: plugins.page.sha256: "abc" is not a SHA-256; write its 64 hexadecimal digits, as `sha256sum` prints them
            weir.toml:19:1: sources.pim.verfy: there is no such key; did you mean "verify"?
            weir.toml:20:12: sources.pim.plugins[0]: there is no plugin "pim-product"; available: page
            weir.toml:21:9: sources.pim.quiet: 15 is not a duration; write a whole number and a unit, such as "250ms", "30s", "5m", "1h" or "30d"
            weir.toml:23:9: sources.erp.split: "xml" is not a way to split; write "xml:ELEMENT", "json:/pointer", "csv" or "lines"
            weir.toml:26:7: targets.shop.url: unsupported scheme "ftp"; write one such as "https://shop.example/weir" or "https://shop.example/products/{key}"
            weir.toml:27:8: targets.shop.rate: "500" is not a rate; write a whole number per second, minute or hour, such as "500/s", "30/m" or "10/h"
            weir.toml:29:10: channels.storefront.entity: there is no entity type "produkt"; did you mean "product"?
            weir.toml:31:21: channels.storefront.needs[1]: the channel needs "stock.*" but does not get it; add "stock.*" to facets; there is content
            weir.toml:32:10: channels.storefront.target: there is no target "shp"; did you mean "shop"?
            weir.toml:33:13: channels.storefront.freshness: "1 minute" is not a duration; write a whole number and a unit, such as "250ms", "30s", "5m", "1h" or "30d"
            weir.toml:34:26: channels.storefront.withdraw_max.share: a share is expected here, not a number; write a percentage from 0% to 100%, such as "2%"
            weir.toml:35:11: channels.Search: "Search" cannot be a name; names are lower-case letters, digits, ".", "_" and "-", begin with a letter or digit, and are at most 128 bytes long
            weir.toml:35:11: channels.Search: facets is missing; write which facets it gets, such as facets = ["content", "price.*"]; nothing new leaks by default
            weir.toml:35:11: channels.Search: target is missing; write the name of a target, or inline: target = { kind = "webhook", url = "…" }
        "#]],
    );
}

// Each of these would be found by the first answer otherwise, in the night.
#[test]
fn the_form_of_requests_and_the_meaning_of_answers_are_checked() {
    check(
        r#"config_version = 1
[server]
listen = "127.0.0.1:7700"
[targets.shop]
kind = "webhook"
url = "http://shop/graphql"
method = "GET"
delete = "NONE"
form = "naked"
wrap = ["{"]
content_type = "json"
headers = { Host = "x" }
answers = "shopfy"
fail_if = ["errors"]
items = { at = "/results", by = "number" }
[[targets.shop.answer]]
at = "/errors/*/code"
is = [["A"]]
then = "throttle"
[[targets.shop.answer]]
then = "retry"
"#,
        expect![[r#"
            weir.toml:7:10: targets.shop.method: "GET" is not a method; write POST, PUT or PATCH
            weir.toml:8:10: targets.shop.delete: "NONE" is not a method; write POST, PUT, PATCH, DELETE or none
            weir.toml:9:8: targets.shop.form: "naked" is not allowed here; write "envelope" or "bare"
            weir.toml:10:8: targets.shop.wrap: two texts are expected here; write what stands before and after the items: wrap = ['{"records":[', ']}']
            weir.toml:11:16: targets.shop.content_type: "json" is not a content type; write one such as "application/json"
            weir.toml:12:13: targets.shop.headers.Host: "Host" cannot be set here; write the name of a header that Weir does not send itself
            weir.toml:13:11: targets.shop.answers: there is no preset "shopfy" for answers; write "shopify" or "bigcommerce" or "commercetools" or "commercetools-import" or "magento" or "shopware" or "akeneo" or "salesforce" or "amazon-listings", or describe the answers with [[…answer]]
            weir.toml:14:12: targets.shop.fail_if[0]: "errors" is not a JSON pointer; write one such as "/errors/*/code": each name after a /, * for every element
            weir.toml:15:33: targets.shop.items.by: "number" is not allowed here; write "position" or "id" or "line" or "pointer"
            weir.toml:18:7: targets.shop.answer[0].is[0]: a list or a table cannot be compared here; write a string, a number, true or false
            weir.toml:19:8: targets.shop.answer[0].then: "throttle" is not allowed here; did you mean "throttled"?
            weir.toml:20:1: targets.shop.answer[1]: at is missing: the rule does not say where to look; write at = "/errors/*/code", or status = [423] alone
        "#]],
    );
}

// Attributes became fields until the index had a thousand, and a price beside the price of a country made
// each document a conflict.
#[test]
fn facets_that_become_fields_of_a_mapping_are_warned_of() {
    let text = |plugins: &str, dialect: &str| {
        format!(
            r#"config_version = 1
[entities.product]
facets.content = {{ owner = "pim" }}
facets.price = {{ owner = "pim" }}
facets."price.*" = {{ owner = "pim" }}
facets.prices = {{ owner = "pim" }}
[plugins.page]
path = "page.wasm"
[sources.pim]
[channels.one]
entity = "product"
facets = ["content", "prices"]
target = {{ kind = "search", dialect = "{dialect}", url = "http://search", index = "one" }}
[channels.two]
entity = "product"
facets = ["content", "price", "price.*"]
target = {{ kind = "search", dialect = "{dialect}", url = "http://search", index = "two" }}
plugins = [{plugins}]
[channels.page]
entity = "product"
facets = ["price.*"]
target = {{ kind = "webhook", url = "http://shop" }}
plugins = ["page"]
"#
        )
    };
    check(
        &text("", "opensearch"),
        expect![[r#"
            fine
            weir.toml:14:11: channels.two.facets: each facet of "price.*" becomes a field of the index, which takes no new document once it has all the fields that it may have (1,000, unless its mapping says otherwise); write a renderer that puts them into fields that are always the same, such as a list of prices
            weir.toml:14:11: channels.two.facets: "price" and "price.*" exclude each other in a mapping, where a dot opens an object: documents with both are refused, unless the value of "price" is always an object; rename one of them, or write a renderer
        "#]],
    );
    check(
        &text("\"page\"", "opensearch"),
        expect![[r#"
            fine
        "#]],
    );
    check(
        &text("", "meilisearch"),
        expect![[r#"
            fine
        "#]],
    );
}

#[test]
fn search_engines_and_shared_paces_are_checked() {
    check(
        r#"config_version = 1
[server]
listen = "127.0.0.1:7700"
[entities.product]
facets.content = { owner = "pim" }
[paces.quota]
rate = "10/s"
burst = 3
[paces.points]
cost = "points"
[paces.bytes]
cost = "bytes"
rate = "10/s"
[targets.search]
kind = "search"
dialect = "solr"
url = "http://search/{key}"
index = "products"
pace = "qota"
[targets.upper]
kind = "search"
dialect = "elasticsearch"
url = "https://x.eu-west-1.aoss.amazonaws.com"
index = "products-DE"
prefix = "much_too_long_"
pace = "quota"
rate = "5/s"
[targets.a]
kind = "search"
dialect = "meilisearch"
url = "http://search"
index = "products"
[channels.one]
entity = "product"
facets = ["content"]
target = "a"
[channels.two]
entity = "product"
facets = ["content"]
target = { kind = "search", dialect = "meilisearch", url = "http://search/", index = "products" }
"#,
        expect![[r#"
            weir.toml:8:1: paces.quota.burst: there is no such key; available: concurrency, cost and rate
            weir.toml:10:8: paces.points.cost: "points" is not allowed here; write "requests" or "items" or "bytes"
            weir.toml:13:8: paces.bytes.rate: "10/s" is not a rate of bytes; write a size per second, minute or hour, such as "512KiB/s" or "100MiB/m"
            weir.toml:16:11: targets.search.dialect: "solr" is not allowed here; write "elasticsearch" or "opensearch" or "meilisearch" or "typesense" or "algolia"
            weir.toml:17:7: targets.search.url: this URL is that of one document; write the URL of the engine alone; index and ids are added to it
            weir.toml:19:8: targets.search.pace: there is no pace "qota"; did you mean "quota"?
            weir.toml:23:7: targets.upper.url: OpenSearch Serverless takes only requests signed with SigV4, which Weir does not write; use a domain with basic authentication, or a proxy that signs requests
            weir.toml:24:9: targets.upper.index: "products-DE" cannot be the name of an index; write lower-case letters, digits, -, _ and ., beginning with a letter or a digit
            weir.toml:25:10: targets.upper.prefix: "much_too_long_" is not a prefix of ids; write at most 11 ASCII letters, digits and -
            weir.toml:27:1: targets.upper.rate: rate belongs to the pace that the target shares; write it into the pace, or leave pace out
            weir.toml:37:11: channels.two: the channel "one" delivers to the same place; they would overwrite each other's documents: give one of the targets a prefix, or an index of its own
        "#]],
    );
}

// A longest wait without a wait would be ignored, and one that is shorter would end every wait.
#[test]
fn the_wait_of_a_channel_is_checked() {
    check(
        r#"config_version = 1
[server]
listen = "127.0.0.1:7700"
[entities.product]
facets.content = { owner = "pim" }
[targets.shop]
kind = "webhook"
url = "http://shop"
[channels.a]
entity = "product"
facets = ["content"]
target = "shop"
debounce = "50ms"
[channels.b]
entity = "product"
facets = ["content"]
target = "shop"
debounce_max = "30s"
[channels.c]
entity = "product"
facets = ["content"]
target = "shop"
debounce = "5s"
debounce_max = "2s"
"#,
        expect![[r#"
            weir.toml:13:12: channels.a.debounce: 50ms is out of bounds; write a value from 500ms to 1d
            weir.toml:18:16: channels.b.debounce_max: debounce_max bounds a wait, and there is no debounce; add debounce, such as debounce = "2s", or remove it
            weir.toml:24:16: channels.c.debounce_max: the longest wait, 2s, is shorter than debounce, 5s; write a longer one; it is how long an entity that changes all the time waits
        "#]],
    );
}

#[test]
fn syntax_errors_come_together_with_the_rest() {
    check(
        "config_version = 1\n[server]\nlisten = 127.0.0.1:7700\nreload = \"sometimes\"\n[channels.a\nentity = \"x\"\nentity = \"y\"\n[lanes]\nbulk = 99999999999999999999\nurgent = 0\n",
        expect![[r#"
            weir.toml:3:15: this is not TOML: invalid float, expected nothing
            weir.toml:4:10: server.reload: "sometimes" is not allowed here; write "watch" or "signal"
            weir.toml:5:12: this is not TOML: unclosed table, expected `]`
            weir.toml:9:8: this number is too large: it must fit in 64 bits
            weir.toml:10:10: lanes.urgent: 0 is out of bounds; write a whole number from 1 to 1000
        "#]],
    );
}

// A source was given 200 MiB, and requests above 64 MiB were answered 413 all the same.
#[test]
fn a_body_may_not_be_longer_than_a_server_takes() {
    let source = |most: &str| {
        format!(
            "config_version = 1\n[entities.product]\nfacets.content = {{ owner = \"pim\" }}\n[sources.pim]\nbody_max = \"{most}\"\n"
        )
    };
    let plan = plan_of(&[("weir.toml", &source("64MiB"))], &["weir.toml"]);
    assert_eq!(plan.sources["pim"].options.body_bytes_max, 64 << 20);
    check(
        &source("65MiB"),
        expect![[r#"
            weir.toml:5:12: sources.pim.body_max: 65MiB is out of bounds; write a value from 1KiB to 64MiB
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
            weir.toml:19:7: targets.other.url: {site} cannot be filled in here; only a table with for_each = "site" has a value for it
            weir.toml:21:12: targets.third.for_each: there is no table of rows [each.sites]; did you mean "site"?
            weir.toml:27:11: channels.web.facets[0]: {sit} cannot be filled in here; did you mean {site}?
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
kind = "webhook"
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
[targets.g]
kind = "postgress"
url = { env = "DATABASE_URL" }
table = "products"
[targets.h]
kind = "amqp"
[channels.f]
entity = "product"
facets = ["content"]
target = "f"
batch = 10
"#,
        ),
        expect![[r#"
            weir.toml:11:7: targets.a.url: the URL does not start with http:// or https://; write one such as "https://shop.example/weir" or "https://shop.example/products/{key}"
            weir.toml:14:7: targets.b.url: the URL contains a user; write auth = { basic = { user = "…", password = { env = "NAME" } } }
            weir.toml:17:7: targets.c.url: {key} is in the host; put it in the path or the query
            weir.toml:20:7: targets.d.url: the URL has a fragment, which is never sent; leave out the # and what follows
            weir.toml:21:11: targets.d.timeout: 1h is out of bounds; write a value from 10ms to 10m
            weir.toml:22:15: targets.d.concurrency: 0 is out of bounds; write a whole number from 1 to 1024
            weir.toml:26:8: targets.e.sign: this is not a Standard Webhooks secret: write `whsec_` followed by 24 to 64 bytes in base64; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:27:1: targets.e.auth: exactly one of bearer, basic, headers and oauth2 is needed; write one of bearer = { env = "NAME" }, basic = { user = "…", password = { env = "NAME" } }, headers = { X-Api-Key = … }, oauth2 = { token_url = "…", client_id = "…", client_secret = { env = "NAME" } }
            weir.toml:31:22: targets.f.auth.headers.Weir-Entity: "Weir-Entity" cannot be set here; write the name of a header that Weir does not send itself
            weir.toml:31:53: targets.f.auth.headers.X-Api-Key: the secret is empty; a secret that is set must not be empty
            weir.toml:33:8: targets.g.kind: there is no target kind "postgress"; did you mean "postgres"?
            weir.toml:37:8: targets.h.kind: there is no target kind "amqp"; available: webhook, search, postgres, nats, kafka, bucket, file, feed and scripted
            weir.toml:42:9: channels.f.batch: each entity has its own URL there, so there are no batches; leave batch out, or send to a URL without {key}
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
            weir.toml:6:10: sources.pim: the source accepts events from anyone, and 0.0.0.0:7700 can be reached from other machines; write verify = { kind = "bearer", tokens = [{ env = "NAME" }] }, or hmac, or standard-webhooks
            weir.toml:8:1: sources.erp.verify: the source accepts events from anyone, and 0.0.0.0:7700 can be reached from other machines; write verify = { kind = "bearer", tokens = [{ env = "NAME" }] }, or hmac, or standard-webhooks
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

// A single row of several could not be renamed: `was` of the channel is the same for all rows.
#[test]
fn the_former_name_of_a_row_is_that_of_its_channels() {
    let channel = |was: &str| {
        catalog(&format!(
            r#"
[each.site.de]
[each.site.uk]
was = "gb"
[targets.own]
for_each = "site"
kind = "webhook"
url = "http://shop/{{site}}"
[channels.web]
for_each = "site"
entity = "product"
facets = ["content"]
target = {{ kind = "webhook", url = "http://shop" }}
{was}"#
        ))
    };
    for (was, expected) in [
        ("", [None, Some("web.gb")]),
        ("was = \"shop\"\n", [Some("shop.de"), Some("shop.gb")]),
        (
            "was = \"shop-{site}\"\n",
            [Some("shop-de"), Some("shop-uk")],
        ),
    ] {
        let folder = Folder::of(&[("weir.toml", &channel(was))]);
        let read = folder.read(&["weir.toml"], true);
        let (plan, _) = read.unwrap_or_else(|complaints| panic!("{complaints:?}"));
        let names = ["web.de", "web.uk"].map(|name| plan.channels[name].options.was.as_deref());
        assert_eq!(names, expected, "{was}");
        // What is kept by the name of a target goes with it.
        let of_target = |name: &str| plan.renamed_targets.get(name).map(|was| &**was);
        let [german, british] = expected;
        assert_eq!(
            [
                of_target("web.de"),
                of_target("web.uk"),
                of_target("own.uk")
            ],
            [german, british, Some("own.gb")],
            "{was}"
        );
        assert_eq!(of_target("own.de"), None);
    }
    check(
        &channel("").replace("\"gb\"", "\"de\""),
        expect![[r#"
            weir.toml:16:11: channels.web: there is still a channel "web.de"; was names a channel that no longer exists; leave it out
        "#]],
    );
    check(
        &channel("").replace("\"gb\"", "7"),
        expect![[r#"
            weir.toml:11:7: each.site.uk.was: a string is expected here, not a whole number
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
            weir.toml:16:11: channels."web.de": there are two channels named "web.de"; rename one of them
            weir.toml:19:1: channels."web.de".target: this target gets the name of its channel, and there is already a target "web.de"; give one of them another name
            weir.toml:24:7: channels.search.was: there is still a channel "web.de"; was names a channel that no longer exists; leave it out
            weir.toml:29:7: channels.feed.was: "web.de" was "storefront.de" as well; only one channel can continue where it stopped
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
[paces.account]
rate = "5/s"
"#,
        expect![[r#"
            fine
            weir.toml:3:10: tokens.ops.secret: the token is short enough to be guessed; generate one, for example with `openssl rand -hex 24`
            weir.toml:6:8: entities.product.facets.content: no source writes as "pin", so this facet never gets a value; did you mean "pim"?
            weir.toml:7:10: sources.pim: no facet is owned by "pim", so every change of this source is foreign; did you mean "pin"?
            weir.toml:8:7: each.site: the table has no rows; write a row: [each.site.NAME]
            weir.toml:9:10: targets.shop: no channel delivers to this target
            weir.toml:12:8: paces.account: no target keeps to this pace; write pace = "account" in the targets that share it
        "#]],
    );
}

#[test]
fn a_tower_of_keys_or_brackets_is_refused() {
    let deep = [
        format!("a = {}", "[".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ];
    for text in deep {
        let folder = Folder::of(&[("weir.toml", &text)]);
        assert!(folder.read(&["weir.toml"], true).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A piece of the example is cut out, doubled or replaced by noise: reading must return, and
    /// complaints must have a place.
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

// The caret stood under the plugin's name, and the sentence named a column of JSON that nobody had
// written.
#[test]
fn a_setting_that_a_plugin_rejects_is_shown_where_it_is_written() {
    let text = catalog(
        r#"
[plugins.page]
path = "page.wasm"
settings = { currency = "EUR", lists = { de = { minimum = 1 }, fr = { minimum = 1 } } }
[each.site.de]
locale = "de"
[channels.web]
for_each = "site"
entity = "product"
facets = ["content"]
plugins = [{ use = "page", settings = { lists = { de = { minimum = -1 } } } }]
target = { kind = "webhook", url = "http://shop" }
[channels.web.settings]
pages = ["a", 7]
key = { env = "CURRENCY" }
"#,
    );
    let folder = Folder::of(&[("weir.toml", &text), ("page.wasm", "")]);
    let (plan, _) = folder.read(&["weir.toml"], true).expect("a plan");
    let used = &plan.channels["web.de"].plugins[0];
    let line = |sentence: &str| {
        let complaint = plan.complaint_of_settings(used, sentence);
        assert_eq!(complaint.path, "channels.web.plugins[0]");
        let line = text.lines().nth(complaint.line - 1).expect("a line");
        line[complaint.column - 1..].to_owned()
    };
    for (sentence, place) in [
        (
            "page@1c72 refuses its settings: settings of page: lists.de.minimum should be more, but is -1",
            "minimum = -1 }",
        ),
        ("lists.fr.minimum should be more", "minimum = 1 } } }"),
        ("pages[1] should be text, but is 7", "7]"),
        ("`locale` is not one of ours", "locale = \"de\""),
        ("currency should be CHF", "currency = \"EUR\""),
        (
            "the lists should be sorted",
            "lists = { de = { minimum = -1",
        ),
        ("the page has no name", "{ use = \"page\""),
        ("`minimum` is missing", "{ use = \"page\""),
    ] {
        assert!(
            line(sentence).starts_with(place),
            "{sentence}: {}",
            line(sentence)
        );
    }
    let complaint =
        plan.complaint_of_settings(used, "key should be short, but is \"CHF-from-outside\"");
    assert_eq!(complaint.what, "key should be short, but is [secret]");
}

// A program has a hundred lines, and its mistake was shown where the program begins.
#[test]
fn a_mistake_in_a_program_is_shown_where_it_is_written() {
    let text = catalog(
        r#"
[plugins.literal]
builtin = "jq-mapper"
settings.program = """
  .a \
    | foo
| bar
"""
[plugins.quoted]
builtin = "jq-mapper"
settings = { program = 'foo | bar' }
[plugins.apart]
builtin = "jq-filter"
settings = { program = { file = "apart.jq" }, other = 1 }
[plugins.variable]
builtin = "jq-filter"
settings.program = { env = "PROGRAM", default = "bar" }
[sources.literal]
owner = "pim"
plugins = ["literal"]
[sources.quoted]
owner = "pim"
plugins = ["quoted"]
[sources.apart]
owner = "pim"
plugins = ["apart"]
[sources.variable]
owner = "pim"
plugins = ["variable"]
"#,
    );
    let text = text.replace('\n', "\r\n");
    let folder = Folder::of(&[("weir.toml", &text), ("apart.jq", "foo\n| bar\n")]);
    let (plan, _) = folder
        .read(&["weir.toml"], true)
        .unwrap_or_else(|wrong| panic!("{}", folder.shown(&wrong)));
    let complaint = |source: &str, line: usize, column: usize| {
        let used = &plan.sources[source].plugins[0];
        let sentence = format!(
            "{source}@1c72 refuses its settings: settings of jq: program, line {line}, column {column}: there is no function `bar`"
        );
        let complaint = plan.complaint_of_settings(used, &sentence);
        assert_eq!(complaint.path, format!("sources.{source}.plugins[0]"));
        let line = text.lines().nth(complaint.line - 1).unwrap_or_default();
        let here = line.get(complaint.column - 1..).unwrap_or_default();
        (complaint.clone(), here.to_owned())
    };
    assert_eq!(complaint("literal", 1, 8).1, "foo");
    assert_eq!(complaint("literal", 2, 3).1, "bar");
    assert_eq!(complaint("quoted", 1, 7).1, "bar' }");
    let (apart, _) = complaint("apart", 2, 3);
    assert_eq!(
        (apart.file, apart.line, apart.column, apart.excerpt),
        (folder.path("apart.jq"), 2, 3, None)
    );
    assert!(complaint("variable", 1, 1).1.starts_with("program = { env"));
}

#[test]
fn a_builtin_plugin_has_a_known_name_and_no_path() {
    let plugin = |lines: &str| {
        let text = catalog(&format!("[plugins.map]\n{lines}"));
        let folder = Folder::of(&[("weir.toml", &text), ("map.wasm", "")]);
        let read = folder.read(&["weir.toml"], true);
        read.map(|(plan, _)| plan.plugins["map"].clone())
            .map_err(|wrong| folder.shown(&wrong))
    };
    let map = plugin("builtin = \"jq-mapper\"").expect("a plan");
    assert_eq!(map.builtin, Some("jq-mapper"));
    assert!(
        map.path.ends_with("plugins/jq-mapper/dist/jq_mapper.wasm"),
        "{map:?}"
    );
    for (lines, why) in [
        (
            "builtin = \"jq-maper\"",
            "plugins.map.builtin: \"jq-maper\" is not allowed here; did you mean \"jq-mapper\"?",
        ),
        (
            "builtin = \"jq-mapper\"\npath = \"map.wasm\"",
            "plugins.map.path: a plugin is `builtin` or has a `path`; remove `path`: a builtin plugin comes with Weir",
        ),
        (
            "",
            "plugins.map: path is missing; write the path of its component: path = \"plugins/erp.wasm\"",
        ),
    ] {
        let wrong = plugin(lines).expect_err("a mistake");
        assert!(wrong.contains(why), "{wrong}");
    }
}
