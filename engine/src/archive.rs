//! Reading a site out of an archive: tar, tar.gz, tar.zst or zip, told by its first bytes and never by a name.
//!
//! An archive comes from anybody who may publish, and is believed nothing. It is read twice. The first reading looks at
//! every entry, hashes every file, and ends with the site's list of files or with a refusal; until then nothing of it has
//! gone anywhere. The second hands out the bytes that somebody lacks. What can be asked of either is bounded before it
//! begins: entries, bytes of names, bytes that come out, in all and in comparison with the archive's own, and for each
//! file.
//!
//! What becomes of an archive is what becomes of the folder that `tar` or `unzip` would make of it, were that published:
//! the same names are ignored, and links are followed as long as they stay within. What a folder could not hold, or what
//! two programs would unpack differently, is refused: names that lead elsewhere, two entries of one name, a file that is
//! a folder as well, headers that contradict each other.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};
use std::ops::ControlFlow;

use crate::hash::BlobHash;
use crate::limits::Limits;
use crate::path::SitePath;
use crate::unzstd::is_zstd;

mod entry;
mod error;
mod name;
mod publish;
mod tar;
mod tree;
mod unpack;
mod zip;

pub use error::{ArchiveError, EntryRef, Fault, LinkFault, NameFault};
pub use publish::{ArchivePublish, ArchivePublishError, ArchivePublished};

use entry::{Content, Entry, Kind, Visit};
use tree::Tree;
use unpack::{Allowance, Packing, Unpacked};

/// How many times its own size an archive may unpack to. Text of sites is packed to a fifth or a tenth.
const MOST_TIMES: u64 = 100;
/// What may come out of an archive however small it is, in bytes: a few pages of one letter are no bomb.
const NO_BOMB: u64 = 16 << 20;
/// How much of a file is hashed at once.
const HASH_WINDOW: usize = 128 << 10;
/// The largest ignore file that is read out of an archive, in bytes.
const LONGEST_IGNORE_FILE: u64 = 64 << 10;

/// Bounds of what an archive may be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveLimits {
    /// Entries, folders and ignored ones among them; and files of the site, once its links are followed.
    pub entries: u64,
    /// Bytes of one file that is published.
    pub file_size: u64,
    /// Bytes of all names together.
    pub names: u64,
    /// Bytes that come out of it.
    pub unpacked: u64,
    /// How many times its own bytes may come out of it, once these are more than 16 MiB.
    pub times: u64,
}

impl From<&Limits> for ArchiveLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            entries: limits.files,
            file_size: limits.file_size,
            // A list of the same files would have at least as many bytes.
            names: limits.plan_size,
            unpacked: limits.archive_unpacked,
            times: MOST_TIMES,
        }
    }
}

/// How an archive is packed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    /// A tar as it is.
    Tar,
    /// A tar in gzip, of one member or several.
    TarGz,
    /// A tar in zstd, of one frame or several.
    TarZst,
    /// A zip, its entries stored or deflated.
    Zip,
}

impl Format {
    /// The ending that such files have.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            Self::Zip => "zip",
        }
    }
}

/// How the files of an archive become a site's.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// How many folders are taken away from the start of each name; what has no more than these is left out.
    pub strip: usize,
    /// Ignore lines besides those of the archive's own `.pinstoneignore`; they come later and so win.
    pub ignore: Vec<String>,
}

/// What somebody is asked who counts memory: whether so many bytes more may be held, until it is dropped.
pub trait Memory: Send {
    /// Sets `bytes` aside; answers whether there were any left.
    fn reserve(&mut self, bytes: u64) -> bool;
}

/// As much memory as there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl Memory for Unbounded {
    fn reserve(&mut self, _: u64) -> bool {
        true
    }
}

/// One file of the site that an archive holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ArchiveFile {
    /// Where it is in the site.
    pub path: SitePath,
    /// Its bytes.
    pub blob: BlobHash,
    /// How many there are.
    pub size: u64,
}

/// The site that an archive holds.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its files, in the order of their paths; at least one.
    pub files: Vec<ArchiveFile>,
    /// How many entries are files or links that are not published.
    pub ignored: u64,
    /// How many links were followed.
    pub links_followed: u64,
    /// The hash of each file entry, by the number of the entry, in the order of reading.
    hashed: Vec<(u64, BlobHash)>,
}

