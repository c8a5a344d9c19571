//! What a key's value may be: from its text to its type, or why not. Pure.
//!
//! Zero is a value only where it means something, such as a cache that keeps nothing; elsewhere a server that takes it
//! could serve nobody, so it is refused here, where the mistake can still name its key. The same goes for values so
//! large that they can only be slips.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;
use pinstone_edge::AccessLogTarget;
use pinstone_engine::blob::pack::MOST_PACKED;
use pinstone_engine::host::HostName;
use pinstone_engine::limits::{LONGEST_MESSAGE, NO_LIMIT};
use tracing_subscriber::EnvFilter;

use super::LogFormat;

/// Beyond it, threads only cost: no machine has as many cores.
const MOST_WORKERS: usize = 1024;
/// Beyond it, a store answers no faster.
const MOST_FETCHES: usize = 4096;
/// Beyond it, the list of a team's domains is not whole.
const MOST_DOMAINS: usize = 10_000;
/// Beyond it, reading a head would reserve more memory than heads are worth.
const MOST_FIELDS: usize = 10_000;
/// Beyond it, a batch that breaks off near its end costs more than it saved.
const LARGEST_BATCH: u64 = 1 << 30;
/// Beyond it, adding a duration to a moment could overflow.
const LONGEST_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Beyond it, nobody can mean it.
const LONGEST_HSTS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Below it, one is guessed; beyond it, nobody finds one.
const PASSWORD_LENGTHS: std::ops::RangeInclusive<usize> = 8..=128;
const ZERO: &str = "it must not be zero";
const OUT_OF_BOUNDS: &str = "the size is out of bounds";

pub(super) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "an address is an IP address and a port, such as `127.0.0.1:8080` or `[::]:80`")
}

pub(super) fn domain(text: &str) -> Result<HostName<'static>, &'static str> {
    host(text).ok().filter(|host| host.ip().is_none()).ok_or("a base domain is a DNS name without a port")
}

pub(super) fn host(text: &str) -> Result<HostName<'static>, &'static str> {
    let wrong = "a control host is a DNS name or an IP address, without a port";
    let parsed = HostName::parse(text).map_err(|_| wrong)?;
    let has_port = text.rsplit_once(':').is_some_and(|(before, _)| !before.contains(':') || before.ends_with(']'));
    if has_port { Err(wrong) } else { Ok(parsed.into_owned()) }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, &'static str> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("a log is `text` or `json`"),
    }
}

/// Reads where the access log goes. That it can be written is found out when it is opened.
pub(super) fn access_log(text: &str) -> Result<AccessLogTarget, &'static str> {
    match text {
        "" => Err("an access log is a file, or `-` for standard output"),
        "-" => Ok(AccessLogTarget::Stdout),
        path => Ok(AccessLogTarget::File(path.into())),
    }
}

/// Reads what is on or off.
pub(super) fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        _ => Err("it is `true` or `false`"),
    }
}

pub(super) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| format!("not a filter: {error}"))
}

/// Reads a number; zero stands for none.
pub(super) fn count_or_zero(text: &str) -> Result<usize, &'static str> {
    text.replace('_', "").parse().map_err(|_| "not a whole number, or out of bounds")
}

/// Reads how long browsers are to use nothing but HTTPS. Zero takes back what was said before.
pub(super) fn hsts(text: &str) -> Result<Duration, &'static str> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = "a duration is a number with a unit, such as `1h` or `365d`";
    match humantime::parse_duration(text).map_err(|_| wrong)? {
        duration if duration <= LONGEST_HSTS => Ok(duration),
        _ => Err("browsers need no more than 10 years"),
    }
}

/// Reads a rate; zero is none.
pub(super) fn rate(text: &str) -> Result<u32, &'static str> {
    text.replace('_', "").parse().map_err(|_| "not a whole number, or out of bounds")
}

/// Reads a bound; zero is none.
pub(super) fn count_or_off(text: &str) -> Result<u64, &'static str> {
    let count: u64 = text.replace('_', "").parse().map_err(|_| "not a whole number, or out of bounds")?;
    Ok(if count == 0 { NO_LIMIT } else { count.min(NO_LIMIT) })
}

/// Reads a bound of bytes; zero is none.
pub(super) fn size_or_off(text: &str) -> Result<u64, &'static str> {
    let bytes = size_or_zero(text)?;
    Ok(if bytes == 0 { NO_LIMIT } else { bytes.min(NO_LIMIT) })
}

/// Reads a number that is not zero.
pub(super) fn count<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    let wrong = "not a whole number, or out of bounds";
    match text.replace('_', "").parse().map_err(|_| wrong)? {
        0 => Err(ZERO),
        number => T::try_from(number).map_err(|_| wrong),
    }
}

pub(super) fn fetches(text: &str) -> Result<usize, &'static str> {
    let number = count(text)?;
    if number <= MOST_FETCHES { Ok(number) } else { Err("there are at most 4096 fetches at once") }
}

/// Reads how much memory uploads may take: less than one of them takes would let none through.
pub(super) fn upload_memory(text: &str) -> Result<u64, &'static str> {
    let bytes = size(text)?;
    if bytes >= 16 << 20 { Ok(bytes) } else { Err("one upload takes up to 15 MiB, so it must be at least 16 MiB") }
}

pub(super) fn workers(text: &str) -> Result<NonZeroUsize, &'static str> {
    let number = NonZeroUsize::new(count(text)?).ok_or(ZERO)?;
    if number.get() <= MOST_WORKERS { Ok(number) } else { Err("there are at most 1024 threads that serve") }
}

