//! The address that is checked is the address that is connected to: a dialler that only records the
//! addresses it is given never gets a forbidden one.

use std::cell::{Cell, RefCell};

use url::Url;

use super::*;

/// Refused under every policy: link-local, cloud metadata, no destination, multicast and broadcast.
const NEVER: [&str; 34] = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "2852039166",
    "0xa9fea9fe",
    "0xA9.0xFE.0xA9.0xFE",
    "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "0.0.0.0",
    "0",
    "0x0",
    "0.1.2.3",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "4294967295",
    "[::]",
    "[fe80::1]",
    "[fe80::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[::ffff:0:169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:4136:e378:8000:63bf:5601:5601]",
    "[0000:0000:0000:0000:0000:ffff:a9fe:a9fe]",
];

/// Refused by the policy `public`: this machine and its networks.
const PRIVATE: [&str; 33] = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7F.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "127.255.255.254",
    "localhost",
    "LOCALHOST",
    "%6c%6f%63%61%6c%68%6f%73%74",
    "１２７.０.０.１",
    "127。0。0。1",
    "10.0.0.1",
    "10.1",
    "167772161",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "3232235521",
    "100.64.0.1",
    "198.18.0.1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::10.1.2.3]",
    "[2002:7f00:1::]",
    "[fc00::1]",
    "[fd12:3456::1]",
];

fn connector(egress: Egress) -> Connector {
    Connector {
        egress,
        timeout: Duration::from_secs(2),
        proxy: None,
        ignored: None,
    }
}

async fn system(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    tokio::net::lookup_host((host.as_str(), port))
        .await
        .map(Vec::from_iter)
}

/// A host as URL parsing normalises it, and as written, for callers that do not normalise it.
fn spellings(host: &str) -> Vec<String> {
    let tidy = Url::parse(&format!("http://{host}:80/"))
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    tidy.into_iter().chain([host.to_owned()]).collect()
}

async fn sees_nobody(hosts: &[&str], egress: Egress) {
    let dialled = RefCell::new(Vec::new());
    let dial = async |address: SocketAddr| {
        dialled.borrow_mut().push(address);
        Ok(())
    };
    for host in hosts {
        let mut denied = 0;
        for spelling in spellings(host) {
            match connector(egress)
                .connect_by(spelling, 80, system, dial)
                .await
            {
                Err(ConnectError::Denied { .. }) => denied += 1,
                // In this spelling it is neither an address nor a name.
                Err(ConnectError::Dns { .. }) => {}
                other => panic!(
                    "{host}, {egress:?}: {other:?}, dialled {:?}",
                    dialled.borrow()
                ),
            }
        }
        assert!(denied > 0, "{host} was not understood at all");
    }
    assert_eq!(*dialled.borrow(), [], "{egress:?}");
}

#[tokio::test]
async fn metadata_and_link_local_addresses_are_never_dialled_however_they_are_written() {
    sees_nobody(&NEVER, Egress::Private).await;
    sees_nobody(&NEVER, Egress::Public).await;
}

#[tokio::test]
async fn this_machine_and_its_networks_are_dialled_only_where_the_policy_says_so() {
    sees_nobody(&PRIVATE, Egress::Public).await;
    let dialled = Cell::new(0);
    for host in PRIVATE
        .into_iter()
        .filter(|host| host.parse::<IpAddr>().is_ok())
    {
        let dial = async |_| {
            dialled.set(dialled.get() + 1);
            Ok(())
        };
        connector(Egress::Private)
            .connect_by(host.to_owned(), 80, system, dial)
            .await
            .expect("the operator's own network");
    }
    assert!(dialled.get() > 5, "{}", dialled.get());
}

