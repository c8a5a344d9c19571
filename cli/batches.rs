//! Small files, sent many at once: a request and a sync of the server for some thousand of them instead of one each.
//!
//! How many go into a batch follows the link: as long as batches are answered quickly the next ones are larger, and
//! where they take long, smaller, so that a lost one costs little and progress is seen. Where bytes cross a network that
//! is slower than compressing them, they are compressed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use pinstone_api::wire::{Limits, PublicConfig};
use pinstone_engine::blob::pack::LARGEST_PACKED;
use pinstone_engine::hash::BlobHash;

use crate::client::{Client, Failure};
use crate::error::CliError;
use crate::progress::Step;
use crate::upload::{Opened, UploadFailure, blocking, changed, open};
use crate::walk::FoundFile;

/// The first batches' size, in bytes.
const FIRST: u64 = 1 << 20;
/// The smallest.
const SMALLEST: u64 = 64 << 10;
/// All batches under way have at most this many bytes together, but for the smallest.
const IN_FLIGHT: u64 = 64 << 20;
/// The largest.
const LARGEST: u64 = 8 << 20;
/// What a file costs beside its bytes: its head in the batch, and the work on both sides.
const PER_FILE: u64 = 256;
/// Batches that are answered sooner make the next ones larger, and those that take longer make them smaller.
const QUICK: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(4);
/// Above this many bytes a second of compressed data the link is not what is waited for.
const FAST_LINK: f64 = 40e6;
/// Zstandard's own default.
const LEVEL: i32 = 3;

/// Whether a file goes into a batch.
pub(crate) fn is_small(file: &FoundFile) -> bool {
    file.look.size <= LARGEST_PACKED
}

/// Files that are sent in batches, taken from the front.
#[derive(Debug)]
pub(crate) struct Batches<'f> {
    client: &'f Client,
    plan: &'f str,
    limits: Limits,
    left: Mutex<Left<'f>>,
}

#[derive(Debug)]
struct Left<'f> {
    files: std::vec::IntoIter<(&'f FoundFile, BlobHash)>,
    pace: Pace,
}

