//! A client just good enough to ask a file server for one thing and to see that the bytes are right.
//!
//! Not used for load. Refuses what it does not know, so that nothing is taken for an answer that is none.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::tls;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<Stream>,
}

/// What a connection runs over.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The first field of a name, in any case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The loopback address of a port.
pub(crate) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

impl Connection {
    /// Connects to a port of this machine: over TLS, where there are settings for it.
    pub(crate) fn open(port: u16, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let mut stream = TcpStream::connect(local(port)).with_context(|| format!("cannot connect to port {port}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        let stream = match tls {
            Some(config) => {
                let mut connection = ClientConnection::new(Arc::clone(config), tls::server_name())?;
                while connection.is_handshaking() {
                    connection.complete_io(&mut stream).with_context(|| format!("no TLS on port {port}"))?;
                }
                tls::check(&connection)?;
                Stream::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
            None => Stream::Plain(stream),
        };
        // A small buffer: thousands of these are held open.
        Ok(Self { stream: BufReader::with_capacity(2048, stream) })
    }

    /// Asks with GET and reads the whole answer. `fields` are `Name: value`.
    pub(crate) fn get(&mut self, host: &str, path: &str, fields: &[String]) -> Result<Answer> {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        self.stream.get_mut().write_all(head.as_bytes()).context("cannot send a request")?;
        self.stream.get_mut().flush().context("cannot send a request")?;
        read_answer(&mut self.stream).with_context(|| format!("GET {path}"))
    }
}

/// Reads one answer to a GET.
fn read_answer(stream: &mut impl BufRead) -> Result<Answer> {
    let line = read_line(stream)?;
    let mut words = line.splitn(3, ' ');
    ensure!(words.next().is_some_and(|version| version.starts_with("HTTP/1.")), "no status line: {line:?}");
    let status: u16 = words.next().unwrap_or_default().parse().with_context(|| format!("no status: {line:?}"))?;
    let mut answer = Answer { status, fields: Vec::new(), body: Vec::new() };
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').with_context(|| format!("no field: {line:?}"))?;
        answer.fields.push((name.to_owned(), value.trim().to_owned()));
    }
    if status == 304 || status == 204 {
        return Ok(answer);
    }
    if let Some(length) = answer.field("content-length") {
        let length: u64 = length.parse().with_context(|| format!("Content-Length is `{length}`"))?;
        stream.take(length).read_to_end(&mut answer.body)?;
        ensure!(answer.body.len() as u64 == length, "the body ended after {} of {length} bytes", answer.body.len());
    } else if answer.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(stream)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).with_context(|| format!("no chunk: {line:?}"))?;
            let before = answer.body.len() as u64;
            stream.take(size).read_to_end(&mut answer.body)?;
            ensure!(answer.body.len() as u64 - before == size, "the body ended inside a chunk");
            ensure!(read_line(stream)?.is_empty(), "a chunk does not end where it should");
            if size == 0 {
                break;
            }
        }
    } else {
        bail!("an answer without a length");
    }
    Ok(answer)
}

fn read_line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    stream.take(64 << 10).read_until(b'\n', &mut line)?;
    ensure!(line.pop() == Some(b'\n'), "the connection ended inside a line");
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).context("a line that is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Answer> {
        read_answer(&mut text.as_bytes())
    }

    #[test]
    fn bodies_by_length_and_by_chunks() {
        for (text, status, body) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nETag: \"x\"\r\n\r\nabcHTTP", 200, "abc"),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", 304, ""),
            (
                "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
                404,
                "abc",
            ),
        ] {
            let answer = read(text).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (status, body.as_bytes()), "{text}");
        }
        let answer = read("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(answer.field("etag"), Some("\"x\""));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "",
            "SSH-2.0\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
