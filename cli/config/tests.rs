//! The configuration as a whole: from what is given to what `serve` runs with, or to what is wrong with it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use pinstone_edge::AccessLogFormat;
use pinstone_engine::accounts::Registration;
use pinstone_engine::domains::proof::DomainRules;
use pinstone_engine::limits::Limits as EngineLimits;

use super::keys::KEYS;
use super::{Flags, ServerConfig, load};
use crate::error::{CliError, Exit};

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn flags(line: &[&str]) -> Flags {
    use clap::Parser;
    Line::parse_from(std::iter::once(&"serve").chain(line)).flags
}

pub(super) fn loaded(file: Option<&str>, line: &[&str], variables: &[(&str, &str)]) -> Result<ServerConfig, CliError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.toml");
    std::fs::write(&path, file.unwrap_or_default()).unwrap();
    let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    load(Some(&path), flags(line), variable, runtime.handle().clone())
}

#[test]
fn defaults() {
    let config = loaded(None, &[], &[]).unwrap();
    assert_eq!(config.data, Path::new("pinstone-data"));
    assert_eq!((config.listen, config.public_url, config.control_hosts), (None, None, None));
    assert_eq!(config.base_domain.as_str(), "localhost");
    assert_eq!(config.limits, EngineLimits::default());
}

#[test]
fn flag_beats_variable_beats_file() {
    let file = Some("data = 'file'\nbase_domain = 'file.test'\n[limits]\nfiles = 1\nfile_size = '1KiB'");
    let config = loaded(file, &[], &[]).unwrap();
    assert_eq!((config.data.to_str(), config.limits.files, config.limits.file_size), (Some("file"), 1, 1024));
    let variables = [("PINSTONE_DATA", "variable"), ("PINSTONE_LIMITS__FILES", "2")];
    let config = loaded(file, &[], &variables).unwrap();
    assert_eq!((config.data.to_str(), config.limits.files), (Some("variable"), 2));
    assert_eq!(config.base_domain.as_str(), "file.test");
    let config = loaded(file, &["--data", "flag", "--limits-files", "3"], &variables).unwrap();
    assert_eq!((config.data.to_str(), config.limits.files), (Some("flag"), 3));
}

#[test]
fn lists_come_from_everywhere() {
    let want: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    for (file, line, variables) in [
        (Some("listen = ['127.0.0.1:0', '[::1]:0']"), &[][..], &[][..]),
        (None, &["--listen", "127.0.0.1:0", "[::1]:0"], &[]),
        (None, &["--listen", "127.0.0.1:0", "--listen", "[::1]:0"], &[]),
        (None, &[], &[("PINSTONE_LISTEN", "127.0.0.1:0, [::1]:0")]),
    ] {
        assert_eq!(loaded(file, line, variables).unwrap().listen, Some(want.clone()), "{file:?} {line:?}");
    }
    let config = loaded(None, &[], &[("PINSTONE_LOG", "warn,pinstone=debug")]).unwrap();
    assert_eq!(config.log, "warn,pinstone=debug");
}

#[test]
fn every_mistake_is_told_at_once() {
    let file = "dat = 'x'\nbase_domain = 'a b'\nlog_format = 'xml'\nlisten = []\n[limits]\nfiles = -1\nfile = 2\n\
                [edge]\nhead_bytes = '1 KiB'\nidle_timeout = 5\n[other]\nx = 1\n[cache]\nopen_files = true";
    let line = ["--public-url", "localhost", "--data", "a", "--data", "b"];
    let error = loaded(Some(file), &line, &[("PINSTONE_CONTROL_HOSTS", "ok.test,no:80")]).unwrap_err();
    assert_eq!((error.exit, &*error.code), (Exit::Usage, "invalid_configuration"));
    for part in [
        "`dat` in `",
        "`base_domain` in `",
        "`log_format` in `",
        "`listen` in `",
        "`limits.files` in `",
        "`limits.file` in `",
        "`edge.head_bytes` in `",
        "`1 KiB`: it must be at least 8 KiB",
        "`edge.idle_timeout` in `",
        "`other` in `",
        "`cache.open_files` in `",
        "`--public-url`: `localhost`",
        "`--data` is given more than once",
        "`PINSTONE_CONTROL_HOSTS`: `no:80`",
        "has 13 mistakes",
    ] {
        assert!(error.message.contains(part), "{part}: {}", error.message);
    }
}

