//! One measurement: what a server and the machine did while something ran.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::procfs::{self, CoreTime, Cores};
use crate::stats::ratio;
use crate::wrk::Load;

/// From which share on a core counts as busy all of the time.
const SATURATED: f64 = 0.95;
/// The share of one core that others may take before a measurement counts as disturbed.
const QUIET: f64 = 0.05;
/// What they may take in any case: of a measurement of milliseconds a tick is a large share.
const UNSEEN: Duration = Duration::from_millis(30);

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Server CPU per answer, in microseconds.
    CpuMicros,
    /// Answers per second.
    Requests,
    /// Megabytes (10⁶) per second, heads included.
    Megabytes,
    /// Latencies, in microseconds.
    P50,
    P99,
    P999,
    /// The p99 of the same load alone, just before, in microseconds.
    P99Alone,
    /// How many times as long as alone the p99 is, in one and the same turn.
    P99ByAlone,
    /// Megabytes per second of the large download that runs beside.
    Beside,
    /// Resident memory of one idle connection, in KiB.
    IdleKib,
    /// Session tickets that come with a handshake.
    Tickets,
    /// Milliseconds from start to first answer.
    StartMillis,
    /// Seconds on the clock.
    Seconds,
    /// Seconds of CPU.
    CpuSeconds,
    /// Seconds of CPU that the server uses for itself once a publish was answered.
    AfterSeconds,
    /// The most resident memory of the server, in MiB.
    ServePeak,
    /// The most resident memory of the command, in MiB.
    CommandPeak,
}

impl Metric {
    /// What the report calls it, with its unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::CpuMicros => "server CPU per answer, µs",
            Self::Requests => "answers per second",
            Self::Megabytes => "MB/s",
            Self::P50 => "p50, µs",
            Self::P99 => "p99, µs",
            Self::P999 => "p99.9, µs",
            Self::P99Alone => "p99 alone, µs",
            Self::P99ByAlone => "p99 beside ÷ alone",
            Self::Beside => "MB/s of the download beside",
            Self::IdleKib => "memory per idle connection, KiB",
            Self::Tickets => "session tickets per handshake",
            Self::StartMillis => "start to first answer, ms",
            Self::Seconds => "seconds",
            Self::CpuSeconds => "CPU seconds",
            Self::AfterSeconds => "CPU seconds of the server afterwards",
            Self::ServePeak => "peak memory of the server, MiB",
            Self::CommandPeak => "peak memory of the command, MiB",
        }
    }

    /// Whether less is better.
    pub(crate) fn lower_is_better(self) -> bool {
        !matches!(self, Self::Requests | Self::Megabytes | Self::Beside)
    }
}

/// What one round measured of one server in one scenario.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) values: BTreeMap<Metric, f64>,
    /// The load generator's core had nothing left while the server's had.
    pub(crate) generator_limited: bool,
    /// The same of the run of the load alone, where there was one.
    pub(crate) alone_limited: bool,
    /// The share of one core that others took, where that is more than a quiet machine's.
    pub(crate) disturbed: Option<f64>,
    /// Answers that were lost, or had another status than they should.
    pub(crate) errors: u64,
}

/// What was used while something ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    /// CPU of the server's processes.
    pub(crate) server: Duration,
    /// Shares of the time that the two cores were busy.
    pub(crate) server_core: f64,
    pub(crate) client_core: f64,
    /// What neither the server, nor the load generator, nor the harness used, and its share of one core.
    pub(crate) by_others: Duration,
    pub(crate) others: f64,
}

/// The two cores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Pinned {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

/// Runs `work` against the server with `pid`, and tells what was used. The load generators must be children that `work`
/// waits for.
pub(crate) fn measured<T>(pid: u32, cores: Pinned, work: impl FnOnce() -> Result<T>) -> Result<(T, Usage)> {
    let before = Reading::take(pid)?;
    let done = work()?;
    let after = Reading::take(pid)?;
    Ok((done, usage(&before, &after, cores)))
}

