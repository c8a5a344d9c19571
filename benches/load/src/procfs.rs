//! What the kernel accounts: CPU of a tree of processes, CPU of a core, resident memory.
//!
//! Parsing is apart from reading. `utime` and `stime` of a process count all of its threads, also those that ended, and
//! their sum is exact to a tick: only how it is split between the two is an estimate. On loopback the sender also does
//! the receiver's share of TCP, inside its own system call, so a server's CPU per answer is all that an answer costs but
//! the client.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// `USER_HZ`: the unit of CPU times in `/proc`. 100 on every architecture but Alpha, whatever `CONFIG_HZ` is.
const TICKS_PER_SECOND: u64 = 100;

/// The parent of the kernel's threads.
const KTHREADD: u32 = 2;

/// A process, as `/proc/PID/stat` tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The command's name, at most 15 bytes.
    pub(crate) name: String,
    /// Its own user and system time, in ticks.
    pub(crate) own: u64,
    /// That of its children that ended and were waited for, in ticks.
    pub(crate) children: u64,
}

/// How a core, or all of them, spent their time, in ticks since the start of the machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct CoreTime {
    /// All but idle and waiting for disks; with what the hypervisor took.
    pub(crate) busy: u64,
    pub(crate) total: u64,
    /// What the hypervisor gave to others.
    pub(crate) stolen: u64,
}

impl CoreTime {
    /// The share of time since `before` that was not idle, 0 to 1.
    pub(crate) fn busy_since(self, before: Self) -> f64 {
        let total = self.total.saturating_sub(before.total);
        if total == 0 { 0.0 } else { self.busy.saturating_sub(before.busy) as f64 / total as f64 }
    }
}

/// The times of all cores together, and of each.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cores {
    pub(crate) all: CoreTime,
    pub(crate) each: HashMap<usize, CoreTime>,
}

/// Ticks as a time.
pub(crate) fn ticks(count: u64) -> Duration {
    Duration::from_millis(count.saturating_mul(1000) / TICKS_PER_SECOND)
}

/// Parses `/proc/PID/stat`. The command's name may hold anything, so fields are counted from the last parenthesis.
pub(crate) fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first here is field 3, `state`; see proc(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        name: name.to_owned(),
        parent: u32::try_from(field(4)?).ok()?,
        own: field(14)? + field(15)?,
        children: field(16)? + field(17)?,
    })
}

/// Parses the `cpu` lines of `/proc/stat`.
pub(crate) fn parse_cores(text: &str) -> Option<Cores> {
    let mut cores = Cores::default();
    let mut seen = false;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("cpu") else { continue };
        let (which, times) = rest.split_once(' ')?;
        let times: Vec<u64> = times.split_ascii_whitespace().map_while(|time| time.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already.
        let [user, nice, system, idle, waiting, irq, softirq, stolen, ..] = times[..] else { return None };
        let busy = user + nice + system + irq + softirq + stolen;
        let time = CoreTime { busy, total: busy + idle + waiting, stolen };
        if which.is_empty() {
            (cores.all, seen) = (time, true);
        } else {
            cores.each.insert(which.parse().ok()?, time);
        }
    }
    seen.then_some(cores)
}

/// Parses `VmRSS` or another size of `/proc/PID/status`, in bytes. A process that ended has none.
pub(crate) fn parse_size(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// `root` and all that descend from it, among `processes`.
pub(crate) fn tree(processes: &[Process], root: u32) -> Vec<&Process> {
    let mut found: Vec<&Process> = processes.iter().filter(|process| process.pid == root).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.pid) {
        found.extend(processes.iter().filter(|process| process.parent == parent && process.pid != parent));
        next += 1;
    }
    found
}

/// The ticks that a tree of processes has used, with those of children that ended.
pub(crate) fn tree_ticks(root: u32) -> Result<u64> {
    let processes = processes()?;
    let tree = tree(&processes, root);
    anyhow::ensure!(!tree.is_empty(), "process {root} ended");
    Ok(tree.iter().map(|process| process.own + process.children).sum())
}

/// The ticks that the kernel's threads for network work took: work of the server and of the load generator that neither
/// is charged for.
pub(crate) fn softirq_ticks() -> Result<u64> {
    let kernel = |process: &&Process| process.parent == KTHREADD && process.name.starts_with("ksoftirqd/");
    Ok(processes()?.iter().filter(kernel).map(|process| process.own).sum())
}

/// The ticks of each thread of the kernel, which does much on account of others, such as writing to disks.
pub(crate) fn kernel_ticks() -> Result<HashMap<u32, u64>> {
    let processes = processes()?;
    let kernel = processes.iter().filter(|process| process.parent == KTHREADD);
    Ok(kernel.map(|process| (process.pid, process.own)).collect())
}

