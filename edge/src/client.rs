//! Who asks: the address at the other end of a connection, and the one that a trusted proxy speaks for.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// Who a request comes from. Requests for control hosts carry it among their extensions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Client {
    /// Who asks: the peer's address, or what a trusted proxy says.
    pub address: IpAddr,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// Whether the client speaks TLS, with this server or with a trusted proxy.
    pub is_tls: bool,
}

impl Client {
    /// The client at the other end of a connection.
    pub(crate) fn direct(peer: SocketAddr, is_tls: bool) -> Self {
        Self { address: peer.ip().to_canonical(), peer, is_tls }
    }
}

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(IpNet);

/// Why a text is not a range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a network is an address, or one with the length of its prefix, such as `10.0.0.0/8` or `fd00::/8`")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse().map_err(|_| NotANetwork)?,
        };
        Ok(Self(network))
    }
}

/// Ranges of addresses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Networks(Box<[Network]>);

impl Networks {
    /// The addresses that lead to the machine itself.
    #[must_use]
    pub fn loopback() -> Self {
        let of = |text: &str| text.parse().expect("this is a network");
        Self(Box::new([of("127.0.0.0/8"), of("::1")]))
    }

    /// Whether there is no address in them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `address` is in one of them. An IPv4 address that is written as an IPv6 one is the same address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.0.contains(&address))
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        Self(networks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (network, address, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.7/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "10.0.0.1", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
        ] {
            let networks: Networks = [network.parse().unwrap()].into_iter().collect();
            assert_eq!(networks.contains(address.parse().unwrap()), want, "{address} in {network}");
        }
        for wrong in ["", "10", "10.0.0.0/33", "10.0.0.0/", "a.test", "10.0.0.0-10.0.0.9", "::1/129", "[::1]"] {
            assert_eq!(wrong.parse::<Network>(), Err(NotANetwork), "{wrong}");
        }
        assert!(Networks::loopback().contains("127.9.9.9".parse().unwrap()));
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }
}
