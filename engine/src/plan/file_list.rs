//! The body of a plan: its files in the order of paths, as one object. `docs/formats.md` describes the bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::PlannedFile;
use crate::hash::BlobHash;
use crate::path::SitePath;

const MAGIC: &[u8; 4] = b"PSPL";
const VERSION: u16 = 1;
/// The size of a file whose size was not announced.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// Writes the files, which are sorted already.
pub(super) fn encode(files: &[PlannedFile]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + files.len() * 96);
    out.extend_from_slice(MAGIC);
    out.put_u16_le(VERSION);
    out.put_u16_le(0);
    out.put_u32_le(u32::try_from(files.len()).expect("a plan has fewer files than its JSON has bytes"));
    for file in files {
        out.extend_from_slice(file.blob.as_bytes());
        out.put_u64_le(file.size.unwrap_or(UNKNOWN_SIZE));
        put_text(&mut out, &file.path);
        put_text(&mut out, file.content_type.as_deref().unwrap_or(""));
    }
    out.freeze()
}

fn put_text(out: &mut BytesMut, text: &str) {
    // Paths are at most 1,024 bytes, and longer content types are dropped when a plan is taken.
    out.put_u16_le(u16::try_from(text.len()).expect("texts of a plan are short"));
    out.extend_from_slice(text.as_bytes());
}

/// Reads the files; nothing where the bytes are not what [`encode`] writes.
pub(super) fn decode(mut bytes: Bytes) -> Option<Vec<PlannedFile>> {
    if bytes.len() < 12 || bytes.split_to(4) != MAGIC[..] || bytes.get_u16_le() != VERSION || bytes.get_u16_le() != 0 {
        return None;
    }
    let count = bytes.get_u32_le() as usize;
    let mut files = Vec::with_capacity(count.min(bytes.len() / 44));
    for _ in 0..count {
        if bytes.len() < 40 {
            return None;
        }
        let mut blob = [0; 32];
        bytes.copy_to_slice(&mut blob);
        let size = bytes.get_u64_le();
        let path = SitePath::new(take_text(&mut bytes)?).ok()?;
        let content_type = take_text(&mut bytes)?;
        files.push(PlannedFile {
            path,
            blob: BlobHash::from_bytes(blob),
            size: (size != UNKNOWN_SIZE).then_some(size),
            content_type: (!content_type.is_empty()).then_some(content_type),
        });
    }
    bytes.is_empty().then_some(files)
}

fn take_text(bytes: &mut Bytes) -> Option<String> {
    if bytes.len() < 2 {
        return None;
    }
    let length = usize::from(bytes.get_u16_le());
    if bytes.len() < length {
        return None;
    }
    String::from_utf8(bytes.split_to(length).into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_survive_their_bytes_and_cut_bytes_are_refused() {
        let files = vec![
            PlannedFile {
                path: SitePath::new("a/ü.html").unwrap(),
                blob: BlobHash::of(b"a"),
                size: Some(1),
                content_type: Some("text/html".into()),
            },
            PlannedFile { path: SitePath::new("b").unwrap(), blob: BlobHash::of(b""), size: None, content_type: None },
        ];
        let bytes = encode(&files);
        assert_eq!(decode(bytes.clone()), Some(files));
        for end in 0..bytes.len() {
            assert_eq!(decode(bytes.slice(..end)), None, "cut at {end}");
        }
    }
}
