//! Fetching the file that proves a domain: over plain HTTP, because a domain that is yet to be moved may have any
//! certificate, from an address that was checked, without following anywhere, and not for long.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pinstone_engine::domains::name::DomainName;
use pinstone_engine::domains::proof::{FILE_PATH, Found};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest file, in bytes.
const LARGEST: usize = 4 << 10;
/// The largest head of an answer, in bytes.
const LARGEST_HEAD: usize = 16 << 10;
/// How many of a domain's addresses are tried.
const TRIED: usize = 3;

/// Looks for `token` in the file of `domain`, on a line of its own.
pub(super) async fn find(addresses: &[IpAddr], port: u16, domain: &DomainName, token: &str) -> Found {
    timeout(PATIENCE, find_at(addresses, port, domain, token)).await.unwrap_or(Found::NoAnswer)
}

async fn find_at(addresses: &[IpAddr], port: u16, domain: &DomainName, token: &str) -> Found {
    let mut found = Found::NoAnswer;
    for address in addresses.iter().take(TRIED) {
        found = match fetch(SocketAddr::new(*address, port), domain).await {
            Ok(Some(file)) if has_line(&file, token) => return Found::Token,
            // Somebody is there, and has no such file.
            Ok(_) => return Found::Nothing,
            Err(error) => {
                tracing::debug!(%error, "a domain's server gave no answer");
                // That nobody listens is an answer too.
                if is_refused(&*error) { Found::Nothing } else { Found::NoAnswer }
            }
        };
    }
    found
}

/// The file, where the answer is one that counts.
async fn fetch(address: SocketAddr, domain: &DomainName) -> Result<Option<Bytes>, axum::BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await?;
    let authority = if address.port() == 80 { domain.to_string() } else { format!("{domain}:{}", address.port()) };
    let request = Request::get(FILE_PATH)
        .header(HOST, authority)
        .header(ACCEPT, "text/plain, */*")
        .header(CONNECTION, "close")
        .header(USER_AGENT, "pinstone (proof of a domain)")
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Ok(None);
        }
        match Limited::new(answer.into_body(), LARGEST).collect().await {
            Ok(file) => Ok(Some(file.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Ok(None),
            Err(error) => Err(error),
        }
    };
    // The connection lives as long as its answer is read, and ends with this future.
    tokio::select! {
        biased;
        answer = answer => answer,
        ended = drive(connection) => Err(ended),
    }
}

/// Drives a connection; it ends only where that fails.
async fn drive(connection: http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>) -> axum::BoxError {
    match connection.await {
        Err(error) => error.into(),
        // What came is with who reads the answer.
        Ok(()) => std::future::pending().await,
    }
}

fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn has_line(file: &[u8], token: &str) -> bool {
    file.split(|byte| *byte == b'\n').any(|line| line.trim_ascii() == token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that answers every connection with this, once a request is there.
    async fn server(answer: Vec<u8>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).await.unwrap();
                let head = String::from_utf8_lossy(&head[..length]).to_ascii_lowercase();
                assert!(head.starts_with("get /.well-known/pinstone-domain.txt http/1.1\r\n"), "{head}");
                assert!(head.contains("host: a.example:"), "{head}");
                // Who has heard enough may close.
                let _ = stream.write_all(&answer).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn what_counts_as_the_file() {
        let domain: DomainName = "a.example".parse().unwrap();
        let ok = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        let padded = format!("{}\ntoken", "x".repeat(LARGEST - 6));
        let large = format!("token\n{}", "x".repeat(LARGEST));
        for (answer, want) in [
            (ok("token"), Found::Token),
            (ok("other\r\n  token \r\nmore"), Found::Token),
            (ok(&padded), Found::Token),
            (b"HTTP/1.1 200 OK\r\n\r\ntoken".to_vec(), Found::Token),
            (b"HTTP/1.0 200 OK\r\n\r\ntoken".to_vec(), Found::Token),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntoken\r\n0\r\n\r\n".to_vec(), Found::Token),
            (ok("tokens"), Found::Nothing),
            (ok("a token"), Found::Nothing),
            (ok(""), Found::Nothing),
            (ok(&large), Found::Nothing),
            (b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\ntoken".to_vec(), Found::Nothing),
            (
                b"HTTP/1.1 301 Go\r\nLocation: http://127.0.0.1/\r\nContent-Length: 5\r\n\r\ntoken".to_vec(),
                Found::Nothing,
            ),
            (b"HTTP/1.1 206 Part\r\nContent-Length: 5\r\n\r\ntoken".to_vec(), Found::Nothing),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntoken".to_vec(), Found::NoAnswer),
            (b"220 smtp\r\n".to_vec(), Found::NoAnswer),
            ([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 64 << 10], ok("token")].concat(), Found::NoAnswer),
            (Vec::new(), Found::NoAnswer),
        ] {
            let port = server(answer.clone()).await;
            let found = find(&["127.0.0.1".parse().unwrap()], port, &domain, "token").await;
            assert_eq!(found, want, "{:?}", String::from_utf8_lossy(&answer[..answer.len().min(80)]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_long() {
        let domain: DomainName = "a.example".parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, port) = ("127.0.0.1".parse().unwrap(), listener.local_addr().unwrap().port());
        assert_eq!(find(&[address], port, &domain, "token").await, Found::NoAnswer, "it is silent");
        drop(listener);
        assert_eq!(find(&[address], port, &domain, "token").await, Found::Nothing, "nobody listens");
    }
}
