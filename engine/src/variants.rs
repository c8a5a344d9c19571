//! Compressed forms of files, made once per blob in the background, and where they are found.
//!
//! A commit says that the variants of its manifest are wanted. Later, and on threads of its own, each file that is worth
//! it is encoded once ever, whoever published it; the variants are stored as blobs, then the blob index says what was
//! made. When all of a manifest is done, a list of it is stored and announced by the event feed. So a release waits for
//! nothing, a request asks no store, and until a list is there the files are sent as they are.

mod desk;
mod directory;
pub(crate) mod encode;
mod list;
mod maker;
mod workers;

pub(crate) use desk::Desk;
pub use desk::VariantCounters;
pub use directory::VariantDirectory;
pub use list::{VariantList, VariantListError};
pub(crate) use maker::MakerHandle;

use crate::records::variants::{MadeRecord, VariantBytes};

/// How variants are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VariantOptions {
    /// Threads that encode. Without any, no variants are made; those that are there are used.
    pub workers: usize,
    /// The largest file that is encoded, in bytes. A thread has it in memory, with its variants and the tables of an
    /// encoder.
    pub largest: u64,
}

impl Default for VariantOptions {
    fn default() -> Self {
        Self { workers: 1, largest: 32 << 20 }
    }
}

/// How far an image's variants are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum VariantState {
    /// All are there.
    Made(VariantBytes),
    /// They are to be made.
    Pending,
    /// They are not made by this process.
    Off,
}

impl VariantState {
    pub(crate) fn of(made: Option<&MadeRecord>, desk: &Desk) -> Self {
        match made {
            Some(made) => Self::Made(made.bytes),
            None if desk.is_staffed() => Self::Pending,
            None => Self::Off,
        }
    }
}
