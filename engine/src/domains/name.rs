//! Names of domains, and the paths under which they show something: read once, as strictly as a Host field is.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::host::HostName;
use crate::path::{PathError, SitePath};
use crate::text::serde_as_text;

/// The longest name, in bytes: with `_pinstone.` before it, it is still one.
pub const LONGEST_DOMAIN: usize = 253 - "_pinstone.".len();
/// The longest prefix, in bytes.
pub const LONGEST_PREFIX: usize = 200;

/// Why a text is not a domain that could show a site. Each message says what one looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DomainNameError {
    /// It is not a domain name at all.
    #[error("a domain is labels of letters, digits and hyphens with dots between them, such as `www.example.com`")]
    Syntax,
    /// There is a port, or a scheme.
    #[error("a domain is given without a scheme and without a port")]
    Port,
    /// It is an IP address, or would be read as one.
    #[error("a domain is a name, and not an IP address")]
    Address,
    /// It ends in a dot.
    #[error("a domain is given without a dot at its end")]
    TrailingDot,
    /// It has one label.
    #[error("a domain has at least two labels, such as `example.com`")]
    OneLabel,
    /// It is longer than [`LONGEST_DOMAIN`], or a label is longer than 63 bytes.
    #[error("a domain has at most 243 bytes and each label at most 63, in the form with `xn--`")]
    TooLong,
    /// Many registrants share it.
    #[error("a public suffix, such as `co.uk` or `github.io`, is nobody's domain; name one below it")]
    PublicSuffix,
}

/// A domain that can show a site: at least two labels, lower-case, in punycode, not a public suffix.
///
/// Read by [`FromStr`] from what people write, in any case and script. A record's is taken as it is, because what is a
/// public suffix changes with the list of them.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DomainName(Box<str>);

impl DomainName {
    /// The name as a Host field has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as people read it.
    #[must_use]
    pub fn to_unicode(&self) -> String {
        Uts46::new().to_unicode(self.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow).0.into_owned()
    }

    /// The same name with `www.` before it, or without it where it has that.
    #[must_use]
    pub fn counterpart(&self) -> Option<Self> {
        match self.0.strip_prefix("www.") {
            Some(rest) => rest.parse().ok(),
            None => format!("www.{}", self.0).parse().ok(),
        }
    }
}

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, DomainNameError> {
        // `::1` is an address before it has a port.
        if text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok() {
            return Err(DomainNameError::Address);
        }
        if text.contains(':') {
            return Err(DomainNameError::Port);
        }
        let ascii =
            Uts46::new().to_ascii(text.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Ignore);
        let ascii = ascii.map_err(|_| DomainNameError::Syntax)?;
        let Some((rest, last)) = ascii.rsplit_once('.') else {
            return Err(if ascii.is_empty() { DomainNameError::Syntax } else { DomainNameError::OneLabel });
        };
        if last.is_empty() {
            return Err(DomainNameError::TrailingDot);
        }
        if rest.split('.').any(str::is_empty) {
            return Err(DomainNameError::Syntax);
        }
        if ascii.len() > LONGEST_DOMAIN || ascii.split('.').any(|label| label.len() > 63) {
            return Err(DomainNameError::TooLong);
        }
        // Programs read such a last label as the end of an IPv4 address, in decimal, octal or hexadecimal.
        if last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x") {
            return Err(DomainNameError::Address);
        }
        if psl::domain(ascii.as_bytes()).is_none() {
            return Err(DomainNameError::PublicSuffix);
        }
        match HostName::parse(&ascii) {
            Ok(host) if host.as_str() == ascii => Ok(Self(ascii.into())),
            _ => Err(DomainNameError::Syntax),
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for DomainName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DomainName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match HostName::parse(&text) {
            Ok(host) if host.as_str() == text && host.ip().is_none() => Ok(Self(text.into())),
            _ => Err(serde::de::Error::custom("a domain is a lower-case DNS name")),
        }
    }
}

/// Why a text is not a prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PrefixError {
    /// It is longer than [`LONGEST_PREFIX`].
    #[error("a prefix has at most 200 bytes")]
    TooLong,
    /// It has what would be read otherwise in a URL.
    #[error("a prefix is written decoded, without `%`, `?` and `#`")]
    Encoded,
    /// It is not the path of a folder in a site.
    #[error(transparent)]
    Path(PathError),
}

/// The path under which a domain shows a site: all of the domain, or a folder such as `docs` or `a/b`.
///
/// Read with or without a slash at either end; `/` and nothing are all of the domain. Printed as `/` or `/docs`.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathPrefix(Box<str>);

