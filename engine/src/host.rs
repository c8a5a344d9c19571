//! Hosts: a Host field's value parsed once to a type, and what that host stands for.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::id::ImageId;
use crate::name::{EnvironmentName, ProjectName};

/// The most characters of a name (RFC 1035 section 2.3.4).
const LONGEST: usize = 253;
/// The most of one of its labels.
const LONGEST_LABEL: usize = 63;

// What a byte of a name is. Bits, so that what all of them are is one number.
/// A small letter, a digit, `-` or `_`.
const PLAIN: u8 = 1;
const UPPER: u8 = 2;
const DOT: u8 = 4;
const NEVER: u8 = 8;

/// The kind of each byte: every host of every request is read by it.
const KINDS: [u8; 256] = {
    let mut kinds = [NEVER; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => PLAIN,
            b'A'..=b'Z' => UPPER,
            b'.' => DOT,
            _ => NEVER,
        };
        byte += 1;
    }
    kinds
};

/// Why a text is not a host. A request that carries one is answered with 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a host is a DNS name or an IP address, and perhaps a port")]
pub struct NotAHost;

/// A host without its port: lower-case, without a trailing dot.
///
/// A DNS name has labels of 1 to 63 characters of `[a-z0-9-_]` and at most 253 in all. Names beyond ASCII arrive as
/// punycode.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostName<'a> {
    text: Cow<'a, str>,
    ip: Option<IpAddr>,
}

impl<'a> HostName<'a> {
    /// Reads the value of a Host field or an authority without userinfo (RFC 9110 section 7.2).
    ///
    /// Copies only where a letter is upper-case.
    ///
    /// # Errors
    ///
    /// Where `authority` is not `host [":" port]`.
    pub fn parse(authority: &'a str) -> Result<Self, NotAHost> {
        if let Some(rest) = authority.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(NotAHost)?;
            check_port(port)?;
            let address: Ipv6Addr = address.parse().map_err(|_| NotAHost)?;
            return Ok(Self { text: Cow::Owned(address.to_string()), ip: Some(address.into()) });
        }
        let (host, port) = match authority.bytes().position(|byte| byte == b':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        };
        check_port(port)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        // An address begins with a digit, as few names do.
        if host.as_bytes().first().is_some_and(u8::is_ascii_digit)
            && let Ok(address) = host.parse::<Ipv4Addr>()
        {
            return Ok(Self { text: Cow::Borrowed(host), ip: Some(address.into()) });
        }
        if host.len() > LONGEST {
            return Err(NotAHost);
        }
        let (mut seen, mut label) = (0, 0);
        for byte in host.bytes() {
            let kind = KINDS[usize::from(byte)];
            seen |= kind;
            if kind != DOT {
                label += 1;
                continue;
            }
            if label == 0 || label > LONGEST_LABEL {
                return Err(NotAHost);
            }
            label = 0;
        }
        if label == 0 || label > LONGEST_LABEL || seen & NEVER != 0 {
            return Err(NotAHost);
        }
        let upper = seen & UPPER != 0;
        let text = if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) };
        Ok(Self { text, ip: None })
    }

    /// The host as text; an IPv6 address without its brackets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address, where the host is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The same host, owning its text.
    #[must_use]
    pub fn into_owned(self) -> HostName<'static> {
        HostName { text: Cow::Owned(self.text.into_owned()), ip: self.ip }
    }
}

fn check_port(port: &str) -> Result<(), NotAHost> {
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(()),
        // An empty port means the default one (RFC 3986 section 3.2.3).
        Some("") => Ok(()),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok() => Ok(()),
        _ => Err(NotAHost),
    }
}

/// What a host stands for. Whether such a project, environment or image exists is not known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostTarget<'h> {
    /// The API and the console.
    Control,
    /// A project's environment or preview.
    Site {
        /// The project's label.
        project: &'h str,
        /// The environment's name.
        environment: &'h str,
    },
    /// One image of a project.
    Image {
        /// The project's label.
        project: &'h str,
        /// The first 16 hex digits of the image's id, lower-case.
        digits: &'h str,
    },
    /// A host that is not under the base domain: a custom domain, or nobody's.
    Custom(&'h str),
    /// A host under the base domain that no project can have.
    Unknown,
}

