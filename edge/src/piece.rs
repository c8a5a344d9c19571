//! A piece of a body, on its way to the socket.

use bytes::{Buf, Bytes};

use crate::mapped::{LargeFiles, Stored};

/// Some bytes of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// In memory.
    Bytes(Bytes),
    /// In a file, from where the kernel sends them.
    Stored(Stored),
}

impl Piece {
    /// Bytes of a file, as they reach the socket.
    pub(crate) fn of_file(stored: Stored, large_files: LargeFiles) -> Self {
        match large_files {
            LargeFiles::Sent => Self::Stored(stored),
            LargeFiles::Copied | LargeFiles::Read => Self::Bytes(stored.into_bytes()),
        }
    }

    /// How many bytes they are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(stored) => stored.len(),
        }
    }

    /// How many of them are stored in a file.
    pub(crate) fn stored(&self) -> usize {
        if let Self::Stored(stored) = self { stored.len() } else { 0 }
    }

    /// Whether they are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Leaves no more than the first `bytes`.
    pub(crate) fn truncate(&mut self, bytes: usize) {
        match self {
            Self::Bytes(all) => all.truncate(bytes),
            Self::Stored(stored) => stored.truncate(bytes),
        }
    }

    /// Takes the first `bytes` out of it.
    pub(crate) fn split_to(&mut self, bytes: usize) -> Self {
        match self {
            Self::Bytes(all) => Self::Bytes(all.split_to(bytes)),
            Self::Stored(stored) => Self::Stored(stored.split_to(bytes)),
        }
    }
}

impl Default for Piece {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Stored(stored) => stored.bytes(),
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self {
            Self::Bytes(rest) => rest.advance(bytes),
            Self::Stored(stored) => stored.advance(bytes),
        }
    }
}
