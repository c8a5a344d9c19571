//! A piece of a body, on its way to the socket.

use bytes::{Buf, Bytes};

use crate::mapped::{LargeFiles, Stored};

/// Some bytes of a body.
#[derive(Debug)]
pub(crate) enum Piece {
    /// In memory.
    Bytes(Bytes),
    /// In a file, from where the kernel sends them. Boxed, for few pieces are such.
    Stored(Box<Stored>),
}

impl Piece {
    /// Bytes of a file, as they reach the socket.
    pub(crate) fn of_file(stored: Stored, large_files: LargeFiles) -> Self {
        match large_files {
            LargeFiles::Sent => Self::Stored(Box::new(stored)),
            LargeFiles::Copied | LargeFiles::Read => Self::Bytes(stored.into_bytes()),
        }
    }

    /// How many bytes they are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(stored) => stored.bytes().len(),
        }
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

    /// The same bytes as any others, for who frames or encrypts them.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Stored(stored) => stored.into_bytes(),
        }
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
