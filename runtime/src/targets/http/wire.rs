//! Requests that others have written and signed, such as those to an object store, carried by the same
//! connections, egress rules and bounds as all others.
//!
//! A request ends when no byte has moved for the timeout, or when it is slower than a line of
//! [`BYTES_PER_SECOND_MIN`] would be: a large body on a slow line arrives, and a trickle does not hold a slot
//! for ever. Nothing is made twice, but for the case of `transport`.

use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::http::request;
use hyper::http::response::Parts;

use super::redact::Redactor;
use super::transport::{Broken, Connections, Limits, Transport};
use super::witness::Noting;
use super::{Address, Outcome};
use crate::targets::Unusable;

/// A slower transfer is given up.
const BYTES_PER_SECOND_MIN: u64 = 16 * 1024;
/// The longest response: a page of 1,000 names of 1,024 bytes, each of which XML may write as six.
const RESPONSE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Connections for requests that others have written.
pub(crate) struct Wire {
    transport: Transport,
    timeout: Duration,
}

impl Wire {
    /// Prepares connections to an address, and to others of the same scheme, without opening one.
    ///
    /// # Errors
    /// Certificates that cannot be used, or an `https` address on a system without root certificates.
    pub(crate) fn open(
        connections: &Connections,
        timeout: Duration,
        address: &Address,
    ) -> Result<Wire, Unusable> {
        let transport = Transport::open(connections, timeout, address)?;
        Ok(Wire { transport, timeout })
    }

    /// Opens a connection, with TLS if the address has it, and sends nothing.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn reach(&self, address: &Address) -> Result<(), String> {
        let limit = self.timeout;
        tokio::time::timeout(limit, self.transport.reach(address))
            .await
            .unwrap_or_else(|_| Err(format!("no connection within {limit:?}")))
    }

    /// Sends a request and reads the response to its end. With a redactor, somebody who looks sees both.
    ///
    /// # Errors
    /// The outcome, if there is no complete response.
    pub(crate) async fn exchange(
        &self,
        head: request::Parts,
        body: Bytes,
        shown: Option<&Redactor>,
    ) -> Result<(Parts, Vec<u8>), Outcome> {
        let limits = Limits {
            idle: self.timeout,
            whole: self.timeout + Duration::from_secs(body.len() as u64 / BYTES_PER_SECOND_MIN),
            response_bytes_max: RESPONSE_BYTES_MAX,
        };
        let (bytes, request) = (body.len() as u64, Request::from_parts(head, body));
        let noting = shown.and_then(|shown| Some((Noting::begin(&request, bytes)?, shown)));
        let carried = self.transport.carry(request, limits).await;
        if let Some((noting, redactor)) = noting {
            noting.end(&carried, self.timeout, redactor);
        }
        carried.map_err(|broken| match broken {
            Broken::TooLong(answer) => super::uncertain(format!(
                "the response ({}) is longer than 8 MiB",
                answer.0.status.as_u16()
            )),
            broken => broken.meaning(self.timeout),
        })
    }
}
