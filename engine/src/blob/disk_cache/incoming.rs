//! Bytes of a fetch on their way into the cache.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Failure, off_thread};

/// What of a file is in memory before it is written, in bytes.
pub(super) const BATCH: usize = 512 << 10;

/// Where the bytes of a fetch go.
pub(super) enum Sink {
    Memory(BytesMut),
    File(Box<Incoming>),
}

/// A file that grows.
pub(super) struct Incoming {
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) hasher: blake3::Hasher,
    /// What is to be written next, at once: see `object_writer.rs`.
    batch: Vec<u8>,
    written: u64,
    /// Whether it has its place, and is not to be removed.
    pub(super) has_name: bool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.has_name {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Sink {
    pub(super) async fn take(&mut self, piece: Bytes) -> Result<(), Failure> {
        match self {
            Self::Memory(bytes) => bytes.extend_from_slice(&piece),
            Self::File(incoming) => {
                incoming.batch.extend_from_slice(&piece);
                if incoming.batch.len() >= BATCH {
                    incoming.flush().await?;
                }
            }
        }
        Ok(())
    }
}

impl Incoming {
    /// An empty file, that only this user may read.
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let (file, hasher) = (Arc::new(file), blake3::Hasher::new());
        Ok(Self { file, path, hasher, batch: Vec::new(), written: 0, has_name: false })
    }

    /// Hashes and writes what was gathered.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let (mut batch, file, at) = (std::mem::take(&mut self.batch), Arc::clone(&self.file), self.written);
        let mut hasher = std::mem::take(&mut self.hasher);
        self.written += batch.len() as u64;
        let written = off_thread(move || {
            hasher.update(&batch);
            file.write_all_at(&batch, at)?;
            batch.clear();
            Ok((hasher, batch))
        });
        (self.hasher, self.batch) = written.await?.map_err(Failure::disk)?;
        Ok(())
    }
}
