//! Reading a tar: ustar, GNU and pax headers, and what stood before them.
//!
//! Written out here rather than taken from a library because the bytes come from strangers: programs disagree on which
//! of two sizes or names of one entry counts, and an archive can be made that they unpack differently. Here one that
//! contradicts itself is refused. What is read ahead of an entry (its long name, its extended header) has a bound.

use std::io::Read;
use std::ops::ControlFlow;

use super::entry::{Content, Entry, Kind, Visit};
use super::error::{ArchiveError, EntryRef, Fault, NameFault};
use super::name::LONGEST_NAME;
use super::unpack::{ENDS_EARLY, Unpacked};

/// The unit of a tar, in bytes.
pub(super) const BLOCK: usize = 512;

/// The largest extended header, in bytes. Most have a hundred; some systems put attributes of files there.
const LONGEST_PAX: u64 = 1 << 20;

/// Whether `block` is a header: nothing but its checksum tells, in the oldest tars.
pub(super) fn is_header(block: &[u8; BLOCK]) -> bool {
    !is_zero(block) && has_checksum(block)
}

/// Whether `block` is one of the two that a tar ends with.
pub(super) fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Calls `visit` for each entry, in order, until it says stop or the tar ends. There are at most `most`.
pub(super) fn each<R: Read>(tar: &mut Unpacked<R>, most: u64, visit: Visit<'_>) -> Result<(), ArchiveError> {
    let mut reader = Reader { tar, done: 0, name: Vec::new(), is_over: false };
    let read = reader.entries(most, visit);
    read.map_err(|fault| match reader.is_over {
        true => fault.into(),
        false => fault.of(EntryRef::new(reader.done + 1, &reader.name)),
    })
}

struct Reader<'r, R: Read> {
    tar: &'r mut Unpacked<R>,
    /// How many entries were read; what is wrong is wrong with the next one.
    done: u64,
    /// The name of that one, once it is known.
    name: Vec<u8>,
    /// Whether there is no next one.
    is_over: bool,
}

/// What stands before an entry, and says what its own header has no room for.
#[derive(Debug, Default)]
struct Ahead {
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    pax: Option<Pax>,
}

/// What an extended header says, as far as it matters.
#[derive(Debug, Default, Eq, PartialEq)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
}

impl<R: Read> Reader<'_, R> {
    fn entries(&mut self, most: u64, visit: Visit<'_>) -> Result<(), Fault> {
        let mut ahead = Ahead::default();
        let mut headers = 0_u64;
        let mut block = [0; BLOCK];
        loop {
            match self.tar.fill(&mut block)? {
                BLOCK => {}
                0 if ahead.is_empty() => {
                    self.is_over = true;
                    return Err(Fault::Damaged("it ends without the mark of its end"));
                }
                _ => return Err(ENDS_EARLY),
            }
            if is_zero(&block) {
                self.is_over = true;
                if !ahead.is_empty() {
                    return Err(Fault::Damaged("a header at its end belongs to no entry"));
                }
                return self.rest_is_zero();
            }
            if !has_checksum(&block) {
                return Err(Fault::Damaged("a header's checksum is wrong"));
            }
            // An entry has at most three headers before its own.
            headers += 1;
            if headers / 4 > most {
                return Err(Fault::TooManyEntries { limit: most });
            }
            let size = number(&block[124..136])?;
            if ahead.take(block[156], size, self)? {
                continue;
            }
            if self.done == most {
                return Err(Fault::TooManyEntries { limit: most });
            }
            let flow = self.entry(&block, size, std::mem::take(&mut ahead), visit)?;
            self.done += 1;
            self.name.clear();
            if flow.is_break() {
                return Ok(());
            }
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
        ahead: Ahead,
        visit: Visit<'_>,
    ) -> Result<ControlFlow<()>, Fault> {
        let pax = ahead.pax.unwrap_or_default();
        self.name = match one_of(ahead.long_name, pax.path)? {
            Some(name) => name,
            None => short_name(block)?,
        };
        if pax.size.is_some_and(|other| other != size) {
            return Err(Fault::Damaged("its headers say two sizes"));
        }
        let kind = kind(block[156], self.name.ends_with(b"/"))?;
        let target = match one_of(ahead.long_target, pax.target)? {
            Some(target) => target,
            None => text(&block[157..257])?.to_vec(),
        };
        if kind != Kind::File && size != 0 {
            return Err(Fault::Damaged("it has content, which only a file has"));
        }
        let entry = Entry { number: self.done + 1, name: &self.name, kind, target: &target, size };
        let mut content = TarContent { tar: &mut *self.tar, left: size };
        let flow = visit(&entry, &mut content)?;
        if flow.is_continue() {
            let left = content.left;
            self.tar.skip(left)?;
            self.tar.skip(padding(size))?;
        }
        Ok(flow)
    }

    /// Reads what is ahead of an entry: `size` bytes, at most `most`.
    fn gather(&mut self, size: u64, most: u64, too_long: Fault) -> Result<Vec<u8>, Fault> {
        if size > most {
            return Err(too_long);
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| ENDS_EARLY)?];
        self.tar.read_exact(&mut bytes)?;
        self.tar.skip(padding(size))?;
        Ok(bytes)
    }

    /// Reads to the end, where writers fill their last record with zeros. Anything else could be a second archive, whose
    /// files nobody would see.
    fn rest_is_zero(&mut self) -> Result<(), Fault> {
        let mut buffer = [0; 8 << 10];
        loop {
            match self.tar.read(&mut buffer)? {
                0 => return Ok(()),
                read if is_zero(&buffer[..read]) => {}
                _ => return Err(Fault::Damaged("something follows its end")),
            }
        }
    }
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_target.is_none() && self.pax.is_none()
    }

    /// Takes a header in that is about the next entry; answers whether it was one.
    fn take<R: Read>(&mut self, kind: u8, size: u64, reader: &mut Reader<'_, R>) -> Result<bool, Fault> {
        const TOO_LARGE: Fault = Fault::Damaged("an extended header is larger than 1 MiB");
        // A name in GNU's form ends in a NUL.
        let most = LONGEST_NAME as u64 + 1;
        match kind {
            b'L' => put(&mut self.long_name, long_text(reader.gather(size, most, NameFault::TooLong.into())?)),
            b'K' => put(&mut self.long_target, long_text(reader.gather(size, most, NameFault::TooLong.into())?)),
            b'x' => put(&mut self.pax, pax(&reader.gather(size, LONGEST_PAX, TOO_LARGE)?)?),
            b'g' => {
                // For all entries from here on: times and comments, which do not matter. A name for all would be a trap.
                match pax(&reader.gather(size, LONGEST_PAX, TOO_LARGE)?)? {
                    Pax { path: None, target: None, size: None } => Ok(()),
                    _ => Err(Fault::Damaged("a header gives all entries one name or size")),
                }
            }
            _ => return Ok(false),
        }?;
        Ok(true)
    }
}

