//! How long something lasts, and moments: as people write them, and as they are told.

use std::time::{Duration, SystemTime};

/// Reads how long something lasts: a duration such as `90m` or `3d`, or a number of seconds. Whole seconds, at least one.
pub(crate) fn lifetime(text: &str) -> Result<Duration, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed =
        if is_number { text.parse().ok().map(Duration::from_secs) } else { humantime::parse_duration(text).ok() };
    match parsed {
        Some(lifetime) if lifetime.as_secs() > 0 => Ok(Duration::from_secs(lifetime.as_secs())),
        Some(_) => Err("it is a second at least"),
        None => Err("a duration is a number with a unit, such as `90m`, `24h` or `3d`, or a number of seconds"),
    }
}

/// `lifetime` in seconds, as the API takes it.
pub(crate) fn seconds(lifetime: Duration) -> i64 {
    i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX)
}

/// `lifetime` in words, by the largest units that it is made of. Days are the largest: months differ.
pub(crate) fn in_words(lifetime: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)];
    let mut left = lifetime.as_secs();
    let mut words = Vec::new();
    for (unit, size) in UNITS {
        let number = left / size;
        left %= size;
        if number > 0 {
            words.push(crate::output::count(number, unit));
        }
    }
    if words.is_empty() { "no time".to_owned() } else { words.join(" ") }
}

/// Reads a moment, to RFC 3339 in UTC: such a text, a day of UTC, or how long before `now` it was.
///
/// A day is its beginning; `date` is what a query compares with, so that `--to 2026-02-01` is all of January.
pub(crate) fn moment(text: &str, now: SystemTime) -> Result<String, &'static str> {
    const WRONG: &str =
        "a moment is a day such as `2026-01-31`, a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `7d`";
    let is_day = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let whole = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let parsed = match humantime::parse_rfc3339(&whole) {
        Ok(moment) => Some(moment),
        Err(_) => lifetime(text).ok().and_then(|ago| now.checked_sub(ago)),
    };
    let moment = parsed.filter(|moment| *moment >= SystemTime::UNIX_EPOCH).ok_or(WRONG)?;
    Ok(humantime::format_rfc3339_millis(moment).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_something_lasts() {
        for (text, seconds) in
            [("90m", Some(5400)), ("1h 30m", Some(5400)), ("3d", Some(259_200)), ("60", Some(60)), ("1500ms", Some(1))]
        {
            assert_eq!(lifetime(text).ok().map(|lifetime| lifetime.as_secs()), seconds, "{text}");
        }
        for wrong in ["", "0", "0s", "999ms", "-1", "1.5", "soon", "99999999999999999999"] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_told_in_words() {
        for (seconds, want) in
            [(2_592_000, "30 days"), (86_400, "1 day"), (5400, "1 hour 30 minutes"), (1, "1 second"), (0, "no time")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), want);
        }
    }

    #[test]
    fn moments_are_days_times_or_ago() {
        let now = humantime::parse_rfc3339("2026-03-08T12:00:00Z").unwrap();
        for (text, want) in [
            ("2026-01-31", Some("2026-01-31T00:00:00.000Z")),
            ("2026-01-31T12:30:00Z", Some("2026-01-31T12:30:00.000Z")),
            ("7d", Some("2026-03-01T12:00:00.000Z")),
            ("90m", Some("2026-03-08T10:30:00.000Z")),
            ("2026-13-01", None),
            ("2026-01-31T12:30:00+01:00", None),
            ("yesterday", None),
            ("1969-12-31", None),
            ("900000d", None),
            ("", None),
        ] {
            assert_eq!(moment(text, now).ok().as_deref(), want, "{text}");
        }
    }
}
