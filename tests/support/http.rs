//! A minimal HTTP/1.1 client on plain sockets. It sends exactly what the test wrote, valid or not.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than any response of Weir takes, even one for hundreds of megabytes without optimisation; a
/// test that runs into it has found a fault.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.status, self.text()))
    }
}

/// A connection for one request after the other.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    pub fn open(host: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(host)?;
        stream.set_read_timeout(Some(ANSWER_TIME))?;
        stream.set_write_timeout(Some(ANSWER_TIME))?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream: BufReader::new(stream),
            host,
        })
    }

    /// Sends a request and reads the response, even if the server responds before it has read
    /// everything.
    pub fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.host,
            body.len()
        );
        headers
            .iter()
            .for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
        let mut request = (request + "\r\n").into_bytes();
        request.extend_from_slice(body);
        let sent = self.stream.get_mut().write_all(&request);
        read_reply(&mut self.stream).map_err(|error| sent.err().unwrap_or(error))
    }
}

/// Sends one request on a connection of its own.
pub fn request(
    host: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Reply> {
    let headers: Vec<_> = headers
        .iter()
        .copied()
        .chain([("connection", "close")])
        .collect();
    Connection::open(host)?.exchange(method, path, &headers, body)
}

/// Reads the head and the body of a response. A stream of events has no end, so its body is left.
fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let (first, headers) = read_head(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("no status line: {first}"),
        )
    };
    let status = first
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(wrong)?;
    let is_endless = headers
        .iter()
        .any(|(name, value)| name == "content-type" && value.starts_with("text/event-stream"));
    let body = match is_endless {
        true => Vec::new(),
        false => read_body(stream, &headers)?,
    };
    Ok(Reply {
        status,
        headers,
        body,
    })
}

/// The first line, and the headers with names in lower case.
pub(super) type Head = (String, Vec<(String, String)>);

/// Reads lines up to the empty one. `None` if the other side closed the connection before the first
/// byte.
pub(super) fn read_head(stream: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let first = line.trim_end().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => return Ok(Some((first, headers))),
            header => headers.extend(
                header
                    .split_once(':')
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())),
            ),
        }
    }
}

pub(super) fn read_body(
    stream: &mut impl BufRead,
    headers: &[(String, String)],
) -> io::Result<Vec<u8>> {
    let header = |name: &str| {
        headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    };
    let mut body = Vec::new();
    if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            line.clear();
            stream.read_line(&mut line)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
    let length: usize = header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    body.resize(length, 0);
    stream.read_exact(&mut body)?;
    Ok(body)
}
