//! Why an archive is refused, and at which of its entries.

use std::fmt;
use std::io;

use crate::ignored::IgnoreError;
use crate::path::PathError;

/// Why an archive was not read. Whichever it is, nothing of it was published.
///
/// The text tells an entry by its number and repeats no name; who shows it to the archive's owner adds the name.
#[derive(Debug)]
pub struct ArchiveError {
    /// What is wrong.
    pub fault: Fault,
    /// With which entry, where it is one.
    pub entry: Option<EntryRef>,
}

/// An entry of an archive, as its owner finds it again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EntryRef {
    /// From 1, in the order in which `tar -t` or `zipinfo -1` list them.
    pub number: u64,
    /// Its name, as far as it is text and short enough to show; empty where it has none.
    pub name: Box<str>,
}

impl EntryRef {
    /// The longest name that is kept for a message, in bytes.
    const LONGEST: usize = 300;

    pub(super) fn new(number: u64, name: &[u8]) -> Self {
        let shown = &name[..name.len().min(Self::LONGEST)];
        Self { number, name: String::from_utf8_lossy(shown).into() }
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(f, "entry {}: {}", entry.number, self.fault),
            None => write!(f, "the archive: {}", self.fault),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.fault)
    }
}

impl From<Fault> for ArchiveError {
    fn from(fault: Fault) -> Self {
        Self { fault, entry: None }
    }
}

/// What is wrong with an archive or with one of its entries. Each text has what it is said of left out.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It has no bytes.
    #[error("it has no bytes")]
    Empty,
    /// Its first bytes are those of no format that is known.
    #[error("it is neither a tar, a tar.gz, a tar.zst nor a zip")]
    NotAnArchive,
    /// It is packed, and what is packed is no tar.
    #[error("it is compressed, but what is in it is no tar")]
    NotATar,
    /// It is packed by something that is known and not taken.
    #[error("it is compressed by {0}, which is not taken")]
    Packing(&'static str),
    /// A part of a format that is known and not taken.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The bytes contradict each other or the format, or end too early.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// A name cannot be a path in a site.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// A link leads to nothing that could be published.
    #[error(transparent)]
    Link(#[from] LinkFault),
    /// Something that is no file.
    #[error("it is {0}, not a file")]
    Special(&'static str),
    /// A name that an entry before it has.
    #[error("another entry has the same name")]
    Duplicate,
    /// A file where another entry needs a folder.
    #[error("it is no folder, and another entry is in it")]
    FileAndFolder,
    /// Too many entries, folders and ignored ones among them.
    #[error("it has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// Too many bytes of names.
    #[error("the names of its entries have more than {limit} bytes together")]
    NamesTooLong {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It unpacks to too many bytes.
    #[error("it unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// A file is too large.
    #[error("the file has more than {limit} bytes")]
    FileTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It unpacks to too many times its own bytes.
    #[error("it unpacks to more than {times} times its size")]
    Ratio {
        /// The limit.
        times: u64,
    },
    /// Nothing in it is to be published.
    #[error("it has no files to publish; {ignored} of its entries are ignored")]
    NoFiles {
        /// How many entries are ignored.
        ignored: u64,
    },
    /// Its own ignore file is not usable.
    #[error("its `.pinstoneignore` is not usable: {0}")]
    Ignore(&'static str),
    /// A line of its own ignore file is no pattern. The pattern itself is in the source.
    #[error("line {} of its `.pinstoneignore` is no pattern", .0.line)]
    IgnoreLine(#[source] IgnoreError),
    /// There is no memory left for its list of files.
    #[error("there is no memory left for its list of files")]
    NoMemory,
    /// The file that the archive is in cannot be read.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

impl Fault {
    /// The same fault, of an entry.
    pub(super) fn of(self, entry: EntryRef) -> ArchiveError {
        // What is wrong with the archive as a whole, or with the disk, is no entry's fault.
        let whole = matches!(
            self,
            Self::TooManyEntries { .. }
                | Self::NamesTooLong { .. }
                | Self::TooLarge { .. }
                | Self::Ratio { .. }
                | Self::NoMemory
                | Self::Io(_)
        );
        ArchiveError { fault: self, entry: (!whole).then_some(entry) }
    }
}

/// Why a name cannot be a path in a site.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameFault {
    /// There is none.
    #[error("it has no name")]
    Empty,
    /// Not text.
    #[error("its name is not UTF-8")]
    NotUtf8,
    /// A NUL, behind which programs see different names.
    #[error("its name has a NUL")]
    Nul,
    /// It starts with `/`.
    #[error("its name is absolute")]
    Absolute,
    /// It starts with a drive's letter.
    #[error("its name starts with a drive letter")]
    Drive,
    /// It leads up.
    #[error("its name has a `..` segment")]
    Parent,
    /// A backslash, which one system takes for a letter and another for a separator.
    #[error("its name has a backslash")]
    Backslash,
    /// An empty or `.` segment within the name.
    #[error("its name has an empty or `.` segment")]
    Segment,
    /// A control character.
    #[error("its name has a control character")]
    Control,
    /// Too long.
    #[error("its name is longer than 1,024 bytes, or a segment of it longer than 255")]
    TooLong,
}

impl From<PathError> for NameFault {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Empty => Self::Empty,
            PathError::Absolute => Self::Absolute,
            PathError::Segment => Self::Segment,
            PathError::Control => Self::Control,
            PathError::Backslash => Self::Backslash,
            PathError::TooLong => Self::TooLong,
        }
    }
}

/// Why a link cannot be followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LinkFault {
    /// It leads out of the archive.
    #[error("it is a link that leads out of the archive")]
    Out,
    /// What it names is not in the archive.
    #[error("it is a link to something that is not in the archive")]
    Nowhere,
    /// It leads to itself, or to a folder that it is in, or through too many others.
    #[error("it is a link that leads in a circle")]
    Circle,
    /// Links and what they lead through are too many.
    #[error("it is a link, and the archive's links lead through too many others")]
    TooLong,
    /// What it names cannot be a name.
    #[error("it is a link to something that can have no name")]
    Target,
}
