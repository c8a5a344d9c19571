//! What is known of each blob, and which team has it.
//!
//! Bulk, synced and monotone, with no checks: a row says only what is true for good, so writers need no order among
//! themselves. All of it can be rebuilt from the objects and the manifests.
//!
//! Beside it, what was made of each blob: its variants. Of these the first row stays, whoever writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::Digests;
use crate::clock::UnixMillis;
use crate::coding::{Coding, Variant};
use crate::hash::{BlobHash, Sha256Digest};
use crate::id::{PackId, TeamId};

/// Why the index did not answer.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The engine below failed.
    #[error("the blob index failed")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row cannot be read.
    #[error("a row of the blob index is damaged")]
    Damaged,
}

/// Where a blob's bytes are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Location {
    /// In an object of its own, whose name follows from the hash.
    Single,
    /// In a pack, from `offset` on.
    Pack {
        /// The pack's id.
        pack: PackId,
        /// Where in the pack, in bytes.
        offset: u64,
    },
}

/// Whether a blob counts as stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BlobState {
    /// It does.
    Live,
    /// The collector found it dead; it counts as missing, and uploading it again clears the mark.
    Condemned {
        /// When it was found dead.
        since: UnixMillis,
    },
}

/// What the index knows of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlobRecord {
    /// Where the bytes are.
    pub location: Location,
    /// How many there are.
    pub size: u64,
    /// Their SHA-256 digest.
    pub sha256: Sha256Digest,
    /// Whether they are valid UTF-8.
    pub is_utf8: bool,
    /// Whether the blob counts as stored.
    pub state: BlobState,
}

impl BlobRecord {
    /// What the index says of a blob that is stored at `location` and was measured.
    pub(crate) fn stored(location: Location, digests: &Digests) -> Self {
        Self { location, size: digests.size, sha256: digests.sha256, is_utf8: digests.is_utf8, state: BlobState::Live }
    }
}

/// What became of encoding a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Made {
    /// A variant, which is stored.
    Kept(Variant),
    /// Bytes that save too little.
    NotKept,
}

impl Made {
    /// The variant, where there is one.
    #[must_use]
    pub fn kept(self) -> Option<Variant> {
        match self {
            Self::Kept(variant) => Some(variant),
            Self::NotKept => None,
        }
    }
}

/// What was made of one blob, by coding.
pub type MadeOf = [Option<Made>; Coding::ALL.len()];

/// What a row of variants is about: the identity blob and the coding.
pub type VariantKey = (BlobHash, Coding);

/// Whom a blob is counted for: the id of a team or of a project.
pub type Owner = [u8; 16];

/// One change of the index.
#[derive(Clone, Copy, Debug)]
pub enum IndexWrite {
    /// The blob is stored.
    Put {
        /// Its name.
        hash: BlobHash,
        /// What is known of it.
        record: BlobRecord,
    },
    /// Nothing is stored under this name.
    Remove {
        /// The name.
        hash: BlobHash,
    },
    /// The team has shown that it has the blob's bytes.
    Own {
        /// The team.
        team: TeamId,
        /// The blob's name.
        hash: BlobHash,
    },
    /// The blob is counted among what its owner uses.
    Count {
        /// Whose count it is.
        owner: Owner,
        /// The blob's name.
        hash: BlobHash,
        /// Which count of the owner's; later ones replace it.
        count: u32,
    },
    /// The blob was encoded. A row that is there stays.
    Vary {
        /// The blob that was encoded.
        identity: BlobHash,
        /// In what.
        coding: Coding,
        /// What came of it.
        made: Made,
    },
    /// The blob is to be encoded anew.
    Unvary {
        /// The blob.
        identity: BlobHash,
        /// In what.
        coding: Coding,
    },
}

