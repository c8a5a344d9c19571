//! Where the bytes of an answer come from.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use pinstone_engine::blob::{BlobSource, FileRegion};

use crate::mapped::Mapped;

/// A file's bytes, none of them copied yet.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// All of them, in memory.
    Memory(Bytes),
    /// Where they are stored.
    File(Arc<OpenFile>),
}

impl From<BlobSource> for Source {
    fn from(source: BlobSource) -> Self {
        match source {
            BlobSource::Memory(bytes) => Self::Memory(bytes),
            BlobSource::File(region) => Self::File(Arc::new(OpenFile { region, mapped: OnceLock::new() })),
        }
    }
}

/// A file that is open for all answers that send of it.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) region: FileRegion,
    mapped: OnceLock<Option<Arc<Mapped>>>,
}

impl OpenFile {
    /// The file, mapped when it is first asked for; nothing where it cannot be, or is too small.
    pub(crate) fn mapped(&self) -> Option<&Arc<Mapped>> {
        self.mapped.get_or_init(|| Mapped::of(&self.region)).as_ref()
    }
}
