//! Where visitors of a domain are sent that has another name as its proper one: the same address there. Pure.

use percent_encoding::{CONTROLS, utf8_percent_encode};

/// The `Location` of a request that was for another host.
///
/// It keeps scheme, port, path and query. `authority` is as the request has it: a host and perhaps a port.
pub(crate) fn location(host: &str, authority: &str, is_tls: bool, path: &str, query: Option<&str>) -> String {
    let (scheme, usual) = if is_tls { ("https", "443") } else { ("http", "80") };
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.is_empty() && *port != usual);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    same_address(format!("{scheme}://{host}{port}"), path, query)
}

/// The `Location` of a path and a query at `origin`, which ends before the path.
pub(crate) fn same_address(origin: String, path: &str, query: Option<&str>) -> String {
    let mut location = origin;
    // What is not ASCII may stand in a request's target, but not in a Location. `*` is the target of some OPTIONS.
    location.extend(utf8_percent_encode(if path.starts_with('/') { path } else { "/" }, CONTROLS));
    if let Some(query) = query {
        location.push('?');
        location.extend(utf8_percent_encode(query, CONTROLS));
    }
    location
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_address_at_another_host() {
        for (authority, is_tls, path, query, want) in [
            ("www.a.example", false, "/", None, "http://a.example/"),
            ("www.a.example:80", false, "/x%20y", Some("q=1"), "http://a.example/x%20y?q=1"),
            ("www.a.example:443", true, "/x", Some(""), "https://a.example/x?"),
            ("www.a.example:8080", false, "/", None, "http://a.example:8080/"),
            ("WWW.a.example.:8443", true, "/", None, "https://a.example:8443/"),
            ("www.a.example:", false, "//evil.example", None, "http://a.example//evil.example"),
            ("www.a.example", false, "/\u{fc}", None, "http://a.example/%C3%BC"),
            ("www.a.example", false, "*", None, "http://a.example/"),
        ] {
            assert_eq!(location("a.example", authority, is_tls, path, query), want, "{authority} {path}");
        }
    }
}
