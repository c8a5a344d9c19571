//! Where a zip's entries are: the record at its end, the central directory, and the header before each entry's bytes
//! (PKWARE's APPNOTE, sections 4.3 and 4.5.3).

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::{OVER, bytes_at, read_exact};
use crate::archive::error::{Fault, NameFault};
use crate::archive::name::LONGEST_NAME;
use crate::archive::unpack::WINDOW;

/// The bytes of the record at the end, without its comment, and how long that can be.
const END: usize = 22;
const LONGEST_COMMENT: u64 = 0xffff;
/// The bytes of the record that says where the larger form of the end is.
const LOCATOR: usize = 20;
/// The bytes of that larger form, without what may be added to it.
const END64: usize = 56;
/// The fixed bytes of an entry in the directory, and of the header before its content.
const CENTRAL: usize = 46;
const LOCAL: usize = 30;

/// Flags of an entry: encrypted in one of three ways; sizes follow the content.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const DEFERRED: u16 = 1 << 3;

/// A number that stands in the larger form.
const IN_64: u32 = 0xffff_ffff;
const IN_64_SHORT: u16 = 0xffff;

const TWO_ENDS: Fault = Fault::Damaged("it has two ends");
const WRONG_END: Fault = Fault::Damaged("its end contradicts itself");
const WRONG_DIRECTORY: Fault = Fault::Damaged("its directory is wrong");
const WRONG_SIZES: Fault = Fault::Damaged("its large sizes are wrong");
const TWO_HEADERS: Fault = Fault::Damaged("its two headers differ");
const VOLUMES: Fault = Fault::Unsupported("it is spread over several volumes, which is not taken");

/// How the bytes of an entry are packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::archive) enum Method {
    Stored,
    Deflated,
}

/// An entry of the directory.
#[derive(Clone, Debug)]
pub(in crate::archive) struct Record {
    pub(super) name: Box<[u8]>,
    /// The mode of a Unix file, where one is given.
    pub(super) mode: Option<u32>,
    pub(super) method: Method,
    pub(super) crc: u32,
    /// Bytes as they lie in the file.
    pub(super) packed: u64,
    /// Bytes that come out.
    pub(super) size: u64,
    /// Where the header before its content starts.
    pub(super) offset: u64,
    /// Where the directory starts, which its content must not reach.
    pub(super) limit: u64,
}

/// Where the directory is, and what it holds.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: u64,
    length: u64,
    entries: u64,
}

/// Reads the directory.
pub(super) fn read<F: Read + Seek>(
    file: &mut F,
    length: u64,
    most: u64,
    reserve: &mut dyn FnMut(u64) -> Result<(), Fault>,
) -> Result<Vec<Record>, Fault> {
    let extent = find(file, length)?;
    if extent.entries > most {
        return Err(Fault::TooManyEntries { limit: most });
    }
    // Each entry has at least its fixed bytes: what is claimed costs nothing before that is known.
    if extent.entries.checked_mul(CENTRAL as u64).is_none_or(|least| least > extent.length) {
        return Err(WRONG_DIRECTORY);
    }
    file.seek(SeekFrom::Start(extent.start)).map_err(Fault::Io)?;
    let mut directory = BufReader::with_capacity(WINDOW, file).take(extent.length);
    let mut records = Vec::new();
    for _ in 0..extent.entries {
        let record = central(&mut directory, extent.start)?;
        reserve((size_of::<Record>() + record.name.len()) as u64)?;
        records.push(record);
    }
    if directory.limit() != 0 {
        return Err(WRONG_DIRECTORY);
    }
    Ok(records)
}