/// What is known of each blob, which team has it, and what was made of it.
///
/// Every engine keeps this contract:
/// * `write` is durable when it returns, and taken whole or not at all.
/// * Writing a row again changes nothing but what it says; removing one that is not there changes nothing.
/// * The writes of one call are taken in their order.
/// * Of rows that say what was made of a blob in one coding, the first stays, also where two are written at once.
#[async_trait]
pub trait BlobIndex: fmt::Debug + Send + Sync + 'static {
    /// The rows of `hashes`, in their order.
    async fn get(&self, hashes: &[BlobHash]) -> Result<Vec<Option<BlobRecord>>, IndexError>;

    /// Whether `team` has each of `hashes`, in their order.
    async fn owned(&self, team: TeamId, hashes: &[BlobHash]) -> Result<Vec<bool>, IndexError>;

    /// In which count of `owner` each of `hashes` was marked last, in their order.
    async fn counted(&self, owner: Owner, hashes: &[BlobHash]) -> Result<Vec<Option<u32>>, IndexError>;

    /// Takes all of `writes`, durably.
    async fn write(&self, writes: Vec<IndexWrite>) -> Result<(), IndexError>;

    /// Up to `limit` rows whose hashes come after `after`, in the order of hashes.
    async fn scan(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<(BlobHash, BlobRecord)>, IndexError>;

    /// Up to `limit` hashes that have a row, readable or not, and come after `after`, in their order.
    async fn hashes(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<BlobHash>, IndexError>;

    /// What was made of each of `identities`, in their order.
    async fn made(&self, identities: &[BlobHash]) -> Result<Vec<MadeOf>, IndexError>;

    /// Up to `limit` rows of what was made that come after `after`, in their order; nothing for one that is unreadable.
    async fn scan_made(
        &self,
        after: Option<VariantKey>,
        limit: usize,
    ) -> Result<Vec<(VariantKey, Option<Made>)>, IndexError>;
}

#[cfg(any(test, feature = "rocksdb"))]
const ROW_VERSION: u8 = 1;
#[cfg(any(test, feature = "rocksdb"))]
const ROW_LENGTH: usize = 76;

#[cfg(any(test, feature = "rocksdb"))]
impl BlobRecord {
    /// The row as it is stored; `docs/formats.md` describes it.
    pub(crate) fn to_bytes(self) -> [u8; ROW_LENGTH] {
        let mut row = [0; ROW_LENGTH];
        row[0] = ROW_VERSION;
        row[1] = u8::from(self.is_utf8);
        let (kind, pack, offset) = match self.location {
            Location::Single => (0, [0; 16], 0),
            Location::Pack { pack, offset } => (1, *pack.as_bytes(), offset),
        };
        row[2] = kind;
        let (state, since) = match self.state {
            BlobState::Live => (0, 0),
            BlobState::Condemned { since } => (1, since.0),
        };
        row[3] = state;
        row[4..12].copy_from_slice(&self.size.to_be_bytes());
        row[12..44].copy_from_slice(&self.sha256.0);
        row[44..60].copy_from_slice(&pack);
        row[60..68].copy_from_slice(&offset.to_be_bytes());
        row[68..76].copy_from_slice(&since.to_be_bytes());
        row
    }

    pub(crate) fn from_bytes(row: &[u8]) -> Result<Self, IndexError> {
        let row: &[u8; ROW_LENGTH] = row.try_into().map_err(|_| IndexError::Damaged)?;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&row[at..at + 8]);
            u64::from_be_bytes(bytes)
        };
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&row[12..44]);
        let mut pack = [0; 16];
        pack.copy_from_slice(&row[44..60]);
        Ok(Self {
            location: match (row[0], row[2]) {
                (ROW_VERSION, 0) => Location::Single,
                (ROW_VERSION, 1) => Location::Pack { pack: PackId::from_bytes(pack), offset: number(60) },
                _ => return Err(IndexError::Damaged),
            },
            size: number(4),
            sha256: Sha256Digest(sha256),
            is_utf8: match row[1] {
                0 => false,
                1 => true,
                _ => return Err(IndexError::Damaged),
            },
            state: match row[3] {
                0 => BlobState::Live,
                1 => BlobState::Condemned { since: UnixMillis(number(68)) },
                _ => return Err(IndexError::Damaged),
            },
        })
    }
}

#[cfg(any(test, feature = "rocksdb"))]
const MADE_LENGTH: usize = 42;

#[cfg(any(test, feature = "rocksdb"))]
impl Made {
    /// The row as it is stored; `docs/formats.md` describes it.
    pub(crate) fn to_bytes(self) -> [u8; MADE_LENGTH] {
        let mut row = [0; MADE_LENGTH];
        row[0] = ROW_VERSION;
        if let Self::Kept(variant) = self {
            row[1] = 1;
            row[2..10].copy_from_slice(&variant.size.to_be_bytes());
            row[10..].copy_from_slice(variant.blob.as_bytes());
        }
        row
    }

    pub(crate) fn from_bytes(row: &[u8]) -> Result<Self, IndexError> {
        let row: &[u8; MADE_LENGTH] = row.try_into().map_err(|_| IndexError::Damaged)?;
        let (mut size, mut blob) = ([0; 8], [0; 32]);
        size.copy_from_slice(&row[2..10]);
        blob.copy_from_slice(&row[10..]);
        match (row[0], row[1]) {
            (ROW_VERSION, 0) if size == [0; 8] && blob == [0; 32] => Ok(Self::NotKept),
            (ROW_VERSION, 1) => {
                Ok(Self::Kept(Variant { blob: BlobHash::from_bytes(blob), size: u64::from_be_bytes(size) }))
            }
            _ => Err(IndexError::Damaged),
        }
    }
}

