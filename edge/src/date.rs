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
    // As of the last tick of the kernel's timer: it costs a quarter of the exact time.
    let time = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    at(u64::try_from(time.tv_sec).unwrap_or_default())
}

fn at(second: u64) -> HeaderValue {
    LAST.with_borrow_mut(|(last, value)| {
        if *last != second {
            let text = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            *value = HeaderValue::try_from(text).expect("a date is printable ASCII");
            *last = second;
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_its_second() {
        for _ in 0..2 {
            assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
            assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        }
        let now = httpdate::parse_http_date(now().to_str().unwrap()).unwrap();
        assert!(now.elapsed().unwrap() < Duration::from_secs(10));
    }
}
