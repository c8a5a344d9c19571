//! What a run found: the model that is written as JSON, and that Markdown, terminal and charts are made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::Samples;
use crate::measure::{Metric, Sample};
use crate::scenario::Scenario;
use crate::servers::{BEFORE, Missing, OURS, Server, find_program, version};
use crate::stats::{Summary, ratio};

mod chart;
mod table;

pub(crate) use table::{figure, terminal};

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) options: Options,
    /// Servers and tools with their versions.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) missing: Vec<Missing>,
    pub(crate) scenarios: Vec<Compared>,
}

/// The kernel's own choice, which distributions leave as it is.
pub(crate) const USUAL_CONGESTION_CONTROL: &str = "cubic";

/// Where the kernel says by which algorithm new connections control congestion.
const CONGESTION_CONTROL: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    /// What the kernel controls TCP's congestion with. It is no detail of loopback: with BBR a timer says when each packet may go.
    pub(crate) congestion_control: String,
    /// When it began, in UTC.
    pub(crate) date: String,
}

/// How it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) server_core: usize,
    pub(crate) client_core: usize,
    /// What TLS is, where there is TLS.
    pub(crate) tls: Option<String>,
}

/// A scenario, and how all did in it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) title: String,
    /// The figure that is compared.
    pub(crate) lead: Metric,
    pub(crate) lower_is_better: bool,
    /// Servers, or for publishing programs, in a fixed order.
    pub(crate) results: Vec<Contestant>,
    /// Pinstone's median by that of another Pinstone.
    pub(crate) by_before: Option<f64>,
    /// Pinstone's median by nginx's.
    pub(crate) by_nginx: Option<f64>,
    /// Pinstone's median by that of the best peer.
    pub(crate) by_best: Option<ByBest>,
    /// Why nothing was measured.
    pub(crate) skipped: Option<String>,
}

/// A ratio to the best peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ByBest {
    pub(crate) peer: String,
    pub(crate) ratio: f64,
}

/// How one did.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) metrics: BTreeMap<Metric, Summary>,
    pub(crate) rounds: usize,
    /// Rounds in which the load generator was the limit.
    pub(crate) generator_limited: usize,
    /// Rounds in which it was while the load ran alone.
    pub(crate) alone_limited: usize,
    /// Rounds in which others used the machine, and the largest share of a core that they took.
    pub(crate) disturbed: usize,
    pub(crate) others: f64,
    /// Lost or wrong answers in all rounds.
    pub(crate) errors: u64,
    pub(crate) skipped: Option<String>,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let cpu = read("/proc/cpuinfo");
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let memory: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output();
        Self {
            cores: cpu.lines().filter(|line| line.starts_with("processor")).count(),
            cpu: field(&cpu, "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_mib: memory / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            congestion_control: read(CONGESTION_CONTROL).trim().to_owned(),
            date: date
                .map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        }
    }
}

/// The versions of all that takes part.
pub(crate) fn versions(servers: &[Server]) -> BTreeMap<String, String> {
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    for server in servers.iter().filter(|server| !server.is_floor()) {
        versions.insert(server.name.to_owned(), server.version.clone());
    }
    for (tool, flag) in [("wrk", "-v"), ("h2load", "--version"), ("rsync", "--version"), ("cp", "--version")] {
        let found = find_program(tool).and_then(|program| version(&program, flag));
        versions.extend(found.map(|version| (tool.to_owned(), version)));
    }
    versions
}

