//! Asking the network whether a domain is a team's: by DNS, and by a file that the domain serves.
//!
//! What is asked is chosen by strangers, so every step has its bound, and nothing is asked of an address that is not
//! public: all of a domain's addresses are looked up first, each is checked, and the connection goes to one that was.
//! What was found is handed to the engine, which decides.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use pinstone_engine::domains::name::DomainName;
use pinstone_engine::domains::proof::{DomainRules, Evidence, Found, TXT_LABEL};
use tokio::sync::Semaphore;
use tokio::time::timeout;

mod address;
mod dns;
mod file;

use dns::{Dns, NoAnswer};

/// How many domains are asked about at a time.
const AT_ONCE: usize = 16;
/// How long a call waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// How domains are proven, and what may be asked for it.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// How domains are proven and kept.
    pub rules: DomainRules,
    /// The DNS servers that are asked; those of the system where there is none.
    pub dns_servers: Vec<SocketAddr>,
    /// The port that a domain's file is fetched from. 80 by default.
    pub file_port: u16,
    /// Addresses that are nobody's on the Internet, and are asked all the same. None by default.
    pub special_networks: Vec<IpNet>,
    /// Addresses by which this server is reached, beside those of its base domain and its own.
    pub own_addresses: Vec<IpAddr>,
    /// The ports that this server listens on.
    pub own_ports: Vec<u16>,
}

impl Default for DomainConfig {
    fn default() -> Self {
        Self {
            rules: DomainRules::default(),
            dns_servers: Vec::new(),
            file_port: 80,
            special_networks: Vec::new(),
            own_addresses: Vec::new(),
            own_ports: Vec::new(),
        }
    }
}

/// Others are asked about already, and for too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too many domains are being asked about")]
pub(crate) struct Busy;

/// Asks the network. Cloning it is cheap, and every clone shares its bound.
#[derive(Clone, Debug)]
pub(crate) struct Prover(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: DomainConfig,
    base_domain: String,
    dns: Dns,
    turns: Semaphore,
}

impl Prover {
    /// A prover for a server whose sites are under `base_domain`.
    pub(crate) fn new(config: DomainConfig, base_domain: &str) -> Self {
        let dns = Dns::new(&config.dns_servers);
        let turns = Semaphore::new(AT_ONCE);
        Self(Arc::new(Inner { config, base_domain: base_domain.to_owned(), dns, turns }))
    }

    /// Looks for `token` where it proves `domain`. It takes 20 seconds at most, and its turn.
    pub(crate) async fn evidence(&self, domain: &DomainName, token: &str) -> Result<Evidence, Busy> {
        let turn = timeout(TURN, self.0.turns.acquire()).await.map_err(|_| Busy)?;
        let _turn = turn.expect("the semaphore is never closed");
        let txt = self.txt(domain, token).await;
        if txt == Found::Token {
            return Ok(Evidence { txt, ..Evidence::default() });
        }
        Ok(Evidence { txt, ..self.file(domain, token).await })
    }

    async fn txt(&self, domain: &DomainName, token: &str) -> Found {
        match self.0.dns.texts(&format!("{TXT_LABEL}.{domain}")).await {
            Ok(texts) if texts.iter().any(|text| text.trim_ascii() == token.as_bytes()) => Found::Token,
            Ok(_) => Found::Nothing,
            Err(NoAnswer) => Found::NoAnswer,
        }
    }

    /// Looks for the file, where the domain leads elsewhere and not inside.
    async fn file(&self, domain: &DomainName, token: &str) -> Evidence {
        let found = |file| Evidence { file, ..Evidence::default() };
        let addresses = match self.0.dns.addresses(domain.as_str()).await {
            Ok(addresses) if addresses.is_empty() => return found(Found::Nothing),
            Ok(addresses) => addresses,
            Err(NoAnswer) => return found(Found::NoAnswer),
        };
        if self.is_any_own(&addresses).await {
            return Evidence { points_here: true, ..Evidence::default() };
        }
        let config = &self.0.config;
        if addresses.iter().any(|address| !address::may_be_asked(*address, &config.special_networks)) {
            return Evidence { is_special: true, ..Evidence::default() };
        }
        found(file::find(&addresses, config.file_port, domain, token).await)
    }

    /// Whether one of a domain's addresses is this server's.
    async fn is_any_own(&self, addresses: &[IpAddr]) -> bool {
        let Inner { config, base_domain, dns, .. } = &*self.0;
        let is_reached_by = |address: &IpAddr| {
            config.own_addresses.contains(address)
                || (config.own_ports.contains(&config.file_port) && is_of_this_machine(*address))
        };
        if addresses.iter().any(is_reached_by) {
            return true;
        }
        // Every machine is its own `localhost`.
        if base_domain == "localhost" || base_domain.ends_with(".localhost") {
            return false;
        }
        // Either may be there alone: the base domain, or all names below it.
        let below = format!("pinstone.{base_domain}");
        let (base, below) = tokio::join!(dns.addresses(base_domain), dns.addresses(&below));
        let own: HashSet<IpAddr> = [base, below].into_iter().flatten().flatten().collect();
        addresses.iter().any(|address| own.contains(address))
    }
}

/// Whether an interface of this machine has the address: only then it can be listened on.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_this_machine() {
        assert!(is_of_this_machine("127.0.0.1".parse().unwrap()));
        assert!(!is_of_this_machine("192.0.2.1".parse().unwrap()), "of no machine at all");
    }
}