impl<'f> Batches<'f> {
    /// Asks the server how much it takes at once.
    pub(crate) async fn of(
        client: &'f Client,
        plan: &'f str,
        files: Vec<(&'f FoundFile, BlobHash)>,
        connections: usize,
    ) -> Result<Self, Failure> {
        let config: PublicConfig = client.get(&["config"], &[]).await?;
        let pace = Pace::new(connections, client.is_local());
        Ok(Self { client, plan, limits: config.limits, left: Mutex::new(Left { files: files.into_iter(), pace }) })
    }

    /// The files of the next batch, as large as the pace is now; none where all are taken.
    pub(crate) fn next(&self) -> Option<Vec<(FoundFile, BlobHash)>> {
        let mut left = self.left.lock();
        let size = left.pace.size.min(self.limits.batch_size);
        let (mut batch, mut bytes, mut weight) = (Vec::new(), 0, 0);
        while let Some((file, hash)) = left.files.as_slice().first().copied() {
            bytes += file.look.size;
            weight += file.look.size + PER_FILE;
            let is_full =
                weight > size || bytes > self.limits.batch_size || batch.len() as u64 == self.limits.batch_files;
            if is_full && !batch.is_empty() {
                break;
            }
            left.files.next();
            batch.push((file.clone(), hash));
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Sends one batch.
    pub(crate) async fn send(&self, batch: Vec<(FoundFile, BlobHash)>, step: &Step) -> Result<(), UploadFailure> {
        let compress = self.left.lock().pace.compresses();
        let batch = Arc::new(batch);
        let of = Arc::clone(&batch);
        let (body, encoding) = blocking(move || encode(&of, compress)).await.map_err(UploadFailure::Folder)?;
        let (length, started) = (body.len() as u64, Instant::now());
        let answer = self.client.post_batch(&["upload", self.plan], body, encoding).await;
        let answer = answer.map_err(UploadFailure::Server)?;
        self.left.lock().pace.on_answer(length, started.elapsed());
        if let Some(failed) = answer.failed.first() {
            let file = usize::try_from(failed.index).ok().and_then(|index| batch.get(index));
            return Err(UploadFailure::Folder(match file {
                Some((file, _)) if failed.error.contains("mismatch") => changed(file),
                Some((file, _)) => CliError::failed(format!("`{}` was not taken: {}", file.path, failed.message)),
                None => CliError::failed("the server refused a file that was not sent"),
            }));
        }
        step.advance(batch.iter().map(|(file, _)| file.look.size).sum());
        Ok(())
    }
}

/// The body of a batch: every file's hash, length and bytes.
fn encode(batch: &[(FoundFile, BlobHash)], compress: bool) -> Result<(Bytes, Option<&'static str>), CliError> {
    let length: u64 = batch.iter().map(|(file, _)| file.look.size + 36).sum();
    let mut body = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    for (file, hash) in batch {
        let Opened::Whole(bytes) = open(file)? else { return Err(changed(file)) };
        let length = u32::try_from(bytes.len()).map_err(|_| changed(file))?;
        body.put_slice(hash.as_bytes());
        body.put_u32_le(length);
        body.put_slice(&bytes);
    }
    if compress {
        let packed = zstd::bulk::compress(&body, LEVEL)
            .map_err(|error| CliError::failed(format!("files cannot be compressed: {error}")))?;
        // Less than that is not worth the other side's time.
        if packed.len() < body.len() - body.len() / 16 {
            return Ok((packed.into(), Some("zstd")));
        }
    }
    Ok((body.freeze(), None))
}

/// How large batches are, and whether they are compressed, by how the last ones went. Pure: the caller has the clock.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// The next batch's size, in bytes.
    size: u64,
    largest: u64,
    connections: usize,
    is_local: bool,
    /// Bytes a second over all connections, as the last batch had it; unknown before the first answer.
    rate: Option<f64>,
}

impl Pace {
    fn new(connections: usize, is_local: bool) -> Self {
        let largest = (IN_FLIGHT / connections.max(1) as u64).clamp(SMALLEST, LARGEST);
        Self { size: FIRST.min(largest), largest, connections, is_local, rate: None }
    }

    fn compresses(&self) -> bool {
        !self.is_local && self.rate.is_none_or(|rate| rate < FAST_LINK)
    }

    fn on_answer(&mut self, sent: u64, took: Duration) {
        if took < QUICK {
            self.size = (self.size * 2).min(self.largest);
        } else if took > SLOW {
            self.size = (self.size / 2).max(SMALLEST.min(self.largest));
        }
        self.rate = Some(sent as f64 * self.connections as f64 / took.as_secs_f64().max(1e-6));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{WalkOptions, walk};

    #[test]
    fn batches_grow_while_answers_are_quick_and_shrink_while_they_are_slow() {
        let mut pace = Pace::new(8, false);
        assert_eq!((pace.size, pace.compresses()), (FIRST, true));
        for _ in 0..10 {
            pace.on_answer(100 << 10, Duration::from_millis(100));
        }
        assert_eq!((pace.size, pace.compresses()), (LARGEST, true), "8 MB/s are less than compressing takes");
        pace.on_answer(8 << 20, Duration::from_millis(100));
        assert!(!pace.compresses(), "670 MB/s are more");
        pace.on_answer(8 << 20, Duration::from_secs(1));
        assert_eq!((pace.size, pace.compresses()), (LARGEST, false), "67 MB/s");
        for _ in 0..20 {
            pace.on_answer(1 << 20, Duration::from_secs(10));
        }
        assert_eq!((pace.size, pace.compresses()), (SMALLEST, true));

        assert!(!Pace::new(8, true).compresses(), "there is no network");
        let mut many = Pace::new(256, true);
        for _ in 0..20 {
            many.on_answer(1, Duration::ZERO);
        }
        assert_eq!(many.size, IN_FLIGHT / 256, "all together are bounded");
    }

    #[test]
    fn a_batch_is_heads_and_bytes_and_smaller_where_that_helps() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a", vec![]), ("b", b"two".to_vec()), ("c", vec![7; 65_536])] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let files = walk(folder.path(), &WalkOptions::default()).unwrap().files;
        let hashes: Vec<_> = [&[][..], b"two", &[7; 65_536]].into_iter().map(BlobHash::of).collect();
        let batch: Vec<_> = files.into_iter().zip(hashes).collect();
        let mut want = Vec::new();
        for ((_, hash), bytes) in batch.iter().zip([&[][..], b"two", &[7; 65_536]]) {
            want.extend_from_slice(hash.as_bytes());
            want.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            want.extend_from_slice(bytes);
        }
        let (plain, encoding) = encode(&batch, false).unwrap();
        assert!(plain == want && encoding.is_none());
        let (packed, encoding) = encode(&batch, true).unwrap();
        assert_eq!((zstd::decode_all(&*packed).unwrap() == want, encoding), (true, Some("zstd")));
        let (plain, encoding) = encode(&batch[..2], true).unwrap();
        assert_eq!((plain.len(), encoding), (75, None), "hashes do not compress");

        std::fs::write(folder.path().join("b"), "other").unwrap();
        assert_eq!(encode(&batch, false).unwrap_err().code, "folder_changed");
    }
}
