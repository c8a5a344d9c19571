//! The keys of TLS: which belong together, and what is in the files that they name.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pinstone_api::config::PublicUrl;
use pinstone_edge::tls::CertificateErrors;
use pinstone_edge::{CertificateSources, Certificates};

use super::reader::Reader;
use super::values::{address, hsts, switch};

/// What is spoken over TLS, and what is shown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct TlsConfig {
    /// Nowhere, where it is empty.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) sources: CertificateSources,
    pub(crate) redirect: bool,
    pub(crate) hsts: Option<Duration>,
}

impl TlsConfig {
    /// Reads the certificates, where there are any.
    pub(super) fn open(&self) -> Result<Option<Certificates>, CertificateErrors> {
        if self.sources == CertificateSources::default() {
            return Ok(None);
        }
        Certificates::open(self.sources.clone()).map(Some)
    }
}

impl Reader<'_> {
    pub(super) fn tls(&mut self, public_url: Option<&PublicUrl>) -> TlsConfig {
        let path = |text: &str| Ok::<_, String>(PathBuf::from(text));
        let (chain, key) = (self.one("tls.cert", path), self.one("tls.key", path));
        match (&chain, &key) {
            (Some(_), None) => self.wrong("tls.cert", "it needs its private key: set `tls.key`"),
            (None, Some(_)) => self.wrong("tls.key", "it needs its certificate: set `tls.cert`"),
            _ => {}
        }
        let sources = CertificateSources { pair: chain.zip(key), folder: self.one("tls.dir", path) };
        let listens = self.given("tls.listen").is_some();
        let listen = self.many("tls.listen", address).unwrap_or_default();
        if listens {
            let shows = ["tls.cert", "tls.key", "tls.dir"].into_iter().any(|key| self.given(key).is_some());
            if !shows {
                self.wrong("tls.listen", "there is no certificate: set `tls.cert` and `tls.key`, or `tls.dir`");
            }
        } else {
            for key in ["tls.cert", "tls.key", "tls.dir"] {
                self.wrong(key, "it has no use without an address to listen on: set `tls.listen`");
            }
        }
        let redirect = self.one("tls.redirect", switch).unwrap_or(false);
        if redirect && !listens && !public_url.is_some_and(PublicUrl::is_secure) {
            self.wrong(
                "tls.redirect",
                "there is no HTTPS to send visitors to: set `tls.listen`, or a `public_url` with https://",
            );
        }
        TlsConfig { listen, sources, redirect, hsts: self.one("tls.hsts", hsts) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;
    use super::*;
    use std::path::Path;

    /// Writes a certificate for `name` and its key.
    fn write_pair(folder: &Path, file: &str, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(folder.join(format!("{file}.crt")), made.cert.pem()).unwrap();
        std::fs::write(folder.join(format!("{file}.key")), made.signing_key.serialize_pem()).unwrap();
    }

    #[test]
    fn certificates_are_read_with_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        write_pair(folder.path(), "a", "a.test");
        write_pair(folder.path(), "b", "b.test");
        let dir = folder.path().to_str().unwrap();
        let [a, a_key, b_key, x] = ["a.crt", "a.key", "b.key", "x.crt"].map(|name| format!("{dir}/{name}"));
        let listen = ["--tls-listen", "127.0.0.1:0"];
        let with = |more: &[&'static str], values: [&str; 2]| {
            let flags = more.iter().zip(values).flat_map(|(flag, value)| [(*flag).to_owned(), value.to_owned()]);
            listen.iter().map(|text| (*text).to_owned()).chain(flags).collect::<Vec<_>>()
        };
        let load = |line: &[String]| loaded(None, &line.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        let pair = ["--tls-cert", "--tls-key"];
        let config = load(&with(&pair, [&a, &a_key])).unwrap();
        assert_eq!(config.tls.listen, ["127.0.0.1:0".parse::<SocketAddr>().unwrap()]);
        assert_eq!(config.certificates.unwrap().all().len(), 1);
        assert_eq!(load(&with(&["--tls-dir"], [dir, ""])).unwrap().certificates.unwrap().all().len(), 2);
        let file = format!(
            "trusted_proxies = ['10.0.0.0/8', '::1']\n[tls]\nlisten = ['127.0.0.1:0']\ndir = '{dir}'\nredirect = true\n\
             hsts = '730d'\n[edge]\nproxy_protocol = true\nconnections_per_source = 0"
        );
        let config = loaded(Some(&file), &[], &[]).unwrap();
        assert_eq!((config.tls.redirect, config.tls.hsts), (true, Some(Duration::from_secs(63_072_000))));
        assert!(config.proxy_protocol && config.trusted_proxies.contains("10.1.1.1".parse().unwrap()));
        assert_eq!(config.edge.connections_per_source, 0);

        let error = load(&with(&pair, [&a, &b_key])).map(drop).unwrap_err();
        assert!(error.message.contains("b.key` is not the key of the first certificate in"), "{error}");
        let absent = [with(&pair, [&x, &b_key]), vec!["--listen".to_owned(), "8".to_owned()]].concat();
        let error = load(&absent).map(drop).unwrap_err();
        assert!(error.message.contains("2 mistakes") && error.message.contains("x.crt` cannot be read"), "{error}");
    }

    #[test]
    fn keys_of_tls_belong_together() {
        for (line, want) in [
            (&["--tls-listen", "127.0.0.1:0"][..], "`--tls-listen`: `127.0.0.1:0`: there is no certificate"),
            (&["--tls-cert", "a"], "`--tls-cert`: `a`: it needs its private key"),
            (&["--tls-key", "a"], "`--tls-key`: `a`: it needs its certificate"),
            (&["--tls-dir", "a"], "`--tls-dir`: `a`: it has no use without an address"),
            (&["--tls-redirect", "true"], "`--tls-redirect`: `true`: there is no HTTPS"),
            (&["--tls-redirect", "yes"], "`--tls-redirect`: `yes`: it is `true` or `false`"),
            (&["--edge-proxy-protocol", "true"], "`--edge-proxy-protocol`: `true`: it needs `trusted_proxies`"),
            (&["--trusted-proxy", "10.0.0.0/40"], "`--trusted-proxy`: `10.0.0.0/40`: a network is"),
        ] {
            let error = loaded(None, line, &[]).map(drop).unwrap_err();
            assert!(error.message.contains(want), "{line:?}: {error}");
        }
        let behind_a_proxy = ["--tls-redirect", "true", "--public-url", "https://pages.test"];
        assert!(loaded(None, &behind_a_proxy, &[]).unwrap().tls.redirect);
    }
}