/// Finds the directory by the record at the end of the file, whose comment ends where the file does.
fn find<F: Read + Seek>(file: &mut F, length: u64) -> Result<Extent, Fault> {
    let tail_length = length.min(END as u64 + LONGEST_COMMENT);
    let tail_start = length - tail_length;
    let mut tail = vec![0; usize::try_from(tail_length).expect("an end is at most 64 KiB long")];
    file.seek(SeekFrom::Start(tail_start)).map_err(Fault::Io)?;
    read_exact(file, &mut tail)?;
    let mut ends = (0..tail.len().saturating_sub(END - 1)).filter(|at| {
        let end = &tail[*at..];
        end.starts_with(b"PK\x05\x06") && END + usize::from(u16_at(end, 20)) == end.len()
    });
    let at = ends.next().ok_or(Fault::Damaged("it has no end, so its directory cannot be found"))?;
    if ends.next().is_some() {
        return Err(TWO_ENDS);
    }
    let end = &tail[at..];
    let end_start = tail_start + at as u64;
    let (disk, directory_disk) = (u16_at(end, 4), u16_at(end, 6));
    let (here, entries) = (u16_at(end, 8), u16_at(end, 10));
    let (directory_length, start) = (u32_at(end, 12), u32_at(end, 16));
    let short = Extent { start: start.into(), length: directory_length.into(), entries: entries.into() };
    let large =
        [disk, directory_disk, here, entries].contains(&IN_64_SHORT) || directory_length == IN_64 || start == IN_64;
    let locator: Option<[u8; LOCATOR]> = match end_start.checked_sub(LOCATOR as u64) {
        Some(offset) => {
            Some(bytes_at(file, offset)?).filter(|locator: &[u8; LOCATOR]| locator.starts_with(b"PK\x06\x07"))
        }
        None => None,
    };
    let (extent, next) = match locator {
        Some(locator) => {
            let (extent, next) = large_form(file, &locator, end_start - LOCATOR as u64)?;
            // What the short form has room for, it says as well.
            if [disk, directory_disk].iter().any(|disk| ![0, IN_64_SHORT].contains(disk)) {
                return Err(VOLUMES);
            }
            let agree = |short: u64, mark: u64, long: u64| short == mark || short == long;
            if !agree(short.entries, IN_64_SHORT.into(), extent.entries)
                || !agree(short.length, IN_64.into(), extent.length)
                || !agree(short.start, IN_64.into(), extent.start)
            {
                return Err(WRONG_END);
            }
            (extent, next)
        }
        None if large => return Err(WRONG_END),
        None if disk != 0 || directory_disk != 0 || here != entries => return Err(VOLUMES),
        None => (short, end_start),
    };
    // The directory ends where its end begins: with bytes between them or before the first, offsets would mean different
    // things to different programs.
    if extent.start.checked_add(extent.length) != Some(next) {
        return Err(WRONG_END);
    }
    Ok(extent)
}

/// Reads the larger form of the end. Answers where that starts, too.
fn large_form<F: Read + Seek>(
    file: &mut F,
    locator: &[u8; LOCATOR],
    locator_start: u64,
) -> Result<(Extent, u64), Fault> {
    let start = u64_at(locator, 8);
    if u32_at(locator, 4) != 0 || u32_at(locator, 16) > 1 {
        return Err(VOLUMES);
    }
    if start.checked_add(END64 as u64).is_none_or(|end| end > locator_start) {
        return Err(WRONG_END);
    }
    let end: [u8; END64] = bytes_at(file, start)?;
    let length = u64_at(&end, 4).checked_add(12);
    if !end.starts_with(b"PK\x06\x06") || length.and_then(|length| start.checked_add(length)) != Some(locator_start) {
        return Err(WRONG_END);
    }
    let (here, entries) = (u64_at(&end, 24), u64_at(&end, 32));
    if u32_at(&end, 16) != 0 || u32_at(&end, 20) != 0 || here != entries {
        return Err(VOLUMES);
    }
    Ok((Extent { start: u64_at(&end, 48), length: u64_at(&end, 40), entries }, start))
}

/// Reads one entry of the directory, which starts at `limit`.
fn central(directory: &mut impl Read, limit: u64) -> Result<Record, Fault> {
    let mut head = [0; CENTRAL];
    take(directory, &mut head)?;
    if !head.starts_with(b"PK\x01\x02") {
        return Err(WRONG_DIRECTORY);
    }
    let mut name = vec![0; usize::from(u16_at(&head, 28))];
    let mut extra = vec![0; usize::from(u16_at(&head, 30))];
    let mut comment = vec![0; usize::from(u16_at(&head, 32))];
    for part in [&mut name, &mut extra, &mut comment] {
        take(directory, part)?;
    }
    if name.len() > LONGEST_NAME {
        return Err(NameFault::TooLong.into());
    }
    let flags = u16_at(&head, 8);
    if flags & ENCRYPTED != 0 {
        return Err(Fault::Unsupported("it has encrypted entries, which are not taken"));
    }
    let method = method(u16_at(&head, 10))?;
    let mut sizes = Sizes {
        size: u32_at(&head, 24),
        packed: u32_at(&head, 20),
        offset: Some(u32_at(&head, 42)),
        disk: Some(u16_at(&head, 34)),
    }
    .with(&extra)?;
    if sizes.disk.take() != Some(0) {
        return Err(VOLUMES);
    }
    let offset = sizes.offset.unwrap_or_default();
    if offset.checked_add(LOCAL as u64).is_none_or(|end| end > limit) {
        return Err(OVER);
    }
    // Only a Unix puts a mode there: 3 by the format's list, and 19 as macOS calls itself.
    let mode = matches!(head[5], 3 | 19).then(|| u32_at(&head, 38) >> 16);
    Ok(Record {
        name: name.into(),
        mode,
        method,
        crc: u32_at(&head, 16),
        packed: sizes.packed,
        size: sizes.size,
        offset,
        limit,
    })
}

