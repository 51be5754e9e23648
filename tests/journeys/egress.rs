//! Deliveries go to the configured address and nowhere else, whatever a target or the environment
//! suggests.

use std::process::Command;

use crate::support::stage::CATALOG;
use crate::support::weir::PROGRAM;
use crate::support::{Act, Receiver, Stage, change, eventually};

#[test]
fn a_delivery_goes_to_the_configured_address_and_nowhere_else() {
    // Redirects, proxies and forbidden targets all point here.
    let trap = Receiver::start();
    let port = trap
        .url()
        .rsplit_once(':')
        .and_then(|(_, rest)| rest.split_once('/'))
        .map(|(port, _)| port.to_owned())
        .expect("a port");
    let forbidden = [
        (
            "metadata",
            "http://169.254.169.254/latest/".to_owned(),
            "private",
            "169.254.169.254",
        ),
        (
            "mapped",
            "http://[::ffff:169.254.169.254]/latest/".to_owned(),
            "private",
            "link-local",
        ),
        (
            "decimal",
            "http://2852039166/latest/".to_owned(),
            "private",
            "169.254.169.254",
        ),
        (
            "loopback",
            format!("http://127.0.0.1:{port}/weir"),
            "public",
            "loopback",
        ),
        (
            "short",
            format!("http://127.1:{port}/weir"),
            "public",
            "loopback",
        ),
        (
            "number",
            format!("http://2130706433:{port}/weir"),
            "public",
            "loopback",
        ),
        (
            "name",
            format!("http://localhost:{port}/weir"),
            "public",
            "loopback",
        ),
        (
            "nowhere",
            format!("http://0.0.0.0:{port}/weir"),
            "private",
            "no destination",
        ),
    ];
    let mut config = CATALOG.to_owned();
    for (name, url, egress, _) in &forbidden {
        config += &format!(
            "[channels.{name}]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = {{ kind = \"webhook\", url = {url:?}, egress = {egress:?} }}\n"
        );
    }
    config += "[channels.closed]\nentity = \"product\"\nfacets = [\"content\"]\ntarget = { kind = \"webhook\", url = \"http://127.0.0.1:1/\" }\n";
    let mut stage = Stage::closed(&config);
    let elsewhere = trap.url();
    let mut command = Command::new(PROGRAM);
    for name in [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ] {
        command.env(name, elsewhere.trim_end_matches("/weir"));
    }
    stage.start_by(command);
    let location = trap.url();
    let redirects = [301, 302, 303, 307, 308]
        .map(|status| Act::With(status, vec![("location", location.clone())]));
    stage.shop.does_in_turn(redirects);
    stage.takes("pim", &[change("lamp", "content", 1.into())]);
    eventually(
        "the shop accepts it after five redirects, each of which counts as a failure",
        || stage.shop.holds().get("lamp").cloned(),
    );
    assert!(stage.shop.count() >= 6, "{}", stage.shop.count());
    for (name, _, _, words) in &forbidden {
        eventually(&format!("{name} is tripped and reports why"), || {
            let view = stage.channel(name);
            let reason = view["reason"].as_str().unwrap_or_default();
            (reason.contains(words) && reason.contains("connections to it are not allowed"))
                .then_some(())
        });
    }
    eventually(
        "a closed port is reported, with the proxy that is not used",
        || {
            let view = stage.channel("closed");
            let reason = view["reason"].as_str().unwrap_or_default();
            (reason.starts_with("no connection to 127.0.0.1:1")
                && reason.contains("; HTTP_PROXY is set in the environment, which Weir ignores"))
            .then_some(())
        },
    );
    assert_eq!(trap.count(), 0, "{:?}", trap.deliveries());
    assert_eq!(trap.connections(), 0, "nothing connected to the trap");
}
