//! `h2load`: HTTP/2 load. Its summary has no percentiles, so they are taken from its log of requests.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::stats::quantile;
use crate::tls::{self, Identity};
use crate::wrk::Load;

/// One run, by prior knowledge where the URL is `http:`.
#[derive(Clone, Debug)]
pub(crate) struct H2load {
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) clients: usize,
    /// Requests under way on each connection.
    pub(crate) streams: usize,
    pub(crate) duration: Duration,
    /// Where its log goes; removed when it was read.
    pub(crate) log: PathBuf,
    /// What to agree on over TLS, where the URL is `https:`.
    pub(crate) tls: Option<Arc<Identity>>,
}

/// What the summary says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) answers: u64,
    pub(crate) per_second: f64,
    pub(crate) bytes: u64,
    /// Answers with a status of 400 and more.
    pub(crate) refused: u64,
    pub(crate) lost: u64,
}

impl H2load {
    /// Runs to the end. [`load`](Self::load) reads what it printed: the log is long, and reading it is no load.
    ///
    /// # Errors
    ///
    /// Where it cannot be run.
    pub(crate) fn run(&self) -> Result<Output> {
        self.start()?.wait_with_output().context("cannot read what `h2load` prints")
    }

    /// Starts it. It ends by itself.
    pub(crate) fn start(&self) -> Result<Child> {
        let seconds = self.duration.as_secs().max(1);
        let mut command = Command::new("h2load");
        command
            .args(["-t1", "--warm-up-time=0"])
            .arg(format!("-c{}", self.clients))
            .arg(format!("-m{}", self.streams))
            .arg(format!("-D{seconds}"))
            // Windows of 1 MiB a stream and 16 MiB a connection, as browsers have: the default of 64 KiB for both
            // measures round trips of WINDOW_UPDATE.
            .args(["-w20", "-W24"])
            .arg("-H")
            .arg(format!(":authority: {}", self.host))
            .arg(format!("--log-file={}", self.log.display()));
        if let Some(identity) = &self.tls {
            identity.configure(&mut command);
            // It sets what OpenSSL's configuration says anew.
            command.arg(format!("--tls13-ciphers={}", tls::SUITE_NAME)).arg(format!("--groups={}", tls::GROUP_NAME));
        }
        command.arg(&self.url).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("cannot run `h2load`")
    }

    /// Reads the summary and the log.
    ///
    /// # Errors
    ///
    /// Where it failed, or printed another summary than is known.
    pub(crate) fn load(&self, output: &Output) -> Result<Load> {
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("`h2load` failed: {}{}", text.trim(), String::from_utf8_lossy(&output.stderr).trim());
        }
        let summary = parse(&text).with_context(|| format!("`h2load` printed no figures: {}", text.trim()))?;
        if self.tls.is_some() {
            check_agreement(&text)?;
        }
        let log = File::open(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        let latencies = parse_log(BufReader::new(log))?;
        // The log grows to tens of megabytes a run.
        let _ = std::fs::remove_file(&self.log);
        let percentile = |share| quantile(&latencies, share).context("h2load logged no request");
        Ok(Load {
            answers: summary.answers,
            bytes: summary.bytes,
            seconds: summary.answers as f64 / summary.per_second,
            refused: summary.refused,
            lost: summary.lost,
            p50: percentile(0.5)?,
            p99: percentile(0.99)?,
            p999: percentile(0.999)?,
        })
    }
}

/// Makes sure that what was agreed on over TLS is what every client offers.
fn check_agreement(text: &str) -> Result<()> {
    for line in [
        "Application protocol: h2".to_owned(),
        "TLS Protocol: TLSv1.3".to_owned(),
        format!("Cipher: {}", tls::SUITE_NAME),
        format!("Server Temp Key: {}", tls::GROUP_NAME),
    ] {
        // How large a key is follows its name.
        let said = |said: &str| said.strip_prefix(&line).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
        ensure!(text.lines().any(said), "`h2load` did not say `{line}`: {}", text.trim());
    }
    Ok(())
}