/// An archive in a file that nobody else writes to.
#[derive(Debug)]
pub struct Archive<F> {
    file: F,
    length: u64,
    format: Format,
    limits: ArchiveLimits,
}

impl<F: Read + Seek> Archive<F> {
    /// Looks at the first bytes of `file` and tells what it is.
    ///
    /// # Errors
    ///
    /// Where it is no archive that can be read, or `file` cannot be.
    pub fn open(mut file: F, limits: ArchiveLimits) -> Result<Self, ArchiveError> {
        let length = file.seek(SeekFrom::End(0)).map_err(Fault::Io)?;
        let mut archive = Self { file, length, format: Format::Tar, limits };
        let (first, filled) = archive.first_block(Packing::None)?;
        let (format, packing) = match &first[..filled] {
            [] => return Err(Fault::Empty.into()),
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => {
                archive.format = Format::Zip;
                return Ok(archive);
            }
            [b'P', b'K', 7, 8, ..] => {
                return Err(Fault::Unsupported("it is spread over several volumes, which is not taken").into());
            }
            [0x1f, 0x8b, ..] => (Format::TarGz, Packing::Gzip),
            bytes if is_zstd(bytes) => (Format::TarZst, Packing::Zstd),
            _ if is_tar(&first, filled) => return Ok(archive),
            bytes => return Err(other_packing(bytes).into()),
        };
        archive.format = format;
        let (first, filled) = archive.first_block(packing)?;
        if is_tar(&first, filled) { Ok(archive) } else { Err(Fault::NotATar.into()) }
    }

    /// How it is packed.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads all of it, checks everything and hashes every file: the site that it holds.
    ///
    /// `memory` is asked before the list grows.
    ///
    /// # Errors
    ///
    /// Names the first entry that cannot be taken, and says why.
    pub fn list(&mut self, options: &ListOptions, memory: &mut dyn Memory) -> Result<Listing, ArchiveError> {
        let mut tree = Tree::new(options.strip, &self.limits);
        let mut window = vec![0; HASH_WINDOW];
        let file_size = self.limits.file_size;
        let mut meter = Meter { memory, left: 0 };
        self.each(&mut meter, &mut |meter, entry, content| {
            tree.add(entry, content, meter, |content| hash(content, &mut window), file_size)
        })?;
        tree.finish(&options.ignore, &mut meter)
    }

