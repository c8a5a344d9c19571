//! What of a request decides where it goes: its protocol, its method and its host. Pure.

use pinstone_engine::host::HostName;

/// The version of HTTP that a request came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

/// The methods that differ here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: GET without the body.
    Head,
    /// OPTIONS.
    Options,
    /// Any other: 405.
    Other,
}

impl Method {
    /// Reads the method's name, which has a case.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// Why a request's host is not known: 400.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostError {
    /// There is none.
    #[error("the request has no Host")]
    Missing,
    /// There are two or more.
    #[error("the request has more than one Host")]
    Several,
    /// It is not a DNS name or an address with perhaps a port, or has userinfo.
    #[error("the request's Host is malformed")]
    Malformed,
    /// `host` and `:authority` are not the same (RFC 9113 section 8.3.1).
    #[error("the request names two different hosts")]
    Differs,
}

/// Finds the host that a request is for.
///
/// `authority` is that of an absolute-form target (RFC 9112 section 3.2.2) or `:authority`; it replaces `hosts`, the
/// values of the Host lines, which must be right nevertheless. HTTP/1 needs exactly one Host; HTTP/2 either.
///
/// # Errors
///
/// Says why there is no host to go to.
pub fn host<'r>(
    protocol: Protocol,
    authority: Option<&'r str>,
    hosts: impl IntoIterator<Item = &'r [u8]>,
) -> Result<HostName<'r>, HostError> {
    let mut hosts = hosts.into_iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(HostError::Several);
    }
    let field = field.map(|value| std::str::from_utf8(value).map_err(|_| HostError::Malformed)).transpose()?;
    let named = match (protocol, authority, field) {
        (Protocol::Http10 | Protocol::Http11, _, None) | (Protocol::Http2, None, None) => {
            return Err(HostError::Missing);
        }
        (Protocol::Http2, Some(authority), Some(field)) if !authority.eq_ignore_ascii_case(field) => {
            return Err(HostError::Differs);
        }
        (_, Some(authority), field) => {
            if let Some(field) = field {
                HostName::parse(field).map_err(|_| HostError::Malformed)?;
            }
            authority
        }
        (_, None, Some(field)) => field,
    };
    HostName::parse(named).map_err(|_| HostError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::HostError::{Differs, Malformed, Missing, Several};
    use super::Protocol::{Http2, Http10, Http11};
    use super::*;

    #[test]
    fn the_host_of_a_request() {
        for (protocol, authority, hosts, want) in [
            (Http11, None, &["a.test"][..], Ok("a.test")),
            (Http11, None, &["A.Test.:8080"], Ok("a.test")),
            (Http11, None, &["[::1]:8080"], Ok("::1")),
            (Http11, None, &[], Err(Missing)),
            (Http11, None, &["a.test", "a.test"], Err(Several)),
            (Http11, None, &["a.test", "b.test"], Err(Several)),
            (Http11, None, &[""], Err(Malformed)),
            (Http11, None, &["a.test, b.test"], Err(Malformed)),
            (Http11, None, &["u@a.test"], Err(Malformed)),
            (Http11, None, &["a.test/x"], Err(Malformed)),
            (Http11, None, &["a.test:x"], Err(Malformed)),
            (Http11, Some("b.test:80"), &["a.test"], Ok("b.test")),
            (Http11, Some("u:p@b.test"), &["b.test"], Err(Malformed)),
            (Http11, Some("b.test"), &["a b"], Err(Malformed)),
            (Http11, Some("b.test"), &[], Err(Missing)),
            (Http10, None, &["a.test"], Ok("a.test")),
            (Http10, None, &[], Err(Missing)),
            (Http2, Some("a.test"), &[], Ok("a.test")),
            (Http2, Some("a.test:80"), &["A.test:80"], Ok("a.test")),
            (Http2, Some("a.test"), &["b.test"], Err(Differs)),
            (Http2, Some("u@a.test"), &[], Err(Malformed)),
            (Http2, None, &["a.test"], Ok("a.test")),
            (Http2, None, &[], Err(Missing)),
            (Http2, Some("a.test"), &["a.test", "a.test"], Err(Several)),
        ] {
            let found = host(protocol, authority, hosts.iter().map(|host| host.as_bytes()));
            let found = found.as_ref().map(HostName::as_str).map_err(|error| *error);
            assert_eq!(found, want, "{protocol:?} {authority:?} {hosts:?}");
        }
        assert_eq!(host(Http11, None, [&b"a\xff"[..]]), Err(Malformed));
    }
}
