//! Asking the DNS. Nothing is remembered: whoever has just changed a record wants to know whether it is there.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::timeout;

/// How long one server is waited for.
const ONE_SERVER: Duration = Duration::from_secs(2);
/// How long an answer is waited for in all.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a server is asked.
const ATTEMPTS: usize = 2;

/// Nobody answered, or with an error: it says neither yes nor no.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NoAnswer;

/// Asks the servers that it was given.
#[derive(Debug)]
pub(super) struct Dns(Option<TokioResolver>);

impl Dns {
    /// Asks `servers`; those of the system where there is none.
    pub(super) fn new(servers: &[SocketAddr]) -> Self {
        match build(servers) {
            Ok(resolver) => Self(Some(resolver)),
            Err(error) => {
                tracing::warn!(%error, "the DNS cannot be asked, so no domain can be proven");
                Self(None)
            }
        }
    }

    /// The texts of a name's TXT records, each whole; none where there is no such name.
    pub(super) async fn texts(&self, name: &str) -> Result<Vec<Vec<u8>>, NoAnswer> {
        let records = self.records(name, RecordType::TXT).await?;
        let text = |data: RData| match data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        };
        Ok(records.into_iter().filter_map(text).collect())
    }

    /// The addresses of a name, of both kinds; none where there is no such name. That one kind is not answered for matters
    /// only where there is none of the other.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NoAnswer> {
        let (v4, v6) = tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
        let is_whole = v4.is_ok() && v6.is_ok();
        let address = |data: RData| match data {
            RData::A(address) => Some(IpAddr::from(address.0)),
            RData::AAAA(address) => Some(IpAddr::from(address.0)),
            _ => None,
        };
        let addresses: Vec<_> = [v4, v6].into_iter().flatten().flatten().filter_map(address).collect();
        if addresses.is_empty() && !is_whole { Err(NoAnswer) } else { Ok(addresses) }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, NoAnswer> {
        let resolver = self.0.as_ref().ok_or(NoAnswer)?;
        // With the dot at its end no domain of the system's is tried behind it.
        let lookup = timeout(ANSWER, resolver.lookup(format!("{name}."), kind)).await.map_err(|_| NoAnswer)?;
        match lookup {
            Ok(lookup) => Ok(Lookup::answers(&lookup).iter().map(|record| record.data.clone()).collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => {
                tracing::debug!(%error, "the DNS gave no answer");
                Err(NoAnswer)
            }
        }
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let server = |server: &SocketAddr| {
            let on_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_port);
            NameServerConfig::new(server.ip(), true, connections.into())
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = ONE_SERVER;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}
