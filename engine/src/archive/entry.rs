//! What every format has: entries, with a name, a kind and bytes.

use std::ops::ControlFlow;

use super::error::Fault;

/// One entry, as the archive says it: nothing of it is checked.
#[derive(Debug)]
pub(super) struct Entry<'e> {
    /// From 1, in the archive's order.
    pub(super) number: u64,
    pub(super) name: &'e [u8],
    pub(super) kind: Kind,
    /// What a link leads to.
    pub(super) target: &'e [u8],
    /// How many bytes a file has; they are counted when they are read.
    pub(super) size: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    File,
    Folder,
    /// Leads to a name as it is in the archive.
    HardLink,
    /// Leads to a path from where the link is.
    SymbolicLink,
    /// Whatever else a file system has, by its name.
    Special(&'static str),
}

/// The bytes of an entry: as many as it says, or a fault.
pub(super) trait Content {
    /// Reads some bytes; none at the end only.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault>;
}

/// Called for each entry; what it does not read of the content is passed over.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&Entry<'_>, &mut dyn Content) -> Result<ControlFlow<()>, Fault>;
