//! The header of the PROXY protocol, version 2: how a load balancer that does not read HTTP says for whom it connects.
//!
//! It is read exactly, to its last byte and not beyond, so what follows is as if it had not been there. On a connection of
//! a trusted proxy it is required where it is switched on at all (one that may be left out could be written by the
//! client); from anybody else it is read as the request that it is not, and refused like any garbage.

use std::io;
use std::net::IpAddr;

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX, Protocol};
use tokio::net::TcpStream;

use crate::watch::Watch;

/// The signature, version, command, family and length.
const FIXED: usize = 16;

/// The most bytes of addresses and type-length-values. Senders keep below 536 bytes in all, but certificates may be in it.
const MOST_VARIABLE: usize = 4 << 10;

/// Why a connection of a trusted proxy is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    #[error("a trusted proxy sent no PROXY header of version 2")]
    Absent,
    #[error("a trusted proxy sent a PROXY header that is malformed")]
    Malformed,
    #[error("a trusted proxy sent a PROXY header of {0} bytes, and there may be 4096")]
    TooLong(usize),
    #[error("a trusted proxy left before the end of its PROXY header")]
    Io(#[from] io::Error),
}

/// Reads the header, and answers whom the connection is for: nobody else where the proxy asks for itself.
pub(crate) async fn read(stream: &TcpStream, watch: &Watch) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let mut header = vec![0; FIXED];
    read_exact(stream, watch, &mut header).await?;
    let length = length(&header)?;
    header.resize(FIXED + length, 0);
    read_exact(stream, watch, &mut header[FIXED..]).await?;
    source(&header)
}

async fn read_exact(stream: &TcpStream, watch: &Watch, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                watch.on_read(read);
                buffer = &mut buffer[read..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many bytes follow the fixed part.
fn length(fixed: &[u8]) -> Result<usize, ProxyHeaderError> {
    let [.., high, low] = *fixed else { return Err(ProxyHeaderError::Absent) };
    if !fixed.starts_with(PROTOCOL_PREFIX) {
        return Err(ProxyHeaderError::Absent);
    }
    match usize::from(u16::from_be_bytes([high, low])) {
        length if length <= MOST_VARIABLE => Ok(length),
        length => Err(ProxyHeaderError::TooLong(length)),
    }
}

/// Whom a whole header speaks for. Type-length-values say nothing that is needed here.
fn source(header: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let header = Header::try_from(header).map_err(|_| ProxyHeaderError::Malformed)?;
    match (header.command, header.protocol, header.addresses) {
        // A health check.
        (Command::Local, ..) => Ok(None),
        (Command::Proxy, Protocol::Stream, Addresses::IPv4(addresses)) => Ok(Some(addresses.source_address.into())),
        (Command::Proxy, Protocol::Stream, Addresses::IPv6(addresses)) => {
            Ok(Some(IpAddr::from(addresses.source_address).to_canonical()))
        }
        // What the proxy cannot say is as if it had connected for itself.
        (Command::Proxy, Protocol::Unspecified, _) | (Command::Proxy, Protocol::Stream, _) => Ok(None),
        (Command::Proxy, Protocol::Datagram, _) => Err(ProxyHeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0, 0x1f, 0x90];

    fn header(version_command: u8, family: u8, variable: &[u8]) -> Vec<u8> {
        let length = u16::try_from(variable.len()).unwrap().to_be_bytes();
        [PROTOCOL_PREFIX, &[version_command, family], &length, variable].concat()
    }

    fn read_whole(header: &[u8]) -> Result<Option<String>, String> {
        let told = |error: ProxyHeaderError| error.to_string();
        let length = length(&header[..FIXED]).map_err(told)?;
        assert_eq!(header.len(), FIXED + length);
        source(header).map(|address| address.map(|address| address.to_string())).map_err(told)
    }

    #[test]
    fn whom_a_header_speaks_for() {
        let v6 = ["2001:db8::7", "::1"].map(|text| text.parse::<std::net::Ipv6Addr>().unwrap().octets()).concat();
        let v6 = [&v6[..], &[0, 80, 1, 187]].concat();
        let mapped = [&"::ffff:192.0.2.9".parse::<std::net::Ipv6Addr>().unwrap().octets()[..], &v6[16..]].concat();
        let with_values = [V4, &[0x04, 0, 3, 1, 2, 3, 0xee, 0, 0]].concat();
        for (header, want) in [
            (header(0x21, 0x11, V4), Ok(Some("192.0.2.1"))),
            (header(0x21, 0x21, &v6), Ok(Some("2001:db8::7"))),
            (header(0x21, 0x21, &mapped), Ok(Some("192.0.2.9"))),
            (header(0x21, 0x11, &with_values), Ok(Some("192.0.2.1"))),
            // LOCAL: whatever it says of addresses is to be ignored.
            (header(0x20, 0x00, &[]), Ok(None)),
            (header(0x20, 0x11, V4), Ok(None)),
            (header(0x21, 0x00, &[]), Ok(None)),
            (header(0x21, 0x31, &[7; 216]), Ok(None)),
            (header(0x21, 0x12, V4), Err("malformed")),
            (header(0x21, 0x11, &V4[1..]), Err("malformed")),
            (header(0x21, 0x41, V4), Err("malformed")),
            (header(0x22, 0x11, V4), Err("malformed")),
            (header(0x11, 0x11, V4), Err("malformed")),
            (header(0x21, 0x11, &[0; 4097]), Err("4097 bytes")),
            (b"PROXY TCP4 192.0".to_vec(), Err("no PROXY header")),
            (b"GET / HTTP/1.1\r\n".to_vec(), Err("no PROXY header")),
        ] {
            match (read_whole(&header), want) {
                (Ok(found), Ok(want)) => assert_eq!(found.as_deref(), want, "{header:?}"),
                (Err(error), Err(want)) => assert!(error.contains(want), "{header:?}: {error}"),
                (found, want) => panic!("{header:?}: {found:?}, not {want:?}"),
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0_u8.., 0..64), keeps_signature: bool) {
            let bytes = if keeps_signature { [PROTOCOL_PREFIX, &bytes].concat() } else { bytes };
            let _ = (length(&bytes), source(&bytes));
        }
    }
}
