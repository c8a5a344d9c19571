//! Slowing down who guesses: by account and source together, and by source alone.
//!
//! An account by itself is never slowed. Whoever guesses at it from elsewhere keeps nobody out who signs in from where they
//! always do. An attempt counts before its outcome is known, so that many at once are not one.
//!
//! The table is in memory and bounded: it has two halves, and when the younger is full the older one is forgotten. Who
//! has so many addresses that they fill it is not held up here, but by how many passwords are computed at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::UnixMillis;
use crate::hash::BlobHash;

/// Failures that cost nothing, of one source for one account.
const FREE_PER_ACCOUNT: u32 = 5;
/// Failures that cost nothing, of one source for whatever it tries.
const FREE_PER_SOURCE: u32 = 30;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// A source or an account that nobody tried for so long starts anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Entries of each half of the table.
const HALF: usize = 10_000;
/// Failures that are written to the audit log, of one source in an hour and of all sources in an hour.
const AUDITED_PER_SOURCE: u32 = 20;
const AUDITED: u32 = 1000;
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Who tries what. The source is an IPv4 address or the first half of an IPv6 one, which is what one customer has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Who {
    source: Option<IpAddr>,
    account: Option<BlobHash>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    failures: u32,
    last: UnixMillis,
    /// When the hour began in which `audited` failures were written down.
    hour: UnixMillis,
    audited: u32,
}

/// An attempt that was let through, and counts as a failure until it is said not to be one.
#[derive(Debug)]
#[must_use]
pub(crate) struct Attempt {
    whole: Who,
    by_source: Who,
}

/// What is remembered of failed attempts.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    young: HashMap<Who, Entry>,
    old: HashMap<Who, Entry>,
    all: Entry,
}

impl Throttle {
    /// Lets an attempt through, or says how long it has to wait. `account` is what the attempt is about, where it is about one.
    pub(crate) fn begin(
        &self,
        source: Option<IpAddr>,
        account: Option<&str>,
        now: UnixMillis,
    ) -> Result<Attempt, Duration> {
        let source = source.map(network);
        let account = account.map(|account| BlobHash::of(account.as_bytes()));
        let attempt = Attempt { whole: Who { source, account }, by_source: Who { source, account: None } };
        let mut table = self.0.lock();
        let mut wait = table.wait(attempt.by_source, FREE_PER_SOURCE, now);
        if account.is_some() {
            wait = wait.max(table.wait(attempt.whole, FREE_PER_ACCOUNT, now));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        table.count(attempt.by_source, now);
        if account.is_some() {
            table.count(attempt.whole, now);
        }
        Ok(attempt)
    }

    /// Says that an attempt succeeded: the account's failures from there are forgotten, the source's others are not.
    pub(crate) fn succeeded(&self, attempt: &Attempt) {
        let mut table = self.0.lock();
        table.give_back(attempt.by_source);
        if attempt.whole.account.is_some() {
            table.young.remove(&attempt.whole);
            table.old.remove(&attempt.whole);
        }
    }

    /// Says that an attempt was neither: it was not decided.
    pub(crate) fn undecided(&self, attempt: &Attempt) {
        let mut table = self.0.lock();
        table.give_back(attempt.by_source);
        if attempt.whole.account.is_some() {
            table.give_back(attempt.whole);
        }
    }

    /// Whether a failure may still be written to the audit log.
    pub(crate) fn may_audit(&self, attempt: &Attempt, now: UnixMillis) -> bool {
        let mut table = self.0.lock();
        let Table { young, all, .. } = &mut *table;
        let Some(entry) = young.get_mut(&attempt.by_source) else { return false };
        if !entry.has_room(AUDITED_PER_SOURCE, now) || !all.has_room(AUDITED, now) {
            return false;
        }
        entry.audited += 1;
        all.audited += 1;
        true
    }
}

impl Table {
    fn wait(&self, who: Who, free: u32, now: UnixMillis) -> Duration {
        let entry = self.young.get(&who).or_else(|| self.old.get(&who)).copied().unwrap_or_default();
        if entry.failures < free || entry.is_forgotten(now) {
            return Duration::ZERO;
        }
        let seconds = 1_u64.checked_shl(entry.failures - free).unwrap_or(u64::MAX);
        let until = entry.last.plus(Duration::from_secs(seconds).min(LONGEST_WAIT));
        Duration::from_millis(until.0.saturating_sub(now.0))
    }

