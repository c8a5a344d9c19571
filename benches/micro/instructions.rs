//! How many instructions a request costs, counted by callgrind: a guard that no clock and no busy machine can upset.
//!
//! The edge answers over a real connection, and client and edge share one thread and one runtime, so that the order of
//! events is the same in every run. Each scenario is counted with two numbers of requests; what both runs have in
//! common (the start, the warming of caches) cancels out, and what is left is the price of the requests between. The
//! client's part, two calls to the socket, is in the figure.
//!
//! `check` compares with `instructions.toml`, `record` writes it, `run SCENARIO REQUESTS` is what is counted.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use pinstone_edge::{Edge, EdgeConfig, Listeners};
use pinstone_engine::Engine;
use pinstone_engine::clock::{Clock, UnixMillis};
use pinstone_engine::hash::BlobHash;
use pinstone_engine::host::{HostName, Hosts};
use pinstone_engine::manifest::Settings;
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::path::SitePath;
use pinstone_engine::plan::{NewPlan, PlannedFile};
use pinstone_engine::publish::{CommitRequest, ReleaseRequest};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// The numbers of requests of the two runs.
const REQUESTS: (u64, u64) = (300, 1_500);
/// Answered before those that are asked for, so that every cache has what it is going to have.
const WARM_UP: u64 = 50;
/// How often a scenario is counted when the budget is recorded. Rounds differ by some tenths of a percent: the start is
/// not the same to the last instruction, and caches are tidied by the clock.
const ROUNDS: usize = 5;
/// How often a scenario that seems too dear is counted: what disturbs a count only ever adds to it.
const TRIES: usize = 3;
/// Bytes of the page that is asked for.
const PAGE: usize = 1024;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// A page of 1 KiB.
    Small,
    /// The same page, which the client has.
    NotModified,
    /// A page that is not there, answered with the site's 404 page.
    NotFound,
    /// A page of 1 KiB over HTTP/2.
    Http2,
}

