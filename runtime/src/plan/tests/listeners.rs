//! Tests of the section `[server]`.

use super::*;

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/src/targets/http/transport/certificates"
);

fn tls(cert: &str, key: &str) -> String {
    format!(
        "config_version = 1\n[server]\ntls = {{ cert = \"{FOLDER}/{cert}\", key = {{ file = \"{FOLDER}/{key}\" }} }}\n"
    )
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_when_the_configuration_is_read() {
    let refused = |text: &str| {
        let folder = Folder::of(&[("weir.toml", text)]);
        let complaints = folder.read(&["weir.toml"], true);
        folder.shown(&complaints.expect_err("it is refused"))
    };
    let said = refused(&tls("server.pem", "client.key"));
    assert!(said.contains("cert and key do not fit"), "{said}");
    let said = refused(&tls("server.key", "server.key"));
    assert!(said.contains("cert holds no certificate in PEM"), "{said}");
    let said = refused(&tls("server.pem", "server.pem"));
    assert!(said.contains("key is not a private key in PEM"), "{said}");
    let said = refused(&tls("server.pem", "none.key"));
    assert!(said.contains("none.key"), "{said}");
}

#[test]
fn proxies_and_the_public_url_are_checked() {
    check(
        r#"config_version = 1
[server]
trusted_proxies = ["10.0.0.0/8", "127.0.0.1", "0.0.0.0/0", "proxy.example"]
public_url = "https://weir.example/weir"
"#,
        expect![[r#"
            weir.toml:2:2: server.listen: others reach 127.0.0.1:7700 through a proxy, and there is no token for the admin routes; write [tokens.NAME] with secret = { env = "NAME" } and roles
            weir.toml:3:47: server.trusted_proxies[2]: this trusts every address, so anyone could say who they are; write the networks of your proxies, such as "10.0.0.0/8" or "127.0.0.1"
            weir.toml:3:60: server.trusted_proxies[3]: "proxy.example" is not a network; write the networks of your proxies, such as "10.0.0.0/8" or "127.0.0.1"
            weir.toml:4:14: server.public_url: "https://weir.example/weir" is not the address under which others reach Weir; write scheme and host, such as "https://weir.example"
        "#]],
    );
}

// A proxy on the same machine lets everybody in, and the address of the listener seemed to say the contrary.
#[test]
fn a_listener_on_loopback_behind_a_proxy_needs_tokens_and_verification() {
    check(
        r#"config_version = 1
[server]
public_url = "https://weir.example"
[sources.pim]
"#,
        expect![[r#"
            weir.toml:2:2: server.listen: others reach 127.0.0.1:7700 through a proxy, and there is no token for the admin routes; write [tokens.NAME] with secret = { env = "NAME" } and roles
            weir.toml:4:10: sources.pim: the source accepts events from anyone, and others reach 127.0.0.1:7700 through a proxy; write verify = { kind = "bearer", tokens = [{ env = "NAME" }] }, or hmac, or standard-webhooks
        "#]],
    );
}