/// Parses the summary.
pub(crate) fn parse(text: &str) -> Result<Summary> {
    let line = |start: &str| {
        text.lines().find_map(|line| line.strip_prefix(start)).with_context(|| format!("no line starts with `{start}`"))
    };
    // `10 total, 10 started, …`: the number before a word.
    let before = |list: &str, word: &str| -> Result<u64> {
        let mut items = list.split(',').filter_map(|item| item.trim().split_once(' '));
        let (number, _) = items.find(|(_, name)| *name == word).with_context(|| format!("no `{word}`"))?;
        number.parse().with_context(|| format!("`{word}` is `{number}`"))
    };
    let per_second = line("finished in ")?.split(',').nth(1).and_then(|item| item.trim().strip_suffix(" req/s"));
    let requests = line("requests: ")?;
    let statuses = line("status codes: ")?;
    // `45.58MB (47797843) total, …`
    let bytes = line("traffic: ")?.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let summary = Summary {
        answers: before(requests, "done")?,
        per_second: per_second.context("no requests per second")?.parse().context("requests per second")?,
        bytes: bytes.context("no traffic")?.0.parse().context("traffic")?,
        refused: before(statuses, "4xx")? + before(statuses, "5xx")?,
        lost: before(requests, "errored")? + before(requests, "timeout")?,
    };
    ensure!(summary.answers > 0 && summary.per_second > 0.0, "no request was answered");
    Ok(summary)
}

/// Reads the log, a line a request (start, status, microseconds), and gives the latencies in order.
pub(crate) fn parse_log(log: impl BufRead) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    for line in log.lines() {
        let line = line.context("cannot read h2load's log")?;
        // Lines of answers that were cut at the end have no time.
        latencies.extend(line.split('\t').nth(2).and_then(|time| time.parse::<f64>().ok()).filter(|time| *time >= 0.0));
    }
    latencies.sort_by(f64::total_cmp);
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_a_real_run() {
        let summary = parse(include_str!("../fixtures/h2load-duration.txt")).unwrap();
        let want = Summary { answers: 41_419, per_second: 41_419.0, bytes: 47_797_843, refused: 0, lost: 0 };
        assert_eq!(summary, want);
        let summary = parse(include_str!("../fixtures/h2load-404.txt")).unwrap();
        assert_eq!((summary.answers, summary.refused, summary.lost), (200, 200, 0));
    }

    #[test]
    fn what_is_no_summary_is_an_error() {
        let whole = include_str!("../fixtures/h2load-duration.txt");
        for (text, want) in [
            (String::new(), "no line starts with `finished in `"),
            (whole.replace("status codes", "codes"), "no line starts with `status codes: `"),
            (whole.replace("41419 done", "0 done"), "no request was answered"),
            (whole.replace(" 0 timeout", ""), "no `timeout`"),
        ] {
            assert_eq!(parse(&text).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn what_was_agreed_on_is_seen() {
        let whole = include_str!("../fixtures/h2load-tls.txt");
        assert!(check_agreement(whole).is_ok());
        for (from, to) in [
            ("Cipher: TLS_AES_128_GCM_SHA256", "Cipher: TLS_AES_256_GCM_SHA384"),
            ("TLS Protocol: TLSv1.3", "TLS Protocol: TLSv1.2"),
            ("Application protocol: h2", "Application protocol: h2c"),
            ("Key: X25519", "Key: ECDH"),
        ] {
            assert!(whole.contains(from), "{from}");
            assert!(check_agreement(&whole.replace(from, to)).is_err(), "{to}");
        }
        assert!(check_agreement(include_str!("../fixtures/h2load-duration.txt")).is_err());
    }

    #[test]
    fn latencies_come_in_order() {
        let latencies = parse_log(include_bytes!("../fixtures/h2load.log").as_slice()).unwrap();
        assert_eq!(latencies.len(), 200);
        assert!(latencies.is_sorted() && latencies[0] > 0.0);
        assert_eq!(parse_log(b"1\t200\t7\n1\t-1\t-1\n\n2\t200\t5\n".as_slice()).unwrap(), [5.0, 7.0]);
    }
}
