//! Reading a zip: what its central directory lists, checked against what stands before each file.
//!
//! Programs disagree on which of the two counts, and on where the directory is; so both have to say the same, there must
//! be one directory only, right before the end, and no byte may belong to two entries. What it declares is added up
//! before anything is inflated, and each file has to come out as it was declared, to the byte and the checksum.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::ops::ControlFlow;

use flate2::bufread::DeflateDecoder;

use super::entry::{Content, Entry, Kind, Visit};
use super::error::{ArchiveError, EntryRef, Fault, LinkFault};
use super::name::LONGEST_NAME;
use super::unpack::{Allowance, ENDS_EARLY, WINDOW, fault_of};

mod directory;

pub(super) use directory::{Method, Record};

/// Reads the directory: the entries in its order, whose number is their place. There are at most `most`, which unpack
/// to no more than `allowance`; `reserve` is told of the memory that they take.
pub(super) fn directory<F: Read + Seek>(
    file: &mut F,
    length: u64,
    most: u64,
    allowance: Allowance,
    reserve: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Vec<Record>, ArchiveError> {
    let records = directory::read(file, length, most, reserve)?;
    let mut unpacked = 0_u64;
    for record in &records {
        unpacked = unpacked.saturating_add(record.size);
    }
    if unpacked > allowance.bytes {
        return Err(allowance.exceeded().into());
    }
    Ok(records)
}

/// Calls `visit` for each entry, in the order in which they lie in the file, until it says stop.
pub(super) fn each<F: Read + Seek>(file: &mut F, records: &[Record], visit: Visit<'_>) -> Result<(), ArchiveError> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.sort_unstable_by_key(|index| (records[*index].offset, *index));
    let mut end = 0;
    for index in order {
        let record = &records[index];
        let number = index as u64 + 1;
        let visited = one(file, number, record, &mut end, visit);
        match visited.map_err(|fault| fault.of(EntryRef::new(number, &record.name)))? {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(()) => break,
        }
    }
    Ok(())
}

/// Visits one entry. `end` is where the entry before it ended.
fn one<F: Read + Seek>(
    file: &mut F,
    number: u64,
    record: &Record,
    end: &mut u64,
    visit: Visit<'_>,
) -> Result<ControlFlow<()>, Fault> {
    if record.offset < *end {
        return Err(Fault::Damaged("it overlaps another entry"));
    }
    let start = directory::check_local(file, record)?;
    *end = start.checked_add(record.packed).filter(|end| *end <= record.limit).ok_or(OVER)?;
    let kind = kind(record)?;
    if kind == Kind::Folder && record.size != 0 {
        return Err(Fault::Damaged("it is a folder and has content"));
    }
    file.seek(SeekFrom::Start(start)).map_err(Fault::Io)?;
    let mut content = ZipContent::new(file, record)?;
    let mut target = Vec::new();
    if kind == Kind::SymbolicLink {
        // What a link leads to is its content.
        if record.size > LONGEST_NAME as u64 {
            return Err(LinkFault::Target.into());
        }
        let mut buffer = [0; 512];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                read => target.extend_from_slice(&buffer[..read]),
            }
        }
    }
    let entry = Entry { number, name: &record.name, kind, target: &target, size: record.size };
    visit(&entry, &mut content)
}

const OVER: Fault = Fault::Damaged("it reaches into what follows it");

/// What an entry is: by the mode, where a Unix wrote it, and by the slash behind its name.
fn kind(record: &Record) -> Result<Kind, Fault> {
    let is_folder = record.name.ends_with(b"/");
    Ok(match record.mode.map(|mode| mode & 0o170_000) {
        None | Some(0) if is_folder => Kind::Folder,
        None | Some(0) => Kind::File,
        Some(0o100_000) if is_folder && record.size == 0 => Kind::Folder,
        Some(0o100_000) if is_folder => return Err(Fault::Damaged("it is a file with the name of a folder")),
        Some(0o100_000) => Kind::File,
        Some(0o040_000) => Kind::Folder,
        Some(0o120_000) => Kind::SymbolicLink,
        Some(0o020_000) => Kind::Special("a character device"),
        Some(0o060_000) => Kind::Special("a block device"),
        Some(0o010_000) => Kind::Special("a named pipe"),
        Some(0o140_000) => Kind::Special("a socket"),
        Some(_) => Kind::Special("of an unknown kind"),
    })
}

/// The content of one entry.
struct ZipContent<'f, F: Read> {
    source: Source<'f, F>,
    /// How many bytes are still to come, as it was declared.
    left: u64,
    packed: u64,
    crc: crc32fast::Hasher,
    declared: u32,
    is_over: bool,
}

enum Source<'f, F: Read> {
    Stored(Take<&'f mut F>),
    Deflated(Box<DeflateDecoder<BufReader<Take<&'f mut F>>>>),
}

impl<'f, F: Read> ZipContent<'f, F> {
    fn new(file: &'f mut F, record: &Record) -> Result<Self, Fault> {
        let packed = file.take(record.packed);
        let source = match record.method {
            Method::Stored if record.packed != record.size => {
                return Err(Fault::Damaged("it is not compressed and has two sizes"));
            }
            Method::Stored => Source::Stored(packed),
            Method::Deflated => {
                // Small files are many, and each would pay for a whole window.
                let window = usize::try_from(record.packed).unwrap_or(WINDOW).clamp(16, WINDOW);
                Source::Deflated(Box::new(DeflateDecoder::new(BufReader::with_capacity(window, packed))))
            }
        };
        Ok(Self {
            source,
            left: record.size,
            packed: record.packed,
            crc: crc32fast::Hasher::new(),
            declared: record.crc,
            is_over: false,
        })
    }

    /// Checks, at the end, that all of it was there and right.
    fn finish(&mut self) -> Result<(), Fault> {
        if self.left > 0 {
            return Err(Fault::Damaged("it has fewer bytes than it says"));
        }
        if let Source::Deflated(decoder) = &self.source
            && decoder.total_in() != self.packed
        {
            return Err(Fault::Damaged("something follows its compressed bytes"));
        }
        if self.crc.clone().finalize() != self.declared {
            return Err(Fault::Damaged("its checksum is wrong"));
        }
        self.is_over = true;
        Ok(())
    }
}

impl<F: Read> Content for ZipContent<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        if buffer.is_empty() || self.is_over {
            return Ok(0);
        }
        loop {
            let read = match &mut self.source {
                Source::Stored(source) => source.read(buffer),
                Source::Deflated(source) => source.read(buffer),
            };
            match read {
                Ok(0) => return self.finish().map(|()| 0),
                Ok(read) => {
                    self.left =
                        self.left.checked_sub(read as u64).ok_or(Fault::Damaged("it has more bytes than it says"))?;
                    self.crc.update(&buffer[..read]);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault_of(error, "its compressed bytes are wrong")),
            }
        }
    }
}

/// Reads exactly `N` bytes at `offset`.
fn bytes_at<F: Read + Seek, const N: usize>(file: &mut F, offset: u64) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(offset)).map_err(Fault::Io)?;
    read_exact(file, &mut bytes)?;
    Ok(bytes)
}

fn read_exact(file: &mut impl Read, bytes: &mut [u8]) -> Result<(), Fault> {
    file.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ENDS_EARLY,
        _ => Fault::Io(error),
    })
}
