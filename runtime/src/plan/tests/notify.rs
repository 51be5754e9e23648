//! Tests of who is told of what needs an operator.

use super::*;

#[test]
fn receivers_of_notices_that_could_never_be_told_are_said_where_they_are() {
    check(
        r#"config_version = 1
[[notify]]
[[notify]]
url = "https://chat.example/{key}"
on = ["triped", "recovered"]
[[notify]]
url = "chat.example"
on = []
sign = "whsec_AAAA"
[[notify]]
url = "https://chat.example/a"
on = ["recovered"]
method = "PUT"
headers = { webhook-id = "a" }
"#,
        expect![[r#"
            weir.toml:2:1: notify[0]: url is missing; write the URL that notices are posted to
            weir.toml:4:7: notify[1].url: this URL differs from entity to entity; leave {key} out: a notice is about no entity
            weir.toml:5:7: notify[1].on[0]: "triped" is not allowed here; did you mean "tripped"?
            weir.toml:7:7: notify[2].url: the URL does not start with http:// or https://; write one such as "https://shop.example/weir" or "https://shop.example/products/{key}"
            weir.toml:8:6: notify[2].on: the receiver is told of nothing; leave on out, and it is told of everything
            weir.toml:9:8: notify[2].sign: a Standard Webhooks secret has 24 to 64 bytes once decoded, but this one has 3; make one with `echo whsec_$(openssl rand -base64 32)`
            weir.toml:12:6: notify[3].on: recovered is sent only after another notice, and there is none; add the conditions whose end it should hear of: "tripped", "held", "silent" or "late"
            weir.toml:13:1: notify[3].method: there is no such key; available: url, sign, auth, headers, timeout, compress, egress, tls, proxy and on
            weir.toml:14:13: notify[3].headers.webhook-id: "webhook-id" cannot be set here; write the name of a header that Weir does not send itself
        "#]],
    );
    check(
        "config_version = 1\n[notify]\nurl = \"https://chat.example/a\"\n",
        expect![[r#"
            weir.toml:2:2: notify: each receiver of notices is an item of a list; write [[notify]], with two brackets, and below it url = "https://…"
        "#]],
    );
}

#[test]
fn a_notice_that_is_asked_for_and_can_never_come_is_warned_of() {
    let text = "config_version = 1\n[[notify]]\nurl = \"http://127.0.0.1:1/\"\non = [\"tripped\", \"late\", \"silent\"]\n[[notify]]\nurl = \"http://127.0.0.1:1/\"\n";
    let folder = Folder::of(&[("weir.toml", text)]);
    let (plan, warnings) = folder
        .read(&["weir.toml"], true)
        .unwrap_or_else(|wrong| panic!("{}", folder.shown(&wrong)));
    expect![[r#"
        weir.toml:4:6: notify[0].on: no source has quiet, so "silent" is never told; write quiet = "15m" to a source
        weir.toml:4:6: notify[0].on: no channel has freshness, so "late" is never told; write freshness = "60s" to a channel
    "#]].assert_eq(&folder.shown(&warnings));
    assert_eq!((plan.notify[0].on.len(), plan.notify[1].on.len()), (3, 5));
}