    fn count(&mut self, who: Who, now: UnixMillis) {
        if self.young.len() >= HALF && !self.young.contains_key(&who) {
            self.old = std::mem::take(&mut self.young);
        }
        let known = self.old.remove(&who).unwrap_or_default();
        let entry = self.young.entry(who).or_insert(known);
        if entry.is_forgotten(now) {
            entry.failures = 0;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.last = now;
    }

    fn give_back(&mut self, who: Who) {
        if let Some(entry) = self.young.get_mut(&who) {
            entry.failures = entry.failures.saturating_sub(1);
        }
    }
}

impl Entry {
    fn is_forgotten(&self, now: UnixMillis) -> bool {
        self.last.plus(FORGOTTEN_AFTER) <= now
    }

    /// Whether fewer than `most` failures were written down in this hour.
    fn has_room(&mut self, most: u32, now: UnixMillis) -> bool {
        if self.hour.plus(HOUR) <= now {
            (self.hour, self.audited) = (now, 0);
        }
        self.audited < most
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_700_000_000_000);

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    /// Fails until it has to wait, and answers how often it failed and for how long it has to wait.
    fn fail_until_slowed(throttle: &Throttle, source: &str, account: Option<&str>, now: UnixMillis) -> (u32, u64) {
        for failures in 0.. {
            match throttle.begin(address(source), account, now) {
                Ok(_) => {}
                Err(wait) => return (failures, wait.as_secs()),
            }
        }
        unreachable!("somebody who only fails is slowed")
    }

    #[test]
    fn waits_double_and_end_at_a_quarter_of_an_hour() {
        let throttle = Throttle::default();
        let mut now = START;
        assert_eq!(fail_until_slowed(&throttle, "192.0.2.1", Some("a"), now), (5, 1));
        for want in [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = throttle.begin(address("192.0.2.1"), Some("a"), now).unwrap_err();
            now = now.plus(wait);
            assert!(throttle.begin(address("192.0.2.1"), Some("a"), now).is_ok());
            let wait = throttle.begin(address("192.0.2.1"), Some("a"), now).unwrap_err();
            assert_eq!(wait.as_secs(), want);
        }
        now = now.plus(FORGOTTEN_AFTER);
        assert_eq!(fail_until_slowed(&throttle, "192.0.2.1", Some("a"), now), (5, 1));
    }

    #[test]
    fn an_account_is_slowed_only_from_where_it_was_guessed_at() {
        let throttle = Throttle::default();
        assert_eq!(fail_until_slowed(&throttle, "192.0.2.1", Some("a"), START), (5, 1));
        assert!(throttle.begin(address("192.0.2.2"), Some("a"), START).is_ok(), "the same account from elsewhere");
        assert!(throttle.begin(address("192.0.2.1"), Some("b"), START).is_ok(), "another account");
        assert!(throttle.begin(address("::ffff:192.0.2.1"), Some("a"), START).is_err(), "the same address");
    }

    #[test]
    fn a_source_that_tries_many_accounts_is_slowed_for_all() {
        let throttle = Throttle::default();
        for account in 0..30 {
            assert!(throttle.begin(address("2001:db8::1"), Some(&account.to_string()), START).is_ok());
        }
        assert!(throttle.begin(address("2001:db8::1"), Some("new"), START).is_err());
        assert!(throttle.begin(address("2001:db8::ffff"), Some("new"), START).is_err(), "the same network");
        assert!(throttle.begin(address("2001:db8:0:1::1"), Some("new"), START).is_ok(), "another network");
    }

    #[test]
    fn a_success_forgets_the_failures_of_its_account() {
        let throttle = Throttle::default();
        for _ in 0..100 {
            for _ in 0..4 {
                let failed = throttle.begin(address("192.0.2.1"), Some("a"), START).unwrap();
                throttle.undecided(&failed);
            }
            let right = throttle.begin(address("192.0.2.1"), Some("a"), START).unwrap();
            throttle.succeeded(&right);
        }
        assert_eq!(fail_until_slowed(&throttle, "192.0.2.1", Some("a"), START), (5, 1));
    }

    #[test]
    fn only_so_many_failures_are_written_down() {
        let throttle = Throttle::default();
        let mut now = START;
        let mut written = 0;
        for number in 0..2000_u32 {
            let source = IpAddr::from(std::net::Ipv4Addr::from(number));
            let attempt = throttle.begin(Some(source), None, now).unwrap();
            written += u32::from(throttle.may_audit(&attempt, now));
        }
        assert_eq!(written, AUDITED);
        now = now.plus(HOUR);
        let attempt = throttle.begin(address("192.0.2.1"), None, now).unwrap();
        assert_eq!((0..100).filter(|_| throttle.may_audit(&attempt, now)).count(), AUDITED_PER_SOURCE as usize);
    }

    #[test]
    fn the_table_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..50_000_u32 {
            let _ = throttle.begin(Some(IpAddr::from(std::net::Ipv4Addr::from(number))), Some("a"), START);
        }
        let table = throttle.0.lock();
        assert!(table.young.len() <= HALF + 1 && table.old.len() <= HALF + 1);
    }
}