/// Reads how many threads encode, which may be none.
pub(super) fn variant_workers(text: &str) -> Result<usize, &'static str> {
    if text == "0" {
        return Ok(0);
    }
    let number = count(text)?;
    if number <= MOST_WORKERS { Ok(number) } else { Err("there are at most 1024 threads that compress") }
}

pub(super) fn fields(text: &str) -> Result<usize, &'static str> {
    match count(text)? {
        number if number <= MOST_FIELDS => Ok(number),
        _ => Err("a head has at most 10000 fields"),
    }
}

/// A message has to fit a record, every byte of it escaped.
pub(super) fn message_length(text: &str) -> Result<usize, &'static str> {
    match size(text)? {
        length if length <= LONGEST_MESSAGE => Ok(length),
        _ => Err("a message has at most 4KiB"),
    }
}

/// Reads how short a password may be.
pub(super) fn password_length(text: &str) -> Result<usize, &'static str> {
    match count(text)? {
        length if PASSWORD_LENGTHS.contains(&length) => Ok(length),
        _ => Err("a password has to have at least 8 bytes, and cannot be asked for more than 128"),
    }
}

/// Reads how many domains a team may have.
pub(super) fn domains_per_team(text: &str) -> Result<usize, &'static str> {
    match count(text)? {
        number if number <= MOST_DOMAINS => Ok(number),
        _ => Err("a team has at most 10000 domains"),
    }
}

/// Reads an address without a port.
pub(super) fn ip_address(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "not an IP address")
}

/// Reads a network, or an address for that alone.
pub(super) fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = text.parse().or_else(|_| ip_address(text).map(IpNet::from));
    network.map_err(|_| "a network is an address and a length, such as `10.0.0.0/8`")
}

pub(super) fn batch_files(text: &str) -> Result<usize, &'static str> {
    match count(text)? {
        files if files <= MOST_PACKED => Ok(files),
        _ => Err("a batch has at most 65536 files"),
    }
}

pub(super) fn batch_size(text: &str) -> Result<u64, &'static str> {
    match size(text)? {
        bytes if bytes <= LARGEST_BATCH => Ok(bytes),
        _ => Err("a batch has at most 1GiB"),
    }
}

/// Reads a size that is not zero.
pub(super) fn size<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    match size_or_zero(text)? {
        0 => Err(ZERO),
        bytes => T::try_from(bytes).map_err(|_| OUT_OF_BOUNDS),
    }
}

/// Reads `100MiB`, `64 kB` or a number of bytes.
pub(super) fn size_or_zero(text: &str) -> Result<u64, &'static str> {
    let wrong = "a size is a number of bytes, or one with `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`";
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong),
    };
    let number: u64 = digits.replace('_', "").parse().map_err(|_| wrong)?;
    number.checked_mul(unit).ok_or(OUT_OF_BOUNDS)
}

/// Reads a duration that is not zero.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err(ZERO),
        duration => Ok(duration),
    }
}

/// Reads `30s`, `10m` or `1h 30m`, up to a year.
pub(super) fn duration_or_zero(text: &str) -> Result<Duration, &'static str> {
    let wrong = "a duration is a number with a unit, such as `30s`, `10m` or `24h`";
    match humantime::parse_duration(text).map_err(|_| wrong)? {
        duration if duration <= LONGEST_DURATION => Ok(duration),
        _ => Err("a duration is at most 365 days"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        for (text, want) in
            [("1_000", Some(1_000)), ("2kB", Some(2_000)), ("3 MiB", Some(3 << 20)), ("1GB", Some(1_000_000_000))]
        {
            assert_eq!(size::<u64>(text).ok(), want, "{text}");
        }
        for wrong in ["", "x", "1.5MB", "-1", "1 mb", "99999999999GiB", "MiB"] {
            assert!(size::<u64>(wrong).is_err(), "{wrong}");
        }
        assert!(size::<u8>("256").is_err());
        assert_eq!(duration("1h 30m").ok(), Some(Duration::from_secs(5_400)));
        for wrong in ["5", "366days", "500000000000years"] {
            assert!(duration_or_zero(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn zero_is_a_value_only_where_it_means_something() {
        assert_eq!((count::<u64>("0"), size::<u64>("0 kB"), duration("0s")), (Err(ZERO), Err(ZERO), Err(ZERO)));
        assert_eq!((size_or_zero("0"), duration_or_zero("0ms")), (Ok(0), Ok(Duration::ZERO)));
        assert!(message_length("0").is_err());
    }

    #[test]
    fn threads_and_fields_are_bounded() {
        for (text, want) in [("0", None), ("1", Some(1)), ("1024", Some(1024)), ("1025", None)] {
            assert_eq!(workers(text).ok().map(NonZeroUsize::get), want, "{text}");
        }
        assert!(fields("0").is_err() && fields("100").is_ok() && fields("10001").is_err());
    }

    #[test]
    fn switches_and_hsts() {
        for (text, want) in [("true", Some(true)), ("off", Some(false)), ("1", None), ("", None), ("True", None)] {
            assert_eq!(switch(text).ok(), want, "{text}");
        }
        for (text, want) in [("0", Some(0)), ("730d", Some(63_072_000)), ("11y", None), ("3600", None)] {
            assert_eq!(hsts(text).ok(), want.map(Duration::from_secs), "{text}");
        }
        assert_eq!((count_or_zero("0"), count_or_zero("1_000")), (Ok(0), Ok(1000)));
    }

    #[test]
    fn hosts_have_no_ports() {
        for good in ["a.test", "127.0.0.1", "[::1]", "localhost"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for wrong in ["a.test:80", "127.0.0.1:1", "[::1]:80", "", "a b"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert!(domain("127.0.0.1").is_err());
    }
}
