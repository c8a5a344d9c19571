//! Which variants the files of a manifest have: the canonical bytes that a server looks them up in.
//!
//! One object for a manifest, named by the digest of its bytes, so it is kept for as long as one likes and is never wrong.
//! It is searched in place: opening one checks the bytes once and builds no map. It names no manifest, so manifests
//! whose files have the same variants share it. `docs/formats.md` has the bytes.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::coding::{Coding, Variant, Variants};
use crate::hash::{BlobHash, VariantListId};

const MAGIC: &[u8; 4] = b"PSVL";
const VERSION: u16 = 1;
const HEADER: usize = 12;
/// Bytes of a variant: its name and its size.
const VARIANT: usize = 40;
/// Bytes of one blob: its name and a variant in each coding.
const ENTRY: usize = 32 + Coding::ALL.len() * VARIANT;

/// Why bytes are not a variant list, or variants do not make one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VariantListError {
    /// The bytes do not begin as a list does, or there are more or fewer than it says.
    #[error("the bytes are not a variant list")]
    Length,
    /// A later program wrote it.
    #[error("the variant list has version {found}, and this program knows version {VERSION}")]
    Newer {
        /// The version found.
        found: u16,
    },
    /// Something is not in the one form that is allowed.
    #[error("a variant list's {0} is not canonical")]
    NotCanonical(&'static str),
    /// There are more blobs than the format can count.
    #[error("a variant list has more blobs than the format can hold")]
    TooLarge,
}

/// A checked list. Cloning it shares the bytes.
#[derive(Clone)]
pub struct VariantList {
    id: VariantListId,
    bytes: Bytes,
}

impl VariantList {
    /// Checks `bytes` from end to end: the version, the order, every variant, and that nothing is left over.
    ///
    /// # Errors
    ///
    /// Says what is wrong. A list of a newer version is refused as such.
    pub fn open(bytes: Bytes) -> Result<Self, VariantListError> {
        check(&bytes)?;
        Ok(Self { id: VariantListId::of(&bytes), bytes })
    }

    /// Writes the canonical bytes of a list. Blobs without variants are left out; where none has any, there is no list.
    ///
    /// # Errors
    ///
    /// Where a blob comes before the one before it, a variant is empty, or there are too many.
    pub fn write(
        blobs: impl IntoIterator<Item = (BlobHash, Variants)>,
    ) -> Result<Option<(VariantListId, Bytes)>, VariantListError> {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u16_le(VERSION);
        out.put_bytes(0, HEADER - MAGIC.len() - 2);
        let mut count = 0_u32;
        for (identity, variants) in blobs.into_iter().filter(|(_, variants)| !variants.is_empty()) {
            count = count.checked_add(1).ok_or(VariantListError::TooLarge)?;
            out.put_slice(identity.as_bytes());
            for coding in Coding::ALL {
                match variants.get(coding) {
                    Some(variant) => {
                        out.put_slice(variant.blob.as_bytes());
                        out.put_u64_le(variant.size);
                    }
                    None => out.put_bytes(0, VARIANT),
                }
            }
        }
        if count == 0 {
            return Ok(None);
        }
        out[HEADER - 4..HEADER].copy_from_slice(&count.to_le_bytes());
        let bytes = out.freeze();
        check(&bytes)?;
        Ok(Some((VariantListId::of(&bytes), bytes)))
    }

    /// The digest of the canonical bytes.
    #[must_use]
    pub fn id(&self) -> VariantListId {
        self.id
    }

    /// The canonical bytes, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many blobs have variants; one at least.
    #[must_use]
    pub fn blobs(&self) -> usize {
        (self.bytes.len() - HEADER) / ENTRY
    }

    /// The most bytes that the list of a manifest with `files` files has.
    #[must_use]
    pub fn most_bytes(files: usize) -> usize {
        files.saturating_mul(ENTRY).saturating_add(HEADER)
    }

    /// The variants of `identity`, by binary search in the stored bytes.
    #[must_use]
    pub fn get(&self, identity: &BlobHash) -> Variants {
        let (mut low, mut high) = (0, self.blobs());
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.raw(middle);
            match entry[..32].cmp(identity.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return variants_of(entry),
            }
        }
        Variants::default()
    }

    /// Every blob that has variants, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (BlobHash, Variants)> {
        (0..self.blobs()).map(|index| {
            let entry = self.raw(index);
            (BlobHash::from_bytes(array(&entry[..32])), variants_of(entry))
        })
    }

    fn raw(&self, index: usize) -> &[u8] {
        &self.bytes[HEADER + index * ENTRY..][..ENTRY]
    }
}

impl fmt::Debug for VariantList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VariantList").field("id", &self.id).field("blobs", &self.blobs()).finish_non_exhaustive()
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the list's length was checked")
}

fn variants_of(entry: &[u8]) -> Variants {
    let mut variants = Variants::default();
    for (coding, variant) in Coding::ALL.into_iter().zip(entry[32..].chunks_exact(VARIANT)) {
        let (blob, size) = variant.split_at(32);
        let size = u64::from_le_bytes(array(size));
        if size != 0 {
            variants = variants.with(coding, Variant { blob: BlobHash::from_bytes(array(blob)), size });
        }
    }
    variants
}