/// The names that one installation answers to: its base domain and its control hosts.
#[derive(Clone, Debug)]
pub struct Hosts {
    base_domain: Box<str>,
    control: ControlHosts,
}

#[derive(Clone, Debug)]
enum ControlHosts {
    /// The base domain, `api.` and `console.` under it, and bare addresses.
    Default,
    /// These and no others.
    Named(HashSet<Box<str>>),
}

impl Hosts {
    /// Takes the base domain, and the control hosts where they are not the default ones: the base domain itself, `api.`
    /// and `console.` under it, and bare IP addresses.
    #[must_use]
    pub fn new(base_domain: &HostName<'_>, control_hosts: Option<&[HostName<'_>]>) -> Self {
        let control = match control_hosts {
            None => ControlHosts::Default,
            Some(names) => ControlHosts::Named(names.iter().map(|name| name.as_str().into()).collect()),
        };
        Self { base_domain: base_domain.as_str().into(), control }
    }

    /// The base domain.
    #[must_use]
    pub fn base_domain(&self) -> &str {
        &self.base_domain
    }

    /// What `host` stands for.
    #[must_use]
    pub fn target<'h>(&self, host: &'h HostName<'_>) -> HostTarget<'h> {
        let name = host.as_str();
        let label = match name.strip_suffix(&*self.base_domain) {
            Some("") => Some(""),
            Some(rest) => rest.strip_suffix('.'),
            None => None,
        };
        let control = match &self.control {
            ControlHosts::Named(names) => names.contains(name),
            ControlHosts::Default => host.ip().is_some() || matches!(label, Some("" | "api" | "console")),
        };
        if control {
            return HostTarget::Control;
        }
        let Some(label) = label else { return HostTarget::Custom(name) };
        if label.is_empty() || label.contains('.') {
            return HostTarget::Unknown;
        }
        match split_at_hyphens(label) {
            Some((project, rest)) => match rest.strip_prefix("i-") {
                Some(digits) if is_image_digits(digits) => HostTarget::Image { project, digits },
                Some(_) => HostTarget::Unknown,
                None => HostTarget::Site { project, environment: rest },
            },
            None => match label.strip_suffix("-beta") {
                Some(project) => HostTarget::Site { project, environment: "beta" },
                None => HostTarget::Site { project: label, environment: "prod" },
            },
        }
    }

    /// The host that shows `environment` of `project`.
    #[must_use]
    pub fn site_host(&self, project: &ProjectName, environment: &EnvironmentName) -> String {
        match environment.as_str() {
            "prod" => format!("{project}.{}", self.base_domain),
            "beta" => format!("{project}-beta.{}", self.base_domain),
            other => format!("{project}--{other}.{}", self.base_domain),
        }
    }

    /// The host that stands for the same of `project` as `target` does of another one; nothing where there is no such.
    #[must_use]
    pub fn same_of(&self, target: HostTarget<'_>, project: &ProjectName) -> Option<String> {
        match target {
            HostTarget::Site { environment, .. } => Some(self.site_host(project, &environment.parse().ok()?)),
            HostTarget::Image { digits, .. } => Some(format!("{project}--i-{digits}.{}", self.base_domain)),
            HostTarget::Control | HostTarget::Custom(_) | HostTarget::Unknown => None,
        }
    }

    /// The host that shows `image` of `project`, whatever its environments show.
    #[must_use]
    pub fn image_host(&self, project: &ProjectName, image: ImageId) -> String {
        format!("{project}--i-{}.{}", image.host_digits(), self.base_domain)
    }
}

/// What stands before and behind the first two hyphens in a row. A label is too short for the search that the standard
/// library prepares for.
fn split_at_hyphens(label: &str) -> Option<(&str, &str)> {
    let at = label.as_bytes().windows(2).position(|pair| pair == b"--")?;
    Some((&label[..at], &label[at + 2..]))
}