#[test]
fn a_file_that_is_no_toml_is_one_mistake_among_others() {
    let error = loaded(Some("a = \n"), &["--listen", "8080"], &[]).unwrap_err();
    assert!(error.message.contains("line 1") && error.message.contains("`--listen`: `8080`"), "{error}");
}

#[test]
fn zero_and_too_much_are_mistakes_that_name_the_key() {
    for key in KEYS.iter().filter(|key| key.contains('.')) {
        let name = format!("PINSTONE_{}", key.replace('.', "__").to_uppercase());
        let is_duration =
            ["timeout", "lifetime", "grace", "delay", "recheck", "hold_off"].iter().any(|end| key.ends_with(end));
        let result = loaded(None, &[], &[(&name, if is_duration { "0s" } else { "0" })]);
        let means_something = [
            "limits.files",
            "limits.file_size",
            "limits.publish_size",
            "limits.team_projects",
            "limits.team_bytes",
            "api.calls_per_minute",
            "api.uploads_per_minute",
            "api.uploads_at_once",
            "limits.plan_cache",
            "edge.connections_per_source",
            "domains.grace",
            "domains.hold_off",
            "edge.shutdown_grace",
            "edge.shutdown_delay",
            "tls.hsts",
            "variants.workers",
            "cache.manifest_bytes",
            "cache.blob_bytes",
            "cache.small_blob",
            "cache.often_bytes",
            "cache.hot_bytes",
            "cache.disk_bytes",
        ];
        match result {
            Ok(_) => assert!(means_something.contains(key), "{key}"),
            Err(error) => {
                assert!(!means_something.contains(key), "{error}");
                assert!(error.message.contains(&format!("`{name}`: `0")), "{error}");
            }
        }
    }
    for (line, want) in [
        (["--edge-workers", "1025"], "`--edge-workers`: `1025`: there are at most 1024 threads"),
        (["--edge-window-bytes", "1GiB"], "`--edge-window-bytes`: `1GiB`: it must be at most"),
        (["--edge-head-bytes", "1"], "`--edge-head-bytes`: `1`: it must be at least"),
        (["--edge-idle-timeout", "999999years"], "`--edge-idle-timeout`: `999999years`: a duration is at most"),
    ] {
        let error = loaded(None, &line, &[]).map(drop).unwrap_err();
        assert!(error.message.contains(want), "{line:?}: {error}");
    }
    // Too few only beside another key, which has its default.
    let error = loaded(None, &["--edge-connections", "1", "--edge-workers", "2"], &[]).map(drop).unwrap_err();
    assert!(error.message.contains("`--edge-connections`: `1`: it must be at least"), "{error}");
}

#[test]
fn who_may_register() {
    let config = loaded(None, &[], &[]).unwrap();
    assert_eq!((config.api.registration, config.api.password_length), (None, 8));
    assert_eq!(config.api.session_life, Duration::from_secs(30 * 24 * 60 * 60));
    let file = "registration = 'invite'\n[accounts]\npassword_length = 12\nsession_lifetime = '7d'";
    let config = loaded(Some(file), &[], &[]).unwrap();
    assert_eq!((config.api.registration, config.api.password_length), (Some(Registration::Invite), 12));
    assert_eq!(config.api.session_life, Duration::from_secs(7 * 24 * 60 * 60));
    let wrong = ["--registration", "everybody", "--accounts-password-length", "7"];
    let error = loaded(None, &wrong, &[]).map(drop).unwrap_err();
    assert!(error.message.contains("`--registration`: `everybody`: registration is `open`"), "{error}");
    assert!(error.message.contains("`--accounts-password-length`: `7`: a password has"), "{error}");
}

#[test]
fn domains_have_their_rules() {
    let config = loaded(None, &[], &[]).unwrap().domains;
    assert_eq!((config.rules, config.file_port), (DomainRules::default(), 80));
    let file = "[domains]\ndns_servers = ['127.0.0.1:53', '[::1]:53']\nrecheck = '1h'\ngrace = '0s'\nhold_off = '0s'\n\
                per_team = 7\nfile_port = 8080\nspecial_networks = ['127.0.0.0/8', '10.1.1.1']\n\
                own_addresses = ['192.0.2.1']";
    let config = loaded(Some(file), &[], &[]).unwrap().domains;
    assert_eq!((config.dns_servers.len(), config.rules.per_team, config.file_port), (2, 7, 8080));
    assert_eq!((config.rules.grace, config.rules.hold_off), (Duration::ZERO, Duration::ZERO));
    assert_eq!((config.special_networks.len(), config.own_addresses.len()), (2, 1));
    let wrong = ["--domains-per-team", "10001", "--domains-special-networks", "x", "--domains-file-port", "70000"];
    let error = loaded(None, &wrong, &[]).map(drop).unwrap_err();
    assert!(error.message.contains("has 3 mistakes"), "{error}");
}

