//! The run: servers are started, checked, and measured in turns.
//!
//! Rounds are outermost and servers innermost, each round beginning with another server, so that whatever the machine
//! does for some minutes falls on all servers alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::corpus::{Corpus, OF_RANGES, Page, Random, SIZES};
use crate::h2load::H2load;
use crate::handshake::Handshakes;
use crate::http::{Answer, Connection};
use crate::measure::{Metric, Pinned, Sample, measured, undisturbed};
use crate::scenario::{HANDSHAKES, Http, Over, Scenario, Target, Work};
use crate::servers::{HOST, Place, Running, Server};
use crate::settle::settle;
use crate::tls::Identity;
use crate::wrk::{self, Wrk};
use crate::{check, idle, tls};

/// What is asked for to see whether a server is there.
const PROBE: &str = "/1k.bin";
const RANGE: usize = 64 << 10;

/// What one turn gave.
#[derive(Debug)]
pub(crate) enum Turn {
    Measured(Sample),
    /// The server cannot do it, for this reason.
    Skipped(String),
}

/// Servers that run, and what to ask them for.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) place: Place,
    pub(crate) corpus: Corpus,
    pub(crate) cores: Pinned,
    pub(crate) seconds: u64,
    seed: u64,
    script: PathBuf,
    servers: Vec<(Server, Option<Running>)>,
}

impl Bench {
    /// Starts every server.
    pub(crate) fn start(
        place: Place,
        corpus: Corpus,
        cores: Pinned,
        seconds: u64,
        seed: u64,
        servers: Vec<Server>,
    ) -> Result<Self> {
        raise_file_limit()?;
        let script = wrk::write_script(&place.folder)?;
        let mut bench = Self { place, corpus, cores, seconds, seed, script, servers: Vec::new() };
        for server in servers {
            let running = server.start(&bench.place, HOST, PROBE)?;
            if server.is_pinstone() {
                settle(&running, server.name)?;
            }
            bench.servers.push((server, Some(running)));
        }
        bench.write_requests()?;
        Ok(bench)
    }

