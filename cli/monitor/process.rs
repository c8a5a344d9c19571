//! The process as Prometheus expects to see one: the standard `process_*` metrics, from `/proc`.
//!
//! What cannot be read is left out; a number that is not known is not zero.

use std::fs;

use pinstone_edge::metrics::{Exposition, Kind};
use rustix::process::{Resource, getrlimit};

/// Ticks in a second, in what `/proc` says to programs: it is 100 on every architecture that Pinstone runs on.
const TICKS: f64 = 100.0;

/// What `/proc/self/stat` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    /// Time on a processor, in ticks.
    cpu: u64,
    threads: u64,
    /// When the process started, in ticks after the machine did.
    start: u64,
}

pub(super) fn write(out: &mut Exposition) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    if let Some(stat) = stat(&read("/proc/self/stat")) {
        let seconds = |ticks: u64| ticks as f64 / TICKS;
        out.family("process_cpu_seconds_total", Kind::Counter, "Time on a processor, of the user and of the system.")
            .sample(&[], seconds(stat.cpu));
        out.gauge("process_threads", "Threads.", stat.threads);
        if let Some(boot) = line(&read("/proc/stat"), "btime ") {
            let start = boot as f64 + seconds(stat.start);
            out.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", start);
        }
    }
    let status = read("/proc/self/status");
    if let Some(kib) = line(&status, "VmRSS:") {
        out.gauge("process_resident_memory_bytes", "Memory that is in RAM.", kib << 10);
    }
    if let Some(kib) = line(&status, "VmSize:") {
        out.gauge("process_virtual_memory_bytes", "Addresses that are in use.", kib << 10);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        out.gauge("process_open_fds", "Descriptors that are open.", descriptors.count());
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        out.gauge("process_max_fds", "Descriptors that may be open.", most);
    }
}

/// Reads `/proc/self/stat`. The second field is the program's name in parentheses, which may hold anything.
fn stat(text: &str) -> Option<Stat> {
    let fields: Vec<u64> =
        text.rsplit_once(')')?.1.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect();
    // The first of them is the fourth of proc(5).
    let field = |number: usize| fields.get(number - 4).copied();
    Some(Stat { cpu: field(14)? + field(15)?, threads: field(20)?, start: field(22)? })
}

/// The first number after `name` at the start of a line.
fn line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_also_with_an_odd_name() {
        let rest = "S 1 2 3 4 -1 6 7 8 9 10 150 50 0 0 20 0 9 0 4711 1 2";
        for name in ["pinstone", "a b", "x) S 1 (y"] {
            let text = format!("42 ({name}) {rest}");
            assert_eq!(stat(&text), Some(Stat { cpu: 200, threads: 9, start: 4711 }), "{name}");
        }
        assert_eq!(stat("42 (short) S 1"), None);
    }

    #[test]
    fn lines_are_found_by_their_start() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t   5120 kB\nbtime 1700000000\n";
        assert_eq!(
            (line(text, "VmRSS:"), line(text, "btime "), line(text, "RSS:")),
            (Some(5120), Some(1_700_000_000), None)
        );
    }
}
