//! Measures Pinstone beside other file servers, so that the figures hold on a noisy machine.
//!
//! One corpus, every server on it with a tuned configuration, one core for the server and another for the load
//! generator, servers in turns within each round, and the server's CPU per answer as the figure: requests per second hide
//! behind the load generator once a server is fast. `docs/performance.md` has the method and how to read the report.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};

mod bench;
mod check;
mod cold;
mod corpus;
mod deploy;
mod floor;
mod h2load;
mod handshake;
mod http;
mod http2;
mod idle;
mod measure;
mod procfs;
mod publish;
mod report;
mod scenario;
mod servers;
mod settle;
mod sites;
#[cfg(test)]
mod stand_in;
mod stats;
mod tls;
mod wrk;

use bench::{Bench, Samples, Turn};
use cold::Cold;
use corpus::Corpus;
use measure::{Pinned, Sample};
use publish::{Publish, Tool};
use report::{Machine, Options, Report, USUAL_CONGESTION_CONTROL};
use scenario::{Scenario, Work};
use servers::{Missing, OURS, Place, Server, find_program};
use sites::Sites;
use tls::Identity;

/// Measure Pinstone beside the file servers that are installed
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  pinstone-load                                 everything, five rounds
  pinstone-load --list                          name the scenarios, and what is not installed
  pinstone-load --only 1k,100k,'h2-*'           some scenarios
  pinstone-load --servers pinstone,nginx        some servers
  pinstone-load --folder ~/my-site              one's own files too
  pinstone-load --rounds 1 --seconds 1          see that all works; such figures mean nothing"
)]
struct Args {
    #[command(subcommand)]
    command: Option<Subcommands>,
    /// How often every server has its turn in every scenario
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long a turn is
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    seconds: u16,
    /// Scenarios to measure, by name; a `*` at the end stands for anything
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Scenarios to leave out
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    skip: Vec<String>,
    /// Servers to measure, by name [default: all that are installed]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,
    /// Serve the files of a folder too, and measure them at random
    #[arg(long, value_name = "DIR")]
    folder: Vec<PathBuf>,
    /// What the corpus is made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many small files are published
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    publish_files: usize,
    /// The core that servers run on
    #[arg(long, value_name = "N", default_value_t = 0)]
    server_core: usize,
    /// The core that load generators run on
    #[arg(long, value_name = "N", default_value_t = 1)]
    client_core: usize,
    /// The Pinstone to measure [default: `pinstone` beside this program]
    #[arg(long, value_name = "FILE")]
    pinstone: Option<PathBuf>,
    /// Another Pinstone, such as one without a change, to measure beside as the server `before`
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIR", default_value = "target/load")]
    out: PathBuf,
    /// Where temporary files go; needs some 4 GB, and 2 more with --before [default: the system's]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Name scenarios, servers and what is missing, and measure nothing
    #[arg(long)]
    list: bool,
    /// Start every server and compare what it answers with the files, and measure nothing
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Answer every request with the same 1 KiB
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        port: u16,
    },
}