impl Scenario {
    const ALL: [Self; 4] = [Self::Small, Self::NotModified, Self::NotFound, Self::Http2];

    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::NotModified => "not_modified",
            Self::NotFound => "not_found",
            Self::Http2 => "http2",
        }
    }

    fn request(self) -> String {
        let (path, field) = match self {
            Self::Small | Self::Http2 => ("/docs/page-117.html", String::new()),
            Self::NotModified => {
                let etag = &BlobHash::of(&page(117)).to_string()[..32];
                ("/docs/page-117.html", format!("If-None-Match: \"{etag}\"\r\n"))
            }
            Self::NotFound => ("/docs/page-999.html", String::new()),
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: bench.localhost\r\nUser-Agent: pinstone-micro\r\nAccept: */*\r\n\
             Accept-Encoding: gzip, br\r\n{field}\r\n"
        )
    }

    fn status_line(self) -> &'static [u8] {
        match self {
            Self::Small | Self::Http2 => b"HTTP/1.1 200 ",
            Self::NotModified => b"HTTP/1.1 304 ",
            Self::NotFound => b"HTTP/1.1 404 ",
        }
    }
}

/// What a request may cost, and how that was found.
#[derive(Debug, Deserialize, Serialize)]
struct Budget {
    /// What more than the budget is still accepted, in percent.
    allowed_excess_percent: f64,
    /// By scenario.
    instructions: std::collections::BTreeMap<String, Figure>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Figure {
    /// Instructions per request: the median of all rounds.
    per_request: u64,
    /// The lowest and the highest of the rounds.
    lowest: u64,
    highest: u64,
}

/// What the budget's file begins with.
const HEAD: &str = "\
# Instructions per request, counted by callgrind: what `make instructions` compares with. Written by
# `make instructions-record`, never by hand but for `allowed_excess_percent`.
#
# They are of the dev profile, which is what CI compiles: Pinstone's own crates without optimisation, their
# dependencies with opt-level 2. So they say whether a change made a request dearer, not what a request costs in the
# optimised profile. Client and edge are both counted. The compiler (rust-toolchain.toml) and Cargo.lock belong to the
# figures, and so do the C library's and the processor's ways to copy memory: record them anew when those change.

";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments {
        ["run", scenario, requests] => run(scenario, requests).map(|()| true),
        ["check"] => check(),
        ["record"] => record().map(|()| true),
        _ => {
            eprintln!("usage: instructions check | record | run SCENARIO REQUESTS");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn budget_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml")
}

/// Counts every scenario, and says whether all are within the budget.
fn check() -> Result<bool> {
    ensure!(cfg!(debug_assertions), "the budget is of the dev profile; run `make instructions`");
    let file = budget_file();
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let budget: Budget = toml::from_str(&text).with_context(|| format!("cannot read {}", file.display()))?;
    let mut within = true;
    for scenario in Scenario::ALL {
        let Some(figure) = budget.instructions.get(scenario.name()) else {
            bail!("{} has no figure for {}", file.display(), scenario.name());
        };
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let excess_of = |counted: u64| (counted as f64 / figure.per_request as f64 - 1.0) * 100.0;
        let mut counted = count(scenario)?;
        for _ in 1..TRIES {
            if excess_of(counted) <= budget.allowed_excess_percent {
                break;
            }
            counted = counted.min(count(scenario)?);
        }
        let excess = excess_of(counted);
        let verdict = if excess > budget.allowed_excess_percent {
            within = false;
            "too many"
        } else if excess < -budget.allowed_excess_percent {
            "fewer: record them, so that they stay"
        } else {
            "as recorded"
        };
        println!(
            "{:<13} {counted} instructions a request, {excess:+.2} % of {}: {verdict}",
            scenario.name(),
            figure.per_request
        );
    }
    if !within {
        eprintln!("error: a request costs more than {} % above {}", budget.allowed_excess_percent, file.display());
        eprintln!("hint: where it is worth its price, `make instructions-record` and say why in the commit");
    }
    Ok(within)
}

/// Counts every scenario several times, and writes the budget.
fn record() -> Result<()> {
    ensure!(cfg!(debug_assertions), "the budget is of the dev profile; run `make instructions-record`");
    let file = budget_file();
    let earlier = fs::read_to_string(&file).ok().and_then(|text| toml::from_str::<Budget>(&text).ok());
    let allowed_excess_percent = earlier.map_or(3.0, |earlier| earlier.allowed_excess_percent);
    let mut budget = Budget { allowed_excess_percent, instructions: Default::default() };
    for scenario in Scenario::ALL {
        let mut counted = (0..ROUNDS).map(|_| count(scenario)).collect::<Result<Vec<_>>>()?;
        counted.sort_unstable();
        let figure = Figure { per_request: counted[ROUNDS / 2], lowest: counted[0], highest: counted[ROUNDS - 1] };
        println!("{:<13} {figure:?}", scenario.name());
        budget.instructions.insert(scenario.name().to_owned(), figure);
    }
    let text = format!("{HEAD}{}", toml::to_string(&budget)?);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// Instructions per request of a scenario.
fn count(scenario: Scenario) -> Result<u64> {
    let (few, many) = (callgrind(scenario, REQUESTS.0)?, callgrind(scenario, REQUESTS.1)?);
    let difference = many.checked_sub(few).context("more requests took fewer instructions")?;
    Ok(difference / (REQUESTS.1 - REQUESTS.0))
}

/// Runs this program under callgrind, and reads how many instructions it took.
fn callgrind(scenario: Scenario, requests: u64) -> Result<u64> {
    let program = std::env::current_exe()?;
    // The profile is kept beside the program, for `callgrind_annotate`.
    let profile = program.with_file_name(format!("callgrind.{}.{requests}", scenario.name()));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .args(["run", scenario.name(), &requests.to_string()])
        .output()
        .context("cannot run `valgrind`; `.ci/setup --checks` installs it")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the counted program failed:\n{told}");
    let collected = told.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim());
    let collected = collected.with_context(|| format!("valgrind does not say what it counted:\n{told}"))?;
    collected.parse().with_context(|| format!("`{collected}` is no count"))
}

/// Answers requests of one scenario, and ends.
fn run(scenario: &str, requests: &str) -> Result<()> {
    let named = Scenario::ALL.into_iter().find(|known| known.name() == scenario);
    let scenario = named.with_context(|| format!("there is no scenario `{scenario}`"))?;
    let requests: u64 = requests.parse().with_context(|| format!("`{requests}` is no number"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Time stands still, so that no date is written anew in one run and not in the other.
        let engine = Engine::in_memory(Clock::manual(UnixMillis(1_700_000_000_000))).await;
        publish(&engine).await?;
        let hosts = Hosts::new(&HostName::parse("localhost")?, None);
        let config = EdgeConfig::new(hosts, Handle::current());
        let listeners = Listeners::bind(&["127.0.0.1:0".parse()?], NonZeroUsize::MIN)?;
        let address = *listeners.addresses().first().context("nothing is listened on")?;
        let edge = Edge::new(config, engine.resolver(), None)?;
        let stop = CancellationToken::new();
        let client = async {
            let asked = match scenario {
                Scenario::Http2 => ask_http2(address, WARM_UP + requests).await,
                _ => ask(address, scenario, WARM_UP + requests).await,
            };
            stop.cancel();
            asked
        };
        let (served, asked) = tokio::join!(edge.serve_here(listeners, stop.clone()), client);
        served?;
        asked?;
        engine.close().await;
        Ok(())
    })
}

/// Asks again and again, on one connection, each time when the last answer is there.
async fn ask(address: SocketAddr, scenario: Scenario, times: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = scenario.request().into_bytes();
    let mut answer = vec![0; 16 << 10];
    // All answers are as long as the first one, which is whole when it has been read: it is written at once.
    let mut length = 0;
    for _ in 0..times {
        stream.write_all(&request).await?;
        let mut read = stream.read(&mut answer).await?;
        while read > 0 && read < length {
            read += stream.read(&mut answer[read..]).await?;
        }
        if length == 0 {
            length = read;
        }
        ensure!(
            read == length && answer.starts_with(scenario.status_line()),
            "an answer is another one:\n{}",
            String::from_utf8_lossy(&answer[..read])
        );
    }
    Ok(())
}

/// The same over HTTP/2, a stream each.
async fn ask_http2(address: SocketAddr, times: u64) -> Result<()> {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;
    const END_STREAM: u8 = 1;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    // From the static table, or as literals that enter no table: each request is as long as the last (RFC 7541 section 6).
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or(u8::MAX)][..], text.as_bytes()].concat();
    let mut fields = vec![0x82, 0x86];
    for (name, value) in [
        (&[0x04][..], "/docs/page-117.html"),
        (&[0x01], "bench.localhost"),
        (&[0x0f, 58 - 15], "pinstone-micro"),
        (&[0x0f, 19 - 15], "*/*"),
        (&[0x0f, 16 - 15], "gzip, br"),
    ] {
        fields.extend_from_slice(name);
        fields.extend(text(value));
    }
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let widest = ((1_u32 << 31) - 1 - 65_535).to_be_bytes();
    let begin =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, &[])[..], &frame(WINDOW_UPDATE, 0, 0, &widest)];
    stream.write_all(&begin.concat()).await?;
    let (page, mut answer) = (page(117), Vec::with_capacity(16 << 10));
    for number in 0..u32::try_from(times)? {
        let id = 1 + 2 * number;
        stream.write_all(&frame(HEADERS, END_STREAM | 4, id, &fields)).await?;
        answer.clear();
        // The last frame of an answer is its page.
        while !answer.ends_with(&page) {
            ensure!(stream.read_buf(&mut answer).await? > 0, "an answer did not come");
            ensure!(answer.len() < 8 << 10, "an answer is another one: {answer:?}");
        }
    }
    Ok(())
}