fn check(bytes: &[u8]) -> Result<(), VariantListError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(VariantListError::Length)?;
    let Some((version, rest)) = rest.split_first_chunk::<2>() else { return Err(VariantListError::Length) };
    match u16::from_le_bytes(*version) {
        VERSION => {}
        found if found > VERSION => return Err(VariantListError::Newer { found }),
        _ => return Err(VariantListError::NotCanonical("version")),
    }
    let Some((reserved, rest)) = rest.split_first_chunk::<2>() else { return Err(VariantListError::Length) };
    if *reserved != [0; 2] {
        return Err(VariantListError::NotCanonical("header"));
    }
    let Some((count, entries)) = rest.split_first_chunk::<4>() else { return Err(VariantListError::Length) };
    let count = u32::from_le_bytes(*count) as usize;
    if count == 0 {
        return Err(VariantListError::NotCanonical("emptiness"));
    }
    if count.checked_mul(ENTRY) != Some(entries.len()) {
        return Err(VariantListError::Length);
    }
    let mut previous: Option<&[u8]> = None;
    for entry in entries.chunks_exact(ENTRY) {
        let (identity, variants) = entry.split_at(32);
        if previous.is_some_and(|previous| previous >= identity) {
            return Err(VariantListError::NotCanonical("order of blobs"));
        }
        previous = Some(identity);
        let mut has_any = false;
        for variant in variants.chunks_exact(VARIANT) {
            let (blob, size) = variant.split_at(32);
            let is_empty = size == [0; 8];
            if is_empty && blob != [0; 32] {
                return Err(VariantListError::NotCanonical("size of a variant"));
            }
            has_any |= !is_empty;
        }
        if !has_any {
            return Err(VariantListError::NotCanonical("blob without variants"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> BlobHash {
        BlobHash::from_bytes([byte; 32])
    }

    fn variants(sizes: [u64; 3]) -> Variants {
        let all = Coding::ALL.into_iter().zip(sizes).filter(|(_, size)| *size > 0);
        all.fold(Variants::default(), |variants, (coding, size)| {
            variants.with(coding, Variant { blob: BlobHash::of(&size.to_le_bytes()), size })
        })
    }

    fn list() -> (VariantListId, Bytes) {
        let blobs = [(1, [10, 20, 30]), (2, [0, 0, 0]), (5, [0, 7, 0]), (9, [u64::MAX, 0, 1])];
        VariantList::write(blobs.map(|(blob, sizes)| (hash(blob), variants(sizes)))).unwrap().unwrap()
    }

    #[test]
    fn what_is_written_is_found_again() {
        let (id, bytes) = list();
        let list = VariantList::open(bytes.clone()).unwrap();
        assert_eq!((list.id(), list.blobs(), list.as_bytes()), (id, 3, &bytes));
        assert_eq!(bytes.len(), VariantList::most_bytes(3));
        for (blob, want) in [
            (0, [0; 3]),
            (1, [10, 20, 30]),
            (2, [0; 3]),
            (5, [0, 7, 0]),
            (8, [0; 3]),
            (9, [u64::MAX, 0, 1]),
            (255, [0; 3]),
        ] {
            assert_eq!(list.get(&hash(blob)), variants(want), "blob {blob}");
        }
        assert_eq!(VariantList::write(list.iter()).unwrap(), Some((id, bytes)), "one byte string for one content");
    }

    #[test]
    fn nothing_makes_no_list() {
        assert_eq!(VariantList::write([]), Ok(None));
        assert_eq!(VariantList::write([(hash(1), Variants::default())]), Ok(None));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let one = variants([1, 2, 3]);
        for wrong in [[hash(2), hash(1)], [hash(1), hash(1)]] {
            let written = VariantList::write(wrong.map(|blob| (blob, one)));
            assert_eq!(written, Err(VariantListError::NotCanonical("order of blobs")));
        }
        let (_, bytes) = list();
        let open = |bytes: &[u8]| VariantList::open(Bytes::copy_from_slice(bytes));
        for cut in 0..bytes.len() {
            assert!(open(&bytes[..cut]).is_err(), "cut to {cut}");
        }
        assert!(open(&[&bytes[..], &[0]].concat()).is_err(), "with a byte behind it");
        let mut newer = bytes.to_vec();
        newer[4] = 2;
        assert_eq!(open(&newer).unwrap_err(), VariantListError::Newer { found: 2 });
        newer[4] = 0;
        assert!(open(&newer).is_err());
        let empty = [&b"PSVL\x01\0\0\0"[..], &[0; 4]].concat();
        assert_eq!(open(&empty).unwrap_err(), VariantListError::NotCanonical("emptiness"));
        let mut without = bytes.to_vec();
        without[HEADER + 32..HEADER + ENTRY].fill(0);
        assert_eq!(open(&without).unwrap_err(), VariantListError::NotCanonical("blob without variants"));
        let mut named = bytes.to_vec();
        named[HEADER + 64..HEADER + 72].fill(0);
        assert_eq!(open(&named).unwrap_err(), VariantListError::NotCanonical("size of a variant"));
    }

    #[test]
    fn a_flipped_bit_makes_another_list_or_none() {
        let (id, bytes) = list();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.to_vec();
                flipped[at] ^= 1 << bit;
                // Its name is the digest of its bytes, which whoever reads one by its name compares.
                let opened = VariantList::open(flipped.into());
                assert!(opened.is_err() || opened.is_ok_and(|list| list.id() != id), "bit {bit} of byte {at}");
            }
        }
    }
}
