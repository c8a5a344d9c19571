//! Typed records over the metadata store: they own the keys and the encoding.
//!
//! Records are keyed by id, never by name; names are index keys claimed with `Absent`. A key is a one-byte table tag, then
//! fixed-length ids, big-endian numbers and length-prefixed texts; every key of what a team owns begins with the team's
//! id. A value is a version byte and JSON, and keeps the fields that this program does not know. `docs/formats.md` lists
//! them all.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::meta::{Item, Key, MetaError, MetaStore, Revision};

pub mod accounts;
pub mod audit;
pub mod domains;
pub mod environments;
pub mod idempotency;
pub mod images;
pub mod invites;
pub mod pins;
pub mod plans;
pub mod projects;
pub mod releases;
pub mod tokens;
pub(crate) mod usage;
pub mod variants;

/// The version byte that values begin with.
const VERSION: u8 = 1;

/// Fields of a record that this program does not know, kept as they are.
pub type Unknown = serde_json::Map<String, serde_json::Value>;

/// The first byte of a key: which table it belongs to.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Table {
    Counter = 0x01,
    Owner = 0x02,
    Team = 0x03,
    TeamBySlug = 0x04,
    User = 0x05,
    TokenBySecret = 0x06,
    Token = 0x07,
    UserByEmail = 0x08,
    AccountDeleted = 0x09,
    Invite = 0x0a,
    Usage = 0x0b,
    Project = 0x10,
    ProjectByName = 0x11,
    ProjectByShortId = 0x12,
    Environment = 0x20,
    Release = 0x21,
    ReleaseLog = 0x22,
    Image = 0x23,
    Commit = 0x24,
    History = 0x25,
    Pin = 0x26,
    ProjectUsage = 0x27,
    Plan = 0x30,
    Audit = 0x40,
    Idempotency = 0x50,
    VariantsWanted = 0x60,
    VariantsMade = 0x61,
    Domain = 0x70,
    DomainClaim = 0x71,
    DomainDue = 0x72,
    DomainAlike = 0x73,
}

/// Writes a key, part by part.
#[derive(Debug)]
pub(crate) struct KeyWriter(BytesMut);

impl KeyWriter {
    pub(crate) fn new(table: Table) -> Self {
        let mut key = BytesMut::with_capacity(64);
        key.put_u8(table as u8);
        Self(key)
    }

    /// Bytes of a length that the table fixes.
    pub(crate) fn fixed<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// A number, so that the order of keys is its order.
    pub(crate) fn number(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    /// A text of at most 255 bytes: names are shorter.
    pub(crate) fn text(mut self, text: &str) -> Self {
        let length = u8::try_from(text.len()).expect("names and addresses are at most 255 bytes");
        self.0.put_u8(length);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn finish(self) -> Key {
        self.0.freeze()
    }
}

/// A record as it was read, with the revision that a later commit can check.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// The record.
    pub record: T,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// Writes a record's value.
pub(crate) fn encode<T: Serialize>(record: &T) -> Bytes {
    let mut value = vec![VERSION];
    serde_json::to_writer(&mut value, record).expect("records have text keys and finite numbers");
    value.into()
}

/// Reads a record's value; `what` names the kind where it cannot be read.
pub(crate) fn decode<T: DeserializeOwned>(item: &Item, what: &'static str) -> Result<Stored<T>, MetaError> {
    let record = match item.value.split_first() {
        Some((&VERSION, json)) => serde_json::from_slice(json).map_err(|error| {
            tracing::error!(%error, what, "a record cannot be read");
            MetaError::Damaged { what }
        })?,
        _ => return Err(MetaError::Damaged { what }),
    };
    Ok(Stored { record, revision: item.revision })
}

/// Reads one record.
pub(crate) async fn read<T: DeserializeOwned>(
    meta: &dyn MetaStore,
    key: Key,
    what: &'static str,
) -> Result<Option<Stored<T>>, MetaError> {
    let item = meta.get(&[key]).await?.pop().flatten();
    item.map(|item| decode(&item, what)).transpose()
}

/// Reads several records of one kind, all of one moment, in the order of `keys`.
pub(crate) async fn read_all<T: DeserializeOwned>(
    meta: &dyn MetaStore,
    keys: &[Key],
    what: &'static str,
) -> Result<Vec<Option<Stored<T>>>, MetaError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let items = meta.get(keys).await?;
    items.into_iter().map(|item| item.map(|item| decode(&item, what)).transpose()).collect()
}

/// The number at the end of a key.
pub(crate) fn trailing_number(key: &[u8]) -> Result<u64, MetaError> {
    let digits = key.len().checked_sub(8).map(|start| &key[start..]);
    let digits: Option<[u8; 8]> = digits.and_then(|digits| digits.try_into().ok());
    digits.map(u64::from_be_bytes).ok_or(MetaError::Damaged { what: "key" })
}
