//! The egress policy: which addresses a delivery may connect to. It is a pure function of an
//! address and a policy.
//!
//! Link-local and metadata addresses are refused under every policy, because no shop runs there and
//! cloud credentials are served there. An IPv6 address that carries an IPv4 address (mapped, NAT64,
//! 6to4, Teredo, ISATAP) is checked as both. The check runs at connect, on the address that is
//! connected to, so that neither a name that resolves differently the second time nor an unusual
//! spelling of an address can bypass it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that may be connected to. Link-local and metadata addresses are always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Egress {
    /// Private networks are allowed too, because the destinations come from the operator's file.
    #[default]
    Private,
    /// Only global unicast addresses.
    Public,
    /// The addresses at which a cloud gives a machine its credentials, and no others: for a target that is
    /// configured to use these, and for that request alone.
    Metadata,
}

/// Where clouds give a machine its credentials.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Checks whether an address may be connected to.
///
/// # Errors
/// The reason why it must not, in words that complete "… is".
pub(crate) fn judge(address: IpAddr, egress: Egress) -> Result<(), &'static str> {
    if egress == Egress::Metadata {
        return match METADATA.contains(&address) {
            true => Ok(()),
            false => Err("not the address of the cloud's metadata service"),
        };
    }
    let reason = match address {
        IpAddr::V4(v4) => {
            never_v4(v4).or_else(|| (egress == Egress::Public).then(|| private_v4(v4))?)
        }
        IpAddr::V6(v6) => match inner(v6) {
            Some(v4) => {
                return judge_carrier(v6, egress).and_then(|()| judge(IpAddr::V4(v4), egress));
            }
            None => never_v6(v6).or_else(|| (egress == Egress::Public).then(|| private_v6(v6))?),
        },
    };
    reason.map_or(Ok(()), Err)
}

/// Checks the carrier of an embedded IPv4 address in its own right: a local-use NAT64 prefix, for
/// example, is not a public network.
fn judge_carrier(v6: Ipv6Addr, egress: Egress) -> Result<(), &'static str> {
    match never_v6(v6) {
        Some(reason) => Err(reason),
        None if egress == Egress::Public && v6.segments()[..3] == [0x64, 0xff9b, 1] => {
            Err("behind a local NAT64 prefix")
        }
        None => Ok(()),
    }
}

fn never_v4(v4: Ipv4Addr) -> Option<&'static str> {
    match v4.octets() {
        [169, 254, ..] => Some("link-local, where cloud metadata lives"),
        [168, 63, 129, 16] | [100, 100, 100, 200] | [192, 0, 0, 192] => {
            Some("a cloud metadata address")
        }
        [0, ..] => Some("no destination (0.0.0.0/8)"),
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("reserved"),
        _ => None,
    }
}

fn private_v4(v4: Ipv4Addr) -> Option<&'static str> {
    match v4.octets() {
        [127, ..] => Some("loopback"),
        [10, ..] | [192, 168, ..] => Some("private"),
        [172, b, ..] if b & 0xf0 == 16 => Some("private"),
        [100, b, ..] if b & 0xc0 == 64 => Some("carrier-grade NAT"),
        [192, 0, 0, _] => Some("reserved for protocols"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("for documentation"),
        [198, 18 | 19, ..] => Some("for benchmarks"),
        [192, 88, 99, _] => Some("a 6to4 relay"),
        _ => None,
    }
}

fn never_v6(v6: Ipv6Addr) -> Option<&'static str> {
    let segments = v6.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("no destination (::)"),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
            Some("a cloud metadata address")
        }
        [first, ..] if first & 0xffc0 == 0xfe80 => Some("link-local"),
        [first, ..] if first & 0xff00 == 0xff00 => Some("a multicast address"),
        _ => None,
    }
}

fn private_v6(v6: Ipv6Addr) -> Option<&'static str> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [first, ..] if first & 0xfe00 == 0xfc00 => Some("private"),
        [first, ..] if first & 0xffc0 == 0xfec0 => Some("private (site-local)"),
        [0x2001, 0xdb8, ..] => Some("for documentation"),
        [0x3fff, second, ..] if second & 0xf000 == 0 => Some("for documentation"),
        [0x2001, second, ..] if second < 0x200 => Some("reserved for protocols"),
        [first, ..] if first & 0xe000 != 0x2000 => Some("not a global unicast address"),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address carries, if it has one of the forms that do.
