//! Saved logins: `pinstone/credentials.toml` in the user's configuration folder, which only its user may read.
//!
//! A token is looked up by the endpoint that it was saved for and by nothing else, so no other server gets it. The file
//! is replaced whole, and what this version does not know in it is kept.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use pinstone_engine::data_folder::replace_file;
use reqwest::Url;

use crate::endpoint;
use crate::error::{CliError, file_error, plain};

/// The file's name, below the configuration folder.
const FILE: &str = "pinstone/credentials.toml";

/// What is saved of one login.
#[derive(Clone, Default, Eq, PartialEq)]
pub(crate) struct Login {
    /// What is sent as `Authorization: Bearer`.
    pub(crate) token: String,
    /// Who signed in, where that is known.
    pub(crate) email: Option<String>,
    /// When the server ends it, where it does.
    pub(crate) expires_at: Option<String>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token is a secret, so it is no part of what a log could show.
        f.debug_struct("Login").field("email", &self.email).finish_non_exhaustive()
    }
}

/// Every saved login.
pub(crate) struct Credentials {
    /// Where they are; nothing where no variable says where a user's files are.
    path: Option<PathBuf>,
    table: toml::Table,
}

impl Credentials {
    /// Reads the saved logins. `variable` reads the environment.
    ///
    /// # Errors
    ///
    /// Where there is a file that cannot be read or understood.
    pub(crate) fn open(variable: &impl Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let folder = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
        let Some(path) = folder.map(|folder| folder.join(FILE)) else {
            return Ok(Self { path: None, table: toml::Table::new() });
        };
        let table = match std::fs::read_to_string(&path) {
            Ok(text) => text.parse().map_err(|error: toml::de::Error| not_understood(&path, error.message()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => toml::Table::new(),
            Err(error) => return Err(file_error(&path, &error)),
        };
        let mut read = Self { path: Some(path), table };
        read.file_the_first();
        Ok(read)
    }

    /// A file that was written by hand for one server may have `endpoint` and `token` at its top. The token is put where
    /// it stays that endpoint's when another one's login is saved.
    fn file_the_first(&mut self) {
        let Some(url) = self.endpoint().and_then(|text| endpoint::parse(text).ok()) else { return };
        let Some(token) = self.table.remove("token") else { return };
        if let Some(logins) = self.logins_mut()
            && key(logins, &url).is_none()
        {
            logins.insert(url.to_string(), toml::Table::from_iter([("token".to_owned(), token)]).into());
        }
    }

    /// The endpoint of the last login.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.table.get("endpoint").and_then(toml::Value::as_str)
    }

    /// What is saved for the endpoint `url`.
    pub(crate) fn login(&self, url: &Url) -> Option<Login> {
        let text = |table: &toml::Table, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let logins = self.table.get("logins")?.as_table()?;
        let table = logins.get(key(logins, url)?)?.as_table()?;
        let token = text(table, "token")?;
        Some(Login { token, email: text(table, "email"), expires_at: text(table, "expires_at") })
    }

    /// Saves a login for the endpoint `url`, which commands go to from now on where nothing names another: the file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub(crate) fn save(&mut self, url: &Url, login: &Login) -> Result<PathBuf, CliError> {
        self.remove(url);
        let mut entry = toml::Table::new();
        entry.insert("token".to_owned(), login.token.clone().into());
        for (key, value) in [("email", &login.email), ("expires_at", &login.expires_at)] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                entry.insert(key.to_owned(), value.clone().into());
            }
        }
        if let Some(logins) = self.logins_mut() {
            logins.insert(url.to_string(), entry.into());
        }
        self.table.insert("endpoint".to_owned(), url.to_string().into());
        self.write()
    }

    /// Forgets what is saved for the endpoint `url`; says whether anything was.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub(crate) fn forget(&mut self, url: &Url) -> Result<bool, CliError> {
        if !self.remove(url) {
            return Ok(false);
        }
        // Commands without an endpoint go where they would have gone without the login.
        if self.endpoint().and_then(|text| endpoint::parse(text).ok()).as_ref() == Some(url) {
            self.table.remove("endpoint");
        }
        self.write().map(|_| true)
    }

    /// Removes what is saved for the endpoint `url`; says whether anything was.
    fn remove(&mut self, url: &Url) -> bool {
        self.logins_mut().is_some_and(|logins| match key(logins, url).cloned() {
            Some(key) => logins.remove(&key).is_some(),
            None => false,
        })
    }

    fn logins_mut(&mut self) -> Option<&mut toml::Table> {
        self.table.entry("logins").or_insert_with(|| toml::Table::new().into()).as_table_mut()
    }

    fn write(&self) -> Result<PathBuf, CliError> {
        let Some(path) = &self.path else {
            return Err(CliError::failed("there is no folder to save the login in")
                .hint("set `XDG_CONFIG_HOME` or `HOME`; or keep the token in `PINSTONE_TOKEN`"));
        };
        let failed = |error: &std::io::Error| {
            CliError::failed(format!("cannot write `{}`: {}", path.display(), plain(error)))
                .hint("the token can also be given by `PINSTONE_TOKEN`")
        };
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| failed(&error))?;
        }
        replace_file(path, self.table.to_string().as_bytes()).map_err(|error| failed(&error))?;
        Ok(path.clone())
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The key that stands for `url`: people may write it with or without a slash at its end.
fn key<'t>(logins: &'t toml::Table, url: &Url) -> Option<&'t String> {
    logins.keys().find(|key| endpoint::parse(key).is_ok_and(|known| known == *url))
}

