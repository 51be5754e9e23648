//! What brokers have in common in a configuration.

use crate::config::cursor::Field;

/// The host and the port of an address such as `bus.example:4222`; the port may be left out.
pub(super) fn host_and_port(text: &str, usual: u16) -> Option<(String, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        // An address of IPv6 without a port has colons of its own.
        Some((host, port))
            if !port.contains(']') && (host.ends_with(']') || !host.contains(':')) =>
        {
            (host, port.parse().ok().filter(|port| *port > 0)?)
        }
        _ => (text, usual),
    };
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    let fine = plain.parse::<std::net::Ipv6Addr>().is_ok()
        || !plain.is_empty() && plain == host && plain.chars().all(fine);
    fine.then(|| (plain.to_owned(), port))
}

/// Reads a text, or a list of texts.
pub(super) fn list<T>(field: &Field<'_>, read: impl Fn(&Field<'_>) -> Option<T>) -> Vec<T> {
    match field.is_list() {
        true => field.list(|field| read(&field)),
        false => read(field).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let parsed = |text| host_and_port(text, 4222);
        let found = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(parsed("bus.example"), found("bus.example", 4222));
        assert_eq!(parsed("bus.example:1"), found("bus.example", 1));
        assert_eq!(parsed("[::1]:5"), found("::1", 5));
        assert_eq!(parsed("[::1]"), found("::1", 4222));
        for wrong in [
            "",
            ":1",
            "a b",
            "bus:",
            "bus:0",
            "bus:70000",
            "user@bus:1",
            "[bus]:1",
        ] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