fn is_image_digits(digits: &str) -> bool {
    digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_strictly() {
        let long_label = format!("{}.x", "a".repeat(63));
        for (text, want) in [
            ("localhost", "localhost"),
            ("LocalHost:8080", "localhost"),
            ("a.example.", "a.example"),
            ("a.example.:80", "a.example"),
            ("a.example:", "a.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a_b.example", "a_b.example"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            (&long_label, &long_label),
        ] {
            assert_eq!(HostName::parse(text).as_ref().map(HostName::as_str), Ok(want), "{text:?}");
        }
        let too_long_label = format!("{}.x", "a".repeat(64));
        let too_long = "a.".repeat(127) + "b";
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a:b",
            "a:80:80",
            "a:99999",
            "a:+80",
            "u@a",
            "a/b",
            "a b",
            "a%2e",
            "bücher",
            "[::1",
            "::1",
            "[::1]x",
            "[a]",
            "a,b",
            "a\0",
            &too_long_label,
            &too_long,
        ] {
            assert_eq!(HostName::parse(text), Err(NotAHost), "{text:?}");
        }
    }

    #[test]
    fn what_hosts_stand_for() {
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let site = |project, environment| HostTarget::Site { project, environment };
        for (text, want) in [
            ("pages.test", HostTarget::Control),
            ("api.pages.test", HostTarget::Control),
            ("console.pages.test", HostTarget::Control),
            ("127.0.0.1", HostTarget::Control),
            ("[::1]:8080", HostTarget::Control),
            ("demo.pages.test", site("demo", "prod")),
            ("DEMO.pages.test.", site("demo", "prod")),
            ("demo-beta.pages.test", site("demo", "beta")),
            ("demo--pr-7.pages.test", site("demo", "pr-7")),
            ("demo--a--b.pages.test", site("demo", "a--b")),
            ("demo--i-0123456789abcdef.pages.test", HostTarget::Image { project: "demo", digits: "0123456789abcdef" }),
            ("demo--i-0123456789abcdeg.pages.test", HostTarget::Unknown),
            ("a.demo.pages.test", HostTarget::Unknown),
            ("evilpages.test", HostTarget::Custom("evilpages.test")),
            ("example.com", HostTarget::Custom("example.com")),
        ] {
            let host = HostName::parse(text).unwrap();
            assert_eq!(hosts.target(&host), want, "{text}");
        }
    }

    #[test]
    fn the_same_of_another_project() {
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let too_long = format!("old--{}.pages.test", "e".repeat(22));
        for (text, want) in [
            ("old.pages.test", Some("new-name.pages.test")),
            ("old-beta.pages.test", Some("new-name-beta.pages.test")),
            ("old--beta.pages.test", Some("new-name-beta.pages.test")),
            ("old--pr-7.pages.test", Some("new-name--pr-7.pages.test")),
            ("old--i-0123456789abcdef.pages.test", Some("new-name--i-0123456789abcdef.pages.test")),
            ("old--a--b.pages.test", None),
            (&too_long, None),
            ("pages.test", None),
            ("example.com", None),
        ] {
            let host = HostName::parse(text).unwrap();
            let same = hosts.same_of(hosts.target(&host), &"new-name".parse().unwrap());
            assert_eq!(same.as_deref(), want, "{text}");
        }
    }

    #[test]
    fn the_host_of_an_image_leads_back_to_it() {
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let image: ImageId = "img_0123456789abcdef0000000000000000".parse().unwrap();
        let text = hosts.image_host(&"demo".parse().unwrap(), image);
        let host = HostName::parse(&text).unwrap();
        assert_eq!(hosts.target(&host), HostTarget::Image { project: "demo", digits: "0123456789abcdef" });
    }

    #[test]
    fn named_control_hosts_replace_the_default_ones() {
        let admin = HostName::parse("admin.test").unwrap();
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), Some(std::slice::from_ref(&admin)));
        assert_eq!(hosts.target(&admin), HostTarget::Control);
        for other in ["pages.test", "127.0.0.1", "api.pages.test"] {
            let host = HostName::parse(other).unwrap();
            assert_ne!(hosts.target(&host), HostTarget::Control, "{other}");
        }
    }
}
