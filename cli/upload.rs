//! Sending what the server lacks, over several connections: small files in [`batches`], large ones alone.
//!
//! A file is streamed from disk, and must look before and after as it did when it was hashed: what arrives is either
//! what was planned, or nothing.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt, stream};
use pinstone_api::wire::PlanAnswer;
use pinstone_engine::hash::BlobHash;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use crate::batches::{self, Batches};
use crate::client::{Client, Failure};
use crate::error::{CliError, file_error};
use crate::hashing::{check_unchanged, open_unchanged};
use crate::progress::Step;
use crate::walk::FoundFile;

/// Files up to this many bytes are read whole: one hop to the blocking pool instead of several.
const SMALL: u64 = 256 * 1024;
/// How much of a larger file is read at once.
pub(crate) const WINDOW: usize = 128 * 1024;

/// Why an upload ended.
#[derive(Debug)]
pub(crate) enum UploadFailure {
    /// The server, or the way to it.
    Server(Failure),
    /// The folder.
    Folder(CliError),
}

/// Uploads `files` for a plan, `connections` requests at a time. The first failure ends all.
pub(crate) async fn upload_all(
    client: &Client,
    plan: &PlanAnswer,
    files: &[(&FoundFile, BlobHash)],
    connections: usize,
    step: &Arc<Step>,
) -> Result<(), UploadFailure> {
    let id = &*plan.plan_id;
    // A server of another make may take no batches, and one file is no batch.
    let (small, large): (Vec<_>, Vec<_>) = files.iter().copied().partition(|(file, _)| batches::is_small(file));
    let (small, alone) = if plan.batch_url.is_empty() || small.len() < 2 {
        (Vec::new(), [small, large].concat())
    } else {
        (small, large)
    };
    if !small.is_empty() {
        let batches = Batches::of(client, id, small, connections).await.map_err(UploadFailure::Server)?;
        let send = |batch| batches.send(batch, step);
        drain(stream::iter(std::iter::from_fn(|| batches.next())).map(send).buffer_unordered(connections.max(1)))
            .await?;
    }
    let one = |&(file, hash): &(&FoundFile, BlobHash)| upload(client, id, file.clone(), hash, step);
    drain(stream::iter(alone.iter().map(one)).buffer_unordered(connections.max(1))).await
}

async fn drain(uploads: impl Stream<Item = Result<(), UploadFailure>>) -> Result<(), UploadFailure> {
    let mut uploads = std::pin::pin!(uploads);
    while let Some(ended) = uploads.next().await {
        ended?;
    }
    Ok(())
}

async fn upload(
    client: &Client,
    plan: &str,
    found: FoundFile,
    hash: BlobHash,
    step: &Arc<Step>,
) -> Result<(), UploadFailure> {
    let found = Arc::new(found);
    let hash = hash.to_string();
    let told = Arc::new(AtomicU64::new(0));
    let body = async || {
        // What an earlier try has sent is sent again.
        step.take_back(told.swap(0, Ordering::Relaxed));
        let of = Arc::clone(&found);
        let opened = blocking(move || open(&of)).await?;
        Ok::<_, CliError>(match opened {
            Opened::Whole(bytes) => {
                told.store(found.look.size, Ordering::Relaxed);
                step.advance(found.look.size);
                reqwest::Body::from(bytes)
            }
            Opened::File(file) => {
                let (told, step) = (Arc::clone(&told), Arc::clone(step));
                // Not more than was planned, should the file grow meanwhile.
                let file = tokio::fs::File::from_std(file).take(found.look.size);
                let chunks = ReaderStream::with_capacity(file, WINDOW).inspect(move |chunk| {
                    let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    told.fetch_add(length, Ordering::Relaxed);
                    step.advance(length);
                });
                reqwest::Body::wrap_stream(chunks)
            }
        })
    };
    let sent = client.put(&["upload", plan, &hash], found.look.size, body).await.map_err(UploadFailure::Folder)?;
    let of = Arc::clone(&found);
    blocking(move || File::open(&of.on_disk).map_err(|_| changed(&of)).and_then(|file| check_unchanged(&of, &file)))
        .await
        .map_err(UploadFailure::Folder)?;
    match sent {
        Ok(()) => Ok(()),
        // The bytes that were sent are not those that were hashed, although the file looks the same.
        Err(failure) if failure.code.contains("mismatch") => Err(UploadFailure::Folder(changed(&found))),
        Err(failure) => Err(UploadFailure::Server(failure)),
    }
}

/// A file that is about to be sent.
pub(crate) enum Opened {
    Whole(Vec<u8>),
    File(File),
}

/// Opens a file that still looks as it did when it was found; reads it where it is small.
pub(crate) fn open(found: &FoundFile) -> Result<Opened, CliError> {
    let file = open_unchanged(found)?;
    let size = found.look.size;
    if size > SMALL {
        return Ok(Opened::File(file));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    (&file).take(size).read_to_end(&mut bytes).map_err(|error| file_error(&found.on_disk, &error))?;
    if bytes.len() as u64 == size { Ok(Opened::Whole(bytes)) } else { Err(changed(found)) }
}

pub(crate) fn changed(found: &FoundFile) -> CliError {
    CliError::folder_changed(&found.path)
}

/// Runs what may wait for a disk where it keeps nobody else waiting.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(CliError::failed("the process is ending")),
        },
    }
}
