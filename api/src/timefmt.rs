//! Times and durations as answers have them.

use std::time::{Duration, UNIX_EPOCH};

use pinstone_engine::clock::UnixMillis;

/// The last moment that RFC 3339 can write: its years have four digits.
const LAST: UnixMillis = UnixMillis(253_402_300_799_999);

/// RFC 3339 in UTC, with milliseconds and `Z`. Moments beyond the year 9999 are written as its end.
pub(crate) fn rfc3339(moment: UnixMillis) -> String {
    humantime::format_rfc3339_millis(moment.min(LAST).as_system_time()).to_string()
}

/// The moment that RFC 3339 in UTC with `Z` names; nothing where the text is not that, or is before 1970.
pub(crate) fn parse(text: &str) -> Option<UnixMillis> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(UnixMillis)
}

/// Hours, minutes and seconds, such as `1h2m3s`; what is zero in front is left out.
pub(crate) fn uptime(since: Duration) -> String {
    let seconds = since.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        for (millis, want) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (LAST.0, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(UnixMillis(millis)), want);
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for millis in [0, 1_700_000_000_123, LAST.0] {
            assert_eq!(parse(&rfc3339(UnixMillis(millis))), Some(UnixMillis(millis)));
        }
        assert_eq!(parse("2023-11-14T22:13:20Z"), Some(UnixMillis(1_700_000_000_000)));
        for wrong in ["", "2023-11-14", "2023-11-14T22:13:20", "2023-11-14T22:13:20+01:00", "1969-12-31T23:59:59Z", "1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn uptimes_are_short() {
        for (seconds, want) in [(0, "0s"), (59, "59s"), (60, "1m0s"), (3723, "1h2m3s"), (360_000, "100h0m0s")] {
            assert_eq!(uptime(Duration::from_secs(seconds)), want);
        }
    }
}
