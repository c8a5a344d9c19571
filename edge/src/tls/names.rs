//! The names of a certificate, and whether they cover a host. Pure.

use std::fmt;
use std::net::IpAddr;

use pinstone_engine::host::HostName;

/// A name that a certificate is for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum CertName {
    /// This name.
    Exact(Box<str>),
    /// Any one label before this name: `pages.example` of `*.pages.example`.
    Wildcard(Box<str>),
    /// This address.
    Ip(IpAddr),
}

impl CertName {
    /// Reads a DNS name of a certificate. Nothing where it is none that a Host could have: a wildcard stands for the
    /// whole first label and nothing else (RFC 9525 section 6.3).
    #[must_use]
    pub fn dns(text: &str) -> Option<Self> {
        let (is_wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let host = HostName::parse(rest).ok().filter(|host| host.ip().is_none() && !rest.contains(':'))?;
        let name = host.as_str().into();
        Some(if is_wildcard { Self::Wildcard(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for CertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(rest) => write!(f, "*.{rest}"),
            Self::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Whether a certificate with `names` is one for `host`.
#[must_use]
pub fn cover(names: &[CertName], host: &HostName<'_>) -> bool {
    if let Some(address) = host.ip() {
        return names
            .iter()
            .any(|name| matches!(name, CertName::Ip(of) if of.to_canonical() == address.to_canonical()));
    }
    let host = host.as_str();
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| match name {
        CertName::Exact(name) => **name == *host,
        CertName::Wildcard(rest) => parent == Some(rest),
        CertName::Ip(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_covers() {
        let mut names: Vec<_> = ["a.test", "*.pages.test", "Upper.Test", "dot.test.", "*.Wild.Test."]
            .iter()
            .map(|text| CertName::dns(text).unwrap())
            .collect();
        names.push(CertName::Ip("192.0.2.1".parse().unwrap()));
        names.push(CertName::Ip("2001:db8::1".parse().unwrap()));
        for (host, want) in [
            ("a.test", true),
            ("A.TEST", true),
            ("a.test.", true),
            ("a.test:8443", true),
            ("b.a.test", false),
            ("test", false),
            ("aa.test", false),
            ("demo.pages.test", true),
            ("demo--pr-7.pages.test:8443", true),
            ("pages.test", false),
            ("x.demo.pages.test", false),
            ("demopages.test", false),
            ("upper.test", true),
            ("dot.test", true),
            ("x.wild.test", true),
            ("192.0.2.1", true),
            ("192.0.2.1:443", true),
            ("192.0.2.2", false),
            ("[2001:db8::1]:443", true),
            ("[2001:db8:0::1]", true),
            ("[2001:db8::2]", false),
        ] {
            assert_eq!(cover(&names, &HostName::parse(host).unwrap()), want, "{host}");
        }
        let any_address = [CertName::dns("*.0.2.1").unwrap()];
        assert!(!cover(&any_address, &HostName::parse("192.0.2.1").unwrap()), "no wildcard covers an address");
    }

    #[test]
    fn names_of_certificates() {
        for (text, want) in [
            ("a.test", Some("a.test")),
            ("*.A.test.", Some("*.a.test")),
            ("localhost", Some("localhost")),
            ("*", None),
            ("*.", None),
            ("a.*.test", None),
            ("w*.a.test", None),
            ("*.*.test", None),
            ("*a.test", None),
            ("192.0.2.1", None),
            ("a.test:443", None),
            ("", None),
            ("a b", None),
        ] {
            assert_eq!(CertName::dns(text).map(|name| name.to_string()).as_deref(), want, "{text:?}");
        }
    }
}