/// Reasons why a scenario (with an empty name) or a contestant in it was not measured.
type Skips = BTreeMap<(String, String), String>;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.command {
        Some(Subcommands::Floor { port }) => floor::serve(port),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let pinstone = match &args.pinstone {
        Some(file) => file.clone(),
        None => std::env::current_exe()?.with_file_name("pinstone"),
    };
    // Commands run in folders of their own.
    let there = |file: &PathBuf| file.canonicalize().with_context(|| format!("{} is not there", file.display()));
    let (pinstone, before) = (there(&pinstone)?, args.before.as_ref().map(there).transpose()?);
    let (mut servers, mut missing) = Server::find(&pinstone, before.as_deref())?;
    for (name, install) in [
        ("wrk", "apt-get install wrk"),
        ("h2load", "apt-get install nghttp2-client"),
        ("rsync", "apt-get install rsync"),
        ("taskset", "apt-get install util-linux"),
    ] {
        if find_program(name).is_none() {
            missing.push(Missing { name, install: install.to_owned() });
        }
    }
    for missing in &missing {
        eprintln!("not installed: {}; to measure with it: {}", missing.name, missing.install);
    }
    if !args.servers.is_empty() {
        for name in &args.servers {
            ensure!(servers.iter().any(|server| server.name == name), "there is no server `{name}` here");
        }
        servers.retain(|server| server.is_pinstone() || args.servers.iter().any(|name| name == server.name));
    }
    let temporary = tempfile::Builder::new();
    let folder = match &args.work {
        Some(work) => temporary.tempdir_in(work),
        None => temporary.tempdir(),
    };
    let folder = folder.context("no room for temporary files")?;
    if args.list {
        list(args, &servers);
        return Ok(());
    }
    for tool in ["wrk", "taskset"] {
        ensure!(!missing.iter().any(|missing| missing.name == tool), "`{tool}` is needed and not installed");
    }
    let cores = Pinned { server: args.server_core, client: args.client_core };
    pin(cores)?;
    // Servers may become other users, who have to reach the files.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), readable)?;
    measure(args, cores, servers, missing, folder.path())
}

fn list(args: &Args, servers: &[Server]) {
    for server in servers {
        println!("server    {:20} {}", server.name, server.version);
    }
    for scenario in scenario::all(&titles(args), args.publish_files) {
        println!("scenario  {:20} {}", scenario.name, scenario.title);
    }
}

/// What the scenarios of one's own files are called.
fn titles(args: &Args) -> Vec<String> {
    args.folder.iter().map(|folder| format!("files of {}, at random", folder.display())).collect()
}

