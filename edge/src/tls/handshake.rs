//! From a socket to a TLS connection, and to the certificate that it was shown.
//!
//! The ClientHello is read first and bounded, so that a flood of halves takes little memory; only then is a certificate
//! chosen. The deadline is that of a head, and the watch's.

use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{Accepted, Acceptor};
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::Certificates;
use super::set::{Certificate, Hello};
use crate::socket::Socket;
use crate::stream::Sealed;
use crate::watch::Watch;

/// The most bytes of a ClientHello. With keys that resist quantum computers it has some 2,000.
const MOST_HELLO: usize = 16 << 10;

/// A fatal alert that there is no certificate for the name: `unrecognized_name` (RFC 6066 section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What a client is told that does not speak TLS at all.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Cache-Control: no-store\r\nContent-Length: 47\r\n\r\nThis port speaks TLS: ask it by an https:// URL";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the client left")]
    Left,
    #[error("the client does not speak TLS")]
    NotTls,
    #[error("the ClientHello has more than 16 KiB")]
    TooLarge,
    #[error("there is no certificate for the name")]
    NoCertificate,
    #[error(transparent)]
    Hello(rustls::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) stream: Box<TlsStream<Sealed>>,
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) is_http2: bool,
    /// The version that was agreed on: `1.2` or `1.3`.
    pub(crate) version: &'static str,
}

/// Shakes hands.
pub(crate) async fn accept(
    stream: TcpStream,
    certificates: &Certificates,
    watch: &Arc<Watch>,
) -> Result<Secured, HandshakeError> {
    let accepted = hello(&stream, watch).await?;
    let chosen = choose(&accepted, certificates, || stream.local_addr().map(|address| address.ip()).ok());
    let Some(certificate) = chosen else {
        // Nothing is encrypted yet.
        let _ = stream.try_write(&UNRECOGNIZED_NAME);
        return Err(HandshakeError::NoCertificate);
    };
    let socket = Sealed::new(Socket::Known(stream), Arc::clone(watch));
    let stream = StartHandshake::from_parts(accepted, socket).into_stream(certificate.config()).await?;
    watch.on_preamble();
    let session = stream.get_ref().1;
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let version = if session.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_2) { "1.2" } else { "1.3" };
    Ok(Secured { stream: Box::new(stream), certificate, is_http2, version })
}

fn choose(
    accepted: &Accepted,
    certificates: &Certificates,
    address: impl FnOnce() -> Option<IpAddr>,
) -> Option<Arc<Certificate>> {
    let hello = accepted.client_hello();
    let name = hello.server_name();
    let address = if name.is_none() { address() } else { None };
    certificates.current().choose(&Hello { name, address, schemes: hello.signature_schemes() }).cloned()
}

/// Reads the ClientHello.
async fn hello(stream: &TcpStream, watch: &Watch) -> Result<Accepted, HandshakeError> {
    let mut acceptor = Box::new(Acceptor::default());
    let mut reader = HelloReader { stream, read: 0, first: None };
    loop {
        stream.readable().await?;
        let before = reader.read;
        match acceptor.read_tls(&mut reader) {
            Ok(0) => return Err(HandshakeError::Left),
            Ok(_) => watch.on_read(reader.read - before),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => return Ok(accepted),
            Ok(None) if reader.read >= MOST_HELLO => return Err(HandshakeError::TooLarge),
            Ok(None) => {}
            Err(_) if reader.first.is_some_and(|first| first.is_ascii_alphabetic()) => {
                let _ = stream.try_write(NOT_TLS);
                return Err(HandshakeError::NotTls);
            }
            Err((error, mut alert)) => {
                let _ = alert.write_all(&mut TryWrite(stream));
                return Err(HandshakeError::Hello(error));
            }
        }
    }
}

/// Reads what is there, and no more than a ClientHello may have.
struct HelloReader<'s> {
    stream: &'s TcpStream,
    read: usize,
    first: Option<u8>,
}

impl Read for HelloReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(MOST_HELLO - self.read);
        let read = self.stream.try_read(&mut buffer[..most])?;
        if self.read == 0 {
            self.first = buffer[..read].first().copied();
        }
        self.read += read;
        Ok(read)
    }
}

/// Writes what the socket takes at once.
struct TryWrite<'s>(&'s TcpStream);

impl Write for TryWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