/// The index for tests and examples: in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    records: BTreeMap<BlobHash, BlobRecord>,
    owned: BTreeSet<(TeamId, BlobHash)>,
    counted: BTreeMap<(Owner, BlobHash), u32>,
    made: BTreeMap<VariantKey, Made>,
}

#[async_trait]
impl BlobIndex for MemoryIndex {
    async fn get(&self, hashes: &[BlobHash]) -> Result<Vec<Option<BlobRecord>>, IndexError> {
        let tables = self.tables.read();
        Ok(hashes.iter().map(|hash| tables.records.get(hash).copied()).collect())
    }

    async fn owned(&self, team: TeamId, hashes: &[BlobHash]) -> Result<Vec<bool>, IndexError> {
        let tables = self.tables.read();
        Ok(hashes.iter().map(|hash| tables.owned.contains(&(team, *hash))).collect())
    }

    async fn counted(&self, owner: Owner, hashes: &[BlobHash]) -> Result<Vec<Option<u32>>, IndexError> {
        let tables = self.tables.read();
        Ok(hashes.iter().map(|hash| tables.counted.get(&(owner, *hash)).copied()).collect())
    }

    async fn write(&self, writes: Vec<IndexWrite>) -> Result<(), IndexError> {
        let mut tables = self.tables.write();
        for write in writes {
            match write {
                IndexWrite::Put { hash, record } => drop(tables.records.insert(hash, record)),
                IndexWrite::Remove { hash } => drop(tables.records.remove(&hash)),
                IndexWrite::Own { team, hash } => drop(tables.owned.insert((team, hash))),
                IndexWrite::Count { owner, hash, count } => drop(tables.counted.insert((owner, hash), count)),
                IndexWrite::Vary { identity, coding, made } => {
                    tables.made.entry((identity, coding)).or_insert(made);
                }
                IndexWrite::Unvary { identity, coding } => {
                    tables.made.remove(&(identity, coding));
                }
            }
        }
        Ok(())
    }

    async fn scan(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<(BlobHash, BlobRecord)>, IndexError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let tables = self.tables.read();
        let from = after.map_or(Unbounded, Excluded);
        Ok(tables.records.range((from, Unbounded)).take(limit).map(|(hash, record)| (*hash, *record)).collect())
    }

    async fn hashes(&self, after: Option<BlobHash>, limit: usize) -> Result<Vec<BlobHash>, IndexError> {
        Ok(self.scan(after, limit).await?.into_iter().map(|(hash, _)| hash).collect())
    }

    async fn made(&self, identities: &[BlobHash]) -> Result<Vec<MadeOf>, IndexError> {
        let tables = self.tables.read();
        let of = |identity: &BlobHash| Coding::ALL.map(|coding| tables.made.get(&(*identity, coding)).copied());
        Ok(identities.iter().map(of).collect())
    }

    async fn scan_made(
        &self,
        after: Option<VariantKey>,
        limit: usize,
    ) -> Result<Vec<(VariantKey, Option<Made>)>, IndexError> {
        use std::ops::Bound::{Excluded, Unbounded};
        let tables = self.tables.read();
        let from = after.map_or(Unbounded, Excluded);
        Ok(tables.made.range((from, Unbounded)).take(limit).map(|(key, made)| (*key, Some(*made))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_bytes() {
        let record = BlobRecord {
            location: Location::Pack { pack: PackId::from_bytes([7; 16]), offset: 1 << 40 },
            size: 99,
            sha256: Sha256Digest([3; 32]),
            is_utf8: true,
            state: BlobState::Condemned { since: UnixMillis(5) },
        };
        assert_eq!(BlobRecord::from_bytes(&record.to_bytes()).unwrap(), record);
        let single = BlobRecord { location: Location::Single, state: BlobState::Live, is_utf8: false, ..record };
        assert_eq!(BlobRecord::from_bytes(&single.to_bytes()).unwrap(), single);
        let mut newer = single.to_bytes();
        newer[0] = 2;
        assert!(BlobRecord::from_bytes(&newer).is_err());
        assert!(BlobRecord::from_bytes(&newer[1..]).is_err());
    }

    #[test]
    fn rows_of_what_was_made_survive_their_bytes() {
        let kept = Made::Kept(Variant { blob: BlobHash::of(b"x"), size: 1 << 40 });
        for made in [kept, Made::NotKept] {
            assert_eq!(Made::from_bytes(&made.to_bytes()).unwrap(), made);
        }
        let row = kept.to_bytes();
        for (at, byte) in [(0, 2), (0, 0), (1, 2), (1, 0)] {
            let mut wrong = row;
            wrong[at] = byte;
            assert!(Made::from_bytes(&wrong).is_err(), "{byte} at {at}");
        }
        assert!(Made::from_bytes(&row[1..]).is_err());
    }
}