/// Everything from the corpus to the report.
fn measure(
    args: &Args,
    cores: Pinned,
    servers: Vec<Server>,
    missing: Vec<Missing>,
    folder: &std::path::Path,
) -> Result<()> {
    let (rounds, seconds) = (usize::from(args.rounds), u64::from(args.seconds));
    let machine = Machine::look();
    if machine.congestion_control != USUAL_CONGESTION_CONTROL {
        eprintln!(
            "congestion control is {} here, {USUAL_CONGESTION_CONTROL} on most systems, and what large answers cost depends on it; \
             for figures like theirs: sysctl -w net.ipv4.tcp_congestion_control={USUAL_CONGESTION_CONTROL}",
            machine.congestion_control
        );
    }
    let versions = report::versions(&servers);
    eprintln!("writing the corpus");
    let corpus = Corpus::create(&folder.join("root"), args.seed, &args.folder)?;
    let scenarios = selected(args, scenario::all(&titles(args), args.publish_files))?;
    let place = Place {
        folder: folder.to_owned(),
        root: corpus.root.clone(),
        data: folder.join("data"),
        cores: cores.server.to_string(),
        group: None,
        tls: None,
    };
    let own = servers.iter().find(|server| server.name == OURS).context("Pinstone is always there")?.clone();
    eprintln!("publishing it");
    for server in servers.iter().filter(|server| server.is_pinstone()) {
        deploy::publish(server, &place)?;
    }
    // Either all that can serve TLS or none, so that starts compare.
    let with_tls = args.check || !own.is_pinstone_without_tls();
    let tls = if with_tls { Some(Arc::new(Identity::create(folder)?)) } else { None };
    let mut bench = Bench::start(Place { tls, ..place }, corpus, cores, seconds, args.seed, servers)?;
    let names = bench.names();
    let checked = bench.check_bytes()?;
    eprintln!("{checked} answers have the bytes of their files: {}", names.join(", "));
    for (name, reason) in bench.without_tls() {
        eprintln!("without TLS: {name} {reason}");
    }
    if args.check {
        return Ok(());
    }

    let mut run = Run { samples: Samples::new(), skips: Skips::new() };
    let files = Publish::new(folder.join("publish"), args.seed, args.publish_files, own.clone());
    let site_folder = folder.join("sites");
    std::fs::create_dir_all(&site_folder)?;
    let no_tls = own.is_pinstone_without_tls();
    let mut sites = Sites::new(site_folder, args.seed, seconds, cores, own);
    let wants_cold = scenarios.iter().any(|scenario| matches!(scenario.work, Work::Cold));
    let cold = if wants_cold { Some(Cold::new(&folder.join("cold"), args.seed, seconds, cores)) } else { None };
    let cold = match cold.transpose() {
        Ok(cold) => cold,
        Err(error) => {
            run.skips.insert(("cold".to_owned(), String::new()), format!("memory cannot be bounded: {error:#}"));
            None
        }
    };
    run.note_what_cannot_be(&scenarios, &sites, no_tls, missing.iter().any(|missing| missing.name == "h2load"));
    let mut progress = Progress::new(scenarios.len() - run.skipped(), rounds);
    let options = Options {
        rounds,
        seconds,
        seed: args.seed,
        server_core: cores.server,
        client_core: cores.client,
        tls: with_tls.then(tls::description),
    };
    let mut report = Report { machine, options, versions, missing, scenarios: Vec::new() };
    for round in 0..rounds {
        for (number, scenario) in scenarios.iter().enumerate() {
            if run.skips.contains_key(&(scenario.name.clone(), String::new())) {
                continue;
            }
            progress.step(round, scenario);
            match scenario.work {
                Work::Cold => {
                    let Some(cold) = &cold else { continue };
                    for server in bench::order(names.len(), round, number) {
                        let turn = cold.turn(bench.server(server));
                        run.keep(scenario, names[server], turn);
                    }
                }
                Work::Sites { sites: count } => run.keep(scenario, OURS, sites.load(count).map(Turn::Measured)),
                Work::ColdStartOfSites { sites: count } => {
                    run.keep(scenario, OURS, sites.cold_start(count).map(Turn::Measured));
                }
                // One flow measures all three, so the first that is selected makes it.
                Work::Publish if scenarios[..number].iter().any(|before| matches!(before.work, Work::Publish)) => {}
                Work::Publish => run.publish(&scenarios, &files, round)?,
                _ => {
                    for server in bench::order(names.len(), round, number) {
                        let turn = bench.turn(scenario, server);
                        run.keep(scenario, names[server], turn);
                    }
                }
            }
        }
        // After each round, so that a run that is broken off leaves a report.
        report.scenarios = run.compare(&scenarios, &names);
        report.write(&args.out)?;
    }
    println!("{}", report::terminal(&report));
    println!("report: {}", args.out.join("report.md").display());
    Ok(())
}

/// What was measured so far.
#[derive(Debug)]
struct Run {
    samples: Samples,
    skips: Skips,
}

impl Run {
    fn note_what_cannot_be(&mut self, scenarios: &[Scenario], sites: &Sites, no_tls: bool, lacks_h2load: bool) {
        let no_sites = sites.unavailable();
        for scenario in scenarios {
            let reason = match scenario.work {
                _ if no_tls && scenario.work.needs_tls() => Some("this Pinstone has no `serve --tls-listen`"),
                Work::Sites { .. } | Work::ColdStartOfSites { .. } => no_sites,
                Work::Http2 { .. } if lacks_h2load => Some("`h2load` is not installed"),
                _ => None,
            };
            if let Some(reason) = reason {
                self.skips.insert((scenario.name.clone(), String::new()), reason.to_owned());
            }
        }
    }

    /// How many scenarios are not measured at all.
    fn skipped(&self) -> usize {
        self.skips.keys().filter(|(_, contestant)| contestant.is_empty()).count()
    }

    /// Keeps what a turn gave. A turn that failed is told and noted, and the others go on.
    fn keep(&mut self, scenario: &Scenario, name: &str, turn: Result<Turn>) {
        let reason = match turn {
            Ok(Turn::Measured(sample)) => return self.add(&scenario.name, name, sample),
            Ok(Turn::Skipped(reason)) => reason,
            Err(error) => {
                eprintln!("warning: {}, {name}: {error:#}", scenario.name);
                format!("failed: {error:#}")
            }
        };
        self.skips.insert((scenario.name.clone(), name.to_owned()), reason);
    }