    /// Reads it again and gives the bytes of each blob that `wants` wants, once; `give` says whether to go on.
    ///
    /// # Errors
    ///
    /// Where it is no longer the file that was listed, and where `give` fails to read what it is given.
    pub fn contents(
        &mut self,
        listing: &Listing,
        mut wants: impl FnMut(&BlobHash) -> bool,
        mut give: impl FnMut(BlobHash, &mut FileContent<'_>) -> Result<ControlFlow<()>, ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let mut hashed = listing.hashed.iter().peekable();
        let mut failed = None;
        let mut meter = Meter { memory: &mut Unbounded, left: 0 };
        self.each(&mut meter, &mut |_, entry, content| {
            let Some((_, blob)) = hashed.next_if(|(number, _)| *number == entry.number) else {
                return Ok(if hashed.len() == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
            };
            if !wants(blob) {
                return Ok(ControlFlow::Continue(()));
            }
            match give(*blob, &mut FileContent { content, size: entry.size }) {
                Ok(flow) => Ok(flow),
                Err(error) => {
                    failed = Some(error);
                    Ok(ControlFlow::Break(()))
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// Calls `visit` for each entry, in the same order each time.
    fn each(&mut self, meter: &mut Meter<'_>, visit: Metered<'_>) -> Result<(), ArchiveError> {
        self.file.rewind().map_err(Fault::Io)?;
        let packing = match self.format {
            Format::Tar => Packing::None,
            Format::TarGz => Packing::Gzip,
            Format::TarZst => Packing::Zstd,
            Format::Zip => {
                let (most, allowance) = (self.limits.entries, self.allowance(true));
                let records =
                    zip::directory(&mut self.file, self.length, most, allowance, &mut |bytes| meter.reserve(bytes))?;
                let visit: Visit<'_> = &mut |entry, content| visit(&mut *meter, entry, content);
                return zip::each(&mut self.file, &records, visit);
            }
        };
        let allowance = self.allowance(packing != Packing::None);
        let mut unpacked = Unpacked::new(&mut self.file, packing, allowance)?;
        tar::each(&mut unpacked, self.limits.entries, &mut |entry, content| visit(&mut *meter, entry, content))
    }

    /// How much may come out of it.
    fn allowance(&self, is_packed: bool) -> Allowance {
        let by_size = self.length.saturating_mul(self.limits.times).max(NO_BOMB);
        if is_packed && by_size < self.limits.unpacked {
            Allowance { bytes: by_size, times: Some(self.limits.times) }
        } else {
            Allowance { bytes: self.limits.unpacked, times: None }
        }
    }

    fn first_block(&mut self, packing: Packing) -> Result<([u8; tar::BLOCK], usize), Fault> {
        self.file.rewind().map_err(Fault::Io)?;
        let mut first = [0; tar::BLOCK];
        let allowance = Allowance { bytes: u64::MAX, times: None };
        let filled = Unpacked::new(&mut self.file, packing, allowance)?.fill(&mut first)?;
        Ok((first, filled))
    }
}

/// As [`Visit`], with whoever counts memory.
type Metered<'v> = &'v mut dyn FnMut(&mut Meter<'_>, &Entry<'_>, &mut dyn Content) -> Result<ControlFlow<()>, Fault>;

/// Asks for memory in steps, so that it is asked seldom.
struct Meter<'m> {
    memory: &'m mut dyn Memory,
    left: u64,
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meter({} left)", self.left)
    }
}

impl Meter<'_> {
    /// What is asked for at once, in bytes.
    const STEP: u64 = 1 << 20;

    fn reserve(&mut self, bytes: u64) -> Result<(), Fault> {
        if bytes > self.left {
            let more = (bytes - self.left).next_multiple_of(Self::STEP);
            if !self.memory.reserve(more) {
                return Err(Fault::NoMemory);
            }
            self.left += more;
        }
        self.left -= bytes;
        Ok(())
    }
}

/// The bytes of a file in an archive.
pub struct FileContent<'c> {
    content: &'c mut dyn Content,
    size: u64,
}

impl fmt::Debug for FileContent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileContent").field("size", &self.size).finish_non_exhaustive()
    }
}

impl FileContent<'_> {
    /// How many there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads some of them; none at the end only.
    ///
    /// # Errors
    ///
    /// Where they are not what they were when the archive was listed, or cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        self.content.read(buffer).map_err(ArchiveError::from)
    }
}

/// Hashes what is left of a file.
fn hash(content: &mut dyn Content, window: &mut [u8]) -> Result<BlobHash, Fault> {
    let mut hasher = blake3::Hasher::new();
    loop {
        match content.read(window)? {
            0 => return Ok(hasher.finalize().into()),
            read => drop(hasher.update(&window[..read])),
        }
    }
}

/// Whether a file begins as a tar does: with an entry, or with its end where it is empty.
fn is_tar(first: &[u8; tar::BLOCK], filled: usize) -> bool {
    filled == tar::BLOCK && (tar::is_header(first) || tar::is_zero(first))
}

/// What is said of a file that begins as none of ours: what it is, where that is known.
fn other_packing(bytes: &[u8]) -> Fault {
    match bytes {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Fault::Packing("xz"),
        [b'B', b'Z', b'h', ..] => Fault::Packing("bzip2"),
        [0x5d, 0, 0, ..] => Fault::Packing("lzma"),
        [b'L', b'Z', b'I', b'P', ..] => Fault::Packing("lzip"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Fault::Packing("lz4"),
        [0x1f, 0x9d, ..] => Fault::Packing("compress"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Fault::Packing("7-Zip"),
        [b'R', b'a', b'r', b'!', ..] => Fault::Packing("RAR"),
        _ => Fault::NotAnArchive,
    }
}
