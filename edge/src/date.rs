//! The `Date` of an answer (RFC 9110 section 6.6.1), made once in a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

thread_local! {
    /// The second that was asked for last, and what it is called.
    static LAST: RefCell<(u64, HeaderValue)> = const { RefCell::new((u64::MAX, HeaderValue::from_static(""))) };
}

/// What time it is, as a field's value.
pub(crate) fn now() -> HeaderValue {
    at(second(), HeaderValue::clone)
}

/// Appends the field, as HTTP/1 has it.
pub(crate) fn put(out: &mut Vec<u8>) {
    out.extend_from_slice(b"date: ");
    at(second(), |value| out.extend_from_slice(value.as_bytes()));
    out.extend_from_slice(b"\r\n");
}

/// As of the last tick of the kernel's timer: it costs a quarter of the exact time.
fn second() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    u64::try_from(time.tv_sec).unwrap_or_default()
}

fn at<R>(second: u64, take: impl FnOnce(&HeaderValue) -> R) -> R {
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            *value = HeaderValue::try_from(text).expect("a date is printable ASCII");
            *last = second;
        }
        take(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_its_second() {
        for _ in 0..2 {
            assert_eq!(at(784_111_777, HeaderValue::clone), "Sun, 06 Nov 1994 08:49:37 GMT");
            assert_eq!(at(784_111_778, HeaderValue::clone), "Sun, 06 Nov 1994 08:49:38 GMT");
        }
        let mut line = Vec::new();
        put(&mut line);
        let line = String::from_utf8(line).unwrap();
        let text = line.strip_prefix("date: ").and_then(|rest| rest.strip_suffix("\r\n")).unwrap();
        for text in [text, now().to_str().unwrap()] {
            let now = httpdate::parse_http_date(text).unwrap();
            assert!(now.elapsed().unwrap() < Duration::from_secs(10));
        }
    }
}