fn put<T>(place: &mut Option<T>, value: T) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Damaged("an entry has two headers of one kind")),
    }
}

/// The one that is there, where two headers do not contradict each other.
fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Fault> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(Fault::Damaged("its headers say two names")),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

struct TarContent<'t, R: Read> {
    tar: &'t mut Unpacked<R>,
    left: u64,
}

impl<R: Read> Content for TarContent<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        match self.tar.read(&mut buffer[..want])? {
            0 => Err(ENDS_EARLY),
            read => {
                self.left -= read as u64;
                Ok(read)
            }
        }
    }
}

/// How many bytes fill the last block of `size` bytes.
fn padding(size: u64) -> u64 {
    let block = BLOCK as u64;
    (block - size % block) % block
}

fn kind(flag: u8, is_folder: bool) -> Result<Kind, Fault> {
    const SPARSE: Fault = Fault::Unsupported("it is a sparse file, which is not taken: pack it without `--sparse`");
    Ok(match flag {
        // Before there was a flag for folders, a slash behind the name was one.
        0 | b'0' | b'7' if is_folder => Kind::Folder,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::SymbolicLink,
        b'3' => Kind::Special("a character device"),
        b'4' => Kind::Special("a block device"),
        b'5' => Kind::Folder,
        b'6' => Kind::Special("a named pipe"),
        b'S' => return Err(SPARSE),
        b'M' => return Err(Fault::Unsupported("it continues a file of another volume, which is not taken")),
        _ => return Err(Fault::Unsupported("it is of a kind that is not taken")),
    })
}

/// The name that a header has room for: 100 bytes, and in ustar 155 before them.
fn short_name(block: &[u8; BLOCK]) -> Result<Vec<u8>, Fault> {
    let name = text(&block[..100])?;
    if block[257..263] != *b"ustar\0" {
        return Ok(name.to_vec());
    }
    match text(&block[345..500])? {
        b"" => Ok(name.to_vec()),
        prefix => Ok([prefix, b"/", name].concat()),
    }
}

/// The text of a field, up to its first NUL. What is hidden behind that is refused.
fn text(field: &[u8]) -> Result<&[u8], Fault> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    if is_zero(&field[end..]) { Ok(&field[..end]) } else { Err(NameFault::Nul.into()) }
}

