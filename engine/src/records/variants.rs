//! What is to be made of manifests, and what was: rows of content, which belong to no team.

use serde::{Deserialize, Serialize};

use super::{KeyWriter, Stored, Table, Unknown, decode, encode, read_all};
use crate::clock::UnixMillis;
use crate::hash::{ManifestId, VariantListId};
use crate::meta::{Commit, Key, MetaError, MetaStore, Order, Revision, after_prefix};
use crate::plan::event_bytes;
use crate::pointers::PointerEvent;

/// That the variants of a manifest's files are to be made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct WantedRecord {
    /// Since when.
    pub(crate) at: UnixMillis,
    #[serde(flatten)]
    pub(crate) unknown: Unknown,
}

/// That the variants of a manifest's files were made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MadeRecord {
    /// When.
    pub at: UnixMillis,
    /// What lists them; nothing where no file has any.
    pub list: Option<VariantListId>,
    /// How large the files are with them.
    pub bytes: VariantBytes,
    /// Milliseconds of a processor that were spent on this manifest: none where others had the files before.
    pub cpu_ms: u64,
    /// What this program does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How many bytes the files of a manifest have that are worth encoding, by what they are sent in. A file that has no variant
/// in a coding counts as it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct VariantBytes {
    /// As they are.
    pub identity: u64,
    /// To clients that take `br` only.
    pub br: u64,
    /// To clients that take `zstd` only.
    pub zstd: u64,
    /// To clients that take `gzip` only.
    pub gzip: u64,
    /// To clients that take everything and choose the smallest.
    pub smallest: u64,
}

impl VariantBytes {
    /// What is saved for clients that take everything.
    #[must_use]
    pub fn saved(&self) -> u64 {
        self.identity.saturating_sub(self.smallest)
    }
}

/// That all images which the store had before there were variants are wanted.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct CaughtUpRecord {
    at: UnixMillis,
    #[serde(flatten)]
    unknown: Unknown,
}

pub(crate) fn wanted_key(manifest: &ManifestId) -> Key {
    KeyWriter::new(Table::VariantsWanted).fixed(manifest.as_bytes()).finish()
}

/// The beginning of every wanted manifest's key.
pub(crate) fn wanted_prefix() -> Key {
    KeyWriter::new(Table::VariantsWanted).finish()
}

pub(crate) fn made_key(manifest: &ManifestId) -> Key {
    KeyWriter::new(Table::VariantsMade).fixed(manifest.as_bytes()).finish()
}

/// The beginning of every made manifest's key.
pub(crate) fn made_prefix() -> Key {
    KeyWriter::new(Table::VariantsMade).finish()
}

fn caught_up_key() -> Key {
    KeyWriter::new(Table::Counter).text("variants").finish()
}

/// The manifest that a row's key ends with.
pub(crate) fn manifest_in(key: &Key) -> Result<ManifestId, MetaError> {
    let digest = key.get(1..).and_then(|digest| <[u8; 32]>::try_from(digest).ok());
    digest.map(ManifestId::from_bytes).ok_or(MetaError::Damaged { what: "key" })
}

/// The row that makes a manifest wanted.
pub(crate) fn want(manifest: &ManifestId, at: UnixMillis) -> (Key, bytes::Bytes) {
    (wanted_key(manifest), encode(&WantedRecord { at, unknown: Unknown::new() }))
}

/// Which of `manifests` are neither wanted nor made yet, in their order.
pub(crate) async fn unknown(meta: &dyn MetaStore, manifests: &[ManifestId]) -> Result<Vec<ManifestId>, MetaError> {
    if manifests.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<_> = manifests.iter().flat_map(|manifest| [wanted_key(manifest), made_key(manifest)]).collect();
    let rows = meta.get(&keys).await?;
    let is_unknown = |rows: &[Option<_>]| rows.iter().all(Option::is_none);
    Ok(manifests.iter().zip(rows.chunks(2)).filter(|(_, rows)| is_unknown(rows)).map(|(one, _)| *one).collect())
}

/// The manifest's wanted row, if it has one.
pub(crate) async fn wanted(meta: &dyn MetaStore, manifest: &ManifestId) -> Result<Option<Revision>, MetaError> {
    Ok(meta.get(&[wanted_key(manifest)]).await?.pop().flatten().map(|item| item.revision))
}

/// Up to `limit` manifests that are wanted and come after `after`, in the order of their digests.
pub(crate) async fn scan_wanted(
    meta: &dyn MetaStore,
    after: Option<&ManifestId>,
    limit: usize,
) -> Result<Vec<ManifestId>, MetaError> {
    let prefix = wanted_prefix();
    let from = after.map_or_else(|| prefix.clone(), |after| [&wanted_key(after)[..], &[0]].concat().into());
    let rows = meta.scan(from, after_prefix(&prefix), limit, Order::Ascending).await?;
    rows.iter().map(|(key, _)| manifest_in(key)).collect()
}

/// What was made of each of `manifests`, in their order.
pub(crate) async fn made(meta: &dyn MetaStore, manifests: &[ManifestId]) -> Result<Vec<Option<MadeRecord>>, MetaError> {
    let keys: Vec<_> = manifests.iter().map(made_key).collect();
    let found: Vec<Option<Stored<MadeRecord>>> = read_all(meta, &keys, "variants").await?;
    Ok(found.into_iter().map(|stored| stored.map(|stored| stored.record)).collect())
}

/// Adds to `commit` that a manifest's variants were made, and what tells of it.
pub(crate) fn record_made(commit: Commit, manifest: ManifestId, record: &MadeRecord) -> Commit {
    let event = PointerEvent::Variants { manifest, list: record.list };
    commit.delete(wanted_key(&manifest)).put(made_key(&manifest), encode(record)).event(event_bytes(&event))
}

/// Adds to `commit` that a manifest's variants are to be made anew, and what tells of it.
pub(crate) fn record_lost(commit: Commit, manifest: ManifestId, at: UnixMillis) -> Commit {
    let (key, value) = want(&manifest, at);
    let event = PointerEvent::Variants { manifest, list: None };
    commit.delete(made_key(&manifest)).put(key, value).event(event_bytes(&event))
}

/// Whether the images from before there were variants are all wanted.
pub(crate) async fn has_caught_up(meta: &dyn MetaStore) -> Result<bool, MetaError> {
    let found = meta.get(&[caught_up_key()]).await?.pop().flatten();
    found.map(|item| decode::<CaughtUpRecord>(&item, "variants").map(|_| ())).transpose().map(|found| found.is_some())
}

/// The row that says so.
pub(crate) fn caught_up(at: UnixMillis) -> (Key, bytes::Bytes) {
    (caught_up_key(), encode(&CaughtUpRecord { at, unknown: Unknown::new() }))
}