    fn add(&mut self, scenario: &str, name: &str, sample: Sample) {
        if sample.errors > 0 {
            eprintln!("warning: {scenario}, {name}: {} answers were lost or wrong", sample.errors);
        }
        self.samples.entry(scenario.to_owned()).or_default().entry(name.to_owned()).or_default().push(sample);
    }

    fn publish(&mut self, scenarios: &[Scenario], files: &Publish, round: usize) -> Result<()> {
        for turn in bench::order(Tool::ALL.len(), round, 0) {
            let tool = Tool::ALL[turn];
            for (name, sample) in files.flow(tool, round)? {
                if !scenarios.iter().any(|scenario| scenario.name == name) {
                    continue;
                }
                match sample {
                    Ok(sample) => self.add(name, tool.name(), sample),
                    Err(reason) => {
                        self.skips.insert((name.to_owned(), tool.name().to_owned()), reason);
                    }
                }
            }
        }
        Ok(())
    }

    fn compare(&self, scenarios: &[Scenario], servers: &[&str]) -> Vec<report::Compared> {
        let tools: Vec<&str> = Tool::ALL.map(Tool::name).into();
        let contestants = |scenario: &Scenario| match scenario.work {
            Work::Publish => tools.clone(),
            Work::Sites { .. } | Work::ColdStartOfSites { .. } => vec![OURS],
            _ => servers.to_vec(),
        };
        scenarios
            .iter()
            .map(|scenario| report::compare(scenario, &contestants(scenario), &self.samples, &self.skips))
            .collect()
    }
}

/// Tells how far the run is.
#[derive(Debug)]
struct Progress {
    began: Instant,
    step: usize,
    steps: usize,
    rounds: usize,
}

impl Progress {
    fn new(scenarios: usize, rounds: usize) -> Self {
        Self { began: Instant::now(), step: 0, steps: scenarios * rounds, rounds }
    }

    fn step(&mut self, round: usize, scenario: &Scenario) {
        let left = match u32::try_from(self.step) {
            Ok(done) if done > 2 => {
                let each = self.began.elapsed() / done;
                let left = each * u32::try_from(self.steps.saturating_sub(self.step)).unwrap_or(u32::MAX);
                format!(", some {} min left", left.max(Duration::from_secs(60)).as_secs() / 60)
            }
            _ => String::new(),
        };
        eprintln!("round {} of {}: {}{left}", round + 1, self.rounds, scenario.title);
        self.step += 1;
    }
}

/// The scenarios that are asked for.
fn selected(args: &Args, all: Vec<Scenario>) -> Result<Vec<Scenario>> {
    let matches = |pattern: &String, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    for pattern in args.only.iter().chain(&args.skip) {
        if !all.iter().any(|scenario| matches(pattern, &scenario.name)) {
            bail!("there is no scenario `{pattern}`; `--list` names them");
        }
    }
    let among = |patterns: &[String], scenario: &Scenario| patterns.iter().any(|one| matches(one, &scenario.name));
    Ok(all
        .into_iter()
        .filter(|scenario| args.only.is_empty() || among(&args.only, scenario))
        .filter(|scenario| !among(&args.skip, scenario))
        .collect())
}

/// Pins this process, and so the load generators that it starts, to their core. Servers are pinned when they start.
fn pin(cores: Pinned) -> Result<()> {
    let known = procfs::cores()?;
    ensure!(cores.server != cores.client, "server and load generator need a core each");
    for core in [cores.server, cores.client] {
        ensure!(known.each.contains_key(&core), "there is no core {core}: the machine has {}", known.each.len());
    }
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", &cores.client.to_string(), &std::process::id().to_string()]);
    let output = command.stdin(Stdio::null()).output().context("cannot run `taskset`")?;
    ensure!(
        output.status.success(),
        "cannot pin to core {}: {}",
        cores.client,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