/// A name in GNU's form, without the NUL that ends it. Whatever is before that belongs to the name.
fn long_text(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// A number of a header: octal digits, or big-endian bytes where the first bit says so.
fn number(field: &[u8]) -> Result<u64, Fault> {
    const WRONG: Fault = Fault::Damaged("a number in its header is none");
    const OUT_OF_BOUNDS: Fault = Fault::Damaged("a number in its header is out of bounds");
    if field[0] & 0x80 != 0 {
        // The bit after the first is the sign's.
        if field[0] & 0x40 != 0 {
            return Err(OUT_OF_BOUNDS);
        }
        let mut value = u64::from(field[0] & 0x3f);
        for byte in &field[1..] {
            value = value.checked_mul(256).ok_or(OUT_OF_BOUNDS)? | u64::from(*byte);
        }
        return Ok(value);
    }
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    if digits[end..].iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return Err(WRONG);
    }
    let mut value = 0_u64;
    for digit in &digits[..end] {
        if !matches!(digit, b'0'..=b'7') {
            return Err(WRONG);
        }
        value = value.checked_mul(8).ok_or(OUT_OF_BOUNDS)? | u64::from(digit - b'0');
    }
    Ok(value)
}

/// Whether a header's checksum is right: the sum of its bytes, the checksum itself taken for spaces. Some old writers
/// added up signed bytes.
fn has_checksum(block: &[u8; BLOCK]) -> bool {
    let Ok(said) = number(&block[148..156]) else { return false };
    let summed = || block[..148].iter().chain([b' '; 8].iter()).chain(&block[156..]);
    let unsigned: u64 = summed().map(|byte| u64::from(*byte)).sum();
    let signed: i64 = summed().map(|byte| i64::from(byte.cast_signed())).sum();
    said == unsigned || i64::try_from(said) == Ok(signed)
}

/// Reads an extended header: lines of a length, a key and a value (POSIX.1-2017, `pax`, extended header).
fn pax(mut bytes: &[u8]) -> Result<Pax, Fault> {
    const WRONG: Fault = Fault::Damaged("an extended header is wrong");
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(WRONG)?;
        let length = decimal(&bytes[..space]).ok_or(WRONG)?;
        let length = usize::try_from(length).map_err(|_| WRONG)?;
        if length > bytes.len() || length <= space + 1 || bytes[length - 1] != b'\n' {
            return Err(WRONG);
        }
        let record = &bytes[space + 1..length - 1];
        bytes = &bytes[length..];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.starts_with(b"GNU.sparse.") {
            return Err(Fault::Unsupported("it is a sparse file, which is not taken: pack it without `--sparse`"));
        }
        match key {
            // An empty value takes back what a header for all entries said, and none says these.
            b"path" | b"linkpath" | b"size" if value.is_empty() => return Err(WRONG),
            b"path" => put(&mut pax.path, value.to_vec())?,
            b"linkpath" => put(&mut pax.target, value.to_vec())?,
            b"size" => put(&mut pax.size, decimal(value).ok_or(WRONG)?)?,
            _ => {}
        }
    }
    Ok(pax)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_big_endian() {
        let big = |first: u8, last: [u8; 8]| [&[first, 0, 0, 0][..], &last].concat();
        for (field, want) in [
            (b"00000000017\0".to_vec(), Some(15)),
            (b"      17 \0  ".to_vec(), Some(15)),
            (b"777777777777".to_vec(), Some((1 << 36) - 1)),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(), Some(0)),
            (b"8          \0".to_vec(), None),
            (b"1 1         ".to_vec(), None),
            (b"-1         \0".to_vec(), None),
            (big(0x80, [0, 0, 0, 2, 0, 0, 0, 1]), Some((2 << 32) + 1)),
            (big(0x80, [255; 8]), Some(u64::MAX)),
            (big(0x81, [0; 8]), None),
            (big(0xff, [255; 8]), None),
        ] {
            assert_eq!(number(&field).ok(), want, "{:?}", field.escape_ascii().to_string());
        }
    }

    #[test]
    fn extended_headers_are_taken_literally() {
        let path = Pax { path: Some(b"a=b".to_vec()), ..Pax::default() };
        for (bytes, want) in [
            (&b""[..], Some(Pax::default())),
            (b"12 path=a=b\n", Some(path)),
            (b"13 mtime=1.5\n10 size=7\n", Some(Pax { size: Some(7), ..Pax::default() })),
            (b"12 path=a=b", None),
            (b"11 path=a=b\n", None),
            (b"99 path=a=b\n", None),
            (b"0 path=a\n", None),
            (b"3 \n", None),
            (b"99999999999999999999999 path=a\n", None),
            (b"-1 path=a\n", None),
            (b"8 path=\n", None),
            (b"9 size=x\n", None),
            (b"29 size=99999999999999999999\n", None),
            (b"10 path=a\n10 path=b\n", None),
            (b"22 GNU.sparse.major=1\n", None),
        ] {
            assert_eq!(pax(bytes).ok(), want, "{:?}", bytes.escape_ascii().to_string());
        }
    }
}
