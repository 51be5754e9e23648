//! Where a request ends in the bytes of its connection, as far as this can be known without parsing
//! it: whether a client has sent more behind it.
//!
//! hyper keeps such bytes in its own buffer and does not say so. A client that has sent half of the
//! next head is not idle.

/// The length of a request's body on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// This many bytes.
    Exact(u64),
    /// Until the last chunk.
    Chunked,
}

/// What ends a chunked body that has no trailers.
const LAST_CHUNK: [u8; 5] = *b"0\r\n\r\n";

/// The bytes of a connection since the start of the present request.
#[derive(Debug, Default)]
pub(super) struct Wire {
    /// How many.
    bytes: u64,
    /// How many of them are the head; `None` until its empty line has come.
    head: Option<u64>,
    /// Whether the head has a line that is not empty; those before its first do not count.
    begun: bool,
    /// Bytes of the head's present line.
    line: u64,
    body: Option<BodyLength>,
    last: [u8; LAST_CHUNK.len()],
    /// More has come behind a request. Where later requests of this connection begin is not known.
    pipelined: bool,
}

impl Wire {
    /// These bytes have arrived.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        if self.head.is_none() && !self.pipelined {
            self.look_for_end_of_head(bytes);
        }
        self.bytes += bytes.len() as u64;
        let kept = bytes.len().min(self.last.len());
        self.last.rotate_left(kept);
        let start = self.last.len() - kept;
        self.last[start..].copy_from_slice(&bytes[bytes.len() - kept..]);
    }

    /// The request's head was understood.
    pub(super) fn dispatched(&mut self, body: BodyLength) {
        self.body = Some(body);
    }

    /// The request has its response: whether the client has sent more. Begins the next request.
    pub(super) fn has_more(&mut self) -> bool {
        let ended = match (self.head, self.body) {
            (Some(head), Some(BodyLength::Exact(body))) => self.bytes <= head.saturating_add(body),
            (Some(_), Some(BodyLength::Chunked)) => self.last == LAST_CHUNK,
            _ => false,
        };
        let pipelined = self.pipelined || !ended;
        *self = Wire {
            pipelined,
            ..Wire::default()
        };
        pipelined
    }

    fn look_for_end_of_head(&mut self, bytes: &[u8]) {
        for (at, byte) in (1..).zip(bytes) {
            match byte {
                b'\n' if self.line == 0 && self.begun => {
                    self.head = Some(self.bytes + at);
                    return;
                }
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => {
                    self.begun = true;
                    self.line += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_matter_how_a_request_is_cut_into_pieces() {
        let request = b"\r\nPOST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        for size in 1..=request.len() {
            for (behind, more) in [("", false), ("P", true)] {
                let mut wire = Wire::default();
                let sent = [request, behind.as_bytes()].concat();
                sent.chunks(size).for_each(|piece| wire.read(piece));
                wire.dispatched(BodyLength::Exact(3));
                assert_eq!(
                    wire.has_more(),
                    more,
                    "in pieces of {size}, then {behind:?}"
                );
            }
        }
    }

    // The longest body that can be announced and its head have more bytes than a number holds: the
    // connection's task panicked.
    #[test]
    fn a_body_may_be_announced_as_long_as_one_likes() {
        let mut wire = Wire::default();
        wire.read(b"POST / HTTP/1.1\r\n\r\n");
        wire.dispatched(BodyLength::Exact(u64::MAX - 2));
        assert!(!wire.has_more());
    }

    #[test]
    fn a_connection_that_was_pipelined_once_stays_so() {
        let mut wire = Wire::default();
        let one = b"GET / HTTP/1.1\r\n\r\n";
        wire.read(&one.repeat(2));
        for _ in 0..2 {
            wire.dispatched(BodyLength::Exact(0));
            assert!(wire.has_more());
        }
    }
}