/// Runs work that may use every core and start and end processes, and tells which share of one core others took, where
/// that is more than a quiet machine's. What the kernel does by itself is not theirs: the work makes it write to disks.
pub(crate) fn undisturbed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Option<f64>)> {
    let take = || -> Result<_> {
        // Servers and commands are children of this process.
        let (own, kernel) = (procfs::tree_ticks(std::process::id())?, procfs::kernel_ticks()?);
        Ok((own, kernel, procfs::cores()?.all, Instant::now()))
    };
    let (own, kernel, cores, began) = take()?;
    let done = work()?;
    let (own_after, kernel_after, cores_after, ended) = take()?;
    let known = own_after.saturating_sub(own) + procfs::grown(&kernel, &kernel_after);
    let by_others = by_others(cores, cores_after, known);
    Ok((done, too_much(by_others, share(by_others, ended - began))))
}

/// The time of all cores that is not accounted for.
fn by_others(before: CoreTime, after: CoreTime, known: u64) -> Duration {
    procfs::ticks(after.busy.saturating_sub(before.busy).saturating_sub(known))
}

fn share(part: Duration, of: Duration) -> f64 {
    part.as_secs_f64() / of.as_secs_f64().max(0.01)
}

fn too_much(by_others: Duration, share: f64) -> Option<f64> {
    (share > QUIET && by_others > UNSEEN).then_some(share)
}

/// What the kernel had accounted at one moment.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    cores: Cores,
    server: u64,
    /// This process and what it waited for, and the kernel's share of the network's work.
    own: u64,
}

impl Reading {
    fn take(pid: u32) -> Result<Self> {
        let (server, own) = (procfs::tree_ticks(pid)?, procfs::own_ticks()? + procfs::softirq_ticks()?);
        Ok(Self { cores: procfs::cores()?, server, own, at: Instant::now() })
    }
}

fn usage(before: &Reading, after: &Reading, cores: Pinned) -> Usage {
    let core = |number: usize| {
        let (before, after) = (before.cores.each.get(&number), after.cores.each.get(&number));
        before.zip(after).map_or(0.0, |(before, after)| after.busy_since(*before))
    };
    let server = after.server.saturating_sub(before.server);
    let known = server + after.own.saturating_sub(before.own);
    let by_others = by_others(before.cores.all, after.cores.all, known);
    Usage {
        server: procfs::ticks(server),
        server_core: core(cores.server),
        client_core: core(cores.client),
        by_others,
        others: share(by_others, after.at - before.at),
    }
}

impl Usage {
    /// Whether faster load could have been served.
    pub(crate) fn generator_limited(&self) -> bool {
        self.client_core >= SATURATED && self.server_core < SATURATED
    }

    /// What others took, where that is too much.
    pub(crate) fn disturbed(&self) -> Option<f64> {
        too_much(self.by_others, self.others)
    }
}

impl Sample {
    /// A sample of answers under load. `expects_refusals`: all of them should have a status of 400 and more.
    pub(crate) fn of_load(load: &Load, usage: &Usage, expects_refusals: bool) -> Self {
        let refused_wrongly = if expects_refusals { load.answers.saturating_sub(load.refused) } else { load.refused };
        let answers = load.answers as f64;
        let mut sample = Self { errors: load.lost + refused_wrongly, ..Self::of_usage(usage) };
        sample.values.extend([
            (Metric::CpuMicros, usage.server.as_secs_f64() * 1e6 / answers),
            (Metric::Requests, answers / load.seconds),
            (Metric::Megabytes, load.bytes as f64 / 1e6 / load.seconds),
            (Metric::P50, load.p50),
            (Metric::P99, load.p99),
            (Metric::P999, load.p999),
        ]);
        sample
    }

    /// Adds what the same load gave alone, on the same server in the same turn: `alone` is the sample of that run.
    pub(crate) fn add_alone(&mut self, alone: &Self) {
        self.alone_limited = alone.generator_limited;
        // A ratio is as bad as the worse of its figures, and of wrong answers none is made.
        self.disturbed = self.disturbed.into_iter().chain(alone.disturbed).reduce(f64::max);
        self.errors += alone.errors;
        let (Some(&p99), Some(&p99_alone)) = (self.values.get(&Metric::P99), alone.values.get(&Metric::P99)) else {
            return;
        };
        self.values.insert(Metric::P99Alone, p99_alone);
        let by_alone = ratio(p99, p99_alone).filter(|_| self.errors == 0);
        self.values.extend(by_alone.map(|ratio| (Metric::P99ByAlone, ratio)));
    }

