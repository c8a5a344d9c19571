//! Load spread over many sites: what finding a site costs, and what a start with all of them does.
//!
//! Pinstone alone: the others have no such thing as a hundred thousand sites that were published one by one. The sites
//! are made by `pinstone admin import`, each with a manifest of its own, in a data folder for each number of sites that
//! all rounds use.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::corpus::Random;
use crate::http::Connection;
use crate::measure::{Metric, Pinned, Sample, measured, undisturbed};
use crate::publish::all_cores;
use crate::servers::{Place, Running, Server, clean_environment, says};
use crate::settle::settle;
use crate::wrk::{self, Wrk};

const PATH: &str = "/1k.bin";

/// What is needed to measure sites.
#[derive(Debug)]
pub(crate) struct Sites {
    /// A folder of its own.
    folder: PathBuf,
    seed: u64,
    seconds: u64,
    cores: Pinned,
    pinstone: Server,
    /// The numbers of sites whose data folders are filled.
    filled: HashSet<usize>,
}

impl Sites {
    /// Prepares; imports nothing yet.
    pub(crate) fn new(folder: PathBuf, seed: u64, seconds: u64, cores: Pinned, pinstone: Server) -> Self {
        Self { folder, seed, seconds, cores, pinstone, filled: HashSet::new() }
    }

    /// Why sites cannot be measured, if so.
    pub(crate) fn unavailable(&self) -> Option<&'static str> {
        let knows = says(self.pinstone.program(), &["admin", "import", "--help"], "--sites");
        (!knows).then_some("this Pinstone has no `admin import --sites`")
    }

    /// Load over that many sites. Each is asked for once before, and then in a run that does not count: what the first
    /// request for a site takes has to do with its manifest, not with their number.
    pub(crate) fn load(&mut self, sites: usize) -> Result<Sample> {
        let running = self.start(sites)?;
        settle(&running, "pinstone")?;
        let requests = self.folder.join(format!("requests-{sites}.txt"));
        fs::write(&requests, lines(sites, self.seed))?;
        let wrk = Wrk {
            script: wrk::write_script(&self.folder)?,
            url: format!("http://127.0.0.1:{}/", running.port),
            host: host(1),
            connections: 64,
            duration: Duration::from_secs(self.seconds),
            fields: Vec::new(),
            requests: Some((requests, self.seed)),
            tls: None,
        };
        self.ask_each(&running, sites)?;
        wrk.run()?;
        let (load, usage) = measured(running.pid(), self.cores, || wrk.run())?;
        running.stop()?;
        Ok(Sample::of_load(&load, &usage, false))
    }

    /// A start with that many sites.
    pub(crate) fn cold_start(&mut self, sites: usize) -> Result<Sample> {
        // Importing is no part of it.
        self.fill(sites)?;
        let (running, disturbed) = undisturbed(|| self.start(sites))?;
        let millis = running.started_in.as_secs_f64() * 1e3;
        running.stop()?;
        Ok(Sample { values: [(Metric::StartMillis, millis)].into(), disturbed, ..Sample::default() })
    }

    fn ask_each(&self, running: &Running, sites: usize) -> Result<()> {
        let mut connection = Connection::open(running.port, None)?;
        for number in 1..=sites {
            let answer = connection.get(&host(number), PATH, &[])?;
            ensure!(answer.status == 200, "{} answers {}", host(number), answer.status);
        }
        Ok(())
    }

    fn start(&mut self, sites: usize) -> Result<Running> {
        self.fill(sites)?;
        self.pinstone.start(&self.place(sites), &host(sites), PATH)
    }

    /// What every site is made from, and where the data of that many are.
    fn place(&self, sites: usize) -> Place {
        let (root, data) = (self.folder.join("from"), self.folder.join(format!("data-{sites}")));
        let cores = self.cores.server.to_string();
        Place { folder: self.folder.clone(), root, data, cores, group: None, tls: None }
    }

    fn fill(&mut self, sites: usize) -> Result<()> {
        if !self.filled.contains(&sites) {
            let place = self.place(sites);
            let (data, from) = (self.pinstone.data(&place), place.root);
            fs::create_dir_all(&from)?;
            fs::write(from.join("1k.bin"), Random::new(self.seed).bytes(1024))?;
            fs::write(from.join("index.html"), "<!doctype html><title>A site</title>\n")?;
            fs::write(from.join("site.txt"), "its own\n")?;
            let mut command = Command::new("taskset");
            command
                .args(["--cpu-list", &all_cores()])
                .arg(self.pinstone.program())
                .args(["--quiet", "admin", "import"]);
            command.arg("--data").arg(&data).args(["--sites", &sites.to_string()]).arg("--from").arg(&from);
            command.arg("--distinct");
            clean_environment(&mut command, &self.folder);
            let output = command.stdin(Stdio::null()).output().context("cannot run `pinstone admin import`")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "`pinstone admin import` failed: {}", said.trim());
            self.filled.insert(sites);
        }
        Ok(())
    }
}

/// The host of a site; they are numbered from 1.
fn host(number: usize) -> String {
    format!("site-{number:06}.localhost")
}

/// A request to each site, in an order that says nothing of where it is kept.
fn lines(sites: usize, seed: u64) -> String {
    let mut numbers: Vec<usize> = (1..=sites).collect();
    let mut random = Random::new(seed);
    for place in (1..numbers.len()).rev() {
        numbers.swap(place, random.below(place + 1));
    }
    let mut text = String::with_capacity(sites * 40);
    for number in numbers {
        let _ = writeln!(text, "{PATH}\tHost: {}", host(number));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_site_is_asked() {
        let text = lines(1000, 5);
        let lines: HashSet<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1000);
        assert!(lines.contains("/1k.bin\tHost: site-000001.localhost"));
        assert!(lines.contains("/1k.bin\tHost: site-001000.localhost"));
    }
}
