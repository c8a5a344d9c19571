//! A client of HTTP/2 that asks for one thing at a time, to see that bytes are right, and that connections which wait are
//! waited with. Not used for load.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::Request;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio_rustls::TlsConnector;

use crate::http as http1;
use crate::tls;

/// What browsers allow a server to send ahead.
const WINDOW: u32 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Drives connections; they do nothing while it is not asked for something.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
}

/// A connection that waits for requests.
pub(crate) struct Connection {
    requests: SendRequest<Bytes>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Client {
    /// Starts without a connection.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { runtime: runtime::Builder::new_current_thread().enable_all().build()? })
    }

    /// Connects to a port of this machine: over TLS, where there are settings for it, else by prior knowledge.
    pub(crate) fn open(&self, port: u16, tls: Option<&Arc<ClientConfig>>) -> Result<Connection> {
        let open = async {
            let stream = TcpStream::connect(http1::local(port)).await?;
            stream.set_nodelay(true)?;
            let mut builder = Builder::new();
            builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).enable_push(false);
            let requests = match tls {
                Some(config) => {
                    let stream = TlsConnector::from(Arc::clone(config)).connect(tls::server_name(), stream).await?;
                    tls::check(stream.get_ref().1)?;
                    if stream.get_ref().1.alpn_protocol() != Some(b"h2".as_slice()) {
                        bail!("it does not choose h2 by ALPN");
                    }
                    let (requests, connection) = builder.handshake(stream).await?;
                    tokio::spawn(connection);
                    requests
                }
                None => {
                    let (requests, connection) = builder.handshake(stream).await?;
                    tokio::spawn(connection);
                    requests
                }
            };
            Ok(Connection { requests })
        };
        self.within(open).with_context(|| format!("no HTTP/2 connection to port {port}"))
    }

    /// Asks with GET and reads the whole answer: its status and its body.
    pub(crate) fn get(&self, connection: &Connection, authority: &str, path: &str) -> Result<(u16, Vec<u8>)> {
        let get = async {
            let request = Request::get(format!("https://{authority}{path}")).body(())?;
            let mut requests = connection.requests.clone().ready().await?;
            let (answer, _) = requests.send_request(request, true)?;
            let answer = answer.await?;
            let (status, mut stream, mut body) = (answer.status().as_u16(), answer.into_body(), Vec::new());
            while let Some(data) = stream.data().await {
                let data = data?;
                stream.flow_control().release_capacity(data.len())?;
                body.extend_from_slice(&data);
            }
            Ok((status, body))
        };
        self.within(get).with_context(|| format!("GET {path} over HTTP/2"))
    }

    /// Lets connections answer what servers send by themselves.
    pub(crate) fn rest(&self, time: Duration) {
        // Within the runtime: a timer looks for it when it is made.
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    fn within<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, work).await.context("it takes too long")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::HOST;
    use crate::stand_in;
    use crate::tls::Identity;

    #[test]
    fn several_requests_on_several_connections() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::create(folder.path()).unwrap();
        let (port, config) = (stand_in::serve(&identity, "h2"), identity.client(&["h2"]).unwrap());
        let client = Client::new().unwrap();
        let connections = [0, 1].map(|_| client.open(port, Some(&config)).unwrap());
        for connection in connections.iter().chain(&connections) {
            assert_eq!(client.get(connection, HOST, "/any").unwrap(), (200, stand_in::BODY.to_vec()));
        }
    }

    #[test]
    fn a_server_without_http2_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::create(folder.path()).unwrap();
        let (port, config) = (stand_in::serve(&identity, "http/1.1"), identity.client(&["h2"]).unwrap());
        assert!(Client::new().unwrap().open(port, Some(&config)).is_err());
    }
}
