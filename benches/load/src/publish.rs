//! Publishing 20,000 small files, beside the programs that people copy sites with.
//!
//! Server and client may use every core here: publishing is not what a server does all day, and the folder's other
//! readers wait for it, not for a core. What `pinstone deploy` acknowledges is on the disk, so `cp` is followed by
//! `sync -f`; `rsync -a` is measured as it is used, which leaves the bytes to the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::corpus;
use crate::deploy::deploy;
use crate::measure::{Metric, Sample, undisturbed};
use crate::procfs;
use crate::scenario::PUBLISH;
use crate::servers::{Place, Running, Server, find_program};
use crate::settle::settle;

/// How many files change before the last publish.
const CHANGED: usize = 20;

const MIB: f64 = 1_048_576.0;

/// What publishes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tool {
    Pinstone,
    CopyAndSync,
    Rsync,
}

impl Tool {
    pub(crate) const ALL: [Self; 3] = [Self::Pinstone, Self::CopyAndSync, Self::Rsync];

    /// What the report calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pinstone => "pinstone",
            Self::CopyAndSync => "cp -r + sync -f",
            Self::Rsync => "rsync -a",
        }
    }
}

/// What is published, and where to.
#[derive(Clone, Debug)]
pub(crate) struct Publish {
    /// A folder of its own, emptied by each flow.
    folder: PathBuf,
    seed: u64,
    files: usize,
    pinstone: Server,
}

impl Publish {
    /// Prepares; writes nothing yet.
    pub(crate) fn new(folder: PathBuf, seed: u64, files: usize, pinstone: Server) -> Self {
        Self { folder, seed, files, pinstone }
    }

    /// Publishes the files, publishes them again, and once more with some changed. Gives a sample for each of
    /// [`PUBLISH`] that the tool can do, or why it can do none.
    pub(crate) fn flow(&self, tool: Tool, round: usize) -> Result<Vec<(&'static str, Result<Sample, String>)>> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        let (from, to) = (self.folder.join("from"), self.folder.join("to"));
        fs::create_dir_all(&to)?;
        corpus::small_files(&from, self.seed, self.files)?;
        // The source is on the disk, and its writing does not go on under the first measurement.
        run(Command::new("sync").arg("-f").arg(&self.folder))?;
        let change = || {
            let seed = self.seed.wrapping_add(round as u64 + 1);
            corpus::change_small_files(&from, seed, CHANGED.min(self.files), self.files)
        };
        match tool {
            Tool::Pinstone => self.with_pinstone(&from, &to, change),
            Tool::CopyAndSync => {
                let copy = r#"cp -r "$1" "$2" && sync -f "$2""#;
                let target = to.join("copy");
                let sample = timed(None, || run(Command::new("sh").args(["-c", copy, "sh"]).arg(&from).arg(&target)))?;
                let cannot = || Err("copies everything each time".to_owned());
                Ok(PUBLISH.into_iter().zip([Ok(sample), cannot(), cannot()]).collect())
            }
            Tool::Rsync => {
                if find_program("rsync").is_none() {
                    let missing = || Err("not installed: apt-get install rsync".to_owned());
                    return Ok(PUBLISH.into_iter().map(|name| (name, missing())).collect());
                }
                let mut source = from.clone().into_os_string();
                source.push("/"); // its content, not itself
                let once = || timed(None, || run(Command::new("rsync").arg("-a").arg(&source).arg(to.join("copy"))));
                let (first, same) = (once()?, once()?);
                change()?;
                Ok(PUBLISH.into_iter().zip([Ok(first), Ok(same), Ok(once()?)]).collect())
            }
        }
    }

    fn with_pinstone(
        &self,
        from: &Path,
        to: &Path,
        change: impl Fn() -> Result<()>,
    ) -> Result<Vec<(&'static str, Result<Sample, String>)>> {
        let place = Place {
            folder: self.folder.clone(),
            root: from.to_owned(),
            data: to.join("data"),
            cores: all_cores(),
            group: None,
            tls: None,
        };
        let server = self.pinstone.start(&place, "localhost", "/api/v1/health")?;
        let once = || self.publish_once(&server, &place, from);
        let (first, same) = (once()?, once()?);
        change()?;
        let changed = once()?;
        server.stop()?;
        Ok(PUBLISH.into_iter().zip([Ok(first), Ok(same), Ok(changed)]).collect())
    }

    /// Publishes once, and waits for what the server does afterwards, so that it is no part of the next.
    fn publish_once(&self, server: &Running, place: &Place, from: &Path) -> Result<Sample> {
        let forgot = procfs::forget_peak(server.pid());
        let mut command = 0;
        let mut sample = timed(Some(server.pid()), || {
            command = deploy(&self.pinstone, place, server.port, from, "published")?;
            Ok(())
        })?;
        // Where the kernel does not forget, it would be the peak of an earlier publish.
        let peak = forgot.ok().and_then(|()| procfs::peak(server.pid()));
        let afterwards = settle(server, "pinstone")?;
        sample.values.extend(peak.map(|bytes| (Metric::ServePeak, bytes as f64 / MIB)));
        sample.values.insert(Metric::CommandPeak, command as f64 / MIB);
        sample.values.insert(Metric::AfterSeconds, afterwards.as_secs_f64());
        Ok(sample)
    }
}

/// Every core, as `taskset --cpu-list` takes them.
pub(crate) fn all_cores() -> String {
    // This process is pinned, so what it may use says nothing.
    let count = procfs::cores().map_or(1, |cores| cores.each.len().max(1));
    format!("0-{}", count - 1)
}

/// How long `work` takes, and how much CPU it and the server with `pid` use. The kernel's own writing counts as neither.
fn timed(pid: Option<u32>, work: impl FnOnce() -> Result<()>) -> Result<Sample> {
    let used = || Ok::<_, anyhow::Error>(procfs::own_ticks()? + pid.map_or(Ok(0), procfs::tree_ticks)?);
    let ((seconds, used), disturbed) = undisturbed(|| {
        let (began, before) = (Instant::now(), used()?);
        work()?;
        Ok((began.elapsed().as_secs_f64(), used()?.saturating_sub(before)))
    })?;
    let values = [(Metric::Seconds, seconds), (Metric::CpuSeconds, procfs::ticks(used).as_secs_f64())];
    Ok(Sample { values: values.into(), disturbed, ..Sample::default() })
}

/// Runs a program that is to succeed, on every core.
fn run(command: &mut Command) -> Result<()> {
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", &all_cores()]).arg(command.get_program()).args(command.get_args());
    let output = pinned.stdin(Stdio::null()).output().with_context(|| format!("cannot run {pinned:?}"))?;
    ensure!(output.status.success(), "{pinned:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