/// Sums up the samples of a scenario. `skips` says of contestants and of the scenario itself (by the empty name) why
/// they were not measured.
pub(crate) fn compare(
    scenario: &Scenario,
    contestants: &[&str],
    samples: &Samples,
    skips: &BTreeMap<(String, String), String>,
) -> Compared {
    let none = BTreeMap::new();
    let measured = samples.get(&scenario.name).unwrap_or(&none);
    let skip = |name: &str| skips.get(&(scenario.name.clone(), name.to_owned())).cloned();
    let results: Vec<Contestant> = contestants
        .iter()
        .map(|&name| contestant(name, measured.get(name).map_or(&[], Vec::as_slice), skip(name)))
        .collect();
    let lower_is_better = scenario.lead.lower_is_better();
    let medians = || {
        // Figures with lost or wrong answers in them are compared with nothing.
        let median = |one: &Contestant| Some((one.name.clone(), one.metrics.get(&scenario.lead)?.median));
        results.iter().filter(|one| one.errors == 0).filter_map(median)
    };
    let ours = medians().find(|(name, _)| name == OURS).map(|(_, median)| median);
    let others = [OURS, BEFORE, "floor"];
    let of = |theirs: f64| ours.and_then(|ours| ratio(ours, theirs));
    let peers = medians().filter(|(name, _)| !others.contains(&name.as_str()));
    let best =
        peers.min_by(|(_, one), (_, other)| if lower_is_better { one.total_cmp(other) } else { other.total_cmp(one) });
    let by = |other: &str| medians().find(|(name, _)| name == other).and_then(|(_, theirs)| of(theirs));
    Compared {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        lead: scenario.lead,
        lower_is_better,
        by_before: by(BEFORE),
        by_nginx: by("nginx"),
        by_best: best.and_then(|(peer, theirs)| Some(ByBest { peer, ratio: of(theirs)? })),
        skipped: skip(""),
        results,
    }
}

fn contestant(name: &str, samples: &[Sample], skipped: Option<String>) -> Contestant {
    let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    for (metric, value) in samples.iter().flat_map(|sample| &sample.values) {
        values.entry(*metric).or_default().push(*value);
    }
    let metrics = values.into_iter().filter_map(|(metric, values)| Some((metric, Summary::of(&values)?))).collect();
    Contestant {
        name: name.to_owned(),
        metrics,
        rounds: samples.len(),
        generator_limited: samples.iter().filter(|sample| sample.generator_limited).count(),
        alone_limited: samples.iter().filter(|sample| sample.alone_limited).count(),
        disturbed: samples.iter().filter(|sample| sample.disturbed.is_some()).count(),
        others: samples.iter().filter_map(|sample| sample.disturbed).fold(0.0, f64::max),
        errors: samples.iter().map(|sample| sample.errors).sum(),
        skipped,
    }
}

impl Report {
    /// Writes `report.json`, `report.md` and the charts into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut json = serde_json::to_string_pretty(self).context("a report is plain data")?;
        json.push('\n');
        fs::write(folder.join("report.json"), json)?;
        let mut charts = Vec::new();
        for (metric, name) in chart::CHARTS {
            if let Some(svg) = chart::draw(self, metric) {
                fs::write(folder.join(name), svg)?;
                charts.push((metric.title(), name));
            }
        }
        fs::write(folder.join("report.md"), table::markdown(self, &charts))?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::scenario::Work;

    pub(crate) fn sample(metric: Metric, value: f64) -> Sample {
        Sample { values: [(metric, value)].into(), ..Sample::default() }
    }

    pub(crate) fn example() -> Report {
        let scenario = |name: &str, lead| Scenario {
            name: name.to_owned(),
            title: format!("the <{name}> scenario"),
            work: Work::Publish,
            lead,
        };
        let names = ["floor", "pinstone", "nginx", "h2o"];
        let mut samples = Samples::new();
        let mut skips = BTreeMap::new();
        for (server, values) in
            [("floor", [5.0; 3]), ("pinstone", [8.0, 7.0, 6.0]), ("nginx", [10.0; 3]), ("h2o", [5.0; 3])]
        {
            let of = samples.entry("small".to_owned()).or_default().entry(server.to_owned()).or_default();
            of.extend(values.map(|value| sample(Metric::CpuMicros, value)));
            of[1].generator_limited = true;
            of[2].disturbed = Some(0.4);
        }
        for (server, value) in [("pinstone", 3000.0), ("nginx", 2000.0), ("h2o", 1000.0)] {
            samples
                .entry("fast".to_owned())
                .or_default()
                .insert(server.to_owned(), vec![sample(Metric::Requests, value)]);
        }
        if let Some(ours) = samples.get_mut("fast").and_then(|all| all.get_mut("pinstone")) {
            ours[0].values.insert(Metric::ServePeak, 77.0);
        }
        for (server, beside, alone) in
            [("pinstone", 3000.0, [1000.0, 500.0, 600.0]), ("nginx", 800.0, [400.0, 400.0, 400.0])]
        {
            let turns = alone.map(|alone| {
                let mut turn = sample(Metric::P99, beside);
                turn.add_alone(&sample(Metric::P99, alone));
                turn
            });
            samples.entry("fair".to_owned()).or_default().insert(server.to_owned(), turns.into());
        }
        skips.insert(("fast".to_owned(), "floor".to_owned()), "answers a constant".to_owned());
        skips.insert(("tls".to_owned(), String::new()), "no TLS".to_owned());
        let scenarios = [
            ("small", Metric::CpuMicros),
            ("fast", Metric::Requests),
            ("tls", Metric::CpuMicros),
            ("fair", Metric::P99),
        ]
        .map(|(name, lead)| compare(&scenario(name, lead), &names, &samples, &skips));
        Report {
            machine: Machine::look(),
            options: Options {
                rounds: 3,
                seconds: 3,
                seed: 1,
                server_core: 0,
                client_core: 1,
                tls: Some("TLS 1.3".to_owned()),
            },
            versions: [("nginx".to_owned(), "1.22.1".to_owned())].into(),
            missing: vec![Missing { name: "caddy", install: "apt-get install caddy".to_owned() }],
            scenarios: scenarios.into(),
        }
    }