#[tokio::test]
async fn a_listener_that_is_forbidden_sees_no_connection() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let port = listener.local_addr().expect("address").port();
    for host in PRIVATE.into_iter().flat_map(spellings) {
        let refused = connector(Egress::Public).connect(host.clone(), port).await;
        assert!(refused.is_err(), "{host}: {refused:?}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "somebody connected");
    connector(Egress::Private)
        .connect("127.0.0.1".to_owned(), port)
        .await
        .expect("the operator's own network");
}

// A name that resolves to a public address when it is checked, and to the metadata service when it
// is used.
#[tokio::test]
async fn a_name_that_changes_its_meaning_leads_nowhere_new() {
    let public = SocketAddr::from(([93, 184, 216, 34], 80));
    let metadata = SocketAddr::from(([169, 254, 169, 254], 80));
    let loopback = SocketAddr::from(([127, 0, 0, 1], 80));
    let asked = Cell::new(0);
    // Each lookup returns something else.
    let turns = [
        vec![public],
        vec![metadata],
        vec![loopback],
        vec![metadata, loopback, public],
        vec![public, metadata],
        vec![],
    ];
    let resolve = async |_, _| {
        asked.set(asked.get() + 1);
        Ok(turns[asked.get() - 1].clone())
    };
    let dialled = RefCell::new(Vec::new());
    let dial = async |address: SocketAddr| {
        dialled.borrow_mut().push(address);
        Ok(())
    };
    for expected in [
        "dialled", "denied", "denied", "dialled", "dialled", "unknown",
    ] {
        let before = asked.get();
        let result = match connector(Egress::Public)
            .connect_by("shop.example".to_owned(), 80, resolve, dial)
            .await
        {
            Ok(()) => "dialled",
            Err(ConnectError::Denied { .. }) => "denied",
            Err(ConnectError::Dns { .. }) => "unknown",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(
            (result, asked.get()),
            (expected, before + 1),
            "a name is asked for once for each connection"
        );
    }
    assert_eq!(*dialled.borrow(), [public; 3]);
}

#[tokio::test]
async fn an_address_that_does_not_answer_gives_its_turn_to_the_next() {
    let addresses = [1, 2].map(|last| SocketAddr::from(([203, 0, 113, last], 80)));
    let resolve = async |_, _| Ok(addresses.to_vec());
    let dial = async |address| {
        if address == addresses[0] {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(address)
        }
    };
    let reached = connector(Egress::Private)
        .connect_by("shop.example".to_owned(), 80, resolve, dial)
        .await;
    assert_eq!(reached.expect("the second answers"), addresses[1]);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_told_from_a_closed_door() {
    let connector = connector(Egress::Private);
    // A label of more than 63 bytes is not a name, so no resolver is queried.
    let unknown = connector.clone().connect("x".repeat(70), 80).await;
    assert!(
        matches!(unknown, Err(ConnectError::Dns { .. })),
        "{unknown:?}"
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .expect("a port that is free again")
        .port();
    let closed = connector.connect("127.0.0.1".to_owned(), closed).await;
    assert!(
        matches!(closed, Err(ConnectError::Unreachable { .. })),
        "{closed:?}"
    );
}

#[tokio::test]
async fn a_failed_connection_names_the_proxy_of_the_environment_that_is_not_used() {
    let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = door.local_addr().expect("an address").port();
    let connector = Connector {
        ignored: Some("HTTPS_PROXY"),
        ..connector(Egress::Private)
    };
    let open = async || {
        let opened = connector.clone().open("127.0.0.1".into(), port).await;
        opened.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(open().await, Ok(()));
    drop(door);
    let error = open().await.expect_err("a closed door");
    assert!(
        error.starts_with("no connection to 127.0.0.1:")
            && error.contains("; HTTPS_PROXY is set in the environment, which Weir ignores"),
        "{error}"
    );
}

#[test]
fn a_proxy_of_the_environment_is_found_by_the_names_that_other_programs_know() {
    let find =
        |secure, set: &'static [&'static str]| ignored_proxy(secure, |name| set.contains(&name));
    for (secure, set, found) in [
        (true, &["https_proxy"][..], Some("https_proxy")),
        (true, &["HTTP_PROXY"], None),
        (false, &["HTTP_PROXY", "ALL_PROXY"], Some("HTTP_PROXY")),
        (true, &["HTTP_PROXY", "ALL_PROXY"], Some("ALL_PROXY")),
        (false, &[], None),
    ] {
        assert_eq!(find(secure, set), found, "{secure} {set:?}");
    }
}