fn inner(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = v6.segments();
    let at = |index: usize| {
        Ipv4Addr::from((u32::from(segments[index]) << 16) | u32::from(segments[index + 1]))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Mapped, translated (SIIT), compatible, and NAT64.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => {
            Some(at(6))
        }
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(at(6)),
        // 6to4.
        [0x2002, ..] => Some(at(1)),
        // Teredo carries it with all bits inverted.
        [0x2001, 0, ..] => Some(Ipv4Addr::from(!u32::from(at(6)))),
        // ISATAP.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(at(6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the verdict for each address. `never` is refused by both policies, `private` only by
    /// `public`, `fine` by neither.
    fn check(kind: &str, addresses: &[&str]) {
        for text in addresses {
            let address: IpAddr = text.parse().expect(text);
            let (private, public) = (
                judge(address, Egress::Private),
                judge(address, Egress::Public),
            );
            let found = match (private.is_ok(), public.is_ok()) {
                (false, false) => "never",
                (true, false) => "private",
                (true, true) => "fine",
                (false, true) => "upside down",
            };
            assert_eq!(
                found, kind,
                "{text}: private {private:?}, public {public:?}"
            );
        }
    }

    #[test]
    fn metadata_and_link_local_addresses_are_never_connected_to() {
        check(
            "never",
            &[
                "169.254.169.254",
                "169.254.0.1",
                "169.254.170.2",
                "169.254.255.255",
                "168.63.129.16",
                "100.100.100.200",
                "192.0.0.192",
                "0.0.0.0",
                "0.1.2.3",
                "224.0.0.1",
                "239.255.255.250",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "fe80::1",
                "fe80::a9fe:a9fe",
                "febf::1",
                "fd00:ec2::254",
                "fd20:ce::254",
                "ff02::1",
                "ff0e::1",
            ],
        );
    }

    #[test]
    fn the_metadata_service_is_the_only_address_of_its_own_policy() {
        let allowed = |text: &str| judge(text.parse().expect(text), Egress::Metadata).is_ok();
        assert!(allowed("169.254.169.254") && allowed("fd00:ec2::254"));
        for text in [
            "169.254.170.2",
            "127.0.0.1",
            "8.8.8.8",
            "::ffff:a9fe:a9fe",
            "fe80::1",
        ] {
            assert!(!allowed(text), "{text}");
        }
    }

    #[test]
    fn an_address_inside_another_is_judged() {
        check(
            "never",
            &[
                "::ffff:169.254.169.254",
                "::ffff:a9fe:a9fe",
                "::169.254.169.254",
                "::ffff:0:169.254.169.254",
                "64:ff9b::169.254.169.254",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b:1::169.254.169.254",
                "2002:a9fe:a9fe::1",
                "2001:0:4136:e378:8000:63bf:5601:5601",
                "2001:db8::5efe:169.254.169.254",
                "2001:db8::200:5efe:169.254.169.254",
                "::ffff:0.0.0.0",
                "::ffff:255.255.255.255",
                "fe80::5efe:8.8.8.8",
            ],
        );
        check(
            "private",
            &[
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::127.0.0.1",
                "64:ff9b::10.1.2.3",
                "64:ff9b:1::8.8.8.8",
                "2002:7f00:1::",
                "2002:a00:1::",
                "2001:0:4136:e378:8000:63bf:f5ff:fffe",
            ],
        );
        check(
            "fine",
            &["::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"],
        );
    }

    #[test]
    fn private_networks_are_the_operators_choice() {
        check(
            "private",
            &[
                "127.0.0.1",
                "127.255.255.254",
                "10.0.0.1",
                "10.255.255.255",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.0.1",
                "100.64.0.1",
                "100.127.255.255",
                "192.0.0.1",
                "192.0.2.1",
                "198.51.100.7",
                "203.0.113.9",
                "198.18.0.1",
                "198.19.255.255",
                "192.88.99.1",
                "::1",
                "fc00::1",
                "fd12:3456::1",
                "fec0::1",
                "2001:db8::1",
                "3fff::1",
                "100::1",
                "2001:2::1",
                "5f00::1",
                "4000::1",
            ],
        );
    }

    #[test]
    fn the_public_internet_is_open() {
        check(
            "fine",
            &[
                "1.1.1.1",
                "8.8.8.8",
                "9.255.255.255",
                "11.0.0.1",
                "100.63.255.255",
                "100.128.0.1",
                "128.0.0.1",
                "169.253.255.255",
                "169.255.0.1",
                "172.15.255.255",
                "172.32.0.1",
                "192.167.255.255",
                "192.169.0.1",
                "198.17.255.255",
                "198.20.0.1",
                "223.255.255.255",
                "2606:4700::1111",
                "2a00:1450:4001::1",
                "2001:4860:4860::8888",
            ],
        );
    }
}
