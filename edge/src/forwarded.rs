//! What a trusted proxy says of the client that it speaks for: `Forwarded` (RFC 7239), `X-Forwarded-For` and
//! `X-Forwarded-Proto`. Pure.
//!
//! Proxies append, so a list is read from its end: each address is believed because the one after it is trusted, and the
//! first that is not trusted is the client. What stands before it was written by the client and means nothing. Where both
//! kinds came and name different clients, one of them went through the proxy unseen, and nobody can tell which; then
//! neither counts.

use std::net::{IpAddr, SocketAddr};

use crate::client::{Client, Networks};
use crate::request_head::RequestHead;

/// Who a request comes from that came over a connection of `link`.
pub(crate) fn client(link: Client, trusted: &Networks, request: &RequestHead) -> Client {
    if trusted.is_empty() || !trusted.contains(link.address) {
        return link;
    }
    let standard = standard(request).map(|hops| walk(link, trusted, &hops));
    let usual = usual(request).map(|hops| walk(link, trusted, &hops));
    match (standard, usual) {
        (None, None) => link,
        (Some(client), None) | (None, Some(client)) => client,
        (Some(one), Some(other)) if one.address == other.address => {
            Client { is_tls: if one.is_tls == other.is_tls { one.is_tls } else { link.is_tls }, ..one }
        }
        (Some(_), Some(_)) => link,
    }
}

/// One step of the way, as the proxy after it saw it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Hop {
    /// Nothing where it is hidden or malformed.
    address: Option<IpAddr>,
    is_tls: Option<bool>,
}

/// Follows the way back, from the last hop to the first.
fn walk(link: Client, trusted: &Networks, hops: &[Hop]) -> Client {
    let mut client = link;
    for hop in hops.iter().rev() {
        client.is_tls = hop.is_tls.unwrap_or(client.is_tls);
        let Some(address) = hop.address else { break };
        client.address = address;
        if !trusted.contains(address) {
            break;
        }
    }
    client
}

/// The hops of `X-Forwarded-For`, or one without an address where there is only `X-Forwarded-Proto`.
fn usual(request: &RequestHead) -> Option<Vec<Hop>> {
    let items = |name: &'static str| -> Vec<&str> {
        let lines = request.all(name).map(|line| ascii(line).unwrap_or("?"));
        lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty()).collect()
    };
    let (addresses, protocols) = (items("x-forwarded-for"), items("x-forwarded-proto"));
    if addresses.is_empty() && protocols.is_empty() {
        return None;
    }
    let mut hops: Vec<Hop> = addresses.iter().map(|item| Hop { address: address(item), is_tls: None }).collect();
    match &*protocols {
        [] => {}
        // Set, not appended: it is the client's, however many proxies there are.
        [only] => {
            let is_tls = is_tls(only);
            hops.iter_mut().for_each(|hop| hop.is_tls = is_tls);
            if hops.is_empty() {
                hops.push(Hop { address: None, is_tls });
            }
        }
        all if all.len() == hops.len() => {
            hops.iter_mut().zip(all).for_each(|(hop, protocol)| hop.is_tls = is_tls(protocol));
        }
        // Which belongs to which cannot be told.
        _ => {}
    }
    Some(hops)
}

/// The hops of `Forwarded`; nothing where a line of it is malformed.
fn standard(request: &RequestHead) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    for line in request.all("forwarded") {
        elements(ascii(line)?, &mut hops)?;
    }
    (!hops.is_empty()).then_some(hops)
}

/// The text of a value, where it is ASCII.
fn ascii(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

/// Reads `1#( [ token "=" ( token / quoted-string ) ] *( ";" … ) )`.
fn elements(line: &str, hops: &mut Vec<Hop>) -> Option<()> {
    let mut rest = line.trim_matches(BLANKS);
    let mut hop = Hop::default();
    let mut is_empty = true;
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            let equals = rest.find('=')?;
            let (name, value) = (&rest[..equals], &rest[equals + 1..]);
            if name.is_empty() || !name.bytes().all(is_token) {
                return None;
            }
            let (value, after) = value_of(value)?;
            if name.eq_ignore_ascii_case("for") {
                hop.address = address(&value);
            } else if name.eq_ignore_ascii_case("proto") {
                hop.is_tls = is_tls(&value);
            }
            is_empty = false;
            rest = after.trim_start_matches(BLANKS);
        }
        match rest.as_bytes().first() {
            Some(b';') => rest = &rest[1..],
            Some(b',') | None => {
                if !is_empty {
                    hops.push(hop);
                }
                (hop, is_empty) = (Hop::default(), true);
                if rest.is_empty() {
                    return Some(());
                }
                rest = &rest[1..];
            }
            Some(_) => return None,
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The value at the start of `text`, and what follows it.
fn value_of(text: &str) -> Option<(std::borrow::Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].into(), &text[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value.into(), &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            _ => value.push(letter),
        }
    }
    None
}

/// A token, and what is often written without the quotes that it needs: an address with a port.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte)
}

/// Reads an address, perhaps with a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|inner| inner.contains(':'));
    let address = match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

