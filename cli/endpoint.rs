//! Which server is meant, and what to show it: flag, then variable, then saved login, then what a server on this
//! machine left in its data folder.
//!
//! A token goes only where it belongs: the saved one to the endpoint that it was saved for, the owner's to an endpoint
//! on this machine.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::error::CliError;

/// The endpoint where nothing says otherwise.
const DEFAULT: &str = "http://localhost:8080";

/// A server, and the token to show it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Scheme, host and port; its path is `/` or ends in one.
    pub(crate) url: Url,
    /// What is sent as `Authorization: Bearer`.
    pub(crate) token: Option<String>,
    /// Where the token is from.
    pub(crate) source: TokenSource,
}

/// Where a token is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TokenSource {
    /// There is none.
    Nowhere,
    /// `--token` or `--token-stdin`.
    Flag,
    /// `PINSTONE_TOKEN`.
    Variable,
    /// A login that was saved for the endpoint.
    Saved,
    /// The data folder of a server on this machine.
    DataFolder,
}

impl TokenSource {
    /// The source in words.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Flag => "the command line",
            Self::Variable => "`PINSTONE_TOKEN`",
            Self::Saved => "the saved login",
            Self::DataFolder => "`owner.token` of the server's data folder",
        }
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret, so it is no part of what a log could show.
        f.debug_struct("Endpoint").field("url", &self.url.as_str()).field("token", &self.token.is_some()).finish()
    }
}

/// What is known before anything is read.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// `--endpoint`.
    pub(crate) endpoint: Option<&'a str>,
    /// `--token`, or what `--token-stdin` read.
    pub(crate) token: Option<&'a str>,
}

/// What a running server says of itself in its data folder.
#[derive(Debug, Deserialize)]
struct ServerFile {
    urls: Vec<String>,
}

/// Finds the endpoint and its token. `variable` reads the environment.
///
/// # Errors
///
/// Where the endpoint is no URL of a server, or a file that is there cannot be read.
pub(crate) fn find(wanted: &Wanted<'_>, variable: impl Fn(&str) -> Option<String>) -> Result<Endpoint, CliError> {
    let data = PathBuf::from(variable("PINSTONE_DATA").unwrap_or_else(|| "pinstone-data".to_owned()));
    let saved = Credentials::open(&variable)?;
    let text = wanted
        .endpoint
        .map(str::to_owned)
        .or_else(|| variable("PINSTONE_ENDPOINT"))
        .or_else(|| saved.endpoint().map(str::to_owned))
        .or_else(|| running_server(&data));
    let url = parse(text.as_deref().unwrap_or(DEFAULT))?;
    let given = |token: Option<String>, source| token.map(|token| (token, source));
    let (token, source) = given(wanted.token.map(str::to_owned), TokenSource::Flag)
        .or_else(|| given(variable("PINSTONE_TOKEN"), TokenSource::Variable))
        .or_else(|| given(saved.login(&url).map(|login| login.token), TokenSource::Saved))
        .or_else(|| given(if is_local(&url) { owner_token(&data) } else { None }, TokenSource::DataFolder))
        .map_or((None, TokenSource::Nowhere), |(token, source)| (Some(token), source));
    if token.as_deref().is_some_and(|token| token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic())) {
        return Err(CliError::usage("the token is empty, or has characters that no token has"));
    }
    Ok(Endpoint { url, token, source })
}

/// Whether `url` is on this machine.
pub(crate) fn is_local(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => bare == "localhost" || bare.ends_with(".localhost"),
    }
}

/// Reads the URL of a server.
pub(crate) fn parse(text: &str) -> Result<Url, CliError> {
    let wrong = || {
        CliError::usage(format!("`{text}` is not the URL of a server"))
            .hint("an endpoint looks like `http://localhost:8080` or `https://pinstone.example`")
    };
    let mut url = Url::parse(text).map_err(|_| wrong())?;
    let whole = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !whole {
        return Err(wrong());
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// The first address of the server that runs on `data`, if one does.
fn running_server(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("server.json")).ok()?;
    let file: ServerFile = serde_json::from_str(&text).ok()?;
    file.urls.into_iter().next()
}

/// The owner's token in `data`, where this user may read it.
fn owner_token(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("owner.token")).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn found(endpoint: Option<&str>, token: Option<&str>, variables: &[(&str, &str)]) -> Endpoint {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        find(&Wanted { endpoint, token }, |name| variables.get(name).map(|value| (*value).to_owned())).unwrap()
    }

    #[test]
    fn flag_beats_variable_beats_saved_login_beats_server() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let config = folder.path().join("config/pinstone");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::create_dir_all(&config).unwrap();
        let of = |path: &Path| path.to_str().unwrap().to_owned();
        let (data_text, config_text) = (of(&data), of(&folder.path().join("config")));
        let base = [("PINSTONE_DATA", data_text.as_str()), ("XDG_CONFIG_HOME", config_text.as_str())];
        let env = [base[0], base[1], ("PINSTONE_ENDPOINT", "http://variable.test"), ("PINSTONE_TOKEN", "variable")];

        assert_eq!(found(None, None, &base).url.as_str(), "http://localhost:8080/");
        assert_eq!(found(None, None, &base).token, None);

        std::fs::write(data.join("server.json"), r#"{"pid":1,"urls":["http://127.0.0.1:4000"],"version":"0"}"#)
            .unwrap();
        std::fs::write(data.join("owner.token"), "owner\n").unwrap();
        let server = found(None, None, &base);
        assert_eq!((server.url.as_str(), server.token.as_deref()), ("http://127.0.0.1:4000/", Some("owner")));

        std::fs::write(config.join("credentials.toml"), "endpoint = 'https://saved.test'\ntoken = 'saved'").unwrap();
        let saved = found(None, None, &base);
        assert_eq!((saved.url.as_str(), saved.token.as_deref()), ("https://saved.test/", Some("saved")));

        let variable = found(None, None, &env);
        assert_eq!((variable.url.as_str(), variable.token.as_deref()), ("http://variable.test/", Some("variable")));

        let flag = found(Some("http://flag.test/x"), Some("flag"), &env);
        assert_eq!((flag.url.as_str(), flag.token.as_deref()), ("http://flag.test/x/", Some("flag")));

        // No token of one server is shown to another.
        assert_eq!(found(Some("https://elsewhere.test"), None, &base).token, None);
        assert_eq!(found(Some("http://localhost:9"), None, &base).token.as_deref(), Some("owner"));
    }

    #[test]
    fn what_is_an_endpoint() {
        for good in ["http://localhost", "https://a.test:8443/base/", "http://[::1]:1", "http://127.0.0.1:8080"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for wrong in ["", "localhost:8080", "ftp://a", "http://", "http://a/?q", "http://a/#f", "http://u:p@a/"] {
            assert_eq!(parse(wrong).unwrap_err().exit, crate::error::Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn what_is_local() {
        for (url, local) in [
            ("http://localhost:1", true),
            ("http://api.localhost", true),
            ("http://127.9.0.1", true),
            ("http://[::1]:1", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_local(&Url::parse(url).unwrap()), local, "{url}");
        }
    }
}
