//! A request to a source, independent of its transport: headers, a body, and its arrival.
//!
//! Each transport produces this neutral form; [`super::http`] makes it from an HTTP request. A
//! transport that fetches messages (from a topic, by polling) would make one for each message, pass
//! it to [`super::Source::accept`], and acknowledge the message when that returns, because
//! everything in it is then durable.

use std::fmt;

use bytes::Bytes;

use crate::budget::Reservation;
use crate::model::{Lane, Timestamp};

/// A request to a source, complete and not parsed yet.
#[derive(Debug)]
pub struct Incoming {
    /// All its headers.
    pub headers: Headers,
    /// Its body as received; the sender's proof covers these bytes.
    pub body: Bytes,
    /// The lane for changes that name none themselves.
    pub lane: Option<Lane>,
    /// Whether the summary names the entities.
    pub receipt: bool,
    /// When it arrived.
    pub now: Timestamp,
    /// The memory that it holds while it is processed; grows with the unpacked body and its events.
    pub memory: Reservation,
}

/// Names and values in the order received; a name can occur several times. With them goes the path that
/// was asked for, because some senders sign it.
///
/// Names are in lower case, values are bytes. Three kinds of header are understood here:
/// `content-type`, `content-encoding`, and `ce-…`, an attribute of a CloudEvent with its value
/// written as in HTTP (percent-encoded). Others are read only if a source's verification or
/// configuration names them.
///
/// All names share one allocation and all values another, so that copying the headers of a request
/// costs three allocations instead of two per header.
#[derive(Clone, Default)]
pub struct Headers {
    names: String,
    values: Vec<u8>,
    /// The end of each name and of each value.
    ends: Vec<(usize, usize)>,
    target: String,
}

impl Headers {
    /// Adds a header after the others.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        self.names.push_str(name);
        self.values.extend_from_slice(value);
        self.ends.push((self.names.len(), self.values.len()));
    }

    /// The same for a request for this path and query.
    #[must_use]
    pub fn at(mut self, target: &str) -> Headers {
        target.clone_into(&mut self.target);
        self
    }

    /// The path and query that were asked for, as sent; empty if the transport has none.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// All headers, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut start = (0, 0);
        self.ends.iter().map(move |end| {
            let (name, value) = std::mem::replace(&mut start, *end);
            (&self.names[name..end.0], &self.values[value..end.1])
        })
    }

    /// The values of a header, in order. The case of `name` does not matter.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The first value of a header.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// Whether this header is present.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Headers {
        let mut headers = Headers::default();
        for (name, value) in pairs {
            headers.push(name.as_ref(), value.as_ref());
        }
        headers
    }
}

impl fmt::Debug for Headers {
    /// Shows the names only: values are credentials, or other people's data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_their_order_and_a_name_may_come_twice() {
        let headers = Headers::from_iter([("a", "1"), ("bb", ""), ("a", "22")]);
        let pairs: Vec<_> = headers.iter().collect();
        assert_eq!(
            pairs,
            [("a", &b"1"[..]), ("bb", &b""[..]), ("a", &b"22"[..])]
        );
        assert_eq!(headers.get("A"), Some(&b"1"[..]));
        assert_eq!(headers.get_all("a").count(), 2);
        assert!(headers.contains("bb") && !headers.contains("b"));
        assert_eq!(format!("{headers:?}"), r#"["a", "bb", "a"]"#);
    }
}
