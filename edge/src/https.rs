//! What becomes of a request that came without TLS where there is TLS. Pure.
//!
//! A visitor is sent to the same address over HTTPS. A program that calls the API is not: it would go on sending its token
//! in the clear first, with each call, and nobody would notice. It is refused, so that its endpoint gets corrected. What
//! comes from this machine itself has not been on a wire.

use std::borrow::Cow;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use percent_encoding::{CONTROLS, utf8_percent_encode};
use pinstone_engine::host::HostName;

use crate::control::ControlBody;
use crate::request::Method;

/// What HTTPS means beside HTTP. By default nothing: both are served alike.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HttpsConfig {
    /// Requests without TLS are sent to this port.
    pub redirect: Option<u16>,
    /// How long a browser that came over TLS shall use nothing else (RFC 6797), without a word about other hosts.
    pub hsts: Option<Duration>,
}

impl HttpsConfig {
    /// The value of `Strict-Transport-Security`.
    pub(crate) fn hsts_field(&self) -> Option<HeaderValue> {
        let text = format!("max-age={}", self.hsts?.as_secs());
        Some(HeaderValue::try_from(text).expect("a number is a field's value"))
    }
}

/// A request that came without TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'r> {
    pub(crate) method: Method,
    pub(crate) host: &'r HostName<'r>,
    pub(crate) path_and_query: &'r str,
    /// Whether the host is the control plane's.
    pub(crate) is_control: bool,
    /// Whether the client is on this machine.
    pub(crate) is_local: bool,
    /// Whether it has something in its head that is nobody else's business.
    pub(crate) has_credentials: bool,
    /// Whether a certificate covers the host, so that the way over TLS does not end in a warning.
    pub(crate) is_covered: bool,
}

/// What becomes of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is answered as if there were no TLS.
    Serve,
    /// The client is sent there.
    Redirect(String),
    /// It is told to use HTTPS, and not answered.
    Refuse,
}

/// Decides, where HTTPS is at `port`.
pub(crate) fn decide(asked: &Asked<'_>, port: u16) -> Verdict {
    let reads = matches!(asked.method, Method::Get | Method::Head);
    if asked.is_control {
        if asked.is_local {
            return Verdict::Serve;
        }
        // Whatever has a body may have a password in it.
        if !reads || asked.has_credentials {
            return Verdict::Refuse;
        }
    }
    if reads && asked.is_covered { Verdict::Redirect(location(asked, port)) } else { Verdict::Serve }
}

fn location(asked: &Asked<'_>, port: u16) -> String {
    let host = match asked.host.ip() {
        Some(std::net::IpAddr::V6(address)) => Cow::Owned(format!("[{address}]")),
        _ => Cow::Borrowed(asked.host.as_str()),
    };
    let path = if asked.path_and_query.starts_with('/') { asked.path_and_query } else { "/" };
    // What is not ASCII may stand in a request's target, but not in a Location.
    let path = utf8_percent_encode(path, CONTROLS);
    if port == 443 { format!("https://{host}{path}") } else { format!("https://{host}:{port}{path}") }
}

/// The answer of the control plane to who should have used HTTPS.
pub(crate) fn refusal() -> Response<ControlBody> {
    let text = r#"{"error":"https_required","message":"this server takes no calls without TLS","hint":"use an endpoint that starts with https://, and make a new token if this one went over a network"}"#;
    let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never: Infallible| match never {});
    let mut answer = Response::new(ControlBody::new(body));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_request_without_tls() {
        let host = HostName::parse("demo.pages.test:8080").unwrap();
        let site = Asked {
            method: Method::Get,
            host: &host,
            path_and_query: "/a/%20b?c=d&e",
            is_control: false,
            is_local: false,
            has_credentials: false,
            is_covered: true,
        };
        let control = Asked { is_control: true, ..site };
        let to = |text: &str| Verdict::Redirect(text.to_owned());
        let same = to("https://demo.pages.test/a/%20b?c=d&e");
        for (asked, want, why) in [
            (site, same.clone(), "the same address"),
            (Asked { method: Method::Head, ..site }, same.clone(), "HEAD is GET"),
            (Asked { method: Method::Options, ..site }, Verdict::Serve, "nothing is read"),
            (Asked { method: Method::Other, ..site }, Verdict::Serve, "405 either way"),
            (Asked { is_local: true, ..site }, same.clone(), "also here, to see what visitors see"),
            (Asked { has_credentials: true, ..site }, same.clone(), "cookies of a site's script"),
            (Asked { is_covered: false, ..site }, Verdict::Serve, "no way into a warning"),
            (control, same, "a browser at the console"),
            (Asked { has_credentials: true, ..control }, Verdict::Refuse, "a token in the clear"),
            (Asked { has_credentials: true, is_covered: false, ..control }, Verdict::Refuse, "also without a way"),
            (Asked { method: Method::Other, ..control }, Verdict::Refuse, "perhaps a password in the clear"),
            (Asked { method: Method::Options, ..control }, Verdict::Refuse, "a call is to follow"),
            (Asked { is_covered: false, ..control }, Verdict::Serve, "a check of its health"),
            (Asked { has_credentials: true, is_local: true, ..control }, Verdict::Serve, "not on a wire"),
        ] {
            assert_eq!(decide(&asked, 443), want, "{why}");
        }
        for (port, path, want) in [
            (8443, "/", "https://demo.pages.test:8443/"),
            (443, "//evil.test/", "https://demo.pages.test//evil.test/"),
            (443, "/caf\u{e9}?\u{7f}", "https://demo.pages.test/caf%C3%A9?%7F"),
            (443, "*", "https://demo.pages.test/"),
        ] {
            assert_eq!(decide(&Asked { path_and_query: path, ..site }, port), to(want), "{path}");
        }
        let host = HostName::parse("[2001:db8::1]:80").unwrap();
        assert_eq!(decide(&Asked { host: &host, path_and_query: "/", ..site }, 443), to("https://[2001:db8::1]/"));
    }

    #[test]
    fn hsts_speaks_of_the_host_alone() {
        let https = HttpsConfig { hsts: Some(Duration::from_secs(63_072_000)), ..HttpsConfig::default() };
        assert_eq!(https.hsts_field().unwrap(), "max-age=63072000");
        assert_eq!(HttpsConfig::default().hsts_field(), None);
    }
}