impl PathPrefix {
    /// Whether it is all of the domain.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// The path without slashes around it; empty for all of the domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it covers `path`, which is decoded, without a leading slash and without empty segments. Whole segments
    /// count: `docs` covers `docs` and `docs/x`, and not `docsx`.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        self.is_whole() || path.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let path = text.strip_prefix('/').unwrap_or(text);
        let path = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() {
            return Ok(Self::default());
        }
        if path.len() > LONGEST_PREFIX {
            return Err(PrefixError::TooLong);
        }
        if path.contains(['%', '?', '#']) {
            return Err(PrefixError::Encoded);
        }
        SitePath::check(path).map_err(PrefixError::Path)?;
        Ok(Self(path.into()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

serde_as_text!(PathPrefix);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_read_from_what_people_write() {
        let long = format!("{}.{}.example.com", "a".repeat(63), "b".repeat(63));
        for (text, want) in [
            ("example.com", "example.com"),
            ("WWW.Example.COM", "www.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("BÜCHER.example", "xn--bcher-kva.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("faß.example", "xn--fa-hia.example"),
            ("例え\u{3002}テスト", "xn--r8jz45g.xn--zckzah"),
            ("a.b.co.uk", "a.b.co.uk"),
            ("me.github.io", "me.github.io"),
            ("r3---sn.example.com", "r3---sn.example.com"),
            ("1.example.com", "1.example.com"),
            ("docs.pages.test", "docs.pages.test"),
            (&long, &long),
        ] {
            let read: DomainName = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.as_str(), want, "{text}");
            assert_eq!(serde_json::from_value::<DomainName>(serde_json::to_value(&read).unwrap()).unwrap(), read);
        }
    }

    #[test]
    fn what_is_no_domain_is_refused_with_its_reason() {
        use DomainNameError::{Address, OneLabel, Port, PublicSuffix, Syntax, TooLong, TrailingDot};
        let long_label = format!("{}.com", "a".repeat(64));
        let long = format!("{}example.com", "a.".repeat(120));
        // Its punycode is longer than a label.
        let wide = format!("{}.com", "ü".repeat(60));
        for (text, why) in [
            ("", Syntax),
            (".", TrailingDot),
            ("com", OneLabel),
            ("localhost", OneLabel),
            ("example.com.", TrailingDot),
            ("a..com", Syntax),
            (".example.com", Syntax),
            ("-a.com", Syntax),
            ("a-.com", Syntax),
            ("a_b.com", Syntax),
            ("*.example.com", Syntax),
            ("a b.com", Syntax),
            ("a/b.com", Syntax),
            ("a@b.com", Syntax),
            ("a%2e.com", Syntax),
            ("a\0.com", Syntax),
            ("xn--a.com", Syntax),
            ("example.com:80", Port),
            ("https://example.com", Port),
            ("127.0.0.1", Address),
            ("127.1", Address),
            ("1.2.3.0x7f", Address),
            ("::1", Address),
            ("[::1]", Address),
            ("１２７.0.0.1", Address),
            ("co.uk", PublicSuffix),
            ("github.io", PublicSuffix),
            ("xn--55qx5d.cn", PublicSuffix),
            (&long_label, TooLong),
            (&long, TooLong),
            (&wide, TooLong),
        ] {
            assert_eq!(text.parse::<DomainName>(), Err(why), "{text:?}");
        }
        for wrong in ["", "A.com", "127.0.0.1", "a..b", "bücher.example"] {
            assert!(serde_json::from_value::<DomainName>(wrong.into()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_with_and_without_www() {
        for (text, want) in [
            ("example.com", Some("www.example.com")),
            ("www.example.com", Some("example.com")),
            ("a.example.com", Some("www.a.example.com")),
            // `co.uk` is nobody's.
            ("www.co.uk", None),
        ] {
            let domain: DomainName = text.parse().unwrap();
            assert_eq!(domain.counterpart().as_ref().map(DomainName::as_str), want, "{text}");
        }
    }

    #[test]
    fn prefixes_are_whole_segments() {
        for (text, want) in [
            ("", "/"),
            ("/", "/"),
            ("docs", "/docs"),
            ("/docs", "/docs"),
            ("/docs/", "/docs"),
            ("a/b c", "/a/b c"),
            ("größe", "/größe"),
        ] {
            let prefix: PathPrefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), want, "{text}");
            assert_eq!(prefix.to_string().parse(), Ok(prefix), "{text}");
        }
        for wrong in ["//docs", "a//b", "..", "a/./b", "a\\b", "a\nb", "a%20b", "a?b", "a#b", &"a".repeat(201)] {
            assert!(wrong.parse::<PathPrefix>().is_err(), "{wrong:?}");
        }
        for (prefix, path, want) in [
            ("docs", "docs", true),
            ("docs", "docs/", true),
            ("docs", "docs/x", true),
            ("docs", "docsx", false),
            ("docs", "Docs", false),
            ("docs", "", false),
            ("a/b", "a", false),
            ("a/b", "a/b/c", true),
            ("", "", true),
            ("", "docs", true),
        ] {
            assert_eq!(prefix.parse::<PathPrefix>().unwrap().covers(path), want, "{prefix:?} covers {path:?}");
        }
    }
}