    /// The servers, in the order of the report.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.servers.iter().map(|(server, _)| server.name).collect()
    }

    /// The servers that do not serve TLS, though they should, each with its reason.
    pub(crate) fn without_tls(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let should = self.servers.iter().filter(|(server, _)| self.place.tls.is_some() && !server.is_floor());
        should.filter_map(|(server, running)| Some((server.name, running.as_ref()?.tls().err()?)))
    }

    /// A server by its place among [`names`](Self::names).
    pub(crate) fn server(&self, place: usize) -> &Server {
        &self.servers[place].0
    }

    /// Asks every server for every file, and names the first that answers with other bytes than are in the file. Makes
    /// sure that load generators offer the same over TLS.
    pub(crate) fn check_bytes(&self) -> Result<usize> {
        if let Some(identity) = &self.place.tls {
            tls::check_offer(|url| Wrk { url, ..self.wrk(0, "", 1, Some(identity)) }.start()).context("wrk")?;
        }
        let mut checked = 0;
        for (server, running) in self.servers.iter().filter(|(server, _)| !server.is_floor()) {
            let running = running.as_ref().context("all servers run")?;
            checked += check::bytes(running, &self.corpus, self.place.tls.as_deref()).with_context(|| server.name)?;
        }
        Ok(checked)
    }

    /// Measures one server once.
    pub(crate) fn turn(&mut self, scenario: &Scenario, server: usize) -> Result<Turn> {
        let is_floor = self.servers[server].0.is_floor();
        if !is_floor
            && scenario.work.needs_tls()
            && let Err(reason) = self.running(server)?.tls()
        {
            return Ok(skipped(reason));
        }
        match &scenario.work {
            Work::Http(http) if is_floor && !http.floor => Ok(skipped("answers a constant")),
            Work::Http(http) => self.http(http, server),
            work if is_floor && work.needs_tls() => Ok(skipped("answers a constant")),
            Work::Http2 { .. } | Work::Fairness | Work::ColdStart if is_floor => Ok(skipped("answers a constant")),
            Work::Http2 { path, clients, streams, tls } => self.http2(path, *clients, *streams, *tls, server),
            Work::Handshake => self.handshake(server),
            Work::Fairness => self.fairness(server),
            Work::Idle { connections, over } => self.idle(*connections, *over, server),
            Work::ColdStart => self.cold_start(server),
            Work::Cold | Work::Sites { .. } | Work::ColdStartOfSites { .. } | Work::Publish => {
                bail!("it is measured on servers of its own")
            }
        }
    }

    fn running(&self, server: usize) -> Result<&Running> {
        self.servers[server].1.as_ref().context("the server runs")
    }

    /// The process and the port to load, with the certificate where TLS is asked for.
    fn endpoint(&self, server: usize, tls: bool) -> Result<(u32, u16, Option<&Arc<Identity>>)> {
        let running = self.running(server)?;
        if !tls {
            return Ok((running.pid(), running.port, None));
        }
        let (pid, port) = running.tls().map_err(|reason| anyhow!("{reason}"))?;
        Ok((pid, port, self.place.tls.as_ref()))
    }

    fn wrk(&self, port: u16, path: &str, connections: usize, tls: Option<&Arc<Identity>>) -> Wrk {
        let scheme = if tls.is_some() { "https" } else { "http" };
        Wrk {
            script: self.script.clone(),
            url: format!("{scheme}://127.0.0.1:{port}{path}"),
            host: HOST.to_owned(),
            connections,
            duration: Duration::from_secs(self.seconds),
            fields: Vec::new(),
            requests: None,
            tls: tls.map(Arc::clone),
        }
    }

    fn http(&self, http: &Http, server: usize) -> Result<Turn> {
        let (pid, port, identity) = self.endpoint(server, http.tls)?;
        let path = if let Target::One(path) = http.target { path } else { PROBE };
        let mut wrk = self.wrk(port, path, http.connections, identity);
        match http.target {
            Target::One(_) => {}
            Target::Pages => wrk.requests = Some((self.requests_file("pages"), self.seed)),
            Target::Folder(number) => {
                wrk.requests = Some((self.requests_file(&format!("folder-{number}")), self.seed));
            }
            Target::Ranges => wrk.requests = Some((self.requests_file("ranges"), self.seed)),
        }
        if http.close {
            wrk.fields.push("Connection: close".to_owned());
        }
        if let Target::One(path) = http.target {
            let client = identity.map(|identity| identity.client(&["http/1.1"])).transpose()?;
            let mut connection = Connection::open(port, client.as_ref())?;
            let plain = connection.get(HOST, path, &[])?;
            if http.conditional {
                let Some(field) = validator(&plain) else { return Ok(skipped("sends no validator")) };
                wrk.fields.push(field);
            }
            let status = if http.conditional { connection.get(HOST, path, &wrk.fields)?.status } else { plain.status };
            if status != http.status {
                return Ok(skipped(&format!("answers {status}")));
            }
        }
        if http.target == Target::Ranges
            && let Some(reason) = self.range_problem(port)?
        {
            return Ok(Turn::Skipped(reason));
        }
        let (mut load, usage) = measured(pid, self.cores, || wrk.run())?;
        if http.close && !self.announces_close(port)? {
            // wrk tries each connection once more, is told that it ended, and counts that beside the whole answer.
            load.lost = 0;
        }
        Ok(Turn::Measured(Sample::of_load(&load, &usage, http.status >= 400)))
    }

    /// Whether a server says that it closes a connection, where it was asked to. RFC 9112, section 9.6 wants it to.
    fn announces_close(&self, port: u16) -> Result<bool> {
        let answer = Connection::open(port, None)?.get(HOST, PROBE, &["Connection: close".to_owned()])?;
        Ok(answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")))
    }

    /// Why ranges cannot be compared: a server that sends everything would pass for one that answers.
    fn range_problem(&self, port: u16) -> Result<Option<String>> {
        let (path, size) = OF_RANGES;
        let page = self.corpus.sizes.iter().find(|page| page.url == path).context("the corpus has it")?;
        let start = size / 3;
        let field = format!("Range: bytes={start}-{}", start + RANGE - 1);
        let answer = Connection::open(port, None)?.get(HOST, path, &[field])?;
        let right = answer.status == 206 && fs::read(&page.file)?.get(start..start + RANGE) == Some(&*answer.body);
        Ok((!right).then(|| format!("answers a range with {} and {} bytes", answer.status, answer.body.len())))
    }

    fn http2(&self, path: &str, clients: usize, streams: usize, tls: bool, server: usize) -> Result<Turn> {
        let (pid, mut port, identity) = self.endpoint(server, tls)?;
        if !tls {
            let Some(h2_port) = self.running(server)?.h2_port else {
                return Ok(skipped("has no HTTP/2 without TLS"));
            };
            port = h2_port;
        }
        let h2load = H2load {
            url: format!("{}://127.0.0.1:{port}{path}", if tls { "https" } else { "http" }),
            host: HOST.to_owned(),
            clients,
            streams,
            duration: Duration::from_secs(self.seconds),
            log: self.place.folder.join("h2load.log"),
            tls: identity.map(Arc::clone),
        };
        let (output, usage) = measured(pid, self.cores, || h2load.run())?;
        let load = h2load.load(&output)?;
        let size = SIZES.iter().find(|(url, _)| *url == path).map_or(0, |(_, size)| *size as u64);
        // The log and the summary are of one run, so whole bodies must have come, whatever the heads took.
        ensure!(load.refused > 0 || load.bytes >= load.answers * size, "{} bytes are too few", load.bytes);
        Ok(Turn::Measured(Sample::of_load(&load, &usage, false)))
    }

    fn handshake(&self, server: usize) -> Result<Turn> {
        let (pid, port, identity) = self.endpoint(server, true)?;
        let (path, size) = SIZES[0];
        let load = Handshakes {
            port,
            path,
            size,
            connections: HANDSHAKES,
            duration: Duration::from_secs(self.seconds),
            client: identity.context("TLS has a certificate")?.client(&["http/1.1"])?,
        };
        let ((load, tickets), usage) = measured(pid, self.cores, || load.run())?;
        let mut sample = Sample::of_load(&load, &usage, false);
        sample.values.insert(Metric::Tickets, tickets);
        Ok(Turn::Measured(sample))
    }

    fn fairness(&self, server: usize) -> Result<Turn> {
        let running = self.running(server)?;
        let mut download = self.wrk(running.port, "/10m.bin", 1, None);
        download.duration += Duration::from_secs(60); // it is told to end
        let small = self.wrk(running.port, PROBE, 16, None);
        beside(running.pid(), self.cores, &small, &download).map(Turn::Measured)
    }

    fn idle(&mut self, connections: usize, over: Over, server: usize) -> Result<Turn> {
        // Memory that earlier load left behind would be used for the connections, and hide what they take.
        self.restart(server)?;
        let (pid, port, identity) = self.endpoint(server, over != Over::Http1)?;
        if self.servers[server].0.is_pinstone() {
            settle(self.running(server)?, self.servers[server].0.name)?;
        }
        let protocol = if over == Over::Http2Tls { "h2" } else { "http/1.1" };
        let tls = identity.map(|identity| identity.client(&[protocol])).transpose()?;
        idle::memory(&idle::Target { pid, port, over, tls }, connections, self.cores).map(Turn::Measured)
    }

    fn cold_start(&mut self, server: usize) -> Result<Turn> {
        let ((), disturbed) = undisturbed(|| self.restart(server))?;
        let mut sample = Sample { disturbed, ..Sample::default() };
        let millis = self.running(server)?.started_in.as_secs_f64() * 1e3;
        sample.values.insert(Metric::StartMillis, millis);
        Ok(Turn::Measured(sample))
    }

    fn restart(&mut self, server: usize) -> Result<()> {
        let (server, running) = &mut self.servers[server];
        if let Some(running) = running.take() {
            running.stop()?;
        }
        *running = Some(server.start(&self.place, HOST, PROBE)?);
        Ok(())
    }

    fn requests_file(&self, name: &str) -> PathBuf {
        self.place.folder.join(format!("requests-{name}.txt"))
    }

    fn write_requests(&self) -> Result<()> {
        let lines = |pages: &[Page]| pages.iter().fold(String::new(), |text, page| text + &page.url + "\n");
        fs::write(self.requests_file("pages"), lines(&self.corpus.pages))?;
        for (number, set) in self.corpus.folders.iter().enumerate() {
            fs::write(self.requests_file(&format!("folder-{number}")), lines(set))?;
        }
        fs::write(self.requests_file("ranges"), ranges(self.seed))?;
        Ok(())
    }
}