/// Reads exactly as much as `bytes` takes; the directory has to have it.
fn take(directory: &mut impl Read, bytes: &mut [u8]) -> Result<(), Fault> {
    read_exact(directory, bytes).map_err(|fault| match fault {
        Fault::Io(_) => fault,
        _ => WRONG_DIRECTORY,
    })
}

fn method(number: u16) -> Result<Method, Fault> {
    match number {
        0 => Ok(Method::Stored),
        8 => Ok(Method::Deflated),
        _ => Err(Fault::Unsupported("it has entries that are neither stored nor deflated, which are not taken")),
    }
}

/// Checks the header before the content of `record`; answers where the content starts.
pub(super) fn check_local<F: Read + Seek>(file: &mut F, record: &Record) -> Result<u64, Fault> {
    let head: [u8; LOCAL] = bytes_at(file, record.offset)?;
    if !head.starts_with(b"PK\x03\x04") {
        return Err(Fault::Damaged("there is no entry where its directory says"));
    }
    let mut name = vec![0; usize::from(u16_at(&head, 26))];
    let mut extra = vec![0; usize::from(u16_at(&head, 28))];
    if name.len() != record.name.len() {
        return Err(TWO_HEADERS);
    }
    read_exact(file, &mut name)?;
    read_exact(file, &mut extra)?;
    let flags = u16_at(&head, 6);
    if *name != *record.name || flags & ENCRYPTED != 0 || method(u16_at(&head, 8)).ok() != Some(record.method) {
        return Err(TWO_HEADERS);
    }
    let sizes = Sizes { size: u32_at(&head, 22), packed: u32_at(&head, 18), offset: None, disk: None };
    let crc = u32_at(&head, 14);
    let agree = if flags & DEFERRED == 0 {
        let sizes = sizes.with(&extra)?;
        (crc, sizes.packed, sizes.size) == (record.crc, record.packed, record.size)
    } else {
        // Whoever wrote to a pipe did not know all of them yet, and left nothing in their place.
        let agree = |early: u32, known: u64| [0, IN_64].contains(&early) || u64::from(early) == known;
        agree(crc, record.crc.into()) && agree(sizes.packed, record.packed) && agree(sizes.size, record.size)
    };
    if !agree {
        return Err(TWO_HEADERS);
    }
    let length = LOCAL + name.len() + extra.len();
    Ok(record.offset + length as u64)
}

/// The numbers of a header that may stand in an extra field instead.
#[derive(Clone, Copy, Debug)]
struct Sizes<N = u32, D = u16> {
    size: N,
    packed: N,
    offset: Option<N>,
    disk: Option<D>,
}

impl Sizes {
    /// The same numbers, those that are marked taken from the extra field of 64-bit sizes.
    fn with(self, extra: &[u8]) -> Result<Sizes<u64, u32>, Fault> {
        let mut large = large_field(extra)?;
        let mut number = |short: u32| -> Result<u64, Fault> {
            if short != IN_64 {
                return Ok(u64::from(short));
            }
            let (bytes, rest) = large.and_then(<[u8]>::split_first_chunk).ok_or(WRONG_SIZES)?;
            large = Some(rest);
            Ok(u64::from_le_bytes(*bytes))
        };
        let size = number(self.size)?;
        let packed = number(self.packed)?;
        let offset = self.offset.map(&mut number).transpose()?;
        let disk = match self.disk {
            Some(IN_64_SHORT) => {
                let (bytes, _) = large.and_then(<[u8]>::split_first_chunk).ok_or(WRONG_SIZES)?;
                Some(u32::from_le_bytes(*bytes))
            }
            disk => disk.map(u32::from),
        };
        Ok(Sizes { size, packed, offset, disk })
    }
}

/// The extra field of 64-bit sizes, where there is one. Fields that nobody asked for may be anything, but not longer than
/// what holds them.
fn large_field(mut extra: &[u8]) -> Result<Option<&[u8]>, Fault> {
    let mut found = None;
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let field = extra.get(4..4 + length).ok_or(Fault::Damaged("an extra field is longer than there is room"))?;
        if id == 1 && found.replace(field).is_some() {
            return Err(WRONG_SIZES);
        }
        extra = &extra[4 + length..];
    }
    // Some writers fill up to a boundary, with fewer bytes than a field has.
    Ok(found)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
