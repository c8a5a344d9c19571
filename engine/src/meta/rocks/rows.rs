//! The rows of the database: column families, keys and values, as `docs/formats.md` has them, and its errors.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rocksdb::{ColumnFamily, DB, WriteOptions};

use crate::blob::{IndexError, Owner, VariantKey};
use crate::clock::UnixMillis;
use crate::coding::Coding;
use crate::hash::BlobHash;
use crate::id::TeamId;
use crate::meta::{Item, Key, MetaError, Outcome, Revision};

pub(super) const ITEMS: &str = "items";
pub(super) const FEED: &str = "feed";
pub(super) const OUTCOMES: &str = "outcomes";
pub(super) const BLOBS: &str = "blobs";
pub(super) const OWNED: &str = "owned";
pub(super) const COUNTED: &str = "counted";
pub(super) const VARIANTS: &str = "variants";
/// Every family but the default one.
pub(super) const FAMILIES: [&str; 7] = [ITEMS, FEED, OUTCOMES, BLOBS, OWNED, COUNTED, VARIANTS];
/// In the default column family: the last revision and the last position of the feed, 8 bytes each.
pub(super) const COUNTERS: &[u8] = b"counters";

pub(super) fn family<'db>(db: &'db DB, name: &str) -> &'db ColumnFamily {
    db.cf_handle(name).expect("every column family is created when the database is opened")
}

pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

pub(super) fn owned_key(team: TeamId, hash: &BlobHash) -> [u8; 48] {
    counted_key(team.as_bytes(), hash)
}

pub(super) fn counted_key(owner: &Owner, hash: &BlobHash) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(owner);
    key[16..].copy_from_slice(hash.as_bytes());
    key
}

pub(super) fn variant_key((identity, coding): VariantKey) -> [u8; 33] {
    let mut key = [0; 33];
    key[..32].copy_from_slice(identity.as_bytes());
    key[32] = coding as u8;
    key
}

pub(super) fn read_variant_key(key: &[u8]) -> Result<VariantKey, IndexError> {
    let (identity, coding) = key.split_first_chunk::<32>().ok_or(IndexError::Damaged)?;
    let &[coding] = coding else { return Err(IndexError::Damaged) };
    Ok((BlobHash::from_bytes(*identity), Coding::from_number(coding).ok_or(IndexError::Damaged)?))
}

pub(super) fn read_u64(bytes: &[u8]) -> Result<u64, MetaError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| MetaError::Damaged { what: "number" })
}

pub(super) fn read_item(row: &[u8]) -> Result<Item, MetaError> {
    let (revision, value) = row.split_at_checked(8).ok_or(MetaError::Damaged { what: "item" })?;
    Ok(Item { value: Bytes::copy_from_slice(value), revision: Revision(read_u64(revision)?) })
}

pub(super) type Row = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

pub(super) fn read_pair(row: Row) -> Result<(Key, Item), MetaError> {
    let (key, value) = row.map_err(engine)?;
    Ok((Bytes::from(key), read_item(&value)?))
}

/// The last revision and the last position of the feed.
pub(super) fn counters(row: &Option<Vec<u8>>) -> Result<(u64, u64), MetaError> {
    match row.as_deref() {
        None => Ok((0, 0)),
        Some(row) if row.len() == 16 => Ok((read_u64(&row[..8])?, read_u64(&row[8..])?)),
        Some(_) => Err(MetaError::Damaged { what: "counters" }),
    }
}

pub(super) fn write_outcome(outcome: &Outcome, now: UnixMillis) -> BytesMut {
    let mut row = BytesMut::new();
    row.put_u64(now.0);
    match outcome {
        Outcome::Done { revision, position } => {
            row.put_u8(0);
            row.put_u64(revision.0);
            row.put_u64(*position);
        }
        Outcome::Refused { key } => {
            row.put_u8(1);
            row.extend_from_slice(key);
        }
    }
    row
}

pub(super) fn read_outcome(row: &[u8]) -> Result<(UnixMillis, Outcome), MetaError> {
    let damaged = MetaError::Damaged { what: "outcome" };
    let Some((at, rest)) = row.split_at_checked(8) else { return Err(damaged) };
    let outcome = match rest {
        [0, numbers @ ..] if numbers.len() == 16 => {
            Outcome::Done { revision: Revision(read_u64(&numbers[..8])?), position: read_u64(&numbers[8..])? }
        }
        [1, key @ ..] => Outcome::Refused { key: Bytes::copy_from_slice(key) },
        _ => return Err(damaged),
    };
    Ok((UnixMillis(read_u64(at)?), outcome))
}

/// RocksDB's error, with a full disk told apart: its text is all that says so.
fn reason(error: rocksdb::Error) -> Box<dyn std::error::Error + Send + Sync> {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    // What the C library calls ENOSPC, EDQUOT and EFBIG.
    let kinds = [("No space left", StorageFull), ("quota exceeded", QuotaExceeded), ("File too large", FileTooLarge)];
    match kinds.into_iter().find(|(text, _)| error.as_ref().contains(text)) {
        Some((_, kind)) => Box::new(io::Error::new(kind, error)),
        None => Box::new(error),
    }
}

pub(super) fn engine(error: rocksdb::Error) -> MetaError {
    MetaError::Engine(reason(error).into())
}

pub(super) fn index_engine(error: rocksdb::Error) -> IndexError {
    IndexError::Engine(reason(error))
}

/// The same failure as the index's: the two are one database.
pub(super) fn as_index_error(error: MetaError) -> IndexError {
    IndexError::Engine(Box::new(error))
}

/// The same error once more: one failed write answers many commits.
pub(super) fn copy(error: &MetaError) -> MetaError {
    match error {
        MetaError::Engine(reason) => MetaError::Engine(Arc::clone(reason)),
        MetaError::TooLarge { what } => MetaError::TooLarge { what },
        MetaError::Damaged { what } => MetaError::Damaged { what },
        MetaError::Closed => MetaError::Closed,
    }
}
