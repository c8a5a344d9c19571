//! What the control plane is told by its operator, checked before any socket opens.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use pinstone_engine::accounts::{AccountRules, Registration};
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::id::ImageId;
use pinstone_engine::name::{EnvironmentName, ProjectName};

use crate::proof::DomainConfig;

/// Why a text is not the public URL of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PublicUrlError {
    /// It is no URL at all.
    #[error("the public URL is not a URL such as `https://pages.example` or `http://localhost:8080`")]
    NotAUrl,
    /// The scheme is neither `http` nor `https`.
    #[error("the public URL starts with neither `http://` nor `https://`")]
    Scheme,
    /// There is more than scheme, host and port.
    #[error("the public URL has more than a scheme, a host and a port")]
    More,
}

/// Where visitors and publishers reach this server: scheme, host and port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicUrl {
    secure: bool,
    host: Box<str>,
    port: Option<u16>,
}

impl PublicUrl {
    /// The URL of `host`, with `port` where it is not the scheme's own.
    #[must_use]
    pub fn new(secure: bool, host: &HostName<'_>, port: u16) -> Self {
        let text = host.as_str();
        let host = if text.contains(':') { format!("[{text}]").into() } else { text.into() };
        Self { secure, host, port: (port != own_port(secure)).then_some(port) }
    }

    /// Whether the scheme is `https`.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The port, where it is the scheme's own too.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(own_port(self.secure))
    }

    /// The URL of another host on the same scheme and port.
    #[must_use]
    pub fn with_host(&self, host: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority(host))
    }

    /// `host`, with the port where it is not the scheme's own.
    #[must_use]
    pub fn authority(&self, host: &str) -> String {
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_host(&self.host))
    }
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(text: &str) -> Result<Self, PublicUrlError> {
        let uri: Uri = text.parse().map_err(|_| PublicUrlError::NotAUrl)?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(PublicUrlError::Scheme),
            None => return Err(PublicUrlError::NotAUrl),
        };
        // The parser drops a fragment, so it is looked for in the text.
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err(PublicUrlError::More);
        }
        let authority = uri.authority().ok_or(PublicUrlError::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(PublicUrlError::More);
        }
        let host = HostName::parse(authority.as_str()).map_err(|_| PublicUrlError::NotAUrl)?;
        Ok(Self::new(secure, &host, authority.port_u16().unwrap_or(own_port(secure))))
    }
}

fn own_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Where the sites of this server can be seen.
#[derive(Clone, Debug)]
pub struct SiteUrls {
    public_url: PublicUrl,
    hosts: Hosts,
}

impl SiteUrls {
    /// Takes the scheme and port from `public_url` and the names from `hosts`.
    #[must_use]
    pub fn new(public_url: PublicUrl, hosts: Hosts) -> Self {
        Self { public_url, hosts }
    }

    /// Where `environment` of `project` can be seen.
    #[must_use]
    pub fn site(&self, project: &ProjectName, environment: &EnvironmentName) -> String {
        self.public_url.with_host(&self.hosts.site_host(project, environment))
    }

    /// Where `image` of `project` can be seen by itself.
    #[must_use]
    pub fn image(&self, project: &ProjectName, image: ImageId) -> String {
        self.public_url.with_host(&self.hosts.image_host(project, image))
    }

    /// The base domain, with the port where it is not the scheme's own.
    #[must_use]
    pub fn domain(&self) -> String {
        self.public_url.authority(self.hosts.base_domain())
    }

    /// Where this server is reached.
    #[must_use]
    pub fn public_url(&self) -> &PublicUrl {
        &self.public_url
    }
}

/// How often a token may call. The owner's is not held to it. 0 is without a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rates {
    /// Calls a minute and as many at once, uploads apart; more are refused. 100 by default.
    pub calls_per_minute: u32,
    /// Uploads a minute and as many at once; more wait. 6000 by default.
    pub uploads_per_minute: u32,
    /// Uploads of one plan at a time, whoever sends them; more wait. 10 by default.
    pub uploads_at_once: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { calls_per_minute: 100, uploads_per_minute: 6000, uploads_at_once: 10 }
    }
}