/// What all of them took between two moments. One that ended takes along what it had.
pub(crate) fn grown(before: &HashMap<u32, u64>, after: &HashMap<u32, u64>) -> u64 {
    after.iter().map(|(pid, ticks)| ticks.saturating_sub(before.get(pid).copied().unwrap_or_default())).sum()
}

/// The most resident memory that a process has had, in bytes; `None` once it ended.
pub(crate) fn peak(pid: u32) -> Option<u64> {
    parse_size(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmHWM")
}

/// Has [`peak`] begin anew with what the process has now.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("cannot write /proc/{pid}/clear_refs"))
}

/// The resident memory of a tree of processes, in bytes. Pages that its processes share count once for each.
pub(crate) fn tree_resident(root: u32) -> Result<u64> {
    let processes = processes()?;
    let status = |process: &&Process| fs::read_to_string(format!("/proc/{}/status", process.pid)).ok();
    Ok(tree(&processes, root).iter().filter_map(status).filter_map(|text| parse_size(&text, "VmRSS")).sum())
}

/// What this process and its children that ended used, in ticks.
pub(crate) fn own_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let process = parse_stat(&text).context("/proc/self/stat has another form than proc(5) says")?;
    Ok(process.own + process.children)
}

/// How the cores spent their time.
pub(crate) fn cores() -> Result<Cores> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_cores(&text).context("/proc/stat has another form than proc(5) says")
}

fn processes() -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
            // A process may end between the two reads.
            processes.extend(fs::read_to_string(entry.path().join("stat")).ok().and_then(|text| parse_stat(&text)));
        }
    }
    Ok(processes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_counted_from_the_last_parenthesis() {
        let text = include_str!("../fixtures/pid-stat.txt");
        let want =
            Process { pid: 2893, parent: 2867, name: "cargo".to_owned(), own: 35 + 133, children: 45_417 + 2935 };
        assert_eq!(parse_stat(text), Some(want.clone()));
        let odd = text.replace("(cargo)", "(a (b) c) 1 2 3)");
        assert_eq!(parse_stat(&odd), Some(Process { name: "a (b) c) 1 2 3".to_owned(), ..want }));
        for broken in ["", "1", "1 (x", "1 (x) S 1", "x (y) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"] {
            assert_eq!(parse_stat(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let cores = parse_cores(include_str!("../fixtures/stat.txt")).unwrap();
        let busy = 503_258 + 63_064 + 121_738 + 3478 + 293;
        assert_eq!(cores.all, CoreTime { busy, total: busy + 345_007 + 4670, stolen: 293 });
        assert_eq!(cores.each.len(), 2);
        assert_eq!(cores.each[&0].stolen + cores.each[&1].stolen, 293);
        assert_eq!(parse_cores("intr 5\n"), None);
        assert_eq!(parse_cores("cpu 1 2 3\n"), None);
    }

    #[test]
    fn a_share_is_of_the_time_that_passed() {
        let before = CoreTime { busy: 100, total: 1000, stolen: 0 };
        for (busy, total, want) in [(100, 1000, 0.0), (150, 1100, 0.5), (200, 1100, 1.0)] {
            assert_eq!(CoreTime { busy, total, stolen: 0 }.busy_since(before), want, "{busy} of {total}");
        }
    }

    #[test]
    fn memory_is_in_bytes() {
        let text = "Name:\tnginx\nVmPeak:\t 9 kB\nVmHWM:\t    3072 kB\nVmRSS:\t    2048 kB\nRssAnon:\t 1 kB\n";
        for (text, name, want) in [
            (text, "VmRSS", Some(2 << 20)),
            (text, "VmHWM", Some(3 << 20)),
            (text, "Vm", None),
            ("Name:\tkthreadd\n", "VmRSS", None),
        ] {
            assert_eq!(parse_size(text, name), want, "{name} in {text:?}");
        }
    }

    #[test]
    fn a_process_that_runs_has_a_peak() {
        let pid = std::process::id();
        // Other tests run beside, and not every kernel forgets, so only this much is certain.
        assert!(peak(pid).is_some_and(|bytes| bytes > 100 << 10));
        let _ = forget_peak(pid);
        assert!(peak(pid).is_some_and(|bytes| bytes > 100 << 10));
        assert_eq!(peak(u32::MAX), None);
    }

    #[test]
    fn a_thread_that_ended_takes_nothing_back() {
        let (before, after) = ([(1, 500), (2, 70)].into(), [(2, 75), (3, 4)].into());
        assert_eq!(grown(&before, &after), 9);
    }

    #[test]
    fn a_tree_has_children_of_children() {
        let process = |pid, parent| Process { pid, parent, name: String::new(), own: 0, children: 0 };
        let processes = [process(9, 4), process(1, 0), process(4, 2), process(2, 1), process(5, 1), process(0, 0)];
        let pids = |root| tree(&processes, root).iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(2), [2, 4, 9]);
        assert_eq!(pids(9), [9]);
        assert_eq!(pids(7), [0_u32; 0]);
    }
}