#[test]
fn a_store_is_checked_before_it_is_asked() {
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")];
    let config = loaded(Some("blobs = 's3://bucket/a'\n[cache]\ndisk_bytes = '1GiB'"), &[], &keys).unwrap();
    assert_eq!(config.storage.url.as_ref().map(ToString::to_string).as_deref(), Some("s3://bucket/a"));
    assert_eq!((config.storage.cache.bytes, config.storage.cache.fetches), (Some(1 << 30), 64));
    assert!(!format!("{config:?}").contains("wJalrXUtnFEMI"), "{config:?}");
    assert_eq!(loaded(None, &[], &[]).unwrap().storage.url, None);
    let error = loaded(None, &["--blobs", "s3://bucket"], &keys[1..]).map(drop).unwrap_err();
    assert!(error.message.contains("`AWS_ACCESS_KEY_ID` is not"), "{error}");
    assert!(!error.message.contains("wJalrXUtnFEMI"), "{error}");
    // The variables are no mistake of a server that has no use for them.
    assert!(loaded(None, &["--blobs", "/srv/objects"], &keys[1..]).is_ok());
    for wrong in ["bucket", "s3://", "https://s3.example/bucket", "s3://key:secret@bucket"] {
        let error = loaded(None, &["--blobs", wrong], &[]).map(drop).unwrap_err();
        assert!(error.message.contains("`--blobs`: "), "{wrong}: {error}");
    }
    let error = loaded(None, &["--api-upload-memory", "1MiB", "--cache-fetches", "100000"], &[]).map(drop).unwrap_err();
    assert!(error.message.contains("at least 16 MiB") && error.message.contains("at most 4096"), "{error}");
}

#[test]
fn an_access_log_has_a_target_and_a_format() {
    use pinstone_edge::AccessLogTarget;
    let config = loaded(None, &["--access-log-format", "combined"], &[]).unwrap();
    assert!(config.access_log.is_none() && config.metrics_listen.is_none(), "nothing is there by default");
    let file =
        "access_log = '/var/log/a'\nmetrics_listen = '127.0.0.1:9100'\n[edge]\ndebug_headers = true\nsendfile = false";
    let config = loaded(Some(file), &[], &[("PINSTONE_EDGE__SHUTDOWN_DELAY", "5s")]).unwrap();
    let log = config.access_log.unwrap();
    assert_eq!((log.target, log.format), (AccessLogTarget::File("/var/log/a".into()), AccessLogFormat::Json));
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9100".parse().unwrap()));
    assert_eq!((config.debug_headers, config.shutdown_delay), (true, Duration::from_secs(5)));
    assert_eq!(config.sendfile, Some(false));
    let config = loaded(Some(file), &["--access-log", "-", "--access-log-format", "combined"], &[]).unwrap();
    let log = config.access_log.unwrap();
    assert_eq!((log.target, log.format), (AccessLogTarget::Stdout, AccessLogFormat::Combined));
    let wrong = ["--access-log", "", "--access-log-format", "common", "--metrics-listen", "9100"];
    let error = loaded(None, &wrong, &[]).map(drop).unwrap_err();
    assert!(error.message.contains("has 3 mistakes"), "{error}");
}

#[test]
fn every_key_is_read() {
    // A key that is declared but never read would be accepted and do nothing; one that is read but not declared
    // stops a debug build. So each is given a value that no type takes, and each has to be complained about.
    for key in KEYS.iter().filter(|key| !matches!(**key, "data" | "access_log")) {
        let name = format!("PINSTONE_{}", key.replace('.', "__").to_uppercase());
        let error = loaded(None, &[], &[(&name, "=no=")]).map(drop).unwrap_err();
        assert!(error.message.contains(&name), "{key}: {error}");
    }
}