/// How the control plane runs.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where this server is reached: what site URLs and upload URLs are made of.
    pub public_url: PublicUrl,
    /// The names that this server answers to.
    pub hosts: Hosts,
    /// The server's version, as `/health` and `/config` say it.
    pub version: String,
    /// How many bytes plans may hold in memory, over all callers; plans beyond it wait. A plan is counted with six times
    /// the bytes of its JSON until its answer was taken, a comparison of files with nine times. One at a time is always
    /// let in. 512 MiB by default.
    pub plan_memory: u64,
    /// The largest JSON body of any call but `POST /plan` and `POST /diff`, in bytes. 64 KiB by default.
    pub json_size: u64,
    /// How long a body may pause, and how long a plan may wait for its turn. 60 seconds by default.
    pub idle_timeout: Duration,
    /// How many archives may be received or read at a time; others wait. 4 by default.
    pub archives: u64,
    /// How many bytes archives may take up while they are received and read, over all callers. One of the largest size at
    /// a time is always let in. 4 GiB by default.
    pub archive_spool: u64,
    /// How long an archive may take to arrive. An hour by default.
    pub archive_timeout: Duration,
    /// Who may register, and how accounts are. Registration is open where the base domain is `localhost`, and closed
    /// elsewhere, by default.
    pub accounts: AccountRules,
    /// How often a token may call.
    pub rates: Rates,
    /// How domains are proven, and what may be asked for it.
    pub domains: DomainConfig,
    /// How long a JSON body may take in all. Uploads have no such bound. 10 minutes by default.
    pub json_timeout: Duration,
}

impl ApiConfig {
    /// The defaults, for a server that is reached at `public_url` and answers to `hosts`.
    #[must_use]
    pub fn new(public_url: PublicUrl, hosts: Hosts, version: impl Into<String>) -> Self {
        let is_local = hosts.base_domain() == "localhost";
        Self {
            accounts: AccountRules::new(if is_local { Registration::Open } else { Registration::Closed }),
            rates: Rates::default(),
            public_url,
            hosts,
            version: version.into(),
            plan_memory: 512 << 20,
            json_size: 64 << 10,
            archives: 4,
            archive_spool: 4 << 30,
            archive_timeout: Duration::from_secs(60 * 60),
            domains: DomainConfig::default(),
            idle_timeout: Duration::from_secs(60),
            json_timeout: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_urls_are_a_scheme_a_host_and_a_port() {
        for (text, want) in [
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://localhost:8080/", "http://localhost:8080"),
            ("http://localhost:80", "http://localhost"),
            ("https://Pages.Example:443", "https://pages.example"),
            ("https://pages.example:80", "https://pages.example:80"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://127.0.0.1", "http://127.0.0.1"),
        ] {
            let url: PublicUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), want, "{text}");
        }
        assert_eq!("https://a.example".parse::<PublicUrl>().unwrap().port(), 443);
        assert_eq!("https://a.example:8443".parse::<PublicUrl>().unwrap().port(), 8443);
        for (text, why) in [
            ("", PublicUrlError::NotAUrl),
            ("localhost", PublicUrlError::NotAUrl),
            ("localhost:8080", PublicUrlError::NotAUrl),
            ("/x", PublicUrlError::NotAUrl),
            ("http://a..b", PublicUrlError::NotAUrl),
            ("ftp://a.example", PublicUrlError::Scheme),
            ("http://a.example/x", PublicUrlError::More),
            ("http://a.example?x", PublicUrlError::More),
            ("http://a.example#x", PublicUrlError::More),
            ("http://u@a.example", PublicUrlError::More),
        ] {
            assert_eq!(text.parse::<PublicUrl>(), Err(why), "{text}");
        }
    }

    #[test]
    fn sites_are_on_the_public_urls_scheme_and_port() {
        let hosts = Hosts::new(&HostName::parse("pages.test").unwrap(), None);
        let project = "my-site".parse().unwrap();
        for (public_url, environment, want) in [
            ("http://pages.test:8080", "prod", "http://my-site.pages.test:8080"),
            ("http://127.0.0.1:8080", "beta", "http://my-site-beta.pages.test:8080"),
            ("https://pages.test", "pr-7", "https://my-site--pr-7.pages.test"),
        ] {
            let urls = SiteUrls::new(public_url.parse().unwrap(), hosts.clone());
            assert_eq!(urls.site(&project, &environment.parse().unwrap()), want);
        }
        assert_eq!(SiteUrls::new("http://127.0.0.1:8080".parse().unwrap(), hosts).domain(), "pages.test:8080");
    }
}