    #[test]
    fn the_best_peer_is_neither_pinstone_nor_the_floor() {
        let report = example();
        let [small, fast, tls, _] = &report.scenarios[..] else { panic!("four scenarios") };
        assert_eq!((small.by_nginx, small.by_best.as_ref().unwrap().ratio), (Some(0.7), 1.4));
        assert_eq!(small.by_best.as_ref().unwrap().peer, "h2o");
        assert_eq!((small.results[1].generator_limited, small.results[1].disturbed), (1, 1));
        let best = fast.by_best.as_ref().unwrap();
        assert_eq!((fast.by_nginx, best.peer.as_str(), best.ratio), (Some(1.5), "nginx", 1.5));
        assert_eq!((tls.by_nginx, &tls.by_best, tls.skipped.as_deref()), (None, &None, Some("no TLS")));
    }

    #[test]
    fn wrong_answers_are_compared_with_nothing() {
        let scenario =
            Scenario { name: "one".to_owned(), title: String::new(), work: Work::Fairness, lead: Metric::CpuMicros };
        for (wrong, by_nginx, by_best) in [
            ("none", Some(2.0), Some(4.0)),
            ("h2o", Some(2.0), Some(2.0)),
            ("nginx", None, Some(4.0)),
            ("pinstone", None, None),
        ] {
            let values = [("pinstone", 8.0), ("before", 1.0), ("nginx", 4.0), ("h2o", 2.0)];
            let of = values.map(|(name, value)| {
                let errors = u64::from(name == wrong);
                (name.to_owned(), vec![Sample { errors, ..sample(Metric::CpuMicros, value) }])
            });
            let samples = [("one".to_owned(), of.into())].into();
            let compared = compare(&scenario, &["pinstone", "before", "nginx", "h2o"], &samples, &BTreeMap::new());
            let best = compared.by_best.map(|best| best.ratio);
            assert_eq!((compared.by_nginx, best), (by_nginx, by_best), "wrong: {wrong}");
            assert_eq!(compared.by_before, by_nginx.or(by_best).map(|_| 8.0), "it is no peer");
        }
    }

    #[test]
    fn a_report_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        example().write(folder.path()).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
        assert_eq!(json["scenarios"][0]["results"][1]["metrics"]["cpu_micros"]["median"], 7.0);
        assert_eq!(json["scenarios"][0]["by_best"]["peer"], "h2o");
        let fair = &json["scenarios"][3]["results"][1]["metrics"];
        assert_eq!((&fair["p99"]["median"], &fair["p99_alone"]["median"]), (&3000.0.into(), &600.0.into()));
        // Of each turn by itself.
        assert_eq!(fair["p99_by_alone"]["rounds"], serde_json::json!([3.0, 6.0, 5.0]));
        for about in ["kernel", "congestion_control"] {
            assert!(json["machine"][about].as_str().is_some_and(|value| !value.is_empty()), "{about}");
        }
        let svg = fs::read_to_string(folder.path().join("cpu.svg")).unwrap();
        assert!(svg.contains("the &lt;small&gt; scenario") && svg.ends_with("</svg>\n"));
        assert!(fs::read_to_string(folder.path().join("report.md")).unwrap().contains("](cpu.svg)"));
    }
}