/// Measures one load alone, and then while another runs, which is told to end with it: what the other does to it shows
/// best against the same server, a moment before.
pub(crate) fn beside(pid: u32, cores: Pinned, load: &Wrk, other: &Wrk) -> Result<Sample> {
    let (alone, usage) = measured(pid, cores, || load.run())?;
    let alone = Sample::of_load(&alone, &usage, false);
    let ((load, other), usage) = measured(pid, cores, || {
        let child = other.start_beside()?;
        std::thread::sleep(Duration::from_millis(300));
        let load = load.run();
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("it has a process id")?;
        kill_process(pid, Signal::INT)?;
        let other = wrk::finish(child)?;
        Ok((load?, other))
    })?;
    let mut sample = Sample::of_load(&load, &usage, false);
    // Two kinds of answers share the CPU.
    sample.values.remove(&Metric::CpuMicros);
    sample.values.insert(Metric::Beside, other.bytes as f64 / 1e6 / other.seconds);
    sample.errors += other.lost + other.refused;
    sample.add_alone(&alone);
    Ok(sample)
}

fn skipped(reason: &str) -> Turn {
    Turn::Skipped(reason.to_owned())
}

/// A thousand ranges at any byte of their file.
fn ranges(seed: u64) -> String {
    let (path, size) = OF_RANGES;
    let mut random = Random::new(seed);
    let mut text = String::new();
    for _ in 0..1000 {
        let start = random.below(size - RANGE);
        let _ = writeln!(text, "{path}\tRange: bytes={start}-{}", start + RANGE - 1);
    }
    text
}

/// The field that asks whether an answer is still right.
fn validator(answer: &Answer) -> Option<String> {
    let by_tag = answer.field("etag").map(|tag| format!("If-None-Match: {tag}"));
    by_tag.or_else(|| answer.field("last-modified").map(|date| format!("If-Modified-Since: {date}")))
}

/// Thousands of connections need as many file descriptors, here and in the servers, which inherit the limit.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= 8192),
        "`ulimit -Hn` allows too few open files; raise it to 8192"
    );
    Ok(())
}

/// In which order `count` servers take turns.
pub(crate) fn order(count: usize, round: usize, scenario: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| (turn + round + scenario) % count)
}

/// All samples of a run: by scenario, then by contestant.
pub(crate) type Samples = BTreeMap<String, BTreeMap<String, Vec<Sample>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_every_turn_and_another_begins_each_round() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| order(3, round, 0).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
        assert_eq!(order(0, 5, 1).count(), 0);
    }

    #[test]
    fn ranges_lie_within_the_file() {
        for line in ranges(3).lines() {
            let (start, end) = line.split_once("bytes=").unwrap().1.split_once('-').unwrap();
            let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
            assert!(end - start + 1 == RANGE && end < OF_RANGES.1, "{line}");
        }
    }
}