fn is_tls(protocol: &str) -> Option<bool> {
    if protocol.eq_ignore_ascii_case("https") {
        Some(true)
    } else if protocol.eq_ignore_ascii_case("http") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request_head::tests::head;

    const PROXY: &str = "10.0.0.1";

    fn asked(peer: &str, fields: &[(&'static str, &str)]) -> (String, bool) {
        let trusted = ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let link = Client::direct(SocketAddr::new(peer.parse().unwrap(), 5), false);
        let found = client(link, &trusted, &head(fields));
        assert_eq!(found.peer, link.peer);
        (found.address.to_string(), found.is_tls)
    }

    #[test]
    fn who_a_trusted_proxy_speaks_for() {
        const FOR: &str = "x-forwarded-for";
        const PROTO: &str = "x-forwarded-proto";
        const STANDARD: &str = "forwarded";
        for (fields, address, is_tls) in [
            (&[][..], PROXY, false),
            (&[(FOR, "192.0.2.1")], "192.0.2.1", false),
            (&[(FOR, "192.0.2.1"), (PROTO, "https")], "192.0.2.1", true),
            (&[(PROTO, "HTTPS")], PROXY, true),
            (&[(PROTO, "wss")], PROXY, false),
            // The first that is not trusted, from the end; what is before it was written by the client.
            (&[(FOR, "198.51.100.9, 192.0.2.1")], "192.0.2.1", false),
            (&[(FOR, "garbage, 192.0.2.1")], "192.0.2.1", false),
            (&[(FOR, "192.0.2.1, 10.0.0.7, 10.0.0.8")], "192.0.2.1", false),
            (&[(FOR, "192.0.2.1"), (FOR, "10.0.0.7")], "192.0.2.1", false),
            (&[(FOR, "10.0.0.9, 10.0.0.7")], "10.0.0.9", false),
            (&[(FOR, "192.0.2.1:8080")], "192.0.2.1", false),
            (&[(FOR, "[2001:db8::1]:80")], "2001:db8::1", false),
            (&[(FOR, "[2001:db8::1]")], "2001:db8::1", false),
            (&[(FOR, "2001:db8::1")], "2001:db8::1", false),
            (&[(FOR, "::ffff:192.0.2.1")], "192.0.2.1", false),
            (&[(FOR, " 192.0.2.1 ,")], "192.0.2.1", false),
            // What is not understood is ignored, and with it what stands before it.
            (&[(FOR, "unknown")], PROXY, false),
            (&[(FOR, "192.0.2.1, unknown, 10.0.0.7")], "10.0.0.7", false),
            (&[(FOR, "192.0.2.1, 192.0.2.300")], PROXY, false),
            (&[(FOR, "caf\u{e9}")], PROXY, false),
            (&[(FOR, "[192.0.2.1]")], PROXY, false),
            // A protocol for each hop, or one for all.
            (&[(FOR, "192.0.2.1, 10.0.0.7"), (PROTO, "https, http")], "192.0.2.1", true),
            (&[(FOR, "192.0.2.1, 10.0.0.7"), (PROTO, "https")], "192.0.2.1", true),
            (&[(FOR, "192.0.2.1, 10.0.0.7"), (PROTO, "https, https, http")], "192.0.2.1", false),
            (&[(STANDARD, "for=192.0.2.1")], "192.0.2.1", false),
            (&[(STANDARD, "For=\"192.0.2.1:80\";Proto=https;by=10.0.0.1")], "192.0.2.1", true),
            (&[(STANDARD, "for=\"[2001:db8::1]:4711\";proto=http")], "2001:db8::1", false),
            (&[(STANDARD, "for=198.51.100.9, for=192.0.2.1;proto=https, for=10.0.0.7")], "192.0.2.1", true),
            (&[(STANDARD, "for=198.51.100.9"), (STANDARD, "for=192.0.2.1")], "192.0.2.1", false),
            (&[(STANDARD, "for=_hidden")], PROXY, false),
            (&[(STANDARD, "for=unknown;proto=https")], PROXY, true),
            (&[(STANDARD, "host=\"a,b;c=\\\"d\";for=192.0.2.1")], "192.0.2.1", false),
            (&[(STANDARD, ",, for=192.0.2.1 ; proto=https ,")], "192.0.2.1", true),
            (&[(STANDARD, "for=\"192.0.2.1")], PROXY, false),
            (&[(STANDARD, "for 192.0.2.1")], PROXY, false),
            (&[(STANDARD, "for=192.0.2.1 proto=https")], PROXY, false),
            (&[(STANDARD, "for=")], PROXY, false),
            (&[(STANDARD, "=x")], PROXY, false),
            (&[(STANDARD, "for=\"\\")], PROXY, false),
            (&[(STANDARD, "for=192.0.2.1"), (FOR, "192.0.2.1")], "192.0.2.1", false),
            // A client can send the kind that the proxy does not know.
            (&[(STANDARD, "for=198.51.100.9"), (FOR, "192.0.2.1")], PROXY, false),
        ] {
            assert_eq!(asked(PROXY, fields), (address.to_owned(), is_tls), "{fields:?}");
        }
    }

    #[test]
    fn from_anybody_else_it_is_ignored() {
        let fields = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(asked("203.0.113.5", &fields), ("203.0.113.5".to_owned(), false));
        let link = Client::direct("10.0.0.1:5".parse().unwrap(), true);
        assert_eq!(client(link, &Networks::default(), &head(&fields)), link, "nobody is trusted by default");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(value in "[ -~\\x80-\\xff]{0,40}", list in "[for=\";,\\\\ .0-9]{0,40}") {
            for text in [&value, &list] {
                asked(PROXY, &[("forwarded", text), ("x-forwarded-for", text), ("x-forwarded-proto", text)]);
                asked(PROXY, &[("forwarded", text)]);
            }
        }
    }
}
