//! How many connections one source may have open: an IPv4 address, or a /64 of IPv6, which is what one subscriber gets.
//!
//! It is looked at when a connection is accepted and when it ends, never by a request. There is an entry for each source
//! that has connections now, so the table is as large as the number of connections at most.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::client::Networks;

/// Parts of the table, so that workers seldom wait for each other.
const SHARDS: usize = 16;

/// What connections are counted by.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Source {
    V4(u32),
    V6(u64),
}

fn source(address: IpAddr) -> Source {
    match address.to_canonical() {
        IpAddr::V4(address) => Source::V4(address.to_bits()),
        IpAddr::V6(address) => Source::V6((address.to_bits() >> 64) as u64),
    }
}

/// The sources that have connections.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Connections of one source; zero for any number.
    limit: usize,
    exempt: [Networks; 2],
    shards: [Mutex<HashMap<Source, usize>>; SHARDS],
    hasher: RandomState,
    started: Instant,
    /// The second that a refusal was last told of, plus one.
    told: AtomicU64,
}

/// The source has as many connections as it may.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TooMany;

/// One connection of a source. Nothing where it is not counted.
#[derive(Debug, Default)]
pub(crate) struct Slot(Option<(Arc<Sources>, Source)>);

impl Sources {
    /// Lets a source have `limit` connections, or any number where that is zero or the source is `exempt`.
    pub(crate) fn new(limit: usize, exempt: [Networks; 2]) -> Self {
        Self {
            limit,
            exempt,
            shards: Default::default(),
            hasher: RandomState::new(),
            started: Instant::now(),
            told: AtomicU64::new(0),
        }
    }

    /// Takes a place for one connection.
    ///
    /// # Errors
    ///
    /// Where there is none left.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Slot, TooMany> {
        if self.limit == 0 || self.exempt.iter().any(|networks| networks.contains(address)) {
            return Ok(Slot(None));
        }
        let source = source(address);
        let mut counts = self.shard(source).lock();
        let count = counts.entry(source).or_insert(0);
        if *count >= self.limit {
            return Err(TooMany);
        }
        *count += 1;
        drop(counts);
        Ok(Slot(Some((Arc::clone(self), source))))
    }

    /// Whether to say that a connection was refused: once a second is enough.
    pub(crate) fn is_worth_telling(&self) -> bool {
        let now = self.started.elapsed().as_secs() + 1;
        self.told.swap(now, Ordering::Relaxed) != now
    }

    fn shard(&self, source: Source) -> &Mutex<HashMap<Source, usize>> {
        let hash = self.hasher.hash_one(source);
        &self.shards[usize::from(hash.to_le_bytes()[0]) % SHARDS]
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some((sources, source)) = &self.0 else { return };
        let mut counts = sources.shard(*source).lock();
        if let Entry::Occupied(mut entry) = counts.entry(*source) {
            match entry.get() {
                0 | 1 => drop(entry.remove()),
                _ => *entry.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(limit: usize) -> Arc<Sources> {
        let trusted = ["10.0.0.0/8".parse().unwrap()].into_iter().collect();
        Arc::new(Sources::new(limit, [trusted, Networks::loopback()]))
    }

    fn admit(sources: &Arc<Sources>, address: &str) -> Result<Slot, TooMany> {
        sources.admit(address.parse().unwrap())
    }

    #[test]
    fn a_source_has_so_many_connections_at_a_time() {
        let sources = sources(2);
        let first = admit(&sources, "192.0.2.1").unwrap();
        let _second = admit(&sources, "192.0.2.1").unwrap();
        assert_eq!(admit(&sources, "192.0.2.1").map(drop), Err(TooMany));
        assert_eq!(admit(&sources, "::ffff:192.0.2.1").map(drop), Err(TooMany), "the same address");
        assert!(admit(&sources, "192.0.2.2").is_ok(), "another has its own");
        drop(first);
        assert!(admit(&sources, "192.0.2.1").is_ok(), "what ends makes room");
    }

    #[test]
    fn a_64_is_one_source() {
        let sources = sources(1);
        let _first = admit(&sources, "2001:db8:0:1::1").unwrap();
        for (address, is_admitted) in [("2001:db8:0:1:ffff::9", false), ("2001:db8:0:2::1", true)] {
            assert_eq!(admit(&sources, address).is_ok(), is_admitted, "{address}");
        }
    }

    #[test]
    fn proxies_and_this_machine_are_not_counted() {
        let sources = sources(1);
        for address in ["10.1.2.3", "127.0.0.1", "::1"] {
            let _first = admit(&sources, address).unwrap();
            assert!(admit(&sources, address).is_ok(), "{address}");
        }
        let unlimited = self::sources(0);
        let _first = admit(&unlimited, "192.0.2.1").unwrap();
        assert!(admit(&unlimited, "192.0.2.1").is_ok(), "zero is no bound");
    }

    #[test]
    fn the_table_forgets_who_left() {
        let sources = sources(3);
        let slots: Vec<_> = (0..1000_u32)
            .map(|number| sources.admit(IpAddr::V4(std::net::Ipv4Addr::from_bits(number << 8))).unwrap())
            .collect();
        let entries = || sources.shards.iter().map(|shard| shard.lock().len()).sum::<usize>();
        assert_eq!(entries(), 1000);
        drop(slots);
        assert_eq!(entries(), 0);
    }
}