    /// A sample of something else, without values so far.
    pub(crate) fn of_usage(usage: &Usage) -> Self {
        Self { generator_limited: usage.generator_limited(), disturbed: usage.disturbed(), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: Instant, server: u64, own: u64, busy: [u64; 2], total: u64) -> Reading {
        let core = |busy| CoreTime { busy, total, stolen: 0 };
        let all = CoreTime { busy: busy[0] + busy[1], total: 2 * total, stolen: 0 };
        Reading { at, cores: Cores { all, each: [(0, core(busy[0])), (1, core(busy[1]))].into() }, server, own }
    }

    #[test]
    fn usage_tells_server_generator_and_others_apart() {
        let start = Instant::now();
        let before = reading(start, 1000, 2000, [5000, 6000], 9000);
        for (server, own, busy, others, limited, disturbed) in [
            (95, 99, [96, 99], 0.01, false, false), // both cores are busy: the server is the limit
            (60, 98, [61, 98], 0.01, true, false),
            (60, 60, [61, 61], 0.02, false, false),
            (60, 60, [75, 65], 0.2, false, true),
        ] {
            let after = reading(
                start + Duration::from_secs(1),
                1000 + server,
                2000 + own,
                [5000 + busy[0], 6000 + busy[1]],
                9100,
            );
            let usage = usage(&before, &after, Pinned { server: 0, client: 1 });
            assert_eq!(usage.server, Duration::from_millis(server * 10));
            assert!((usage.others - others).abs() < 1e-9, "{usage:?}");
            assert_eq!((usage.generator_limited(), usage.disturbed().is_some()), (limited, disturbed), "{usage:?}");
        }
    }

    #[test]
    fn a_few_ticks_disturb_nothing() {
        for (millis, of, want) in [(40, 1000, None), (60, 1000, Some(0.06)), (30, 100, None), (40, 100, Some(0.4))] {
            let part = Duration::from_millis(millis);
            let found = too_much(part, share(part, Duration::from_millis(of)));
            assert_eq!(found.is_some(), want.is_some(), "{millis} of {of} ms");
            assert!(found.zip(want).is_none_or(|(found, want)| (found - want).abs() < 1e-9), "{millis} of {of} ms");
        }
    }

    #[test]
    fn a_wrong_status_is_an_error_and_a_wanted_one_is_none() {
        let usage = Usage {
            server: Duration::from_millis(500),
            server_core: 0.5,
            client_core: 0.5,
            by_others: Duration::ZERO,
            others: 0.0,
        };
        let load = Load {
            answers: 1000,
            bytes: 2_000_000,
            seconds: 2.0,
            refused: 1000,
            lost: 3,
            p50: 1.0,
            p99: 2.0,
            p999: 3.0,
        };
        let sample = Sample::of_load(&load, &usage, true);
        assert_eq!(sample.errors, 3);
        assert_eq!(Sample::of_load(&load, &usage, false).errors, 1003);
        assert_eq!(sample.values[&Metric::CpuMicros], 500.0);
        assert_eq!(sample.values[&Metric::Requests], 500.0);
        assert_eq!(sample.values[&Metric::Megabytes], 1.0);
    }

    #[test]
    fn what_spoils_the_run_alone_spoils_the_turn() {
        let run = |p99, generator_limited, disturbed, errors| Sample {
            values: [(Metric::P99, p99)].into(),
            generator_limited,
            disturbed,
            errors,
            ..Sample::default()
        };
        for (alone, by_alone, limited, disturbed, errors) in [
            (run(100.0, false, None, 0), Some(2.5), false, Some(0.1), 0),
            (run(100.0, true, Some(0.3), 0), Some(2.5), true, Some(0.3), 0),
            (run(100.0, false, Some(0.06), 2), None, false, Some(0.1), 2),
            (run(0.0, false, None, 0), None, false, Some(0.1), 0),
        ] {
            let mut turn = run(250.0, false, Some(0.1), 0);
            turn.add_alone(&alone);
            assert_eq!(turn.values.get(&Metric::P99ByAlone).copied(), by_alone, "{alone:?}");
            assert_eq!(turn.values[&Metric::P99Alone], alone.values[&Metric::P99], "{alone:?}");
            // The p99 beside is no less the server's own where the load generator was the limit alone.
            assert_eq!((turn.generator_limited, turn.alone_limited), (false, limited), "{alone:?}");
            assert_eq!((turn.disturbed, turn.errors), (disturbed, errors), "{alone:?}");
        }
    }
}
