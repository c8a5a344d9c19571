//! Which addresses may be asked for a domain's file: those that are somebody's on the Internet. Pure.
//!
//! A domain's owner chooses where it leads. If that could be an address inside, the server would ask there for whoever
//! cannot.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// IPv4 networks that are not public (the registry of special-purpose addresses, RFC 6890, and multicast).
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    // Reserved, with the broadcast address.
    ([240, 0, 0, 0], 4),
];

/// IPv6 networks within `2000::/3` that are not public: of protocols and documentation, and 6to4, which has any IPv4
/// address inside.
const SPECIAL_V6: [([u16; 3], u8); 4] =
    [([0x2001, 0, 0], 23), ([0x2001, 0xdb8, 0], 32), ([0x2002, 0, 0], 16), ([0x3fff, 0, 0], 20)];

/// Whether an address may be asked: it is public, or in one of the networks that the operator allows.
pub(super) fn may_be_asked(address: IpAddr, allowed: &[IpNet]) -> bool {
    // What is written as IPv6 and goes to IPv4 is that.
    let address = address.to_canonical();
    allowed.iter().any(|network| network.contains(&address)) || is_public(address)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|&(network, length)| {
            let shift = 32 - u32::from(length);
            address.to_bits() >> shift == Ipv4Addr::from(network).to_bits() >> shift
        }),
        IpAddr::V6(address) => {
            // Only these were ever given to anybody; loopback, link-local, unique local, multicast, NAT64 are outside.
            let is_global_unicast = address.segments()[0] >> 13 == 1;
            let is_special = SPECIAL_V6.iter().any(|&([a, b, c], length)| {
                let shift = 128 - u32::from(length);
                address.to_bits() >> shift == Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits() >> shift
            });
            is_global_unicast && !is_special
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_addresses_may_be_asked() {
        for (text, want) in [
            ("1.1.1.1", true),
            ("9.255.255.255", true),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("172.15.255.255", true),
            ("172.32.0.0", true),
            ("192.0.1.1", true),
            ("223.255.255.255", true),
            ("2606:4700::1111", true),
            ("2001:4860:4860::8888", true),
            ("::ffff:1.1.1.1", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.8", false),
            ("192.0.2.1", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b:1::1", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::1", false),
            ("3fff::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd12:3456::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(may_be_asked(text.parse().unwrap(), &[]), want, "{text}");
        }
    }

    #[test]
    fn what_an_operator_allows() {
        let allowed = ["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (text, want) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("fd12::1", true),
            ("10.0.0.1", false),
            ("::1", false),
            ("1.1.1.1", true),
        ] {
            assert_eq!(may_be_asked(text.parse().unwrap(), &allowed), want, "{text}");
        }
    }
}