/// The bytes of a page.
fn page(number: usize) -> Vec<u8> {
    format!("<!doctype html><title>Page {number}</title>\n").into_bytes().into_iter().cycle().take(PAGE).collect()
}

/// Publishes a site of 200 pages and a 404 page as `bench`.
async fn publish(engine: &Engine) -> Result<()> {
    let owner = engine.owner_principal();
    let mut contents: Vec<(String, Vec<u8>)> =
        (0..200).map(|number| (format!("docs/page-{number:03}.html"), page(number))).collect();
    contents.push(("404.html".to_owned(), page(404)));
    let planned = |(path, content): &(String, Vec<u8>)| {
        Ok(PlannedFile {
            path: SitePath::new(path.as_str())?,
            blob: BlobHash::of(content),
            size: Some(content.len() as u64),
            content_type: None,
        })
    };
    let new = NewPlan {
        project: "bench".parse()?,
        files: contents.iter().map(planned).collect::<Result<_>>()?,
        git: None,
        message: None,
        settings: Settings::default(),
    };
    let plan = engine.plan(&owner, new, None).await?;
    for (_, content) in contents {
        let hash = BlobHash::of(&content);
        let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(content))]);
        engine.upload(&owner, plan.id, hash, None, body).await?;
    }
    let committed = engine.commit(&owner, CommitRequest { plan: plan.id, message: None, strict: false }, None).await?;
    let release = ReleaseRequest {
        project: "bench".parse()?,
        environment: EnvironmentName::prod(),
        image: Some(committed.image),
        expected: None,
        message: None,
    };
    engine.release(&owner, release, None).await?;
    Ok(())
}
