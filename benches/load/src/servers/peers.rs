//! The peers: what each is called, how it is started, and what its configuration is.

/// A file server that others made.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(super) name: &'static str,
    pub(super) program: &'static str,
    pub(super) version_flag: &'static str,
    /// Versions that the configuration is written for start with this.
    pub(super) version: &'static str,
    pub(super) install: &'static str,
    pub(super) config_name: &'static str,
    pub(super) config: &'static str,
    pub(super) arguments: &'static [&'static str],
    pub(super) h2: Http2,
    pub(super) tls: Tls,
}

/// Whether a peer speaks HTTP/2 without TLS, by prior knowledge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Http2 {
    SamePort,
    OtherPort,
    None,
}

/// How a peer serves TLS. It chooses HTTP/1.1 or HTTP/2 by ALPN there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tls {
    /// On another port: this takes the place of `@TLS@` in its configuration.
    OtherPort(&'static str),
    /// By a process of its own on its only port: this takes the place of `@TLS@` in that one's configuration.
    OtherProcess(&'static str),
}

pub(super) const PEERS: [Peer; 5] = [
    Peer {
        name: "nginx",
        program: "nginx",
        version_flag: "-v",
        version: "",
        install: "apt-get install nginx-light",
        config_name: "nginx.conf",
        config: include_str!("../../peers/nginx.conf"),
        arguments: &["-p", "@TMP@", "-e", "@TMP@/nginx-error.log", "-c", "@CONFIG@", "-g", "daemon off; @USER@"],
        h2: Http2::OtherPort,
        tls: Tls::OtherPort(include_str!("../../peers/nginx-tls.conf")),
    },
    Peer {
        name: "h2o",
        program: "h2o",
        version_flag: "--version",
        version: "",
        install: "apt-get install h2o",
        config_name: "h2o.conf",
        config: include_str!("../../peers/h2o.conf"),
        arguments: &["--conf", "@CONFIG@"],
        h2: Http2::SamePort,
        tls: Tls::OtherPort(include_str!("../../peers/h2o-tls.conf")),
    },
    Peer {
        name: "lighttpd",
        program: "lighttpd",
        version_flag: "-v",
        version: "",
        install: "apt-get install lighttpd lighttpd-mod-openssl",
        config_name: "lighttpd.conf",
        config: include_str!("../../peers/lighttpd.conf"),
        arguments: &["-D", "-f", "@CONFIG@"],
        h2: Http2::SamePort,
        tls: Tls::OtherPort(include_str!("../../peers/lighttpd-tls.conf")),
    },
    Peer {
        name: "caddy",
        program: "caddy",
        version_flag: "version",
        version: "",
        install: "apt-get install caddy",
        config_name: "Caddyfile",
        config: include_str!("../../peers/Caddyfile"),
        arguments: &["run", "--adapter", "caddyfile", "--config", "@CONFIG@"],
        h2: Http2::SamePort,
        tls: Tls::OtherPort(include_str!("../../peers/Caddyfile-tls")),
    },
    Peer {
        name: "static-web-server",
        program: "static-web-server",
        version_flag: "--version",
        version: "2.",
        install: "cargo install static-web-server --version '^2' --locked",
        config_name: "static-web-server.toml",
        config: include_str!("../../peers/static-web-server.toml"),
        arguments: &["--config-file", "@CONFIG@"],
        h2: Http2::None,
        tls: Tls::OtherProcess(include_str!("../../peers/static-web-server-tls.toml")),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_in_a_configuration_is_known() {
        let known = ["CONFIG", "TMP", "ROOT", "H2PORT", "TLSPORT", "PORT", "MIME", "USER", "TLS", "CERT", "KEY"];
        for peer in &PEERS {
            let (Tls::OtherPort(tls) | Tls::OtherProcess(tls)) = peer.tls;
            assert_eq!(peer.config.matches("@TLS@").count(), 1, "{}", peer.name);
            for text in [peer.config, tls].iter().chain(peer.arguments) {
                for name in text.split('@').skip(1).step_by(2).filter(|name| *name != "…") {
                    assert!(known.contains(&name), "{}: @{name}@", peer.name);
                }
                assert_eq!(text.matches('@').count() % 2, 0, "{}: {text}", peer.name);
            }
        }
    }
}
