//! An S3-compatible store: what the `AWS_*` variables say, and the client that they make.
//!
//! Objects are put as a whole and under names that only they can have, so nothing here is conditional: several
//! S3-compatible stores accept a condition and ignore it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};
use reqwest::Url;

use super::transport::{Patience, Transport};

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const ENDPOINT: &str = "AWS_ENDPOINT_URL";
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";
const ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";

/// The variables that are read: those that the AWS tools know, and those by which other stores differ.
const VARIABLES: &[&str] = &[
    KEY_ID,
    SECRET,
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    ENDPOINT,
    S3_ENDPOINT,
    ALLOW_HTTP,
    // Credentials that a platform hands out.
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
    "AWS_SKIP_SIGNATURE",
    // What a store can and cannot do.
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_DISABLE_BULK_DELETE",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_UNSIGNED_PAYLOAD",
    "AWS_REQUEST_PAYER",
    // Encryption at rest.
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_SSE_BUCKET_KEY_ENABLED",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
];

/// For how long a request that fails is begun again where nobody says; one that hangs at its end is given up after its own
/// patience.
const RETRIES: Duration = Duration::from_secs(10);

/// How an S3-compatible store is reached. Its `Debug` names variables, never values.
#[derive(Clone, Eq, PartialEq)]
pub struct S3Options {
    given: BTreeMap<&'static str, String>,
    retries: Duration,
}

impl Default for S3Options {
    fn default() -> Self {
        Self { given: BTreeMap::new(), retries: RETRIES }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given.keys()).finish()
    }
}

/// What is wrong with the variables. No text has a value that may be secret.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", mistakes.join("; "))]
pub struct S3Error {
    /// Each mistake, as a sentence.
    pub mistakes: Vec<String>,
}

impl S3Error {
    fn new(mistake: impl Into<String>) -> Self {
        Self { mistakes: vec![mistake.into()] }
    }
}

impl S3Options {
    /// Takes what `variable` says of the variables that matter here; an empty value is none.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given =
            VARIABLES.iter().filter_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)));
        Self { given: given.collect(), ..Self::default() }
    }

    /// The same, with another time for which a request that fails is begun again; 10 s otherwise.
    #[must_use]
    pub fn retrying_for(mut self, retries: Duration) -> Self {
        self.retries = retries;
        self
    }

    /// Checks all that can be checked without asking the store.
    ///
    /// # Errors
    ///
    /// Names every mistake.
    pub fn check(&self, bucket: &str) -> Result<(), S3Error> {
        let mut mistakes = Vec::new();
        for (one, other) in [(KEY_ID, SECRET), (SECRET, KEY_ID)] {
            if self.given.contains_key(one) && !self.given.contains_key(other) {
                mistakes.push(format!("`{one}` is set and `{other}` is not"));
            }
        }
        mistakes.extend(self.endpoint().err());
        if !mistakes.is_empty() {
            return Err(S3Error { mistakes });
        }
        self.connect(bucket, &ObjectPath::default()).map(drop)
    }

    /// The store, of which nothing was asked yet. Everything in it has a name that begins with `prefix`.
    ///
    /// # Errors
    ///
    /// Where the variables are wrong.
    pub fn connect(&self, bucket: &str, prefix: &ObjectPath) -> Result<Arc<dyn ObjectStore>, S3Error> {
        let endpoint = self.endpoint().map_err(S3Error::new)?;
        let is_cleartext = endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
        // Credentials that are asked for elsewhere are asked for over TLS.
        let cleartext = is_cleartext && (self.given.contains_key(KEY_ID) || self.is_anonymous());
        let direct = endpoint.as_ref().is_some_and(is_loopback);
        let transport = Transport::new(Patience::default(), cleartext, direct)
            .map_err(|error| S3Error::new(format!("connections cannot be prepared: {error}")))?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_retry(retries(self.retries))
            .with_conditional_put(S3ConditionalPut::Disabled)
            .with_http_connector(transport);
        for (name, value) in &self.given {
            // Whether the endpoint may be without TLS was decided above.
            if *name != ALLOW_HTTP {
                let key: AmazonS3ConfigKey = name
                    .to_ascii_lowercase()
                    .parse()
                    .map_err(|_| S3Error::new(format!("`{name}` is not understood")))?;
                builder = builder.with_config(key, value);
            }
        }
        let store = builder.build().map_err(|error| S3Error::new(self.without_values(&error.to_string())))?;
        Ok(if prefix.as_ref().is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix.clone())) })
    }

    fn is_anonymous(&self) -> bool {
        self.given.get("AWS_SKIP_SIGNATURE").is_some_and(|value| is_true(value) == Some(true))
    }

    /// The endpoint, where one is named. An endpoint that others could listen on has to be allowed.
    fn endpoint(&self) -> Result<Option<Url>, String> {
        let named = [S3_ENDPOINT, ENDPOINT].into_iter().find_map(|name| Some((name, self.given.get(name)?)));
        let Some((name, text)) = named else { return Ok(None) };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
        let Some(url) = url else {
            return Err(format!("`{name}` is no URL such as `https://s3.example` or `http://127.0.0.1:8333`"));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("`{name}` has a user or a password in it; `{KEY_ID}` and `{SECRET}` are for them"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("`{name}` has more in it than a host and a path"));
        }
        let allowed = match self.given.get(ALLOW_HTTP).map(|value| is_true(value)) {
            Some(None) => return Err(format!("`{ALLOW_HTTP}` is `true` or `false`")),
            allowed => allowed.flatten().unwrap_or(false),
        };
        if url.scheme() == "http" && !allowed && !is_loopback(&url) {
            return Err(format!(
                "`{name}` is not `https`, so others could read and change what is stored; `{ALLOW_HTTP}=true` allows it"
            ));
        }
        Ok(Some(url))
    }

    /// `text` without what was given: an error may repeat a value.
    fn without_values(&self, text: &str) -> String {
        let hide = |text: String, (name, value): (&&str, &String)| text.replace(value.as_str(), &format!("<{name}>"));
        self.given.iter().filter(|(_, value)| value.len() > 4).fold(text.to_owned(), hide)
    }
}

