//! `wrk`: HTTP/1.1 load. Its script prints one line of figures for the harness, whose form is fixed here.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::tls::Identity;

/// The script that every run has.
pub(crate) const SCRIPT: &str = include_str!("../wrk/load.lua");

/// How a connection may be silent before its request counts as lost.
const TIMEOUT: &str = "10s";

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Wrk {
    pub(crate) script: PathBuf,
    /// With the path that is asked for where there is no file of requests.
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Fields that every request has, as `Name: value`.
    pub(crate) fields: Vec<String>,
    /// Requests to draw from, and the seed for it.
    pub(crate) requests: Option<(PathBuf, u64)>,
    /// What to agree on over TLS, where the URL is `https:`.
    pub(crate) tls: Option<Arc<Identity>>,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Load {
    pub(crate) answers: u64,
    /// As they came, with heads, and with answers that the end cut off.
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Answers with a status of 400 and more.
    pub(crate) refused: u64,
    /// Connections refused, reads and writes that failed, answers that never came.
    pub(crate) lost: u64,
    /// Latencies in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Wrk {
    /// Runs to the end.
    ///
    /// # Errors
    ///
    /// Where it cannot be run, or printed no figures.
    pub(crate) fn run(&self) -> Result<Load> {
        finish(self.start()?)
    }

    /// Starts it. It ends by itself, or with its figures on SIGINT; [`finish`] waits for them.
    pub(crate) fn start(&self) -> Result<Child> {
        self.start_by(Command::new("wrk"))
    }

    /// Starts it as load that is not measured, on the same core as one that is: that has the core first. Else what it waits
    /// for the core would pass for the server's latency. A niceness is not enough for that: the scheduler lets what runs
    /// go on for its slice, or until the kernel's next tick of up to 4 ms, before what was woken has the core, however nice it is.
    /// What is idle by policy makes room at once.
    pub(crate) fn start_beside(&self) -> Result<Child> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "wrk"]);
        self.start_by(command)
    }

    fn start_by(&self, mut command: Command) -> Result<Child> {
        // It takes whole seconds only.
        let seconds = self.duration.as_secs().max(1);
        command.args(["-t1", "--timeout", TIMEOUT]);
        command.arg(format!("-c{}", self.connections)).arg(format!("-d{seconds}s"));
        command.arg("-H").arg(format!("Host: {}", self.host));
        for field in &self.fields {
            command.arg("-H").arg(field);
        }
        command.arg("-s").arg(&self.script).arg(&self.url);
        if let Some(identity) = &self.tls {
            identity.configure(&mut command);
        }
        if let Some((file, seed)) = &self.requests {
            command.arg("--").arg(file).arg(seed.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().context("cannot run `wrk`")
    }
}

/// Waits for a run to end.
pub(crate) fn finish(child: Child) -> Result<Load> {
    let output = child.wait_with_output().context("cannot read what `wrk` prints")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("`wrk` failed: {}{}", text.trim(), String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&text).with_context(|| format!("`wrk` printed no figures: {}", text.trim()))
}

/// Writes the script where wrk can read it.
pub(crate) fn write_script(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("load.lua");
    std::fs::write(&path, SCRIPT).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Finds the script's line in what wrk printed.
pub(crate) fn parse(text: &str) -> Result<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("pinstone-load ")).context("no line of figures")?;
    let field = |name: &str| -> Result<u64> {
        let mut words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
        let (_, value) = words.find(|(key, _)| *key == name).with_context(|| format!("`{name}` is missing"))?;
        value.parse().with_context(|| format!("`{name}` is `{value}`"))
    };
    let answers = field("requests")?;
    ensure!(answers > 0, "no request was answered");
    Ok(Load {
        answers,
        bytes: field("bytes")?,
        seconds: field("duration_us")? as f64 / 1e6,
        refused: field("status")?,
        lost: field("connect")? + field("read")? + field("write")? + field("timeout")?,
        p50: field("p50_us")? as f64,
        p99: field("p99_us")? as f64,
        p999: field("p999_us")? as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_real_run() {
        let load = parse(include_str!("../fixtures/wrk-1k.txt")).unwrap();
        let want = Load {
            answers: 37_504,
            bytes: 47_667_584,
            seconds: 1.103_637,
            refused: 0,
            lost: 0,
            p50: 323.0,
            p99: 13_071.0,
            p999: 22_498.0,
        };
        assert_eq!(load, want);
    }

    #[test]
    fn a_status_of_400_and_more_is_counted() {
        let load = parse(include_str!("../fixtures/wrk-404.txt")).unwrap();
        assert_eq!((load.answers, load.refused, load.lost), (56_162, 56_162, 0));
    }

    #[test]
    fn what_is_no_result_is_an_error() {
        let whole = include_str!("../fixtures/wrk-1k.txt");
        for (text, want) in [
            (String::new(), "no line of figures"),
            (whole.replace("requests=37504", "requests=0"), "no request was answered"),
            (whole.replace("p999_us=22498", ""), "`p999_us` is missing"),
            (whole.replace("timeout=0", "timeout=-nan"), "`timeout` is `-nan`"),
        ] {
            assert_eq!(parse(&text).unwrap_err().to_string(), want, "{text}");
        }
    }
}
