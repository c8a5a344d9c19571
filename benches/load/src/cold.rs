//! A hot file beside files that memory has no room for: does waiting for a disk hold up those who need none?
//! Each turn has the hot file alone first, on the same process, so that it shows how much they are held up.
//!
//! A control group bounds what a server and its page cache may use to less than half of the cold files. That takes root
//! and the kernel's memory controller. Before each turn the files are written out and dropped from the page cache, or
//! they would be there on account of whoever wrote them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, fadvise, fdatasync};

use crate::bench::{Turn, beside};
use crate::corpus;
use crate::deploy::publish;
use crate::measure::Pinned;
use crate::servers::{HOST, Place, Server};
use crate::settle::settle;
use crate::wrk::{self, Wrk};

/// Cold files, of 1 MiB each.
const FILES: usize = 1024;
/// What a server and its page cache may use, in bytes. Pinstone's own caches of 256 MiB hold no file above 64 KiB.
const LIMIT: u64 = 448 << 20;
const HOT: &str = "/1k.bin";

/// What is needed for a turn.
#[derive(Debug)]
pub(crate) struct Cold {
    place: Place,
    group: Group,
    script: PathBuf,
    requests: PathBuf,
    seed: u64,
    seconds: u64,
    cores: Pinned,
}

impl Cold {
    /// Makes the group and writes the files.
    ///
    /// # Errors
    ///
    /// Where the kernel or the user's rights allow no group.
    pub(crate) fn new(folder: &Path, seed: u64, seconds: u64, cores: Pinned) -> Result<Self> {
        let group = Group::new(LIMIT)?;
        let root = folder.join("root");
        let urls = corpus::cold_files(&root, seed, FILES)?;
        let requests = folder.join("requests.txt");
        fs::write(&requests, urls.join("\n") + "\n")?;
        let script = wrk::write_script(folder)?;
        let data = folder.join("data");
        let cores_of_server = cores.server.to_string();
        let place = Place { folder: folder.to_owned(), root, data, cores: cores_of_server, group: None, tls: None };
        Ok(Self { place, group, script, requests, seed, seconds, cores })
    }

    /// Measures one server once.
    pub(crate) fn turn(&self, server: &Server) -> Result<Turn> {
        if server.is_floor() {
            return Ok(Turn::Skipped("answers a constant".to_owned()));
        }
        if server.is_pinstone() && !server.data(&self.place).exists() {
            publish(server, &self.place)?;
        }
        drop_from_cache(&self.place.root)?;
        // That of every Pinstone, whoever has this turn: what the last one left in the group's memory is not for this one to clear.
        if self.place.data.exists() {
            drop_from_cache(&self.place.data)?;
        }
        let place = Place { group: Some(self.group.folder.clone()), ..self.place.clone() };
        let running = server.start(&place, HOST, HOT)?;
        if server.is_pinstone() {
            settle(&running, server.name)?;
        }
        let wrk = |path: &str, connections, seconds| Wrk {
            script: self.script.clone(),
            url: format!("http://127.0.0.1:{}{path}", running.port),
            host: HOST.to_owned(),
            connections,
            duration: Duration::from_secs(seconds),
            fields: Vec::new(),
            requests: None,
            tls: None,
        };
        let cold = Wrk { requests: Some((self.requests.clone(), self.seed)), ..wrk("/", 4, self.seconds + 60) };
        let sample = beside(running.pid(), self.cores, &wrk(HOT, 16, self.seconds), &cold)?;
        running.stop()?;
        Ok(Turn::Measured(sample))
    }
}

/// A control group of one's own. Dropped, it is removed.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
}

impl Group {
    fn new(limit: u64) -> Result<Self> {
        let name = format!("pinstone-load-{}", std::process::id());
        // The first of these is version 2 of control groups, the second version 1.
        for (parent, file) in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")] {
            let parent = Path::new(parent);
            let version_2 = file == "memory.max";
            if version_2 != parent.join("cgroup.controllers").exists() || !parent.exists() {
                continue;
            }
            let group = Self { folder: parent.join(&name) };
            fs::create_dir(&group.folder).with_context(|| format!("cannot create {}", group.folder.display()))?;
            fs::write(group.folder.join(file), limit.to_string()).context("cannot set its limit")?;
            return Ok(group);
        }
        bail!("there is no memory controller below /sys/fs/cgroup");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Writes out everything below a folder and drops it from the page cache.
fn drop_from_cache(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            drop_from_cache(&entry.path())?;
        } else if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            fdatasync(&file)?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}