fn is_true(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Whether a URL leads to this machine.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// A store that restarts is away for seconds: what is refused meanwhile is tried again, a little later each time.
fn retries(retry_timeout: Duration) -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(2), base: 3.0 };
    RetryConfig { backoff, max_retries: 32, retry_timeout }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> S3Options {
        S3Options::from_variables(|name| {
            let found = given.iter().find(|(key, _)| *key == name)?;
            Some(found.1.to_owned())
        })
    }

    const KEYS: [(&str, &str); 2] = [(KEY_ID, "AKIDEXAMPLE"), (SECRET, "wJalrXUtnFEMI")];

    #[test]
    fn mistakes_are_named_without_values() {
        for (given, want) in [
            (&[][..], None),
            (&KEYS, None),
            (&[("AWS_REGION", "eu-central-1")], None),
            (&[(ENDPOINT, "https://s3.example")], None),
            (&[(ENDPOINT, "http://127.0.0.1:8333")], None),
            (&[(S3_ENDPOINT, "http://[::1]:8333/")], None),
            (&[(ENDPOINT, "http://s3.example"), (ALLOW_HTTP, "true")], None),
            (&[(ENDPOINT, "")], None),
            (&[(KEY_ID, "AKIDEXAMPLE")], Some("`AWS_ACCESS_KEY_ID` is set and `AWS_SECRET_ACCESS_KEY` is not")),
            (&[(SECRET, "wJalrXUtnFEMI")], Some("`AWS_SECRET_ACCESS_KEY` is set and `AWS_ACCESS_KEY_ID` is not")),
            (&[(ENDPOINT, "http://s3.example")], Some("`AWS_ENDPOINT_URL` is not `https`")),
            (&[(ENDPOINT, "http://s3.example"), (ALLOW_HTTP, "false")], Some("`AWS_ALLOW_HTTP=true` allows it")),
            (&[(ENDPOINT, "http://s3.example"), (ALLOW_HTTP, "maybe")], Some("`AWS_ALLOW_HTTP` is `true` or `false`")),
            (&[(ENDPOINT, "s3.example")], Some("`AWS_ENDPOINT_URL` is no URL")),
            (&[(S3_ENDPOINT, "ftp://s3.example")], Some("`AWS_ENDPOINT_URL_S3` is no URL")),
            (&[(ENDPOINT, "https://me:wJalrXUtnFEMI@s3.example")], Some("has a user or a password")),
            (&[(ENDPOINT, "https://s3.example/?a=b")], Some("more in it than a host")),
            (&[KEYS[0], KEYS[1], ("AWS_CHECKSUM_ALGORITHM", "wJalrXUtnFEMI")], Some("")),
            (&[KEYS[0], KEYS[1], ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "perhaps")], Some("<AWS_VIRTUAL")),
        ] {
            let checked = options(given).check("bucket");
            match want {
                None => assert_eq!(checked, Ok(()), "{given:?}"),
                Some(want) => {
                    let text = checked.expect_err(want).to_string();
                    assert!(text.contains(want), "{given:?}: {text}");
                    assert!(!text.contains("wJalrXUtnFEMI"), "{given:?}: {text}");
                }
            }
        }
        let both = options(&[(KEY_ID, "AKIDEXAMPLE"), (ENDPOINT, "s3.example")]).check("bucket").unwrap_err();
        assert_eq!(both.mistakes.len(), 2, "{both}");
    }

    #[test]
    fn secrets_are_in_no_text() {
        let options = options(&[KEYS[0], KEYS[1], ("AWS_SESSION_TOKEN", "token-of-a-session")]);
        let store = options.connect("bucket", &ObjectPath::from("a/prefix")).unwrap();
        for text in [format!("{options:?}"), store.to_string()] {
            for secret in ["AKIDEXAMPLE", "wJalrXUtnFEMI", "token-of-a-session"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}