fn not_understood(path: &Path, why: &str) -> CliError {
    CliError::usage(format!("cannot understand `{}`: {}", path.display(), why.trim_end()))
        .hint("mend the file or remove it, and sign in again by `pinstone login`")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn url(text: &str) -> Url {
        endpoint::parse(text).unwrap()
    }

    fn login(token: &str) -> Login {
        Login { token: token.to_owned(), email: Some("me@example.com".to_owned()), expires_at: None }
    }

    #[test]
    fn a_login_is_found_by_its_own_endpoint_only() {
        let home = tempfile::tempdir().unwrap();
        let text = home.path().to_str().unwrap().to_owned();
        let open = || Credentials::open(&|name| (name == "XDG_CONFIG_HOME").then(|| text.clone())).unwrap();
        assert_eq!((open().endpoint(), open().login(&url("http://a.test"))), (None, None));

        let path = open().save(&url("http://a.test"), &login("pin_a")).unwrap();
        open().save(&url("https://b.test/base"), &login("pin_b")).unwrap();
        assert_eq!(open().endpoint(), Some("https://b.test/base/"), "the last one");
        for (endpoint, token) in [
            ("http://a.test", Some("pin_a")),
            ("http://a.test/", Some("pin_a")),
            ("https://b.test/base/", Some("pin_b")),
            ("https://a.test", None),       // another scheme
            ("http://a.test:8080", None),   // another port
            ("https://b.test/other", None), // another path
            ("https://b.test", None),
        ] {
            assert_eq!(open().login(&url(endpoint)).map(|login| login.token).as_deref(), token, "{endpoint}");
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        open().save(&url("http://a.test"), &login("pin_new")).unwrap();
        assert_eq!(open().login(&url("http://a.test")), Some(login("pin_new")));
        assert!(open().forget(&url("http://a.test")).unwrap());
        assert!(!open().forget(&url("http://a.test")).unwrap());
        assert_eq!((open().endpoint(), open().login(&url("http://a.test"))), (None, None));
        assert_eq!(open().login(&url("https://b.test/base")), Some(login("pin_b")), "the other one stays");
    }

    #[test]
    fn what_a_newer_version_or_a_hand_has_written_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let text = home.path().to_str().unwrap().to_owned();
        let open = || Credentials::open(&|name| (name == "XDG_CONFIG_HOME").then(|| text.clone()));
        let path = home.path().join(FILE);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let by_hand = "endpoint = 'http://hand.test'\ntoken = 'pin_hand'\nfuture = 1\n\
                       [logins.'http://x.test']\ntoken = 'pin_x'\nmore = true\n";
        std::fs::write(&path, by_hand).unwrap();
        let mut known = open().unwrap();
        assert_eq!(known.login(&url("http://hand.test")).unwrap().token, "pin_hand");
        assert_eq!(known.login(&url("http://x.test")).unwrap().token, "pin_x", "written without a slash");
        known.save(&url("http://new.test"), &login("pin_new")).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written.contains("future = 1") && written.contains("more = true"), "{written}");
        assert_eq!(open().unwrap().login(&url("http://new.test")), Some(login("pin_new")));
        assert_eq!(open().unwrap().login(&url("http://hand.test")).unwrap().token, "pin_hand");

        std::fs::write(&path, "token = ").unwrap();
        let error = open().unwrap_err();
        assert!(error.exit == crate::error::Exit::Usage && error.message.contains("credentials.toml"), "{error}");
        assert!(!format!("{:?}", login("pin_secret")).contains("pin_secret"));
    }
}
